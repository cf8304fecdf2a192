"""The actual one-step network (THEORY 9 and 10) and given weights."""

from __future__ import annotations

import dataclasses
import pickle
import warnings

import numpy as np
import pytest

import srfx
from srfx import OneStep, SpikedRF, _core, reference, simulation, solve
from srfx.models import compiled

ERRORS = ("test_error", "train_error")


def errors(model, alpha, lam, **options):
    solution = solve(model, alpha, lam, bulk="one_step", **options)
    return np.array([solution.test_error, solution.train_error])


# Computed by separate code from the text (THEORY section 10, end).
STATED = [
    (OneStep("relu", "relu", eta=1, alpha0=2), 1, 0.3, None, (0.19500205, 0.06657937)),
    (
        OneStep(
            srfx.Activation(
                lambda x: np.tanh(x + 0.7), lambda x: 1 / np.cosh(np.clip(x + 0.7, -300, 300)) ** 2
            ),
            "tanh",
            eta=2,
            alpha0=0.5,
        ),
        3,
        0.03,
        None,
        (0.26580820, 0.12867660),
    ),
    (
        OneStep("gelu", "relu", eta=2, alpha0=1, beta=2, noise=0.2),
        1,
        0.3,
        None,
        (0.26562319, 0.11922749),
    ),
    (OneStep("tanh", "tanh", eta=0.4, alpha0=20, beta=0.5), 5, 0.1, 600, (0.06503732, 0.05323797)),
]


@pytest.mark.parametrize(("model", "alpha", "lam", "d", "stated"), STATED)
def test_stated_values(model, alpha, lam, d, stated):
    np.testing.assert_allclose(errors(model, alpha, lam, d=d), stated, rtol=0, atol=5.1e-9)
    assert solve(model, alpha, lam, d=d, bulk="one_step").quadrature_error < 1e-10


def test_quadrature_error_is_that_of_the_point():
    """Of a quadratic sigma the averages have poles near the real axis, but at smaller s only."""
    quadratic = srfx.Activation(lambda x: x + 0.1 * (x * x - 1), lambda x: 1 + 0.2 * x)
    model = OneStep(quadratic, "tanh", eta=2, alpha0=0.01)
    solution = solve(model, 1.3, 0.1, bulk="one_step")  # warnings are errors
    witness = reference.solve_one_step(model, 1.3, 0.1, density=3)
    assert solution.test_error == pytest.approx(witness.test_error, rel=1e-10)
    assert solution.train_error == pytest.approx(witness.train_error, rel=1e-10)
    model = OneStep("hermite2", "tanh", eta=[2, 20], alpha0=np.array([[0.01], [0.1]]))
    assert solve(model, 1.3, 0.1, bulk="one_step").quadrature_error.max() < 1e-9
    step = OneStep("relu", lambda x: np.where(x > 0.3, 1.0, 0.0), eta=2, alpha0=[0.1, 10, np.inf])
    with pytest.warns(srfx.AccuracyWarning, match="kinks"):
        rough = solve(step, 2, 0.1, bulk="one_step")
    declared = srfx.Activation(step.target.fn, kinks=[0.3])
    exact = solve(dataclasses.replace(step, target=declared), 2, 0.1, bulk="one_step")
    assert exact.quadrature_error.max() < 1e-10
    off = np.abs(rough.test_error / exact.test_error - 1)
    assert np.all(off > 1e-8)
    assert np.all(rough.quadrature_error > off)


def test_stated_test_errors():
    model = OneStep("tanh", "sin", eta=3, alpha0=0.25)
    assert solve(model, 2, 0.1, bulk="one_step").test_error == pytest.approx(0.3553, abs=5e-7)
    assert solve(model, 2, 0.1).test_error == pytest.approx(0.31505, abs=5e-6)
    model = OneStep("relu", "tanh", eta=2, alpha0=10)
    assert solve(model, 2, 0.1, bulk="one_step").test_error == pytest.approx(0.25978, abs=5.1e-6)


def random_points(seed, n):
    rng = np.random.default_rng(seed)

    def log(low, high):
        return low * (high / low) ** rng.random(n)

    return {
        "eta": 20 * rng.random(n),
        "alpha0": log(0.01, 1000),
        "beta": log(0.1, 10),
        "noise": np.where(rng.random(n) < 0.5, 0, rng.random(n)),
        "alpha": log(0.1, 10),
        "lam": log(1e-8, 10),
        "d": np.where(rng.random(n) < 0.5, np.inf, log(100, 1e4)),
    }


