"""Several readout values in the actual one-step network (THEORY section 10)."""

from __future__ import annotations

import numpy as np
import pytest

import srfx
from srfx import _core, reference
from srfx.models import compiled

VECTORS = ("m", "theta", "psi", "q2", "v2")


def step(name, target, readout, weights=None, **options):
    return srfx.OneStep(name, target, readout=readout, weights=weights, **options)


def one_step(model, **options):
    return srfx.solve(model, bulk="one_step", **options)


def test_the_reference_value_of_theory_10():
    sol = one_step(step("tanh", "sin", (0.5, 1.5), eta=2, alpha0=0.5), alpha=1, lam=0.1)
    assert sol.test_error == pytest.approx(0.28115963, abs=5e-9)
    assert sol.train_error == pytest.approx(0.07045661, abs=5e-9)
    assert sol.m.shape == (2,)
    assert sol.v1.shape == (2, 2)


CASES = [
    ("tanh", "sin", dict(eta=3, alpha0=0.25), dict(alpha=2, lam=0.1)),
    ("relu", "relu", dict(eta=1, alpha0=2), dict(alpha=1, lam=0.3)),
    ("tanh", "tanh", dict(eta=0.4, alpha0=20, beta=0.5), dict(alpha=5, lam=0.1, d=600)),
    ("gelu", "relu", dict(eta=2, alpha0=1, beta=2, noise=0.2), dict(alpha=1, lam=0.3)),
    ("tanh", "sin", dict(eta=1, alpha0=1e3), dict(alpha=1, lam=1e-3)),
    ("tanh", "sin", dict(eta=0, alpha0=1), dict(alpha=1, lam=0.1, d=400)),
]


@pytest.mark.parametrize(("name", "target", "model", "point"), CASES)
@pytest.mark.parametrize("a", [1.0, 0.6])
def test_identical_readouts_are_one(name, target, model, point, a):
    """The code for one value shares no equation with that for groups."""
    one = one_step(step(name, target, (a,), **model), **point)
    merged = one_step(step(name, target, (a, a), (0.3, 0.7), **model), **point)
    x = {key: np.array([float(v)]) for key, v in ({"beta": 1.0, "noise": 0.0} | model).items()}
    apart = _core.solve_one_step_groups(
        compiled(name), compiled(target), [a, a], [0.3, 0.7], x["eta"], 1 / x["alpha0"], x["noise"],
        np.zeros(1, dtype=np.int64), x["beta"], x["noise"], np.array([float(point["alpha"])]),
        np.array([point["lam"]]), np.array([1 / point.get("d", np.inf)]), 1, 1, False,
    )  # fmt: skip
    for key in ("test_error", "train_error"):
        assert getattr(merged, key) == pytest.approx(getattr(one, key), rel=1e-10)
        assert apart[key][0] == pytest.approx(getattr(one, key), rel=1e-10)
    for key in VECTORS:
        np.testing.assert_allclose(
            getattr(merged, key), getattr(one, key) * np.array([0.3, 0.7]), rtol=1e-8, atol=1e-10
        )
        assert apart[key].sum() == pytest.approx(getattr(one, key), rel=1e-8, abs=1e-10)
    assert merged.residual < 1e-12
    assert apart["residual"][0] < 1e-12


@pytest.mark.parametrize("lam", [1e-2, 1e-5, 1e-8])
@pytest.mark.parametrize("readout", [(2.0, 1.0), (1.6, -0.5, 0.9), (1.0, 2.0, 3.0, 4.0)])
def test_linear_networks_have_one_value(readout, lam):
    """Neurons of linear networks may be rotated into each other: only the mean square counts.

    The features of the groups are parallel: all but one of their combinations do not act at all.
    """
    options = dict(alpha0=0.7, beta=4, noise=0.1)
    several = one_step(step("linear", "tanh", readout, eta=1.5, **options), alpha=2, lam=lam)
    rms = float(np.sqrt(np.mean(np.square(readout))))
    one = one_step(step("linear", "tanh", (1,), eta=1.5 * rms, **options), alpha=2, lam=lam)
    for key in ("test_error", "train_error"):
        assert getattr(several, key) == pytest.approx(getattr(one, key), rel=1e-10)
    assert several.residual < 1e-12


