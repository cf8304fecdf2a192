"""The peers of the theory benchmark: what a good Python user would write instead of srfx.

Two solvers of the one-group equations of CPD24 (THEORY sections 3, 4 and 6, d = inf) at many points
(alpha, lam, beta), coefficients of one (activation, target, r, c, gamma) computed beforehand:

- `numpy_solve`: NumPy vectorised over points, expectations as matrix products;
- `numba_solve`: numba, one thread, fastmath off, blocks of points side by side so that LLVM
  vectorises across points without reassociating sums; tuned by hand to the limit of the machine;
- `numba_plain_solve`: numba as one writes it first, a Newton iteration point by point.

All run the two-variable Newton iteration with the closed Marchenko-Pastur forms on the fewest
nodes that give 1e-8: `coefficients_for_peers` tries midpoint and Gauss-Hermite rules of growing
size, halved by parity where sigma is odd or even, and Gauss-Legendre panels where the target's
kinks are sharp, against `srfx.reference.solve`. Accuracy: 1e-8 relative or better in all four
outputs for alpha .3 to 10, lam 1e-3 to 1, beta .3 to 3; the script prints what it is. Shortcuts:
Newton starts on a coarse rule and stops at a step of 2e-5 (quadratic convergence makes that 1e-9),
normal equations for (m, theta), uncentred errors, two nodes to a division. Outside the range above
the node table may be too small: nothing checks it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from srfx import reference

Array = NDArray[Any]
Errors = tuple[Array, Array, Array, Array]

UNROLL = 4  # nodes a pass
LANES = (
    64  # points side by side in a block; a compile-time constant, which spares LLVM alias checks
)
STEP = 2e-5  # Newton's last relative step
PLAIN_STEP = 1e-9  # the plain solver goes on with the averages of before its last step
START_STEP = 3e-3  # and the last one on the coarse table
MAX_ITER = 100


@dataclass(frozen=True)
class PeerCoefficients:
    """A node table and what does not depend on the point.

    Attributes
    ----------
    nodes : ndarray, shape (n, 8)
        Columns: weight p, mu0, k mu1, u1, u2, h, mu1 h1, hh.
    start : ndarray, shape (m, 8)
        A coarse table of the same kind (Gauss-Hermite), on which Newton's method starts.
    noise : float
        Label noise inside hh.
    error : float
        Largest relative error of the four outputs over the probe points.
    """

    nodes: Array
    start: Array
    noise: float
    error: float


def _parity(name: str) -> int:
    """Return 1 for an even activation, -1 for an odd one, 0 otherwise."""
    f = reference.ACTIVATIONS[name].value
    z = np.linspace(0.01, 6.0, 101)
    for sign in (-1, 1):
        if np.allclose(f(-z), sign * f(z), rtol=1e-13, atol=1e-13):
            return sign
    return 0


def _node_table(
    activation: str, target: str, r: float, c: float, gamma: float, noise: float, k: Array, p: Array
) -> Array:
    """Return the node table at the points `k` with weights `p`, folded onto k > 0 by parity."""
    table = reference.coefficients(activation, target, r, c, gamma, k)
    mu0, mu1, u2, h, h1, hh = (
        table.mu0, table.mu1, table.mu2_sq, table.h, table.h1, table.hh(noise),
    )  # fmt: skip
    parity = _parity(activation)
    if (
        parity != 0
    ):  # mu0 has the parity of sigma, mu1 the other; only matching parts of h, h1 count
        h = 0.5 * (h + parity * h[::-1])
        h1 = 0.5 * (h1 - parity * h1[::-1])
        hh = 0.5 * (hh + hh[::-1])
    if np.max(np.abs(mu0)) < 1e-13:
        mu0 = np.zeros_like(mu0)
    columns = np.stack([p / p.sum(), mu0, k * mu1, mu1**2, u2, h, mu1 * h1, hh], axis=1)
    if parity != 0:
        columns = columns[k > 0]
        columns[:, 0] *= 2.0
    return np.ascontiguousarray(columns)


def coefficients_for_peers(
    activation: str,
    target: str,
    r: float,
    c: float,
    gamma: float,
    noise: float = 0.0,
    tol: float = 1e-8,
) -> PeerCoefficients:
    """Return the smallest node table with errors below `tol`, relative, on some probe points.

    Parameters
    ----------
    activation, target : str
        Names known to `srfx.reference`.
    r, c, gamma : float
        Spike strength, bulk variance, alignment.
    noise : float
        Label noise.
    tol : float
        Relative accuracy wanted of test error, training error, q2 and V2.
    """
    grid = np.meshgrid([0.3, 1.0, 3.0, 10.0], [1e-3, 3e-2, 1.0], [0.3, 1.0, 3.0], indexing="ij")
    alpha, lam, beta = (np.ascontiguousarray(x.ravel()) for x in grid)
    exact = reference.solve(
        activation, target, r=r, c=c, gamma=gamma, beta=beta, alpha=alpha, lam=lam, noise=noise
    )
    wanted = (exact.test_error, exact.train_error, exact.q2, exact.v2)
    k, p = np.polynomial.hermite_e.hermegauss(10)
    start = _pad(_node_table(activation, target, r, c, gamma, noise, k, p))
    best: PeerCoefficients | None = None
    for half in (*range(6, 48), *range(48, 200, 8)):
        for k, p in _rules(half, reference.ACTIVATIONS[target].kinks, gamma):
            nodes = _node_table(activation, target, r, c, gamma, noise, k, p)
            trial = PeerCoefficients(nodes, start, noise, np.inf)
            found = numpy_solve(trial, alpha, lam, beta)
            error = max(
                float(np.max(np.abs(a / b - 1.0))) for a, b in zip(found, wanted, strict=True)
            )
            if best is None or error < best.error:
                best = PeerCoefficients(_pad(nodes), start, noise, error)
            if error < tol:
                return PeerCoefficients(_pad(nodes), start, noise, error)
    assert best is not None
    return best


def _rules(half: int, kinks: tuple[float, ...], gamma: float) -> Iterator[tuple[Array, Array]]:
    """Yield rules with some 2 `half` nodes, symmetric about 0 as parity wants them."""
    for reach in np.arange(4.25, 8.0, 0.25):
        k = (np.arange(-half, half) + 0.5) * (reach / half)
        yield k, np.exp(-0.5 * k * k)
    if half <= 100:
        yield np.polynomial.hermite_e.hermegauss(2 * half)
    if kinks and abs(gamma) > 0.99:  # an edge at (nearly) every jump of h
        edges = np.array([x / gamma for x in kinks])
        panels = max(1, half // 8)
        edges = np.unique([*np.linspace(-6.5, 6.5, 2 * panels + 1), *edges, *-edges])
        x, w = np.polynomial.legendre.leggauss(8)
        k = (edges[:-1, None] + 0.5 * np.diff(edges)[:, None] * (1.0 + x)).ravel()
        yield k, (0.5 * np.diff(edges)[:, None] * w).ravel() * np.exp(-0.5 * k * k)


def _pad(nodes: Array) -> Array:
    """Return the table with nodes of weight 0 appended up to a multiple of UNROLL."""
    more = -len(nodes) % UNROLL
    return np.concatenate([nodes, np.zeros((more, nodes.shape[1]))])


# ------------------------------------------------------------------------------------------- NumPy


def _bulk(a: Array, b: Array, beta: Array) -> tuple[Array, ...]:
    """Return <1/S>, <D/S>, <D^2/S^2>, <D/S^2>, <1/S^2> (THEORY section 3)."""
    low = a + (1.0 - beta) * b
    root = np.sqrt(low * low + 4.0 * a * b * beta)
    with np.errstate(all="ignore"):
        s0 = np.where(low > 0.0, 2.0 / (low + root), (root - low) / (2.0 * a * b * beta))
    grow = 1.0 + beta * b * s0
    s1 = s0 / grow
    t11 = s1 * (2.0 * a * (1.0 + beta) + b * (1.0 - beta) ** 2) / (root * (root + a))
    return s0, s1, t11, s1 / root, s0 * grow / root


def numpy_solve(
    coefs: PeerCoefficients, alpha: ArrayLike, lam: ArrayLike, beta: ArrayLike
) -> Errors:
    """Solve at one-dimensional arrays of points with NumPy.

    Returns test_error, train_error, q2, v2.
    """
    parts = [np.atleast_1d(np.asarray(x, float)) for x in (alpha, lam, beta)]
    alpha, lam, beta = np.broadcast_arrays(*parts)
    out = np.empty((4, alpha.size))
    size = max(64, 65_536 // coefs.nodes.shape[0])  # two (points, nodes) arrays within the L2 cache
    for i in range(0, alpha.size, size):
        s = slice(i, i + size)
        out[:, s] = _numpy_block(coefs, alpha[s], lam[s], beta[s])
    return out[0], out[1], out[2], out[3]


def _moments(nodes: Array) -> tuple[Array, Array, Array]:
    """Return u1 and u2 as rows, and the weights of E u w and E u u^T w^2 as columns."""
    p, u1, u2 = nodes[:, 0], nodes[:, 3], nodes[:, 4]
    first = np.stack([p * u1, p * u2], axis=1)
    second = np.stack([p * u1 * u1, p * u1 * u2, p * u2 * u2], axis=1)
    return np.stack([u1, u2]), first, second


def _numpy_block(coefs: PeerCoefficients, alpha: Array, lam: Array, beta: Array) -> Errors:
    ratio = alpha / beta
    v = np.stack([1.0 / lam, 1.0 / lam], axis=1)
    u, first, second = _moments(coefs.start)
    coarse = True
    for _ in range(MAX_ITER):
        w = 1.0 / (1.0 + v @ u)
        vh = ratio[:, None] * (w @ first)
        s0, s1, t11, t12, t22 = _bulk(lam + vh[:, 1], vh[:, 0], beta)
        m11, m12, m22 = (ratio[:, None] * ((w * w) @ second)).T
        j11, j12 = 1.0 - t11 * m11 - t12 * m12, -(t11 * m12 + t12 * m22)
        j21, j22 = -(t12 * m11 + t22 * m12), 1.0 - t12 * m12 - t22 * m22
        det = j11 * j22 - j12 * j21
        d1, d2 = s1 - v[:, 0], s0 - v[:, 1]
        new1 = v[:, 0] + (j22 * d1 - j12 * d2) / det
        new2 = v[:, 1] + (j11 * d2 - j21 * d1) / det
        good = (new1 > 0.0) & (new2 > 0.0)
        new = np.stack([np.where(good, new1, s1), np.where(good, new2, s0)], axis=1)
        moved = np.max(np.abs(new - v) / new)
        v = new
        if coarse and moved < START_STEP:
            coarse = False
            u, first, second = _moments(coefs.nodes)
        elif not coarse and moved < STEP:
            break
    # the linear part, at the final V
    p, mu0, kmu1, _, _, h, mu1h1, hh = coefs.nodes.T
    u, first, second = _moments(coefs.nodes)
    w = 1.0 / (1.0 + v @ u)
    w2 = w * w
    vh = ratio[:, None] * (w @ first)
    s0, s1, t11, t12, t22 = _bulk(lam + vh[:, 1], vh[:, 0], beta)
    m11, m12, m22 = (ratio[:, None] * (w2 @ second)).T
    j11, j12 = 1.0 - t11 * m11 - t12 * m12, -(t11 * m12 + t12 * m22)
    j21, j22 = -(t12 * m11 + t22 * m12), 1.0 - t12 * m12 - t22 * m22
    det = j11 * j22 - j12 * j21
    columns = (mu0 * mu0, mu0 * kmu1, kmu1 * kmu1, mu0 * h, kmu1 * h, mu1h1)
    g00, g01, g11, y0, y1, hat = (w @ np.stack([p * x for x in columns], axis=1)).T
    gain = alpha * v[:, 1]
    with np.errstate(all="ignore"):
        det_m = g00 * (1.0 + gain * g11) - gain * g01 * g01
        m = np.where(g00 > 0.0, (y0 * (1.0 + gain * g11) - gain * g01 * y1) / det_m, 0.0)
    theta = gain * (y1 - g01 * m) / (1.0 + gain * g11)
    theta_hat = theta / (beta * v[:, 1])
    psi_hat = ratio * hat
    psi = beta * v[:, 0] * psi_hat
    c = m[:, None] * mu0 + theta[:, None] * kmu1
    r0 = hh + c * (c - 2.0 * h) - 2.0 * psi[:, None] * mu1h1
    n1, n2 = (ratio[:, None] * ((r0 * w2) @ first)).T
    n1, n2 = n1 + beta * psi_hat**2, n2 + beta * theta_hat**2
    z1, z2 = t11 * n1 + t12 * n2, t12 * n1 + t22 * n2
    q1 = (j22 * z1 - j12 * z2) / det
    q2 = (j11 * z2 - j21 * z1) / det
    e1, e2 = first.sum(axis=0)
    f1, f2 = (w2 @ first).T
    test = r0 @ p + q1 * e1 + q2 * e2 - coefs.noise
    train = (r0 * w2) @ p + q1 * f1 + q2 * f2
    return test, train, q2, v[:, 1]


# ------------------------------------------------------------------------------------------- numba


@njit(error_model="numpy", cache=False)
def _numba_blocks(nodes, start_nodes, noise, alpha, lam, beta, out):  # type: ignore[no-untyped-def]
    """Fill out (4, points); the number of points is a multiple of LANES."""
    count = nodes.shape[0]
    # rows of one flat array at constant distances: LLVM sees that they do not overlap
    a = np.empty(40 * LANES)
    e1 = 0.0
    e2 = 0.0
    for j in range(count):
        e1 += nodes[j, 0] * nodes[j, 3]
        e2 += nodes[j, 0] * nodes[j, 4]
    for start in range(0, alpha.size, LANES):
        for i in range(LANES):
            a[0 * LANES + i] = 1.0 / lam[start + i]
            a[1 * LANES + i] = 1.0 / lam[start + i]
            a[2 * LANES + i] = alpha[start + i] / beta[start + i]
            a[3 * LANES + i] = lam[start + i]
            a[4 * LANES + i] = beta[start + i]
        coarse = True
        table = start_nodes
        done = False
        for _ in range(MAX_ITER + 1):
            for i in range(5 * LANES):
                a[5 * LANES + i] = 0.0
            for j in range(0, table.shape[0], UNROLL):
                p0, s0, t0 = table[j + 0, 0], table[j + 0, 3], table[j + 0, 4]
                p1, s1, t1 = table[j + 1, 0], table[j + 1, 3], table[j + 1, 4]
                p2, s2, t2 = table[j + 2, 0], table[j + 2, 3], table[j + 2, 4]
                p3, s3, t3 = table[j + 3, 0], table[j + 3, 3], table[j + 3, 4]
                ps0, pt0 = p0 * s0, p0 * t0
                ps1, pt1 = p1 * s1, p1 * t1
                ps2, pt2 = p2 * s2, p2 * t2
                ps3, pt3 = p3 * s3, p3 * t3
                for i in range(LANES):
                    v1 = a[0 * LANES + i]
                    v2 = a[1 * LANES + i]
                    d0 = 1.0 + s0 * v1 + t0 * v2
                    d1 = 1.0 + s1 * v1 + t1 * v2
                    d2 = 1.0 + s2 * v1 + t2 * v2
                    d3 = 1.0 + s3 * v1 + t3 * v2
                    i01 = 1.0 / (d0 * d1)  # one division for two nodes
                    i23 = 1.0 / (d2 * d3)
                    w0 = d1 * i01
                    w1 = d0 * i01
                    w2 = d3 * i23
                    w3 = d2 * i23
                    b0 = ps0 * w0
                    c0 = pt0 * w0
                    b1 = ps1 * w1
                    c1 = pt1 * w1
                    b2 = ps2 * w2
                    c2 = pt2 * w2
                    b3 = ps3 * w3
                    c3 = pt3 * w3
                    x0 = s0 * w0
                    y0 = t0 * w0
                    x1 = s1 * w1
                    y1 = t1 * w1
                    x2 = s2 * w2
                    y2 = t2 * w2
                    x3 = s3 * w3
                    y3 = t3 * w3
                    a[5 * LANES + i] += (b0 + b1) + (b2 + b3)
                    a[6 * LANES + i] += (c0 + c1) + (c2 + c3)
                    a[7 * LANES + i] += (b0 * x0 + b1 * x1) + (b2 * x2 + b3 * x3)
                    a[8 * LANES + i] += (b0 * y0 + b1 * y1) + (b2 * y2 + b3 * y3)
                    a[9 * LANES + i] += (c0 * y0 + c1 * y1) + (c2 * y2 + c3 * y3)
            for i in range(LANES):
                v1 = a[0 * LANES + i]
                v2 = a[1 * LANES + i]
                ratio = a[2 * LANES + i]
                b = a[4 * LANES + i]
                big_a = a[3 * LANES + i] + ratio * a[6 * LANES + i]
                big_b = ratio * a[5 * LANES + i]
                low = big_a + (1.0 - b) * big_b
                root = np.sqrt(low * low + 4.0 * big_a * big_b * b)
                up = 2.0 / (low + root)
                down = (root - low) / (2.0 * big_a * big_b * b)
                s0 = up if low > 0.0 else down
                grow = 1.0 + b * big_b * s0
                s1 = s0 / grow
                inv = 1.0 / root
                t11 = s1 * (2.0 * big_a * (1.0 + b) + big_b * (1.0 - b) * (1.0 - b))
                t11 = t11 * inv / (root + big_a)
                t12 = s1 * inv
                t22 = s0 * grow * inv
                m11 = ratio * a[7 * LANES + i]
                m12 = ratio * a[8 * LANES + i]
                m22 = ratio * a[9 * LANES + i]
                j11 = 1.0 - t11 * m11 - t12 * m12
                j12 = -(t11 * m12 + t12 * m22)
                j21 = -(t12 * m11 + t22 * m12)
                j22 = 1.0 - t12 * m12 - t22 * m22
                idet = 1.0 / (j11 * j22 - j12 * j21)
                d1 = s1 - v1
                d2 = s0 - v2
                n1 = v1 + (j22 * d1 - j12 * d2) * idet
                n2 = v2 + (j11 * d2 - j21 * d1) * idet
                good = min(n1, n2) > 0.0
                n1 = n1 if good else s1
                n2 = n2 if good else s0
                a[10 * LANES + i] = max(abs(n1 - v1) / n1, abs(n2 - v2) / n2)
                a[11 * LANES + i] = n1
                a[12 * LANES + i] = n2
                # kept for the linear part
                a[13 * LANES + i] = t11
                a[14 * LANES + i] = t12
                a[15 * LANES + i] = t22
                a[16 * LANES + i] = j11 * idet
                a[17 * LANES + i] = j12 * idet
                a[18 * LANES + i] = j21 * idet
                a[19 * LANES + i] = j22 * idet
            if done:
                break
            worst = 0.0
            for i in range(LANES):
                if not a[10 * LANES + i] <= worst:
                    worst = a[10 * LANES + i]
            if coarse:
                if worst < START_STEP:
                    coarse = False
                    table = nodes
            elif worst < STEP:
                done = True
            for i in range(LANES):
                a[0 * LANES + i] = a[11 * LANES + i]
                a[1 * LANES + i] = a[12 * LANES + i]
        # the linear part
        for i in range(6 * LANES):
            a[20 * LANES + i] = 0.0
        for j in range(count):
            p = nodes[j, 0]
            mu0 = nodes[j, 1]
            km = nodes[j, 2]
            u1 = nodes[j, 3]
            u2 = nodes[j, 4]
            h = nodes[j, 5]
            c00 = p * mu0 * mu0
            c01 = p * mu0 * km
            c11 = p * km * km
            y0 = p * mu0 * h
            y1 = p * km * h
            ph = p * nodes[j, 6]
            for i in range(LANES):
                w = 1.0 / (1.0 + u1 * a[0 * LANES + i] + u2 * a[1 * LANES + i])
                a[20 * LANES + i] += c00 * w
                a[21 * LANES + i] += c01 * w
                a[22 * LANES + i] += c11 * w
                a[23 * LANES + i] += y0 * w
                a[24 * LANES + i] += y1 * w
                a[25 * LANES + i] += ph * w
        for i in range(LANES):
            v2 = a[1 * LANES + i]
            b = a[4 * LANES + i]
            ratio = a[2 * LANES + i]
            gain = ratio * b * v2
            g00 = a[20 * LANES + i]
            g01 = a[21 * LANES + i]
            side = 1.0 + gain * a[22 * LANES + i]
            y1 = a[24 * LANES + i]
            m = (a[23 * LANES + i] * side - gain * g01 * y1) / (g00 * side - gain * g01 * g01)
            m = m if g00 > 0.0 else 0.0
            theta = gain * (y1 - g01 * m) / side
            hat = ratio * a[25 * LANES + i]
            a[26 * LANES + i] = m
            a[27 * LANES + i] = theta
            a[28 * LANES + i] = -2.0 * b * a[0 * LANES + i] * hat
            a[29 * LANES + i] = b * hat * hat
            a[30 * LANES + i] = theta * theta / (b * v2 * v2)
        for i in range(6 * LANES):
            a[31 * LANES + i] = 0.0
        for j in range(count):
            p = nodes[j, 0]
            mu0 = nodes[j, 1]
            km = nodes[j, 2]
            u1 = nodes[j, 3]
            u2 = nodes[j, 4]
            h2 = 2.0 * nodes[j, 5]
            mh = nodes[j, 6]
            hh = nodes[j, 7]
            for i in range(LANES):
                w = 1.0 / (1.0 + u1 * a[0 * LANES + i] + u2 * a[1 * LANES + i])
                c = mu0 * a[26 * LANES + i] + km * a[27 * LANES + i]
                r0 = p * (hh + c * (c - h2) + a[28 * LANES + i] * mh)
                ww = w * w
                rw = r0 * ww
                pw = p * ww
                a[31 * LANES + i] += r0
                a[32 * LANES + i] += rw
                a[33 * LANES + i] += u1 * rw
                a[34 * LANES + i] += u2 * rw
                a[35 * LANES + i] += u1 * pw
                a[36 * LANES + i] += u2 * pw
        for i in range(LANES):
            ratio = a[2 * LANES + i]
            n1 = ratio * a[33 * LANES + i] + a[29 * LANES + i]
            n2 = ratio * a[34 * LANES + i] + a[30 * LANES + i]
            z1 = a[13 * LANES + i] * n1 + a[14 * LANES + i] * n2
            z2 = a[14 * LANES + i] * n1 + a[15 * LANES + i] * n2
            q1 = a[19 * LANES + i] * z1 - a[17 * LANES + i] * z2
            q2 = a[16 * LANES + i] * z2 - a[18 * LANES + i] * z1
            a[5 * LANES + i] = a[31 * LANES + i] + q1 * e1 + q2 * e2 - noise
            a[6 * LANES + i] = a[32 * LANES + i] + q1 * a[35 * LANES + i] + q2 * a[36 * LANES + i]
            a[7 * LANES + i] = q2
        for i in range(LANES):
            out[0, start + i] = a[5 * LANES + i]
            out[1, start + i] = a[6 * LANES + i]
            out[2, start + i] = a[7 * LANES + i]
            out[3, start + i] = a[1 * LANES + i]


def numba_solve(
    coefs: PeerCoefficients, alpha: ArrayLike, lam: ArrayLike, beta: ArrayLike
) -> Errors:
    """Solve at one-dimensional arrays of points with numba, one thread.

    Returns test_error, train_error, q2, v2. The first call compiles.
    """
    parts = [np.atleast_1d(np.asarray(x, float)) for x in (alpha, lam, beta)]
    arrays = np.broadcast_arrays(*parts)
    count = arrays[0].size
    padded = -(-count // LANES) * LANES
    if padded == count:
        full = [np.ascontiguousarray(x) for x in arrays]
    else:
        full = [np.concatenate([x, np.full(padded - count, x[-1])]) for x in arrays]
    out = np.empty((4, padded))
    _numba_blocks(coefs.nodes, coefs.start, coefs.noise, full[0], full[1], full[2], out)
    return out[0, :count], out[1, :count], out[2, :count], out[3, :count]


@njit(error_model="numpy", cache=False)
def _numba_points(nodes, noise, alpha, lam, beta, out):  # type: ignore[no-untyped-def]
    """One point after the other: Newton on (V1, V2), then the linear part."""
    n = nodes.shape[0]
    for i in range(alpha.size):
        al, lm, be = alpha[i], lam[i], beta[i]
        ra = al / be
        v1 = v2 = 1.0 / lm
        for _ in range(MAX_ITER):
            e1 = e2 = e11 = e12 = e22 = 0.0
            for j in range(n):
                u1, u2 = nodes[j, 3], nodes[j, 4]
                w = 1.0 / (1.0 + u1 * v1 + u2 * v2)
                x, y = u1 * w, u2 * w
                e1 += nodes[j, 0] * x
                e2 += nodes[j, 0] * y
                e11 += nodes[j, 0] * x * x
                e12 += nodes[j, 0] * x * y
                e22 += nodes[j, 0] * y * y
            a, b = lm + ra * e2, ra * e1
            s = a / b
            c = s + 1.0 - be
            q = np.sqrt(c * c + 4.0 * s * be)
            g = 2.0 / (c + q) if c > 0.0 else (q - c) / (2.0 * s * be)
            f = 1.0 + be * g
            y2, y1 = g / b, g / (f * b)
            t22, t12 = y2 * f / (q * b), y1 / (q * b)
            t11 = y1 * (s * be * g + 1.0 / f) / (q * b)
            j11 = 1.0 - ra * (t11 * e11 + t12 * e12)
            j12 = -ra * (t11 * e12 + t12 * e22)
            j21 = -ra * (t12 * e11 + t22 * e12)
            j22 = 1.0 - ra * (t12 * e12 + t22 * e22)
            det = j11 * j22 - j12 * j21
            d1, d2 = y1 - v1, y2 - v2
            s1, s2 = (j22 * d1 - j12 * d2) / det, (j11 * d2 - j21 * d1) / det
            if v1 + s1 <= 0.0 or v2 + s2 <= 0.0:
                v1, v2 = y1, y2
                continue
            v1 += s1
            v2 += s2
            if abs(s1) <= PLAIN_STEP * v1 and abs(s2) <= PLAIN_STEP * v2:
                break
        s00 = s01 = s11 = s0h = s1h = ph = 0.0
        for j in range(n):
            w = nodes[j, 0] / (1.0 + nodes[j, 3] * v1 + nodes[j, 4] * v2)
            s00 += w * nodes[j, 1] * nodes[j, 1]
            s01 += w * nodes[j, 1] * nodes[j, 2]
            s11 += w * nodes[j, 2] * nodes[j, 2]
            s0h += w * nodes[j, 1] * nodes[j, 5]
            s1h += w * nodes[j, 2] * nodes[j, 5]
            ph += w * nodes[j, 6]
        s11 += 1.0 / (al * y2)
        if s00 > 1e-13:
            det2 = s00 * s11 - s01 * s01
            m, theta = (s0h * s11 - s1h * s01) / det2, (s1h * s00 - s0h * s01) / det2
        else:
            m, theta = 0.0, s1h / s11
        ph *= ra
        psi = be * y1 * ph
        th = theta / (be * y2)
        r1 = r2 = 0.0
        for j in range(n):
            u1, u2 = nodes[j, 3], nodes[j, 4]
            w = 1.0 / (1.0 + u1 * v1 + u2 * v2)
            cj = m * nodes[j, 1] + theta * nodes[j, 2]
            r = nodes[j, 7] + cj * (cj - 2.0 * nodes[j, 5]) - 2.0 * psi * nodes[j, 6]
            r1 += nodes[j, 0] * u1 * r * w * w
            r2 += nodes[j, 0] * u2 * r * w * w
        n1, n2 = ra * r1 + be * ph * ph, ra * r2 + be * th * th
        c1, c2 = t11 * n1 + t12 * n2, t12 * n1 + t22 * n2
        q1, q2 = (j22 * c1 - j12 * c2) / det, (j11 * c2 - j21 * c1) / det
        test = train = 0.0
        for j in range(n):
            u1, u2 = nodes[j, 3], nodes[j, 4]
            w = 1.0 / (1.0 + u1 * v1 + u2 * v2)
            cj = m * nodes[j, 1] + theta * nodes[j, 2]
            r = nodes[j, 7] + cj * (cj - 2.0 * nodes[j, 5]) - 2.0 * psi * nodes[j, 6]
            r += u1 * q1 + u2 * q2
            test += nodes[j, 0] * r
            train += nodes[j, 0] * r * w * w
        out[0, i], out[1, i], out[2, i], out[3, i] = test - noise, train, q2, v2


def numba_plain_solve(
    coefs: PeerCoefficients, alpha: ArrayLike, lam: ArrayLike, beta: ArrayLike
) -> Errors:
    """Solve at one-dimensional arrays of points with numba, point by point.

    Returns test_error, train_error, q2, v2.
    """
    parts = [np.atleast_1d(np.asarray(x, float)) for x in (alpha, lam, beta)]
    a, lm, b = (np.ascontiguousarray(x) for x in np.broadcast_arrays(*parts))
    out = np.empty((4, a.size))
    _numba_points(coefs.nodes, coefs.noise, a, lm, b, out)
    return out[0], out[1], out[2], out[3]


def main() -> None:
    """Print nodes, microseconds a point and relative error of both peers in a few cases."""
    cases = [
        ("tanh", "sin", 0.9, 1.0, 0.9),
        ("tanh", "sin", 0.9, 1.0, 1.0),
        ("tanh", "tanh", 1.134, 1.019, 0.972),
        ("relu", "sin", 0.9, 1.0, 0.9),
        ("sign", "sign", 0.9, 1.0, 0.8),
        ("erf", "relu", 2.5, 1.4, 0.95),
    ]
    rng = np.random.default_rng(0)
    points = 65_536
    alpha = np.sort(10 ** rng.uniform(-0.5, 1.0, points))
    lam = 10 ** rng.uniform(-3, 0, points)
    beta = 10 ** rng.uniform(-0.5, 0.5, points)
    print(f"{points} points: alpha .3 to 10, lam 1e-3 to 1, beta .3 to 3, one thread")
    for activation, target, r, c, gamma in cases:
        coefs = coefficients_for_peers(activation, target, r, c, gamma)
        some = slice(None, None, points // 64)
        exact = reference.solve(
            activation, target, r=r, c=c, gamma=gamma,
            alpha=alpha[some], lam=lam[some], beta=beta[some],
        )  # fmt: skip
        wanted = (exact.test_error, exact.train_error, exact.q2, exact.v2)
        line = f"{activation:>5}/{target:<5} r={r} gamma={gamma} nodes={len(coefs.nodes):3d}"
        for name, solver in (("numpy", numpy_solve), ("numba", numba_solve)):
            found = solver(coefs, alpha, lam, beta)
            best = np.inf
            for _ in range(3):
                tick = time.perf_counter()
                found = solver(coefs, alpha, lam, beta)
                best = min(best, time.perf_counter() - tick)
            error = max(
                float(np.max(np.abs(a[some] / b - 1))) for a, b in zip(found, wanted, strict=True)
            )
            line += f"   {name} {best / points * 1e6:7.3f} us a point, error {error:.1e}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
