"""The compiled core against independent witnesses, over hundreds of points and all extremes.

Witnesses: `srfx.reference` (other code, other quadrature, extended precision), adaptive quadrature
of SciPy, the equations themselves fed with their solution, and the numbers stated in THEORY.

Tolerance of a comparison: relative 1e-10, as promised by the package, 1e-8 in the extremes
(lam = 1e-12 on the interpolation threshold with r/sqrt(c) = 20), and nothing added for v2 and q2.
An error is a mean square of residuals, each known to a few ulps of the target's amplitude sqrt(P):
an error X << P is therefore defined only to 2 sqrt(X P) ulps + P ulps^2, which `agree` grants
to the two errors. It is below 1e-10 X unless X < 1e-10 P, that is, unless an activation and a
target that are both linear learn each other to the last digit.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

pytest.importorskip("scipy")

from scipy.integrate import quad

import srfx
from srfx import _core, reference

NAMES = sorted(reference.ACTIVATIONS)
ERRORS = ("test_error", "train_error")
FIELDS = (*ERRORS, "q2", "v2")
ULPS = 16 * np.finfo(float).eps


def table(*points):
    """Columns alpha, beta, lam."""
    return dict(zip(("alpha", "beta", "lam"), np.array(points, dtype=float).T, strict=True))


def power(target, noise=0.0):
    f = reference.ACTIVATIONS[target]
    return reference.gaussian_mean(lambda z: f.value(z) ** 2, f.kinks) + noise


def both(sigma, target, r, c, gamma, points, noise=0.0, d=None, **reference_options):
    model = {"r": r, "c": c, "gamma": gamma, "noise": noise}
    want = reference.solve(sigma, target, **model, **points, d=d, **reference_options)
    beta, rest = points["beta"], {k: points[k] for k in ("alpha", "lam")}
    got = srfx.solve(srfx.SpikedRF(sigma, target, **model, beta=beta), **rest, d=d)
    return got, want


def deviations(got, want, scale, fields=FIELDS):
    """Relative errors by field, after what rounding leaves undefined (see the module's text)."""
    out = {}
    for name in fields:
        x, y = getattr(want, name), getattr(got, name)
        gap = np.abs(y - x)
        if name in ERRORS:
            gap = np.maximum(gap - 2 * ULPS * np.sqrt(np.abs(x) * scale) - ULPS**2 * scale, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            out[name] = np.where(gap == 0, 0.0, gap / np.abs(x))
    return out


def agree(sigma, target, r, c, gamma, points, rtol=1e-10, fields=FIELDS, **options):
    got, want = both(sigma, target, r, c, gamma, points, **options)
    assert np.all(got.success)
    off = deviations(got, want, power(target, options.get("noise", 0.0)), fields)
    for name, error in off.items():
        i = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
        where = ", ".join(f"{k}={v[i]:g}" for k, v in points.items())
        assert error[i] <= rtol, (
            f"{name} of {sigma} -> {target}, {r=}, {c=}, {gamma=}, {where}, {options}: "
            f"{getattr(got, name)[i]!r}, not {getattr(want, name)[i]!r}"
        )
    return got, off


# --- all activations, all ranges ---

GENERAL = table(
    (1.5, 1, 0.1), (0.5, 2, 1e-3), (3, 0.5, 0.01), (1, 1, 1e-4),
    (1e-3, 1, 0.1), (1e3, 1, 0.1), (1, 1e-3, 0.1), (1, 1e3, 0.1),
    (2, 1, 1e6), (2, 1, 1e-12), (0.5, 1, 1e-12), (1e3, 1e3, 1e-4), (1e-3, 1e-3, 1e-3),
)  # fmt: skip
SPIKES = [
    (0.9, 1.0, 0.9),
    (0.0, 1.0, 0.5),
    (2.0, 1.3, -0.4),
    (1.5, 0.5, 1.0),
    (-0.7, 3.0, 0.0),
    (0.8, 0.1, -1.0),
    (1e-3, 1.0, 0.999),
]


@pytest.mark.parametrize("i", range(len(NAMES)), ids=NAMES)
def test_every_activation_and_every_target(i):
    """Two targets and two spikes for each activation; over all i each name is twice a target."""
    for j, spike in ((3 * i + 1, i), (7 * i + 4, i + 3)):
        noise, d = (0.0, 0.1, 2.0)[j % 3], (None, 300, None, 20)[(i + j) % 4]
        r, c, gamma = SPIKES[spike % len(SPIKES)]
        if NAMES[i].startswith("hermite") and abs(r) < 0.1:
            r = 0.4  # the reference has no digits of mu0 there
        agree(NAMES[i], NAMES[j % len(NAMES)], r, c, gamma, GENERAL, noise=noise, d=d)


def test_the_grid_above_is_complete():
    n = len(NAMES)
    assert n == len(srfx.models.ACTIVATION_NAMES) == 20
    assert set(NAMES) == set(srfx.models.ACTIVATION_NAMES)
    assert sorted((3 * i + 1) % n for i in range(n)) == sorted((7 * i + 4) % n for i in range(n))
    assert {(3 * i + 1) % n for i in range(n)} == set(range(n))


@pytest.mark.parametrize("n", range(1, 7))
@pytest.mark.parametrize("r", [1e-9, 1e-3, -0.03, 0.0999])
def test_a_mean_feature_of_rounding_size_keeps_its_digits(n, r):
    """mu0 = (r k)^n/sqrt(n!) at c = 1: far below rounding in E sigma(r k + z), yet m is free."""
    core = srfx.models.compiled(f"hermite{n}")
    k = np.array([-3.1, -0.4, 0.2, 1.3, 4.0])
    got = _core.coefficients(core, core, r, 1.0, 0.5, k)
    root = math.sqrt(math.factorial(n))
    np.testing.assert_allclose(got["mu0"], (r * k) ** n / root, rtol=1e-13)
    np.testing.assert_allclose(got["mu1"], n * (r * k) ** (n - 1) / root, rtol=1e-13)


EXTREME = table(
    (1.5, 1, 0.1), (0.5, 2, 1e-3), (1e-3, 1e3, 0.1), (1e3, 1e-3, 0.1), (1, 1, 1e6), (0.5, 1, 1e-6)
)  # fmt: skip
KINKED_AND_SMOOTH = [
    ("tanh", "sin", 0.9),
    ("relu", "sign", 1.0),
    ("sign", "relu", 0.5),
    ("erf", "abs", 0.0),
    ("hardtanh", "hardtanh", -1.0),
    ("softplus", "tanh", 0.8),
    ("abs", "cos", 0.7),
    ("gelu", "sign", 0.9999),
]


@pytest.mark.parametrize(
    ("r", "c", "rows"),
    [
        (20.0, 1.0, slice(0, 6)),
        (-2.0, 0.01, slice(0, 4)),
        (1e-3, 1e-4, slice(0, 8)),
        (5.0, 100.0, slice(0, 4)),
        (0.3, 900.0, slice(0, 3)),
        (0.0, 1e-6, slice(0, 8)),
    ],
)
def test_extreme_spikes_and_bulks(r, c, rows):
    for sigma, target, gamma in KINKED_AND_SMOOTH[rows]:
        agree(sigma, target, r, c, gamma, EXTREME, dtype=float)


THRESHOLD = table(
    (1, 1, 1e-12), (2, 2, 1e-12), (1, 1, 1e-8), (1e-3, 1e-3, 1e-12), (1e3, 1e3, 1e-12),
    (1 + 1e-6, 1, 1e-12), (1, 1 + 1e-6, 1e-12),
)  # fmt: skip


@pytest.mark.parametrize(
    ("sigma", "target", "r", "c", "gamma"),
    [
        ("tanh", "sin", 0.9, 1.0, 0.9),
        ("relu", "sign", 0.7, 1.2, 1.0),
        ("sign", "hardtanh", 0.9, 1.0, 0.6),
        ("gelu", "abs", 0.0, 1.0, 0.0),
        ("hardtanh", "relu", 1.5, 0.7, -1.0),
        ("hermite3", "cos", 0.5, 1.0, 0.5),
        ("softplus", "hermite4", -1.2, 1.0, 0.9),
    ],
)
def test_on_the_interpolation_threshold(sigma, target, r, c, gamma):
    agree(sigma, target, r, c, gamma, THRESHOLD)
    agree(sigma, target, r, c, gamma, THRESHOLD, noise=0.3, d=50)


@pytest.mark.parametrize(("sigma", "target", "gamma"), KINKED_AND_SMOOTH[:4])
@pytest.mark.filterwarnings("ignore::srfx.AccuracyWarning")  # the estimate may exceed 1e-8
def test_both_extremes_at_once(sigma, target, gamma):
    points = table((1, 1, 1e-12), (1, 1, 1e-10))
    agree(sigma, target, 20.0, 1.0, gamma, points, rtol=1e-8)


RIDGELESS = table((3, 1, 0), (1.1, 1, 0), (1e3, 1, 0), (0.5, 0.1, 0), (0.3, 1, 0), (1, 40, 0))


@pytest.mark.parametrize(
    ("sigma", "target", "r", "c", "gamma"),
    [
        ("tanh", "sin", 0.5, 1.0, 0.9),
        ("relu", "sign", 0.4, 1.2, 1.0),
        ("sin", "hardtanh", 0.9, 1.0, 0.6),
        ("hermite2", "abs", 0.0, 1.0, 0.0),
    ],
)
def test_ridgeless_on_both_sides_of_the_threshold(sigma, target, r, c, gamma):
    for options in ({}, {"noise": 0.2, "d": 100}):
        got, want = both(sigma, target, r, c, gamma, RIDGELESS, **options)
        below = RIDGELESS["alpha"] < RIDGELESS["beta"]
        assert below.any()
        assert not below.all()
        off = deviations(got, want, power(target), ("test_error", "q2"))
        assert max(error.max() for error in off.values()) < 1e-10
        np.testing.assert_allclose(got.train_error, want.train_error, rtol=1e-10)
        assert np.all(got.train_error[below] == 0)
        np.testing.assert_allclose(got.v2[~below], want.v2[~below], rtol=1e-10)
        assert np.all(np.isinf(got.v2[below]))


def test_order_parameters_too():
    names = ("m", "theta", "psi", "q1", "q2", "v1", "v2")
    points = table((1.5, 1, 0.1), (0.5, 2, 1e-3), (3, 0.5, 0.01), (2, 1, 1e-10))
    for sigma, target, r, c, gamma in [
        ("relu", "softplus", 0.9, 1.1, 0.8),
        ("gelu", "sign", -0.6, 0.8, 0.5),
    ]:
        for d in (None, 40):
            agree(sigma, target, r, c, gamma, points, rtol=1e-9, fields=names, noise=0.1, d=d)


# --- the quadrature, and what is said of it ---


def gaussian_quad(f, edges):
    """E f(z) by adaptive quadrature between given edges; an estimate of its error as well."""
    inside = [-13.0, -5.0, -1.0, 1.0, 5.0, 13.0, *(x for x in edges if abs(x) < 13)]
    edges = np.unique(inside)
    total = 0.0
    for a, b in itertools.pairwise(edges):
        total += quad(
            lambda z: f(z) * np.exp(-z * z / 2), a, b, epsabs=1e-16, epsrel=1e-13, limit=200
        )[0]
    return total / np.sqrt(2 * np.pi)


def moments_by_quad(f, mean, sd):
    if sd == 0:
        return float(f.value(np.array(mean))), 0.0, 0.0
    kinks = [(kink - mean) / sd for kink in f.kinks]
    m0 = gaussian_quad(lambda z: float(f.value(mean + sd * z)), kinks)
    m1 = gaussian_quad(lambda z: z * (float(f.value(mean + sd * z)) - m0), kinks)
    m2 = gaussian_quad(lambda z: (float(f.value(mean + sd * z)) - m0 - m1 * z) ** 2, kinks)
    return m0, m1, m2


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")  # it stops at rounding
@pytest.mark.parametrize("name", NAMES)
def test_coefficients_against_adaptive_quadrature(name):
    core, f = _core.Activation(name), reference.ACTIVATIONS[name]
    for r, c, gamma, k in [
        (0.9, 1.0, 0.6, [0.0, 1.3, -4.0]),
        (20.0, 1.0, 1.0, [0.03, -0.35]),
        (0.4, 9.0, 0.0, [2.0]),
        (-2.0, 0.01, -0.9999, [0.02, 0.9]),
    ]:
        got = _core.coefficients(core, core, r, c, gamma, np.array(k))
        rho = np.sqrt((1 - gamma) * (1 + gamma))
        for i, x in enumerate(k):
            m0, m1, m2 = moments_by_quad(f, r * x, np.sqrt(c))
            scale = np.sqrt(m0**2 + m1**2 + m2)
            close = {"rel": 1e-12, "abs": 2e-13 * scale}
            assert got["mu0"][i] == pytest.approx(m0, **close)
            assert got["mu1"][i] == pytest.approx(m1, **close)
            assert got["mu2_squared"][i] == pytest.approx(m2, rel=1e-10, abs=2e-14 * scale**2)
            h0, h1, h2 = moments_by_quad(f, gamma * x, rho)
            hh = h0**2 + h1**2 + h2
            close = {"rel": 1e-12, "abs": 2e-13 * np.sqrt(hh)}
            assert got["h"][i] == pytest.approx(h0, **close)
            assert got["h1"][i] == pytest.approx(h1, **close)
            assert got["hh"][i] == pytest.approx(hh, rel=1e-12, abs=1e-15)


def test_the_estimated_quadrature_error_is_honest():
    """Observed error < 10 x quadrature_error + 1e-12, or what both programs' rounding makes."""
    rng = np.random.default_rng(20240207)
    worst = 0.0
    for _ in range(60):
        sigma, target = rng.choice(NAMES, 2)
        r, c = rng.normal() * 10 ** rng.uniform(-1, 0.7), 10 ** rng.uniform(-1, 1)
        gamma = rng.choice([rng.uniform(-1, 1), 1.0, 0.0])
        n = 4
        points = {
            "alpha": 10 ** rng.uniform(-1.5, 1.5, n),
            "beta": 10 ** rng.uniform(-1.5, 1.5, n),
            "lam": 10 ** rng.uniform(-5, 2, n),
        }
        got, want = both(sigma, target, r, c, gamma, points, density=1)
        assert np.all(got.quadrature_error < 1e-10)
        off = deviations(got, want, power(target))
        seen = np.max([off[name] for name in FIELDS], axis=0)
        excess = seen / (10 * got.quadrature_error + 1e-12)
        worst = max(worst, excess.max())
        assert worst < 1, (sigma, target, r, c, gamma, points, seen, got.quadrature_error)


def test_the_estimate_grows_with_the_error():
    """A function with an undeclared kink: the estimate covers the error, which is not small."""

    def fn(x):
        return np.abs(x - 0.31)

    rough, exact = srfx.Activation(fn), srfx.Activation(fn, kinks=[0.31])
    spike = {"target": "tanh", "r": 1.5, "c": 0.6, "gamma": 0.7}
    points = {"alpha": [0.5, 2, 5], "lam": 0.05}
    want = srfx.solve(srfx.SpikedRF(exact, **spike), **points)
    assert want.quadrature_error.max() < 1e-10
    with pytest.warns(srfx.AccuracyWarning):
        got = srfx.solve(srfx.SpikedRF(rough, **spike), **points)
    off = np.max([np.abs(getattr(got, x) / getattr(want, x) - 1) for x in FIELDS], axis=0)
    assert off.max() > 1e-9
    assert np.all(off < 10 * got.quadrature_error + 1e-12)


def rounded(fn, kind):
    """``fn`` computed in float64 and returned in another precision, or only rounded to it."""
    return {
        "returned": lambda x: fn(x).astype(kind),
        "hidden": lambda x: fn(x).astype(kind).astype(np.float64),
    }


def raised(x):
    return np.tanh(x) + 10


@pytest.mark.parametrize("kind", ["float32", "float16"])
@pytest.mark.parametrize("how", ["returned", "hidden"])
def test_a_callable_in_single_precision_is_told_so(how, kind):
    with pytest.warns(srfx.AccuracyWarning) as caught:
        srfx.solve(srfx.SpikedRF(rounded(raised, kind)[how], r=2), alpha=1, lam=1e-3)
    said = str(caught[0].message)
    assert f"returns {kind}, whose rounding errors limit the accuracy" in said
    assert "kinks" not in said


def test_what_a_callable_in_single_precision_has_besides():
    def kinked(x):
        return np.abs(x - 0.31).astype(np.float32)

    with pytest.warns(srfx.AccuracyWarning, match="returns float32, .*declare the kinks"):
        srfx.solve(srfx.SpikedRF(kinked), alpha=1, lam=0.1)
    # steps have the same values in any type: no precision is missing
    for kind in (bool, int, np.float32, np.float64):
        with pytest.warns(srfx.AccuracyWarning, match=r"e-0\d, more than 1e-8; declare the kinks"):
            srfx.solve(srfx.SpikedRF(lambda x, kind=kind: (x > 0.31).astype(kind)), 1, 0.1)
        step = srfx.Activation(lambda x, kind=kind: (x > 0.31).astype(kind), kinks=[0.31])
        assert srfx.solve(srfx.SpikedRF(step), 1, 0.1).quadrature_error < 1e-9


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_a_derivative_is_checked_at_the_precision_of_the_function(kind):
    """Differences over 1e-4, as of float64, would be rounding errors."""
    srfx.Activation(lambda x: np.tanh(x).astype(kind), lambda x: (1 - np.tanh(x) ** 2).astype(kind))
    with pytest.raises(ValueError, match="derivative must be the derivative of fn"):
        srfx.Activation(lambda x: np.tanh(x).astype(kind), lambda x: 1 - np.tanh(x))


# --- stated numbers ---


def test_numbers_stated_in_theory():
    step = srfx.OneStep("tanh", "sin", eta=3, alpha0=20)
    assert f"{srfx.solve(step, alpha=3, lam=0.1).test_error:.10f}" == "0.0325182080"
    step = srfx.OneStep("tanh", "sin", eta=3, alpha0=0.25)
    assert srfx.solve(step, alpha=2, lam=0.1).test_error == pytest.approx(0.31504896, abs=5e-9)
    for r, limit, finite in [(0.001, 0.1253, 0.2655), (0.03, 0.1252, 0.2256), (0.1, 0.1243, 0.149)]:
        model = srfx.SpikedRF("tanh", "sin", r=r, gamma=0.9)
        point = {"alpha": 1.5, "lam": 0.1}
        assert srfx.solve(model, **point).test_error == pytest.approx(limit, abs=5.1e-5)
        assert srfx.solve(model, **point, d=600).test_error == pytest.approx(finite, abs=5.1e-5)
    model = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=1)
    assert srfx.bounds(model) == pytest.approx((0.00166905, 0.02910490), abs=5.1e-9)
    model = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=0.9)
    got = srfx.solve(model, alpha=1e-8, lam=0.1).test_error
    assert got == pytest.approx(0.1145, abs=5e-5)
    for beta, stated in [(0.05, 0.029061), (1, 0.027111), (5, 0.015220), (100, 0.002718)]:
        model = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=1, beta=beta)
        got = srfx.solve(model, alpha=1e9, lam=0.1).test_error
        assert got == pytest.approx(stated, abs=6e-7)


