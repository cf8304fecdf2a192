"""Exact properties of the theory (THEORY section 8) and of the program, over random models."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import srfx
from srfx import _core
from srfx.results import OBSERVABLES

ERRORS = ("test_error", "train_error")


def examples(n):
    return settings(
        max_examples=n, derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


ODD = ("tanh", "erf", "sin", "sign", "hardtanh", "hermite3")
SIGMAS = (*ODD, "cos", "relu", "leaky_relu", "abs", "softplus", "sigmoid", "gelu", "silu")
TARGETS = (*SIGMAS, "linear", "hermite2", "hermite4")
FUNCTIONS = {
    "tanh": (np.tanh, ()),
    "sin": (np.sin, ()),
    "relu": (lambda x: np.maximum(x, 0), (0,)),
    "sign": (np.sign, (0,)),
    "hardtanh": (lambda x: np.clip(x, -1, 1), (-1, 1)),
    "softplus": (lambda x: np.logaddexp(0, x), ()),
}
KINKS = {"hardtanh": (-1.0, 1.0)}


def log10(low, high):
    return st.floats(low, high).map(lambda x: 10.0**x)


# r is 0 or not small: the invariances below would not see more; test_small_spikes looks there
spikes = st.one_of(st.just(0.0), st.floats(0.1, 2.0), st.floats(-2.0, -0.1))
gammas = st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-0.99, 0.99))
dimensions = st.one_of(st.none(), st.integers(5, 2000))
model_fields = {
    "r": spikes,
    "c": log10(-0.5, 0.5),
    "gamma": gammas,
    "beta": log10(-1, 1),
    "noise": st.one_of(st.just(0.0), st.floats(0.01, 1.0)),
}
models = st.builds(srfx.SpikedRF, st.sampled_from(SIGMAS), st.sampled_from(TARGETS), **model_fields)
points = st.fixed_dictionaries({"alpha": log10(-1, 1), "lam": log10(-4, 1), "d": dimensions})


def scaled(name, by, mirrored=False):
    """by * f(x), or by * f(-x), as a callable."""
    fn, kinks = FUNCTIONS[name]
    sign = -1 if mirrored else 1
    return srfx.Activation(lambda x: by * fn(sign * x), kinks=[sign * kink for kink in kinks])


def errors_of(model, point):
    sol = srfx.solve(model, **point)
    return np.array([getattr(sol, name) for name in ERRORS])


def close(a, b, rtol=1e-10):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-24)


def outer_rule(model):
    """Nodes and weights of E over k ~ N(0, 1): fine panels with edges where something may jump."""
    edges = [0.0]
    for name, slope in ((model.activation, model.r), (model.target, model.gamma)):
        edges += [kink / slope for kink in KINKS.get(name, ()) if slope != 0]
    x, w = np.polynomial.legendre.leggauss(16)
    grid = np.union1d(np.linspace(-11, 11, 221), [e for e in edges if abs(e) < 11])
    middle, half = (grid[1:] + grid[:-1]) / 2, np.diff(grid) / 2
    k = (middle[:, None] + half[:, None] * x).ravel()
    weight = (half[:, None] * w).ravel() * np.exp(-k * k / 2)
    return k, weight / weight.sum()


def coefficients(model, k):
    sigma, target = _core.Activation(model.activation), _core.Activation(model.target)
    return _core.coefficients(sigma, target, model.r, model.c, model.gamma, k)


# --- symmetries ---


@examples(50)
@given(models, points, gammas)
def test_without_a_spike_the_alignment_does_not_matter(model, point, gamma):
    model = dataclasses.replace(model, r=0.0)
    close(errors_of(model, point), errors_of(dataclasses.replace(model, gamma=gamma), point), 1e-11)


@examples(25)
@given(
    models, points, st.sampled_from(sorted(FUNCTIONS)), log10(-2, 2), st.sampled_from([-1, 1])
)  # fmt: skip
def test_scale_of_the_activation(model, point, name, size, sign):
    """sigma -> s sigma with lam -> s^2 lam changes nothing; q2 goes with 1/s^2."""
    plain = srfx.solve(dataclasses.replace(model, activation=name), **point)
    twin = dataclasses.replace(model, activation=scaled(name, sign * size))
    sol = srfx.solve(twin, **{**point, "lam": point["lam"] * size**2})
    for field in ERRORS:
        close(getattr(sol, field), getattr(plain, field))
    close(sol.q2 * size**2, plain.q2)


@examples(25)
@given(
    models, points, st.sampled_from(sorted(FUNCTIONS)), log10(-2, 2), st.sampled_from([-1, 1])
)  # fmt: skip
def test_scale_of_the_target(model, point, name, size, sign):
    """sigma* -> s sigma* with noise -> s^2 noise scales the errors by s^2."""
    plain = dataclasses.replace(model, target=name)
    twin = dataclasses.replace(
        model, target=scaled(name, sign * size), noise=model.noise * size**2
    )  # fmt: skip
    close(errors_of(twin, point), size**2 * errors_of(plain, point))


@examples(50)
@given(models, points, st.sampled_from(ODD))
def test_an_odd_activation_does_not_know_the_sign_of_the_spike(model, point, name):
    model = dataclasses.replace(model, activation=name)
    close(errors_of(model, point), errors_of(dataclasses.replace(model, r=-model.r), point))


@examples(25)
@given(models, points, st.sampled_from(sorted(FUNCTIONS)))
def test_mirrored_target_and_alignment(model, point, name):
    twin = dataclasses.replace(model, target=scaled(name, 1, mirrored=True), gamma=-model.gamma)
    close(errors_of(dataclasses.replace(model, target=name), point), errors_of(twin, point))


@examples(60)
@given(models, points)
def test_spike_and_alignment_change_sign_together(model, point):
    twin = dataclasses.replace(model, r=-model.r, gamma=-model.gamma)
    close(errors_of(model, point), errors_of(twin, point))


# --- closed forms and limits ---


@examples(60)
@given(
    st.sampled_from(TARGETS), spikes, log10(-0.5, 0.5), gammas, log10(-1, 1), log10(-3, 1),
    st.floats(0, 1),
)  # fmt: skip
def test_a_wide_linear_network_is_ridge_regression(target, r, c, gamma, alpha, lam, noise):
    """beta -> inf: least squares |y - X u/sqrt(d)|^2 + (lam/c) |u|^2 on n = alpha d samples.

    V = tr (X^T X/d + lam/c)^-1/d solves V = 1/(lam/c + alpha/(1 + V)). Of the target, the linear
    part of slope h1* is signal, all else acts as noise. At d = inf the spike's direction costs
    nothing, so that only the part of the signal orthogonal to it is shrunk.
    """
    f = _core.gaussian_constants(_core.Activation(target), False)
    ridge = lam / c
    b = ridge + alpha - 1  # ridge V^2 + b V - 1 = 0
    root = np.sqrt(b * b + 4 * ridge)
    v = 2 / (b + root) if b > 0 else (root - b) / (2 * ridge)
    shrunk = f["h1"] ** 2 * (1 - gamma**2 if r != 0 else 1)
    other = f["second_moment"] - f["h1"] ** 2 + noise
    total = (other + (ridge * v) ** 2 * shrunk) / (1 - alpha * (v / (1 + v)) ** 2)
    model = srfx.SpikedRF("linear", target, r=r, c=c, gamma=gamma, beta=1e10, noise=noise)
    sol = srfx.solve(model, alpha=alpha, lam=lam)
    scale = f["second_moment"] + noise
    assert sol.test_error == pytest.approx(total - noise, rel=1e-6, abs=1e-8 * scale)
    assert sol.train_error == pytest.approx(total / (1 + v) ** 2, rel=1e-6, abs=1e-8 * scale)


@examples(50)
@given(models, log10(-4, 1), st.integers(5, 2000))
def test_without_samples_nothing_is_learned(model, lam, d):
    power = _core.gaussian_constants(_core.Activation(model.target), False)["second_moment"]
    sol = srfx.solve(model, alpha=1e-13, lam=lam, d=d)
    assert sol.test_error == pytest.approx(power, rel=1e-4)
    if model.activation in ODD:  # mu0 = 0
        sol = srfx.solve(dataclasses.replace(model, r=0.0), alpha=1e-13, lam=lam)
        assert sol.test_error == pytest.approx(power, rel=1e-6)


def test_without_samples_the_free_mean_component_is_learned():
    model = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=0.9)
    got = srfx.solve(model, alpha=1e-10, lam=[0.01, 0.1, 1.0]).test_error
    assert got[1] == pytest.approx(0.1145, abs=5e-5)
    assert np.all(got > srfx.bounds(model).upper)
    assert np.all(got < 0.3 * 0.5 * (1 - np.exp(-2)))


@examples(60)
@given(models, log10(-3, 3), log10(-8, 4))
def test_bounds_hold(model, alpha, lam):
    lower, upper = srfx.bounds(model)
    assert 0 <= lower <= upper * (1 + 1e-12)
    power = _core.gaussian_constants(_core.Activation(model.target), False)["second_moment"]
    slack = 1e-9 * power
    assert srfx.solve(model, alpha=alpha, lam=lam).test_error >= lower - slack
    many = srfx.solve(model, alpha=1e10, lam=min(lam, 1.0)).test_error
    assert lower - slack <= many <= upper * (1 + 1e-6) + slack


# --- identities of the solution ---


@examples(50)
@given(models, points)
def test_energy_identity(model, point):
    """E[R w^2] + (lam/a') q2 = E[w (hh - C h - h1 mu1 psi)], by quadrature done here."""
    sol = srfx.solve(model, **point)
    k, weight = outer_rule(model)
    at = coefficients(model, k)
    w = 1 / (1 + at["mu1"] ** 2 * sol.v1 + at["mu2_squared"] * sol.v2)
    mean = at["mu0"] * sol.m + k * at["mu1"] * sol.theta
    gain = mean * at["h"] + at["h1"] * at["mu1"] * sol.psi
    noisy = at["hh"] + model.noise
    left = sol.train_error + point["lam"] * model.beta / point["alpha"] * sol.q2
    size = float(weight @ (w * (noisy + np.abs(gain))))
    assert left == pytest.approx(float(weight @ (w * (noisy - gain))), abs=1e-10 * size)
    risk = noisy + mean**2 - 2 * gain + at["mu1"] ** 2 * sol.q1 + at["mu2_squared"] * sol.q2
    size = float(weight @ (noisy + mean**2 + at["mu1"] ** 2 * sol.q1))
    assert sol.test_error == pytest.approx(float(weight @ risk) - model.noise, abs=1e-10 * size)
    assert sol.train_error == pytest.approx(float(weight @ (risk * w**2)), abs=1e-10 * size)


@examples(50)
@given(models, points)
def test_envelope(model, point):
    """d(min loss/n)/dlam = q2/a', the loss per sample being train_error + lam q2/a'."""
    step = 0.03
    shifts = np.arange(-4, 5)
    lam = point["lam"] * (1 + step * shifts)
    sol = srfx.solve(model, **{**point, "lam": lam})
    norm = sol.q2 * model.beta / point["alpha"]
    loss = sol.train_error + lam * norm
    central = np.array([1 / 280, -4 / 105, 1 / 5, -4 / 5, 0, 4 / 5, -1 / 5, 4 / 105, -1 / 280])
    slope = central @ loss / (step * point["lam"])
    noise = 1e-13 * loss[4] / (step * point["lam"])
    assert slope == pytest.approx(norm[4], rel=1e-8, abs=10 * noise)


@examples(50)
@given(models, points)
def test_more_ridge_fits_less(model, point):
    """Along the path of the ridge: train error rises, |a|^2 falls, the minimal loss rises."""
    lam = np.geomspace(1e-6, 1e3, 28)
    sol = srfx.solve(model, **{**point, "lam": lam})
    loss = sol.train_error + lam * sol.q2 * model.beta / point["alpha"]
    for rising in (sol.train_error, -sol.q2, loss):
        assert np.all(np.diff(rising) >= -1e-11 * np.abs(rising[1:]))
    assert np.all(np.diff(sol.v2) < 0)


@examples(25)
@given(models, points)
def test_overlap_of_the_learned_function(model, point):
    """E[s*(t) f(t)] over t equals E[h C + h1 mu1 psi] over k."""
    sol = srfx.solve(model, **point)
    k, weight = outer_rule(model)
    at = coefficients(model, k)
    mean = at["mu0"] * sol.m + k * at["mu1"] * sol.theta
    gain = at["h"] * mean + at["h1"] * at["mu1"] * sol.psi
    turn = 1.0 if abs(model.gamma) == 1 else 0.0
    t_model = dataclasses.replace(model, gamma=1.0, r=model.r * turn)
    t, t_weight = outer_rule(t_model)
    star = _core.evaluate(_core.Activation(model.target), t)
    f = srfx.learned_function(model, point["alpha"], point["lam"], t, d=point["d"])
    size = float(t_weight @ np.abs(star * f)) + float(weight @ np.abs(gain))
    assert float(t_weight @ (star * f)) == pytest.approx(float(weight @ gain), abs=1e-9 * size)


# --- the program: a point is a point ---


def grid(seed, n):
    rng = np.random.default_rng(seed)
    model = srfx.SpikedRF(
        SIGMAS[seed % len(SIGMAS)],
        TARGETS[(3 * seed + 1) % len(TARGETS)],
        r=rng.choice([0.0, 0.5, -1.2], n),
        c=rng.choice([0.7, 1.0], n),
        gamma=rng.choice([0.3, 1.0], n),
        beta=10 ** rng.uniform(-1, 1, n),
        noise=rng.choice([0.0, 0.3], n),
    )
    point = {"alpha": 10 ** rng.uniform(-2, 2, n), "lam": 10 ** rng.uniform(-10, 5, n)}
    point["d"] = rng.choice([20.0, 1000.0], n)
    return model, point


def taken(model, point, index):
    part = {name: np.asarray(value)[index] for name, value in model.numeric.items()}
    return dataclasses.replace(model, **part), {k: v[index] for k, v in point.items()}


def identical(a, b):
    for name in OBSERVABLES:
        x, y = (np.asarray(getattr(s, name)) for s in (a, b))
        assert np.array_equal(x, y, equal_nan=x.dtype.kind == "f"), name


@examples(8)
@given(st.integers(0, 50), st.integers(1, 3000))
def test_threads_agree_bit_for_bit(seed, n):
    model, point = grid(seed, n)
    one = srfx.solve(model, **point, n_threads=1)
    identical(one, srfx.solve(model, **point, n_threads=2))
    identical(one, srfx.solve(model, **point, n_threads=3))


@examples(10)
@given(st.integers(0, 50), st.integers(1, 1000), st.randoms(use_true_random=False))
def test_a_batch_permuted_or_split_is_the_same_bit_for_bit(seed, n, random):
    model, point = grid(seed, n)
    whole = srfx.solve(model, **point, n_threads=2)
    order = np.array(random.sample(range(n), n))
    mixed_model, mixed_point = taken(model, point, order)
    mixed = srfx.solve(mixed_model, **mixed_point)
    for name in OBSERVABLES:
        assert np.array_equal(getattr(mixed, name), np.asarray(getattr(whole, name))[order]), name
    for i in random.sample(range(n), min(n, 6)):
        alone_model, alone_point = taken(model, point, i)
        alone = srfx.solve(alone_model, **alone_point)
        for name in OBSERVABLES:
            assert getattr(alone, name) == getattr(whole, name)[i], name


@examples(6)
@given(models, st.integers(0, 1000))
def test_broadcasting_equals_a_loop(model, seed):
    rng = np.random.default_rng(seed)
    beta = 10 ** rng.uniform(-1, 1, (2, 1, 1))
    alpha, lam = 10 ** rng.uniform(-1, 1, (3, 1)), 10 ** rng.uniform(-6, 2, 4)
    sol = srfx.solve(dataclasses.replace(model, beta=beta), alpha=alpha, lam=lam)
    assert sol.shape == (2, 3, 4)
    for i in np.ndindex(sol.shape):
        one = dataclasses.replace(model, beta=beta[i[0], 0, 0])
        alone = srfx.solve(one, alpha=alpha[i[1], 0], lam=lam[i[2]])
        for name in OBSERVABLES:
            assert getattr(alone, name) == getattr(sol, name)[i], name


@pytest.mark.parametrize("sigma", ["hermite2", "hermite4", "tanh", "sign"])
@pytest.mark.parametrize("d", [None, 600])
def test_small_spikes(sigma, d):
    """The errors are analytic in r down to 0; at d = inf the mean feature's shape is what counts.

    Quadrature alone knows a mean of r^2 to 1e-16/r^2 only, and it costs nothing.
    """
    r = np.array([1e-12, 3e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-4 * np.sqrt(2)])
    target = "hermite2" if sigma[:-1] == "hermite" else "sin"
    model = srfx.SpikedRF(sigma, target, r=r, gamma=0.9, noise=0.1)
    sol = srfx.solve(model, 1.0, 0.01, d=d)
    assert sol.quadrature_error.max() < 1e-11
    for name in ERRORS:
        error = getattr(sol, name)
        limit = 2 * error[-2] - error[-1]  # to O(r^4), errors being even in r here
        slope = (error[-1] - error[-2]) / 1e-8
        np.testing.assert_allclose(error[:-2], limit + slope * r[:-2] ** 2, rtol=2e-10)
