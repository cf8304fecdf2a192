"""The actual network after several steps, or for several directions (THEORY 14, 15)."""

from __future__ import annotations

import numpy as np
import pytest

import srfx
from srfx import MultiStep, OneStep, Target, reference

SIN_TANH = Target(lambda a, b: np.sin(a) + np.tanh(b), directions=2)
TANH_PRODUCT = Target(lambda a, b: np.tanh(a) + a * b, directions=2)
SADDLE = Target(lambda a, b: a + (a * a - b * b) / 2, directions=2)
SHIFTED = srfx.Activation(
    lambda x: np.tanh(x + 0.7), derivative=lambda x: 1 - np.tanh(x + 0.7) ** 2
)
Model = OneStep | MultiStep


def turned(target: Target, angle: float = 0.7) -> Target:
    c, s = np.cos(angle), np.sin(angle)
    return Target(lambda a, b: target(c * a + s * b, -s * a + c * b), directions=2)


def solved(model: Model, alpha: object = 2.0, lam: object = 0.1, **at: object) -> srfx.Solution:
    bulk = "multi_step" if isinstance(model, MultiStep) else "one_step"
    solution = srfx.solve(model, alpha, lam, bulk=bulk, **at)
    assert np.all(solution.residual < 1e-10)
    return solution


def errors(model: Model, **at: object) -> np.ndarray:
    solution = solved(model, **at)
    return np.array([solution.test_error, solution.train_error])


def close(a: object, b: object, tolerance: float) -> None:
    np.testing.assert_allclose(a, b, rtol=tolerance)


# --- reference values of THEORY section 17, to the printed digit ---


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (OneStep("tanh", SIN_TANH, eta=3, alpha0=0.5), (0.58702805, 0.28642248)),
        (OneStep("relu", SADDLE, eta=2, alpha0=5), (1.44320254, 0.62781449)),
        (MultiStep("tanh", "sin", eta=(3, 3), alpha0=(0.5, 0.5)), (0.23977634, 0.09558283)),
        (MultiStep(SHIFTED, "tanh", eta=(2, 2), alpha0=(1, 1)), (0.20506496, 0.07913852)),
    ],
)
def test_reference_values(model: Model, values: tuple[float, float]) -> None:
    assert errors(model).round(8).tolist() == list(values)


def test_reference_values_of_a_layer() -> None:
    layer = srfx._core.layer_map(
        srfx._core.Activation("tanh"),
        srfx._core.Activation("sin"),
        1.0,
        np.full((1, 2), 3.0),
        np.full((1, 2), 2.0),
        0.0,
    )
    assert layer["r"] == pytest.approx(2.15971392, abs=5e-9)
    assert layer["c"] == pytest.approx(2.94144753, abs=5e-9)
    assert layer["gamma"] == pytest.approx([0.67239219], abs=5e-9)
    assert layer["c_delta"] == pytest.approx(38.124653, abs=5e-7)
    assert layer["tilt"] == pytest.approx([-5.758133, 1.988065], abs=5e-7)
    assert layer["sigma"][0, 0] == pytest.approx(5.903205, abs=5e-7)
    assert layer["steps"] == 2


@pytest.mark.parametrize(
    ("model", "d", "values"),
    [  # the theory's figures of section 17, at (.6, .02) and (2, .1)
        (MultiStep("relu", TANH_PRODUCT, eta=(1, 1), alpha0=(2, 2)), 1100, (2.2355, 1.4232)),
        (MultiStep("tanh", "tanh", eta=(2, 3, 2), alpha0=(1, 1, 1)), 800, (0.0855, 0.0527)),
        (MultiStep("tanh", "sin", eta=(4, 6), alpha0=(20, 20)), 800, (0.0167, 0.01175)),
    ],
)
def test_several_steps_at_finite_d(model: Model, d: float, values: tuple[float, float]) -> None:
    found = solved(model, (0.6, 2), (0.02, 0.1), d=d).test_error
    np.testing.assert_allclose(found, values, atol=5.1e-5)


