"""Simulated networks with readouts of several values against THEORY 7 with its 1/d term.

Seeds are fixed; bounds are 4 standard errors of the mean plus 1 % for what is beyond 1/d.
"""

from __future__ import annotations

import numpy as np
import pytest

import srfx
from srfx import simulation

D = 600


def standardised(model, alpha, lam, theory_d=D, replicates=12):
    """Largest gap between simulation and theory over what is allowed, for each error."""
    ds = simulation.simulate(model, alpha, lam, d=D, replicates=replicates, seed=5)
    mean, error = simulation.mean(ds), simulation.standard_error(ds)
    theory = srfx.solve(model, alpha=np.array(alpha)[:, None], lam=np.array(lam), d=theory_d)
    out = {}
    for name in ("test_error", "train_error"):
        expected = getattr(theory, name)
        gap = np.abs(mean[name].values - expected)
        out[name] = float((gap / (4 * error[name].values + 0.01 * expected)).max())
    return out


QUANTILES = srfx.readout_quantiles("gaussian", 16)
CASES = {
    "two values": (
        srfx.SpikedRF("tanh", "sin", r=0.9, gamma=0.9, readout=(1, 2), weights=(0.3, 0.7)),
        [0.5, 1.5],
        [0.01, 0.1],
    ),
    "both signs, noise": (
        srfx.SpikedRF(
            "relu", "tanh", r=0.8, c=1.3, gamma=0.7, beta=1.5, noise=0.2,
            readout=(-1, 0.5, 1.5), weights=(0.25, 0.5, 0.25),
        ),
        [0.5, 1.5],
        [0.05, 0.3],
    ),
    "a group without spike": (
        srfx.SpikedRF(
            "softplus", "relu", r=1.2, c=1.5, gamma=0.5, readout=(0, 1), weights=(0.6, 0.4)
        ),
        [0.5, 2.0],
        [0.1],
    ),
    "gaussian": (
        srfx.SpikedRF("tanh", "sin", r=0.9, gamma=0.9, readout=QUANTILES),
        [1.0, 2.0],
        [0.1],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_groups(name):
    ratios = standardised(*CASES[name])
    assert max(ratios.values()) < 1, ratios


def test_the_ridge_cost_of_the_mean():
    """Small spikes: the limit d = inf is off by more than 100 %, the 1/d term right."""
    model = srfx.SpikedRF("tanh", "sin", r=0.05, gamma=0.9, readout=(0.5, 1, 2))
    assert max(standardised(model, [1.5], [0.1]).values()) < 1
    assert min(standardised(model, [1.5], [0.1], theory_d=None).values()) > 5


def test_one_value_would_not_do():
    """The comparison tells K groups from one with the mean spike."""
    model, alpha, lam = CASES["gaussian"]
    one = srfx.SpikedRF("tanh", "sin", r=0.9 * np.mean(np.abs(QUANTILES)), gamma=0.9)
    several = srfx.solve(model, alpha=alpha, lam=lam[0], d=D).test_error
    assert np.all(
        np.abs(srfx.solve(one, alpha=alpha, lam=lam[0], d=D).test_error / several - 1) > 0.15
    )
