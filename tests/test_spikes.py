"""Several directions, spikes and steps, with an isotropic bulk (THEORY 13 and 15)."""

from __future__ import annotations

import numpy as np
import pytest

import srfx
from srfx import MultiStep, Target, reference

pytestmark = pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")

TANH_PRODUCT = Target(lambda a, b: np.tanh(a) + a * b, directions=2)
SIN_TANH = Target(lambda a, b: np.sin(a) + np.tanh(b), directions=2)
R = np.array([[1.0, 0.3], [-0.4, 1.2]])
GAMMA = np.array([[0.8, 0.1], [-0.2, 0.7]])


def two_spikes(target: Target = TANH_PRODUCT, **fields: object) -> srfx.SpikedRF:
    """The model of two spikes that THEORY section 17 has reference values for."""
    given = {"spikes": R, "alignment": GAMMA, "variances": (1.1, 1.4), "weights": (0.5, 0.5)}
    return srfx.SpikedRF("tanh", target, **{**given, **fields})


def errors(model: srfx.SpikedRF, **at: object) -> np.ndarray:
    given = {"alpha": 1.5, "lam": 0.1, **at}
    solution = srfx.solve(model, **given)
    assert np.all(solution.residual < 1e-11)
    return np.array([solution.test_error, solution.train_error])


def close(a: object, b: object, tolerance: float = 1e-11) -> None:
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# --- reference values of THEORY section 17, to the printed digit ---


def test_reference_values_one_spike() -> None:
    model = srfx.SpikedRF("tanh", TANH_PRODUCT, r=1.2, gamma=(0.6, -0.7), beta=1.5, noise=0.1)
    assert errors(model).round(8).tolist() == [1.44317136, 0.66977948]
    spiked = srfx.SpikedRF(
        "tanh", TANH_PRODUCT, spikes=[[1.2]], alignment=[[0.6], [-0.7]], beta=1.5, noise=0.1
    )
    assert errors(spiked).tolist() == errors(model).tolist()  # the same way, the same digits


