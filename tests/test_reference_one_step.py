"""The reference of THEORY 9 and 10 against printed numbers, against itself, exact properties."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("scipy")

import srfx
from srfx import reference
from srfx.reference import Function, _one_step, solve_one_step

SHIFTED = Function(lambda x: np.tanh(x + 0.7), (), lambda x: 1.0 / np.cosh(x + 0.7) ** 2)


def step(activation, target, eta, alpha0, beta=1.0, noise=0.0, readout=(1.0,), weights=None):
    return SimpleNamespace(
        activation=activation, target=target, eta=eta, alpha0=alpha0, beta=beta, noise=noise,
        readout=readout, weights=weights,
    )  # fmt: skip


# ----------------------------------------------------------------------- numbers of the THEORY page


@pytest.mark.parametrize(
    ("model", "alpha", "lam", "d", "test", "train"),
    [
        (step("relu", "relu", 1, 2), 1, 0.3, None, 0.19500205, 0.06657937),
        (step(SHIFTED, "tanh", 2, 0.5), 3, 0.03, None, 0.26580820, 0.12867660),
        (step("gelu", "relu", 2, 1, 2.0, 0.2), 1, 0.3, None, 0.26562319, 0.11922749),
        (step("tanh", "tanh", 0.4, 20, 0.5), 5, 0.1, 600, 0.06503732, 0.05323797),
        (step("tanh", "sin", 2, 0.5, readout=(0.5, 1.5)), 1, 0.1, None, 0.28115963, 0.07045661),
    ],
    ids=["relu", "shifted", "gelu", "d", "groups"],
)
def test_reference_values(model, alpha, lam, d, test, train):
    got = solve_one_step(model, alpha, lam, d)
    assert got.test_error == pytest.approx(test, abs=6e-9)
    assert got.train_error == pytest.approx(train, abs=6e-9)
    assert got.energy < 1e-12


@pytest.mark.parametrize("route", ["odd", "general"])
@pytest.mark.parametrize(
    ("model", "alpha", "lam", "want", "digits"),
    [
        (step("tanh", "sin", 3, 0.25), 2, 0.1, 0.3553, 4),
        (step("tanh", "tanh", 8, 20), 2, 0.1, 0.0242, 4),
        (step("tanh", "sin", 2, 0.5, 1.5), 1, 0.01, 0.3558, 4),
    ],
)
def test_spot_checks(route, model, alpha, lam, want, digits):
    got = solve_one_step(model, alpha, lam, route=route)
    assert got.test_error == pytest.approx(want, abs=0.51 * 10.0**-digits)


def test_relu_with_an_odd_target():
    got = solve_one_step(step("relu", "tanh", 2, 10), 2, 0.1)
    assert got.test_error == pytest.approx(0.25978, abs=5.1e-6)


# ------------------------------------------------------------------------ one part against another

FIELDS = ("test_error", "train_error", "theta", "psi", "chi", "q1", "q2", "v1", "v2")


def agree(a, b, rel, fields=FIELDS):
    for name in fields:
        left, right = np.asarray(getattr(a, name)), np.asarray(getattr(b, name))
        assert np.max(np.abs(left - right)) <= rel * np.max(np.abs(right)), name


@pytest.mark.parametrize(
    ("sigma", "target", "eta", "alpha0", "beta", "alpha", "lam"),
    [
        ("tanh", "sin", 3.0, 0.25, 1.0, 2.0, 0.1),
        ("erf", "hardtanh", 8.0, 20.0, 0.5, 0.7, 1e-4),
        ("hardtanh", "tanh", 0.3, 1000.0, 2.0, 2.0, 10.0),
        ("sin", "hermite3", 1.0, 1.0, 3.0, 5.0, 0.01),
    ],
)
def test_odd_case_of_section_10_is_section_9(sigma, target, eta, alpha0, beta, alpha, lam):
    model = step(sigma, target, eta, alpha0, beta)
    one = solve_one_step(model, alpha, lam, route="odd")
    two = solve_one_step(model, alpha, lam, route="general")
    agree(two, one, 1e-10)
    assert max(one.energy, two.energy) < 1e-11


@pytest.mark.parametrize(
    ("model", "d"),
    [
        (step("tanh", "sin", 3, 0.25), None),
        (step("tanh", "tanh", 0.4, 20, 0.5, 0.1), 600),
        (step("relu", "relu", 1, 2), None),
        (step("gelu", "relu", 2, 1, 2.0, 0.2), None),
    ],
)
def test_one_group_of_the_formulas_for_several(model, d):
    one, many = (solve_one_step(model, 2.0, 0.1, d, route=x) for x in ("general", "groups"))
    agree(many, one, 1e-10)


def test_damped_mean_of_the_two_formulas():
    """With h2 the one-group g_m and the groups' N are not the same formula; they nearly agree."""
    model = step("relu", "relu", 1, 2)
    free, one = (solve_one_step(model, 1.0, 0.3, d).test_error for d in (None, 600))
    many = solve_one_step(model, 1.0, 0.3, 600, route="groups").test_error
    assert abs(many - one) < 2e-3 * abs(one - free)


