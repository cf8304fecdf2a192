"""The actual one-step network as a good Python user would solve it: THEORY section 9 in numba.

One readout value, odd activation, no noise, d = inf. The spike's coefficients on a midpoint rule in
k, the residual's law on Gauss-Legendre panels in t, both made once by NumPy; then, point by point,
Newton's method on (V1, V2), inside it Newton's method on g and on tau, each from where it last
ended; the overlaps' derivative by a complex step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from srfx import reference

Array = NDArray[Any]

SLOPES = {"tanh": lambda z: 1 / np.cosh(z) ** 2}
PANELS, ORDER, NODES = 48, 16, 50


class StepCoefficients:
    """All that does not depend on the point: `nodes` in k, `law` (t, y, weight), `constants`."""

    def __init__(self, activation: str, target: str, eta: float, alpha0: float) -> None:
        sigma, s_target = (reference.ACTIVATIONS[name].value for name in (activation, target))
        x, wx = np.polynomial.legendre.leggauss(ORDER)
        edges = np.linspace(-9, 9, PANELS + 1)
        half = np.diff(edges)[:, None] / 2
        t = ((edges[:-1, None] + edges[1:, None]) / 2 + half * x).ravel()
        p = (half * wx).ravel() * np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)
        y, slope = s_target(t), SLOPES[activation](t)
        h1 = p @ slope
        s = slope - h1
        hc1, k3, k4, b3, q2 = (
            p @ f for f in (s**2, s**3, s**4, t**2 * s, t**2 * s**2)
        )  # moments of S
        t1, t2 = p @ (t * y), p @ y**2
        kap = eta**2 * hc1 / alpha0
        length = np.sqrt(t1**2 + t2 / alpha0)
        r, gamma, c = eta * h1 * length, t1 / length, 1 + kap * t2
        c_delta = (
            4 * eta**2 * (t2 * q2 / alpha0 + b3**2 * t1**2)
            + eta**4 * (p @ y**4) * (k4 - hc1**2) / alpha0**3
            + 2 * eta**4 * hc1**2 * t2**2 / alpha0**2
        )
        self.law = np.ascontiguousarray(np.stack([t, y, p], axis=1)[t > 0]) * [1, 1, 2]
        self.constants = np.array(
            [alpha0, kap, length, gamma, 2 * eta * b3, eta**3 * k3 / alpha0**2, c_delta]
        )
        step = 7.5 / NODES
        k = (np.arange(NODES) + 0.5) * step  # all products are even in k
        both = np.concatenate([k, -k])
        table = reference.coefficients(activation, target, r, c, gamma, both)
        h, g1, hh = table.h, table.h1, table.hh(0.0)
        h, g1 = (h[:NODES] - h[NODES:]) / 2, (g1[:NODES] + g1[NODES:]) / 2
        hh = (hh[:NODES] + hh[NODES:]) / 2
        z, wz = t, p
        muc = sigma(r * k[:, None] + np.sqrt(c) * z) @ (wz * (z**2 - 1)) / (2 * c)
        mu0, mu1, u2 = table.mu0[:NODES], table.mu1[:NODES], table.mu2_sq[:NODES]
        weight = np.exp(-(k**2) / 2)
        mu1 = mu1 / np.sqrt(c)
        columns = [weight / weight.sum(), mu0, k * mu1, muc, mu1**2, u2, h, mu1 * g1, hh]
        self.nodes = np.ascontiguousarray(np.stack(columns, axis=1))


@njit(error_model="numpy", cache=False)
def _find_tau(g, beta, kap, alpha0, law, tau):  # type: ignore[no-untyped-def]
    y2 = 0.0
    for _ in range(60):
        e = beta * g * kap * tau / alpha0
        s = y2 = 0.0
        for j in range(law.shape[0]):
            y = law[j, 1] * law[j, 1]
            q = 1.0 / (1.0 + e * y)
            s += law[j, 2] * e * y * q
            y2 += law[j, 2] * y * q * q
        step = (1.0 - tau * (1.0 + beta * g) - alpha0 * s) / (1.0 + beta * g * (1.0 + kap * y2))
        tau += step
        if abs(step) < 1e-8 * tau:
            break
    return tau, -beta * tau * (1.0 + kap * y2) / (1.0 + beta * g * (1.0 + kap * y2))


@njit(error_model="numpy", cache=False)
def _kernel(g, tau, beta, law, constants, k):  # type: ignore[no-untyped-def]
    alpha0, kap, length, gamma, c1, c3, c_delta = constants
    e = beta * g * kap * tau / alpha0
    d2 = d1 = d3 = n2 = n4 = n6 = 0j
    for j in range(law.shape[0]):
        t, u = law[j, 0], law[j, 1]
        y = u * u
        q = law[j, 2] / (1.0 + e * y)
        d2 += t * t * y * q
        d1 += t * u * q
        d3 += t * u * y * q
        n2 += y * q
        n4 += y * y * q
        n6 += y * y * y * q
    bg, f, rho = beta * g, tau / alpha0, np.sqrt(1.0 - gamma * gamma)
    tt = 1.0 / (1.0 + bg * (1.0 + kap * d2))
    p11, p13, p33 = f * n2 + tt * d1 * d1, f * n4 + tt * d1 * d3, f * n6 + tt * d3 * d3
    vv = p11 / (length * length)
    vz = (tt * d1 / length - gamma * vv) / rho
    zz = (tt - 2.0 * gamma * tt * d1 / length + gamma * gamma * vv) / (rho * rho)
    lv = (c1 * p11 + c3 * p13) / length
    lz = (c1 * tt * d1 + c3 * tt * d3 - gamma * lv) / rho
    ll = c1 * c1 * p11 + 2.0 * c1 * c3 * p13 + c3 * c3 * p33
    k[0, 0] = 1.0 / vv - 1.0
    k[0, 1] = k[1, 0] = -vz / vv
    k[1, 1] = 1.0 - zz + vz * vz / vv
    k[0, 2] = k[2, 0] = bg * lv / vv
    k[1, 2] = k[2, 1] = bg * (lz - lv * vz / vv)
    k[2, 2] = bg * c_delta - bg * bg * (ll - lv * lv / vv)


@njit(error_model="numpy", cache=False)
def _solve(nodes, law, constants, alpha, lam, beta, out):  # type: ignore[no-untyped-def]
    n, alpha0, kap = nodes.shape[0], constants[0], constants[1]
    k = np.zeros((3, 3), np.complex128)
    system, right = np.zeros((4, 4)), np.zeros(4)
    for i in range(alpha.size):
        be, ra = beta[i], alpha[i] / beta[i]
        v1 = v2 = 1.0 / lam[i]
        g = tau = 0.0
        for _ in range(100):
            e1 = e2 = e11 = e12 = e22 = 0.0
            for j in range(n):
                u1, u2 = nodes[j, 4], nodes[j, 5]
                w = 1.0 / (1.0 + u1 * v1 + u2 * v2)
                e1 += nodes[j, 0] * u1 * w
                e2 += nodes[j, 0] * u2 * w
                e11 += nodes[j, 0] * u1 * u1 * w * w
                e12 += nodes[j, 0] * u1 * u2 * w * w
                e22 += nodes[j, 0] * u2 * u2 * w * w
            a, b = lam[i] + ra * e2, ra * e1
            s = a / b
            g = 0.0  # from there it is monotone
            for _ in range(100):
                tau, slope = _find_tau(g, be, kap, alpha0, law, tau)
                step = (1.0 - s * g - (1.0 - tau) / be) / (s - slope / be)
                g += step
                if abs(step) < 1e-8 * g:
                    break
            tau, slope = _find_tau(g, be, kap, alpha0, law, tau)
            dg = -g / (s - slope / be)
            y2, y1 = g / b, (1.0 - s * g) / b
            t22, t12 = -dg / (b * b), (g + s * dg) / (b * b)
            t11 = (1.0 - 2.0 * s * g - s * s * dg) / (b * b)
            j11, j12 = 1.0 - ra * (t11 * e11 + t12 * e12), -ra * (t11 * e12 + t12 * e22)
            j21, j22 = -ra * (t12 * e11 + t22 * e12), 1.0 - ra * (t12 * e12 + t22 * e22)
            det = j11 * j22 - j12 * j21
            d1, d2 = y1 - v1, y2 - v2
            s1, s2 = (j22 * d1 - j12 * d2) / det, (j11 * d2 - j21 * d1) / det
            if v1 + s1 <= 0.0 or v2 + s2 <= 0.0:
                v1, v2 = y1, y2
                continue
            v1 += s1
            v2 += s2
            if abs(s1) <= 1e-8 * v1 and abs(s2) <= 1e-8 * v2:
                break
        _kernel(g + 1e-30j, tau + 1e-30j * slope, be, law, constants, k)
        kv, kd = k.real / b, k.imag / 1e-30 * dg / b  # K/B and K'/B
        # E[mu0 w (h - C)] = 0 and x_a = sum_b (K/B)_ab hat_b for (theta, psi, chi)
        system[:] = 0.0
        right[:] = 0.0
        ps = 0.0
        gram = np.zeros((3, 3))
        target = np.zeros(3)
        for j in range(n):
            w = nodes[j, 0] / (1.0 + nodes[j, 4] * v1 + nodes[j, 5] * v2)
            for p in range(3):
                target[p] += w * nodes[j, 1 + p] * nodes[j, 6]
                for q in range(3):
                    gram[p, q] += w * nodes[j, 1 + p] * nodes[j, 1 + q]
            ps += ra * w * nodes[j, 7]
        place = (0, 2)  # of theta's and chi's hats in K
        for q in range(3):
            system[0, q] = gram[0, q]
        right[0] = target[0]
        for row in range(2):
            system[1 + row, 1 + row] = 1.0
            right[1 + row] = kv[place[row], 1] * ps
            for column in range(2):
                factor = ra * kv[place[row], place[column]]
                right[1 + row] += factor * target[1 + column]
                for q in range(3):
                    system[1 + row, q] += factor * gram[1 + column, q]
        system[3, 3] = 1.0
        x = np.linalg.solve(system, right)
        hats = np.array(
            [
                ra * (target[1] - gram[1, 0] * x[0] - gram[1, 1] * x[1] - gram[1, 2] * x[2]),
                ps,
                ra * (target[2] - gram[2, 0] * x[0] - gram[2, 1] * x[1] - gram[2, 2] * x[2]),
            ]
        )
        psi = kv[1, 0] * hats[0] + kv[1, 1] * hats[1] + kv[1, 2] * hats[2]
        r1 = r2 = 0.0
        for j in range(n):
            u1, u2 = nodes[j, 4], nodes[j, 5]
            w = 1.0 / (1.0 + u1 * v1 + u2 * v2)
            c = x[0] * nodes[j, 1] + x[1] * nodes[j, 2] + x[2] * nodes[j, 3]
            r = nodes[j, 8] + c * (c - 2.0 * nodes[j, 6]) - 2.0 * psi * nodes[j, 7]
            r1 += ra * nodes[j, 0] * u1 * r * w * w
            r2 += ra * nodes[j, 0] * u2 * r * w * w
        c1, c2 = t11 * r1 + t12 * r2, t12 * r1 + t22 * r2
        for p in range(3):
            for q in range(3):
                c1 += hats[p] * hats[q] * (kv[p, q] + s * kd[p, q]) / b
                c2 -= hats[p] * hats[q] * kd[p, q] / b
        q1, q2 = (j22 * c1 - j12 * c2) / det, (j11 * c2 - j21 * c1) / det
        test = train = 0.0
        for j in range(n):
            u1, u2 = nodes[j, 4], nodes[j, 5]
            w = 1.0 / (1.0 + u1 * v1 + u2 * v2)
            c = x[0] * nodes[j, 1] + x[1] * nodes[j, 2] + x[2] * nodes[j, 3]
            r = nodes[j, 8] + c * (c - 2.0 * nodes[j, 6]) - 2.0 * psi * nodes[j, 7]
            r += u1 * q1 + u2 * q2
            test += nodes[j, 0] * r
            train += nodes[j, 0] * r * w * w
        out[0, i], out[1, i] = test, train


def numba_step_solve(coefs: StepCoefficients, alpha: Array, lam: Array, beta: Array) -> Array:
    """Return test and training errors, shape (2, points)."""
    out = np.empty((2, alpha.size))
    _solve(coefs.nodes, coefs.law, coefs.constants, alpha, lam, beta, out)
    return out
