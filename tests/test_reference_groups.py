"""The reference of THEORY 7 against printed numbers, the one-group reference and the core."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("scipy")

import srfx
from srfx import reference
from srfx.reference import lower_bound_groups, solve_groups

FIELDS = ("test_error", "train_error", "m", "theta", "psi", "q1", "q2", "v1", "v2")


def spiked(activation, target, readout=(1.0,), weights=None, **spike):
    spike = {"r": 0.9, "c": 1.0, "gamma": 0.9, "beta": 1.0, "noise": 0.0} | spike
    return SimpleNamespace(
        activation=activation, target=target, readout=readout, weights=weights, **spike
    )


def agree(a, b, rel, fields=FIELDS):
    for name in fields:
        left, right = np.asarray(getattr(a, name)), np.asarray(getattr(b, name))
        assert np.max(np.abs(left - right)) <= rel * np.max(np.abs(right)) + 1e-13, name


@pytest.mark.parametrize(
    ("readout", "want", "digits"),
    [((1.0,), 1.67e-3, 5), ((1.0, 2.0), 5.66e-5, 7), ((1.0, 2.0, 3.0), 6.8e-6, 7)],
)
def test_lower_bounds(readout, want, digits):
    got = lower_bound_groups(spiked("tanh", "sin", readout, gamma=1.0))
    assert got == pytest.approx(want, abs=0.51 * 10.0**-digits)


@pytest.mark.parametrize("d", [None, 600])
@pytest.mark.parametrize(("sigma", "target"), [("tanh", "sin"), ("relu", "relu")])
def test_one_group_is_the_spiked_reference(sigma, target, d):
    spike = {"r": 1.1, "c": 1.4, "gamma": 0.7, "beta": 1.5, "noise": 0.1}
    want = reference.solve(sigma, target, alpha=2.0, lam=0.1, d=d, **spike)
    one = solve_groups(spiked(sigma, target, **spike), 2.0, 0.1, d)
    agree(one, want, 1e-11)
    same = spiked(sigma, target, (1.0, 1.0, 1.0), (0.2, 0.3, 0.5), **spike)
    three = solve_groups(same, 2.0, 0.1, d)
    agree(three, want, 1e-11, ("test_error", "train_error"))
    assert float(np.sum(three.q2)) == pytest.approx(one.q2, rel=1e-11)


def test_opposite_readouts_are_one_group_for_odd_sigma():
    one = solve_groups(spiked("tanh", "sin"), 1.5, 0.1, 500)
    two = solve_groups(spiked("tanh", "sin", (-1.0, 1.0)), 1.5, 0.1, 500)
    # so every group spans the same features
    agree(two, one, 1e-11, ("test_error", "train_error"))


@pytest.mark.parametrize("d", [None, 1000])
@pytest.mark.parametrize(
    ("sigma", "target", "readout", "weights", "alpha", "lam"),
    [
        ("tanh", "sin", (0.5, 1.0, -2.0), (0.2, 0.3, 0.5), 2.0, 0.1),
        ("relu", "tanh", (0.5, 1.5), (0.5, 0.5), 0.7, 1e-3),
        ("erf", "relu", (0.0, 1.0, 2.0, 3.0), (0.1, 0.2, 0.3, 0.4), 3.0, 1.0),
    ],
)
def test_the_core_agrees(sigma, target, readout, weights, alpha, lam, d):
    spike = {"r": 0.8, "c": 1.2, "gamma": 0.8, "beta": 1.3, "noise": 0.05}
    want = solve_groups(spiked(sigma, target, readout, weights, **spike), alpha, lam, d)
    model = srfx.SpikedRF(sigma, target, readout=readout, weights=weights, **spike)
    got = srfx.solve(model, alpha=alpha, lam=lam, d=d)
    agree(got, want, 1e-8, ("test_error", "train_error", "q2", "v2"))
    assert want.energy < 1e-11


def test_learned_function_and_its_overlap():
    """E[s* f(t)] = E[h C + h1 mu1 . psi], (THEORY 8)."""
    model = spiked("tanh", "sin", (0.5, 1.5), (0.4, 0.6), gamma=0.8)
    sol = solve_groups(model, 1.5, 0.1)
    nodes, weight = np.polynomial.hermite_e.hermegauss(50)
    f = reference.learned_function_groups(model, sol, nodes)
    left = float(weight @ (np.sin(nodes) * f) / weight.sum())
    t, _, _ = reference._groups._tabulate(model, 1)
    c = sol.m @ t.mu0 + sol.theta @ (t.k * t.mu1)
    assert left == pytest.approx(
        float(np.sum(t.p * (t.h * c + t.h1 * (sol.psi @ t.mu1)))), rel=1e-9
    )


def test_doubling_and_bound():
    model = spiked("relu", "sign", (0.5, 1.0, -2.0), (0.2, 0.3, 0.5), noise=0.2, c=2.0)
    one, two = (solve_groups(model, 2.0, 0.1, density=n) for n in (1, 2))
    agree(one, two, 1e-11, ("test_error", "train_error", "q2", "v2"))
    assert one.test_error >= lower_bound_groups(model)


def test_refused():
    with pytest.raises(ValueError, match="alpha"):
        solve_groups(spiked("tanh", "sin"), -1.0, 0.1)
    with pytest.raises(ValueError, match="c_g"):
        solve_groups(spiked("tanh", "sin", (3.0,), c=0.5), 1.0, 0.1)


def test_free_means_that_cannot_be_told_apart():
    """He2 has mu0_g(k) = r_g^2 He2(k) + .. for every group: d = inf is the limit of large d."""
    model = srfx.SpikedRF(
        "hermite2", "cos", r=0.9, gamma=0.3, beta=8, readout=(0.1, 0.8), weights=(0.8, 0.2)
    )
    limit = reference.solve_groups(model, 0.8, 3.6e-5)
    assert limit.test_error > srfx.bounds(model).lower
    for density in (1, 2):
        dense = reference.solve_groups(model, 0.8, 3.6e-5, density=density)
        assert dense.test_error == pytest.approx(limit.test_error, rel=1e-10)
    large = reference.solve_groups(model, 0.8, 3.6e-5, d=1e12)
    assert large.test_error == pytest.approx(limit.test_error, rel=1e-8)
    assert srfx.solve(model, 0.8, 3.6e-5).test_error == pytest.approx(limit.test_error, rel=1e-9)
