"""The optimal penalty: how much of the gain of a step is left when both networks use their best."""

import numpy as np

import srfx

alpha = np.array([0.5, 1.0, 2.0, 4.0])
lam = np.logspace(-4, 2, 241)

for name, model in (
    ("no step", srfx.OneStep("tanh", "sin", alpha0=0)),
    ("one step", srfx.OneStep("tanh", "sin", eta=3, alpha0=20)),
):
    error = srfx.solve(model, alpha=alpha[:, None], lam=lam).test_error
    best = error.argmin(axis=1)
    for a, i, e in zip(alpha, best, error.min(axis=1), strict=True):
        assert 0 < i < lam.size - 1, "the best penalty is inside the grid"
        print(f"{name}: alpha = {a:g}, best lam = {lam[i]:.3g}, test error = {e:.4f}")

print(f"linear floor: {srfx.linear_floor('sin'):.4f}")