def test_identical_groups_are_one():
    for model, d in ((("tanh", "sin", 2, 0.5), 600), (("relu", "tanh", 1, 2), None)):
        same = step(*model, readout=(1.0, 1.0), weights=(0.3, 0.7))
        two = solve_one_step(same, 1.0, 0.3, d)
        one = solve_one_step(step(*model), 1.0, 0.3, d, route="groups")
        assert two.test_error == pytest.approx(one.test_error, rel=1e-11)
        assert two.train_error == pytest.approx(one.train_error, rel=1e-11)
        assert float(np.sum(two.q2)) == pytest.approx(one.q2, rel=1e-11)


def test_a_small_step_of_groups_is_section_7():
    """As eta -> 0 the bulk is isotropic, with the map's r_g, c_g and gamma.

    At finite d only: with m free the means of a tiny spike are amplified without bound.
    """
    d = 600
    small = reference.one_step_map(step("tanh", "sin", 1e-3, 2.0))
    spiked = SimpleNamespace(
        activation="tanh", target="sin", r=float(small.r[0]), c=float(small.c[0]),
        gamma=small.gamma, beta=1.5, noise=0.1, readout=(0.5, 1.5), weights=(0.4, 0.6),
    )  # fmt: skip
    want = reference.solve_groups(spiked, 2.0, 0.05, d)
    model = step("tanh", "sin", 1e-3, 2.0, 1.5, 0.1, spiked.readout, spiked.weights)
    got = solve_one_step(model, 2.0, 0.05, d)
    agree(got, want, 1e-3, ("test_error", "train_error", "q2", "v1", "v2"))


@pytest.mark.parametrize("d", [None, 500])
@pytest.mark.parametrize(
    ("sigma", "target", "eta", "alpha0"),
    [
        ("cos", "sin", 2.0, 1.0),
        ("abs", "relu", 2.0, 0.5),
        ("hermite2", "tanh", 20.0, 0.2),
        ("hermite4", "cos", 1.0, 3.0),
        ("cos", "sin", 2.0, math.inf),
    ],
)
def test_even_activations(sigma, target, eta, alpha0, d):
    """h1 = 0: Vh1 vanishes, by which sections 9 and 10 divide. The core goes its own way there."""
    got = solve_one_step(step(sigma, target, eta, alpha0), 1.3, 0.1, d)
    model = srfx.OneStep(sigma, target, eta=eta, alpha0=alpha0)
    want = srfx.solve(model, 1.3, 0.1, d=d, bulk="one_step")
    for name in ("test_error", "train_error", "m", "q2", "v2"):
        assert getattr(got, name) == pytest.approx(getattr(want, name), rel=1e-9, abs=1e-13), name
    assert max(abs(got.theta), abs(got.psi)) < 1e-25
    assert got.energy < 1e-12


def test_a_vanishing_linear_part_is_a_limit():
    """A little of z in an even sigma: the error moves by its square, on either way of solving."""
    errors = []
    for size in (0.0, 1e-4, 5e-3):  # below and above where the formulas for groups take over
        sigma = Function(lambda z, e=size: e * z + z * z - 1, (), lambda z, e=size: e + 2 * z)
        errors.append(solve_one_step(step(sigma, "tanh", 0.0, 1.0), 1.3, 0.1).test_error)
    ratio = (errors[2] - errors[0]) / (errors[1] - errors[0])
    assert ratio == pytest.approx(2500, rel=1e-3)


@pytest.mark.parametrize("sigma", ["hermite2", "hermite3", "hermite4"])
def test_no_step_and_no_linear_part(sigma):
    plain = reference.solve(sigma, "tanh", r=0.0, c=1.0, gamma=0.3, beta=1.5, alpha=2.0, lam=0.05)
    got = solve_one_step(step(sigma, "tanh", 0.0, 2.0, 1.5), 2.0, 0.05)
    agree(got, plain, 1e-12, ("test_error", "train_error", "q2", "v2"))


