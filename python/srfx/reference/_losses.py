"""Readouts fitted with any loss, on real labels or on +1 and -1 (THEORY section 19)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srfx._validation import public
from srfx.reference._groups import SpikedBulk
from srfx.reference._instance import instance
from srfx.reference._one_step import network
from srfx.reference._spiked import Function, gauss_nodes, normal
from srfx.reference._spikes import spikes_of, table_of_spikes, turned
from srfx.reference._steps import multi_step_map, network_of_steps
from srfx.reference._system import Bulk, Table, as_function, jacobian, table
from srfx.reference._targets import Directions, directions_of, latents

Array = NDArray[Any]
REACH = 10.0  # of the averages over z and over the field
ORDER = 12  # nodes in a panel of them
K_ORDER = 8  # and of the average over k, whose panels are at most half as wide
TINY = 1e-150


def _ndtr(x: Array) -> Array:
    from scipy.special import ndtr

    return np.asarray(ndtr(x))


# ------------------------------------------------------------------------------------------ labels


@dataclass(frozen=True)
class Labels:
    """What y is given t; ``width``: how fast the law of y moves."""

    star: Function | Directions
    noise: float
    kind: str
    slope: float

    @staticmethod
    def of(model: Any) -> Labels:
        """Return the labels of a model; real ones unless it says otherwise."""
        several = directions_of(model.target)
        star: Function | Directions = several
        kind, slope = getattr(model, "labels", "real"), getattr(model, "slope", None)
        if several.directions == 1:
            star = as_function(model.target)
            if kind == "sign":
                star = replace(star, kinks=(*star.kinks, *_zeros(star)))
        return Labels(star, float(model.noise), kind, float(1.0 if slope is None else slope))

    @property
    def real(self) -> bool:
        return self.kind == "real"

    @property
    def width(self) -> float:
        """Scale in s* on which the law of y moves; 0: a step, inf: not at all."""
        if self.real:
            return math.inf
        return math.sqrt(self.noise) if self.kind == "sign" else 1.0 / self.slope

    def plus(self, *t: Array) -> Array:
        """Return P(y = 1 | t)."""
        from scipy.special import expit

        s = np.asarray(self.star.value(*t), float)
        if self.kind == "logit":
            return np.asarray(expit(self.slope * s))
        if self.noise > 0:
            return _ndtr(s / math.sqrt(self.noise))
        return np.asarray(0.5 * (1.0 + np.sign(s)))

    def mean(self) -> Directions | None:
        """Return E[y | t] of labels of +1 and -1 as a target; None of real ones."""
        if self.real:
            return None
        if isinstance(self.star, Directions):
            count, planes = self.star.directions, self.star.planes
        else:
            count, planes = 1, np.array([(1.0, x) for x in self.star.kinks]).reshape(-1, 2)
        return Directions(lambda *t: 2.0 * self.plus(*t) - 1.0, count, planes)

    def steps(self) -> tuple[Array, Array] | None:
        """Return where P(+|t) steps, ascending, and its values between; None if it varies there."""
        assert isinstance(self.star, Function)
        at = np.unique(np.asarray(self.star.kinks, float))
        if self.kind != "sign" or at.size == 0:
            return None
        ends = np.concatenate([[at[0] - 9.0], at, [at[-1] + 9.0]])
        inside = ends[:-1, None] + np.diff(ends)[:, None] * np.array([0.1, 0.3, 0.6, 0.9])
        values = self.plus(inside)
        return None if np.any(np.ptp(values, axis=1) > 0) else (at, values[:, 0])


def _zeros(star: Function) -> tuple[float, ...]:
    """Return where a function changes sign between -13 and 13, by bisection."""
    from scipy.optimize import brentq

    grid = np.linspace(-13.0, 13.0, 5201) + 1e-4 / math.pi  # no zero of a named function on it
    s = np.asarray(star.value(grid), float)

    def at(t: float) -> float:
        return float(star.value(np.array([t]))[0])

    flips = np.flatnonzero(s[1:] * s[:-1] < 0)
    return tuple(float(brentq(at, grid[i], grid[i + 1], xtol=1e-15)) for i in flips)


# ------------------------------------------------------------------------------------------ losses


@dataclass(frozen=True)
class Piecewise:
    """max over lo <= g <= hi of 2 g e - kappa g^2."""

    kappa: float
    lo: float
    hi: float


LOGISTIC = "logistic"


def loss_of(loss: Any) -> Piecewise | str:
    """Return the three numbers of a piecewise quadratic loss, or "logistic"."""
    if hasattr(loss, "delta"):
        return Piecewise(1.0, -float(loss.delta), float(loss.delta))
    if hasattr(loss, "tau"):
        return Piecewise(0.0, -0.5 * (1.0 - float(loss.tau)), 0.5 * float(loss.tau))
    known = {
        "square": Piecewise(1.0, -math.inf, math.inf),
        "absolute": Piecewise(0.0, -0.5, 0.5),
        "hinge": Piecewise(0.0, 0.0, 0.5),
        "squared_hinge": Piecewise(1.0, 0.0, math.inf),
        "max_margin": Piecewise(0.0, 0.0, math.inf),
    }
    if loss == LOGISTIC:
        return LOGISTIC
    if loss not in known:
        raise ValueError(f"loss must be one of {(*known, LOGISTIC)}, or have delta or tau")
    return known[loss]


@dataclass(frozen=True)
class Cut:
    """Of a cut g at a normal e of mean M and deviation S: E g, P(inside)/(kappa + V), E g^2, E g e.

    (THEORY 19, closed averages.)
    """

    g: Array
    slope: Array
    gg: Array
    ge: Array


def cut(loss: Piecewise, v: Array, mean: Array, sd: Array) -> Cut:
    """Return the moments of g = clip(e/(kappa + V), lo, hi)."""
    scale = loss.kappa + v
    low, high = scale * loss.lo, scale * loss.hi
    a, b = (low - mean) / sd, (high - mean) / sd
    below, above = _ndtr(a), _ndtr(-b)
    inside = np.where(a > 0, _ndtr(-a) - above, _ndtr(b) - below)
    at_a, at_b = normal(a), normal(b)
    first = mean * inside + sd * (at_a - at_b)
    second = (mean**2 + sd**2) * inside
    lo, hi = (0.0 if math.isinf(x) else x for x in (loss.lo, loss.hi))
    if math.isfinite(loss.lo):
        second = second + sd * (mean + low) * at_a
    if math.isfinite(loss.hi):
        second = second - sd * (mean + high) * at_b
    outside = lo * (mean * below - sd * at_a) + hi * (mean * above + sd * at_b)
    return Cut(
        lo * below + hi * above + first / scale,
        inside / scale,
        lo**2 * below + hi**2 * above + second / scale**2,
        outside + second / scale,
    )


def logistic_point(omega: Array, v: Array) -> Array:
    """Return x = omega + (V/2)/(1 + exp x), for y = 1: bisection, then Newton's method."""
    from scipy.special import expit

    low, high = omega.copy(), omega + 0.5 * v
    x = 0.5 * (low + high)
    for _ in range(200):
        defect = x - omega - 0.5 * v * expit(-x)
        low, high = np.where(defect < 0, x, low), np.where(defect < 0, high, x)
        new = x - defect / (1.0 + 0.5 * v * expit(x) * expit(-x))
        new = np.where((new >= low) & (new <= high), new, 0.5 * (low + high))
        done = float(np.max(np.abs(new - x) / (1.0 + np.abs(x))))
        x = new
        if done < 1e-15:
            break
    return x