def model_of(activation, target, points):
    fields = {name: points[name] for name in ("eta", "alpha0", "beta", "noise")}
    return OneStep(activation, target, **fields)


def arguments(points):
    return dict(points), points["eta"].shape


@pytest.mark.parametrize(
    ("activation", "target"),
    [("tanh", "sin"), ("erf", "relu"), ("hardtanh", "sign"), ("linear", "tanh")],
)
def test_the_general_path_of_an_odd_activation_is_the_scalar_path(activation, target):
    points = random_points(3, 12)
    model = model_of(activation, target, points)
    scalar = srfx.weights.solve_step(model, *arguments(points), 1)
    matrix = srfx.weights.solve_step(model, *arguments(points), 1, matrix=True)
    assert (scalar["status"] == 0).all()
    assert (matrix["status"] == 0).all()
    for name in (*ERRORS, "q2", "v1", "v2"):
        np.testing.assert_allclose(matrix[name], scalar[name], rtol=1e-10)
    for name in ("m", "theta", "psi", "chi"):
        scale = np.abs(scalar[name]) + 1e-3 * np.abs(scalar[name]).max()
        assert (np.abs(matrix[name] - scalar[name]) <= 1e-8 * scale + 1e-12).all()


@pytest.mark.parametrize(
    ("activation", "target"),
    [
        ("tanh", "sin"),
        ("relu", "hermite2"),
        ("gelu", "sign"),
        ("softplus", "relu"),
        ("cos", "sin"),
        ("abs", "tanh"),
    ],
)
def test_every_point_converges(activation, target):
    points = random_points(4, 25)
    points["noise"] = np.repeat(points["noise"][:5], 5)
    points["eta"] = np.repeat(points["eta"][:5], 5)
    points["alpha0"] = np.repeat(points["alpha0"][:5], 5)
    solution = solve(
        model_of(activation, target, points),
        points["alpha"],
        points["lam"],
        d=np.where(np.isinf(points["d"]), 1e12, points["d"]),
        bulk="one_step",
    )
    assert solution.success.all()
    assert solution.residual.max() < 1e-10
    assert (solution.test_error > 0).all()
    assert (solution.train_error > 0).all()


@pytest.mark.parametrize(
    "model",
    [
        OneStep("tanh", "sin", eta=3, alpha0=0.5, noise=0.1),
        OneStep("relu", "tanh", eta=4, alpha0=1, beta=0.7),
        OneStep("softplus", "hermite2", eta=2, alpha0=2, beta=2, noise=0.3),
    ],
    ids=str,
)
@pytest.mark.parametrize("d", [None, 500])
def test_the_envelope(model, d):
    """The derivative of the minimal loss by lam is |a|^2: it ties q2 to the sources."""
    for alpha, lam in ((0.5, 0.01), (3.0, 0.2)):
        ratio = alpha / np.asarray(model.beta)

        def loss(at, ratio=ratio, alpha=alpha):
            solution = solve(model, alpha, at, d=d, bulk="one_step")
            return solution.train_error + at / ratio * solution.q2

        step = 1e-3 * lam
        slope = (
            8 * (loss(lam + step) - loss(lam - step)) - loss(lam + 2 * step) + loss(lam - 2 * step)
        ) / (12 * step)
        q2 = solve(model, alpha, lam, d=d, bulk="one_step").q2
        assert slope == pytest.approx(q2 / ratio, rel=1e-8)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("d", [None, 400])
def test_without_a_step_it_is_the_plain_network(activation, d):
    plain = solve(SpikedRF(activation, "sin", r=0, beta=1.3, noise=0.2), [0.7, 2], 0.03, d=d)
    for fields in ({"eta": 0, "alpha0": 2}, {"eta": 2, "alpha0": 0}, {"eta": 0, "alpha0": np.inf}):
        model = OneStep(activation, "sin", beta=1.3, noise=0.2, **fields)
        solution = solve(model, [0.7, 2], 0.03, d=d, bulk="one_step")
        for name in (*ERRORS, "q2", "v1", "v2"):
            np.testing.assert_allclose(getattr(solution, name), getattr(plain, name), rtol=1e-11)


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_many_samples_tend_to_the_population_gradient(activation):
    model = OneStep(activation, "relu", eta=2, alpha0=[1e5, 1e7, np.inf], noise=0.1)
    test, train = errors(model, 2, 0.1, d=600)
    for values in (test, train):
        gaps = np.abs(values[:2] / values[2] - 1)
        assert gaps[0] < 1e-4
        assert gaps[1] < 0.02 * gaps[0] + 1e-12


