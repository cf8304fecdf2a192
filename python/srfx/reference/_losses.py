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
from srfx.reference._system import Bulk, Table, as_function, groups_of, jacobian, table

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
    """What y is given t; ``edges`` and ``width``: where, and how fast, the law of y moves."""

    star: Function
    noise: float
    kind: str
    slope: float

    @staticmethod
    def of(model: Any, star: Function) -> Labels:
        """Return the labels of a model; real ones unless it says otherwise."""
        kind, slope = getattr(model, "labels", "real"), getattr(model, "slope", None)
        labels = Labels(star, float(model.noise), kind, float(1.0 if slope is None else slope))
        if kind != "sign":
            return labels
        return replace(labels, star=replace(star, kinks=(*star.kinks, *_zeros(star))))

    @property
    def real(self) -> bool:
        return self.kind == "real"

    @property
    def width(self) -> float:
        """Scale in s* on which the law of y moves; 0: a step, inf: not at all."""
        if self.real:
            return math.inf
        return math.sqrt(self.noise) if self.kind == "sign" else 1.0 / self.slope

    def plus(self, t: Array) -> Array:
        """Return P(y = 1 | t)."""
        from scipy.special import expit

        s = np.asarray(self.star.value(t), float)
        if self.kind == "logit":
            return np.asarray(expit(self.slope * s))
        if self.noise > 0:
            return _ndtr(s / math.sqrt(self.noise))
        return np.asarray(0.5 * (1.0 + np.sign(s)))

    def steps(self) -> tuple[Array, Array] | None:
        """Return where P(+|t) steps, ascending, and its values between; None if it varies there."""
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
class Moments:
    """Of a cut g at a normal e of mean M and deviation S: E g, P(inside)/(kappa + V), E g^2, E g e.

    (THEORY 19, closed averages.)
    """

    g: Array
    slope: Array
    gg: Array
    ge: Array