# ---------------------------------------------------------------------------------------- averages

FLOOR = 1e-60  # of V and of the field's variance, in the tails


@dataclass(frozen=True)
class State:
    """The order parameters.

    ``v1`` and ``q1`` are (K, K), ``v2``, ``m``, ``chi`` and ``q2`` (K), ``theta`` (q, K), ``psi``
    (L', K).
    """

    v1: Array
    v2: Array
    m: Array
    theta: Array
    psi: Array
    chi: Array
    q1: Array
    q2: Array


@dataclass(frozen=True)
class Averages:
    """Over k, z, the label and the field; ``dual`` is the signed g of THEORY 19.

    ``slope`` (k) is E[G' | k], ``dual`` (k) E[g | k], ``square`` (k) E[g^2 | k], ``z_dual`` (L', k)
    E[z g | k] + tilt E[G' | k], the rest are averages over k too.
    """

    slope: Array
    dual: Array
    square: Array
    z_dual: Array
    train_loss: float
    test_loss: float
    classification_error: float
    test_error: float
    train_error: float
    work: float  # E[g x]


@dataclass(frozen=True)
class Block:
    """Nodes z (L', k, nodes) under some of the k, weights of sum one, and what the target is."""

    at: slice
    z: Array
    weight: Array
    target: Array
    plus: Array


@dataclass(frozen=True)
class Field:
    """The field given k: mean, what each z moves it by (L', k), deviation given z; and V."""

    centre: Array
    tilt: Array
    sd: Array
    v: Array


NAMES = ("slope", "g", "gg", "train", "test", "mse", "rest", "work")


