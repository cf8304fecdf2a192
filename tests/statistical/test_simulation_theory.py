"""Simulated networks against the exact asymptotics with their 1/d term, in standard errors.

Seeds are fixed, so nothing here depends on luck twice. A bound is 4 standard errors of the mean
plus 1 % for what the expansion in 1/d leaves out at these sizes: wide enough to hold, tight
enough that a factor beta or a lost noise term (5 % and more) fails.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import srfx
from srfx import _replicates, simulation


def compare(model, alpha, lam, d=400, replicates=24, seed=1, solved=None, solved_lam=None):
    """Largest gap between simulation and theory over what is allowed, for each error."""
    ds = simulation.simulate(model, alpha, lam, d=d, replicates=replicates, seed=seed)
    mean, error = simulation.mean(ds), simulation.standard_error(ds)
    alpha = np.atleast_1d(alpha)[:, None]
    lam = np.atleast_1d(lam if solved_lam is None else solved_lam)[None, :]
    theory = srfx.solve(solved or model, alpha=alpha, lam=lam, d=d)
    out = {}
    for name in ("test_error", "train_error"):
        expected = getattr(theory, name)
        gap = np.abs(mean[name].values - expected)
        out[name] = float((gap / (4 * error[name].values + 0.01 * expected)).max())
    return out


def agree(model, alpha, lam, **options):
    ratios = compare(model, alpha, lam, **options)
    assert max(ratios.values()) < 1, ratios


CASES = [
    srfx.SpikedRF("tanh", "sin", r=0.9, gamma=1.0),
    srfx.SpikedRF("tanh", "sin", r=0.1, gamma=0.9),
    srfx.SpikedRF("erf", "tanh", r=1.5, gamma=0.5, noise=0.3),
    srfx.SpikedRF("relu", "relu", r=0.7, gamma=0.8, c=1.3),
    srfx.SpikedRF("sign", "sign", r=0.8, gamma=-0.9),
    srfx.SpikedRF("softplus", "hermite2", r=1.0, gamma=0.9, beta=2.0, noise=0.1),
    srfx.SpikedRF("gelu", "abs", r=0.6, gamma=0.95, beta=0.5, c=0.8),
    srfx.SpikedRF("hardtanh", "cos", r=1.2, gamma=0.7, beta=1.5, c=2.0),
    srfx.SpikedRF("tanh", "sin", r=0.0, gamma=0.3, beta=0.4, noise=0.5),
]


@pytest.mark.parametrize("model", CASES, ids=str)
def test_spiked_random_features(model):
    """n on both sides of p; small and large penalties."""
    agree(model, [0.5, 1.3, 3.0], [0.01, 0.3, 10.0])


def test_other_widths():
    for beta in (0.3, 3.0):
        agree(srfx.SpikedRF("tanh", "sin", r=0.6, gamma=0.9, beta=beta), [0.6, 2.0], [0.1])


def test_the_step_with_a_small_rate_is_nearly_the_plain_network():
    agree(srfx.OneStep("tanh", "sin", eta=0, alpha0=1.0), [0.5, 2.0], [0.1])
    agree(srfx.OneStep("relu", "sin", eta=0, alpha0=0), [0.5, 2.0], [0.1])


class TestTheBoundsCatch:
    """What the comparisons above would say of a wrong convention."""

    MODEL = srfx.SpikedRF("tanh", "sin", r=0.5, gamma=0.7, beta=0.5, noise=0.1)

    def worst(self, **options):
        return max(compare(self.MODEL, 2.0, 1.0, **options).values())

    def test_the_model_itself_passes(self):
        assert self.worst() < 0.5

    @pytest.mark.parametrize("factor", [0.5, 2.0])
    def test_a_penalty_off_by_beta(self, factor):
        assert self.worst(solved_lam=factor) > 1.2

    @pytest.mark.parametrize(
        "change", [{"noise": 0.0}, {"r": 0.1}, {"gamma": 0.5}, {"c": 4.0}, {"beta": 0.8}], ids=str
    )
    def test_another_model(self, change):
        other = srfx.SpikedRF("tanh", "sin", **(self.MODEL.numeric | change))
        assert self.worst(solved=other) > 1.2


# --- the gradient step --------------------------------------------------------------------------

# Independent measurements (THEORY section 9): d = 1000, 8 networks each.
STEPS = [
    (srfx.OneStep("tanh", "sin", eta=3, alpha0=0.25, beta=1), 2.0, 0.1, 0.3561, 0.0017),
    (srfx.OneStep("tanh", "tanh", eta=8, alpha0=20, beta=1), 2.0, 0.1, 0.0244, 0.0005),
    (srfx.OneStep("tanh", "sin", eta=2, alpha0=0.5, beta=1.5), 1.0, 0.01, 0.358, 0.007),
]


@pytest.mark.parametrize(
    ("model", "alpha", "lam", "value", "error"), STEPS, ids=["sin", "tanh", "wide"]
)
def test_one_step_networks(model, alpha, lam, value, error):
    ds = simulation.simulate(model, alpha, lam, d=1000, replicates=8, dtype="float32")
    own = simulation.standard_error(ds).test_error.item()
    assert abs(simulation.mean(ds).test_error.item() - value) < 4 * np.hypot(own, error)


@pytest.mark.parametrize(
    "model",
    [
        srfx.OneStep("tanh", "sin", eta=3, alpha0=1.0, noise=0.2),
        srfx.OneStep("relu", "tanh", eta=1.5, alpha0=4.0),
        srfx.OneStep("erf", "hardtanh", eta=2, alpha0=0.5, readout=(1.4,)),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
def test_measured_spike_bulk_and_alignment(model):
    """r, c and gamma of the weights after the step against the map, at d = p = 1500."""
    d, networks = 1500, 4
    expected = model.equivalent()
    measured = []
    for replicate in range(networks):
        w, v, theta = simulation.sample_weights(model, d=d, replicate=replicate, seed=5)
        unit = v / np.sqrt(d)
        along = w @ unit
        bulk = w - np.outer(along, unit)
        measured.append([along.mean(), (bulk**2).sum(1).mean(), v @ theta / d])
    mean = np.mean(measured, axis=0)
    error = np.std(measured, axis=0, ddof=1) / np.sqrt(networks)
    target = np.array([expected.r, expected.c, expected.gamma], dtype=float)
    assert (np.abs(mean - target) < 5 * error + 0.02 * np.abs(target)).all(), (mean, target, error)


def test_learned_function_is_the_conditional_mean():
    model, alpha, lam = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=0.8), 2.0, 0.1
    out = simulation.predictions(model, alpha, lam, d=600, replicates=8, n_test=20000, seed=3)
    edges = np.linspace(-2.5, 2.5, 11)
    grid = np.linspace(-2.5, 2.5, 1001)
    curve = np.ravel(srfx.learned_function(model, alpha, lam, grid))
    for low, high in itertools.pairwise(edges):
        inside = (out.t >= low) & (out.t < high)
        means = out.f.where(inside).mean("point").values
        t = out.t.values[inside.values]
        expected = np.interp(t, grid, curve).mean()
        error = means.std(ddof=1) / np.sqrt(means.size)
        assert abs(means.mean() - expected) < 5 * error + 0.01, (low, high, means.mean(), expected)


# --- shortcuts, precision, replicates -------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        srfx.SpikedRF("tanh", "sin", r=0.5, gamma=0.7, noise=0.1),
        srfx.SpikedRF("relu", "relu", r=0.5, gamma=0.7, beta=0.5),
        srfx.SpikedRF("tanh", "sin", r=0.5, gamma=0.7, beta=2.0),
        srfx.SpikedRF("tanh", "sin", r=0.5, c=1.5, readout=(0.5, 1.5), weights=(0.3, 0.7)),
        srfx.OneStep("tanh", "sin", eta=3, alpha0=0.5),
        srfx.OneStep("relu", "tanh", eta=1, alpha0=2.0, beta=0.5),
        srfx.OneStep("tanh", "sin", eta=2, alpha0=1.0, beta=1.5, readout=(0.5, 1.5)),
    ],
    ids=str,
)
def test_shortcuts_have_the_literal_law(model):
    """Means and spreads over 200 small networks; d is small, where a wrong law would show most."""
    options = {"d": 40, "replicates": 200, "n_test": 400}
    fast = simulation.simulate(model, [0.7, 2.0], 0.1, seed=1, **options)
    plain = simulation.simulate(model, [0.7, 2.0], 0.1, seed=2, literal=True, **options)
    for name in ("test_error", "train_error"):
        a, b = np.log(fast[name].values[:, 0]), np.log(plain[name].values[:, 0])
        error = np.sqrt((a.var(-1, ddof=1) + b.var(-1, ddof=1)) / 200)
        assert (np.abs(a.mean(-1) - b.mean(-1)) < 4 * error).all(), name
        # The log of a sample standard deviation spreads by about sqrt(kurtosis/4/200) = 0.06.
        spread = np.log(a.std(-1, ddof=1) / b.std(-1, ddof=1))
        assert (np.abs(spread) < 0.35).all(), (name, spread)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_float32_against_float64(activation):
    """The same draws: rounding, small beside the statistical error, down to the least lam."""
    model = srfx.SpikedRF(activation, "sin", r=0.5, gamma=0.7)
    options = {"alpha": [0.5, 1.0, 3.0], "lam": [_replicates.LEAST_LAM_FLOAT32, 0.1], "d": 500}
    wide = simulation.simulate(model, replicates=2, **options)
    narrow = simulation.simulate(model, replicates=2, dtype="float32", **options)
    for name in ("test_error", "train_error"):
        off = np.abs(narrow[name] / wide[name] - 1)
        assert (off.sel(lam=0.1) < 1e-3).all(), name
        if name == "test_error":
            assert (off < 2e-2).all(), name


def test_replicates_are_uncorrelated():
    """Lag-one and alternate replicates of a run; the seed and its neighbour."""
    model = srfx.SpikedRF("tanh", "sin", r=0.5, gamma=0.7)
    options = {"alpha": 1.0, "lam": 0.1, "d": 50, "replicates": 400, "n_test": 300}
    a = np.log(simulation.simulate(model, seed=1, **options).test_error.values.ravel())
    b = np.log(simulation.simulate(model, seed=2, **options).test_error.values.ravel())
    for x, y in ((a[1:], a[:-1]), (a[2:], a[:-2]), (a, b)):
        assert abs(np.corrcoef(x, y)[0, 1]) < 4 / np.sqrt(x.size)
