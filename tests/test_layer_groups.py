"""Several readout values and a target of several directions in one step (THEORY 14)."""

from __future__ import annotations

import numpy as np
import pytest

import srfx
from srfx import OneStep, Target, reference

SIN_TANH = Target(lambda a, b: np.sin(a) + np.tanh(b), directions=2)
SADDLE = Target(lambda a, b: a + (a * a - b * b) / 2, directions=2)
TILTED = Target(lambda a, b: np.sin(0.6 * a - 0.8 * b), directions=2)
MODEL = OneStep("tanh", SIN_TANH, eta=2, alpha0=0.5, readout=(0.5, 1.5))


def solved(model: OneStep, alpha: object = 2.0, lam: object = 0.1, **at: object) -> srfx.Solution:
    solution = srfx.solve(model, alpha, lam, bulk="one_step", **at)
    assert np.all(solution.residual < 1e-11)
    return solution


def errors(model: OneStep, **at: object) -> np.ndarray:
    solution = solved(model, **at)
    return np.array([solution.test_error, solution.train_error])


def test_the_reference_value_of_theory_17() -> None:
    assert errors(MODEL).round(8).tolist() == [0.48401681, 0.21515438]


@pytest.mark.parametrize(
    "model",
    [
        OneStep(
            "relu", SADDLE, eta=1, alpha0=2, readout=(0.5, 1.5), weights=(0.4, 0.6), beta=0.7,
            noise=0.2,
        ),
        OneStep("gelu", Target("max", directions=2), eta=1.5, alpha0=1, readout=(-0.5, 1.5)),
        OneStep("tanh", Target("sign_product", directions=2), eta=2, alpha0=1, readout=(1, 2)),
    ],
    ids=["relu", "kinks", "no spike"],
)  # fmt: skip
@pytest.mark.parametrize("d", [None, 400.0])
def test_the_reference(model: OneStep, d: float | None) -> None:
    oracle = reference.solve_one_step(model, 1.5, 0.05, d)
    found = errors(model, alpha=1.5, lam=0.05, d=d)
    np.testing.assert_allclose(found, [oracle.test_error, oracle.train_error], rtol=1e-8)


@pytest.mark.parametrize("d", [None, 500])
def test_identical_values_are_one(d: float | None) -> None:
    """The code for one value, of layers, shares no equation with that for groups."""
    one = OneStep("tanh", SIN_TANH, eta=2, alpha0=0.5, noise=0.1)
    two = srfx.models.with_fields(one, {"readout": (1.0, -1.0), "weights": (0.3, 0.7)})
    a, b = solved(one, d=d), solved(two, d=d)
    assert b.test_error == pytest.approx(a.test_error, rel=1e-11)
    np.testing.assert_allclose(b.psi, np.outer([0.3, 0.7], a.psi), rtol=1e-9)


@pytest.mark.parametrize("d", [None, 500])
def test_one_index_of_two_is_one_direction(d: float | None) -> None:
    one = OneStep("relu", "sin", eta=2, alpha0=1, readout=(0.5, 1.5), noise=0.1)
    two = srfx.models.with_fields(one, {"target": TILTED})
    np.testing.assert_allclose(errors(two, d=d), errors(one, d=d), rtol=1e-10)


def test_rotated_directions() -> None:
    c, s = np.cos(0.7), np.sin(0.7)
    turned = Target(lambda a, b: SADDLE(c * a + s * b, -s * a + c * b), directions=2)
    model = OneStep("relu", SADDLE, eta=1.5, alpha0=1, readout=(1, 2))
    other = srfx.models.with_fields(model, {"target": turned})
    np.testing.assert_allclose(errors(other), errors(model), rtol=1e-11)


def test_three_directions() -> None:
    three = Target(lambda a, b, c: np.tanh(a) + a * b + 0.0 * c, directions=3)
    two = Target(lambda a, b: np.tanh(a) + a * b, directions=2)
    model = OneStep("tanh", two, eta=0.5, alpha0=5, readout=(1, 1.5))
    other = srfx.models.with_fields(model, {"target": three})
    np.testing.assert_allclose(errors(other), errors(model), rtol=1e-9)


def test_no_step_is_the_plain_network() -> None:
    model = OneStep("relu", SIN_TANH, eta=0, alpha0=1, readout=(1, 2))
    plain = srfx.SpikedRF("relu", SIN_TANH, r=0, gamma=(0.0, 0.0))
    expected = srfx.solve(plain, 2, 0.1, d=500).test_error
    assert errors(model, d=500)[0] == pytest.approx(expected, rel=1e-9)


def test_learned_function() -> None:
    one = OneStep("tanh", "sin", eta=2, alpha0=1, readout=(0.5, 1.5))
    two = srfx.models.with_fields(one, {"target": TILTED})
    t = np.array([[0.3, -1.0], [2.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(
        srfx.learned_function(two, 2, 0.1, t=t, bulk="one_step"),
        srfx.learned_function(one, 2, 0.1, t=t @ [0.6, -0.8], bulk="one_step"),
        atol=1e-12,
    )


def test_scan_and_optimal() -> None:
    plane = srfx.scan(MODEL, alpha=[1.0, 2.0], lam=[0.1, 0.2], bulk="one_step")
    assert plane.test_error.values[1, 0] == errors(MODEL)[0]
    best = srfx.optimal(MODEL, over={"lam": (1e-2, 1.0)}, alpha=2.0, bulk="one_step")
    grid = solved(MODEL, lam=np.geomspace(1e-2, 1.0, 25)).test_error
    assert grid.min() * 0.999 < float(best.test_error) <= grid.min()


def test_shapes() -> None:
    model = OneStep("tanh", SIN_TANH, eta=[1.0, 2.0], alpha0=0.5, readout=(0.5, 1.5))
    solution = solved(model, lam=[[0.1], [0.2], [0.3]])
    assert solution.psi.shape == (3, 2, 2, 2)
    assert solution.theta.shape == (3, 2, 2)
    assert solution.test_error[0, 1] == errors(MODEL)[0]


def test_simulated_networks() -> None:
    """d = 600: within 4 standard errors and 1.5 %; the isotropic theory is 10 % off."""
    ds = srfx.simulate(MODEL, alpha=2.0, lam=0.1, d=600, replicates=12, seed=5)
    simulated = ds.test_error.values.ravel()
    error = simulated.std(ddof=1) / np.sqrt(simulated.size)
    theory = errors(MODEL, d=600)[0]
    assert abs(simulated.mean() - theory) < 4 * error + 0.015 * theory
    isotropic = srfx.solve(MODEL, 2.0, 0.1, d=600).test_error
    assert abs(simulated.mean() - isotropic) > 2 * abs(simulated.mean() - theory)


def test_what_is_not_derived_is_refused() -> None:
    shifted = srfx.Activation(
        lambda x: np.tanh(x + 0.7), derivative=lambda x: 1 / np.cosh(x + 0.7) ** 2
    )
    other = srfx.models.with_fields(MODEL, {"activation": shifted})
    with pytest.raises(NotImplementedError, match="supports several readout values for an activ"):
        srfx.solve(other, 1, 0.1, bulk="one_step")
    endless = srfx.models.with_fields(MODEL, {"alpha0": np.inf})
    with pytest.raises(ValueError, match="alpha0 must be finite with bulk='one_step'"):
        srfx.solve(endless, 1, 0.1, bulk="one_step")