class Data:
    """The data's side: a table over k, the labels, a loss."""

    def __init__(
        self,
        t: Table,
        gamma: Any,
        labels: Labels,
        loss: Any,
        density: float,
        a: Array | None = None,
    ) -> None:
        self.labels, self.loss, self.density = labels, loss_of(loss), density
        live = t.p > (1e-18 if loss != "max_margin" else 0.0)
        self.k, self.p = np.atleast_2d(t.k)[:, live], t.p[live]
        self.mu0, self.mu1, self.u2, self.mu_c = (x[:, live] for x in (t.mu0, t.mu1, t.u2, t.mu_c))
        self.own = (self.k[:, None] * self.mu1).reshape(-1, self.p.size)  # k mu1
        self.across = len(np.atleast_2d(t.h1))
        self.steps: tuple[Array, Array] | None = None
        if isinstance(labels.star, Function):  # z of unit norm beside one spike
            self.gamma = float(gamma)
            self.rho = math.sqrt(max(0.0, (1.0 - self.gamma) * (1.0 + self.gamma)))
            if self.rho > 0.0:
                self.steps = labels.steps()
            z, weight = self._z_rule()
            blocks = [
                (slice(0, self.p.size), z[None], weight, self.gamma * self.k.T + self.rho * z)
            ]
        else:
            assert a is not None
            blocks = []
            for at, z, weight in latents(labels.star, gamma, a, self.k, density):
                t_of = np.tensordot(gamma, self.k[:, at], axes=(1, 0))[..., None]
                blocks.append((at, z, weight, t_of + np.tensordot(a, z, axes=(1, 0))))
        self.blocks = []
        for at, z, weight, t_of in blocks:
            args = (t_of,) if isinstance(labels.star, Function) else tuple(t_of)
            target = np.asarray(labels.star.value(*args), float)
            plus = np.zeros(0) if labels.real else labels.plus(*args)
            self.blocks.append(Block(at, z, weight, target, plus))

    def _z_rule(self) -> tuple[Array, Array]:
        """Return nodes z and weights for every k: edges where the target or its sign has one."""
        count = self.p.size
        grid = np.linspace(-REACH, REACH, math.ceil(2 * REACH * self.density) + 1)
        if self.rho == 0.0:  # nothing depends on it
            return np.zeros((count, 1)), np.ones((count, 1))
        assert isinstance(self.labels.star, Function)
        kinks = np.asarray(self.labels.star.kinks, float)
        width = self.labels.width
        around = [0.0]
        if 0.0 < width < 1.0:
            around += [s * width * f for f in (0.7, 1.5, 3.0, 5.0) for s in (-1.0, 1.0)]
        kinks = (kinks[:, None] + np.asarray(around)).ravel()
        own = np.clip((kinks - self.gamma * self.k.T) / self.rho, -REACH, REACH)
        edges = np.concatenate([np.broadcast_to(grid, (count, grid.size)), own], axis=1)
        z, weight = gauss_nodes(np.sort(edges, axis=1), ORDER)
        return z, weight / weight.sum(axis=1, keepdims=True)

    def mean(self, f: Array) -> float:
        """Return the average over k."""
        return float(np.sum(self.p * f))

    def field(self, x: State) -> Field:
        """Return the field at a state."""
        tilt = x.psi @ self.mu1
        v = np.sum(self.mu1 * (x.v1 @ self.mu1), axis=0) + x.v2 @ self.u2
        whole = np.sum(self.mu1 * (x.q1 @ self.mu1), axis=0) + x.q2 @ self.u2
        centre = x.m @ self.mu0 + x.theta.ravel() @ self.own + x.chi @ self.mu_c
        sd = np.sqrt(np.maximum(whole - np.sum(tilt**2, axis=0), FLOOR))
        return Field(centre, tilt, sd, np.maximum(v, FLOOR))

    def at(self, x: State, observe: bool = True) -> Averages:
        """Return the averages at a state; with or without the observables."""
        field = self.field(x)
        if self.loss == LOGISTIC and self.steps is not None:
            sums, z_dual = self._logistic(field, observe)
        else:
            sums, z_dual = self._by_nodes(field, observe)
        wrong = self._signs(field) if observe and not self.labels.real else math.nan
        infinite = self.loss == Piecewise(0.0, 0.0, math.inf)
        return Averages(
            sums["slope"], sums["g"], sums["gg"], z_dual + field.tilt * sums["slope"],
            self.mean(sums["train"]), math.inf if infinite else self.mean(sums["test"]), wrong,
            self.mean(sums["mse"]), self.mean(sums["rest"]), self.mean(sums["work"]),
        )  # fmt: skip

    def _by_nodes(self, field: Field, observe: bool) -> tuple[dict[str, Array], Array]:
        """Average over the field at every node z, then over them."""
        sums = {name: np.zeros(self.p.size) for name in NAMES}
        z_dual = np.zeros((self.across, self.p.size))
        for block in self.blocks:
            at = block.at
            v, sd = field.v[at, None], field.sd[at, None]
            f = field.centre[at, None] + np.sum(field.tilt[:, at, None] * block.z, axis=0)
            sides: list[tuple[float, Any]] = [(0.0, 1.0)]
            if not self.labels.real:
                sides = [(1.0, block.plus), (-1.0, 1.0 - block.plus)]
            for y, chance in sides:
                w, sign = block.weight * chance, y if y != 0.0 else 1.0
                if self.loss == LOGISTIC:
                    point = logistic_moments(y * f, sd, v)
                else:
                    point = self._cuts(f, v, sd, y, block.target, observe)
                point["g"] = sign * point["g"]
                for name, value in point.items():
                    sums[name][at] += np.sum(w * value, axis=1)
                z_dual[:, at] += np.sum(w * block.z * point["g"], axis=2)
        return sums, z_dual

    def _cuts(
        self, f: Array, v: Array, sd: Array, y: float, target: Array, observe: bool
    ) -> dict[str, Array]:
        """Return the averages over the field of a piecewise quadratic loss, for one label."""
        assert isinstance(self.loss, Piecewise)
        kappa, noise = self.loss.kappa, self.labels.noise if y == 0.0 else 0.0
        mean = target - f if y == 0.0 else 1.0 - y * f
        spread = np.sqrt(sd**2 + noise) * np.ones_like(f)
        now = cut(self.loss, v, mean, spread)
        out = {"slope": now.slope, "g": now.g, "gg": now.gg}
        if not observe:
            return out
        fresh = cut(self.loss, np.full_like(v, TINY), mean, spread)
        work = target * now.g + noise * now.slope if y == 0.0 else now.g
        square = mean**2 + spread**2
        return out | {
            "train": 2.0 * now.ge - (kappa + 2.0 * v) * now.gg,
            "test": 2.0 * fresh.ge - kappa * fresh.gg,
            "mse": square - noise,
            "rest": square - 2 * v * now.ge + v**2 * now.gg,
            "work": work + v * now.gg - now.ge,
        }

    def _logistic(self, field: Field, observe: bool) -> tuple[dict[str, Array], Array]:
        """Average over the field first, omega = C + sqrt(Q) xi; z is normal given omega."""
        from scipy.special import expit

        tilt, v = field.tilt[0], field.v[:, None]
        size = np.sqrt(field.sd**2 + tilt**2)
        lean = np.clip(tilt / size, -1.0, 1.0)  # rr
        widest = min(1.0, 2.0 / float(np.max(size))) / self.density
        edges = np.linspace(-REACH, REACH, math.ceil(2.0 * REACH / widest) + 1)
        xi, weight = gauss_nodes(edges, ORDER)
        weight = weight / weight.sum()
        omega = field.centre[:, None] + size[:, None] * xi
        plus, z_plus = self._chances(lean, xi)
        sums = {name: np.zeros(self.p.size) for name in NAMES}
        z_dual = np.zeros((1, self.p.size))
        along = lean[:, None] * xi
        for y, chance, z_chance in ((1.0, plus, z_plus), (-1.0, 1.0 - plus, along - z_plus)):
            point = logistic_point(y * omega, v * np.ones_like(omega))  # y x
            p = expit(-point)
            h = 0.5 * p * (1.0 - p)
            sums["slope"] += (chance * (h / (1.0 + v * h))) @ weight
            sums["g"] += y * (chance * 0.5 * p) @ weight
            sums["gg"] += (chance * 0.25 * p**2) @ weight
            z_dual[0] += y * (z_chance * 0.5 * p) @ weight
            if not observe:
                continue
            sums["train"] += (chance * np.logaddexp(0.0, -point)) @ weight
            sums["test"] += (chance * np.logaddexp(0.0, -y * omega)) @ weight
            sums["mse"] += (chance * (1.0 - y * omega) ** 2) @ weight
            sums["rest"] += (chance * (1.0 - point) ** 2) @ weight
            sums["work"] += (chance * 0.5 * p * point) @ weight
        return sums, z_dual

    def _signs(self, field: Field) -> float:
        """Return the classification error."""
        miss = np.zeros(self.p.size)
        for block in self.blocks:
            at = block.at
            f = field.centre[at, None] + np.sum(field.tilt[:, at, None] * block.z, axis=0)
            u = f / field.sd[at, None]
            wrong = block.plus * _ndtr(-u) + (1.0 - block.plus) * _ndtr(u)
            miss[at] = np.sum(block.weight * wrong, axis=1)
        return self.mean(miss)

    def _chances(self, lean: Array, xi: Array) -> tuple[Array, Array]:
        """Return P(+ | k, omega) and E[z 1(+) | k, omega], z normal of mean rr xi."""
        assert self.steps is not None
        at, values = self.steps
        sd = np.sqrt(np.maximum((1.0 - lean) * (1.0 + lean), 0.0))
        mean, own_k = lean[:, None] * xi, self.k[0]
        plus, z_plus = np.full(mean.shape, values[0]), values[0] * mean
        for place, jump in zip(at, np.diff(values), strict=True):
            zeta = ((place - self.gamma * own_k) / self.rho)[:, None] - mean
            zeta = zeta / np.maximum(sd, 1e-30)[:, None]
            plus = plus + jump * _ndtr(-zeta)
            z_plus = z_plus + jump * (mean * _ndtr(-zeta) + sd[:, None] * normal(zeta))
        return plus, z_plus


