"""Other losses and labels: the theory of section 19 against simulated readouts at d = 500."""

import numpy as np
import pytest

import srfx
from srfx import simulation

SHIFTED = srfx.Activation(lambda t: np.tanh(t - 0.5), lambda t: 1 / np.cosh(t - 0.5) ** 2)
SPIKED = {"c": 1.2, "r": 0.9, "gamma": 0.8}
SIGN = {"labels": "sign", "noise": 0.2}
BENT = srfx.Target(lambda a, b: np.tanh(a) + a * b, directions=2)
R, GAMMA = [[1, 0.3], [-0.4, 1.2]], [[0.8, 0.1], [-0.2, 0.7]]

CASES = {
    "logistic, signs": (srfx.SpikedRF("tanh", SHIFTED, **SPIKED, **SIGN), 2, 0.05, "logistic"),
    "logistic, logit": (
        srfx.SpikedRF("relu", "tanh", **SPIKED, labels="logit", slope=3),
        1.5,
        0.1,
        "logistic",
    ),
    "hinge": (srfx.SpikedRF("relu", SHIFTED, **SPIKED, **SIGN), 1.5, 0.05, "hinge"),
    "squared hinge": (
        srfx.SpikedRF("tanh", SHIFTED, **SPIKED, labels="logit", slope=4),
        2,
        0.1,
        "squared_hinge",
    ),
    "square on labels": (srfx.SpikedRF("relu", "sin", **SPIKED, **SIGN), 2, 0.1, "square"),
    "Huber": (srfx.SpikedRF("relu", "sin", **SPIKED, noise=0.3), 1.5, 0.05, srfx.Huber(0.3)),
    "absolute": (srfx.SpikedRF("tanh", "sin", **SPIKED, noise=0.2), 1.5, 0.05, "absolute"),
    "quantile": (srfx.SpikedRF("tanh", SHIFTED, **SPIKED, noise=0.2), 2, 0.1, srfx.Quantile(0.8)),
    "maximum margin": (
        srfx.SpikedRF("tanh", "tanh", r=0.5, gamma=0.8, labels="sign"),
        0.5,
        1.0,
        "max_margin",
    ),
    "groups, hinge": (
        srfx.SpikedRF("relu", "tanh", **SPIKED, readout=(0.5, 1.5), **SIGN),
        1.5,
        0.05,
        "hinge",
    ),
    "groups, logistic": (
        srfx.SpikedRF("tanh", "tanh", **SPIKED, readout=(0.5, 2), labels="logit", slope=3),
        2,
        0.05,
        "logistic",
    ),
    "directions, squared hinge": (
        srfx.SpikedRF("tanh", BENT, r=1.2, gamma=(0.6, -0.5), **SIGN),
        1.5,
        0.1,
        "squared_hinge",
    ),
    "spikes and groups, quantile": (
        srfx.SpikedRF("tanh", BENT, spikes=R, alignment=GAMMA, noise=0.2),
        1.5,
        0.1,
        srfx.Quantile(0.7),
    ),
    "step, logistic": (
        srfx.OneStep("tanh", "sign", eta=2, alpha0=0.7, **SIGN),
        1.5,
        0.05,
        "logistic",
    ),
    "step, hinge": (
        srfx.OneStep("relu", "tanh", eta=1, alpha0=1, labels="logit", slope=3),
        1.5,
        0.05,
        "hinge",
    ),
    "step of groups, hinge": (
        srfx.OneStep("tanh", "sin", eta=2, alpha0=0.7, readout=(0.5, 1.5), **SIGN),
        1.5,
        0.05,
        "hinge",
    ),
    "step of groups, logistic": (
        srfx.OneStep("relu", "tanh", eta=1, alpha0=1, readout=(0.5, 2), labels="logit", slope=3),
        1.5,
        0.05,
        "logistic",
    ),
    "step of directions, Huber": (
        srfx.OneStep("tanh", BENT, eta=2, alpha0=1, noise=0.2),
        1,
        0.05,
        srfx.Huber(0.3),
    ),
    "steps, hinge on signs": (
        srfx.MultiStep("relu", SHIFTED, eta=(1, 1), alpha0=(1, 2), **SIGN),
        1.5,
        0.05,
        "hinge",
    ),
    "steps of directions, squared hinge on noiseless signs": (
        srfx.MultiStep("tanh", BENT, eta=(2, 1), alpha0=(1, 1), labels="sign"),
        2,
        0.1,
        "squared_hinge",
    ),
    "step of groups and directions, logistic": (
        srfx.OneStep("relu", BENT, eta=1, alpha0=1, readout=(0.5, 1.5), labels="sign"),
        2,
        0.05,
        "logistic",
    ),
    "step, Huber": (
        srfx.OneStep("tanh", "sin", eta=2, alpha0=1, noise=0.2),
        1,
        0.05,
        srfx.Huber(0.3),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_theory_agrees_with_simulated_readouts(name):
    """Within 4.5 standard errors, and what the 1/d term leaves out: 1 per cent."""
    model, alpha, lam, loss = CASES[name]
    d = 500
    bulk = {srfx.OneStep: "one_step", srfx.MultiStep: "multi_step"}.get(type(model), "isotropic")
    sol = srfx.solve(model, alpha, lam, d=d, loss=loss, bulk=bulk)
    ds = srfx.simulate(
        model, alpha, lam, d=d, loss=loss, replicates=10, n_test=4000, seed=5, progress=False
    ).isel(alpha=0, lam=0)
    mean, error = simulation.mean(ds), simulation.standard_error(ds)
    names = [x for x in ds.data_vars if x != "duality_gap"]
    assert {"test_error", "train_error"} < {*names, "duality_gap"}
    for quantity in names:
        gap = abs(float(mean[quantity]) - getattr(sol, quantity))
        allowed = 4.5 * float(error[quantity]) + 0.01 * getattr(sol, quantity)
        assert gap < allowed, (quantity, float(mean[quantity]), getattr(sol, quantity), allowed)
        assert float(error[quantity]) < 0.1 * getattr(sol, quantity), quantity
