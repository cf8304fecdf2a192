"""The actual one-step network (THEORY sections 9 and 10), one point at a time.

Three routes, of which each is written from its own formulas: ``"odd"`` (section 9: scalar bulk, odd
sigma, one readout), ``"general"`` (section 10: 2 x 2 blocks, one readout) and ``"groups"`` (section
10, several readouts). Where two of them hold they must agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srfx._validation import public
from srfx.reference._spiked import Function, gauss_hermite, gauss_nodes, gaussian_mean, normal
from srfx.reference._spikes import Spikes, root_of, table_of_spikes, turned
from srfx.reference._system import (
    Response,
    SystemSolution,
    Table,
    as_function,
    follow,
    groups_of,
    jacobian,
    newton,
    solve_system,
    table,
)
from srfx.reference._targets import Directions, directions_of, rule_of

Array = NDArray[Any]
T_MAX = 11.0  # reach of the average over t
T_ORDER = 20  # nodes in a panel of it
SAME = 1e-10  # averages over t on a rule and on half of it
MAX_DOUBLINGS = 6


# --------------------------------------------------------------------------- constants and averages


@dataclass(frozen=True)
class Constants:
    """Gaussian constants of sigma: sigma' = h1 + h2 z + S (section 10)."""

    h0: float
    h1: float
    h2: float
    second: float  # E sigma^2
    hc1: float  # E S^2
    k3: float  # E S^3
    k4: float  # E S^4
    b3: float  # E z^2 S
    b12: float  # E z S^2
    q2: float  # E z^2 S^2
    b4: float  # E z^3 S
    b22: float  # E (z^2 - 1) S^2
    b13: float  # E z S^3


def constants(sigma: Function) -> Constants:
    """Return the constants of an activation; what is quadrature dust is zero."""
    slope = sigma.derivative
    if slope is None:
        raise ValueError("the activation needs a derivative: pass Function(value, kinks, slope)")

    def mean(f: Any) -> float:
        return gaussian_mean(f, sigma.kinks, density=4)

    scale = math.sqrt(mean(lambda z: slope(z) ** 2))

    def clean(x: float) -> float:
        return 0.0 if abs(x) < 1e-12 * scale else x

    h1 = clean(mean(slope))
    h2 = clean(mean(lambda z: z * (slope(z) - h1)))

    def moment(i: int, j: int) -> float:
        return clean(mean(lambda z: z**i * (slope(z) - h1 - h2 * z) ** j))

    q2, hc1 = moment(2, 2), moment(0, 2)
    return Constants(
        h0=clean(mean(sigma.value)),
        h1=h1,
        h2=h2,
        second=mean(lambda z: sigma.value(z) ** 2),
        hc1=hc1,
        k3=moment(0, 3),
        k4=moment(0, 4),
        b3=moment(2, 1),
        b12=moment(1, 2),
        q2=q2,
        b4=moment(3, 1),
        b22=q2 - hc1,
        b13=moment(1, 3),
    )


@dataclass(frozen=True)
class Residual:
    """Nodes u of the residual of the labels; weights of E[. ], E[t .], E[t^2 .] on them.

    For a target of L directions ``p1`` has L rows and ``p2`` L x L (section 14).
    """

    u: Array
    p0: Array
    p1: Array
    p2: Array

    def mean(self, f: Array, power: int = 0) -> Any:
        """Return E[t^power f(u)], f with the nodes as its first axis."""
        return np.tensordot((self.p0, self.p1, self.p2)[power], f, axes=(0, 0))

    def first(self, f: Array) -> Array:
        """Return E[t_l f(u)], l first."""
        return np.asarray(np.tensordot(np.atleast_2d(self.p1), f, axes=(1, 0)))

    def second(self, f: Array) -> Array:
        """Return E[t_l t_m f(u)], l and m first."""
        count = len(np.atleast_2d(self.p1))
        return np.asarray(np.tensordot(self.p2.reshape(count, count, -1), f, axes=(2, 0)))

    def power(self, n: int) -> float:
        """Return E u^n."""
        return float(np.sum(self.p0 * self.u**n))