CHEBYSHEV = 81  # nodes in the mean of the field


def logistic_moments(mean: Array, sd: Array, v: Array) -> dict[str, Array]:
    """Return the averages over a field y omega of these means (k, nodes), deviations and V (k, 1).

    They are smooth in the mean: for each k polynomials through Chebyshev's points.
    """
    from numpy.polynomial import chebyshev
    from scipy.special import expit

    xi, weight = np.polynomial.hermite_e.hermegauss(40)
    weight = weight / weight.sum()
    low, high = (f(mean, axis=1)[:, None] for f in (np.min, np.max))
    middle, half = 0.5 * (low + high), np.maximum(0.5 * (high - low), 1e-12)
    x = chebyshev.chebpts1(CHEBYSHEV)
    to_series = np.linalg.inv(chebyshev.chebvander(x, CHEBYSHEV - 1))
    omega = (middle + half * x)[..., None] + sd[..., None] * xi
    point = logistic_point(omega, v[..., None] * np.ones_like(omega))
    p = expit(-point)
    h = 0.5 * p * (1.0 - p)
    values = {
        "slope": h / (1.0 + v[..., None] * h), "g": 0.5 * p, "gg": 0.25 * p**2,
        "train": np.logaddexp(0.0, -point), "test": np.logaddexp(0.0, -omega),
        "mse": (1.0 - omega) ** 2, "rest": (1.0 - point) ** 2, "work": 0.5 * p * point,
    }  # fmt: skip
    at = (mean - middle) / half
    series = np.stack([to_series @ (value @ weight).T for value in values.values()], axis=1)
    found = chebyshev.chebval(at, series[..., None], tensor=False)
    return dict(zip(values, found, strict=True))


