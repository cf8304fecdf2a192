"""Readouts of several values (THEORY section 7): solve, bounds, learned_function, output."""

import json
import warnings

import numpy as np
import pytest

import srfx
from srfx import _core, reference
from srfx.cli import run
from srfx.models import compiled

ERRORS = ("test_error", "train_error")
VECTORS = ("m", "theta", "psi", "q2", "v2")


def activation(name):
    """Values of a named activation."""
    return lambda x: _core.evaluate(compiled(name), np.ravel(x)).reshape(np.shape(x))


def panels(edges, order=16):
    """Gauss-Legendre nodes and normal weights on panels."""
    x, w = np.polynomial.legendre.leggauss(order)
    lo, hi = np.array(edges[:-1]), np.array(edges[1:])
    nodes = ((lo + hi)[:, None] + (hi - lo)[:, None] * x) / 2
    weights = (hi - lo)[:, None] / 2 * w * np.exp(-(nodes**2) / 2) / np.sqrt(2 * np.pi)
    return nodes.ravel(), weights.ravel()


def coefficients(name, slope, sd, k):
    """mu0, mu1, mu2^2 of an activation without kinks, or with one at 0, by brute force."""
    z, w = panels(np.arange(-11, 11.01, 0.5))
    rows = []
    for mean in slope * k:
        if sd > 0 and abs(mean / sd) < 11:
            z, w = panels(np.unique([*np.arange(-11, 11.01, 0.5), -mean / sd]))
        f = activation(name)(mean + sd * z)
        mu0, mu1 = w @ f, w @ (z * f)
        rows.append((mu0, mu1, w @ (f - mu0 - mu1 * z) ** 2))
    return np.array(rows).T


def defects(model, sol, alpha, lam, d=np.inf):
    """How far one solution is from THEORY 7, equation by equation, on quadrature of our own."""
    a_g, beta, gamma, noise = np.array(model.readout), model.beta, model.gamma, model.noise
    pi = np.array(model.weights)
    ratio = alpha / beta
    k, wk = panels(np.arange(-10, 10.01, 0.5))
    groups = [
        coefficients(model.activation, model.r * a, np.sqrt(1 + a * a * (model.c - 1)), k)
        for a in a_g
    ]
    mu0, mu1, u2 = (np.array(x) for x in zip(*groups, strict=True))
    h, h1, rest = coefficients(model.target, gamma, np.sqrt(1 - gamma**2), k)
    hh = rest + h**2 + h1**2 + noise
    m, theta, psi, q1, q2, v1, v2 = (
        getattr(sol, name) for name in ("m", "theta", "psi", "q1", "q2", "v1", "v2")
    )
    w = 1 / (1 + np.einsum("gi,gh,hi->i", mu1, v1, mu1) + v2 @ u2)
    vh1 = ratio * np.einsum("i,gi,hi->gh", wk * w, mu1, mu1)
    vh2 = ratio * u2 @ (wk * w)
    diag = np.diag(v2)
    j = np.linalg.inv(np.eye(len(pi)) + beta * vh1 @ diag)
    gam = j @ vh1
    out = {
        "v2": v2 * (lam + vh2 + np.diag(gam)) / pi - 1,
        "v1": (v1 - j.T @ diag) / np.sqrt(np.outer(np.diag(v1), np.diag(v1))),
    }
    c = m @ mu0 + k * (theta @ mu1)
    pull = np.zeros(len(pi)) if np.isinf(d) else m / (alpha * d * v2)
    scale = np.sqrt((wk * w) @ h**2)
    out["m"] = (mu0 @ (wk * w * (h - c)) - pull) / scale
    out["theta"] = (mu1 @ (wk * w * k * (h - c)) - theta / (beta * ratio * v2)) / scale
    psi_hat = ratio * mu1 @ (wk * w * h1)
    out["psi"] = (psi - beta * v1 @ psi_hat) / np.sqrt(v2)
    r0 = hh + c**2 - 2 * c * h - 2 * h1 * (psi @ mu1)
    r = r0 + np.einsum("gi,gh,hi->i", mu1, q1, mu1) + q2 @ u2
    n1 = ratio * np.einsum("i,gi,hi->gh", wk * r * w**2, mu1, mu1) + beta * np.outer(
        psi_hat, psi_hat
    )
    theta_hat = theta / (beta * v2)
    n2 = ratio * u2 @ (wk * r * w**2) + beta * theta_hat**2
    if np.isfinite(d):
        n2 = n2 + m**2 / (beta * d * v2**2)
    mx = np.diag(pi / v2**2) - beta * gam**2
    q2_map = np.linalg.solve(mx, n2 + np.diag(j @ n1 @ j.T))
    out["q2"] = (q2 - q2_map) / np.sum(q2)
    out["q1"] = (q1 - j.T @ np.diag(q2_map) @ j - beta * v1 @ n1 @ v1) / np.trace(q1)
    out["test"] = sol.test_error / (wk @ r - noise) - 1
    out["train"] = sol.train_error / (wk @ (r * w**2)) - 1
    identity = wk @ (w * (hh - c * h - h1 * (psi @ mu1)))
    out["energy"] = (wk @ (r * w**2) + lam / ratio * np.sum(q2)) / identity - 1
    return {name: np.max(np.abs(x)) for name, x in out.items()}