def residual_rule(star: Function, shift: float, noise: float, density: float) -> Residual:
    """Return the rule for u = s*(t) + sqrt(noise) eps - shift.

    Without noise the nodes are those of t. With noise u has, given t^j, a smooth density: its
    values on panels in u are found by integrating over t, and one sum over u does the rest. Little
    noise: the product of both rules.
    """
    sd = math.sqrt(noise)
    fine = 4.0 if sd < 0.02 else max(4.0, 1.0 / sd)
    grid = np.linspace(-T_MAX, T_MAX, math.ceil(2.0 * fine * T_MAX * density) + 1)
    kinks = np.clip(np.asarray(star.kinks, float), -T_MAX, T_MAX)
    t, weight = gauss_nodes(np.unique(np.concatenate([grid, kinks])), T_ORDER)
    weight = weight / weight.sum()
    clean = np.asarray(star.value(t), float) - shift
    if noise == 0.0:
        return Residual(clean, weight, weight * t, weight * t * t)
    if sd < 0.02:
        x, w = gauss_hermite(math.ceil(16 * density))
        u = (clean[:, None] + sd * x).ravel()
        p0 = (weight[:, None] * w).ravel()
        t = np.repeat(t, x.size)
        return Residual(u, p0, p0 * t, p0 * t * t)
    live = weight > 1e-26
    low, high = float(np.min(clean[live])) - 10.0 * sd, float(np.max(clean[live])) + 10.0 * sd
    count = math.ceil((high - low) / min(sd, 0.5) * 2 * density)
    edges = np.linspace(low, high, count + 1)
    x, w = np.polynomial.legendre.leggauss(T_ORDER)
    half = 0.5 * np.diff(edges)[:, None]
    u = (edges[:-1, None] + half * (1.0 + x)).ravel()
    w = (half * w).ravel()
    moments = np.stack([weight, weight * t, weight * t * t], axis=1)
    density_of = np.empty((u.size, 3))
    for i in range(0, u.size, 1000):
        density_of[i : i + 1000] = normal((u[i : i + 1000, None] - clean) / sd) / sd @ moments
    density_of *= w[:, None]
    density_of /= density_of[:, 0].sum()
    return Residual(u, *density_of.T)


def label_rule(
    star: Function | Directions, plus: Callable[..., Array], shift: float, density: float
) -> Residual:
    """Return the rule for u = y - shift, y of +1 and -1 with P(1 | t) = plus(t): two nodes."""
    signs = np.array([1.0, -1.0]) - shift
    if isinstance(star, Directions):
        t, weight = rule_of(star, 0.25 * density)
        chance = np.stack([plus(*t), 1.0 - plus(*t)])
        weighted = chance * weight
        first = t @ weighted.T
        second = np.einsum("ln,mn,sn->lms", t, t, weighted)
        return Residual(signs, weighted.sum(axis=1), first, second)
    grid = np.linspace(-T_MAX, T_MAX, math.ceil(8.0 * T_MAX * density) + 1)
    kinks = np.clip(np.asarray(star.kinks, float), -T_MAX, T_MAX)
    t, weight = gauss_nodes(np.unique(np.concatenate([grid, kinks])), T_ORDER)
    weight = weight / weight.sum()
    chance = np.stack([plus(t), 1.0 - plus(t)])
    moments = (chance @ (weight * t**j) for j in range(3))
    return Residual(signs, *moments)


def law_of(target: Any, shift: float, noise: float, density: float) -> Residual:
    """Return the rule for u = s*(t) + sqrt(noise) eps - shift of a target of any directions.

    Of several: the product of rules in t and eps has too many nodes for what follows. Their weights
    go to those of graded panels in u, as interpolation there takes them, which is exact for what is
    a polynomial on each panel.
    """
    star = directions_of(target)
    if star.directions == 1:
        return residual_rule(as_function(target), shift, noise, density)
    t, p = rule_of(star, density)
    u = np.asarray(star.value(*t), float) - shift
    squares = (t[:, None] * t).reshape(-1, p.size)
    u, moments = _gathered(u, np.concatenate([p[None], p * t, p * squares]), density)
    if noise > 0.0:
        x, w = gauss_hermite(math.ceil(48 * density))
        u = (u[:, None] + math.sqrt(noise) * x).ravel()
        u, moments = _gathered(u, (moments[..., None] * w).reshape(len(moments), -1), density)
    count = star.directions
    p2 = moments[1 + count :].reshape(count, count, -1)
    return Residual(u, moments[0], moments[1 : 1 + count], p2)


def _gathered(u: Array, moments: Array, density: float) -> tuple[Array, Array]:
    """Return few nodes and moments on them (last axis) for many."""
    ends = [float(np.min(u)), float(np.max(u))]
    edges: list[float] = [0.0]
    while edges[-1] < max(map(abs, ends)) + 1e-9:
        edges.append(edges[-1] + (0.15 + edges[-1] / 8.0) / density)
    cut: Array = np.array(sorted({*edges, *(-x for x in edges)}))
    low, high = np.searchsorted(cut, ends[0], "right") - 1, np.searchsorted(cut, ends[1])
    cut = cut[max(0, int(low)) : int(high) + 1]
    x, _ = np.polynomial.legendre.leggauss(T_ORDER)
    panel = np.clip(np.searchsorted(cut, u, "right") - 1, 0, cut.size - 2)
    half = 0.5 * np.diff(cut)
    middle = cut[:-1] + half
    at = ((u - middle[panel]) / half[panel])[:, None] - x
    at[at == 0.0] = 1e-300
    weight = np.array([1.0 / np.prod(y - np.delete(x, i)) for i, y in enumerate(x)])
    basis = weight / at
    basis /= basis.sum(axis=1, keepdims=True)
    place = (panel[:, None] * T_ORDER + np.arange(T_ORDER)).ravel()
    count = half.size * T_ORDER
    out = [np.bincount(place, (row[:, None] * basis).ravel(), count) for row in moments]
    nodes = (middle[:, None] + half[:, None] * x).ravel()
    kept = np.array(out)
    live = np.any(kept != 0.0, axis=0)
    return nodes[live], kept[:, live]


