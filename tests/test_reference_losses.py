"""The reference for other losses and labels: values of THEORY 19, and what it must reduce to."""

from types import SimpleNamespace

import numpy as np
import pytest

import srfx
from srfx.reference import Function, solve_groups, solve_instance, solve_loss, solve_one_step

ONE = {"readout": (1.0,), "weights": None}
SHIFTED = Function(lambda t: np.tanh(t - 0.5))


def spiked(activation, target, **fields):
    default = {"r": 0.9, "c": 1.2, "gamma": 0.8, "beta": 1.0, "noise": 0.0, **ONE}
    return SimpleNamespace(activation=activation, target=target, **{**default, **fields})


def step(activation, target, **fields):
    default = {"eta": 1.0, "alpha0": 1.0, "beta": 1.0, "noise": 0.0, **ONE}
    return SimpleNamespace(activation=activation, target=target, **{**default, **fields})


#: Model, alpha, lam, d, loss; test loss, training loss, classification error.
CASES = {
    "square": (
        spiked("relu", "sin", c=1, r=1.2, gamma=0.6, beta=0.5, noise=0.2),
        (3, 0.01, 500, "square"),
        (0.60074986, 0.43275444),
    ),
    "Huber": (
        spiked("tanh", "sin", c=1.5, r=0.6, gamma=0.9, beta=2, noise=0.4),
        (5, 1, 500, srfx.Huber(0.2)),
        (0.18905625, 0.17100214),
    ),
    "logistic": (
        spiked("erf", SHIFTED, labels="sign"),
        (5, 0.5, None, "logistic"),
        (0.46958003, 0.42870451, 0.23204578),
    ),
    "squared hinge": (
        spiked("relu", SHIFTED, labels="logit", slope=4),
        (3, 0.1, 500, "squared_hinge"),
        (1.13164359, 0.51031674, 0.37704392),
    ),
    "hinge": (
        spiked("relu", SHIFTED, labels="sign", c=1, r=1.2, gamma=0.6, beta=1.5, noise=0.2),
        (3, 0.01, 500, "hinge"),
        (0.99605339, 0.24462076, 0.37724240),
    ),
    "step, logistic": (
        step("tanh", "sign", labels="sign", eta=2, alpha0=0.7, noise=0.2),
        (1.5, 0.02, None, "logistic"),
        (0.58229752, 0.28845141, 0.28198715),
    ),
    "step, hinge": (
        step("relu", "tanh", labels="logit", slope=3, beta=1.5),
        (1.5, 0.05, 500, "hinge"),
        (0.89427127, 0.24463503, 0.40065285),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values_of_theory_19(name):
    model, (alpha, lam, d, loss), expected = CASES[name]
    sol = solve_loss(model, alpha, lam, d, loss=loss)
    found = (sol.test_loss, sol.train_loss, sol.classification_error)[: len(expected)]
    assert found == pytest.approx(expected, abs=6e-9)
    assert sol.residual < 1e-11
    assert sol.identity < 1e-11
    assert np.isnan(sol.classification_error) == (len(expected) == 2)


@pytest.mark.parametrize("d", [None, 400])
def test_the_square_loss_is_that_of_sections_3_to_5(d):
    model = spiked("relu", "sin", noise=0.1)
    sol, known = solve_loss(model, 2, 0.1, d), solve_groups(model, 2, 0.1, d)
    for name in ("test_error", "train_error", "m", "theta", "psi", "q1", "q2", "v1", "v2"):
        assert getattr(sol, name) == pytest.approx(getattr(known, name), rel=1e-9), name
    assert sol.train_loss == pytest.approx(sol.train_error, rel=1e-12)
    assert sol.test_loss == pytest.approx(sol.test_error + 0.1, rel=1e-12)


def test_the_square_loss_is_that_of_the_actual_step():
    model = step("relu", "tanh", eta=2, alpha0=0.8, noise=0.1)
    sol, known = solve_loss(model, 1.2, 0.1, 600), solve_one_step(model, 1.2, 0.1, 600)
    for name in ("test_error", "train_error", "m", "theta", "psi", "chi", "q1", "q2"):
        assert getattr(sol, name) == pytest.approx(getattr(known, name), rel=1e-8), name


def test_the_square_loss_is_that_of_given_weights():
    rng = np.random.default_rng(0)
    w, v, theta = rng.normal(size=(60, 80)) / 80**0.5, rng.normal(size=80), rng.normal(size=80)
    w += 0.5 * v / 80
    model = SimpleNamespace(activation="tanh", target="sin", beta=0.75, noise=0.2, **ONE)
    sol = solve_loss(model, 1.5, 0.1, weights=(w, v, theta))
    known = solve_instance(w, v, theta, "tanh", "sin", 1.5, 0.1, noise=0.2)
    assert sol.test_error == pytest.approx(known.test_error, rel=1e-9)
    assert sol.train_error == pytest.approx(known.train_error, rel=1e-9)


def test_a_finer_rule_changes_nothing():
    model, (alpha, lam, d, loss), _ = CASES["square"]
    one, two = (solve_loss(model, alpha, lam, d, loss=loss, density=n) for n in (1, 2))
    assert one.test_loss == pytest.approx(two.test_loss, rel=1e-11)
    assert one.train_loss == pytest.approx(two.train_loss, rel=1e-11)


def test_a_quantile_of_the_target_turned_over():
    model = spiked("tanh", SHIFTED, noise=0.2)
    turned = spiked("tanh", Function(lambda t: -np.tanh(t - 0.5)), noise=0.2)
    one = solve_loss(model, 2, 0.1, loss=srfx.Quantile(0.8))
    two = solve_loss(turned, 2, 0.1, loss=srfx.Quantile(0.2))
    assert one.test_loss == pytest.approx(two.test_loss, rel=1e-9)
    assert one.m == pytest.approx(-two.m, rel=1e-8, abs=1e-9)
    half = solve_loss(model, 2, 0.1, loss=srfx.Quantile(0.5))
    whole = solve_loss(model, 2, 0.2, loss="absolute")
    assert half.test_error == pytest.approx(whole.test_error, rel=1e-9)


def test_the_maximum_margin_does_not_know_lam():
    model = spiked("tanh", "tanh", labels="sign", r=0, beta=2)
    one, two = (solve_loss(model, 1, lam, loss="max_margin") for lam in (1.0, 0.01))
    assert one.classification_error == pytest.approx(two.classification_error, rel=1e-8)
    assert one.q2 == pytest.approx(two.q2, rel=1e-7)
    assert one.v2 == pytest.approx(0.01 * two.v2, rel=1e-7)
    assert one.test_loss == np.inf


def test_a_loss_that_is_straight_on_the_way():
    """Where all of g is clipped on the way to a solution no resolvent is left: s stays finite."""
    model = srfx.OneStep("abs", "hermite2", eta=2.4958, alpha0=2.7819)
    point = (0.31, 4.2e-4)
    core = srfx.solve(model, *point, d=300, loss=srfx.Huber(0.3), bulk="one_step")
    known = solve_loss(model, *point, 300, loss=srfx.Huber(0.3))
    assert core.test_loss == pytest.approx(known.test_loss, rel=1e-7)
    assert core.q2 == pytest.approx(known.q2, rel=1e-7)


def test_what_is_refused():
    with pytest.raises(ValueError, match="loss must be one of"):
        solve_loss(spiked("tanh", "sin"), 1, 1, loss="cubic")


def test_the_square_loss_of_groups_is_that_of_section_7():
    model = spiked("relu", "sin", noise=0.1, readout=(0.5, 1.5))
    sol, known = solve_loss(model, 2, 0.1, 300), solve_groups(model, 2, 0.1, 300)
    for name in ("test_error", "train_error", "m", "theta", "psi", "q1", "q2", "v1", "v2"):
        assert getattr(sol, name) == pytest.approx(getattr(known, name), rel=1e-8), name


def test_the_square_loss_is_that_of_the_actual_step_with_groups():
    model = step("relu", "tanh", eta=1, alpha0=0.8, noise=0.1, readout=(0.5, 1.5))
    sol, known = solve_loss(model, 1.2, 0.1, 600), solve_one_step(model, 1.2, 0.1, 600)
    for name in ("test_error", "train_error", "theta", "psi", "chi", "q2"):
        assert getattr(sol, name) == pytest.approx(getattr(known, name), rel=1e-7), name