# --- the oracle ---


@pytest.mark.parametrize(
    "model",
    [
        OneStep("tanh", TANH_PRODUCT, eta=2, alpha0=1, beta=0.7, noise=0.1),
        OneStep("relu", "max", eta=1, alpha0=2, beta=1.3),
        OneStep(SHIFTED, SIN_TANH, eta=1.5, alpha0=0.7),
    ],
    ids=["tanh", "relu", "shifted"],
)
@pytest.mark.parametrize("d", [None, 400.0])
def test_several_directions_against_the_reference(model: OneStep, d: float | None) -> None:
    if model.target == "max":
        model = srfx.models.with_fields(model, {"target": Target("max", directions=2)})
    oracle = reference.solve_one_step(model, 1.5, 0.05, d)
    found = solved(model, 1.5, 0.05, d=d)
    close(found.test_error, oracle.test_error, 1e-8)
    close(found.train_error, oracle.train_error, 1e-8)


@pytest.mark.parametrize(
    "model",
    [
        MultiStep("tanh", "sin", eta=(2, 1), alpha0=(1, 2), beta=0.7),
        MultiStep("relu", "tanh", eta=(1, 1.5), alpha0=(2, 1), beta=1.3),
        MultiStep("relu", "relu", eta=(1, 1), alpha0=(2, 2)),
    ],
    ids=["tanh", "relu", "kinks"],
)
def test_several_steps_against_the_reference(model: MultiStep) -> None:
    oracle = reference.solve_multi_step(model, 1.5, 0.05, bulk="multi_step")
    found = solved(model, 1.5, 0.05)
    close(found.test_error, oracle.test_error, 1e-8)
    close(found.train_error, oracle.train_error, 1e-8)


# --- properties of THEORY section 16 ---


@pytest.mark.parametrize("activation", ["tanh", "relu", SHIFTED])
@pytest.mark.parametrize("d", [None, 700])
def test_one_step_of_many(activation: object, d: float | None) -> None:
    one = errors(OneStep(activation, "sin", eta=2, alpha0=1, noise=0.1), d=d)
    many = MultiStep(activation, "sin", eta=(2,), alpha0=(1,), noise=0.1)
    close(errors(many, d=d), one, 1e-11)
    for eta, alpha0 in (((2, 0), (1, 1)), ((0, 2), (3, 1)), ((1, 2), (0, 1))):
        still = MultiStep(activation, "sin", eta=eta, alpha0=alpha0, noise=0.1)
        close(errors(still, d=d), one, 1e-11)


def test_small_second_step() -> None:
    one = errors(OneStep("tanh", "sin", eta=3, alpha0=0.5))
    close(errors(MultiStep("tanh", "sin", eta=(3, 1e-9), alpha0=(0.5, 1))), one, 1e-8)


def test_no_step_at_all() -> None:
    plain = errors(OneStep("relu", "sin", eta=0, alpha0=1))
    close(errors(MultiStep("relu", "sin", eta=(0, 0), alpha0=(1, 1))), plain, 1e-11)
    two = Target(lambda a, b: np.sin(a), directions=2)
    close(errors(OneStep("relu", two, eta=0, alpha0=1)), plain, 1e-11)


def test_one_index_of_two() -> None:
    one = OneStep("tanh", "sin", eta=3, alpha0=0.5, noise=0.1)
    across = Target(lambda a, b: np.sin(b), directions=2)
    tilted = Target(lambda a, b: np.sin(0.6 * a - 0.8 * b), directions=2)
    for target in (across, tilted):
        model = srfx.models.with_fields(one, {"target": target})
        close(errors(model, d=500), errors(one, d=500), 1e-10)
    steps = MultiStep("tanh", "sin", eta=(3, 1), alpha0=(0.5, 1))
    two = srfx.models.with_fields(steps, {"target": tilted})
    close(errors(two), errors(steps), 1e-9)