def test_a_readout_value_is_a_learning_rate_for_an_odd_activation():
    one = OneStep("tanh", "sin", eta=3, alpha0=1, readout=(0.5,))
    np.testing.assert_allclose(
        errors(one, 2, 0.1), errors(OneStep("tanh", "sin", eta=1.5, alpha0=1), 2, 0.1), rtol=1e-12
    )


def test_scaling_the_target():
    target = srfx.Activation(lambda x: 3 * np.sin(x))
    scaled = OneStep("tanh", target, eta=1, alpha0=0.5, noise=0.9)
    plain = OneStep("tanh", "sin", eta=3, alpha0=0.5, noise=0.1)
    np.testing.assert_allclose(errors(scaled, 2, 0.1), 9 * errors(plain, 2, 0.1), rtol=1e-9)


def test_reflecting_the_target():
    """(v, sigma*(x)) -> (-v, sigma*(-x))."""
    target = srfx.Activation(lambda x: np.maximum(-x, 0), kinks=[0])
    for activation in ("tanh", "gelu"):
        there = errors(OneStep(activation, target, eta=2, alpha0=1, noise=0.1), 2, 0.1, d=500)
        here = errors(OneStep(activation, "relu", eta=2, alpha0=1, noise=0.1), 2, 0.1, d=500)
        np.testing.assert_allclose(there, here, rtol=1e-9)


def test_a_callable_is_as_good_as_a_name():
    callable_ = srfx.Activation(
        lambda x: np.maximum(x, 0),
        lambda x: np.where(x > 0, 1.0, np.where(x < 0, 0.0, 0.5)),
        kinks=[0],
    )
    np.testing.assert_allclose(
        errors(OneStep(callable_, np.sin, eta=1, alpha0=1), 2, 0.1),
        errors(OneStep("relu", "sin", eta=1, alpha0=1), 2, 0.1),
        rtol=1e-9,
    )


def test_points_do_not_depend_on_their_company():
    eta, alpha0, noise = np.linspace(0, 6, 5), np.array([[0.3], [8.0]]), 0.1
    model = OneStep("relu", "sin", eta=eta, alpha0=alpha0, noise=noise)
    together = solve(model, 2, 0.1, d=600, bulk="one_step")
    serial = solve(model, 2, 0.1, d=600, bulk="one_step", n_threads=1)
    assert together.shape == (2, 5)
    for i, j in ((0, 0), (1, 3), (0, 4)):
        alone = solve(
            OneStep("relu", "sin", eta=eta[j], alpha0=alpha0[i, 0], noise=noise),
            2,
            0.1,
            d=600,
            bulk="one_step",
        )
        for name in ("test_error", "q1", "theta", "m"):
            assert (
                getattr(together, name)[i, j] == getattr(alone, name) == getattr(serial, name)[i, j]
            )


def test_results_look_like_any_others():
    solution = solve(OneStep(eta=[1, 2]), [[1.0], [2.0], [3.0]], 0.1, bulk="one_step")
    assert solution.bulk == "one_step"
    assert solution.describe()["bulk"] == "one_step"
    assert dict(solution.to_xarray().sizes) == {"alpha": 3, "eta": 2}
    assert len(solution.to_dataframe()) == 6
    assert solve(OneStep(eta=np.ones(0)), 1, 0.1, bulk="one_step").test_error.shape == (0,)