def test_one_spike_as_a_matrix() -> None:
    alpha, lam = [0.7, 2.0, 3.0], [[0.01], [0.1]]
    for target, alignment in (("sin", [[0.8]]), ("sign", [[0.8]]), ("max", [[0.6], [-0.7]])):
        gamma = alignment[0][0] if len(alignment) == 1 else np.ravel(alignment)
        plain = srfx.SpikedRF("relu", target, r=0.9, c=1.3, gamma=gamma, noise=0.1)
        spiked = srfx.SpikedRF(
            "relu", target, spikes=[[0.9]], alignment=alignment, variances=(1.3,), noise=0.1
        )
        a, b = (srfx.solve(model, alpha, lam, d=500) for model in (plain, spiked))
        for name in ("test_error", "train_error", "m", "theta", "psi", "v1", "quadrature_error"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
        assert spiked.spikes is not None
        close(a.gradient("lam"), b.gradient("lam"), 1e-9)
        close(0.9 * a.gradient("r"), b.gradient("r"), 1e-9)  # there a factor


def test_a_target_that_the_spike_does_not_see() -> None:
    """The averages along the spike vanish: what they leave is not judged on their own scale."""
    model = srfx.OneStep(
        "relu", "product", eta=1.6, alpha0=3.7, noise=0.7, readout=(-0.4, 0.8), weights=(0.4, 0.6)
    )
    assert float(srfx.solve(model, 3.5, 0.03).quadrature_error) < 1e-11


def test_reference_values_two_spikes() -> None:
    model = two_spikes()
    assert errors(model).round(8).tolist() == [1.45219148, 0.59454216]
    assert errors(model, d=800).round(8).tolist() == [1.45274627, 0.59472454]
    lower, upper = srfx.bounds(model)
    close(lower, 1.01034758, 1e-8)  # nearly parallel columns: it depends on their cutoff
    close(upper, 1.15002159, 5e-9)


def test_reference_values_kinks() -> None:
    model = srfx.SpikedRF(
        "relu", "max", spikes=np.eye(2), alignment=0.9 * np.eye(2), noise=0.1, weights=(0.5, 0.5)
    )
    solution = srfx.solve(model, alpha=1.5, lam=0.1)
    assert round(solution.test_error, 8) == 0.37293008
    assert round(solution.train_error, 8) == 0.17154832
    assert solution.quadrature_error < 1e-8


def test_reference_values_steps() -> None:
    one = MultiStep("tanh", SIN_TANH, eta=(1, 1), alpha0=(1, 1)).equivalent()
    assert (round(float(one.r), 8), round(float(one.c), 8)) == (0.97280288, 1.06537079)
    assert one.gamma.round(8).tolist() == [0.59206292, 0.58759507]
    model = MultiStep("tanh", SIN_TANH, eta=(1, 1), alpha0=(1, 1))
    assert errors(model, alpha=2).round(8).tolist() == [0.21871096, 0.09775732]
    several = MultiStep("tanh", SIN_TANH, eta=(2, 2), alpha0=(1, 1), readout=(0.5, 2))
    spiked = several.equivalent()
    gram = spiked.spikes @ spiked.spikes.T
    assert gram[[0, 0, 1], [0, 1, 1]].round(8).tolist() == [0.69638830, 2.41122143, 9.56177355]
    along = spiked.spikes @ spiked.alignment.T
    assert along[0].round(8).tolist() == [0.48880279, 0.48457503]
    assert along[1].round(8).tolist() == [1.73634834, 1.71491531]
    assert np.round(spiked.variances, 8).tolist() == [1.23756127, 3.58585143]
    assert errors(several, alpha=2).round(8).tolist() == [0.25954588, 0.10921964]
    close(errors(spiked, alpha=2), errors(several, alpha=2), 1e-13)


# --- properties of THEORY section 16 ---


def test_a_target_that_reads_one_direction() -> None:
    one = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=0.8, noise=0.1)
    for target, gamma in (
        (Target(lambda a, b: np.sin(a), directions=2), (0.8, 0.3)),
        (Target(lambda a, b: np.sin(b), directions=2), (-0.5, 0.8)),
        (Target(lambda a, b, c: np.sin(c), directions=3), (0.1, 0.2, 0.8)),
    ):
        model = srfx.SpikedRF("tanh", target, r=0.9, gamma=gamma, noise=0.1)
        close(errors(model), errors(one))
    index = Target(lambda a, b: np.sin(0.6 * a + 0.8 * b), directions=2)
    model = srfx.SpikedRF("tanh", index, r=0.9, gamma=(0.48, 0.64), noise=0.1)
    close(errors(model), errors(one))


def test_a_turn_of_the_directions() -> None:
    c, s = np.cos(0.7), np.sin(0.7)
    turned = Target(
        lambda a, b: np.tanh(c * a - s * b) + (c * a - s * b) * (s * a + c * b), directions=2
    )
    turn = np.array([[c, s], [-s, c]])  # of theta
    model, other = two_spikes(), two_spikes(turned, alignment=turn @ GAMMA)
    close(errors(model), errors(other))
    one = srfx.SpikedRF("relu", TANH_PRODUCT, r=1.2, gamma=(0.6, -0.7))
    two = srfx.SpikedRF("relu", turned, r=1.2, gamma=turn @ (0.6, -0.7))
    close(errors(one), errors(two))
    a, b = srfx.solve(one, 1.5, 0.1), srfx.solve(two, 1.5, 0.1)
    close(turn @ a.psi, b.psi)


def test_a_turn_of_the_spikes() -> None:
    c, s = np.cos(1.1), np.sin(1.1)
    turn = np.array([[c, s], [-s, c]])
    model, other = two_spikes(), two_spikes(spikes=R @ turn, alignment=GAMMA @ turn)
    close(errors(model), errors(other), 1e-10)
    a, b = srfx.solve(model, 1.5, 0.1), srfx.solve(other, 1.5, 0.1)
    close(a.theta @ turn, b.theta, 1e-9)
    signs = np.array([1.0, -1.0])
    close(errors(model), errors(two_spikes(spikes=R * signs, alignment=GAMMA * signs)), 1e-10)
    close(errors(model), errors(two_spikes(spikes=R * [[1], [-1]])), 1e-12)  # odd activation


