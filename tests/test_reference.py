"""The NumPy/SciPy reference against stated numbers, exact properties, itself and a simulation."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

pytest.importorskip("scipy")

from srfx import reference
from srfx.reference import Function, bounds, equivalent, solve, solve_notebook

TANH_SIN = {"activation": "tanh", "target": "sin"}
FIELDS = ("test_error", "train_error", "m", "theta", "psi", "q1", "q2", "v1", "v2")


def fields(sol, names=FIELDS):
    return np.array([getattr(sol, name) for name in names])


# -------------------------------------------------------------------- activations and coefficients


@pytest.mark.parametrize("name", sorted(reference.ACTIVATIONS))
def test_derivative_integrates_to_the_activation(name):
    f = reference.ACTIVATIONS[name]
    if f.derivative is None:
        assert name == "sign"
        return
    # Stein: E sigma'(z) = E z sigma(z), E z sigma'(z) = E (z^2 - 1) sigma(z)
    stein = [
        (f.derivative, lambda z: z * f.value(z)),
        (lambda z: z * f.derivative(z), lambda z: (z * z - 1) * f.value(z)),
    ]
    for left, right in stein:
        a, b = (reference.gaussian_mean(g, f.kinks) for g in (left, right))
        assert a == pytest.approx(b, abs=2e-14)


@pytest.mark.parametrize("n", range(1, 7))
def test_hermite_is_normalised(n):
    f = reference.ACTIVATIONS[f"hermite{n}"].value
    assert reference.gaussian_mean(lambda z: f(z) ** 2) == pytest.approx(1.0, rel=1e-13)
    assert reference.gaussian_mean(f) == pytest.approx(0.0, abs=1e-14)
    assert f(np.array(1.0)) * math.sqrt(math.factorial(n)) == pytest.approx(
        [1, 0, -2, -2, 6, 16][n - 1], abs=1e-13
    )


@pytest.mark.parametrize(("r", "c"), [(0.9, 1.0), (20.0, 1.0), (0.3, 4.0), (2.0, 0.01)])
def test_coefficients_closed_forms(r, c):
    from scipy.special import erf, ndtr

    k = np.linspace(-8, 8, 41)
    t = r * k / math.sqrt(c)
    density = np.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    sign = reference.coefficients("sign", "sin", r, c, 1.0, k)
    np.testing.assert_allclose(sign.mu0, 2 * ndtr(t) - 1, atol=3e-15)
    np.testing.assert_allclose(sign.mu1, 2 * density, atol=3e-15)
    relu = reference.coefficients("relu", "sin", r, c, 1.0, k)
    np.testing.assert_allclose(relu.mu1, math.sqrt(c) * ndtr(t), atol=3e-14 * math.sqrt(c))
    np.testing.assert_allclose(
        relu.mu0, math.sqrt(c) * (t * ndtr(t) + density), rtol=1e-12, atol=1e-13
    )
    smooth = reference.coefficients("erf", "sin", r, c, 1.0, k)
    np.testing.assert_allclose(smooth.mu0, erf(r * k / math.sqrt(1 + 2 * c)), atol=3e-15)
    sine = reference.coefficients("tanh", "sin", r, c, 0.6, k)
    damp = math.exp(-0.32)
    np.testing.assert_allclose(sine.h, damp * np.sin(0.6 * k), atol=3e-15)
    np.testing.assert_allclose(sine.h1, 0.8 * damp * np.cos(0.6 * k), atol=3e-15)
    second = 0.5 * (1 - math.exp(-1.28) * np.cos(1.2 * k))
    np.testing.assert_allclose(sine.hh(), second, atol=3e-15)


def test_centred_mu2_keeps_its_tail():
    # mu2^2 = E (sigma - mu0 - mu1 z)^2 decays like exp(-4 r k): moments would lose it at 1e-16.
    k = np.array([8.0, 9.0, 10.0])
    tail = reference.coefficients("tanh", "sin", 1.5, 1.0, 1.0, k).mu2_sq
    np.testing.assert_allclose(tail[1:] / tail[:-1], math.exp(-6.0), rtol=2e-4)


@pytest.mark.parametrize("beta", [0.2, 1.0, 3.0])
@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.03, 2.0), (5.0, 0.01)])
def test_marchenko_pastur_against_the_density(a, b, beta):
    closed = reference._spiked._marchenko_pastur(*(np.array(x) for x in (a, b, beta)))
    numeric = reference._spiked._bulk_by_quadrature(a, b, beta)
    for name, value in numeric.items():
        assert closed[name] == pytest.approx(value, rel=1e-10), name
    excess = numeric["D2/S2"] - beta * numeric["D/S"] ** 2
    assert closed["excess"] == pytest.approx(excess, rel=1e-8)


# --------------------------------------------------------------------------- stated numbers, CPD24


def test_stated_one_step_value():
    r, c, gamma = equivalent("tanh", "sin", eta=3.0, alpha0=20.0)
    sol = solve(**TANH_SIN, r=r, c=c, gamma=gamma, beta=1.0, alpha=3.0, lam=0.1)
    assert sol.test_error == pytest.approx(0.0325182080, abs=5e-11)


@pytest.mark.parametrize(
    ("r", "limit", "finite"),
    [(0.001, 0.1253, 0.2655), (0.03, 0.1252, 0.2256), (0.1, 0.1243, 0.1490)],
)
def test_stated_finite_dimension_table(r, limit, finite):
    point = {"r": r, "c": 1.0, "gamma": 0.9, "beta": 1.0, "alpha": 1.5, "lam": 0.1}
    assert solve(**TANH_SIN, **point).test_error == pytest.approx(limit, abs=5.1e-5)
    assert solve(**TANH_SIN, **point, d=600).test_error == pytest.approx(finite, abs=5.1e-5)


def test_stated_bounds_and_infinite_alpha():
    b = bounds("tanh", "sin", r=0.9, c=1.0, gamma=1.0)
    assert (b.lower, b.upper) == pytest.approx((0.00166905, 0.02910490), abs=5.1e-9)
    assert (b.m, b.theta, b.m_upper) == pytest.approx((0.05235, 1.73091, 1.40466), abs=5.1e-6)
    sol = solve(
        **TANH_SIN,
        r=0.9,
        c=1.0,
        gamma=1.0,
        beta=[1e-9, 0.05, 1, 5, 100, 1e9],
        alpha=np.inf,
        lam=0.1,
    )
    stated = [0.029061, 0.027111, 0.015220, 0.002718]
    assert sol.test_error[1:5] == pytest.approx(stated, abs=5.1e-7)
    assert (sol.test_error[0], sol.test_error[5]) == pytest.approx((b.upper, b.lower), rel=1e-6)


def test_infinite_alpha_is_the_limit():
    point = {"r": 0.9, "c": 1.2, "gamma": 0.7, "beta": 2.0, "lam": 0.1, "noise": 0.3}
    sol = solve(**TANH_SIN, **point, alpha=[1e6, 1e8, np.inf])
    gap = np.abs(sol.test_error - sol.test_error[2])
    assert gap[1] < 1e-6
    assert gap[1] == pytest.approx(gap[0] / 100, rel=0.01)


def test_small_alpha():
    point = {"r": 0.9, "c": 1.0, "gamma": 0.9, "beta": 1.0, "lam": 0.1, "alpha": 1e-9}
    power = 0.5 * (1 - math.exp(-2))
    assert solve(**TANH_SIN, **point).test_error == pytest.approx(0.1145, abs=5e-5)
    assert solve(**TANH_SIN, **point, d=300).test_error == pytest.approx(power, rel=1e-5)
    free = {**point, "r": 0.0}
    assert solve(**TANH_SIN, **free).test_error == pytest.approx(power, rel=1e-6)


def test_equivalent_map_closed_form():
    # linear/linear: h1 = h1* = 1, hc1 = 0, h2* = 1 + noise
    assert equivalent("linear", "linear", 2.0, 0.5, 0.25) == pytest.approx(
        (2 * math.sqrt(3.5), 1.0, 1 / math.sqrt(3.5)), rel=1e-13
    )
    # erf: E erf' = 2/sqrt(3 pi), E erf'^2 = 4/(pi sqrt 5), E erf^2 = (2/pi) asin(2/3)
    h1, power = 2 / math.sqrt(3 * math.pi), 2 / math.pi * math.asin(2 / 3)
    spread = 4 / (math.pi * math.sqrt(5)) - h1**2
    root = math.sqrt(power / 3 + h1**2)
    assert equivalent("erf", "erf", 1.5, 3.0) == pytest.approx(
        (1.5 * h1 * root, 1 + 0.75 * power * spread, h1 / root), rel=1e-13
    )
    # relu: h0 = 1/sqrt(2 pi), h1 = 1/2, h2 = 1/sqrt(2 pi), E sigma'^2 = 1/2; linear target
    step = 1 / math.sqrt(2 * math.pi)
    u2 = 1 + step**2
    a = 1 - 0.4 * step**2
    root = math.sqrt(1 + u2 / 2)
    assert equivalent("relu", "linear", 0.4, 2.0) == pytest.approx(
        (0.2 * root, a * a + 0.08 * u2 / 4, 1 / root), rel=1e-12
    )
    assert equivalent("tanh", "sin", 3.0, 0.0) == (0.0, 1.0, 0.0)
    r, c, gamma = equivalent("erf", "sin", 1.0, math.inf)
    assert (c, gamma) == (1.0, 1.0)
    assert r == pytest.approx(h1 * math.exp(-0.5), rel=1e-13)
    with pytest.raises(ValueError, match="derivative"):
        equivalent("sign", "sin", 1.0, 1.0)


# -------------------------------------------------------------------------- two routes, one answer


@pytest.mark.parametrize(
    "point",
    [
        {**TANH_SIN, "r": 0.9, "c": 1.0, "gamma": 0.9, "alpha": 1.5, "beta": 1.0, "lam": 0.1},
        {
            "activation": "relu", "target": "sign", "r": 1.5, "c": 1.3, "gamma": 0.6, "alpha": 2.0,
            "beta": 0.7, "lam": 0.05, "noise": 0.1, "d": 300,
        },
        {
            "activation": "sign", "target": "hardtanh", "r": 0.9, "c": 1.0, "gamma": 1.0,
            "alpha": 0.7, "beta": 2.0, "lam": 0.3,
        },
        {
            "activation": "gelu", "target": "abs", "r": -0.7, "c": 2.0, "gamma": -0.5, "alpha": 1.0,
            "beta": 1.0, "lam": 0.02, "noise": 0.5,
        },
        {**TANH_SIN, "r": 0.0, "c": 1.0, "gamma": 0.0, "alpha": 3.0, "beta": 4.0, "lam": 0.5},
    ],
)  # fmt: skip
def test_notebook_route_agrees(point):
    slow, fast = solve_notebook(**point), solve(**point)
    np.testing.assert_allclose(fields(slow), fields(fast), rtol=2e-9, atol=1e-11)
    assert slow.energy < 1e-9


@pytest.mark.parametrize(
    ("activation", "target", "r", "c", "gamma"),
    [
        ("tanh", "sin", 1.0, 1.0, 0.9),
        ("sign", "sign", 2.0, 0.04, 0.99),
        ("relu", "hardtanh", 3.0, 1.0, 1.0),
        ("hardtanh", "relu", 1.0, 0.25, 0.5),
        ("hermite3", "tanh", 2.0, 0.04, -0.3),
    ],
)
def test_doubling_the_nodes_changes_nothing(activation, target, r, c, gamma):
    alpha, beta, lam = np.meshgrid([1e-3, 1.0, 1e3], [1e-3, 1.0, 1e3], [1e-12, 1e-2])
    point = {
        "r": r,
        "c": c,
        "gamma": gamma,
        "alpha": alpha,
        "beta": beta,
        "lam": lam,
        "noise": 0.01,
    }
    coarse = solve(activation, target, **point)
    fine = solve(activation, target, **point, density=2)
    for name in ("test_error", "train_error", "q2", "v1", "v2"):
        np.testing.assert_allclose(getattr(coarse, name), getattr(fine, name), rtol=2e-12)
    assert np.max(coarse.energy) < 1e-12
    assert np.max(coarse.residual) < 1e-14


def test_double_precision_suffices_away_from_the_threshold():
    point = {"r": 0.9, "c": 1.0, "gamma": 0.9, "beta": 1.0, "alpha": [0.5, 2.0], "lam": 1e-6}
    long, short = (solve(**TANH_SIN, **point, dtype=t) for t in (np.longdouble, float))
    np.testing.assert_allclose(fields(short), fields(long), rtol=1e-11)


def test_callable_with_kinks_equals_the_name():
    point = {"r": 1.1, "c": 0.5, "gamma": 0.8, "beta": 1.5, "alpha": 1.0, "lam": 0.01}
    named = solve("relu", "hardtanh", **point)
    relu = Function(lambda x: 0.5 * (x + np.abs(x)), kinks=(0.0,))
    clip = Function(lambda x: 0.5 * (np.abs(x + 1) - np.abs(x - 1)), kinks=(-1.0, 1.0))
    np.testing.assert_allclose(fields(solve(relu, clip, **point)), fields(named), rtol=1e-13)


# --------------------------------------------------------------------------------------- ridgeless


@pytest.mark.parametrize(
    ("activation", "r", "alpha", "beta"),
    [
        ("tanh", 0.0, 0.5, 1.0),
        ("tanh", 0.5, 2.0, 1.0),
        ("tanh", 1.5, 2.0, 1.0),
        ("sin", 0.5, 0.4, 0.8),
        ("relu", 0.0, 0.5, 2.0),
        ("linear", 0.5, 0.5, 2.0),
        ("linear", 0.5, 2.0, 2.0),
        ("linear", 0.5, 0.7, 0.5),
    ],
)
def test_ridgeless_is_the_limit(activation, r, alpha, beta):
    sol = solve(
        activation, "sin", r=r, c=1.0, gamma=0.7, alpha=alpha, beta=beta, lam=[0, 1e-10, 1e-8]
    )
    for name in ("test_error", "q2"):
        value = getattr(sol, name)
        assert value[1] == pytest.approx(value[0], rel=1e-8), name
        # the approach is linear in lam, so the two gaps are in the ratio of the two lams
        gaps = np.abs(value[1:] - value[0]) + 1e-15
        assert gaps[1] < 150 * gaps[0] + 1e-12
    if alpha < (min(1.0, beta) if activation == "linear" else beta):
        assert sol.train_error[0] == 0.0
        assert sol.v1[1] * 1e-10 == pytest.approx(sol.v1[0], rel=1e-6)
        assert sol.v2[1] * 1e-10 == pytest.approx(sol.v2[0], rel=1e-6)


@pytest.mark.parametrize(
    ("activation", "r", "alpha", "beta", "match"),
    [
        ("tanh", 0.5, 1.0, 1.0, "threshold"),
        ("linear", 0.5, 1.0, 2.0, "threshold"),
        ("relu", 1.5, 0.5, 1.0, "hangs"),
        ("tanh", 2.5, 0.5, 1.0, "hangs"),
    ],
)
def test_ridgeless_refusals(activation, r, alpha, beta, match):
    with pytest.raises(ValueError, match=match):
        solve(activation, "sin", r=r, c=1.0, gamma=0.7, alpha=alpha, beta=beta, lam=0.0)


# -------------------------------------------------------------------------------- exact properties

GENERIC = {"r": 0.8, "c": 1.4, "gamma": 0.6, "beta": 1.3, "alpha": 0.9, "lam": 0.03, "noise": 0.2}


def test_r_zero_does_not_know_gamma():
    values = [
        fields(
            solve("relu", "sigmoid", **{**GENERIC, "r": 0.0, "gamma": g}),
            ("test_error", "train_error", "q2"),
        )
        for g in (0.0, 0.3, 1.0)
    ]
    np.testing.assert_allclose(values[1], values[0], rtol=1e-13)
    np.testing.assert_allclose(values[2], values[0], rtol=1e-13)


def test_scalings():
    base = solve("gelu", "sin", **GENERIC, d=200)
    gelu = reference.ACTIVATIONS["gelu"].value
    scaled = solve(lambda x: 3.0 * gelu(x), "sin", **{**GENERIC, "lam": 0.27}, d=200)
    assert scaled.test_error == pytest.approx(base.test_error, rel=1e-12)
    assert scaled.q2 == pytest.approx(base.q2 / 9, rel=1e-12)
    louder = solve("gelu", lambda x: -2.0 * np.sin(x), **{**GENERIC, "noise": 0.8}, d=200)
    names = ("test_error", "train_error", "q1", "q2")
    np.testing.assert_allclose(fields(louder, names), 4 * fields(base, names), rtol=1e-12)


def test_symmetries():
    names = ("test_error", "train_error", "q1", "q2", "v1", "v2")
    for activation, target in (("tanh", "sigmoid"), ("relu", "relu")):
        base = fields(solve(activation, target, **GENERIC), names)
        both = fields(solve(activation, target, **{**GENERIC, "r": -0.8, "gamma": -0.6}), names)
        np.testing.assert_allclose(both, base, rtol=1e-12)
        f = reference.ACTIVATIONS[target]
        mirror = Function(lambda x, f=f: f.value(-x), f.kinks)
        other = fields(solve(activation, mirror, **{**GENERIC, "gamma": -0.6}), names)
        np.testing.assert_allclose(other, base, rtol=1e-12)
    odd = [fields(solve("tanh", "sigmoid", **{**GENERIC, "r": r}), names) for r in (0.8, -0.8)]
    np.testing.assert_allclose(odd[0], odd[1], rtol=1e-12)


@pytest.mark.parametrize("d", [None, 150.0])
def test_envelope(d):
    # d(E[min loss]/n)/dlam = q2/alpha', and the loss over n is train_error + lam q2/alpha'
    step = 1e-4
    lam = GENERIC["lam"] + step * np.array([-2, -1, 0, 1, 2])
    sol = solve("softplus", "abs", **{**GENERIC, "lam": lam}, d=d)
    ratio = GENERIC["alpha"] / GENERIC["beta"]
    loss = sol.train_error + lam * sol.q2 / ratio
    slope = (loss[0] - 8 * loss[1] + 8 * loss[3] - loss[4]) / (12 * step)
    assert slope == pytest.approx(sol.q2[2] / ratio, rel=1e-8)


def test_within_bounds_and_floor():
    lam, alpha, beta = np.meshgrid([1e-3, 0.1, 10.0], [0.5, 5.0, 500.0], [0.2, 2.0, 50.0])
    b = bounds("tanh", "sin", r=0.9, c=1.0, gamma=0.8)
    sol = solve(**TANH_SIN, r=0.9, c=1.0, gamma=0.8, lam=lam, alpha=alpha, beta=beta)
    assert np.all(sol.test_error > b.lower)
    plain = solve(**TANH_SIN, r=0.0, c=1.0, gamma=0.0, lam=lam, alpha=alpha, beta=beta)
    floor = reference.linear_floor("sin")
    assert floor == pytest.approx(0.5 * (1 - math.exp(-2)) - math.exp(-1), rel=1e-13)
    assert np.all(plain.test_error > floor)
    assert np.min(plain.test_error) < 1.1 * floor


def test_learned_function_overlap():
    # E[s* f(t)] = E[h C + h1 mu1 psi]
    for activation, gamma in (("tanh", 0.9), ("relu", 0.4), ("sign", 1.0)):
        point = {"r": 1.2, "c": 0.5, "gamma": gamma}
        sol = solve(activation, "sin", **point, beta=1.5, alpha=2.0, lam=0.05)
        order = {name: float(getattr(sol, name)) for name in ("m", "theta", "psi")}

        def product(t, activation=activation, point=point, order=order):
            return np.sin(t) * reference.learned_function(activation, **point, **order, t=t)

        t, weight = np.polynomial.hermite_e.hermegauss(50)
        left = weight @ product(t) / weight.sum()

        def overlap(k, activation=activation, point=point, order=order):
            t = reference.coefficients(activation, "sin", **point, k=k)
            mean = order["m"] * t.mu0 + order["theta"] * k * t.mu1
            return t.h * mean + order["psi"] * t.h1 * t.mu1

        right = reference.gaussian_mean(overlap, (0.0,))
        assert left == pytest.approx(right, rel=1e-10)


# ---------------------------------------------------------------------- linear features, by hand


def test_linear_features_are_ridge_regression():
    """sigma(x) = x, r = 0, beta -> inf: ordinary ridge regression on x / sqrt d.

    The target is slope * theta.x / sqrt d plus a part that acts as noise of variance tau. With G =
    X^T X / d and s = tr (G + lam)^-1 / d, bias and variance are slope^2 lam^2 (-s') and tau (s +
    lam s').
    """
    target, noise = "relu", 0.1
    slope, power = 0.5, 0.5
    tau = power - slope**2 + noise  # no intercept: the mean of y is noise to odd features
    for alpha in (0.4, 1.0, 2.5):
        for lam in (0.01, 0.5):
            # X is n x d with iid N(0, 1) entries: s = 1 / (lam + alpha / (1 + s))
            b = lam + alpha - 1
            s = (-b + math.sqrt(b * b + 4 * lam)) / (2 * lam)
            ds = -(s * s) / (1 - alpha * s * s / (1 + s) ** 2)  # d s/d lam
            expected = slope**2 * lam**2 * -ds + tau * (s + lam * ds) + (power - slope**2)
            sol = solve(
                "linear",
                target,
                r=0.0,
                c=1.0,
                gamma=0.5,
                beta=1e7,
                alpha=alpha,
                lam=lam,
                noise=noise,
            )
            assert sol.test_error == pytest.approx(expected, rel=1e-6)


# -------------------------------------------------------------------------------------- simulation


def simulate(activation, target, *, r, c, gamma, beta, alpha, lam, noise, d, seed):
    """Draw one spiked random features model; return its test and training error."""
    rng = np.random.default_rng(seed)
    n, p = round(alpha * d), round(beta * d)
    theta = rng.standard_normal(d)
    theta *= math.sqrt(d) / np.linalg.norm(theta)
    other = rng.standard_normal(d)
    other -= theta * (other @ theta) / d
    other *= math.sqrt(d) / np.linalg.norm(other)
    v = gamma * theta + math.sqrt(1 - gamma**2) * other
    w0 = rng.standard_normal((p, d))
    w0 /= np.linalg.norm(w0, axis=1, keepdims=True)
    w = math.sqrt(c) * w0 + r * v / math.sqrt(d)
    sigma, star = reference.ACTIVATIONS[activation].value, reference.ACTIVATIONS[target].value

    def draw(count):
        x = rng.standard_normal((count, d))
        return sigma(x @ w.T) / math.sqrt(p), star(x @ theta / math.sqrt(d))

    phi, y = draw(n)
    y = y + math.sqrt(noise) * rng.standard_normal(n)
    a = np.linalg.solve(phi.T @ phi + lam * np.eye(p), phi.T @ y)
    phi_test, y_test = draw(2000)
    return np.mean((y_test - phi_test @ a) ** 2), np.mean((y - phi @ a) ** 2)


@pytest.mark.parametrize(
    "point",
    [
        {"activation": "tanh", "target": "sin", "r": 0.9, "gamma": 0.9, "noise": 0.0, "lam": 0.1},
        {"activation": "relu", "target": "abs", "r": 1.5, "gamma": 0.7, "noise": 0.2, "lam": 0.05},
        {"activation": "tanh", "target": "sin", "r": 0.03, "gamma": 0.9, "noise": 0.0, "lam": 0.1},
    ],
)
def test_simulation(point):
    size = {"c": 1.2, "beta": 0.8, "alpha": 1.5, "d": 400}
    theory = solve(**point, **size)
    runs = np.array([simulate(**point, **size, seed=s) for s in range(8)])
    error = runs.std(axis=0, ddof=1) / math.sqrt(len(runs))
    gap = runs.mean(axis=0) - [theory.test_error, theory.train_error]
    # four standard errors, plus 1 % for the terms of order 1/d that the theory leaves out
    assert np.all(np.abs(gap) < 4 * error + 0.01 * runs.mean(axis=0)), (gap, error)
    assert np.all(error < 0.05 * runs.mean(axis=0)), "the simulation is too noisy to test anything"


def test_callables_that_change_are_not_remembered():
    @dataclasses.dataclass  # without a hash
    class Scaled:
        factor: float

        def __call__(self, x):
            return np.tanh(self.factor * x)

    def error(activation):
        point = {"r": 0.9, "c": 1.0, "gamma": 1.0, "beta": 1.0, "alpha": 1.0, "lam": 0.1}
        return float(reference.solve(activation, "sin", **point).test_error)

    scaled = Scaled(1.0)
    assert error(scaled) == error("tanh")
    scaled.factor = 3.0
    assert error(scaled) == error(lambda x: np.tanh(3.0 * x)) != error("tanh")