@pytest.mark.parametrize("i", range(0, len(NAMES), 3))
def test_bounds_and_map_against_the_reference(i):
    sigma, target = NAMES[i], NAMES[(5 * i + 2) % len(NAMES)]
    for r, c, gamma in SPIKES[:-1]:  # without r = 1e-3, where k mu1 and mu0 are parallel to 1e-6
        got = srfx.bounds(srfx.SpikedRF(sigma, target, r=r, c=c, gamma=gamma))
        want = reference.bounds(sigma, target, r=r, c=c, gamma=gamma)
        scale = power(target)
        assert got.lower == pytest.approx(want.lower, rel=1e-9, abs=1e-13 * scale)
        assert got.upper == pytest.approx(want.upper, rel=1e-10, abs=1e-13 * scale)
    if sigma == "sign":
        return
    step = srfx.OneStep(sigma, target, eta=0.7, alpha0=1.5, noise=0.3)
    if srfx.models.is_odd(sigma):
        spiked = step.equivalent()
    else:
        with pytest.warns(srfx.ApproximationWarning):
            spiked = step.equivalent()
    want = reference.equivalent(sigma, target, eta=0.7, alpha0=1.5, noise=0.3)
    assert (spiked.r, spiked.c, spiked.gamma) == pytest.approx(want, rel=1e-11, abs=1e-14)