def test_groups_that_are_one() -> None:
    model = srfx.SpikedRF("tanh", TANH_PRODUCT, r=1.2, gamma=(0.6, -0.7))
    same = srfx.SpikedRF(
        "tanh", TANH_PRODUCT, spikes=[[1.2], [1.2]], alignment=[[0.6], [-0.7]], weights=(0.3, 0.7)
    )
    close(errors(model), errors(same), 1e-12)
    # rows that span one direction: one spike, whatever the number of columns
    line = np.outer([1.0, 1.7], [0.6, 0.8])
    flat = srfx.SpikedRF("relu", TANH_PRODUCT, spikes=line, alignment=GAMMA)
    one = srfx.SpikedRF(
        "relu", TANH_PRODUCT, spikes=[[1.0], [1.7]], alignment=GAMMA @ [[0.6], [0.8]]
    )
    close(errors(flat), errors(one), 1e-12)


def test_groups_of_one_spike_are_those_of_several_readout_values() -> None:
    plain = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=0.8, readout=(0.5, 1.5))
    spiked = srfx.SpikedRF("tanh", "sin", spikes=[[0.45], [1.35]], alignment=[[0.8]])
    a, b = srfx.solve(plain, 1.5, 0.1, d=500), srfx.solve(spiked, 1.5, 0.1, d=500)
    close(a.test_error, b.test_error, 1e-11)
    for name in ("m", "theta", "psi", "q1", "q2", "v1", "v2"):
        close(np.abs(getattr(a, name)), np.abs(getattr(b, name)), 1e-9)


def test_a_spike_that_nobody_reads() -> None:
    unread = srfx.SpikedRF(
        "tanh", TANH_PRODUCT, spikes=[[1.2, 0.0]], alignment=[[0.6, 0.3], [-0.7, 0.35]]
    )
    model = srfx.SpikedRF("tanh", TANH_PRODUCT, r=1.2, gamma=(0.6, -0.7))
    close(errors(unread), errors(model), 1e-12)
    a, b = srfx.solve(unread, 1.5, 0.1), srfx.solve(model, 1.5, 0.1)
    # theta along it is the overlap of what psi reads with that spike
    gamma = np.array([0.6, -0.7])
    left = np.eye(2) - np.outer(gamma, gamma)
    values, vectors = np.linalg.eigh(left)
    expected = b.psi @ (vectors / np.sqrt(values)) @ vectors.T @ [0.3, 0.35]
    close(a.theta, [b.theta, expected], 1e-10)


@pytest.mark.parametrize("kind", ["one", "two", "steps"])
def test_the_learned_function_by_its_definition(kind: str) -> None:
    """E[m.mu0 + sum_j k_j mu1.theta_j + sum_m z_m mu1.psi_m | t], integrated over k given t."""
    model = {
        "one": srfx.SpikedRF("tanh", TANH_PRODUCT, r=1.2, gamma=(0.6, -0.7)),
        "two": two_spikes(),
        "steps": MultiStep("tanh", SIN_TANH, eta=(1, 1), alpha0=(1, 1), readout=(0.5, 1)),
    }[kind]
    spiked = model.equivalent() if isinstance(model, MultiStep) else model
    rows, gamma, c = np.array([[1.2]]), np.array([[0.6], [-0.7]]), [1.0]
    if kind != "one":
        rows, gamma, c = spiked.spikes, spiked.alignment, spiked.variances
    s = srfx.solve(spiked, 1.5, 0.1)
    k, q = rows.shape
    x, w = np.polynomial.hermite_e.hermegauss(80)
    w = w / w.sum()
    grid = np.stack(np.meshgrid(*[x] * q, indexing="ij"), axis=-1).reshape(-1, q)
    weight = np.prod(np.stack(np.meshgrid(*[w] * q, indexing="ij"), axis=-1), axis=-1).ravel()

    def root(a: np.ndarray, power: float) -> np.ndarray:
        values, vectors = np.linalg.eigh(a)
        return (vectors * values**power) @ vectors.T

    left, inverse = root(np.eye(q) - gamma.T @ gamma, 0.5), root(np.eye(2) - gamma @ gamma.T, -0.5)
    expected, t = [], np.array([[0.3, -1.1], [1.7, 0.4]])
    for at in t:
        spikes = gamma.T @ at + grid @ left
        z = (at - spikes @ gamma.T) @ inverse
        total = np.zeros(len(grid))
        for g in range(k):
            values = np.tanh((spikes @ rows[g])[:, None] + np.sqrt(c[g]) * x)
            m, theta, psi = (np.reshape(y, (k, -1))[g] for y in (s.m, s.theta, s.psi))
            total += (values @ w) * m[0] + (values @ (w * x)) * (spikes @ theta + z @ psi)
        expected.append(weight @ total)
    close(srfx.learned_function(model, 1.5, 0.1, t), expected, 1e-8)