@pytest.mark.parametrize(
    ("model", "tolerance"),
    [
        (OneStep("relu", TANH_PRODUCT, eta=1.5, alpha0=1), 1e-11),
        (MultiStep("tanh", SIN_TANH, eta=(2, 1), alpha0=(1, 1)), 1e-9),
    ],
)
def test_rotation_of_the_directions(model: Model, tolerance: float) -> None:
    other = srfx.models.with_fields(model, {"target": turned(model.target)})
    close(errors(other), errors(model), tolerance)


def test_target_without_a_linear_part() -> None:
    product = OneStep("relu", Target("sign_product", directions=2), eta=2, alpha0=1)
    solution = solved(product)
    assert np.all(np.abs(np.asarray(solution.psi)) < 1e-12)
    oracle = reference.solve_one_step(product, 2.0, 0.1)
    close(solution.test_error, oracle.test_error, 1e-8)


def test_three_directions() -> None:
    three = Target(lambda a, b, c: np.sin(a) + np.tanh(b) + 0.0 * c, directions=3)
    two = errors(OneStep("tanh", SIN_TANH, eta=3, alpha0=0.5))
    close(errors(OneStep("tanh", three, eta=3, alpha0=0.5)), two, 1e-8)


@pytest.mark.parametrize(
    ("model", "values"),
    [  # by rules in (k, t, eps), refined to 1e-11
        (
            MultiStep("tanh", TANH_PRODUCT, eta=(2, 1), alpha0=(1, 2), noise=0.1),
            (1.6177948742522732, 0.6052212279219411),
        ),
        (
            MultiStep("tanh", "sin", eta=(8, 8), alpha0=(0.3, 0.3), noise=2),
            (1.4008808194505, 0.9992864149477),
        ),
        (
            MultiStep("softplus", "hermite3", eta=(1, 1), alpha0=(2, 2), noise=0.01),
            (1.2367314255274, 0.5586750855575),
        ),
        (
            MultiStep("gelu", "relu", eta=(2, 3), alpha0=(1, 1), noise=1e-6),
            (0.2122906160604, 0.0335215638579),
        ),
        (
            MultiStep("tanh", "tanh", eta=(2, 1), alpha0=(1000, 1000)),
            (0.0114171820383, 0.0042158145627),
        ),
        (
            MultiStep("tanh", "sign", eta=(2, 1), alpha0=(1000, 1000)),
            (0.3518023872023, 0.0931331694807),
        ),
        (
            MultiStep("relu", Target("max", 2), eta=(2, 1), alpha0=(1, 2)),
            (0.5331032676716, 0.1316144938191),
        ),
        (
            OneStep("relu", Target("sign_product", 2), eta=2, alpha0=2, noise=0.3),
            (1.6761979010855, 0.5110930646757),
        ),
    ],
)
def test_values_of_hard_steps(model: Model, values: tuple[float, float]) -> None:
    close(errors(model, alpha=1.2), values, 2e-11)


@pytest.mark.parametrize("activation", ["gelu", "tanh"])
def test_signs(activation: str) -> None:
    """A step downhill of the target: gamma is negative."""
    fields = {"eta": (1.0,), "alpha0": (5.6,), "beta": 1.9}
    one = OneStep(activation, "tanh", eta=1.0, alpha0=5.6, beta=1.9, readout=(-1.5,))
    close(errors(MultiStep(activation, "tanh", readout=(-1.5,), **fields)), errors(one), 1e-10)
    fields |= {"eta": (1.0, 0.5), "alpha0": (5.6, 0.7)}
    plain = errors(MultiStep(activation, "tanh", **fields))
    # without an offset of the activation or of the target's, -a0 is a0
    close(errors(MultiStep(activation, "tanh", readout=(-1.0,), **fields)), plain, 1e-9)
    down = srfx.Activation(lambda x: -np.tanh(x))
    if activation == "tanh":
        close(errors(MultiStep(activation, down, **fields)), plain, 1e-9)


def test_readout_below_zero_beside_the_reference() -> None:
    model = MultiStep("tanh", "tanh", eta=(1.0, 0.5), alpha0=(5.6, 0.7), readout=(-1.5,))
    oracle = reference.solve_multi_step(model, 2.0, 0.1, bulk="multi_step")
    close(errors(model), [oracle.test_error, oracle.train_error], 1e-9)