MIXED = Function(lambda z: z * z - 1 + z**3 - 3 * z, (), lambda z: 2 * z + 3 * z * z - 3)


def test_what_the_reference_refuses_it_names():
    with pytest.raises(ValueError, match=r"alpha0 must be finite where E.t u. = 0.*vanishes"):
        solve_one_step(step("tanh", "cos", 2.0, math.inf), 1.3, 0.1)
    with pytest.raises(ValueError, match="target must not be the constant"):
        solve_one_step(step("tanh", lambda t: 0 * t, 2, 1), 1.3, 0.1)
    with pytest.raises(ValueError, match=r"activation must have E.z sigma"):
        solve_one_step(step(MIXED, "cos", 1e-9, 1.0), 1.3, 0.1)
    assert solve_one_step(step(MIXED, "tanh", 0.0, 1.0), 1.3, 0.1).energy < 1e-12
    with pytest.raises(ValueError, match="route must be 'odd'"):
        solve_one_step(step("tanh", "sin", 1.0, 1.0), 1.3, 0.1, route="even")


def test_averages_with_poles_near_the_axis(monkeypatch):
    """A nearly quadratic sigma at small alpha0: the panels in t are doubled until they suffice."""
    sigma = srfx.Activation(lambda x: x + 0.1 * (x * x - 1), lambda x: 1 + 0.2 * x)
    model = srfx.OneStep(sigma, "tanh", eta=2.0, alpha0=0.02)
    got = solve_one_step(model, 1.3, 0.1)
    want = srfx.solve(model, 1.3, 0.1, bulk="one_step")
    assert got.test_error == pytest.approx(want.test_error, rel=5e-12)
    assert got.train_error == pytest.approx(want.train_error, rel=5e-12)
    monkeypatch.setattr(_one_step, "MAX_DOUBLINGS", 1)
    with pytest.raises(ValueError, match="density must be more than 1 here"):
        solve_one_step(model, 1.3, 0.1)
    monkeypatch.setattr(_one_step, "SAME", np.inf)
    assert abs(solve_one_step(model, 1.3, 0.1).test_error / want.test_error - 1) > 5e-12


@pytest.mark.parametrize("route", ["odd", "general"])
def test_without_a_step_it_is_the_plain_network(route):
    plain = reference.solve("tanh", "sin", r=0.0, c=1.0, gamma=0.3, beta=1.5, alpha=2.0, lam=0.05)
    for model in (step("tanh", "sin", 0.0, 2.0, 1.5), step("tanh", "sin", 3.0, 0.0, 1.5)):
        got = solve_one_step(model, 2.0, 0.05, route=route)
        agree(got, plain, 1e-12, ("test_error", "train_error", "q2", "v1", "v2"))


def test_many_samples_approach_the_limit():
    limit = solve_one_step(step("tanh", "sin", 2.0, math.inf), 2.0, 0.1)
    near = solve_one_step(step("tanh", "sin", 2.0, 1e6), 2.0, 0.1)
    assert near.test_error == pytest.approx(limit.test_error, rel=1e-4)
    # the row norms remain, so that the isotropic model is not the limit
    r, c, gamma = reference.equivalent("tanh", "sin", 2.0, math.inf)
    spiked = reference.solve("tanh", "sin", r=r, c=c, gamma=gamma, beta=1.0, alpha=2.0, lam=0.1)
    assert abs(limit.test_error / float(spiked.test_error) - 1.0) > 1e-3


@pytest.mark.parametrize(
    ("sigma", "target", "eta", "alpha0", "noise"),
    [("tanh", "sin", 2, 0.5, 0.0), ("relu", "tanh", 1, 3, 0.3), (SHIFTED, "relu", 2, 1, 0.0)],
)
def test_map_is_the_map_of_the_spiked_reference(sigma, target, eta, alpha0, noise):
    got = reference.one_step_map(step(sigma, target, eta, alpha0, noise=noise))
    want = reference.equivalent(sigma, target, eta, alpha0, noise)
    assert (float(got.r[0]), float(got.c[0]), got.gamma) == pytest.approx(want, rel=1e-12)


