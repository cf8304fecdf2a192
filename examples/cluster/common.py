"""The scan that the examples run: the same call everywhere, only the executor differs."""

import numpy as np

import srfx

MODEL = srfx.OneStep("tanh", "sin")
AXES = {
    "eta": np.linspace(0.5, 3, 6),
    "alpha0": np.geomspace(0.5, 20, 8),
    "alpha": np.linspace(0.2, 3, 30),
    "lam": np.geomspace(1e-4, 1, 20),
}


def run(out, executor=None):
    """Scan, or go on with a scan that was interrupted, and say what is best."""
    ds = srfx.scan(MODEL, out, executor, block_points=5000, **AXES)
    best = ds.isel(ds.test_error.load().argmin(...))
    where = ", ".join(f"{name} = {float(best[name]):.3g}" for name in AXES)
    print(f"{ds.test_error.size} points; least test error {best.test_error.item():.6f} at {where}")
    return ds