def length_and_gamma(h1: float, r: Residual, eta: float, over: float) -> tuple[float, Any]:
    """Return l and gamma, a vector for several directions; `over` is 1/alpha0."""
    overlap = r.first(r.u)
    length = math.sqrt(float(overlap @ overlap) + r.power(2) * over)
    if length <= 1e-13 * math.sqrt(r.power(2)):
        raise ValueError(
            "alpha0 must be finite where E[t u] = 0, u the residual of the labels, and target must "
            "not be the constant the network starts from: the step vanishes; got E[t u] = "
            f"{overlap}, E[u^2] = {r.power(2):.1e}, 1/alpha0 = {over:g}"
        )
    if overlap.size > 1:
        return length, overlap / length
    return length, max(-1.0, min(1.0, float(overlap[0]) / length))


def row_norms(k: Constants, r: Residual, eta: float, over: float) -> tuple[Array, Array, float]:
    """Return la(u), lb(u) and C_delta (section 10, Row norms), `over` = 1/alpha0."""
    u, e2 = r.u, eta * k.h2
    a = 1.0 + e2 * r.power(1)
    chi = a + e2 * u * over
    psi = chi**2 - a**2
    la = (
        eta * k.b3 * u * psi
        + 2.0 * eta**2 * over * k.b12 * u**2 * chi
        + eta**3 * k.k3 * over**2 * u**3
    )
    lb = 2.0 * eta * k.b3 * u * chi + eta**2 * over * k.b12 * u**2
    k2, k3, k4 = (e2**n * r.power(n) * over ** (n - 1) for n in (2, 3, 4))
    u2, u4 = r.power(2), r.power(4)
    c_delta = (
        2.0 * (k4 + 4.0 * a * k3 + k2**2 + 4.0 * a**2 * k2)
        + 4.0 * eta * k.b4 * float(r.mean(u * chi * psi))
        + 2.0 * eta**2 * k.b22 * float(r.mean(u**2 * psi)) * over
        + 4.0 * eta**2 * over * (k.q2 * float(r.mean(u**2 * chi**2)) + k.hc1 * k2 * u2)
        + 4.0 * eta**3 * over**2 * k.b13 * float(r.mean(u**3 * chi))
        + eta**4 * over**3 * u4 * (k.k4 - k.hc1**2)
        + 2.0 * eta**4 * k.hc1**2 * u2**2 * over**2
        + float(
            np.sum(
                (2.0 * eta * k.b3 * r.first(u * chi) + eta**2 * over * k.b12 * r.first(u**2)) ** 2
            )
        )
    )
    return la, lb, c_delta


def _split(eta: float, alpha0: float) -> tuple[float, float]:
    """Return eta and 1/alpha0; no step at alpha0 = 0."""
    if not (alpha0 >= 0.0 and math.isfinite(eta)):
        raise ValueError(f"need alpha0 >= 0 and a finite eta; got {alpha0=}, {eta=}")
    return (0.0, 1.0) if alpha0 == 0.0 else (eta, 1.0 / alpha0)


@dataclass(frozen=True)
class OneStepMap:
    """r_g, c_g (one a group) and gamma of the step (section 10, Map), a vector in section 14."""

    r: Array
    c: Array
    gamma: Any
    length: float


@public
def one_step_map(model: Any, density: int = 1) -> OneStepMap:
    """Return the map of section 10 for any activation with a derivative, noise and readouts.

    Parameters
    ----------
    model : srfx.OneStep or anything with its attributes
        Numbers only.
    density : int
        Multiplies the panels of the rule in t.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> step = dict(eta=2.0, alpha0=1.0, noise=0.5, readout=(1.0,), weights=None)
    >>> found = one_step_map(SimpleNamespace(activation="linear", target="linear", **step))
    >>> round(float(found.r[0]), 12) == round(2 * 2.5**0.5, 12), round(float(found.c[0]), 12)
    (True, 1.0)
    """
    k = constants(as_function(model.activation))
    a, pi = groups_of(model)
    eta, over = _split(float(model.eta), float(model.alpha0))
    rule = law_of(model.target, float(pi @ a) * k.h0, float(model.noise), density)
    return _map(k, rule, eta * a, over)