LARGE_STEPS = [
    ("softplus", "tanh", dict(eta=16.3, alpha0=0.028, beta=6.7), (0.5, 0.8, 1.2, 1.5), 3.5, 1e-3),
    (
        "softplus",
        "sign",
        dict(eta=5.15, alpha0=0.06, beta=8.4),
        (1.66, 1.72, 0.76, 1.96),
        9.3,
        0.02,
    ),
    ("relu", "relu", dict(eta=9.8, alpha0=0.011, beta=2.9, noise=0.1), (1, 2, 3, 4), 1.5, 4e-7),
    ("leaky_relu", "tanh", dict(eta=19.6, alpha0=760, beta=6.7), (0.6, 0.9, 0.8, 0.4), 3.7, 2e-7),
    ("tanh", "sin", dict(eta=50 / 3, alpha0=100), (0.1, 1, 1.2, 0.7), 0.8, 1e-8),
    ("erf", "sin", dict(eta=15, alpha0=100), (0.1, 1, 1.2, 0.7), 0.8, 1e-8),
    ("softplus", "relu", dict(eta=4.77, alpha0=693, beta=0.89), (1.2, 1.2, 1.4, 1.4), 1.14, 2.6e-7),
]


@pytest.mark.parametrize(("name", "target", "model", "readout", "alpha", "lam"), LARGE_STEPS)
def test_large_steps_leave_nearly_parallel_features(name, target, model, readout, alpha, lam):
    """Errors of copies of the groups, in another order and with other weights, are the same."""
    a = one_step(step(name, target, readout, **model), alpha=alpha, lam=lam)
    assert a.residual < 1e-10
    halves = (*readout[::-1], readout[0])
    weights = (0.25, 0.25, 0.25, 0.1, 0.15)
    b = one_step(step(name, target, halves, weights, **model), alpha=alpha, lam=lam)
    assert b.test_error == pytest.approx(a.test_error, rel=1e-8)
    # one solution as lam falls: continuous, and the training error grows with lam
    near = one_step(step(name, target, readout, **model), alpha=alpha, lam=lam * 1.001)
    assert near.test_error == pytest.approx(a.test_error, rel=5e-3)
    assert near.train_error > a.train_error


def test_values_that_overflow_are_an_error():
    with pytest.raises(srfx.ConvergenceError, match="Numbers overflowed"):
        one_step(step("tanh", "sin", (1, 2e300), eta=3, alpha0=5), alpha=2, lam=0.1)


#: lam and the test error that srfx.reference.solve_one_step finds, in half a minute a point.
SATURATED = {
    1e-8: 421.931599976,
    1e-7: 164.289818724,
    1e-6: 28.0117941914,
    1e-5: 3.79213597111,
    1e-4: 0.54502541966,
}


def test_saturated_features_at_a_small_penalty():
    """Weighted by w, the features of the smallest readout value are the largest."""
    model = step("tanh", "sin", (0.1, 1, 1.2), eta=50 / 3, alpha0=100)
    sol = one_step(model, alpha=0.8, lam=list(SATURATED))
    np.testing.assert_allclose(sol.test_error, list(SATURATED.values()), rtol=1e-10)
    assert sol.residual.max() < 1e-11


def test_the_mean_of_identical_values_where_the_two_forms_differ():
    """At finite d and h2 != 0 section 10 has two leading-order forms of the mean's damping."""
    options = dict(eta=2, alpha0=1, beta=2, noise=0.2)
    one = one_step(step("gelu", "relu", (1,), **options), alpha=1, lam=0.3, d=900)
    two = one_step(step("gelu", "relu", (1, 1), **options), alpha=1, lam=0.3, d=900)
    assert two.test_error == pytest.approx(one.test_error, rel=1e-5)


def test_the_order_and_the_sign_of_values():
    options = dict(eta=2, alpha0=1)
    a = one_step(step("tanh", "sin", (0.5, -1.5), **options), alpha=1, lam=0.1, d=500)
    b = one_step(step("tanh", "sin", (1.5, 0.5), **options), alpha=1, lam=0.1, d=500)
    assert a.test_error == pytest.approx(b.test_error, rel=1e-12)
    np.testing.assert_allclose(a.m, [b.m[1], -b.m[0]], rtol=1e-9)
    np.testing.assert_allclose(a.theta, b.theta[::-1], rtol=1e-9)