def test_exact_symmetries():
    base = solve_one_step(step("gelu", "relu", 1.5, 1.0, noise=0.2), 1.5, 0.1)
    gelu = reference.ACTIVATIONS["gelu"]
    # sigma -> s sigma, sigma* -> s sigma* as well, so that the step stays the same with eta / s^2
    twice = Function(lambda x: 2 * gelu.value(x), (), lambda x: 2 * gelu.derivative(x))
    star = Function(lambda x: 2 * np.maximum(x, 0.0), (0.0,))
    scaled = solve_one_step(step(twice, star, 1.5 / 4, 1.0, noise=0.8), 1.5, 0.4)
    assert scaled.test_error == pytest.approx(4 * base.test_error, rel=1e-11)
    assert scaled.train_error == pytest.approx(4 * base.train_error, rel=1e-11)
    mirrored = Function(lambda x: np.maximum(-x, 0.0), (0.0,))
    flipped = solve_one_step(step("gelu", mirrored, 1.5, 1.0, noise=0.2), 1.5, 0.1)
    assert flipped.test_error == pytest.approx(base.test_error, rel=1e-11)


@pytest.mark.parametrize(
    "model",
    [
        step("tanh", "sin", 8, 0.25),
        step("relu", "relu", 2, 0.5),
        step("softplus", "tanh", 1, 2, noise=1.0),
        step("gelu", "sin", 2, 0.5, noise=0.02),
    ],
)
def test_doubling_the_panels_changes_nothing(model):
    one, two = (solve_one_step(model, 1.5, 0.05, density=n) for n in (1, 2))
    agree(one, two, 1e-10, ("test_error", "train_error", "q1", "q2", "v1", "v2"))


def test_noise_by_density_and_by_product():
    """The average over (t, eps) by a density of u equals plain two-dimensional integration."""
    star = reference.ACTIVATIONS["relu"]
    rule = _one_step.residual_rule(star, 0.4, 0.3, 1)
    x, w = np.polynomial.hermite_e.hermegauss(150)
    w = w / w.sum()
    t = np.linspace(-9, 9, 20001)
    p = np.exp(-0.5 * t * t)
    p /= p.sum()

    def f(u):
        return 1.0 / (1.0 + 0.5 * u * u)

    inner = f(np.maximum(t, 0)[:, None] + math.sqrt(0.3) * x - 0.4) @ w
    for power in range(3):
        assert float(rule.mean(f(rule.u), power)) == pytest.approx(
            float(np.sum(p * t**power * inner)), abs=1e-7
        )


def test_envelope():
    """d(E[minimal loss]/n)/dlam = sum Q2 / a' (THEORY 8)."""
    model = step("relu", "tanh", 1.5, 2.0, noise=0.1)
    alpha, lam, h = 2.0, 0.2, 1e-4

    def loss(x):
        at = solve_one_step(model, alpha, x, 800)
        return at.train_error + x / alpha * at.q2

    slope = (loss(lam + h) - loss(lam - h)) / (2 * h)
    assert slope == pytest.approx(solve_one_step(model, alpha, lam, 800).q2 / alpha, rel=1e-6)


@pytest.mark.parametrize(
    ("model", "options", "match"),
    [
        (step("sign", "tanh", 1, 1), {}, "derivative"),
        (step("relu", "tanh", 1, 1), {"route": "odd"}, "odd sigma"),
        (step("tanh", "tanh", 1, 1, readout=(1.0, 2.0)), {"route": "odd"}, "readout"),
        (step("tanh", "tanh", 1, -1.0), {}, "alpha0"),
        (step(SHIFTED, "tanh", 1, 1, readout=(1.0, 2.0)), {}, "no formula"),
        (step("tanh", "hermite2", 1, math.inf), {}, "vanishes"),
        (step("tanh", "tanh", 1, 1), {"route": "quick"}, "route"),
    ],
)
def test_what_the_sections_do_not_reach(model, options, match):
    with pytest.raises(ValueError, match=match):
        solve_one_step(model, 1.0, 0.1, **options)


@pytest.mark.parametrize(
    ("sigma", "target", "eta", "alpha0", "beta", "noise", "alpha", "lam", "d"),
    [
        ("tanh", "sin", 3.0, 0.25, 1.0, 0.0, 2.0, 0.1, None),
        ("erf", "tanh", 8.0, 20.0, 0.5, 0.2, 0.7, 1e-3, 900),
        ("relu", "relu", 2.0, 0.5, 2.0, 0.0, 1.5, 0.03, 700),
        ("softplus", "sign", 1.0, 2.0, 1.3, 0.4, 3.0, 1.0, None),
        ("sigmoid", "hermite3", 4.0, 3.0, 0.7, 0.0, 2.0, 0.01, None),
    ],
)
@pytest.mark.filterwarnings("ignore::srfx.models.AccuracyWarning")  # a cautious estimate
def test_the_core_agrees(sigma, target, eta, alpha0, beta, noise, alpha, lam, d):
    want = solve_one_step(step(sigma, target, eta, alpha0, beta, noise), alpha, lam, d)
    model = srfx.OneStep(sigma, target, eta=eta, alpha0=alpha0, beta=beta, noise=noise)
    got = srfx.solve(model, alpha=alpha, lam=lam, d=d, bulk="one_step")
    agree(got, want, 1e-9, ("test_error", "train_error", "q2", "v2"))