def _map(k: Constants, rule: Residual, rates: Array, over: float) -> OneStepMap:
    length, gamma = length_and_gamma(k.h1, rule, 1.0, over)
    base = 1.0 + rates * k.h2 * rule.power(1)
    c = base**2 + rates**2 * (k.h2**2 + k.hc1) * rule.power(2) * over
    return OneStepMap(rates * k.h1 * length, c, gamma, length)


def differ(
    one: Residual,
    on_one: list[tuple[Array, int]],
    two: Residual,
    on_two: list[tuple[Array, int]],
) -> float:
    """Return the largest difference of averages on two rules, in units of E|integrand|."""
    worst = 0.0
    for (f, power), (h, _) in zip(on_one, on_two, strict=True):
        p, q = (np.reshape((r.p0, r.p1, r.p2)[power], (-1, r.u.size)) for r in (one, two))
        size = np.tensordot(np.abs(p), np.abs(f), axes=(1, 0))
        gap = np.abs(np.tensordot(p, f, axes=(1, 0)) - np.tensordot(q, h, axes=(1, 0)))
        least = float(np.max(np.tensordot(np.abs(one.p0), np.abs(f), axes=(0, 0))))
        # E[t f] may be zero by symmetry, and p1 with it
        worst = max(worst, float(np.max(gap)) / max(float(np.max(size)), least, 1e-300))
    return worst


# ------------------------------------------------------------------------------- section 9: the odd


class OneGroup:
    """Shared by the two one-group bulks: the root in g and its infinitesimal continuation."""

    beta: float
    d: float | None
    variance: float  # c, the mean of the spectrum
    rule: Residual

    def __init__(self) -> None:
        self._last: tuple[float, Array, Array] | None = None
        self.lost = (
            0.0  # what rounding makes of K + s K', of order 1/s^2, where it was last asked for
        )

    def on(self, rule: Residual) -> OneGroup:
        """Return the same bulk on another rule."""
        raise NotImplementedError

    def integrands(self, x: Array) -> list[tuple[Array, int]]:
        """Return what is averaged over u at a state, with the power of t it is averaged with."""
        raise NotImplementedError

    def disagreement(self, rule: Residual) -> float:
        """Return how far the averages at the last state are from those on another rule."""
        assert self._last is not None
        x = self._last[1]
        return differ(self.rule, self.integrands(x), rule, self.on(rule).integrands(x))

    def defect(self, x: Array, s: Any) -> Array:
        raise NotImplementedError

    def inner(self, g: float, start: Array | None) -> Array:
        """Return the unknowns other than g at a real g."""
        raise NotImplementedError

    def root(self, s: float) -> tuple[Array, Array]:
        """Return the unknowns at real s and the Jacobian there."""
        if self._last is not None and self._last[0] == s:
            return self._last[1:]
        done = False
        if self._last is not None:
            x, done = newton(lambda y: self.defect(y, s), self._last[1], positive=2)
        if not done:
            x = self._bracket(s)
            x, done = newton(lambda y: self.defect(y, s), x, positive=2)
        if not done:
            raise ValueError(f"the bulk did not converge at s = {s}")
        slope = jacobian(lambda y: self.defect(y, s), x)
        self._last = (s, x, slope)
        return x, slope

    def _bracket(self, s: float) -> Array:
        """Return the root in g by bisection: 1/(s + c) <= g < 1/s, c the mean of the spectrum."""
        low, high = -math.log(s + 2.0 * self.variance), -math.log(s)
        x: Array | None = None
        for _ in range(60):
            g = math.exp(0.5 * (low + high))
            x = self.inner(g, x)
            if s * g - 1.0 + (1.0 - float(x[0])) / self.beta > 0.0:
                high = math.log(g)
            else:
                low = math.log(g)
            if high - low < 1e-6:
                break
        assert x is not None
        return np.concatenate([[g], x])

    def at(self, vh1: Array, a: Array) -> tuple[Any, Any, Array]:
        """Return s, Vh1 and the unknowns at arguments with infinitesimal imaginary parts."""
        b = vh1[0, 0]
        least = 1e-8 * float(np.real(a[0]))
        if not float(np.real(b)) > least:  # on the way there a loss may be straight at all samples
            b = b - np.real(b) + least  # s stays finite
        s = a[0] / b
        self.lost = 1e-16 * float(np.real(s)) ** 2
        x, slope = self.root(float(np.real(s)))
        if np.iscomplexobj(vh1) or np.iscomplexobj(a):
            x = follow(lambda y: self.defect(y, s), x, slope)
        return s, b, x

    def averages(self, vh1: Array, a: Array) -> tuple[Array, Array]:
        s, b, x = self.at(vh1, a)
        return np.array([[(1.0 - s * x[0]) / b]]), np.array([x[0] / b])