# --- callables ---


class Counted:
    """A function that counts its calls."""

    def __init__(self, fn):
        self.fn, self.calls, self.values = fn, 0, 0

    def __call__(self, x):
        self.calls += 1
        self.values += x.size
        return self.fn(x)


@pytest.mark.parametrize(
    ("name", "fn", "kinks"),
    [
        ("tanh", np.tanh, ()),
        ("softplus", lambda x: np.logaddexp(0, x), ()),
        ("relu", lambda x: np.maximum(x, 0), (0,)),
        ("sign", np.sign, (0,)),
        ("hardtanh", lambda x: np.clip(x, -1, 1), (-1, 1)),
        ("hermite4", lambda x: (x**4 - 6 * x**2 + 3) / np.sqrt(24), ()),
    ],
)
def test_a_callable_equals_its_name_in_few_calls(name, fn, kinks):
    counted = Counted(fn)
    function = srfx.Activation(counted, kinks=kinks)
    points = {
        "alpha": np.geomspace(0.1, 10, 7),
        "lam": np.geomspace(1e-10, 10, 6)[:, None],
    }
    spike = {"r": 1.4, "c": 0.8, "gamma": 0.7, "noise": 0.1}
    for named, twin in [
        (srfx.SpikedRF(name, "sin", **spike), srfx.SpikedRF(function, "sin", **spike)),
        (srfx.SpikedRF("tanh", name, **spike), srfx.SpikedRF("tanh", function, **spike)),
    ]:
        counted.calls = counted.values = 0
        srfx.solve(twin, alpha=np.geomspace(0.1, 10, 500), lam=0.1)
        assert 0 < counted.calls <= 30  # not one a point or a node
        assert counted.values / counted.calls > 200
        counted.calls = 0
        got = srfx.solve(twin, **points)  # some calls for each decade of lam
        assert 0 < counted.calls <= 100
        want = srfx.solve(named, **points)
        for field in FIELDS:
            np.testing.assert_allclose(getattr(got, field), getattr(want, field), rtol=1e-10)