# ----------------------------------------------------------------------------- given weights (9 f)


def test_instance_of_the_plain_network_and_of_itself():
    """Weights with a known spectrum: orthogonal rows, where every overlap is a closed form."""
    rng = np.random.default_rng(3)
    d, p = 400, 200
    w = np.linalg.qr(rng.standard_normal((d, p)))[0].T
    theta = rng.standard_normal(d)
    got = reference.solve_instance(w, theta, theta, "tanh", "sin", 2.0, 0.1)
    assert got.energy < 1e-12
    assert got.v2 > 0
    # rows turned by a rotation that keeps v and theta: nothing changes
    turn = np.eye(d) - 2.0 * np.outer(x := rng.standard_normal(d), x) / (x @ x)
    moved = reference.solve_instance(
        w @ turn, theta @ turn, 3 * theta @ turn, "tanh", "sin", 2, 0.1
    )
    assert moved.test_error == pytest.approx(got.test_error, rel=1e-10)
    # and a permutation of the rows
    mixed = reference.solve_instance(w[::-1], theta, theta, "tanh", "sin", 2.0, 0.1)
    assert mixed.test_error == pytest.approx(got.test_error, rel=1e-10)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_instance_predicts_its_network(activation):
    """One step made here, in NumPy; its ridge regressions against the theory of its weights."""
    rng = np.random.default_rng(11)
    d, beta, alpha, alpha0, eta, lam = 500, 1.0, 2.0, 1.0, 2.0, 0.1
    p, n, n0 = int(beta * d), int(alpha * d), int(alpha0 * d)
    f = reference.ACTIVATIONS[activation]
    theta = rng.standard_normal(d)
    theta *= math.sqrt(d) / np.linalg.norm(theta)
    w = rng.standard_normal((p, d))
    w /= np.linalg.norm(w, axis=1, keepdims=True)

    def labels(x):
        return np.tanh(x @ theta / math.sqrt(d))

    x = rng.standard_normal((n0, d))
    pre = x @ w.T
    gap = labels(x) - f.value(pre).sum(axis=1) / p
    v = x.T @ gap
    w = w + eta / n0 * (f.derivative(pre) * gap[:, None]).T @ x
    errors = []
    for _ in range(6):
        x, new = rng.standard_normal((n, d)), rng.standard_normal((4000, d))
        phi = f.value(x @ w.T) / math.sqrt(p)
        a = np.linalg.solve(phi.T @ phi + lam * np.eye(p), phi.T @ labels(x))
        errors.append(np.mean((labels(new) - f.value(new @ w.T) @ a / math.sqrt(p)) ** 2))
    got = reference.solve_instance(w, v, theta, activation, "tanh", alpha, lam, mean=True)
    spread = np.std(errors, ddof=1) / math.sqrt(len(errors))
    assert abs(np.mean(errors) - got.test_error) < 4 * spread + 0.015 * got.test_error


@pytest.mark.parametrize(
    ("sigma", "target", "noise", "lam"),
    [
        ("relu", "sin", 0.1, 0.1),
        ("softplus", "sign", 0.0, 1e-4),
        ("tanh", "sin", 0.2, 0.3),
        ("gelu", "hermite2", 0.2, 1e-6),
    ],
)
@pytest.mark.parametrize("common", [0.0, 0.3])
def test_the_core_agrees_for_given_weights(sigma, target, noise, lam, common):
    """The mean coupled to the other features, which a small network makes matter."""
    rng = np.random.default_rng(0)
    p, d = 60, 80
    w = (rng.standard_normal((p, d)) + common * rng.standard_normal(d)) / math.sqrt(d)
    w *= rng.uniform(0.9, 1.1, size=(p, 1))
    v, theta = rng.standard_normal(d), rng.standard_normal(d)
    want = reference.solve_instance(w, v, theta, sigma, target, 1.5, lam, noise=noise, mean=True)
    model = srfx.SpikedRF(sigma, target, beta=p / d, noise=noise)
    got = srfx.solve(model, 1.5, lam, bulk=srfx.EmpiricalBulk.from_weights(w, v, theta))
    agree(got, want, 1e-10, ("test_error", "train_error", "q2", "v2", "theta", "psi"))
    assert got.m == pytest.approx(want.m, rel=1e-9, abs=1e-12)