def one_group_response(
    beta: float,
    g: Any,
    p_vv: Any,
    p_vz: Array,
    p_zz: Array,
    p_lv: Any,
    p_lz: Array,
    p_ll: Any,
    c_delta: float,
) -> Array:
    """Return K of section 9 (d), order (v, z, delta); any number of z (section 14)."""
    b = beta * g
    vz = -p_vz / p_vv
    dv = b * p_lv / p_vv
    dz = b * (p_lz - p_lv * p_vz / p_vv)
    dd = b * c_delta - b**2 * (p_ll - p_lv**2 / p_vv)
    zz = np.eye(len(p_vz)) - p_zz + np.outer(p_vz, p_vz) / p_vv
    return np.block(
        [
            [1.0 / p_vv - 1.0, vz[None, :], dv],
            [vz[:, None], zz, dz[:, None]],
            [dv, dz[None, :], dd],
        ]
    )


class OddBulk(OneGroup):
    """Section 9: odd sigma, all readouts 1, no noise."""

    def __init__(self, k: Constants, rule: Residual, eta: float, over: float, beta: float) -> None:
        super().__init__()
        self.k, self.rule, self.eta, self.over, self.beta, self.d = k, rule, eta, over, beta, None
        self.kap = eta**2 * k.hc1 * over
        self.length, self.gamma = length_and_gamma(k.h1, rule, eta, over)
        h2s = rule.power(2)
        self.variance = 1.0 + self.kap * h2s
        h1s = float(np.sum(rule.p1 * rule.u))
        self.c_delta = (
            4.0 * eta**2 * (h2s * k.q2 * over + k.b3**2 * h1s**2)
            + eta**4 * rule.power(4) * (k.k4 - k.hc1**2) * over**3
            + 2.0 * eta**4 * k.hc1**2 * h2s**2 * over**2
        )

    def on(self, rule: Residual) -> OddBulk:
        return OddBulk(self.k, rule, self.eta, self.over, self.beta)

    def integrands(self, x: Array) -> list[tuple[Array, int]]:
        g, tau = x
        u = self.rule.u
        q = 1.0 / (1.0 + self.beta * g * self.kap * tau * self.over * u**2)
        return [(u**2 * q, 0), (u**4 * q, 0), (u * q, 1), (u**3 * q, 1), (u**2 * q, 2)]

    def _tau_defect(self, g: Any, tau: Any) -> Any:
        y2 = self.rule.u**2
        b = self.beta * g
        e = b * self.kap * tau * self.over
        return tau * (1.0 + b) + b * self.kap * tau * self.rule.mean(y2 / (1.0 + e * y2)) - 1.0

    def inner(self, g: float, start: Array | None) -> Array:
        tau = 0.0
        b = self.beta * g
        y2 = self.rule.u**2
        for _ in range(100):  # monotone
            e = b * self.kap * tau * self.over
            slope = 1.0 + b + b * self.kap * float(self.rule.mean(y2 / (1.0 + e * y2) ** 2))
            step = -float(self._tau_defect(g, tau)) / slope
            tau += step
            if abs(step) <= 1e-15 * tau:
                break
        return np.array([tau])

    def defect(self, x: Array, s: Any) -> Array:
        g, tau = x
        return np.array([s * g - 1.0 + (1.0 - tau) / self.beta, self._tau_defect(g, tau)])

    def response(self, vh1: Array, a: Array) -> Response:
        _, big_b, (g, tau) = self.at(vh1, a)
        b = self.beta * g
        u, k = self.rule.u, self.k
        e = b * self.kap * tau * self.over
        q = 1.0 / (1.0 + e * u**2)
        p_tt = 1.0 / (1.0 + b * (1.0 + self.kap * self.rule.mean(u**2 * q, 2)))
        one = np.ones_like(u)
        rho = math.sqrt(max(0.0, (1.0 - self.gamma) * (1.0 + self.gamma)))
        # a vector is (its part along theta, f with v_f = X^T (u f)/n0)
        v = (0.0, one / self.length)
        z = (1.0 / rho, -self.gamma / (self.length * rho) * one) if rho > 0 else (0.0, 0.0 * one)
        row = (0.0, 2.0 * self.eta * k.b3 * one + self.eta**3 * k.k3 * self.over**2 * u**2)

        def overlap(x: tuple[float, Array], y: tuple[float, Array]) -> Any:
            d_x, d_y = (part + self.rule.mean(f * u * q, 1) for part, f in (x, y))
            return tau * self.over * self.rule.mean(x[1] * y[1] * u**2 * q) + p_tt * d_x * d_y

        matrix = one_group_response(
            self.beta, g, overlap(v, v), np.array([overlap(v, z)]), np.array([[overlap(z, z)]]),
            overlap(row, v), np.array([overlap(row, z)]), overlap(row, row), self.c_delta,
        )  # fmt: skip
        v1, v2 = self.averages(vh1, a)
        return Response(v1, v2, matrix / big_b, None)


