"""The optimal penalty: how much of the gain of a step is left when both networks use their best."""

import numpy as np

import srfx

alpha = np.array([0.5, 1.0, 2.0, 4.0])

for name, model in (
    ("no step", srfx.OneStep("tanh", "sin", alpha0=0)),
    ("one step", srfx.OneStep("tanh", "sin", eta=3, alpha0=20)),
):
    best = srfx.optimal(model, over={"lam": (1e-6, 1e2)}, alpha=alpha)
    for a in alpha:
        at = best.sel(alpha=a)
        print(
            f"{name}: alpha = {a:g}, best lam = {at.lam.item():.3g}, "
            f"test error = {at.test_error.item():.4f}"
        )

print(f"linear floor: {srfx.linear_floor('sin'):.4f}")