def test_no_step_is_the_plain_network():
    model = step("relu", "tanh", (0.5, 1.5), alpha0=0, eta=1)
    plain = srfx.solve(srfx.SpikedRF("relu", "tanh", r=0, gamma=0), alpha=1, lam=0.1, d=500)
    sol = one_step(model, alpha=1, lam=0.1, d=500)
    assert sol.test_error == pytest.approx(plain.test_error, rel=1e-10)


def test_a_value_of_zero_and_small_penalties():
    model = step("relu", "tanh", (0, 1, -0.3), eta=1, alpha0=1, noise=0.1)
    sol = one_step(model, alpha=[0.5, 1, 2], lam=[[1e-8], [1e-3], [1.0]], d=600)
    assert sol.residual.max() < 1e-10
    assert np.all(sol.test_error > 0)


def test_the_learned_function_of_identical_values():
    options = dict(alpha=1, lam=0.1, t=[-1, 0.3, 2], bulk="one_step")
    one = srfx.learned_function(step("tanh", "sin", (1,), eta=2, alpha0=1), **options)
    two = srfx.learned_function(step("tanh", "sin", (1, 1, -1), eta=2, alpha0=1), **options)
    np.testing.assert_allclose(two, one, rtol=1e-9)


def test_points_do_not_depend_on_company_or_threads():
    model = step("tanh", "sin", (0.5, 1.5), eta=[1, 2], alpha0=1)
    a = one_step(model, alpha=[[0.5], [2]], lam=0.1, n_threads=1)
    b = one_step(model, alpha=[[0.5], [2]], lam=0.1, n_threads=2)
    np.testing.assert_array_equal(a.test_error, b.test_error)
    alone = one_step(step("tanh", "sin", (0.5, 1.5), eta=2, alpha0=1), alpha=2, lam=0.1)
    assert alone.test_error == a.test_error[1, 1]


@pytest.mark.parametrize(("name", "readout"), [("tanh", (1, 2)), ("relu", (1, 2))])
def test_bits_do_not_depend_on_the_pack(name, readout):
    """Lanes settle after different numbers of steps, and none moves when it has."""
    model = step(name, "sin", readout, eta=2, alpha0=3)
    alpha = np.linspace(0.1, 5, 50)
    together = one_step(model, alpha=alpha, lam=0.1).test_error
    others = one_step(model, alpha=np.append(alpha[3:], 2.0), lam=0.1).test_error
    np.testing.assert_array_equal(others[:-1], together[3:])
    alone = [one_step(model, alpha=x, lam=0.1).test_error for x in alpha]
    np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize("d", [None, 400])
@pytest.mark.parametrize(
    ("name", "readout"), [("tanh", (0.4, 1.1, -1.7)), ("relu", (0.5, 1.5)), ("gelu", (1, 2, 3))]
)
def test_a_point_of_a_pack_is_the_point_alone(name, readout, d):
    model = step(name, "sin", readout, eta=3, alpha0=0.7, noise=0.1)
    alpha, lam = np.geomspace(0.3, 9, 11), np.geomspace(1e-5, 1, 11)
    pack = one_step(model, alpha=alpha, lam=lam, d=d)
    assert np.all(pack.residual < 1e-11)
    for i in (0, 4, 10):
        alone = one_step(model, alpha=alpha[i], lam=lam[i], d=d)
        for field in ("test_error", "train_error", "m", "q1", "v1", "residual"):
            np.testing.assert_array_equal(getattr(pack, field)[i], getattr(alone, field), field)


def test_what_section_10_does_not_derive_is_refused():
    shifted = srfx.Activation(
        lambda x: np.tanh(x + 0.7), derivative=lambda x: 1 / np.cosh(x + 0.7) ** 2
    )
    with pytest.raises(NotImplementedError, match="supports several readout values for an activ"):
        one_step(step(shifted, "sin", (1, 2)), alpha=1, lam=1)
    with pytest.raises(ValueError, match="readout must have at most 32 values; got 33"):
        one_step(step("tanh", "sin", (1,) * 33), alpha=1, lam=1)