# -------------------------------------------------------------- section 10: any sigma, one readout

Vector = tuple[Array, Array]  # parts along theta_1, .., theta_L; f(u) of v_f = X^T f(u)/n0


def frame(gamma: Any, along: Array) -> tuple[Vector, list[Vector]]:
    """Return vhat, which is v_f of f = `along`, and the zhat of sections 9 and 14."""
    gamma = np.atleast_1d(gamma)
    if gamma.size == 1:  # closer to gamma = 1 than eigenvalues would be
        rho = math.sqrt(max(0.0, (1.0 - gamma[0]) * (1.0 + gamma[0])))
        back = np.array([[1.0 / rho if rho > 0.0 else 0.0]])
    else:
        back = np.linalg.pinv(root_of(gamma[:, None]))
    zs = [(row, -float(row @ gamma) * along) for row in back]
    return (np.zeros(gamma.size), along), zs


def inverse_2x2(m: Array) -> Array:
    """Return inverses of 2 x 2 matrices (last two axes)."""
    a, b, c, d = m[..., 0, 0], m[..., 0, 1], m[..., 1, 0], m[..., 1, 1]
    out = np.empty_like(m)
    out[..., 0, 0], out[..., 0, 1], out[..., 1, 0], out[..., 1, 1] = d, -b, -c, a
    return np.asarray(out / (a * d - b * c)[..., None, None])


EYE = np.eye(2)


class BlockBulk(OneGroup):
    """Section 10 with one readout value: 2 x 2 blocks. With `d`: the damped mean."""

    def __init__(
        self,
        k: Constants,
        rule: Residual,
        eta: float,
        over: float,
        beta: float,
        d: float | None,
    ) -> None:
        super().__init__()
        self.k, self.rule, self.eta, self.over, self.beta, self.d = k, rule, eta, over, beta, d
        self.kap, self.e2 = eta**2 * k.hc1 * over, eta * k.h2
        self.length, self.gamma = length_and_gamma(k.h1, rule, eta, over)
        self.la, self.lb, self.c_delta = row_norms(k, rule, eta, over)
        a = 1.0 + self.e2 * rule.power(1)
        self.variance = a**2 + eta**2 * (k.h2**2 + k.hc1) * rule.power(2) * over

    def on(self, rule: Residual) -> BlockBulk:
        return BlockBulk(self.k, rule, self.eta, self.over, self.beta, self.d)

    def integrands(self, x: Array) -> list[tuple[Array, int]]:
        gm = np.array([[x[1], -x[2]], [x[2], x[3]]])
        _, big_b, q = self._blocks(x[0], gm)
        u = self.rule.u[:, None, None]
        return [(q @ big_b, 0), (u**2 * q, 0), (u * q, 1), (q @ big_b, 2)]

    def _blocks(self, g: Any, gm: Array) -> tuple[Array, Array, Array]:
        """Return A, B(u) and Q(u)."""
        u = self.rule.u
        b = self.beta * g
        root = np.sqrt(b)
        big_a = np.array([[1.0, root], [-root, 1.0]])
        big_b = np.zeros((u.size, 2, 2), big_a.dtype)
        big_b[:, 0, 0] = b * self.kap * u**2
        big_b[:, 0, 1] = root * self.e2 * u
        big_b[:, 1, 0] = -root * self.e2 * u
        return big_a, big_b, inverse_2x2(EYE + big_b @ gm * self.over)

    def _next(self, g: Any, x: Array) -> Array:
        gm = np.array([[x[0], -x[1]], [x[1], x[2]]])
        big_a, big_b, q = self._blocks(g, gm)
        new = inverse_2x2(big_a + self.rule.mean(q @ big_b))
        return np.array([new[0, 0], new[1, 0], new[1, 1]])

    def inner(self, g: float, start: Array | None) -> Array:
        root = math.sqrt(self.beta * g)
        if start is not None:
            x, done = newton(lambda y: self._next(g, y) - y, start, positive=1)
            if done:
                return x
        x = np.array([1.0, root, 1.0]) / (1.0 + root**2)
        for steps in (3, 10, 100, 1000):
            for _ in range(steps):
                x = self._next(g, x)
            found, done = newton(lambda y: self._next(g, y) - y, x, positive=1)
            if done:
                return found
        raise ValueError(f"the blocks of section 10 did not converge at g = {g}")

    def defect(self, x: Array, s: Any) -> Array:
        out = np.empty(4, np.result_type(x, s))
        out[0] = s * x[0] - 1.0 + (1.0 - x[1]) / self.beta
        out[1:] = self._next(x[0], x[1:]) - x[1:]
        return out

    def response(self, vh1: Array, a: Array) -> Response:
        _, big_b, x = self.at(vh1, a)
        g = x[0]
        gm = np.array([[x[1], -x[2]], [x[2], x[3]]])
        big_a, blocks, q = self._blocks(g, gm)
        qt = inverse_2x2(EYE + gm @ blocks * self.over)
        rule, u = self.rule, self.rule.u
        b = self.beta * g
        root = np.sqrt(b)
        count = len(np.atleast_1d(self.gamma))
        turned = (rule.second(q @ blocks) + np.multiply.outer(np.eye(count), big_a)).swapaxes(1, 2)
        p_tt = np.linalg.inv(turned.reshape(2 * count, 2 * count))

        def overlap(one: Vector, two: Vector) -> Array:
            (ax, f), (ay, h) = one, two
            left = np.multiply.outer(ax, EYE) + rule.first(f[:, None, None] * qt)
            right = np.multiply.outer(ay, EYE) + rule.first(h[:, None, None] * q)
            bulk = gm @ rule.mean((f * h)[:, None, None] * q) * self.over
            left = left.swapaxes(0, 1).reshape(2, 2 * count)
            return np.asarray(bulk + left @ p_tt @ right.reshape(2 * count, 2))

        v, zs = frame(self.gamma, u / self.length)
        la, lb = (np.zeros(count), self.la), (np.zeros(count), self.lb)

        def with_rows(y: Vector) -> Any:
            return overlap(y, la)[0, 0] - overlap(y, lb)[0, 1] / root

        slopes = rule.first(self.lb)
        lb_lb = float(rule.mean(self.lb**2)) * self.over + float(slopes @ slopes)
        p_ll = (
            overlap(la, la)[0, 0]
            - 2.0 * overlap(la, lb)[0, 1] / root
            + (lb_lb - overlap(lb, lb)[1, 1]) / b
        )
        matrix = one_group_response(
            self.beta, g, overlap(v, v)[0, 0], np.array([overlap(v, z)[0, 0] for z in zs]),
            np.array([[overlap(y, z)[0, 0] for z in zs] for y in zs]).reshape(len(zs), len(zs)),
            with_rows(v), np.array([with_rows(z) for z in zs]), p_ll, self.c_delta,
        )  # fmt: skip
        mean = None
        if self.d is not None:
            k = self.k
            q_bar = rule.mean(q[:, 0, 0])
            om_m = (1.0 - self.eta * k.h1**2 * q_bar) ** 2 + self.eta**2 * k.h1**2 * (
                k.second - k.h0**2
            ) * q_bar * self.over
            g_m = 1.0 / (1.0 / g - x[1] * (1.0 - om_m))
            mean = np.array([[self.beta * self.d * g_m / big_b]])
        v1, v2 = self.averages(vh1, a)
        return Response(v1, v2, matrix / big_b, mean)


