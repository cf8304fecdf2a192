"""Simulated one-step networks against the reference's THEORY 9 and 10 at the d of the simulation.

Section 10 is of leading order and not proved. Allowed at a point: 4 standard errors of the mean of
the replicates plus 1.5 % for what the order leaves out; over all points of a grid the reduced
chi square with that allowance as a further error stays near 1. The isotropic model would be off
by 5 to 28 % (tanh), the map of odd activations used for ReLU by more.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

import srfx
from srfx import reference, simulation

LEADING_ORDER = 0.015
ALPHA, LAM = 2.0, 0.1


def gaps(model, replicates, seed):
    """Return theory - simulation and the standard error, relative, of both errors."""
    d = 500 if model.alpha0 < 5 else 400  # the step costs alpha0 d^3
    ds = simulation.simulate(model, ALPHA, LAM, d=d, replicates=replicates, seed=seed)
    mean, error = simulation.mean(ds), simulation.standard_error(ds)
    theory = reference.solve_one_step(model, ALPHA, LAM, d)
    out = []
    for name in ("test_error", "train_error"):
        found = float(mean[name].values.squeeze())
        out.append((getattr(theory, name) / found - 1.0, float(error[name].squeeze()) / found))
    return np.array(out)


def agree(found):
    gap, error = np.abs(found[..., 0]), found[..., 1]
    assert np.all(gap < 4.0 * error + LEADING_ORDER), found
    chi = np.mean(gap**2 / (error**2 + LEADING_ORDER**2))
    assert chi < 2.5, (chi, found)


def test_tanh():
    grid = [(alpha0, eta) for alpha0 in (0.25, 1.0, 20.0) for eta in (3.0, 8.0)]
    found = np.array(
        [
            gaps(srfx.OneStep("tanh", "sin", eta=eta, alpha0=alpha0), 8, seed)
            for seed, (alpha0, eta) in enumerate(grid)
        ]
    )
    agree(found)


@pytest.mark.parametrize("activation", ["relu", "gelu", "softplus"])
def test_other_activations(activation):
    grid = [(0.5, 1.0), (2.0, 0.5), (10.0, 2.0)]
    found = np.array(
        [
            gaps(srfx.OneStep(activation, "tanh", eta=eta, alpha0=alpha0), 8, 10 + seed)
            for seed, (alpha0, eta) in enumerate(grid)
        ]
    )
    agree(found)


def test_noise_and_several_readouts():
    noisy = srfx.OneStep("relu", "tanh", eta=0.5, alpha0=2.0, noise=0.3)
    odd = srfx.OneStep("tanh", "sin", eta=2.0, alpha0=0.5, readout=(0.5, 1.5))
    agree(np.array([gaps(noisy, 8, 20), gaps(odd, 8, 21)]))
