"""The bulk of the one-step network with several readout values (THEORY section 10)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from srfx.reference._one_step import (
    Constants,
    Residual,
    Vector,
    differ,
    frame,
    length_and_gamma,
    row_norms,
)
from srfx.reference._system import Response, follow, jacobian, newton

Array = NDArray[Any]
# (S, x) stands for S (x) I - (I (x) L^T) x (I (x) L), L L^T = VV = diag(Vh1, I), S in the space of
# the target's directions (THEORY section 14; a number for one of them)
Pair = tuple[Array, Array]


class GroupBulk:
    """Blocks of size K, or 2K if sigma' has a linear part; unknowns V2 and X."""

    def __init__(
        self,
        k: Constants,
        rule: Residual,
        eta: float,
        over: float,
        beta: float,
        a: Array,
        pi: Array,
        d: float | None,
    ) -> None:
        if k.h2 != 0.0 and any(x != 0.0 for x in (k.b3, k.b12, k.k3)):
            raise ValueError(
                "several readout values need an odd sigma, or sigma' - h1 - h2 z odd; for others"
                " section 10 has no formula"
            )
        self.k, self.rule, self.eta, self.over, self.beta = k, rule, eta, over, beta
        self.a, self.pi, self.d = a, pi, d
        self.kap, self.e2 = eta**2 * k.hc1 * over, eta * k.h2
        self.count = a.size
        self.size = a.size if self.e2 == 0.0 else 2 * a.size
        self.length, self.gamma = length_and_gamma(k.h1, rule, eta, over)
        self.rows = [row_norms(k, rule, eta * ag, over) for ag in a]
        self._last: tuple[Array, Array, Array, Array] | None = None

    # ---- the unknowns (V2, X)

    def _full(self, vh1: Array) -> Array:
        """Return VV."""
        out = np.eye(self.size, dtype=vh1.dtype)
        out[: self.count, : self.count] = vh1
        return out

    def _blocks(self, v2: Array, x: Array, vv: Array) -> tuple[Array, Array, Array, Array]:
        """Return Ah, Bh(u), Gm and Qh(u)."""
        n, u = self.count, self.rule.u
        kind = np.result_type(v2, x, vv)
        ah = np.zeros((self.size, self.size), kind)
        ah[:n, :n] = self.beta * np.diag(v2)
        bh = np.zeros((u.size, self.size, self.size), kind)
        for g in range(n):
            bh[:, g, g] = (
                self.beta * v2[g] * self.a[g] * (2.0 * self.e2 * u + self.kap * self.a[g] * u**2)
            )
            if self.size > n:
                f = self.e2 * self.a[g] * np.sqrt(self.beta * v2[g])
                bh[:, g, n + g] = f * u
                bh[:, n + g, g] = -f * u
        eye = np.eye(self.size)
        gm = vv @ np.linalg.inv(eye + x @ vv)
        return ah, bh, gm, np.linalg.inv(eye + bh @ gm * self.over)

    def _next(self, y: Array, vh1: Array, a: Array) -> Array:
        n, u = self.count, self.rule.u
        v2, x = y[:n], y[n:].reshape(self.size, self.size)
        ah, bh, gm, qh = self._blocks(v2, x, self._full(vh1))
        first = gm @ self.rule.mean(u[:, None, None] * qh)
        second = gm @ self.rule.mean((u**2)[:, None, None] * qh)
        down = a + np.diag(gm)[:n] + self.a**2 * self.kap * np.diag(second)[:n]
        down = down + 2.0 * self.a * self.e2 * np.diag(first)[:n]
        if self.size > n:  # a_g^2 e2^2 / f_g, written so that a_g = 0 is harmless
            corner = np.diag(first[n:, :n])
            down = down + self.a * self.e2 / np.sqrt(self.beta * v2) * corner
        return np.concatenate([self.pi / down, (ah + self.rule.mean(qh @ bh)).ravel()])

    def _unknowns(self, vh1: Array, a: Array) -> Array:
        h, b = vh1.real, a.real
        here = np.concatenate([h.ravel(), b])
        if self._last is None or not np.array_equal(self._last[0], here):
            self._last = (here, *self._solve(h, b))
        _, y, scale, slope = self._last
        if not (np.iscomplexobj(vh1) or np.iscomplexobj(a)):
            return y
        return scale * follow(lambda t: self._next(t * scale, vh1, a) / scale - t, y / scale, slope)

    def _solve(self, h: Array, b: Array) -> tuple[Array, Array, Array]:
        """Return (V2, X), the scales of their entries and the Jacobian in units of them."""
        n = self.count
        starts = []
        if self._last is not None:
            starts.append((self._last[1], 2))
        first = self.pi / (b + np.diag(h))
        x = np.zeros((self.size, self.size))
        x[:n, :n] = self.beta * np.diag(first)
        starts += [(np.concatenate([first, x.ravel()]), steps) for steps in (30, 300, 3000)]
        for y, steps in starts:
            for _ in range(steps):
                y = self._next(y, h, b)
            x = y[n:].reshape(self.size, self.size)
            unit = np.sqrt(np.maximum(np.abs(np.diag(x)), 1e-8))
            scale = np.concatenate([y[:n], np.outer(unit, unit).ravel()])

            def defect(t: Array, scale: Array = scale) -> Array:
                return np.asarray(self._next(t * scale, h, b) / scale - t)

            root, done = newton(defect, y / scale, positive=n)
            if done:
                return root * scale, scale, jacobian(defect, root)
        raise ValueError("the blocks of section 10 did not converge")

    def averages(self, vh1: Array, a: Array) -> tuple[Array, Array]:
        n = self.count
        y = self._unknowns(vh1, a)
        x = y[n:].reshape(self.size, self.size)
        v1 = x @ np.linalg.inv(np.eye(self.size) + self._full(vh1) @ x)
        return v1[:n, :n] / self.beta, y[:n]

    def disagreement(self, rule: Residual) -> float:
        """Return how far the averages at the last state are from those on another rule."""
        assert self._last is not None
        here, y = self._last[0], self._last[1]
        other = GroupBulk(self.k, rule, self.eta, self.over, self.beta, self.a, self.pi, self.d)
        return differ(self.rule, self._integrands(here, y), rule, other._integrands(here, y))

    def _integrands(self, here: Array, y: Array) -> list[tuple[Array, int]]:
        n = self.count
        vv = self._full(here[: n * n].reshape(n, n))
        _, bh, _, qh = self._blocks(y[:n], y[n:].reshape(self.size, self.size), vv)
        u = self.rule.u[:, None, None]
        return [(qh @ bh, 0), (u**2 * qh, 0), (u * qh, 1), (qh @ bh, 2)]

    # ---- overlaps

    def response(self, vh1: Array, a: Array) -> Response:
        n, rule, u = self.count, self.rule, self.rule.u
        y = self._unknowns(vh1, a)
        v2, x = y[:n], y[n:].reshape(self.size, self.size)
        vv = self._full(vh1)
        eye = np.eye(self.size)
        ah, bh, gm, qh = self._blocks(v2, x, vv)
        sign = np.diag(np.concatenate([np.ones(n), -np.ones(self.size - n)]))
        outer = np.linalg.inv(eye + vv @ x)
        qht = np.linalg.inv(eye + gm @ bh * self.over)
        yh = bh @ qht @ outer * self.over
        turned = sign @ yh.swapaxes(1, 2) @ sign
        count, size = len(np.atleast_1d(self.gamma)), self.size
        gme = (np.eye(1), x @ outer)
        unit = np.eye(count)
        x_t = (rule.second(qh @ bh) + np.multiply.outer(unit, ah)).swapaxes(1, 2)
        x_t = x_t.reshape(count * size, count * size)
        p_tt = (unit, x_t @ np.linalg.inv(np.eye(count * size) + np.kron(unit, vv) @ x_t))

        def times(p: Pair, q: Pair, middle: Array) -> Pair:
            one = np.eye(len(middle))
            both = np.kron(np.eye(p[0].shape[1]), middle)
            first = np.kron(p[0], one) @ q[1] + p[1] @ np.kron(q[0], one)
            return p[0] @ q[0], first - p[1] @ both @ q[1]

        def overlap(one: Vector, two: Vector) -> Pair:
            """Return the 11 block of P for two vectors."""
            (ax, f), (ay, h) = one, two
            both = (f * h)[:, None, None]
            s, z = times(gme, (rule.mean(f * h) * np.eye(1), rule.mean(both * yh)), vv)
            row = rule.first(f[:, None, None] * turned).swapaxes(0, 1).reshape(size, -1)
            column = rule.first(h[:, None, None] * yh).reshape(-1, size)
            left = ((ax + rule.first(f))[None, :], row)
            right = ((ay + rule.first(h))[:, None], column)
            s2, z2 = times(times(left, p_tt, vv), right, vv)
            return s * self.over + s2, (z * self.over + z2)[:n, :n]

        v, zs = frame(self.gamma, u / self.length)
        rows: list[Vector] = [(np.zeros(count), la + lb) for la, lb, _ in self.rows]

        p_vv = overlap(v, v)
        p_vz = [overlap(v, z) for z in zs]
        small = np.eye(n)
        w = p_vv[1] @ np.linalg.inv(small - vh1 @ p_vv[1])
        inverse = (
            1.0 / p_vv[0],
            -np.linalg.inv(p_vv[0] * small - p_vv[1] @ vh1) @ p_vv[1] / p_vv[0],
        )

        def minus(p: Pair, q: Pair) -> Pair:
            return p[0] - q[0], p[1] - q[1]

        # blocks of v, of every z, of delta
        parts = 2 + len(zs)
        k = np.zeros((parts, parts, n, n), np.result_type(w, vh1))
        k[0, 0] = w
        for i, (zhat, p) in enumerate(zip(zs, p_vz, strict=True), 1):
            k[0, i] = (small + w @ vh1) @ p[1]
            k[i, 0] = k[0, i].T
            for j, other in enumerate(zs, 1):
                k[j, i] = overlap(other, zhat)[1] + p_vz[j - 1][1].T @ vh1 @ k[0, i]
        for g in range(n):
            solved = times(overlap(rows[g], v), inverse, vh1)
            rest = [solved]
            for zhat, p in zip(zs, p_vz, strict=True):
                rest.append(minus(overlap(rows[g], zhat), times(solved, p, vh1)))
            for i, (s, part) in enumerate(rest):
                k[-1, i, g] = self.beta * v2[g] * (s * small - vh1 @ part)[g]
            for h in range(n):
                s, part = minus(overlap(rows[g], rows[h]), times(solved, overlap(v, rows[h]), vh1))
                scale = self.beta**2 * v2[g] * v2[h]
                k[-1, -1, g, h] = -scale * (s * vh1 - vh1 @ part @ vh1)[g, h]
            k[-1, -1, g, g] += self.beta * v2[g] * self.rows[g][2]
        for i in range(parts - 1):
            k[i, -1] = k[-1, i].T
        k = k.swapaxes(1, 2).reshape(parts * n, parts * n)

        mean = None
        if self.d is not None:
            c, t = self.k, self.eta * self.k.h1**2
            power = float(self.pi @ self.a**2)
            q_mean, qt_mean = rule.mean(qh), rule.mean(qht)
            c1 = (gm @ q_mean)[:n, :n]
            c2 = (gm @ q_mean * self.over + qt_mean @ gm @ q_mean)[:n, :n]
            extra = self.eta**2 * c.h1**2 * power * (c.second - c.h0**2 - c.h1**2) * self.over
            big_n = -2.0 * t * c1 + t**2 * power * c2 + extra * c1
            root = np.sqrt(self.pi)
            part = self.a * root
            matrix = np.diag(self.pi / v2) + big_n * np.outer(part, part)
            mean = self.beta * self.d * np.outer(root, root) * np.linalg.inv(matrix)
        v1 = (x @ outer)[:n, :n] / self.beta
        return Response(v1, v2, k, mean)