# ----------------------------------------------------------------------------------------- the verb


@public
def solve_one_step(
    model: Any,
    alpha: float,
    lam: float,
    d: float | None = None,
    *,
    route: str | None = None,
    density: int = 1,
) -> SystemSolution:
    """Solve the actual one-step network at one point (THEORY sections 9, 10 and 14).

    Parameters
    ----------
    model : srfx.OneStep or anything with its attributes
        activation, target, eta, alpha0, beta, noise, readout, weights; numbers only.
    alpha, lam : float
        Sample complexity of the ridge regression and its penalty, both > 0.
    d : float or None
        Input dimension: adds the term of the mean, damped by the step. None is the limit.
    route : {"odd", "general", "groups"} or None
        The formulas: section 9, section 10 with one readout, section 10 with several. None takes
        the second for one readout and the third for several.
    density : int
        Multiplies the panels of every rule. That in t is doubled until half of it gives the same
        averages: they have poles near the real axis where sigma is nearly quadratic and alpha0
        small.

    Returns
    -------
    SystemSolution
        In the convention of a unit bulk; divide by sqrt(c) once more what section 9 prints.

    Raises
    ------
    ValueError
        Where the sections do not reach, or an iteration did not converge.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> step = dict(eta=3.0, alpha0=0.25, beta=1.0, noise=0.0, readout=(1.0,), weights=None)
    >>> model = SimpleNamespace(activation="tanh", target="sin", **step)
    >>> print(f"{solve_one_step(model, alpha=2.0, lam=0.1).test_error:.7f}")
    0.3553000
    """
    sigma = as_function(model.activation)
    k = constants(sigma)
    a, pi = groups_of(model)
    beta, noise = float(model.beta), float(model.noise)
    eta, over = _split(float(model.eta), float(model.alpha0))
    if route not in (None, "odd", "general", "groups"):
        raise ValueError(f"route must be 'odd', 'general', 'groups' or None; got {route!r}")
    if route is None:
        route = "general" if a.size == 1 else "groups"
    if route != "groups" and (a.size != 1 or a[0] != 1.0):
        raise ValueError(f"route {route!r} needs readout=(1.0,); got {model.readout}")
    if route == "odd" and (k.h0, k.h2, k.b12, noise, d) != (0.0, 0.0, 0.0, 0.0, None):
        raise ValueError("section 9 needs an odd sigma, no noise and d=None")
    shift = float(pi @ a) * k.h0
    rule = law_of(model.target, shift, noise, density)
    found = _map(k, rule, eta * a, over)
    if np.ndim(found.gamma) > 0:
        if route == "odd":
            raise ValueError("section 9 needs a target of one direction")
        spikes = turned(found.r[:, None], found.c, pi, np.reshape(found.gamma, (-1, 1)))
        t = table_of_spikes(sigma, directions_of(model.target), spikes, density, own_bulk=True)
    else:
        star = as_function(model.target)
        t = table(sigma, star, found.r, found.c, found.gamma, density, own_bulk=True)
    if route != "groups":
        t, route = _without_linear_part(k, t, eta, d, route, model.activation)
        if route == "groups" and eta == 0.0:
            k = replace(k, h2=0.0)  # nothing of it is left: no step
    bulk: Any
    start = (np.diag(pi * found.c) / lam, pi / lam)
    coarse = law_of(model.target, shift, noise, 0.5 * density)
    for _ in range(MAX_DOUBLINGS):
        if route == "groups":
            from srfx.reference._one_step_groups import GroupBulk

            bulk = GroupBulk(k, rule, eta, over, beta, a, pi, d)
        elif route == "odd":
            bulk = OddBulk(k, rule, eta, over, beta)
        else:
            bulk = BlockBulk(k, rule, eta, over, beta, d)
        out = solve_system(
            t, bulk, start, alpha=float(alpha), beta=beta, lam=float(lam), noise=noise,
            unit=np.sqrt(found.c),
        )  # fmt: skip
        if bulk.disagreement(coarse) < SAME:
            return out
        density *= 2
        coarse, rule = rule, law_of(model.target, shift, noise, density)
    raise ValueError(
        f"density must be more than {density // 2} here: averages over the residual do not settle, "
        "for they have poles near the real axis"
    )