def test_the_derivative_in_lam_is_an_envelope() -> None:
    """d(E[min loss]/n)/dlam = sum q2/a'."""
    model = two_spikes(noise=0.1)
    lam, h = 0.1, 1e-4
    objective = []
    for x in (lam - h, lam, lam + h):
        s = srfx.solve(model, 1.5, x)
        objective.append(s.train_error + x / 1.5 * s.q2.sum())
        slope = s.q2.sum() / 1.5 if x == lam else None
        if slope is not None:
            expected = slope
    close((objective[2] - objective[0]) / (2 * h), expected, 1e-6)


def test_one_step_is_several_steps_of_one() -> None:
    for target in ("sin", SIN_TANH):
        one = srfx.OneStep("tanh", target, eta=2.0, alpha0=0.7, noise=0.1)
        several = MultiStep("tanh", target, eta=(2.0,), alpha0=(0.7,), noise=0.1)
        close(errors(one), errors(several), 1e-11)
        still = MultiStep("tanh", target, eta=(2.0, 0.0), alpha0=(0.7, 3.0), noise=0.1)
        close(errors(several), errors(still), 1e-14)
    groups = srfx.OneStep("tanh", SIN_TANH, eta=2.0, alpha0=0.7, readout=(0.5, 1.5))
    several = MultiStep("tanh", SIN_TANH, eta=(2.0,), alpha0=(0.7,), readout=(0.5, 1.5))
    close(errors(groups), errors(several), 1e-10)
    shifted = srfx.OneStep(
        srfx.Activation(lambda x: np.tanh(x + 0.7), derivative=lambda x: 1 - np.tanh(x + 0.7) ** 2),
        "tanh",
        eta=1.0,
        alpha0=2.0,
    )
    steps = MultiStep(shifted.activation, "tanh", eta=(1.0,), alpha0=(2.0,))
    close(errors(shifted), errors(steps), 1e-10)


def test_identical_groups_make_the_steps_of_one() -> None:
    one = MultiStep("tanh", SIN_TANH, eta=(1, 2), alpha0=(1, 3))
    same = MultiStep(
        "tanh", SIN_TANH, eta=(1, 2), alpha0=(1, 3), readout=(1, 1), weights=(0.4, 0.6)
    )
    close(errors(one), errors(same), 1e-12)


def test_numeric_fields_broadcast() -> None:
    model = srfx.SpikedRF(
        "tanh", TANH_PRODUCT, r=np.array([0.5, 1.2])[:, None], gamma=(0.6, -0.7), noise=[0.0, 0.1]
    )
    solution = srfx.solve(model, alpha=1.5, lam=0.1)
    assert solution.shape == (2, 2)
    assert solution.psi.shape == (2, 2, 2)
    single = srfx.SpikedRF("tanh", TANH_PRODUCT, r=1.2, gamma=(0.6, -0.7), noise=0.1)
    assert solution.test_error[1, 1] == srfx.solve(single, 1.5, 0.1).test_error
    groups = srfx.solve(two_spikes(r=[0.5, 1.0]), alpha=1.5, lam=[[0.1], [0.2]])
    assert groups.theta.shape == (2, 2, 2, 2)
    assert groups.q1.shape == (2, 2, 2, 2)
    close(groups.test_error[0, 1], errors(two_spikes())[0], 1e-13)
    steps = MultiStep("tanh", SIN_TANH, eta=(1.0, [0.5, 1.0]), alpha0=(1, 1))
    close(srfx.solve(steps, 2, 0.1).test_error[1], 0.21871096, 1e-8)


# --- derivatives, spectra, optima ---


