"""Given weights with a target of several directions, and of several spikes (THEORY 9 f, 15)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import srfx
from srfx import AccuracyWarning, EmpiricalBulk, MultiStep, OneStep, SpikedRF, Target, solve
from srfx.simulation import sample_weights
from srfx.weights import solve_weights

SIN_TANH = Target(lambda a, b: np.sin(a) + np.tanh(b), directions=2)
SADDLE = Target(lambda a, b: a + (a * a - b * b) / 2, directions=2)
THREE = Target(lambda a, b, c: np.sin(a) + np.tanh(b) + a * c, directions=3)
STEP = OneStep("tanh", SIN_TANH, eta=3, alpha0=0.5)
Network = tuple[np.ndarray, np.ndarray, np.ndarray]


def network(model: OneStep | MultiStep | SpikedRF, d: int = 400) -> Network:
    return srfx.simulation.sample_weights(model, d=d, seed=2)


def simulated(
    model: OneStep | MultiStep, of: Network, alpha: float, lam: float, replicates: int
) -> np.ndarray:
    """Test errors of ridge regression on the features of these very weights."""
    weights, _, theta = of
    (p, d), rng = weights.shape, np.random.default_rng(7)
    directions = theta / np.linalg.norm(theta, axis=1, keepdims=True)
    features = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}[model.activation]
    out = []

    def samples(n: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_normal((n, d))
        y = model.target(*(x @ directions.T).T)
        return features(x @ weights.T) / np.sqrt(p), y

    for _ in range(replicates):
        phi, y = samples(int(alpha * d))
        y = y + np.sqrt(model.noise) * rng.standard_normal(y.size)
        a = np.linalg.solve(phi.T @ phi + lam * np.eye(p), phi.T @ y)
        phi, y = samples(4000)
        out.append(np.mean((y - phi @ a) ** 2))
    return np.array(out)


@pytest.mark.parametrize(
    "model",
    [
        STEP,
        OneStep("relu", SADDLE, eta=2, alpha0=5, noise=0.1),
        MultiStep("tanh", SIN_TANH, eta=(2, 1), alpha0=(1, 1)),
    ],
    ids=["one step", "noise", "two steps"],
)
def test_these_very_networks(model: OneStep | MultiStep) -> None:
    """Within 4 standard errors and 1.5 %, and nearer than the isotropic theory."""
    of = network(model)
    errors = simulated(model, of, 2.0, 0.1, 12)
    error = errors.std(ddof=1) / np.sqrt(errors.size)
    theory = srfx.solve(model, 2.0, 0.1, bulk=EmpiricalBulk.from_weights(*of)).test_error
    assert abs(errors.mean() - theory) < 4 * error + 0.015 * theory


@pytest.mark.parametrize(
    ("model", "bulk"),
    [
        (STEP, "one_step"),
        (OneStep("relu", SADDLE, eta=2, alpha0=5, noise=0.1), "one_step"),
        (OneStep("tanh", THREE, eta=2, alpha0=1), "one_step"),
        (MultiStep("tanh", SIN_TANH, eta=(2, 1), alpha0=(1, 1)), "multi_step"),
    ],
)
def test_typical_weights(model: OneStep | MultiStep, bulk: str) -> None:
    """Networks of a step are on average those of its bulk: within 4 standard errors and 1.5 %."""
    found = []
    for seed in range(8):
        of = srfx.simulation.sample_weights(model, d=300, seed=seed)
        own = srfx.solve(model, (0.6, 2), (0.02, 0.1), bulk=EmpiricalBulk.from_weights(*of))
        assert np.all(own.residual < 1e-11)
        found.append(np.concatenate([own.test_error[:, None], own.psi], axis=1))
    typical = srfx.solve(model, (0.6, 2), (0.02, 0.1), bulk=bulk, d=300)
    expected = np.concatenate([typical.test_error[:, None], typical.psi], axis=1)
    error = np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    off = np.abs(np.mean(found, axis=0) - expected)
    assert np.all(off < 4 * error + 0.015 * np.abs(expected))


@pytest.mark.parametrize("target", [SIN_TANH, THREE], ids=["two", "three"])
def test_the_table_is_the_sum_over_eigenvalues(target: Target) -> None:
    model = OneStep("relu", target, eta=1, alpha0=1)
    given = EmpiricalBulk.from_weights(*network(model, 200))
    alpha, lam = np.array([0.5, 1.0, 3.0]), np.array([1e-4, 0.1, 1.0])
    found = srfx.solve(model, alpha, lam, bulk=given)
    exact = solve_weights(model, given, found.arguments, (3,), 1, exact=True)
    for name in ("test_error", "train_error", "psi"):
        np.testing.assert_allclose(getattr(found, name), exact[name], rtol=1e-9, atol=1e-12)


def test_one_index_of_two() -> None:
    """A target of two directions that reads one: the theory of one direction."""
    c, s = 0.6, -0.8
    model = OneStep("tanh", Target(lambda a, b: np.sin(c * a + s * b), directions=2), eta=3)
    weights, spike, theta = network(model)
    one = OneStep("tanh", "sin", eta=3)
    along = c * theta[0] + s * theta[1]
    two = srfx.solve(model, 1, 0.1, bulk=EmpiricalBulk.from_weights(weights, spike, theta))
    expected = srfx.solve(one, 1, 0.1, bulk=EmpiricalBulk.from_weights(weights, spike, along))
    assert two.test_error == pytest.approx(expected.test_error, rel=1e-10)


def test_several_spikes_of_one_row_are_one() -> None:
    model = SpikedRF("tanh", SIN_TANH, spikes=[[0.8, 1.1]], alignment=[[0.5, 0.2], [-0.3, 0.6]])
    weights, spikes, theta = network(model)
    assert spikes.shape == (2, 400)
    found = srfx.solve(model, 2, 0.1, bulk=EmpiricalBulk.from_weights(weights, spikes, theta))
    isotropic = srfx.solve(model, 2, 0.1, d=400)
    assert found.test_error == pytest.approx(isotropic.test_error, rel=0.05)
    groups = SpikedRF(
        "tanh", SIN_TANH, spikes=[[1.0, 0.0], [0.0, 1.0]], alignment=[[0.5, 0.2], [-0.3, 0.6]]
    )
    with pytest.raises(NotImplementedError, match=r"single row of spikes.*got spikes of shape"):
        srfx.solve(groups, 2, 0.1, bulk=EmpiricalBulk.from_weights(weights, spikes, theta))


def test_gradient() -> None:
    model = OneStep("tanh", SIN_TANH, eta=3, alpha0=0.5, noise=0.1)
    given = EmpiricalBulk.from_weights(*network(model, 200))
    at = {"alpha": 1.5, "lam": 0.2, "noise": 0.1}

    def error(**moved: float) -> float:
        x = at | moved
        other = srfx.models.with_fields(model, {"noise": x["noise"]})
        return float(srfx.solve(other, x["alpha"], x["lam"], bulk=given).test_error)

    solution = srfx.solve(model, 1.5, 0.2, bulk=given)
    for name, value in at.items():
        step = 1e-4 * value
        by_differences = (error(**{name: value + step}) - error(**{name: value - step})) / (
            2 * step
        )
        assert solution.gradient(name) == pytest.approx(by_differences, rel=1e-6)


def test_scan_and_spectrum() -> None:
    given = EmpiricalBulk.from_weights(*network(STEP, 200))
    plane = srfx.scan(STEP, alpha=[1.0, 2.0], lam=[0.1, 0.2], bulk=given)
    assert plane.test_error.values[1, 0] == srfx.solve(STEP, 2, 0.1, bulk=given).test_error
    spectrum = srfx.feature_spectrum(STEP, 2, np.geomspace(1e-3, 10, 50), bulk=given)
    assert spectrum.mass.item() == pytest.approx(1, abs=1e-6)


def test_other_directions_than_those_of_the_weights_are_refused() -> None:
    given = EmpiricalBulk.from_weights(*network(STEP, 100))
    with pytest.raises(ValueError, match="bulk must have as many directions as the target"):
        srfx.solve(OneStep("tanh", "sin"), 1, 0.1, bulk=given)
    two = srfx.models.with_fields(STEP, {"readout": (1.0, 2.0)})
    with pytest.raises(NotImplementedError, match="single readout value"):
        srfx.solve(two, 1, 0.1, bulk=given)


def test_a_second_spike_is_told():
    """Rows of two spikes, which the theory takes for one and a wider bulk: 9 percent off."""
    model = SpikedRF(
        "tanh",
        Target(lambda a, b: np.tanh(a) + a * b, directions=2),
        spikes=[[1.5, 0], [0, 1.5]],
        alignment=[[0.9, 0], [0, 0.9]],
    )
    rows, v, theta = sample_weights(model, d=200, seed=1)
    with pytest.warns(AccuracyWarning, match="groups of rows with spikes of their own"):
        EmpiricalBulk.from_weights(rows, v, theta)


@pytest.mark.parametrize("shape", [(0, 40), (2, 39), (41, 40)])
def test_shapes_of_directions(shape):
    rows = np.random.default_rng(0).standard_normal((30, 40))
    with pytest.raises(ValueError, match=r"v must be .* matrix of 1 to 40 such rows; got shape"):
        EmpiricalBulk.from_weights(rows, np.ones(shape), np.ones(40))


def test_noise_of_given_weights_after_several_steps():
    model = MultiStep("tanh", "sin", eta=(2, 1), alpha0=(2, 1), noise=0.1)
    bulk = EmpiricalBulk.from_weights(*sample_weights(model, d=60, seed=1))
    slope = solve(model, 2.0, 0.1, bulk=bulk).gradient("noise")
    apart = [
        solve(dataclasses.replace(model, noise=0.1 + h), 2.0, 0.1, bulk=bulk).test_error
        for h in (-1e-4, 1e-4)
    ]
    assert slope == pytest.approx((apart[1] - apart[0]) / 2e-4, rel=1e-6)