def test_the_map_is_that_of_equivalent():
    for model in (
        OneStep("tanh", "sin", eta=2, alpha0=0.5, noise=0.1),
        OneStep("relu", "tanh", eta=2, alpha0=3),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", srfx.ApproximationWarning)
            spiked = model.equivalent()
        step = _core.step_map(
            compiled(model.activation),
            compiled(model.target),
            1.0,
            model.eta,
            1 / model.alpha0,
            model.noise,
        )
        for name in ("r", "c", "gamma"):
            assert step[name] == pytest.approx(getattr(spiked, name), rel=1e-11)


# --- given weights ---


def weights(p=60, d=80, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((p, d)) / np.sqrt(d), rng.standard_normal(d), rng.standard_normal(d)


def test_spectral_averages_of_given_weights():
    """V1 and V2 against a plain inverse; for a linear activation E u1 w is known."""
    W, v, theta = weights()
    bulk = srfx.EmpiricalBulk.from_weights(W, v, theta)
    model = SpikedRF("linear", "sin", beta=60 / 80, r=0.0)
    solution = solve(model, 2, 0.1, bulk=bulk)
    u1, ratio = bulk.c, 2 * 80 / 60  # mu1^2 = c for a linear activation, mu2 = 0
    unit = v / np.linalg.norm(v)
    across = W - np.outer(W @ unit, unit)
    omega = across @ across.T / bulk.c
    S = 0.1 * np.eye(60) + ratio * u1 / (1 + u1 * solution.v1) * omega
    inverse = np.linalg.inv(S)
    assert np.trace(omega) == pytest.approx(60)
    assert solution.v1 == pytest.approx(np.trace(omega @ inverse) / 60, rel=1e-11)
    assert solution.v2 == pytest.approx(np.trace(inverse) / 60, rel=1e-11)


def test_what_is_measured():
    W, v, theta = weights()
    bulk = srfx.EmpiricalBulk.from_weights(W, 3 * v, 0.2 * theta)
    unit, goal = v / np.linalg.norm(v), theta / np.linalg.norm(theta)
    assert bulk.r == pytest.approx((W @ unit).mean())
    assert bulk.gamma == pytest.approx(unit @ goal)
    assert (bulk.p, bulk.d) == (60, 80)
    np.testing.assert_allclose(np.sum(bulk.vectors**2, axis=1)[3], 60)  # a rotation of ones
    np.testing.assert_allclose(np.sum(bulk.vectors[0] ** 2), np.sum((W @ unit - bulk.r) ** 2))
    assert bulk.eigenvalues.sum() == pytest.approx(60 * bulk.c)
    again = pickle.loads(pickle.dumps(bulk))
    model = SpikedRF(beta=0.75)
    assert solve(model, 1, 0.1, bulk=again).test_error == solve(model, 1, 0.1, bulk=bulk).test_error


def test_given_weights_satisfy_the_envelope():
    W, v, theta = weights()
    bulk = srfx.EmpiricalBulk.from_weights(
        W + 0.5 * np.outer(np.ones(60), theta) / np.linalg.norm(theta), theta + v, theta
    )
    model = SpikedRF("relu", "tanh", beta=0.75, noise=0.1)
    lam, step, ratio = 0.1, 1e-4, 2 / 0.75
    loss = [
        (s := solve(model, 2, x, bulk=bulk)).train_error + x / ratio * s.q2
        for x in (lam - step, lam + step)
    ]
    q2 = solve(model, 2, lam, bulk=bulk).q2
    assert (loss[1] - loss[0]) / (2 * step) == pytest.approx(q2 / ratio, rel=1e-6)


def test_weights_of_spiked_features_give_the_isotropic_theory_on_average():
    model = SpikedRF("tanh", "sin", r=0.9, gamma=0.8, c=1.2)
    given = [
        solve(
            model,
            [0.5, 2],
            0.1,
            bulk=srfx.EmpiricalBulk.from_weights(*simulation.sample_weights(model, d=500, seed=s)),
        )
        for s in range(8)
    ]
    theory = solve(model, [0.5, 2], 0.1, d=500)
    for name, slack in (("test_error", 0.01), ("v1", 0.002), ("q2", 0.01)):
        values = np.array([getattr(s, name) for s in given]) / getattr(theory, name)
        bound = 4 * values.std(axis=0, ddof=1) / np.sqrt(len(values)) + slack
        assert (np.abs(values.mean(axis=0) - 1) < bound).all(), (name, values.mean(axis=0), bound)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"W": np.ones(5)}, ValueError, r"W must be a matrix of shape \(p, d\).*got shape \(5,\)"),
        ({"W": np.ones((1, 80))}, ValueError, r"at least 2; got shape \(1, 80\)"),
        (
            {"W": np.full((60, 80), np.nan)},
            ValueError,
            r"W must be .*finite.*; got nan at index \(0, 0\)",
        ),
        ({"W": "weights"}, TypeError, "W must be"),
        ({"v": np.ones(60)}, ValueError, r"v must be a vector of length d = 80.*got shape \(60,\)"),
        ({"v": np.zeros(80)}, ValueError, "v must not be the zero vector; got norm 0 .*no step"),
        (
            {"theta": np.ones((80, 1))},
            ValueError,
            r"theta must be a vector of length d = 80.*got shape \(80, 1\)",
        ),
        (
            {"theta": np.full(80, np.inf)},
            ValueError,
            "theta must be a finite vector.*; got inf at index 0",
        ),
        ({"theta": np.zeros(80)}, ValueError, "theta must not be the zero vector"),
        ({"W": np.full((60, 80), 1e200)}, ValueError, "between 1e-70 and 1e70.*got 1e"),
        ({"W": np.full((60, 80), 1e-200)}, ValueError, "between 1e-70 and 1e70.*got 1e-200"),
        (
            {"W": np.outer(np.ones(60), np.arange(80.0)), "v": np.arange(80.0)},
            ValueError,
            "orthogonal to v",
        ),
    ],
)
def test_bad_weights_are_refused(change, kind, message):
    good = dict(zip(("W", "v", "theta"), weights(), strict=True))
    with pytest.raises(kind, match=message):
        srfx.EmpiricalBulk.from_weights(**(good | change))