def test_sigma_of_a_strong_step() -> None:
    """Where u is large, averages have poles at real b < 0, however small."""
    layer = srfx._core.layer_map(
        srfx._core.Activation("erf"),
        srfx.models.target_of(OneStep("erf", TANH_PRODUCT)),
        1.0,
        [[2.07818]],
        [[2.15942]],
        0.1,
    )
    close(layer["sigma"][0, 0], 33.97105813, 1e-8)
    close(layer["tilt"][0], -16.32744276, 1e-8)


def test_scales_of_one_step() -> None:
    model = OneStep("tanh", SIN_TANH, eta=3, alpha0=0.5, noise=0.1)
    plain = errors(model)
    close(
        errors(OneStep("tanh", SIN_TANH, eta=1.5, alpha0=0.5, noise=0.1, readout=(2,))),
        plain,
        1e-10,
    )
    twice = Target(lambda a, b: 2 * SIN_TANH(a, b), directions=2)
    close(errors(OneStep("tanh", twice, eta=1.5, alpha0=0.5, noise=0.4)), 4 * plain, 1e-9)


# --- shapes, verbs ---


def test_steps_broadcast() -> None:
    model = MultiStep("tanh", "sin", eta=([1.0, 2.0], 1.0), alpha0=(1.0, [[0.5], [2.0], [4.0]]))
    solution = solved(model, lam=0.2)
    assert solution.test_error.shape == (3, 2)
    one = MultiStep("tanh", "sin", eta=(2.0, 1.0), alpha0=(1.0, 4.0))
    assert solution.test_error[2, 1] == solved(one, lam=0.2).test_error


def test_psi_has_a_direction_each() -> None:
    solution = solved(OneStep("tanh", SIN_TANH, eta=3, alpha0=0.5), alpha=(1, 2, 3))
    assert solution.psi.shape == (3, 2)


def test_a_point_does_not_depend_on_the_others() -> None:
    model = MultiStep("tanh", "sin", eta=(2, 1), alpha0=(1, 1))
    plane = solved(model, np.linspace(0.3, 3, 40)[:, np.newaxis], np.geomspace(1e-3, 1, 30))
    assert (
        plane.test_error[17, 11]
        == solved(model, np.linspace(0.3, 3, 40)[17], np.geomspace(1e-3, 1, 30)[11]).test_error
    )


@pytest.mark.parametrize(
    ("model", "d"),
    [
        (MultiStep("tanh", "sin", eta=(3, 2), alpha0=(0.5, 1), noise=0.1), None),
        (OneStep("relu", TANH_PRODUCT, eta=1, alpha0=1), 500),
    ],
)
def test_gradient(model: Model, d: float | None) -> None:
    solution = solved(model, 1.5, 0.2, d=d)
    step = 1e-5

    def at(**moved: float) -> float:
        fields = {"beta": moved["beta"]} if "beta" in moved else {}
        other = srfx.models.with_fields(model, fields)
        return float(solved(other, moved.get("alpha", 1.5), moved.get("lam", 0.2), d=d).test_error)

    for name, value in (("lam", 0.2), ("alpha", 1.5), ("beta", 1.0)):
        by_differences = (at(**{name: value + step}) - at(**{name: value - step})) / (2 * step)
        assert solution.gradient(name) == pytest.approx(by_differences, rel=1e-5)