@pytest.mark.parametrize(
    ("model", "alpha", "lam", "d"),
    [
        (srfx.SpikedRF(r=0.9, gamma=0.8, readout=(1, 2), weights=(0.3, 0.7)), 1.5, 0.1, np.inf),
        (
            srfx.SpikedRF(
                "softplus", "relu", r=0.7, c=1.2, gamma=0.6, beta=2, noise=0.3,
                readout=(-1, 0, 0.5), weights=(0.2, 0.5, 0.3),
            ),
            0.7, 0.01, 400,
        ),
        (
            srfx.SpikedRF(
                "relu", "tanh", r=1.5, c=2.0, gamma=-0.5, beta=0.4,
                readout=(-1, -0.5, 0.5, 2), weights=(0.1, 0.2, 0.3, 0.4),
            ),
            3.0, 1e-3, np.inf,
        ),
        (
            srfx.SpikedRF(
                "gelu", "sin", r=0.5, c=1.1, gamma=0.3,
                readout=tuple(np.linspace(-1.5, 1.5, 10)), weights=(0.1,) * 10,
            ),
            2.0, 0.3, 1000,
        ),
    ],
)  # fmt: skip
def test_solutions_satisfy_the_equations_of_theory_7(model, alpha, lam, d):
    sol = srfx.solve(model, alpha=alpha, lam=lam, d=None if np.isinf(d) else d)
    for name, defect in defects(model, sol, alpha, lam, d).items():
        assert defect < 1e-10, name
    assert sol.residual < 1e-12
    assert sol.quadrature_error < 1e-11


@pytest.mark.parametrize(
    ("r", "limit", "with_d"),
    [(0.001, 0.1253, 0.2655), (0.03, 0.1252, 0.2256), (0.1, 0.1243, 0.1490)],
)
def test_finite_d_table_of_theory_5_through_two_groups(r, limit, with_d):
    model = srfx.SpikedRF(r=r, gamma=0.9, readout=(1, -1, 1), weights=(0.2, 0.3, 0.5))
    assert srfx.solve(model, alpha=1.5, lam=0.1).test_error == pytest.approx(limit, abs=5e-5)
    assert srfx.solve(model, alpha=1.5, lam=0.1, d=600).test_error == pytest.approx(
        with_d, abs=5e-5
    )


def core_solve(model, alpha, lam, d=np.inf, merge=True):
    """The general path of the core, for one group too."""
    a = np.array(model.readout)
    pi = np.array(model.weights or (1 / len(a),) * len(a))
    one = np.ones(1)
    points = np.size(alpha)
    return _core.solve_groups(
        compiled(model.activation), compiled(model.target), model.r * a[None],
        1 + a[None] ** 2 * (model.c - 1), model.gamma * one, pi, np.zeros(1, dtype=np.int64),
        model.beta * one, model.noise * one, np.ravel(alpha), lam * one, one / d, points, 1, merge,
    )  # fmt: skip


CASES = [
    srfx.SpikedRF("tanh", "sin", r=0.9, c=1.05, gamma=0.9),
    srfx.SpikedRF("relu", "tanh", r=-0.6, c=1.3, gamma=0.5, beta=3, noise=0.2),
    srfx.SpikedRF("sign", "sign", r=1.2, gamma=1.0, beta=0.5),
    srfx.SpikedRF("hermite2", "relu", r=0.3, gamma=0.7),
]