def cut(loss: Piecewise, v: Array, mean: Array, sd: Array) -> Moments:
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
    return Moments(
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


@dataclass(frozen=True)
class State:
    """The order parameters."""

    v1: float
    v2: float
    m: float
    theta: float
    psi: float
    chi: float
    q1: float
    q2: float


@dataclass(frozen=True)
class Averages:
    """Over k, z, the label and the field; ``dual`` is the signed g of THEORY 19.

    ``slope`` (k) is E[G' | k], ``dual`` (k) E[g | k], ``square`` (k) E[g^2 | k], ``z_dual`` (k)
    E[z g | k] + psi mu1 E[G' | k], the rest are averages over k too.
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


class Data:
    """The data's side: a table over k, the labels, a loss."""

    def __init__(self, t: Table, gamma: float, labels: Labels, loss: Any, density: int) -> None:
        self.labels, self.loss, self.density = labels, loss_of(loss), density
        live = t.p > (1e-18 if loss != "max_margin" else 0.0)
        self.k, self.p = t.k[live], t.p[live]
        self.mu0, self.mu1, self.u2, self.mu_c = (x[0][live] for x in (t.mu0, t.mu1, t.u2, t.mu_c))
        self.u1 = self.mu1**2
        self.gamma, self.rho = gamma, math.sqrt(max(0.0, (1.0 - gamma) * (1.0 + gamma)))
        self.z, self.weight = self._z_rule()
        t_of = gamma * self.k[:, None] + self.rho * self.z
        self.target = np.asarray(labels.star.value(t_of), float)
        if not labels.real:
            self.plus = labels.plus(t_of)

    def _z_rule(self) -> tuple[Array, Array]:
        """Return nodes z and weights for every k: edges where the target or its sign has one."""
        grid = np.linspace(-REACH, REACH, math.ceil(2 * REACH * self.density) + 1)
        if self.rho == 0.0:  # nothing depends on it
            z, weight = np.zeros((self.k.size, 1)), np.ones((self.k.size, 1))
            return z, weight
        kinks = np.asarray(self.labels.star.kinks, float)
        width = self.labels.width
        around = [0.0]
        if 0.0 < width < 1.0:
            around += [s * width * f for f in (0.7, 1.5, 3.0, 5.0) for s in (-1.0, 1.0)]
        kinks = (kinks[:, None] + np.asarray(around)).ravel()
        own = np.clip((kinks - self.gamma * self.k[:, None]) / self.rho, -REACH, REACH)
        edges = np.concatenate([np.broadcast_to(grid, (self.k.size, grid.size)), own], axis=1)
        z, weight = gauss_nodes(np.sort(edges, axis=1), ORDER)
        return z, weight / weight.sum(axis=1, keepdims=True)

    def mean(self, f: Array) -> float:
        """Return the average over k."""
        return float(np.sum(self.p * f))

    def at(self, x: State, observe: bool = True) -> Averages:
        """Return the averages at a state; with or without the observables."""
        v = np.maximum(self.u1 * x.v1 + self.u2 * x.v2, 1e-60)
        centre = self.mu0 * x.m + self.k * self.mu1 * x.theta + self.mu_c * x.chi
        variance = np.maximum(self.u1 * (x.q1 - x.psi**2) + self.u2 * x.q2, 1e-60)
        if self.loss == LOGISTIC:
            return self._logistic(x, v, centre, observe)
        return self._piecewise(x, v, centre, np.sqrt(variance), observe)

    def _piecewise(self, x: State, v: Array, centre: Array, sd: Array, observe: bool) -> Averages:
        assert isinstance(self.loss, Piecewise)
        field = centre[:, None] + self.mu1[:, None] * x.psi * self.z
        v_of, sd_of = v[:, None], sd[:, None] * np.ones_like(field)
        zero = np.full_like(v_of, TINY)
        slope, dual, square, z_dual, train, test, mse, rest, work = np.zeros((9, self.k.size))
        kappa, noise = self.loss.kappa, self.labels.noise if self.labels.real else 0.0
        sides: list[tuple[float, Any]] = [(0.0, 1.0)]
        if not self.labels.real:
            sides = [(1.0, self.plus), (-1.0, 1.0 - self.plus)]
        for y, chance in sides:
            if y == 0.0:
                mean, spread, sign = self.target - field, np.sqrt(sd_of**2 + noise), 1.0
            else:
                mean, spread, sign = 1.0 - y * field, sd_of, y
            w = self.weight * chance
            now = cut(self.loss, v_of, mean, spread)
            slope += np.sum(w * now.slope, axis=1)
            dual += sign * np.sum(w * now.g, axis=1)
            square += np.sum(w * now.gg, axis=1)
            z_dual += sign * np.sum(w * self.z * now.g, axis=1)
            if not observe:
                continue
            train += np.sum(w * (2.0 * now.ge - (kappa + 2.0 * v_of) * now.gg), axis=1)
            if y == 0.0:
                work += np.sum(w * (self.target * now.g + noise * now.slope), axis=1)
            else:
                work += np.sum(w * now.g, axis=1)
            work += np.sum(w * (v_of * now.gg - now.ge), axis=1)
            fresh = cut(self.loss, zero, mean, spread)
            test += np.sum(w * (2.0 * fresh.ge - kappa * fresh.gg), axis=1)
            mse += np.sum(w * (mean**2 + spread**2 - noise), axis=1)
            rest += np.sum(w * (mean**2 + spread**2 - 2 * v_of * now.ge + v_of**2 * now.gg), axis=1)
        wrong = self._signs(x, centre) if observe and not self.labels.real else math.nan
        infinite = self.loss == Piecewise(0.0, 0.0, math.inf)
        return Averages(
            slope, dual, square, z_dual + x.psi * self.mu1 * slope, self.mean(train),
            math.inf if infinite else self.mean(test), wrong, self.mean(mse), self.mean(rest),
            self.mean(work),
        )  # fmt: skip

    def _logistic(self, x: State, v: Array, centre: Array, observe: bool) -> Averages:
        """Average over the field first, omega = C + sqrt(Q) xi; z is normal given omega."""
        from scipy.special import expit

        size = np.sqrt(np.maximum(self.u1 * x.q1 + self.u2 * x.q2, 1e-60))
        lean = np.clip(self.mu1 * x.psi / size, -1.0, 1.0)  # rr
        widest = min(1.0, 2.0 / float(np.max(size))) / self.density
        edges = np.linspace(-REACH, REACH, math.ceil(2.0 * REACH / widest) + 1)
        xi, weight = gauss_nodes(edges, ORDER)
        weight = weight / weight.sum()
        omega = centre[:, None] + size[:, None] * xi
        plus, z_plus = self._chances(lean, xi)
        slope, dual, square, z_dual, train, test, mse, rest, work = np.zeros((9, self.k.size))
        along = lean[:, None] * xi
        for y, chance, z_chance in ((1.0, plus, z_plus), (-1.0, 1.0 - plus, along - z_plus)):
            point = logistic_point(y * omega, v[:, None] * np.ones_like(omega))  # y x
            p = expit(-point)
            h = 0.5 * p * (1.0 - p)
            slope += (chance * (h / (1.0 + v[:, None] * h))) @ weight
            dual += y * (chance * 0.5 * p) @ weight
            square += (chance * 0.25 * p**2) @ weight
            z_dual += y * (z_chance * 0.5 * p) @ weight
            if not observe:
                continue
            train += (chance * np.logaddexp(0.0, -point)) @ weight
            test += (chance * np.logaddexp(0.0, -y * omega)) @ weight
            mse += (chance * (1.0 - y * omega) ** 2) @ weight
            rest += (chance * (1.0 - point) ** 2) @ weight
            work += (chance * 0.5 * p * point) @ weight
        wrong = self._signs(x, centre) if observe else math.nan
        return Averages(
            slope, dual, square, z_dual + x.psi * self.mu1 * slope, self.mean(train),
            self.mean(test), wrong, self.mean(mse), self.mean(rest),
            self.mean(work),
        )  # fmt: skip

    def _signs(self, x: State, centre: Array) -> float:
        """Return the classification error."""
        field = centre[:, None] + self.mu1[:, None] * x.psi * self.z
        sd = np.sqrt(np.maximum(self.u1 * (x.q1 - x.psi**2) + self.u2 * x.q2, 1e-60))[:, None]
        miss = self.plus * _ndtr(-field / sd) + (1.0 - self.plus) * _ndtr(field / sd)
        return self.mean(np.sum(self.weight * miss, axis=1))

    def _chances(self, lean: Array, xi: Array) -> tuple[Array, Array]:
        """Return P(+ | k, omega) and E[z 1(+) | k, omega], z normal of mean rr xi."""
        sd = np.sqrt(np.maximum((1.0 - lean) * (1.0 + lean), 0.0))
        mean = lean[:, None] * xi
        steps = self.labels.steps()
        if steps is not None and self.rho > 0:
            at, values = steps
            plus, z_plus = np.full(mean.shape, values[0]), values[0] * mean
            for place, jump in zip(at, np.diff(values), strict=True):
                zeta = ((place - self.gamma * self.k) / self.rho)[:, None] - mean
                zeta = zeta / np.maximum(sd, 1e-30)[:, None]
                plus = plus + jump * _ndtr(-zeta)
                z_plus = z_plus + jump * (mean * _ndtr(-zeta) + sd[:, None] * normal(zeta))
            return plus, z_plus
        grid = np.linspace(-9.0, 9.0, 9 * self.density + 1)
        kinks = np.asarray(self.labels.star.kinks, float)
        plus, z_plus = np.empty_like(mean), np.empty_like(mean)
        for i in range(self.k.size):
            own = (kinks - self.gamma * self.k[i]) / max(self.rho, 1e-30) - mean[i][:, None]
            own = np.clip(own / max(sd[i], 1e-30), -9.0, 9.0)
            edges = np.concatenate([np.broadcast_to(grid, (xi.size, grid.size)), own], axis=1)
            z, weight = gauss_nodes(np.sort(edges, axis=1), ORDER)
            z = mean[i][:, None] + sd[i] * z
            weight /= weight.sum(axis=1, keepdims=True)
            weight *= self.labels.plus(self.gamma * self.k[i] + self.rho * z)
            plus[i], z_plus[i] = weight.sum(axis=1), np.sum(weight * z, axis=1)
        return plus, z_plus


# --------------------------------------------------------------------------------------- the system


@dataclass(frozen=True)
class LossSolution:
    """One solved point, in the convention of a unit bulk.

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
        Relative violation of E[g x] = (lam/a') q2.
    """

    train_loss: float
    test_loss: float
    classification_error: float
    test_error: float
    train_error: float
    m: float
    theta: float
    psi: float
    chi: float
    q1: float
    q2: float
    v1: float
    v2: float
    residual: float
    identity: float


class System:
    """The equations of THEORY 19 for one group."""

    def __init__(self, data: Data, bulk: Bulk, alpha: float, beta: float, lam: float) -> None:
        self.data, self.bulk, self.ratio, self.lam = data, bulk, alpha / beta, lam
        self.no_mean = not np.any(data.mu0)

    def update(self, x: State) -> tuple[State, Array]:
        """Return what the equations make of a state, and d (theta, chi, m)."""
        data, ratio = self.data, self.ratio
        now = data.at(x, observe=False)
        vh = ratio * np.array([data.mean(data.u1 * now.slope), data.mean(data.u2 * now.slope)])
        qh = ratio * np.array([data.mean(data.u1 * now.square), data.mean(data.u2 * now.square)])
        features = np.stack([data.k * data.mu1, data.mu_c, data.mu0])
        theta, chi, mean = (ratio * data.mean(f * now.dual) for f in features)
        psi = ratio * data.mean(data.mu1 * now.z_dual)
        hats = np.array([theta, psi, chi])

        def averages(y: Array) -> Array:
            v1, v2 = self.bulk.averages(y[:1, None], self.lam + y[1:])
            return np.array([v1[0, 0], v2[0]])

        at = self.bulk.response(vh[:1, None], self.lam + vh[1:])
        coupled = at.k.shape[0] == 4
        free = not coupled and at.k_mean is None
        if coupled:
            hats = np.array([theta, psi, chi, mean])

        def energy(y: Array) -> Array:
            there = self.bulk.response(y[:1, None], self.lam + y[1:])
            value = hats @ there.k @ hats
            if there.k_mean is not None:
                value = value + mean**2 * there.k_mean[0, 0]
            return np.asarray([value])

        q = -jacobian(averages, vh) @ qh - jacobian(energy, vh)[0]
        answer = at.k @ hats
        if coupled:
            m = float(answer[3])
        elif free:
            m = 0.0 if self.no_mean else x.m + mean  # the equation is E[mu0 g] = 0
        else:
            assert at.k_mean is not None
            m = float(at.k_mean[0, 0]) * mean
        new = State(
            float(at.v1[0, 0]), float(at.v2[0]), m, float(answer[0]), float(answer[1]),
            float(answer[2]), float(q[0]), float(q[1]),
        )  # fmt: skip
        # (theta, chi, m) together: hats change by -a' L d, L = E[f f^T G']
        curve = ratio * (features * (data.p * now.slope)) @ features.T
        order = [0, 2, 3] if coupled else [0, 2]
        response = np.zeros((3, 3))
        response[: len(order), : len(order)] = at.k[np.ix_(order, order)]
        if at.k_mean is not None:
            response[2, 2] = at.k_mean[0, 0]
        defect = np.array([new.theta - x.theta, new.chi - x.chi, new.m - x.m])
        left = np.eye(3) + response @ curve
        if free and not self.no_mean:
            left[2] = curve[2]
        move = np.linalg.lstsq(left, defect, rcond=1e-13)[0]
        return new, move

    def solve(self, x: State) -> tuple[State, float]:
        """Damped plain steps, then a hybrid Newton method."""
        from scipy.optimize import fsolve

        for _ in range(15):
            new, move = self.update(x)
            field = self.data.mean(np.sqrt(self.data.u1 * x.q1 + self.data.u2 * x.q2))
            features = np.stack([self.data.k * self.data.mu1, self.data.mu_c, self.data.mu0])
            shift = math.sqrt(self.data.mean((move @ features) ** 2))
            size = min(1.0, 0.5 * field / max(shift, TINY))

            def near(old: float, to: float) -> float:
                to = to if to > 0 else 0.3 * old
                return float(old * np.clip(to / old, math.exp(-1.5), math.exp(1.5)))

            q1 = near(x.q1, new.q1)
            psi = x.psi + 0.7 * (new.psi - x.psi)
            psi = float(np.clip(psi, -0.99 * math.sqrt(q1), 0.99 * math.sqrt(q1)))
            x = State(
                near(x.v1, new.v1), near(x.v2, new.v2), x.m + size * move[2],
                x.theta + size * move[0], psi, x.chi + size * move[1], q1, near(x.q2, new.q2),
            )  # fmt: skip
        unit = max(math.sqrt(x.q1), 1e-3 * math.sqrt(x.q2), 1e-12)

        def pack(x: State) -> Array:
            logs = [math.log(x.v1), math.log(x.v2), math.log(x.q1), math.log(x.q2)]
            return np.array([*logs, x.m / unit, x.theta / unit, x.psi / unit, x.chi / unit])

        def unpack(y: Array) -> State:
            v1, v2, q1, q2 = np.exp(np.clip(y[:4], -300.0, 300.0))
            m, theta, psi, chi = (float(z) * unit for z in y[4:])
            return State(float(v1), float(v2), m, theta, psi, chi, float(q1), float(q2))

        def defect(y: Array) -> Array:
            x = unpack(y)
            if x.psi**2 >= x.q1 * (1.0 - 1e-12) and self.data.rho > 0:
                return np.full(8, 1e3)
            new, _ = self.update(x)
            logs = [(new.v1, x.v1), (new.v2, x.v2), (new.q1, x.q1), (new.q2, x.q2)]
            rest = [(new.m, x.m), (new.theta, x.theta), (new.psi, x.psi), (new.chi, x.chi)]
            return np.array([a / b - 1.0 for a, b in logs] + [(a - b) / unit for a, b in rest])

        y = np.asarray(fsolve(defect, pack(x), xtol=1e-13, maxfev=400, full_output=True)[0])
        return unpack(y), float(np.max(np.abs(defect(y))))


def _solve(
    data: Data, bulk: Bulk, alpha: float, beta: float, lam: float, unit: float
) -> LossSolution:
    """Solve by continuation in lam from above where the direct way stalls."""
    second = data.mean(data.u1 + data.u2)
    start = State(1.0 / lam, 1.0 / lam, 0.0, 0.0, 0.0, 0.0, 0.1 / second, 0.1 / second)
    for factors in ((1.0,), (30.0, 5.0, 1.0), (1e3, 200.0, 50.0, 20.0, 8.0, 4.0, 2.0, 1.3, 1.0)):
        x, defect = start, math.inf
        for factor in factors:
            system = System(data, bulk, alpha, beta, lam * factor)
            x = replace(x, v1=1.0 / (lam * factor), v2=1.0 / (lam * factor)) if x is start else x
            x, defect = system.solve(x)
        if defect < 1e-9:
            break
    else:
        raise ValueError(f"no convergence: residual {defect:.1e} at {alpha=}, {beta=}, {lam=}")
    now = data.at(x)
    identity = abs(now.work - lam / system.ratio * x.q2) / max(abs(now.work), TINY)
    return LossSolution(
        now.train_loss, now.test_loss, now.classification_error, now.test_error, now.train_error,
        x.m, x.theta / unit, x.psi / unit, x.chi, x.q1 / unit**2, x.q2, x.v1 / unit**2, x.v2,
        defect, identity,
    )  # fmt: skip


@public
def solve_loss(
    model: Any,
    alpha: float,
    lam: float,
    d: float | None = None,
    *,
    loss: Any = "square",
    weights: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    density: int = 1,
) -> LossSolution:
    """Solve a readout fitted with any loss, on any labels, at one point (THEORY section 19).

    Parameters
    ----------
    model : srfx.SpikedRF, srfx.OneStep or anything with their attributes
        One readout value; numbers only. With ``eta`` it is the actual one-step network (sections 9
        and 10), whose step sees the labels. ``labels`` is "real" where it is missing.
    alpha, lam : float
        Sample complexity and penalty, both > 0.
    d : float or None
        Input dimension; None is the limit.
    loss : str or anything with an attribute ``delta`` or ``tau``
        "square", "absolute", "hinge", "squared_hinge", "logistic", "max_margin"; Huber's loss has
        ``delta``, that of a quantile ``tau``.
    weights : (w, v, theta), optional
        A given first layer with its spike and the target's direction (section 9 f).
    density : int
        Multiplies the panels of every rule.

    Returns
    -------
    LossSolution

    Raises
    ------
    ValueError
        Several readout values, an unknown loss, or no convergence.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> spike = dict(r=0.9, c=1.0, gamma=0.8, beta=1.0, noise=0.1, readout=(1.0,), weights=None)
    >>> model = SimpleNamespace(activation="tanh", target="tanh", labels="sign", **spike)
    >>> print(f"{solve_loss(model, 2.0, 0.1, loss='squared_hinge').classification_error:.4f}")
    0.2215
    """
    a, _ = groups_of(model)
    if a.size != 1:
        raise ValueError(f"readout must have a single value here; got {model.readout}")
    star = as_function(model.target)
    labels = Labels.of(model, star)
    beta = float(model.beta)
    bulk: Bulk
    unit, own = 1.0, True
    if weights is not None:
        bulk, r, c, along, beta = instance(*weights, mean=d is not None)
        gamma = float(along[0])
    elif hasattr(model, "eta"):
        plus = None if labels.real else labels.plus
        bulk, r, c, gamma = network(model, labels.star, plus, d, density)
    else:
        r, c = float(model.r) * float(a[0]), 1.0 + float(a[0]) ** 2 * (float(model.c) - 1.0)
        gamma, own = float(model.gamma), False
        bulk = SpikedBulk(beta, np.ones(1), d)
    if own:
        unit = math.sqrt(c)
    t = table(
        as_function(model.activation), labels.star, np.array([r]), np.array([c]), gamma, density,
        own_bulk=own, order=K_ORDER,
    )  # fmt: skip
    data = Data(t, gamma, labels, loss, density)
    return _solve(data, bulk, float(alpha), beta, float(lam), unit)
