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
from srfx.reference._labels import Labels
from srfx.reference._loss_data import TINY, Data, State
from srfx.reference._one_step import network
from srfx.reference._spiked import Function
from srfx.reference._spikes import spikes_of, table_of_spikes, turned
from srfx.reference._steps import multi_step_map, network_of_steps
from srfx.reference._system import Bulk, as_function, jacobian, table
from srfx.reference._targets import directions_of

Array = NDArray[Any]
K_ORDER = 8  # nodes in a panel of the average over k, at most half as wide as others


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
        Largest defect of the equations, relative. Far from the bulk of a step (A/B above some 1e3)
        what rounding leaves of q1 may be more, and then it is that.
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
        out(x.v1 / square), out(x.v2), max(defect, getattr(bulk, "lost", 0.0)), identity,
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
