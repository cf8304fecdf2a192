"""The data side with any loss: averages over k, z, the label and the field (THEORY 19)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srfx.reference._labels import Labels, normal_below
from srfx.reference._loss_moments import (
    LOGISTIC,
    Piecewise,
    cut,
    logistic_moments,
    logistic_point,
    loss_of,
)
from srfx.reference._spiked import Function, gauss_nodes, normal
from srfx.reference._system import Table
from srfx.reference._targets import latents

Array = NDArray[Any]
REACH = 10.0  # of the averages over z and over the field
ORDER = 12  # nodes in a panel of them
TINY = 1e-150

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
            wrong = block.plus * normal_below(-u) + (1.0 - block.plus) * normal_below(u)
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
            plus = plus + jump * normal_below(-zeta)
            z_plus = z_plus + jump * (mean * normal_below(-zeta) + sd[:, None] * normal(zeta))
        return plus, z_plus