@pytest.mark.parametrize(
    ("name", "target", "readout", "model"),
    [
        ("tanh", "sin", (0.5, 1.5), dict(eta=2, alpha0=1)),
        ("relu", "tanh", (0.3, 1.7), dict(eta=1, alpha0=2)),
    ],
)
def test_simulated_networks(name, target, readout, model):
    """Two values, d = 600: within 4 standard errors and 1.5 %."""
    network = step(name, target, readout, **model)
    ds = srfx.simulate(network, alpha=1.5, lam=0.1, d=600, replicates=16, seed=3)
    simulated = ds.test_error.values.ravel()
    error = simulated.std(ddof=1) / np.sqrt(simulated.size)
    theory = one_step(network, alpha=1.5, lam=0.1, d=600).test_error
    assert abs(simulated.mean() - theory) < 4 * error + 0.015 * theory


@pytest.mark.parametrize(
    ("name", "model", "point"),
    [
        ("relu", dict(eta=2, alpha0=5), dict(alpha=[1.2, 3], lam=0.1)),
        ("gelu", dict(eta=4, alpha0=20), dict(alpha=2, lam=0.1)),
        ("softplus", dict(eta=2, alpha0=[2, 1000]), dict(alpha=1, lam=1e-3)),
        ("relu", dict(eta=20, alpha0=0.05, beta=3), dict(alpha=2, lam=1e-8)),
        ("gelu", dict(eta=20, alpha0=1000, beta=0.2), dict(alpha=0.4, lam=1e-8)),
        ("tanh", dict(eta=20, alpha0=[0.01, 1000]), dict(alpha=2, lam=1e-8)),
    ],
)
def test_large_steps_on_much_data(name, model, point):
    """Where plain iterations of the bulk's equations diverge its state is followed in lam."""
    sol = one_step(step(name, "tanh", (1, 2), (0.6, 0.4), **model), **point)
    assert np.all(np.asarray(sol.status) == srfx.Status.CONVERGED)
    assert np.all(sol.residual < 1e-9)
    assert np.all((np.asarray(sol.v2) > 0) & np.isfinite(sol.q2))
    # The state belongs to the branch that lam -> infinity leads to: training errors grow with lam.
    lam = np.asarray(point["lam"]) * np.geomspace(1, 3, 4)
    one = {key: np.ravel(value)[-1] for key, value in model.items()}
    near = one_step(
        step(name, "tanh", (1, 2), (0.6, 0.4), **one),
        **(point | {"lam": lam, "alpha": np.ravel(point["alpha"])[-1]}),
    )
    assert np.all(np.diff(near.train_error) > -1e-10 * near.train_error[0])


@pytest.mark.parametrize(
    ("name", "target", "eta"),
    [("relu", "tanh", 5), ("gelu", "tanh", 1), ("softplus", "sin", 5), ("abs", "sin", 6)],
)
def test_endless_data_are_the_limit_of_much(name, target, eta):
    """Also where the lower half of the bulk's state vanishes with 1/alpha0, without a warning."""
    point = dict(alpha=2, lam=0.1)
    much, more, endless = (
        one_step(step(name, target, (1.0, 2.0), eta=eta, alpha0=size), **point)
        for size in (1e7, 1e12, np.inf)
    )
    assert endless.quadrature_error < 1e-10
    assert endless.test_error == pytest.approx(more.test_error, rel=1e-9)
    assert endless.test_error == pytest.approx(much.test_error, rel=1e-5)
    assert more.m == pytest.approx(endless.m, rel=1e-8)


def test_a_rule_resolves_the_target_where_the_square_of_the_target_tells_nothing():
    # E[s*^2 | k] = 1 for a sign, and the features of hermite3 at r = 0 are resolved by any rule.
    model = srfx.OneStep(
        "hermite3", "sign", eta=5.0, alpha0=14.0, beta=0.68, readout=(0.662, -1.621)
    )
    found = srfx.solve(model, alpha=2.0, lam=0.5, bulk="one_step")
    known = reference.solve_one_step(model, 2.0, 0.5)
    assert found.test_error == pytest.approx(known.test_error, rel=1e-11)
    assert found.train_error == pytest.approx(known.train_error, rel=1e-11)