# --- the solution satisfies the equations ---


def spectral_averages(a, b, beta):
    """<D^i/(a + b D)^j>, D Marchenko-Pastur, by the midpoint rule in an angle."""
    t = (np.arange(20_000) + 0.5) * np.pi / 20_000
    x = 1 + beta - 2 * np.sqrt(beta) * np.cos(t)
    density = (2 * np.sqrt(beta) * np.sin(t)) ** 2 / (2 * np.pi * beta * x) * np.pi / 20_000
    atom = max(0.0, 1 - 1 / beta)
    s = a + b * x
    return {
        (i, j): float(density @ (x**i / s**j)) + (atom / a**j if i == 0 else 0.0)
        for i, j in ((0, 1), (1, 1), (0, 2), (1, 2), (2, 2))
    }


def outer_rule(edges):
    x, w = np.polynomial.legendre.leggauss(20)
    grid = np.union1d(np.linspace(-12, 12, 97), [e for e in edges if abs(e) < 12])
    middle, half = (grid[1:] + grid[:-1]) / 2, np.diff(grid) / 2
    k = (middle[:, None] + half[:, None] * x).ravel()
    weight = (half[:, None] * w).ravel() * np.exp(-k * k / 2)
    return k, weight / weight.sum()


@pytest.mark.parametrize(
    ("sigma", "target", "r", "c", "gamma", "alpha", "beta", "lam", "noise", "d"),
    [
        ("tanh", "sin", 0.9, 1.0, 0.9, 1.5, 1.0, 0.1, 0.0, None),
        ("relu", "softplus", 0.9, 1.1, 0.8, 2.0, 0.6, 0.02, 0.3, None),
        ("relu", "softplus", 0.9, 1.1, 0.8, 0.7, 2.5, 0.02, 0.3, 80),
        ("sign", "abs", -1.3, 2.0, 0.4, 1.2, 1.7, 0.01, 0.0, 500),
        ("gelu", "sign", 0.6, 0.8, 1.0, 30.0, 4.0, 0.3, 0.1, None),
        ("hardtanh", "hermite3", 1.2, 1.0, -0.7, 0.05, 0.3, 2.0, 0.0, 10),
        ("cos", "relu", 0.0, 1.0, 0.0, 3.0, 1.0, 1e-3, 0.2, 200),
        ("linear", "tanh", 0.8, 1.5, 0.6, 1.0, 2.0, 0.1, 0.05, 100),
    ],
)
def test_the_solution_fed_back(sigma, target, r, c, gamma, alpha, beta, lam, noise, d):
    model = srfx.SpikedRF(sigma, target, r=r, c=c, gamma=gamma, beta=beta, noise=noise)
    sol = srfx.solve(model, alpha=alpha, lam=lam, d=d)
    k, weight = outer_rule([0.0])
    at = reference.coefficients(sigma, target, r, c, gamma, k)
    u1, u2 = at.mu1**2, at.mu2_sq

    def mean(x):
        return float(weight @ x)

    ratio = alpha / beta
    w = 1 / (1 + u1 * sol.v1 + u2 * sol.v2)
    bulk = spectral_averages(lam + ratio * mean(u2 * w), ratio * mean(u1 * w), beta)
    cost = 0.0 if d is None else 1 / (alpha * d * bulk[0, 1])
    linear = at.mu0 * sol.m + k * at.mu1 * sol.theta
    psi_hat = ratio * mean(at.h1 * at.mu1 * w)
    theta_hat = ratio * mean(k * at.mu1 * (at.h - linear) * w)
    loss = at.hh(noise) + linear**2 - 2 * linear * at.h - 2 * at.mu1 * sol.psi * at.h1
    risk = loss + u1 * sol.q1 + u2 * sol.q2
    n1 = ratio * mean(u1 * risk * w**2) + beta * psi_hat**2
    n2 = ratio * mean(u2 * risk * w**2) + beta * theta_hat**2
    if d is not None:
        n2 += sol.m**2 / (beta * d * bulk[0, 1] ** 2)
    size = np.sqrt(mean(w * at.h**2))
    close = {"rel": 2e-11}
    assert sol.v1 == pytest.approx(bulk[1, 1], **close)
    assert sol.v2 == pytest.approx(bulk[0, 1], **close)
    pull = mean(at.mu0 * w * (at.h - linear)) - cost * sol.m  # stationary in m
    assert abs(pull) < 1e-12 * size * np.sqrt(mean(w * at.mu0**2) + cost) + 1e-15
    unit = size / np.sqrt(mean(w * u1 * k**2) + 1 / (alpha * bulk[0, 1]))
    assert sol.theta == pytest.approx(beta * bulk[0, 1] * theta_hat, rel=1e-11, abs=1e-11 * unit)
    assert sol.psi == pytest.approx(beta * bulk[1, 1] * psi_hat, abs=1e-15, **close)
    assert sol.q1 == pytest.approx(bulk[2, 2] * n1 + bulk[1, 2] * n2, **close)
    assert sol.q2 == pytest.approx(bulk[1, 2] * n1 + bulk[0, 2] * n2, **close)
    assert sol.test_error == pytest.approx(mean(risk) - noise, **close)
    assert sol.train_error == pytest.approx(mean(risk * w**2), **close)