@pytest.mark.parametrize(
    ("model", "options", "kind", "message"),
    [
        (SpikedRF(beta=0.75), {"d": 79}, ValueError, "d must be None or that of the weights, 80"),
        (SpikedRF(), {}, ValueError, "beta must be that of the weights, p/d = 60/80"),
        (SpikedRF(beta=0.75, r=[1, 2]), {}, ValueError, "r must be a single number"),
        (OneStep(beta=0.75, eta=[1, 2]), {}, ValueError, "eta must be a single number"),
        (SpikedRF(beta=0.75), {"lam": 0}, ValueError, "lam must be > 0 with an EmpiricalBulk"),
        (SpikedRF(beta=0.75, readout=(1, 2)), {}, NotImplementedError, "single readout value"),
    ],
)
def test_contradictions_to_the_weights_are_refused(model, options, kind, message):
    bulk = srfx.EmpiricalBulk.from_weights(*weights())
    with pytest.raises(kind, match=message):
        solve(model, **({"alpha": 1, "lam": 0.1, "bulk": bulk} | options))


def test_a_solution_for_given_weights_carries_their_spike():
    W, v, theta = weights()
    bulk = srfx.EmpiricalBulk.from_weights(W, v, theta)
    for model in (SpikedRF("relu", "tanh", r=5, beta=0.75), OneStep("relu", "tanh", beta=0.75)):
        solution = solve(model, [1, 2], 0.1, bulk=bulk)
        ds = solution.to_xarray()
        for name in ("r", "c", "gamma"):
            assert ds[name] == getattr(bulk, name)
            assert solution.inputs[name].tolist() == [getattr(bulk, name)] * 2
        assert not {"eta", "alpha0"} & (set(ds.coords) | set(solution.to_dataframe()))
        assert ds.attrs["bulk"] == "empirical"
        best = srfx.optimal(model, over={"lam": (1e-2, 1)}, alpha=2, bulk=bulk)
        assert best["r"] == bulk.r
        assert best.attrs["bulk"] == "empirical"


def test_rows_that_differ_too_much_are_warned_of():
    """Two readout values of opposite sign: one mean spike does not describe the rows."""
    W, v, theta = weights(200, 300)
    unit = v / np.linalg.norm(v)
    signs = np.where(np.arange(200) % 2, 1.0, -1.0)
    srfx.EmpiricalBulk.from_weights(W + np.outer(1 + 0.2 * signs, unit), v, theta)
    with pytest.warns(srfx.AccuracyWarning, match=r"W v/\|v\| has variance 0\.8. c"):
        srfx.EmpiricalBulk.from_weights(W + np.outer(0.9 * signs, unit), v, theta)
    with pytest.warns(srfx.AccuracyWarning, match=r"squared norms of the rows vary by"):
        srfx.EmpiricalBulk.from_weights(W * np.where(signs > 0, 2, 0.5)[:, None], v, theta)