def network(
    model: Any,
    star: Function | Directions,
    plus: Callable[..., Array] | None,
    d: float | None,
    density: float,
) -> tuple[Any, Spikes]:
    """Return the bulk of section 10, of one readout value or several, and its spikes.

    ``plus`` is P(y = 1 | t) of labels +1 and -1, which the step sees then; None: real labels.
    """
    k = constants(as_function(model.activation))
    a, pi = groups_of(model)
    eta, over = _split(float(model.eta), float(model.alpha0))
    shift = float(pi @ a) * k.h0
    if plus is not None:
        rule = label_rule(star, plus, shift, 4 * density)
    elif isinstance(star, Function):
        rule = residual_rule(star, shift, float(model.noise), 4 * density)
    else:
        rule = law_of(model.target, shift, float(model.noise), 4 * density)
    found = _map(k, rule, eta * a, over)
    bulk: Any
    if a.size == 1:
        bulk = BlockBulk(k, rule, eta * float(a[0]), over, float(model.beta), d)
    else:
        from srfx.reference._one_step_groups import GroupBulk

        bulk = GroupBulk(k, rule, eta, over, float(model.beta), a, pi, d)
    return bulk, turned(found.r[:, None], found.c, pi, np.reshape(found.gamma, (-1, 1)))


def _without_linear_part(
    k: Constants, t: Table, eta: float, d: float | None, route: str, activation: Any
) -> tuple[Table, str]:
    """Return what to do where mu1 = 0, and with it Vh1 (h1 = 0: an even sigma, say).

    Sections 9 and 10 divide by Vh1 for one group, the formulas for several do not; they hold where
    sigma is odd or sigma' but for its line, and agree with those for one but for the mean (finite
    d) where h1 h2 != 0.
    """
    size = math.sqrt(float(np.sum(t.p * (t.mu0**2 + t.mu1**2 + t.u2))))
    largest = float(np.max(np.abs(t.mu1)))
    if largest >= 1e-3 * size:
        return t, route
    if largest < 1e-13 * size:
        t = replace(t, mu1=np.zeros_like(t.mu1))
    other = (k.b3, k.b12, k.k3) != (0.0, 0.0, 0.0) or (k.h1 != 0.0 and d is not None)
    if eta == 0.0 or k.h2 == 0.0 or not other:
        return t, "groups"
    if largest < 1e-6 * size:
        raise ValueError(
            "activation must have E[z sigma(sqrt(c) z)] != 0, or be even or odd: sections 9 and 10 "
            f"divide by it; got {activation!r}"
        )
    return t, route