@pytest.mark.parametrize("activation", ["tanh", "relu", SHIFTED])
@pytest.mark.parametrize("d", [None, 500])
def test_gradient_in_the_step(activation: object, d: float | None) -> None:
    """Of a target of several directions; by differences, and of one index by one direction."""
    at = {"eta": 1.5, "alpha0": 1.2, "noise": 0.3}
    model = OneStep(activation, SIN_TANH, **at)
    solution = solved(model, 1.5, 0.2, d=d)
    for name, value in at.items():
        step = 1e-3 * value
        around = [
            errors(
                srfx.models.with_fields(model, {name: value + i * step}), alpha=1.5, lam=0.2, d=d
            )
            for i in (-2, -1, 1, 2)
        ]
        slope = (around[0] - 8 * around[1] + 8 * around[2] - around[3]) / (12 * step)
        found = [solution.gradient(name), solution.gradient(name, of="train_error")]
        close(found, slope, 1e-6)
    tilted = Target(lambda a, b: np.sin(0.6 * a - 0.8 * b), directions=2)
    two = solved(OneStep(activation, tilted, **at), d=d)
    one = solved(OneStep(activation, "sin", **at), d=d)
    for name in at:
        close(two.gradient(name), one.gradient(name), 1e-8)


def test_gradient_without_noise_or_a_linear_part() -> None:
    for target in (SIN_TANH, Target("sign_product", directions=2)):
        solution = solved(OneStep("tanh", target, eta=2, alpha0=1))
        moved = errors(OneStep("tanh", target, eta=2, alpha0=1, noise=1e-6))
        slope = (moved[0] - float(solution.test_error)) / 1e-6
        close(solution.gradient("noise"), slope, 1e-4)


# --- spectra ---


@pytest.mark.parametrize(
    "model",
    [
        OneStep("tanh", SIN_TANH, eta=3, alpha0=0.5),
        MultiStep("tanh", "sin", eta=(2, 2), alpha0=(1, 1)),
        MultiStep("relu", SIN_TANH, eta=(1, 1), alpha0=(1, 2)),
    ],
    ids=["directions", "steps", "both"],
)
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_spectrum(model: Model, alpha: float) -> None:
    bulk = "multi_step" if isinstance(model, MultiStep) else "one_step"
    ds = srfx.feature_spectrum(model, alpha, np.geomspace(1e-4, 30, 60), bulk=bulk)
    assert np.all(ds.status == 0)
    assert ds.mass.item() == pytest.approx(1, abs=1e-6)
    assert ds.mass_at_zero.item() == pytest.approx(max(0, 1 - alpha), abs=1e-12)
    moment = ds.expected_first_moment.item()
    assert ds.first_moment.item() == pytest.approx(moment, rel=1e-6)


def test_spectrum_of_one_step_of_many() -> None:
    x = np.geomspace(1e-2, 10, 20)
    one = srfx.feature_spectrum(OneStep("relu", "sin", eta=2), 2, x, bulk="one_step")
    steps = MultiStep("relu", "sin", eta=(2,), alpha0=(1.5,))
    many = srfx.feature_spectrum(steps, 2, x, bulk="multi_step")
    np.testing.assert_allclose(many.density, one.density, atol=1e-11)
    np.testing.assert_allclose(many.outliers, one.outliers, rtol=1e-8)


@pytest.mark.parametrize(
    "model",
    [
        OneStep("tanh", SIN_TANH, eta=3, alpha0=0.5),
        MultiStep("tanh", "sin", eta=(2, 2), alpha0=(1, 1)),
    ],
    ids=["directions", "steps"],
)
def test_spectrum_of_simulated_networks(model: Model) -> None:
    """The share of eigenvalues below each of some x, of networks of d = 600."""
    d, alpha, x = 600, 2.0, np.array([0.05, 0.2, 0.5, 1.0, 2.0, 4.0])
    below = []
    for seed in range(4):
        weights, _, _ = srfx.simulation.sample_weights(model, d=d, seed=seed)
        inputs = np.random.default_rng(seed).standard_normal((int(alpha * d), d))
        phi = np.tanh(inputs @ weights.T)
        values = np.linalg.eigvalsh(phi.T @ phi / d)
        below.append([np.mean(values < at) for at in x])
    bulk = "multi_step" if isinstance(model, MultiStep) else "one_step"
    fine = np.geomspace(1e-4, 30, 4000)
    density = srfx.feature_spectrum(model, alpha, fine, bulk=bulk).density.values
    mass = np.concatenate([[0], np.cumsum(np.diff(fine) * (density[1:] + density[:-1]) / 2)])
    error = np.std(below, axis=0, ddof=1) / 2
    off = np.abs(np.mean(below, axis=0) - np.interp(x, fine, mass))
    assert np.all(off < 4 * error + 0.005)