@pytest.mark.parametrize("model", CASES, ids=lambda m: m.activation)
@pytest.mark.parametrize(("lam", "d"), [(0.1, np.inf), (1e-6, np.inf), (1e-3, 500.0)])
def test_the_general_path_with_one_group_is_the_one_group_path(model, lam, d):
    alpha = np.array([0.3, 1.2, 7.0])
    one = srfx.solve(model, alpha=alpha, lam=lam, d=None if np.isinf(d) else d)
    general = core_solve(model, alpha, lam, d)
    for name in (*ERRORS, *VECTORS, "q1", "v1"):
        expected = np.asarray(getattr(one, name))
        atol = 1e-12 * np.sqrt(one.q2.max()) if name in ("m", "theta", "psi") else 0
        np.testing.assert_allclose(
            general[name].reshape(3), expected, rtol=2e-12, atol=atol, err_msg=name
        )


@pytest.mark.parametrize("model", CASES, ids=lambda m: m.activation)
@pytest.mark.parametrize("copies", [2, 5, 9])
@pytest.mark.parametrize("merge", [True, False])
def test_identical_groups_are_one(model, copies, merge):
    alpha = np.array([0.4, 2.0])
    one = core_solve(model, alpha, 0.01, 300.0)
    share = np.arange(1, copies + 1) / sum(range(1, copies + 1))
    several = core_solve(
        srfx.SpikedRF(
            model.activation, model.target, r=model.r, c=model.c, gamma=model.gamma,
            beta=model.beta, noise=model.noise, readout=(1.0,) * copies, weights=tuple(share),
        ),
        alpha, 0.01, 300.0, merge,
    )  # fmt: skip
    for name in ERRORS:
        np.testing.assert_allclose(several[name], one[name], rtol=1e-12)
    for name in VECTORS:
        np.testing.assert_allclose(several[name].sum(-1), one[name][:, 0], rtol=1e-11, atol=1e-13)
        if merge or name in ("q2", "v2"):
            np.testing.assert_allclose(
                several[name], one[name] * share, rtol=1e-11, atol=1e-13, err_msg=name
            )
    for name in ("q1", "v1"):
        total = several[name].sum((-1, -2))
        np.testing.assert_allclose(total, one[name][:, 0, 0], rtol=1e-11)