@pytest.mark.parametrize("name", ["lam", "alpha", "beta", "noise", "r", "c"])
@pytest.mark.parametrize("kind", ["one", "groups", "spikes"])
def test_derivatives(kind: str, name: str) -> None:
    common = {"noise": 0.1, "beta": 1.3, "c": 1.2}
    model = {
        "one": srfx.SpikedRF("relu", TANH_PRODUCT, r=1.2, gamma=(0.6, -0.7), **common),
        "groups": srfx.SpikedRF(
            "tanh", TANH_PRODUCT, r=1.2, gamma=(0.6, -0.7), readout=(0.5, 1.0), **common
        ),
        "spikes": two_spikes(r=1.1, variances=None, **common),
    }[kind]
    at = {"lam": 0.1, "alpha": 1.5, **model.numeric}
    h = 1e-4

    def error(value: float) -> np.ndarray:
        values = {**at, name: value}
        moved = srfx.models.with_fields(
            model, {k: v for k, v in values.items() if k not in ("lam", "alpha")}
        )
        s = srfx.solve(moved, values["alpha"], values["lam"], d=700)
        return np.array([s.test_error, s.train_error])

    x = float(at[name])
    difference = (8 * (error(x + h) - error(x - h)) - error(x + 2 * h) + error(x - 2 * h)) / 12 / h
    solution = srfx.solve(model, at["alpha"], at["lam"], d=700)
    slopes = [solution.gradient(name, of=of) for of in ("test_error", "train_error")]
    close(slopes, difference, 1e-7)


def test_spectrum_and_optimum() -> None:
    one = srfx.SpikedRF("tanh", TANH_PRODUCT, r=1.2, gamma=(0.6, -0.7), noise=0.1)
    plain = srfx.SpikedRF("tanh", "sin", r=1.2)
    x = np.linspace(0.05, 3, 6)
    a, b = srfx.feature_spectrum(one, 2, x), srfx.feature_spectrum(plain, 2, x)
    assert np.array_equal(a.density.values, b.density.values)
    best = srfx.optimal(one, {"lam": (1e-3, 1e2)}, alpha=1.5)
    assert abs(srfx.solve(one, 1.5, best.lam.item()).gradient("lam")) < 1e-6
    both = srfx.optimal(one, {"lam": (1e-3, 1e2), "r": (0.1, 3)}, alpha=1.5)
    assert both.test_error.item() <= best.test_error.item()
    groups = srfx.optimal(two_spikes(noise=0.1), {"lam": (1e-3, 1e2)}, alpha=1.5)
    assert abs(srfx.solve(two_spikes(noise=0.1), 1.5, groups.lam.item()).gradient("lam")) < 1e-5
    steps = MultiStep("tanh", SIN_TANH, eta=(1, 1), alpha0=(1, 1))
    lam = srfx.optimal(steps, {"lam": (1e-3, 1e2)}, alpha=1.5).lam.item()
    assert abs(srfx.solve(steps, 1.5, lam).gradient("lam")) < 1e-6


def test_the_best_rate_of_a_step() -> None:
    model = MultiStep("tanh", "sin", eta=(1, 1), alpha0=(1, 2))
    best = srfx.optimal(model, {"eta2": (0.1, 5)}, alpha=2, lam=0.1)

    def error(eta: float) -> float:
        moved = MultiStep("tanh", "sin", eta=(1, eta), alpha0=(1, 2))
        return float(srfx.solve(moved, 2, 0.1).test_error)

    at = best["eta2"].item()
    assert 0.1 < at < 5
    assert best.test_error.item() <= min(error(0.98 * at), error(1.02 * at))


def test_bounds_hold() -> None:
    for model in (
        srfx.SpikedRF("tanh", TANH_PRODUCT, r=1.2, gamma=(0.6, -0.7)),
        two_spikes(),
        MultiStep("tanh", SIN_TANH, eta=(2, 2), alpha0=(1, 1), readout=(0.5, 2)),
    ):
        lower, upper = srfx.bounds(model)
        error = srfx.solve(model, alpha=[0.5, 5.0, 1e5], lam=0.01, d=None).test_error
        assert np.all(error >= lower * (1 - 1e-7))
        assert error[-1] <= upper * 1.001


def test_linear_floor() -> None:
    close(srfx.linear_floor(Target("product", directions=2)), 1.0, 1e-12)
    close(srfx.linear_floor("max"), 1 - 1 / np.pi - 0.5, 1e-12)
    both = srfx.linear_floor("sin") + srfx.linear_floor("tanh")
    close(srfx.linear_floor(SIN_TANH), both, 1e-12)