def test_learned_function() -> None:
    one = OneStep("tanh", "sin", eta=3, alpha0=0.5)
    two = srfx.models.with_fields(
        one, {"target": Target(lambda a, b: np.sin(0.6 * a - 0.8 * b), directions=2)}
    )
    t = np.array([[0.3, -1.0], [2.0, 1.0], [0.0, 0.0]])
    learned = srfx.learned_function(two, 2, 0.1, t=t, bulk="one_step")
    along = srfx.learned_function(one, 2, 0.1, t=t @ [0.6, -0.8], bulk="one_step")
    np.testing.assert_allclose(learned, along, atol=1e-9)
    steps = MultiStep("tanh", "sin", eta=(3,), alpha0=(0.5,))
    np.testing.assert_allclose(
        srfx.learned_function(steps, 2, 0.1, t=t[:, 0], bulk="multi_step"),
        srfx.learned_function(one, 2, 0.1, t=t[:, 0], bulk="one_step"),
        atol=1e-10,
    )


def test_optimal() -> None:
    model = MultiStep("tanh", "sin", eta=(2, 1), alpha0=(1, 1))
    best = srfx.optimal(model, over={"lam": (1e-3, 1.0)}, alpha=2.0, bulk="multi_step")
    lam = np.geomspace(1e-3, 1.0, 400)
    grid = solved(model, 2.0, lam).test_error
    assert float(best.test_error) <= grid.min() * (1 + 1e-9)
    assert float(best.test_error) == pytest.approx(grid.min(), rel=1e-4)


# --- bad input ---


def refused(model: Model, words: str, bulk: str = "multi_step", error: type = ValueError) -> None:
    with pytest.raises(error, match=words):
        srfx.solve(model, 1, 0.1, bulk=bulk)


def test_bad_input() -> None:
    steps = MultiStep("tanh", "sin", eta=(1, 1), alpha0=(1, 1))
    refused(OneStep("tanh", "sin"), "needs an srfx.MultiStep model.*use bulk='one_step'")
    refused(steps, "needs an srfx.OneStep model.*use bulk='multi_step'", "one_step")
    refused(srfx.SpikedRF("tanh", "sin"), "needs an srfx.MultiStep model.*use bulk='isotropic'")
    endless = MultiStep("tanh", "sin", eta=(1, 1), alpha0=(1, np.inf))
    refused(endless, "alpha0_2 must be finite with bulk='multi_step'.*got inf")
    still = MultiStep("tanh", "sin", eta=(1, 0), alpha0=(1, np.inf))
    solved(still)
    groups = MultiStep("tanh", "sin", eta=(1, 1), alpha0=(1, 1), readout=(1.0, 2.0))
    refused(groups, "single readout value.*readout=\\(1.0, 2.0\\)", error=NotImplementedError)
    four = OneStep("tanh", Target("product", directions=4))
    refused(four, "at most 3 directions; got 4", "one_step", NotImplementedError)
    refused(OneStep("tanh", SIN_TANH, alpha0=np.inf), "alpha0 must be finite", "one_step")
    with pytest.raises(ValueError, match="lam must be > 0 with bulk='multi_step'"):
        srfx.solve(steps, 1, 0, bulk="multi_step")
    with pytest.raises(ValueError, match="bulk must be one of 'isotropic', 'one_step', 'multi"):
        srfx.solve(steps, 1, 0.1, bulk="two_step")


def test_the_derivative_where_the_step_begins() -> None:
    """Odd networks do not tell the sign of eta; at d = infinity the least spike is learned."""
    begins = OneStep("tanh", SIN_TANH, eta=0)
    assert abs(solved(begins, d=400).gradient("eta")) < 1e-8
    assert np.isnan(solved(begins).gradient("eta"))