# --------------------------------------------------------------------------------------- the system


@dataclass(frozen=True)
class LossSolution:
    """One solved point, in the convention of a unit bulk.

    With one group, spike and direction the order parameters are floats; with K groups ``m``,
    ``chi``, ``q2``, ``v2`` are vectors and ``q1``, ``v1`` matrices. Of several directions or spikes
    ``theta`` has a row for each spike, ``psi`` one for each z of section 13.

    Attributes
    ----------
    train_loss, test_loss : float
        E loss(y, x) and E loss(y, omega), without the penalty, with label noise.
    classification_error : float
        Of labels: the share of fresh points whose label the sign of the prediction misses.
    test_error, train_error : float
        Mean squared; the former without the noise of real labels.
    residual : float
        Largest defect of the equations, relative.
    identity : float
        Relative violation of E[g x] = (lam/a') sum q2.
    """

    train_loss: float
    test_loss: float
    classification_error: float
    test_error: float
    train_error: float
    m: Any
    theta: Any
    psi: Any
    chi: Any
    q1: Any
    q2: Any
    v1: Any
    v2: Any
    residual: float
    identity: float


class System:
    """The equations of THEORY 19, of K groups."""

    def __init__(self, data: Data, bulk: Bulk, alpha: float, beta: float, lam: float) -> None:
        self.data, self.bulk, self.ratio, self.lam = data, bulk, alpha / beta, lam
        self.count = len(data.mu0)
        self.upper = np.triu_indices(self.count)
        self.twice = np.where(self.upper[0] == self.upper[1], 1.0, 2.0)
        at = bulk.response(np.eye(self.count), np.full(self.count, lam + 1.0))
        features = self.count * (len(data.k) + data.across + 1)
        self.coupled = at.k.shape[0] > features
        self.free = not self.coupled and at.k_mean is None
        self.basis = np.eye(self.count)  # m = basis y
        if self.free:  # combinations of the mu0 that can be told apart
            rows = data.mu0 * np.sqrt(data.p)
            size = np.sqrt(np.sum(rows**2, axis=1))
            size[size == 0] = 1.0
            left, singular, _ = np.linalg.svd(rows / size[:, None], full_matrices=False)
            apart = singular > 1e-10 * max(singular[0], 1e-300)
            self.basis = left[:, apart] / singular[apart] / size[:, None]
        elif not np.any(data.mu0):
            self.basis = np.zeros((self.count, 0))

    def packed(self, matrix: Array, vector: Array) -> Array:
        return np.concatenate([matrix[self.upper], vector])

    def unpacked(self, x: Array) -> tuple[Array, Array]:
        matrix = np.zeros((self.count, self.count), x.dtype)
        pairs = self.upper[0].size
        matrix[self.upper] = matrix.T[self.upper] = x[:pairs]
        return matrix, x[pairs:]

    def update(self, x: State) -> tuple[State, Array, Array]:
        """Return what the equations make of a state, the defect of m, and a step of the features.

        The defect is of m's coordinates, or of E[mu0 g] = 0 where it is free; the step, of (theta,
        chi, m) together, is in the same coordinates.
        """
        data, ratio, count = self.data, self.ratio, self.count
        now = data.at(x, observe=False)

        def sums(f: Array) -> Array:
            weighted = ratio * data.p * f
            return self.packed((data.mu1 * weighted) @ data.mu1.T, data.u2 @ weighted)

        vh, first = sums(now.slope), sums(now.square)
        dual = ratio * data.p * now.dual
        theta, chi, mean = data.own @ dual, data.mu_c @ dual, data.mu0 @ dual
        psi = (ratio * data.p * now.z_dual) @ data.mu1.T
        hats = np.concatenate([theta, psi.ravel(), chi])
        if self.coupled:
            hats = np.concatenate([hats, mean])

        def averages(y: Array) -> Array:
            vh1, vh2 = self.unpacked(y)
            return self.packed(*self.bulk.averages(vh1, self.lam + vh2))

        def energy(y: Array) -> Array:
            vh1, vh2 = self.unpacked(y)
            there = self.bulk.response(vh1, self.lam + vh2)
            value = hats @ there.k @ hats
            if there.k_mean is not None:
                value = value + mean @ there.k_mean @ mean
            return np.asarray([value])

        vh1, vh2 = self.unpacked(vh)
        at = self.bulk.response(vh1, self.lam + vh2)
        source = -jacobian(energy, vh)[0]
        source[: self.twice.size] /= self.twice
        q1, q2 = self.unpacked(source - jacobian(averages, vh) @ first)
        answer = at.k @ hats
        own, others = theta.size, psi.size
        m = x.m
        if self.coupled:
            m = answer[own + others + count :]
        elif at.k_mean is not None:
            m = at.k_mean @ mean
        new = State(
            at.v1, at.v2, m, answer[:own].reshape(x.theta.shape),
            answer[own : own + others].reshape(x.psi.shape),
            answer[own + others : own + others + count], q1, q2,
        )  # fmt: skip
        # (theta, chi, m) together: hats change by -a' L d, L = E[f f^T G']
        features = np.concatenate([data.own, data.mu_c, self.basis.T @ data.mu0])
        curve = ratio * (features * (data.p * now.slope)) @ features.T
        rank, joint = self.basis.shape[1], np.r_[0:own, own + others : own + others + count]
        response = np.zeros((len(features),) * 2)
        response[: joint.size, : joint.size] = at.k[np.ix_(joint, joint)]
        last = slice(joint.size, len(features))
        if self.coupled and rank:
            joint = np.r_[joint, own + others + count : len(at.k)]
            response = at.k[np.ix_(joint, joint)]
        elif at.k_mean is not None and rank:
            response[last, last] = at.k_mean
        left = np.eye(len(features)) + response @ curve
        of_m = (new.m - x.m)[:rank] if not self.free else self.basis.T @ mean
        if self.free:
            left[last] = curve[last]
        defect = np.concatenate([(new.theta - x.theta).ravel(), new.chi - x.chi, of_m])
        return new, of_m, np.linalg.lstsq(left, defect, rcond=1e-13)[0]

    def solve(self, x: State) -> tuple[State, float]:
        """Damped plain steps, then a hybrid Newton method."""
        from scipy.optimize import fsolve

        data, count, rank = self.data, self.count, self.basis.shape[1]
        features = np.concatenate([data.own, data.mu_c, self.basis.T @ data.mu0])
        own = data.own.shape[0]

        def share(psi: Array, q1: Array) -> float:
            """Return how much of q1 psi takes up."""
            if psi.size == 0:
                return 0.0
            return float(np.max(np.linalg.eigvals(np.linalg.solve(q1, psi.T @ psi)).real))

        def near(old: Array, to: Array) -> Array:
            """Move within a factor; matrices keep their positive definite shape."""
            if old.ndim == 1:
                ratio = np.where(to > 0, to / old, 0.3)
                return np.asarray(old * np.clip(ratio, math.exp(-1.5), math.exp(1.5)))
            good = bool(np.all(np.diag(to) > 0)) and float(np.min(np.linalg.eigvalsh(to))) > 0
            shape = to if good else old
            size = np.sqrt(near(np.diag(old).copy(), np.diag(to).copy()) / np.diag(shape))
            return np.asarray(shape * np.outer(size, size))

        for _ in range(15):
            new, _, move = self.update(x)
            at = data.field(x)
            field = data.mean(np.sqrt(at.sd**2 + np.sum(at.tilt**2, axis=0)))
            shift = math.sqrt(data.mean((move @ features) ** 2))
            size = min(1.0, 0.5 * field / max(shift, TINY))
            q1, psi = near(x.q1, new.q1), x.psi + 0.7 * (new.psi - x.psi)
            psi = psi * min(1.0, 0.98 / math.sqrt(max(share(psi, q1), 1e-300)))
            x = State(
                near(x.v1, new.v1), near(x.v2, new.v2),
                x.m + size * self.basis @ move[own + count :],
                x.theta + size * move[:own].reshape(x.theta.shape), psi,
                x.chi + size * move[own : own + count], q1, near(x.q2, new.q2),
            )  # fmt: skip
        unit = math.sqrt(max(np.trace(x.q1), 1e-6 * np.sum(x.q2), 1e-24))
        rows, columns = (index[self.twice > 1] for index in self.upper)
        diagonal = np.arange(count)
        ends = np.cumsum([count] * 4 + [rows.size] * 2 + [rank, x.theta.size, x.psi.size])
        inverse = np.linalg.pinv(self.basis) if rank else np.zeros((0, count))

        def split(matrix: Array) -> tuple[Array, Array]:
            size = np.sqrt(np.abs(np.diag(matrix)))
            return np.log(size**2), (matrix / np.outer(size, size))[rows, columns]

        def pack(x: State) -> Array:
            (v, v_off), (q, q_off) = split(x.v1), split(x.q1)
            rest = [
                inverse @ x.m / unit,
                x.theta.ravel() / unit,
                x.psi.ravel() / unit,
                x.chi / unit,
            ]
            return np.concatenate([v, np.log(x.v2), q, np.log(x.q2), v_off, q_off, *rest])

        def unpack(y: Array) -> State:
            v, v2, q, q2, v_off, q_off, m, theta, psi, chi = np.split(y, ends)
            v, v2, q, q2 = (np.exp(np.clip(x, -300.0, 300.0)) for x in (v, v2, q, q2))

            def matrix(size: Array, off: Array) -> Array:
                out = np.eye(count)
                out[rows, columns] = out[columns, rows] = off
                out[diagonal, diagonal] = 1.0
                return np.asarray(out * np.sqrt(np.outer(size, size)))

            m, theta, psi, chi = (z * unit for z in (m, theta, psi, chi))
            return State(
                matrix(v, v_off), v2, self.basis @ m, theta.reshape(x.theta.shape),
                psi.reshape(x.psi.shape), chi, matrix(q, q_off), q2,
            )  # fmt: skip

        def defect(y: Array) -> Array:
            x = unpack(y)
            definite = all(np.min(np.linalg.eigvalsh(z)) > 0 for z in (x.v1, x.q1))
            if not definite or share(x.psi, x.q1) >= 1.0 - 1e-12:
                return np.full(y.size, 1e3)
            new, of_m, _ = self.update(x)
            out = []
            for to, old in ((new.v1, x.v1), (new.v2, x.v2), (new.q1, x.q1), (new.q2, x.q2)):
                if old.ndim == 1:
                    out.append(to / old - 1.0)
                else:
                    size = np.sqrt(np.diag(old))
                    difference = (to - old) / np.outer(size, size)
                    out += [np.diag(difference), difference[rows, columns]]
            out += [of_m / unit] + [
                (a - b).ravel() / unit
                for a, b in ((new.theta, x.theta), (new.psi, x.psi), (new.chi, x.chi))
            ]
            return np.concatenate(out)

        y = np.asarray(fsolve(defect, pack(x), xtol=1e-13, maxfev=2000, full_output=True)[0])
        return unpack(y), float(np.max(np.abs(defect(y))))