class TestRoundingOfLinearFeatures:
    """mu0 = r k and k mu1 are parallel; with a target orthogonal to k nothing depends on r."""

    @pytest.mark.parametrize("lam", [1e-6, 1e-12])
    def test_small_spike(self, lam):
        def solution(r):
            model = srfx.SpikedRF("linear", "hermite3", r=r, c=1, gamma=1, beta=3)
            return srfx.solve(model, alpha=1000, lam=lam)

        expected = solution(0)
        for r in (1e-9, 1e-8, 1e-6, 1e-4, 0.1):
            got = solution(r)
            assert got.test_error == pytest.approx(expected.test_error, rel=1e-10)
            assert got.q2 == pytest.approx(expected.q2, rel=1e-10)


@pytest.mark.parametrize("activation", ["hardtanh", "sign", "relu"])
@pytest.mark.parametrize("target", ["hermite3", "hermite6"])
def test_training_error_of_growing_targets(activation, target):
    points = {"alpha": 0.5, "lam": np.array([1e-2, 1e-4, 1e-6])}
    spike = {"r": 0.9, "c": 3.0, "gamma": 0.9}
    got = srfx.solve(srfx.SpikedRF(activation, target, **spike), **points)
    exact = reference.solve(activation, target, beta=1.0, **spike, **points)
    np.testing.assert_allclose(got.train_error, exact.train_error, rtol=1e-10)


def test_large_lam_with_polynomials():
    spike = {"r": 0.8, "c": 0.1, "gamma": -1.0}
    got = srfx.solve(srfx.SpikedRF("hermite6", "hermite6", **spike), alpha=2, lam=1e6)
    exact = reference.solve("hermite6", "hermite6", beta=1.0, alpha=2.0, lam=1e6, **spike)
    assert got.q2 == pytest.approx(exact.q2, rel=1e-10)


@pytest.mark.parametrize("distance", [1e-3, 1e-6, 1e-9])
def test_ridgeless_just_above_the_threshold(distance):
    model = srfx.SpikedRF("tanh", "sin", r=0.3, gamma=0.8)
    got = srfx.solve(model, alpha=1 + distance, lam=0)
    exact = reference.solve(
        "tanh", "sin", r=0.3, c=1.0, gamma=0.8, beta=1.0, alpha=1 + distance, lam=0
    )
    assert got.test_error == pytest.approx(exact.test_error, rel=1e-6)


def test_what_cannot_be_resolved_is_refused():
    with pytest.raises(ValueError, match="too large for this activation"):
        srfx.solve(srfx.SpikedRF("sin", c=1e17), alpha=1, lam=0.1)