# --- what is refused ---


def test_refusals() -> None:
    model = srfx.SpikedRF("tanh", TANH_PRODUCT, r=1.2, gamma=(0.6, -0.7))
    with pytest.raises(ValueError, match="t must have one coordinate for each of the 2 directions"):
        srfx.learned_function(model, 1.5, 0.1, [0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="span at most 3"):
        srfx.solve(
            srfx.SpikedRF("tanh", "sin", spikes=np.eye(4), alignment=[[0.5, 0, 0, 0]]), 1.5, 0.1
        )
    with pytest.raises(ValueError, match="single numbers"):
        MultiStep("tanh", SIN_TANH, eta=([1, 2], 1), alpha0=(1, 1)).equivalent()


def test_refusals_name_the_bulk() -> None:
    words = r"with bulk='multi_step'.*there is bulk='isotropic'"
    with pytest.raises(NotImplementedError, match=words):
        srfx.solve(two_spikes(), 1, 0.1, bulk="multi_step")
    with pytest.raises(NotImplementedError, match=words):
        srfx.learned_function(two_spikes(), 1, 0.1, np.zeros(2), bulk="multi_step")
    weights = srfx.simulation.sample_weights(two_spikes(), d=20)
    with pytest.warns(srfx.AccuracyWarning, match="groups of rows with spikes of their own"):
        bulk = srfx.EmpiricalBulk.from_weights(*weights)
    with pytest.raises(NotImplementedError, match=r"an EmpiricalBulk.*single row of spikes"):
        srfx.solve(two_spikes(), 1, 0.1, bulk=bulk)


def test_a_target_that_misbehaves_only_when_used() -> None:
    wild = Target(lambda a, b: np.where(np.abs(a) > 8, np.inf, a * b), directions=2)
    with pytest.raises(ValueError, match="must return finite values"):
        srfx.solve(srfx.SpikedRF("tanh", wild, gamma=(0.6, 0.2)), 1.5, 0.1)


# --- against the reference, which shares no code ---


@pytest.mark.parametrize("case", range(5))
def test_agrees_with_the_reference(case: int) -> None:
    bent = Target(lambda a, b: np.abs(a - 0.3) + b, directions=2, kinks=[((1, 0), 0.3)])
    common = {"noise": 0.2, "beta": 0.8}
    model = [
        srfx.SpikedRF("softplus", SIN_TANH, r=-0.7, c=1.3, gamma=(0.5, 0.3), **common),
        srfx.SpikedRF("relu", bent, r=0.8, gamma=(-0.6, 0.7), readout=(0.5, 1.3), **common),
        srfx.SpikedRF("erf", TANH_PRODUCT, spikes=R, alignment=GAMMA.T, weights=(0.3, 0.7)),
        srfx.SpikedRF("tanh", "sin", spikes=R[:, :1] @ [[0.6, 0.8]], alignment=[[0.9, 0.1]]),
        MultiStep("tanh", SIN_TANH, eta=(1.5, 1), alpha0=(0.7, 2), readout=(0.5, 1.5), **common),
    ][case]
    solve = reference.solve_multi_step if case == 4 else reference.solve_spikes
    expected, found = solve(model, 1.3, 0.2, 700), srfx.solve(model, 1.3, 0.2, d=700)
    for name in ("test_error", "train_error"):
        close(getattr(found, name), getattr(expected, name), 1e-8)
    for name in ("q1", "q2", "v1", "v2"):
        close(np.sum(getattr(found, name)), np.sum(getattr(expected, name)), 1e-8)


def test_two_strong_spikes_against_the_reference() -> None:
    """Rows of length 10 and 13: a rule of Gauss and Hermite in k would be 3e-4 off."""
    model = srfx.MultiStep(
        *("gelu", "tanh"), eta=(3.31, 1), alpha0=(0.3, 1.5), readout=(1.5, 2), beta=1.5, noise=0.7
    )
    solution = srfx.solve(model, 2.0, 0.09, d=400)
    expected = reference.solve_multi_step(model, 2.0, 0.09, 400)
    assert solution.test_error == pytest.approx(expected.test_error, rel=1e-9)
    assert solution.train_error == pytest.approx(expected.train_error, rel=1e-9)
