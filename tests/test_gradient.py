"""Derivatives of the errors: against high-order differences of other code, and exact identities."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

import srfx
from srfx import reference

# central differences of order 8, and one-sided ones of order 6: coefficient of f(x + j h) by j
CENTRAL = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
BACKWARD = dict(zip(range(7), np.array([147, -360, 450, -400, 225, -72, 10]) / 60, strict=True))


def central(f, x, h):
    return sum(c * (f(x + j * h) - f(x - j * h)) for j, c in CENTRAL.items()) / h


def backward(f, x, h):
    return sum(c * f(x - j * h) for j, c in BACKWARD.items()) / h


POINT = {"r": 0.9, "c": 1.3, "gamma": 0.8, "beta": 0.8, "noise": 0.1, "alpha": 1.5, "lam": 0.05}
NAMES = tuple(POINT)


@pytest.mark.parametrize(
    ("activation", "target", "changes", "d"),
    [
        ("tanh", "sin", {}, None),
        ("tanh", "sin", {"lam": 1e-5, "alpha": 0.8}, None),  # on the interpolation threshold
        ("relu", "tanh", {"gamma": -0.5}, 700),
        ("erf", "sign", {"r": 0.3}, None),
        ("softplus", "relu", {"c": 0.6}, 300),
        ("linear", "sin", {}, None),
    ],
)
def test_gradient_against_differences_of_the_reference(activation, target, changes, d):
    point = POINT | changes
    for name in NAMES:

        def errors(x, name=name):
            values = {k: v for k, v in (point | {name: x}).items()}
            sol = reference.solve(activation, target, d=d, **values)
            return np.array([sol.test_error, sol.train_error], dtype=np.longdouble).ravel()

        step = np.longdouble(4e-3) * max(abs(point[name]), 0.05 if name != "lam" else 0)
        if point["lam"] < 1e-3:  # the peak is narrow
            step /= 20
        if name == "noise":
            step = np.longdouble(0.02)
        expected = central(errors, np.longdouble(point[name]), step)
        model = srfx.SpikedRF(
            activation, target, **{k: v for k, v in point.items() if k not in ("alpha", "lam")}
        )
        sol = srfx.solve(model, alpha=point["alpha"], lam=point["lam"], d=d)
        found = np.array([sol.gradient(name), sol.gradient(name, of="train_error")])
        scale = np.maximum(np.abs(expected), 1e-3 * np.abs(errors(point[name])))
        assert (np.abs(found - expected) < 1e-7 * scale).all(), (name, found, expected)


@pytest.mark.parametrize(("activation", "target"), [("tanh", "sin"), ("relu", "gelu")])
@pytest.mark.parametrize("gamma", [1.0, 1 - 1e-13, 1 - 1e-9, 1 - 1e-5])
def test_gradient_in_gamma_near_one(activation, target, gamma):
    def errors(x):
        sol = reference.solve(activation, target, **(POINT | {"gamma": x}))
        return np.array([sol.test_error, sol.train_error], dtype=np.longdouble).ravel()

    expected = backward(errors, gamma, 2e-3)
    fields = {k: v for k, v in POINT.items() if k not in ("alpha", "lam", "gamma")}
    sol = srfx.solve(
        srfx.SpikedRF(activation, target, gamma=gamma, **fields), POINT["alpha"], POINT["lam"]
    )
    found = [sol.gradient("gamma"), sol.gradient("gamma", of="train_error")]
    np.testing.assert_allclose(found, expected.astype(float), rtol=1e-7)


@pytest.mark.parametrize(
    ("activation", "target", "readout"),
    [("tanh", "sin", (1.0,)), ("tanh", "tanh", (-0.7,)), ("softplus", "relu", (1.0,))],
)
@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
def test_gradient_of_one_step(activation, target, readout):
    point = {"eta": 2.0, "alpha0": 1.2, "noise": 0.2, "beta": 1.1}
    for name, value in point.items():

        def errors(x, name=name):
            model = srfx.OneStep(activation, target, readout=readout, **(point | {name: x}))
            return srfx.solve(model, alpha=1.7, lam=0.03).test_error

        sol = srfx.solve(
            srfx.OneStep(activation, target, readout=readout, **point), alpha=1.7, lam=0.03
        )
        expected = central(errors, value, 5e-3 * value)
        assert sol.gradient(name) == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_errors_are_affine_in_the_noise():
    model = srfx.SpikedRF("relu", "sin", r=[0.5, 1.5], gamma=0.3, noise=[[0.0], [1.0]])
    sol = srfx.solve(model, alpha=1.3, lam=[[[1e-3]], [[1.0]]])
    for of in ("test_error", "train_error"):
        slope = sol.gradient("noise", of=of)
        rise = np.diff(getattr(sol, of), axis=1)
        np.testing.assert_allclose(slope, np.broadcast_to(rise, slope.shape), rtol=1e-10)


def test_envelope():
    # min loss/n = train error + (lam/a') q2, and its derivative in lam is q2/a' (THEORY section 8)
    model = srfx.SpikedRF("relu", "tanh", r=0.7, gamma=0.6, beta=1.4, noise=0.1)
    lam = 0.07

    def q2(x):
        return srfx.solve(model, 1.1, x).q2

    slope = srfx.solve(model, 1.1, lam).gradient("lam", of="train_error")
    expected = -lam / (1.1 / 1.4) * central(q2, lam, 5e-3 * lam)
    assert slope == pytest.approx(expected, rel=1e-8)


GROUPS = [
    # activation, target, readout, changes of POINT, d
    ("tanh", "sin", (0.5, 1.5), {}, None),
    ("tanh", "sin", (1.0, -1.0), {"lam": 1e-5, "alpha": 0.8}, None),  # on the threshold; one group
    ("relu", "tanh", (-0.5, 1.0, 2.0), {"gamma": -0.5}, 700),
]


@pytest.mark.parametrize(("activation", "target", "readout", "changes", "d"), GROUPS)
def test_gradient_of_groups(activation, target, readout, changes, d):
    point = POINT | changes
    h = 1 if point["lam"] > 1e-3 else 0.05  # the peak is narrow

    def model_at(values):
        fields = {k: v for k, v in values.items() if k not in ("alpha", "lam")}
        return srfx.SpikedRF(activation, target, readout=readout, **fields)

    def errors(values):
        sol = srfx.solve(model_at(values), values["alpha"], values["lam"], d=d)
        return np.array([sol.test_error, sol.train_error])

    sol = srfx.solve(model_at(point), point["alpha"], point["lam"], d=d)
    found = {n: [sol.gradient(n), sol.gradient(n, of="train_error")] for n in NAMES}
    scale = 1e-3 * np.abs(errors(point))
    for name in NAMES:
        expected = central(
            lambda x, name=name: errors(point | {name: x}), point[name], 4e-3 * h * point[name]
        )
        assert (np.abs(found[name] - expected) < 1e-7 * np.maximum(np.abs(expected), scale)).all()

    # the reference is slow: all of them at once, along one direction
    direction = dict(zip(NAMES, [0.7, -1.1, 0.2, 0.8, 1.0, -0.6, 0.9], strict=True))

    def of_reference(t):
        values = {k: v * (1 + t * direction[k]) for k, v in point.items()}
        sol = reference.solve_groups(model_at(values), values["alpha"], values["lam"], d)
        return np.array([sol.test_error, sol.train_error])

    expected = central(of_reference, 0.0, 4e-3 * h)
    total = sum(np.array(found[n]) * direction[n] * point[n] for n in NAMES)
    assert (np.abs(total - expected) < 1e-7 * np.maximum(np.abs(expected), scale)).all()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
def test_gradient_of_one_step_groups(activation):
    point = {"eta": 2.0, "alpha0": 1.2, "noise": 0.2, "beta": 1.1}

    def solve(**changes):
        model = srfx.OneStep(activation, "sin", readout=(0.5, 1.5), **(point | changes))
        return srfx.solve(model, alpha=1.7, lam=0.03, d=500)

    for name, value in point.items():
        expected = central(lambda x, name=name: solve(**{name: x}).test_error, value, 5e-3 * value)
        assert solve().gradient(name) == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_gradient_of_identical_groups_is_that_of_one():
    fields = {"r": [0.0, 0.4, 1.1], "gamma": 0.7, "noise": 0.1}
    one = srfx.solve(srfx.SpikedRF("relu", "sin", **fields), 1.3, [[0.01], [1.0]], d=900)
    both = srfx.SpikedRF("relu", "sin", readout=(1.0, 1.0), weights=(0.3, 0.7), **fields)
    two = srfx.solve(both, 1.3, [[0.01], [1.0]], d=900)
    for name in NAMES:
        np.testing.assert_allclose(two.gradient(name), one.gradient(name), rtol=1e-9, atol=1e-12)


def test_gradient_of_groups_near_gamma_one():
    def errors(x):
        model = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=x, readout=(0.5, 1.5))
        return srfx.solve(model, 1.5, 0.05).test_error

    sol = srfx.solve(srfx.SpikedRF("tanh", "sin", r=0.9, gamma=1.0, readout=(0.5, 1.5)), 1.5, 0.05)
    assert sol.gradient("gamma") == pytest.approx(backward(errors, 1.0, 2e-3), rel=1e-7)


def test_envelope_of_groups():
    # THEORY 7: the derivative of the least loss in lam is sum Q2/a'
    model = srfx.SpikedRF("relu", "tanh", r=0.7, gamma=0.6, beta=1.4, noise=0.1, readout=(0.5, 2.0))
    lam = 0.07

    def q2(x):
        return srfx.solve(model, 1.1, x, d=500).q2.sum()

    slope = srfx.solve(model, 1.1, lam, d=500).gradient("lam", of="train_error")
    expected = -lam / (1.1 / 1.4) * central(q2, lam, 5e-3 * lam)
    assert slope == pytest.approx(expected, rel=1e-8)


def test_shapes_and_threads_of_groups():
    model = srfx.SpikedRF(
        r=np.linspace(0.0, 2, 5), gamma=0.9, readout=(0.5, 1.5), noise=[[0.0], [0.1]]
    )
    alpha = np.geomspace(0.1, 9, 30)[:, None, None]
    sol = srfx.solve(model, alpha, 0.1)
    slope = sol.gradient("r", n_threads=1)
    assert slope.shape == (30, 2, 5)
    assert np.isnan(slope[..., 0]).all()  # the error jumps there
    assert np.isfinite(slope[..., 1:]).all()
    np.testing.assert_array_equal(slope, sol.gradient("r", n_threads=2))
    alone = srfx.SpikedRF(r=float(model.r[3]), gamma=0.9, readout=(0.5, 1.5), noise=0.1)
    found = srfx.solve(alone, float(alpha[5, 0, 0]), 0.1).gradient("r")
    assert isinstance(found, float)
    assert found == pytest.approx(slope[5, 1, 3], rel=1e-10)
    above = srfx.solve(srfx.SpikedRF(readout=(0.5, 1.5)), [1.5, 1.0], 0.0, errors="record")
    assert np.isfinite(above.gradient("lam")).tolist() == [True, False]


STEP = {"eta": 2.0, "alpha0": 1.2, "noise": 0.2, "beta": 1.1, "lam": 0.03, "alpha": 1.7}


@pytest.mark.parametrize(
    ("activation", "target", "readout", "changes", "d"),
    [
        ("tanh", "sin", (1.0,), {}, None),  # section 9's path
        ("erf", "relu", (-0.7,), {"alpha0": 0.3, "noise": 0.0}, 500),
        ("relu", "tanh", (1.0,), {}, 500),
        ("gelu", "sign", (1.4,), {"alpha": 1.1, "lam": 1e-4}, None),  # on the threshold
    ],
)
def test_gradient_of_the_actual_step(activation, target, readout, changes, d):
    point = STEP | changes

    def solve(**moved):
        values = point | moved
        alpha, lam = values.pop("alpha"), values.pop("lam")
        model = srfx.OneStep(activation, target, readout=readout, **values)
        return srfx.solve(model, alpha, lam, d=d, bulk="one_step")

    sol = solve()
    for name, value in point.items():
        scale = 20 if point["lam"] < 1e-3 and name in ("alpha", "beta") else 1
        step = 5e-3 * value / scale
        if value == 0:
            continue
        for of in ("test_error", "train_error"):
            expected = central(lambda x, n=name, o=of: getattr(solve(**{n: x}), o), value, step)
            found = sol.gradient(name, of=of)
            assert found == pytest.approx(expected, rel=1e-7, abs=1e-10), (name, of)


def test_gradient_of_the_actual_step_at_no_noise():
    # errors are smooth in the noise from 0 on
    model = srfx.OneStep("tanh", "sin", eta=2, alpha0=0.8)

    def error(x):
        sol = srfx.solve(dataclasses.replace(model, noise=x), 1.5, 0.05, bulk="one_step")
        return sol.test_error

    found = srfx.solve(model, 1.5, 0.05, bulk="one_step").gradient("noise")
    assert found == pytest.approx(-backward(lambda x: error(-x), 0.0, 2e-2), rel=1e-6)


def test_gradient_of_the_actual_step_against_the_reference():
    pytest.importorskip("scipy")

    def solve(verb, t, **options):
        values = {k: v * (1 + c * t) for (k, v), c in zip(STEP.items(), weights, strict=True)}
        alpha, lam = values.pop("alpha"), values.pop("lam")
        return verb(srfx.OneStep("tanh", "sin", **values), alpha, lam, **options)

    weights = [0.7, -1.1, 0.6, 0.8, 1.0, -0.6]
    expected = central(lambda t: solve(reference.solve_one_step, t).test_error, 0.0, 4e-3)
    sol = solve(srfx.solve, 0.0, bulk="one_step")
    total = sum(sol.gradient(k) * v * c for (k, v), c in zip(STEP.items(), weights, strict=True))
    assert total == pytest.approx(expected, rel=1e-7)


def test_gradient_of_given_weights():
    model = srfx.OneStep("tanh", "sin", eta=2, alpha0=0.8)
    w, v, theta = srfx.simulation.sample_weights(model, d=120, seed=1)
    bulk = srfx.EmpiricalBulk.from_weights(w, v, theta)
    point = {"lam": 0.03, "alpha": 1.7, "noise": 0.2}

    def solve(**moved):
        values = point | moved
        changed = dataclasses.replace(model, noise=values["noise"])
        return srfx.solve(changed, values["alpha"], values["lam"], bulk=bulk)

    sol = pickle.loads(pickle.dumps(solve()))
    for name, value in point.items():
        for of in ("test_error", "train_error"):
            expected = central(
                lambda x, n=name, o=of: getattr(solve(**{n: x}), o), value, 5e-3 * value
            )
            assert sol.gradient(name, of=of) == pytest.approx(expected, rel=1e-8)
    with pytest.raises(ValueError, match="name must be one of 'lam', 'alpha', 'noise'; got 'eta'"):
        sol.gradient("eta")


def test_limits_and_shapes_of_the_actual_step():
    model = srfx.OneStep(eta=2.0, alpha0=[0.5, 3.0, np.inf], noise=0.1)
    sol = srfx.solve(model, [[0.7], [1.6]], 0.1, bulk="one_step")
    slope = sol.gradient("alpha0", n_threads=1)
    assert slope.shape == (2, 3)
    assert (slope[:, 2] == 0).all()
    assert (slope[:, :2] != 0).all()
    np.testing.assert_array_equal(slope, sol.gradient("alpha0", n_threads=2))
    still = srfx.solve(srfx.OneStep(eta=[0.0, 2.0], alpha0=0.0), 1.2, 0.1, bulk="one_step")
    plain = srfx.solve(srfx.SpikedRF(r=0), 1.2, 0.1)
    np.testing.assert_allclose(still.gradient("lam"), plain.gradient("lam"), rtol=1e-10)
    np.testing.assert_array_equal(still.gradient("eta"), 0)

    def error(x):
        return srfx.solve(srfx.OneStep("relu", "tanh", eta=x), 1.2, 0.1, bulk="one_step").test_error

    at_zero = srfx.solve(srfx.OneStep("relu", "tanh", eta=0.0), 1.2, 0.1, bulk="one_step")
    assert at_zero.gradient("eta") == pytest.approx(central(error, 0.0, 1e-2), rel=1e-6)


@pytest.mark.parametrize("bulk", ["isotropic", "one_step"])
@pytest.mark.parametrize(
    ("sigma", "target"), [("relu", "relu"), ("softplus", "sigmoid"), ("hermite2", "relu")]
)
@pytest.mark.parametrize("d", [None, 80])
@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
def test_the_first_small_step(bulk, sigma, target, d):
    """At eta = 0 and next to it, where the error is smooth: against differences."""

    def model(eta):
        return srfx.OneStep(sigma, target, eta=eta, alpha0=2.0, noise=0.1)

    def error(eta):
        return srfx.solve(model(eta), 1.0, 0.1, d=d, bulk=bulk).test_error

    at = srfx.solve(model([0.0, 1e-9, 1e-6]), 1.0, 0.1, d=d, bulk=bulk)
    slope = at.gradient("eta")
    np.testing.assert_allclose(slope[1:], central(error, 0.0, 2e-3), rtol=1e-4)
    if sigma == "hermite2" and d is None:
        assert np.isnan(slope[0])
    else:
        assert slope[0] == pytest.approx(central(error, 0.0, 2e-3), rel=1e-9)


@pytest.mark.parametrize("bulk", ["isotropic", "one_step"])
def test_an_odd_network_does_not_see_the_sign_of_its_first_step(bulk):
    """The error is even in eta: the derivative is 0 at d < inf, and of the order of eta beside."""
    model = srfx.OneStep("tanh", "sin", eta=[0.0, 1e-8, 1e-6, 1e-4], alpha0=2.0)
    slope = srfx.solve(model, 1.0, 0.1, d=80, bulk=bulk).gradient("eta")
    assert abs(slope[0]) < 1e-15
    np.testing.assert_allclose(slope[1:3] / [1e-8, 1e-6], slope[3] / 1e-4, rtol=2e-4)


def test_there_is_no_derivative_where_the_error_jumps():
    """Without d a spike of any size is a feature to fit with, if it is of use."""
    for bulk, readout in (("isotropic", (1.0,)), ("one_step", (1.0,)), ("isotropic", (1.0, 2.0))):
        model = srfx.OneStep("tanh", "sin", eta=[0.0, 0.1], readout=readout)
        sol = srfx.solve(model, 1.0, 0.1, bulk=bulk)
        for of in ("test_error", "train_error"):
            assert np.isnan(sol.gradient("eta", of=of)).tolist() == [True, False]
        assert np.isfinite(sol.gradient("lam")).all()
        plain = srfx.OneStep("tanh", "hermite2", eta=0.0, readout=readout)
        assert abs(srfx.solve(plain, 1.0, 0.1, bulk=bulk).gradient("eta")) < 1e-12


def test_symmetries_of_the_gradient():
    sol = srfx.solve(srfx.SpikedRF("tanh", "sin", r=[0.0, 0.8, -0.8], gamma=0.5), 1.2, 0.1)
    slope = sol.gradient("r")
    assert np.isnan(slope[0])  # the error jumps there
    assert slope[1] == pytest.approx(-slope[2], rel=1e-12)
    at_d = srfx.solve(srfx.SpikedRF("tanh", "sin", r=0.0, gamma=0.5), 1.2, 0.1, d=100)
    assert abs(at_d.gradient("r")) < 1e-15
    at_zero = srfx.solve(srfx.SpikedRF("tanh", "sin", r=0.0, gamma=[0.2, 0.9]), 1.2, 0.1)
    np.testing.assert_allclose(at_zero.gradient("gamma"), 0, atol=1e-10)
    frozen = srfx.solve(srfx.OneStep(eta=2, alpha0=np.inf), 1.2, 0.1)
    assert frozen.gradient("alpha0") == 0


def test_shapes_threads_and_failures():
    model = srfx.SpikedRF(r=np.linspace(0.1, 2, 7), gamma=0.9)
    alpha = np.geomspace(0.1, 9, 40)[:, None]
    sol = srfx.solve(model, alpha, 0.1)
    slope = sol.gradient("c", n_threads=1)
    assert slope.shape == (40, 7)
    np.testing.assert_array_equal(slope, sol.gradient("c", n_threads=2))
    alone = srfx.solve(srfx.SpikedRF(r=float(model.r[3]), gamma=0.9), float(alpha[5, 0]), 0.1)
    assert isinstance(alone.gradient("c"), float)
    assert alone.gradient("c") == pytest.approx(slope[5, 3], rel=1e-11)
    above = srfx.solve(srfx.SpikedRF(), [1.5, 1.0], 0.0, errors="record")
    assert np.isfinite(above.gradient("lam")).tolist() == [True, False]


def test_refusals():
    sol = srfx.solve(srfx.SpikedRF(), 2.0, 0.1)
    with pytest.raises(
        ValueError, match=r"name must be one of .*; got 'gama' \(did you mean 'gamma'"
    ):
        sol.gradient("gama")
    with pytest.raises(ValueError, match="name must be one of"):
        sol.gradient("eta")
    with pytest.raises(ValueError, match="of must be one of 'test_error', 'train_error'"):
        sol.gradient("lam", of="error")
    with pytest.raises(NotImplementedError, match="ridgeless"):
        srfx.solve(srfx.SpikedRF(), 0.5, 0.0).gradient("lam")
    with pytest.raises(NotImplementedError, match="without kinks"):
        srfx.solve(srfx.SpikedRF("tanh", "relu"), 0.5, 0.1).gradient("gamma")
    with pytest.raises(ValueError, match="alpha0 must be > 0"):
        srfx.solve(srfx.OneStep(alpha0=0), 0.5, 0.1).gradient("alpha0")


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(
    "target",
    [
        srfx.Target(lambda a, b: np.sin(a) + np.tanh(b) + 0.3 * a * b, directions=2),
        srfx.Target("max", directions=2),
    ],
    ids=["smooth", "kinks"],
)
@pytest.mark.parametrize("d", [None, 500])
@pytest.mark.filterwarnings("ignore::srfx.models.ApproximationWarning")
def test_the_length_of_the_alignment_with_several_directions(activation, target, d):
    """alpha0 and noise of a step shorten the spike's alignment with all directions at once."""
    at = {"alpha0": 1.2, "noise": 0.3}
    model = srfx.OneStep(activation, target, eta=1.5, **at)
    solution = srfx.solve(model, 1.5, 0.2, d=d)
    for name, value in at.items():
        step = 1e-3 * value
        e = [
            srfx.solve(srfx.models.with_fields(model, {name: value + i * step}), 1.5, 0.2, d=d)
            for i in (-2, -1, 1, 2)
        ]
        for of in ("test_error", "train_error"):
            y = [getattr(x, of) for x in e]
            slope = (y[0] - 8 * y[1] + 8 * y[2] - y[3]) / (12 * step)
            assert solution.gradient(name, of=of) == pytest.approx(slope, rel=1e-7)