@pytest.mark.parametrize("target", ["sin", "relu"])
@pytest.mark.parametrize("alpha0", [0.25, 1, 10])
@pytest.mark.parametrize("eta", [0.5, 2])
def test_weights_that_look_transposed_are_warned_of(eta, alpha0, target):
    """A kernel of flax, keras or scikit-learn: (d, p), of the right shape where p = d."""
    model = OneStep("tanh", target, eta=eta, alpha0=alpha0)
    W, v, theta = simulation.sample_weights(model, d=200, seed=3)
    srfx.EmpiricalBulk.from_weights(W, v, theta)  # says nothing
    leading = np.linalg.svd(W.T)[2][0]  # a v taken from the kernel; theta tells
    for given in (v, leading):
        with pytest.warns(srfx.AccuracyWarning) as caught:
            srfx.EmpiricalBulk.from_weights(W.T, given, theta)
        said = str(caught[0].message)
        assert said.startswith("W looks transposed: its columns align with v or theta")
        assert said.endswith("have shape (d, p): pass W.T")
        assert caught[0].filename == __file__


def test_readouts_of_both_signs_tell_the_layout_too():
    model = OneStep(eta=3, readout=(1, -1))
    W, v, _ = simulation.sample_weights(model, d=200, seed=3)
    assert srfx.weights._fits_transposed(W.T, v / np.linalg.norm(v))
    assert not srfx.weights._fits_transposed(W, v / np.linalg.norm(v))


def random_weights(rng, p):
    """Square weights of many laws, with and without a spike, and a v and a theta."""
    unit = lambda x: x / np.linalg.norm(x)  # noqa: E731
    theta = unit([rng.standard_normal(p), np.ones(p), np.abs(rng.standard_normal(p))][p % 3])
    gamma = rng.choice([0.0, 0.5, 1.0])
    across = rng.standard_normal(p)
    v = gamma * theta + np.sqrt(1 - gamma**2) * unit(across - across @ theta * theta)
    bulk = [
        rng.standard_normal((p, p)),
        rng.standard_t(3, (p, p)),
        rng.uniform(0, 1, (p, p)),
        rng.standard_normal((p, 3)) @ rng.standard_normal((3, p)),
        rng.standard_normal((p, p)) * np.exp(rng.standard_normal((p, 1))),
        rng.standard_normal((p, p)) * np.exp(rng.standard_normal((1, p))),
    ][rng.integers(6)]
    r = rng.choice([0.0, 0.1, 1.0, 10.0]) * np.linalg.norm(bulk) / np.sqrt(p)
    return bulk + r * np.outer(np.ones(p), v), v, theta


def test_random_weights_do_not_look_transposed():
    rng = np.random.default_rng(0)
    for p in (2, 3, 5, 10, 31, 100):
        for _ in range(150):
            W, v, theta = random_weights(rng, p)
            assert not srfx.weights._fits_transposed(W, v)
            assert not srfx.weights._fits_transposed(W, theta)


def test_no_step_tells_no_layout():
    for seed in range(10):
        W, _, theta = simulation.sample_weights(OneStep(alpha0=0), d=100, seed=seed)
        v = np.random.default_rng(seed).standard_normal(100)
        srfx.EmpiricalBulk.from_weights(W, v, theta)
        srfx.EmpiricalBulk.from_weights(W.T, v, theta)


def test_a_layout_that_the_shape_shows():
    W, v, theta = weights()
    with pytest.raises(ValueError, match=r"^v must be .*d = 60.*W looks transposed.*pass W\.T$"):
        srfx.EmpiricalBulk.from_weights(W.T, v, theta)
    with pytest.raises(ValueError, match=r"^theta must be .*W looks transposed.*pass W\.T$"):
        srfx.EmpiricalBulk.from_weights(W.T, v[:60], theta)
    with pytest.raises(ValueError, match=r"^v must be .*got shape \(70,\)$"):
        srfx.EmpiricalBulk.from_weights(W, v[:70], theta)


class Tensor:
    """A tensor of torch that NumPy cannot read: words and kind of the error are torch's."""

    def __init__(self, error):
        self.error = error

    def detach(self):
        return self

    def __array__(self, *_, **__):
        raise self.error


UNREADABLE = [
    RuntimeError(
        "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
    ),
    TypeError("Got unsupported ScalarType BFloat16"),
    TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy"),
]


