"""Theory for your own trained weights: a first layer in a .npy file, p rows of length d.

One row a neuron, as nn.Linear.weight of PyTorch has it: weight.detach().cpu().double().numpy().
Kernels of flax, haiku and keras and coefs_[0] of scikit-learn have shape (d, p): save kernel.T.
Biases are not modelled; where they are small beside |w| they change little (docs/when.md).

Usage: own_weights.py [WEIGHTS.npy THETA.npy], THETA the direction of the target; without files, a
small network is trained first.
"""

import sys

import numpy as np

import srfx

rng = np.random.default_rng(0)
d, p = 400, 400
if len(sys.argv) > 1:
    W = np.load(sys.argv[1])
    p, d = W.shape
    theta = np.load(sys.argv[2])
else:  # train: one full-batch step on tanh units, in plain NumPy
    theta = rng.standard_normal(d)
    W = rng.standard_normal((p, d))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    x = rng.standard_normal((4 * d, d))
    y = np.sin(x @ theta / np.linalg.norm(theta))
    z = np.tanh(x @ W.T)
    residual = y - z.sum(1) / p
    W += 3 / len(x) * ((1 - z**2) * residual[:, None]).T @ x
    np.save("weights.npy", W)
    print("trained a network; its first layer is in weights.npy")

# the direction that training singled out: the leading right singular vector
v = np.linalg.svd(W, full_matrices=False)[2][0]
bulk = srfx.EmpiricalBulk.from_weights(W, v, theta)
print(
    f"spike r = {abs(bulk.r):.3f}, bulk c = {bulk.c:.3f}, alignment |gamma| = {abs(bulk.gamma):.3f}"
)

# the readout is still to be fitted, on n = alpha d samples with penalty lam: theory
alpha, lam = 2.0, 0.1
model = srfx.SpikedRF("tanh", "sin")  # says activation and target; the rest comes from the weights
theory = srfx.solve(model, alpha=alpha, lam=lam, bulk=bulk).test_error

# and the experiment
errors = []
for _ in range(8):
    n = int(alpha * d)
    x, fresh = rng.standard_normal((n, d)), rng.standard_normal((5000, d))
    t = theta / np.linalg.norm(theta)
    phi, test = np.tanh(x @ W.T) / np.sqrt(p), np.tanh(fresh @ W.T) / np.sqrt(p)
    a = np.linalg.solve(phi.T @ phi + lam * np.eye(p), phi.T @ np.sin(x @ t))
    errors.append(np.mean((np.sin(fresh @ t) - test @ a) ** 2))
mean, error = np.mean(errors), np.std(errors, ddof=1) / np.sqrt(len(errors))
print(f"test error: theory {theory:.4f}, experiment {mean:.4f} +- {error:.4f}")