# --- by differences ---


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
@pytest.mark.parametrize("bulk", ["isotropic", "own"])
@pytest.mark.parametrize(
    "target", ["sin", srfx.Target(lambda a, b: np.sin(a) + np.tanh(b), directions=2)]
)
@pytest.mark.parametrize("noise", [0, 0.1])
def test_one_of_several_steps_has_the_slopes_of_a_step(bulk, target, noise):
    alpha = [0.7, 2.0]
    fields = {"noise": noise, "beta": 0.8}
    one = srfx.OneStep("tanh", target, eta=2, alpha0=0.5, **fields)
    # a second step that does nothing
    two = srfx.MultiStep("tanh", target, eta=(2, 0), alpha0=(0.5, 1), **fields)
    exact = srfx.solve(one, alpha, 0.1, bulk=bulk if bulk == "isotropic" else "one_step")
    other = srfx.solve(two, alpha, 0.1, bulk=bulk if bulk == "isotropic" else "multi_step")
    for of in ("test_error", "train_error"):
        for name, own in (("eta", "eta1"), ("alpha0", "alpha0_1"), ("noise", "noise")):
            np.testing.assert_allclose(
                other.gradient(own, of=of), exact.gradient(name, of=of), rtol=1e-8
            )
    np.testing.assert_allclose(other.gradient("alpha0_2"), 0, atol=1e-9)


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
@pytest.mark.parametrize("name", ["lam", "alpha", "beta", "noise", "eta", "alpha0"])
def test_identical_groups_have_the_slopes_of_one(name):
    fields = {"eta": [0.5, 2.0], "alpha0": 0.5, "noise": 0.1}
    sine = srfx.Target(lambda a, b: np.sin(a) + np.tanh(b), directions=2)
    for target, bulk in (("sin", "one_step"), (sine, "isotropic")):
        one, two = (
            srfx.solve(srfx.OneStep("tanh", target, readout=a, **fields), 1.5, 0.1, bulk=bulk)
            for a in ((1.0,), (1.0, 1.0))
        )
        np.testing.assert_allclose(two.gradient(name), one.gradient(name), rtol=1e-8)


@pytest.mark.parametrize("name", ["beta", "noise", "r", "c", "gamma"])
def test_a_loss_that_is_nearly_the_square_has_its_slopes(name):
    model = srfx.SpikedRF(r=[0.7, 1.2], gamma=0.85, noise=0.2)
    square = srfx.solve(model, 1.5, 0.1)
    huber = srfx.solve(model, 1.5, 0.1, loss=srfx.Huber(30))
    np.testing.assert_allclose(huber.gradient(name), square.gradient(name), rtol=1e-8)


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
def test_slopes_of_steps_where_there_are_none():
    jump = srfx.solve(srfx.MultiStep(eta=(0.0,), alpha0=(1.0,)), 1.5, 0.1)
    assert np.isnan(jump.gradient("eta1"))
    endless = srfx.solve(srfx.MultiStep(eta=(2.0,), alpha0=(np.inf,)), 1.5, 0.1)
    assert endless.gradient("alpha0_1") == 0
    none = srfx.solve(srfx.MultiStep(eta=(2.0,), alpha0=(0.0,)), 1.5, 0.1)
    assert none.gradient("eta1") == 0
    with pytest.raises(ValueError, match=r"alpha0_1 must be > 0 for a derivative.*got 0"):
        none.gradient("alpha0_1")