@pytest.mark.parametrize("error", UNREADABLE, ids=["gradient", "bfloat16", "device"])
@pytest.mark.parametrize("name", ["W", "v", "theta"])
def test_tensors_that_numpy_cannot_read(name, error):
    good = dict(zip(("W", "v", "theta"), weights(), strict=True))
    with pytest.raises(TypeError) as caught:
        srfx.EmpiricalBulk.from_weights(**(good | {name: Tensor(error)}))
    said = str(caught.value)
    assert said.startswith(f"{name} must be a finite ")
    assert f"Tensor that NumPy cannot read ({str(error)[:60]}" in said
    assert said.endswith(f": pass {name}.detach().cpu().double().numpy()")
    with pytest.raises(TypeError, match=r"^alpha must be .*pass alpha\.detach\(\)"):
        solve(SpikedRF(), Tensor(error), 0.1)
    with pytest.raises(ValueError, match=r"^fn must return .*let it return values\.detach\(\)"):
        srfx.Activation(lambda x: Tensor(error))
    with pytest.raises(TypeError, match=r"a list that NumPy cannot read .*: pass W as a float64 "):
        srfx.EmpiricalBulk.from_weights(**(good | {"W": [Tensor(error)] * 60}))


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "longdouble"])
def test_weights_of_every_precision_are_converted(kind):
    if kind == "bfloat16":
        kind = pytest.importorskip("ml_dtypes").bfloat16
    given = [x.astype(kind) for x in weights()]
    bulk = srfx.EmpiricalBulk.from_weights(*given)
    want = srfx.EmpiricalBulk.from_weights(*(x.astype(np.float64) for x in given))
    assert np.array_equal(bulk.eigenvalues, want.eigenvalues)
    assert np.array_equal(bulk.vectors, want.vectors)


def test_endless_data_for_a_target_without_a_linear_part():
    """An odd activation makes no step then; with any other the direction of the spike is void."""
    point = dict(alpha=2, lam=0.1, bulk="one_step")
    none = solve(OneStep("tanh", "hermite2", eta=2, alpha0=0), **point)
    endless = solve(OneStep("tanh", "hermite2", eta=2, alpha0=np.inf), **point)
    assert endless.test_error == pytest.approx(none.test_error, rel=1e-12)
    for target in ("hermite2", "hermite4", "abs"):
        with pytest.raises(ValueError, match=f"alpha0 must be finite .* target '{target}'"):
            solve(OneStep("relu", target, eta=1, alpha0=[1, np.inf]), **point)
    solve(OneStep("relu", "hermite2", eta=0, alpha0=np.inf), **point)


def test_what_one_step_does_not_cover_is_refused():
    with pytest.raises(
        ValueError, match=r"bulk='one_step' needs an srfx\.OneStep model.*got SpikedRF"
    ):
        solve(SpikedRF(), 1, 0.1, bulk="one_step")
    with pytest.raises(ValueError, match="lam must be > 0 with bulk='one_step'; got 0"):
        solve(OneStep(), 1, [0.1, 0], bulk="one_step")
    with pytest.raises(
        TypeError,
        match="bulk must be 'isotropic', 'one_step', 'multi_step' or an EmpiricalBulk; got 3",
    ):
        solve(OneStep(), 1, 0.1, bulk=3)


# --- the learned function ---


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_learned_function(activation):
    """f(t) is the best a function of t can do with the network: the error exceeds E (s* - f)^2."""
    model = OneStep(activation, "sin", eta=2, alpha0=0.5)
    t, w = np.polynomial.hermite_e.hermegauss(60)
    w = w / w.sum()
    f = srfx.learned_function(model, [0.5, 3], 0.1, t, bulk="one_step")
    assert f.shape == (2, 60)
    explained = ((f - np.sin(t)) ** 2) @ w
    test_error = solve(model, [0.5, 3], 0.1, bulk="one_step").test_error
    assert (explained < test_error).all()
    assert (explained > 0.05 * test_error).all()


def test_learned_function_without_a_step():
    model = OneStep("relu", "tanh", eta=0)
    plain = SpikedRF("relu", "tanh", r=0)
    t = np.linspace(-3, 3, 7)
    np.testing.assert_allclose(
        srfx.learned_function(model, 2, 0.1, t, bulk="one_step", d=500),
        srfx.learned_function(dataclasses.replace(plain, gamma=0.0), 2, 0.1, t, d=500),
        atol=1e-11,
    )


def test_the_program(capsys):
    from srfx import cli

    line = "solve --eta 0.4 --alpha0 20 --beta 0.5 --target tanh --alpha 5 --lam 0.1"
    assert cli.run([*line.split(), "--bulk", "one_step", "--d", "600"]) == 0
    shown = capsys.readouterr()
    assert "0.0650373167" in shown.out  # stated: .06503732
    assert shown.err == ""
