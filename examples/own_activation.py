"""Your own activation: a callable, its derivative (the step needs it), and where it has kinks."""

import warnings

import numpy as np

import srfx

soft = srfx.Activation(
    lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0),  # soft thresholding
    derivative=lambda x: (np.abs(x) > 0.5).astype(float),
    kinks=[-0.5, 0.5],
)
model = srfx.OneStep(soft, "tanh", eta=2, alpha0=4)
lam = np.logspace(-3, 1, 81)
error = srfx.solve(model, alpha=2, lam=lam).test_error
print(f"soft threshold: best test error {error.min():.5f} at lam = {lam[error.argmin()]:.3g}")

# without its kinks the quadrature is less accurate: srfx measures that, and warns
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    careless = srfx.Activation(soft.fn, derivative=soft.derivative)
    again = srfx.solve(srfx.OneStep(careless, "tanh", eta=2, alpha0=4), alpha=2, lam=lam)
print(f"kinks not declared: off by {np.abs(again.test_error / error - 1).max():.1e}")
print(f"and said so: {[str(w.category.__name__) for w in caught]}")