def test_merged_groups_are_told_apart_again():
    model = srfx.SpikedRF(r=0.9, gamma=0.9, readout=(1, -0.4, 1, 0.4), weights=(0.1, 0.2, 0.3, 0.4))
    merged = core_solve(model, 1.3, 0.05, 500.0)
    apart = core_solve(model, 1.3, 0.05, 500.0, merge=False)
    for name in (*ERRORS, *VECTORS, "q1", "v1"):
        np.testing.assert_allclose(merged[name], apart[name], rtol=1e-10, atol=1e-12, err_msg=name)
    # -a is the same neuron twice reflected (odd activation): its mean feature changes sign
    assert merged["m"][0, 1] == pytest.approx(-merged["m"][0, 3] / 2, rel=1e-12)


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_the_order_of_groups_does_not_matter(name):
    readout, weights = np.array([0.5, -1.0, 2.0, 0.0]), np.array([0.1, 0.2, 0.3, 0.4])
    order = [2, 0, 3, 1]
    sols = [
        srfx.solve(
            srfx.SpikedRF(
                name, "sin", r=0.7, c=1.2, gamma=0.8, readout=readout[i], weights=weights[i]
            ),
            alpha=[0.5, 2], lam=0.02, d=400,
        )
        for i in (list(range(4)), order)
    ]  # fmt: skip
    for key in ERRORS:
        np.testing.assert_allclose(getattr(sols[1], key), getattr(sols[0], key), rtol=1e-12)
    for key in VECTORS:
        expected = getattr(sols[0], key)[:, order]
        np.testing.assert_allclose(getattr(sols[1], key), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(sols[1].q1, sols[0].q1[:, order][:, :, order], rtol=1e-9, atol=1e-12)


def test_the_scale_of_the_readout_is_that_of_the_spike():
    a = srfx.solve(srfx.SpikedRF(r=0.45, readout=(1, 3)), alpha=1, lam=0.1)
    b = srfx.solve(srfx.SpikedRF(r=0.9, readout=(0.5, 1.5)), alpha=1, lam=0.1)
    assert a.test_error == pytest.approx(b.test_error, rel=1e-13)


def test_small_groups_do_not_matter():
    one = srfx.solve(srfx.SpikedRF(gamma=0.9), alpha=1, lam=0.1, d=500)
    two = srfx.solve(
        srfx.SpikedRF(gamma=0.9, readout=(1, 2), weights=(1 - 1e-9, 1e-9)), alpha=1, lam=0.1, d=500
    )
    assert two.test_error == pytest.approx(one.test_error, rel=1e-6)


def test_points_do_not_depend_on_company_or_threads():
    model = srfx.SpikedRF("relu", "sin", r=0.7, c=1.2, gamma=0.8, readout=(0.5, -1, 2))
    alpha, lam = np.linspace(0.2, 3, 41), np.logspace(-9, 2, 13)[:, None]
    all_of_them = srfx.solve(model, alpha=alpha, lam=lam, n_threads=1)
    threaded = srfx.solve(model, alpha=alpha, lam=lam, n_threads=2)
    for name in (*ERRORS, *VECTORS, "q1", "v1", "residual", "quadrature_error", "iterations"):
        whole = getattr(all_of_them, name)
        np.testing.assert_array_equal(getattr(threaded, name), whole)
        for i, j in ((0, 0), (5, 17), (12, 40), (3, 20)):
            alone = srfx.solve(model, alpha=alpha[j], lam=lam[i, 0])
            np.testing.assert_array_equal(getattr(alone, name), whole[i, j])
    assert all_of_them.quadrature_error.max() < 1e-10


@pytest.mark.parametrize("alpha", [0.4, 2.5])
@pytest.mark.parametrize("name", ["tanh", "softplus"])
def test_the_ridgeless_limit_is_the_limit(name, alpha):
    model = srfx.SpikedRF(name, "sin", r=0.3, c=2.0, gamma=0.8, noise=0.1, readout=(0.5, 1, -0.25))
    limit = srfx.solve(model, alpha=alpha, lam=0, d=800)
    small = srfx.solve(model, alpha=alpha, lam=[1e-7, 1e-8], d=800)
    extrapolated = small.test_error[1] + (small.test_error[1] - small.test_error[0]) / 9
    assert limit.test_error == pytest.approx(extrapolated, rel=1e-7)
    np.testing.assert_allclose(limit.theta, small.theta[1], rtol=1e-4, atol=1e-6)
    if alpha < 1:
        assert np.all(np.isinf(limit.v2))
        assert limit.train_error == 0


def test_the_ridgeless_threshold_is_refused():
    with pytest.raises(srfx.ConvergenceError, match="diverges at the interpolation threshold"):
        srfx.solve(srfx.SpikedRF(readout=(1, 2)), alpha=1, lam=0)


@pytest.mark.parametrize("beta", [0.2, 1.0, 30.0])
def test_small_penalties_at_the_threshold(beta):
    model = srfx.SpikedRF("tanh", "sin", gamma=0.8, beta=beta, readout=(1, 2, 0.3), noise=0.1)
    lam = np.array([1e-12, 1e-10])
    sol = srfx.solve(model, alpha=beta, lam=lam)
    assert sol.residual.max() < 1e-10
    # the peak grows like lam^(-1/2)
    assert sol.test_error[0] / sol.test_error[1] == pytest.approx(10, rel=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_against_the_reference(seed):
    """Random models: `srfx.reference` shares no code with the core."""
    rng = np.random.default_rng(seed)
    k = (1, 2, 3, 4, 6, 9)[seed]
    weights = rng.dirichlet(np.full(k, 3.0))
    model = srfx.SpikedRF(
        ("tanh", "relu", "erf", "softplus", "sign", "gelu")[seed],
        ("sin", "tanh", "relu", "sign", "cos", "abs")[seed],
        r=rng.uniform(0.3, 2), c=rng.uniform(1, 1.5), gamma=rng.uniform(-1, 1),
        beta=10 ** rng.uniform(-0.5, 0.5), noise=rng.uniform(0, 0.3),
        readout=tuple(rng.uniform(-2, 2, k)), weights=(*weights[:-1], 1 - weights[:-1].sum()),
    )  # fmt: skip
    alpha, lam, d = 10 ** rng.uniform(-0.5, 0.7), 10 ** rng.uniform(-4, 0), 700.0
    sol = srfx.solve(model, alpha=alpha, lam=lam, d=d)
    exact = reference.solve_groups(model, alpha, lam, d)
    for name in ERRORS:
        assert getattr(sol, name) == pytest.approx(getattr(exact, name), rel=1e-9), name
    for name in VECTORS:
        expected = np.asarray(getattr(exact, name)).ravel()
        scale = 1e-8 * np.abs(expected).max() + 1e-13
        np.testing.assert_allclose(np.ravel(getattr(sol, name)), expected, rtol=1e-8, atol=scale)


# --- bounds, learned function ---


def test_more_groups_lower_the_bound():
    # THEORY 7: sin, gamma = 1, c = 1, r = .9 a
    bounds = [
        srfx.bounds(srfx.SpikedRF("tanh", "sin", r=0.9, readout=a))
        for a in ((1,), (1, 2), (1, 2, 3))
    ]
    lower = [float(b.lower) for b in bounds]
    np.testing.assert_allclose(lower, [1.67e-3, 5.66e-5, 6.8e-6], rtol=8e-3)
    assert bounds[0].upper > bounds[1].upper > bounds[2].upper > lower[2]


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_bounds_hold(name):
    model = srfx.SpikedRF(
        name, "sin", r=0.8, c=1.2, gamma=0.7, readout=(0.5, -1, 2), weights=(0.5, 0.2, 0.3)
    )
    lower, upper = srfx.bounds(model)
    sol = srfx.solve(model, alpha=[0.3, 2, 50], lam=[[1e-3], [0.1], [3]])
    assert np.all(sol.test_error > lower * (1 - 1e-9))
    many = srfx.solve(model, alpha=1e3, lam=1e-3)
    assert many.test_error < upper * 1.01
    identical = srfx.bounds(srfx.SpikedRF(name, "sin", r=0.8, c=1.2, gamma=0.7, readout=(1, 1)))
    one = srfx.bounds(srfx.SpikedRF(name, "sin", r=0.8, c=1.2, gamma=0.7))
    np.testing.assert_allclose(identical, one, rtol=1e-12)


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_the_learned_function_projects_the_target(name):
    # THEORY 8: E[s* f(t)] = E[h C + h1 mu1 psi]
    model = srfx.SpikedRF(
        name, "sin", r=0.8, c=1.2, gamma=0.7, readout=(0.5, -1, 2), weights=(0.5, 0.2, 0.3)
    )
    sol = srfx.solve(model, alpha=1.5, lam=0.1)
    t, w = panels(np.arange(-9, 9.01, 0.5))
    f = srfx.learned_function(model, alpha=1.5, lam=0.1, t=t)
    groups = [coefficients(name, 0.8 * a, np.sqrt(1 + 0.2 * a * a), t) for a in model.readout]
    mu0, mu1, _ = (np.array(x) for x in zip(*groups, strict=True))
    h, h1, _ = coefficients("sin", 0.7, np.sqrt(1 - 0.49), t)
    expected = w @ (h * (sol.m @ mu0 + t * (sol.theta @ mu1)) + h1 * (sol.psi @ mu1))
    assert w @ (np.sin(t) * f) == pytest.approx(expected, rel=1e-10)


# --- models ---


def test_one_step_groups_have_their_own_learning_rates():
    step = srfx.OneStep("tanh", "sin", eta=2, alpha0=1, readout=(0.5, 1.5))
    spiked = step.equivalent()
    a, b = (srfx.solve(m, alpha=1, lam=0.1, d=600) for m in (step, spiked))
    assert a.test_error == pytest.approx(b.test_error, rel=1e-13)
    np.testing.assert_allclose(a.m, b.m, rtol=1e-11)


def test_one_step_groups_of_any_activation():
    # one value given twice is that value; and the mean of the readout enters the residual
    def step(readout):
        return srfx.OneStep("relu", "tanh", eta=1.5, alpha0=2, noise=0.1, readout=readout)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", srfx.ApproximationWarning)
        one = srfx.solve(step((0.7,)), alpha=1.5, lam=0.1, d=500)
        two = srfx.solve(step((0.7, 0.7)), alpha=1.5, lam=0.1, d=500)
        apart = srfx.solve(step((0.2, 1.2)), alpha=1.5, lam=0.1, d=500)
        with pytest.raises(NotImplementedError, match="several readout values"):
            step((0.2, 1.2)).equivalent()
    assert two.test_error == pytest.approx(one.test_error, rel=1e-12)
    assert apart.test_error != pytest.approx(one.test_error, rel=1e-3)


def test_readout_quantiles():
    values = srfx.readout_quantiles("gaussian", 16)
    assert len(values) == 16
    assert tuple(-x for x in reversed(values)) == values
    from scipy.stats import norm

    np.testing.assert_allclose(norm.cdf(values), (np.arange(16) + 0.5) / 16, rtol=1e-12)
    assert srfx.readout_quantiles("gaussian", 3)[1] == 0
    np.testing.assert_allclose(
        srfx.readout_quantiles("uniform", 2), np.sqrt(3) * np.array([-0.5, 0.5])
    )
    with pytest.raises(ValueError, match="distribution must be one of 'gaussian', 'uniform'"):
        srfx.readout_quantiles("gauss")
    with pytest.raises(ValueError, match="n must be an integer from 1 to 32; got 33"):
        srfx.readout_quantiles("gaussian", 33)
    with pytest.raises(TypeError, match=r"n must be an integer from 1 to 32; got 2\.0"):
        srfx.readout_quantiles("gaussian", 2.0)


def test_quantiles_converge():
    # odd activation: 16 values are 8 groups
    errors = [
        srfx.solve(
            srfx.SpikedRF(r=0.9, gamma=0.9, readout=srfx.readout_quantiles("gaussian", n)),
            alpha=2, lam=0.1, d=1000,
        ).test_error
        for n in (4, 8, 16, 32)
    ]  # fmt: skip
    steps = np.abs(np.diff(errors))
    assert steps[2] < steps[1] < steps[0]


@pytest.mark.parametrize("readout", [(1.0,) * 33, tuple(range(40))])
def test_more_than_32_values_are_refused(readout):
    for call in (
        lambda m: srfx.solve(m, alpha=1, lam=1),
        srfx.bounds,
        lambda m: srfx.learned_function(m, alpha=1, lam=1, t=0),
    ):
        with pytest.raises(ValueError, match="readout must have at most 32 values; got"):
            call(srfx.SpikedRF(readout=readout))


def test_32_groups():
    model = srfx.SpikedRF("relu", "sin", gamma=0.8, readout=np.linspace(-1.5, 1.6, 32))
    sol = srfx.solve(model, alpha=2, lam=0.1, d=1000)
    assert sol.m.shape == (32,)
    assert sol.v1.shape == (32, 32)
    assert sol.residual < 1e-11


def test_a_bulk_variance_that_is_not_positive_is_refused():
    with pytest.raises(
        ValueError, match="bulk variance 1 \\+ readout\\^2 \\(c - 1\\) must be positive"
    ):
        srfx.solve(srfx.SpikedRF(c=0.5, readout=(1, 2)), alpha=1, lam=1)


# --- output ---


def test_labelled_output():
    model = srfx.SpikedRF(readout=(1, 2, 3), weights=(0.5, 0.3, 0.2), gamma=0.9)
    sol = srfx.solve(model, alpha=[1, 2], lam=[[0.1], [1], [2], [3]], d=500)
    assert sol.test_error.shape == (4, 2)
    assert sol.m.shape == (4, 2, 3)
    assert sol.q1.shape == (4, 2, 3, 3)
    ds = sol.to_xarray()
    assert ds.q1.dims == ("lam", "alpha", "group", "group_")
    assert ds.v2.dims == ("lam", "alpha", "group")
    assert ds.readout.values.tolist() == [1, 2, 3]
    assert ds.weight.values.tolist() == [0.5, 0.3, 0.2]
    frame = sol.to_dataframe()
    np.testing.assert_array_equal(frame["m_3"], sol.m[..., 2].ravel())
    np.testing.assert_array_equal(frame["q1_1_3"], sol.q1[..., 0, 2].ravel())
    assert "m" not in frame
    assert "q1_3_1" not in frame


def test_command_line(tmp_path, capsys):
    words = "solve --r 0.9 --gamma 0.9 --alpha 1,2 --lam 0.1 --readout 1,2,3 --weights .5,.3,.2"
    model = srfx.SpikedRF(r=0.9, gamma=0.9, readout=(1, 2, 3), weights=(0.5, 0.3, 0.2))
    sol = srfx.solve(model, alpha=[1, 2], lam=0.1)
    assert run(words.split()) == 0
    out = capsys.readouterr().out
    assert "readout = 1, 2, 3, weights = 0.5, 0.3, 0.2" in out
    lines = out.splitlines()
    row = dict(zip(lines[2].split(), lines[3].split(), strict=True))
    assert float(row["m_2"]) == pytest.approx(sol.m[0, 1], abs=1e-9)
    assert float(row["test_error"]) == pytest.approx(sol.test_error[0], rel=1e-8)
    assert run([*words.split(), "--format", "json"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert points[1]["v1_1_2"] == sol.v1[1, 0, 1]
    file = tmp_path / "out.nc"
    assert run([*words.split(), "-o", str(file)]) == 0
    import xarray as xr

    with xr.open_dataset(file) as ds:
        np.testing.assert_array_equal(ds.theta.values, sol.theta)