def _solve(
    data: Data, bulk: Bulk, pi: Array, alpha: float, beta: float, lam: float, unit: Array
) -> LossSolution:
    """Solve by continuation in lam from above where the direct way stalls."""
    count, zero = pi.size, np.zeros(pi.size)
    weight = 0.1 / data.mean(pi @ (data.mu1**2 + data.u2))
    theta, psi = np.zeros((len(data.k), count)), np.zeros((data.across, count))

    def start(at: float) -> State:
        q2 = weight * pi
        return State(np.diag(pi) / at, pi / at, zero, theta, psi, zero, np.diag(q2), q2)

    for factors in ((1.0,), (30.0, 5.0, 1.0), (1e3, 200.0, 50.0, 20.0, 8.0, 4.0, 2.0, 1.3, 1.0)):
        x, defect = start(lam * factors[0]), math.inf
        for factor in factors:
            x, defect = System(data, bulk, alpha, beta, lam * factor).solve(x)
        if defect < 1e-9:
            break
    else:
        raise ValueError(f"no convergence: residual {defect:.1e} at {alpha=}, {beta=}, {lam=}")
    now = data.at(x)
    pull = lam * beta / alpha * float(np.sum(x.q2))
    identity = abs(now.work - pull) / max(abs(now.work), TINY)
    single = count == 1 and isinstance(data.labels.star, Function)

    def out(z: Array) -> Any:
        return float(z.ravel()[0]) if count == 1 else z

    def rows(z: Array) -> Any:
        z = z / unit
        if single:
            return float(z[0, 0])
        if isinstance(data.labels.star, Function):
            return z[0]
        return z[:, 0] if count == 1 else z

    square = np.outer(unit, unit)
    return LossSolution(
        now.train_loss, now.test_loss, now.classification_error, now.test_error, now.train_error,
        out(x.m), rows(x.theta), rows(x.psi), out(x.chi), out(x.q1 / square), out(x.q2),
        out(x.v1 / square), out(x.v2), defect, identity,
    )  # fmt: skip


@public
def solve_loss(
    model: Any,
    alpha: float,
    lam: float,
    d: float | None = None,
    *,
    loss: Any = "square",
    bulk: str | None = None,
    weights: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    density: float = 1,
) -> LossSolution:
    """Solve a readout fitted with any loss, on any labels, at one point (THEORY section 19).

    Parameters
    ----------
    model : srfx.SpikedRF, srfx.OneStep, srfx.MultiStep or anything with their attributes
        Numbers only; several readout values, spikes and directions as in section 13. With ``eta``
        it is the actual network (sections 9, 10, 14 and 15), whose step sees the labels.
        ``labels`` is "real" where it is missing.
    alpha, lam : float
        Sample complexity and penalty, both > 0.
    d : float or None
        Input dimension; None is the limit.
    loss : str or anything with an attribute ``delta`` or ``tau``
        "square", "absolute", "hinge", "squared_hinge", "logistic", "max_margin"; Huber's loss has
        ``delta``, that of a quantile ``tau``.
    bulk : {"isotropic", None}
        "isotropic": of a network after several steps, that of section 13 with its spikes.
    weights : (w, v, theta), optional
        A given first layer with its spike and the target's directions (section 9 f).
    density : float
        Multiplies the panels of every rule.

    Returns
    -------
    LossSolution

    Raises
    ------
    ValueError
        An unknown loss, a network that sections 9 to 15 do not reach, or no convergence.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> spike = dict(r=0.9, c=1.0, gamma=0.8, beta=1.0, noise=0.1, readout=(1.0,), weights=None)
    >>> model = SimpleNamespace(activation="tanh", target="tanh", labels="sign", **spike)
    >>> print(f"{solve_loss(model, 2.0, 0.1, loss='squared_hinge').classification_error:.4f}")
    0.2215
    """
    sigma, labels = as_function(model.activation), Labels.of(model)
    star, own, beta = labels.star, True, float(model.beta)
    side: Bulk
    if weights is not None:
        side, r, c, along, beta = instance(*weights, mean=d is not None)
        spikes = turned(np.array([[r]]), np.array([c]), np.ones(1), np.reshape(along, (-1, 1)))
    elif hasattr(model, "eta") and np.ndim(model.eta) > 0:
        seen, finer = labels.mean(), math.ceil(density)
        if bulk == "isotropic":
            spikes, own = multi_step_map(model, density=finer, labels=seen), False
        else:
            side, spikes = network_of_steps(model, d, finer, seen)
    elif hasattr(model, "eta"):
        plus = None if labels.real else labels.plus
        side, spikes = network(model, star, plus, d, density)
    else:
        spikes, own = spikes_of(model), False
    count = spikes.pi.size
    unit = np.sqrt(spikes.c) if own else np.ones(count)
    gamma: Any = spikes.gamma
    if isinstance(star, Function) and spikes.R.shape[1] == 1:
        gamma = float(spikes.gamma[0, 0])
        t = table(
            sigma, star, spikes.R[:, 0], spikes.c, gamma, density, own_bulk=own, order=K_ORDER
        )
    else:
        if isinstance(star, Function):  # of one direction beside several spikes
            star = directions_of(model.target)
            labels = replace(labels, star=star)
        t = table_of_spikes(sigma, star, spikes, density, own_bulk=own)
    if not own:
        side = SpikedBulk(beta, spikes.pi, d, len(np.atleast_2d(t.k)), len(np.atleast_2d(t.h1)))
    data = Data(t, gamma, labels, loss, density, spikes.a)
    return _solve(data, side, spikes.pi, float(alpha), beta, float(lam), unit)
