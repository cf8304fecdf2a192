"""Readouts of several values beside NumPy, on one core: microseconds a point for K = 1, 2, 4, 8.

    python bench/bench_groups.py [--points 20000] [--rounds 5] [--before FOLDER] [--json FILE]

Fixed coefficients (tanh/sin, r = .9, gamma = .9, values spread over .5 to 1.5: no two groups are
one); alpha .3 to 10, lam 1e-3 to 1, beta .3 to 3. Peer: THEORY section 7 in NumPy, vectorised
over points (Newton's method on V with the same Jacobian, batched LAPACK), coefficients given.
K = 1 is the one-group path of `solve`, and "general, K = 1" the code for groups. Rounds are
interleaved, medians printed; the bench fails if srfx and the peer differ by more than 1e-9.

--before: another build, as `pip install --target FOLDER .` makes it, on the same points, in a
process of its own: groups of the isotropic bulk and of the actual step (points of one set, fewer
the more groups there are). Both builds answer in turn; the bench fails where their errors differ
by more than 1e-10.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import builds
import numpy as np

import srfx
from srfx import _core
from srfx.models import compiled

ACTIVATION, TARGET, R, GAMMA = "tanh", "sin", 0.9, 0.9


def seconds(work: Callable[[], Any]) -> float:
    """User time of one call on this thread: what others do meanwhile does not count."""
    start = time.process_time()
    work()
    return time.process_time() - start


class NumpyGroups:
    """Section 7 for a batch of points: coefficients on Gauss-Legendre panels, then Newton."""

    def __init__(self, readout: np.ndarray) -> None:
        x, w = np.polynomial.legendre.leggauss(10)
        edges = np.arange(0, 9, 0.75)
        self.k = ((edges[:-1, None] + edges[1:, None]) + 0.75 * x).ravel() / 2
        self.weight = np.tile(0.75 * w, len(edges) - 1) * np.exp(-(self.k**2) / 2)
        self.weight /= np.sqrt(2 * np.pi)  # twice the half: both functions are odd
        groups = [
            _core.coefficients(compiled(ACTIVATION), compiled(TARGET), R * a, 1.0, GAMMA, self.k)
            for a in readout
        ]
        self.mu0, self.mu1, self.u2 = (
            np.array([g[name] for g in groups]) for name in ("mu0", "mu1", "mu2_squared")
        )
        self.h, self.h1, self.hh = (groups[0][name] for name in ("h", "h1", "hh"))
        n = len(readout)
        self.pi = np.full(n, 1 / n)
        self.row, self.col = np.triu_indices(n)
        self.e = np.concatenate([self.mu1[self.row] * self.mu1[self.col], self.u2])
        self.double = np.concatenate([np.where(self.row == self.col, 1.0, 2.0), np.ones(n)])

    def unpack(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """V1 as matrices, and V2."""
        n, pairs = len(self.pi), len(self.row)
        v1 = np.empty((len(v), n, n))
        v1[:, self.row, self.col] = v1[:, self.col, self.row] = v[:, :pairs]
        return v1, v[:, pairs:]

    def pack(self, v1: np.ndarray, v2: np.ndarray) -> np.ndarray:
        """The reverse."""
        return np.concatenate([v1[:, self.row, self.col], v2], axis=1)

    def inner(self, vh1: np.ndarray, a: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, ...]:
        """V2, J, Gam and Mx: Newton's method from below."""
        eye, diagonal = np.eye(len(self.pi)), np.arange(len(self.pi))
        v2 = self.pi / (a + vh1[:, diagonal, diagonal])
        for _ in range(50):
            j = np.linalg.inv(eye + beta[:, None, None] * vh1 * v2[:, None, :])
            gam = j @ vh1
            mx = eye * (self.pi / v2**2)[:, :, None] - beta[:, None, None] * gam**2
            misfit = self.pi / v2 - a - gam[:, diagonal, diagonal]
            step = np.linalg.solve(mx, misfit[..., None])[..., 0]
            bad = np.any(v2 + step <= 0, axis=1)
            step[bad] = (self.pi / (a + gam[:, diagonal, diagonal]) - v2)[bad]
            v2 = v2 + step
            if np.all(np.abs(step) <= 1e-15 * v2 + 1e-300) or np.max(np.abs(step) / v2) < 1e-14:
                break
        return v2, j, gam, mx

    def traces(self, n: np.ndarray, state: tuple[np.ndarray, ...], beta: np.ndarray) -> np.ndarray:
        """T for a batch of right-hand sides n (points, packed)."""
        v1, j, mx = state
        n1, n2 = self.unpack(n)
        source = n2 + np.einsum("pgi,pij,pgj->pg", j, n1, j)
        q2 = np.linalg.solve(mx, source[..., None])[..., 0]
        q1 = np.swapaxes(j, 1, 2) @ (q2[:, :, None] * j) + beta[:, None, None] * (v1 @ n1 @ v1)
        return self.pack(q1, q2)

    def solve(self, alpha: np.ndarray, lam: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, ...]:
        """Test and training error of each point."""
        ratio, n = alpha / beta, len(self.pi)
        packed = len(self.double)
        v = self.pack(np.eye(n) * (self.pi / lam[:, None])[:, :, None], self.pi / lam[:, None])
        for _ in range(60):
            w = 1 / (1 + v @ (self.double[:, None] * self.e))
            vh = ratio[:, None] * ((w * self.weight) @ self.e.T)
            vh1, vh2 = self.unpack(vh)
            v2, j, _gam, mx = self.inner(vh1, lam[:, None] + vh2, beta)
            v1 = np.swapaxes(j, 1, 2) * v2[:, None, :]
            v1 = (v1 + np.swapaxes(v1, 1, 2)) / 2
            m = np.einsum("pi,ai,bi->pab", w * w * self.weight, self.e, self.e, optimize=True)
            m *= ratio[:, None, None] * self.double
            tm = np.stack(
                [self.traces(m[:, :, b], (v1, j, mx), beta) for b in range(packed)], axis=2
            )
            system = np.eye(packed) - tm
            step = np.linalg.solve(system, (self.pack(v1, v2) - v)[..., None])[..., 0]
            v = v + step
            if np.max(np.abs(step[:, -n:]) / v[:, -n:]) < 1e-12:
                break
        v1, v2 = self.unpack(v)
        design = np.concatenate([self.mu0, self.k * self.mu1]).T
        root = np.sqrt(w * self.weight)
        penalty = np.zeros((len(v), n, 2 * n))
        penalty[:, np.arange(n), n + np.arange(n)] = 1 / np.sqrt(alpha[:, None] * v2)
        rows = np.concatenate([root[:, :, None] * design, penalty], axis=1)
        q, r = np.linalg.qr(rows)
        values = np.concatenate([root * self.h, np.zeros((len(v), n))], axis=1)
        fit = np.linalg.solve(r, np.swapaxes(q, 1, 2) @ values[..., None])[..., 0]
        c, theta = fit @ design.T, fit[:, n:]
        psi_hat = ratio[:, None] * ((w * self.weight * self.h1) @ self.mu1.T)
        psi = beta[:, None] * np.einsum("pgh,ph->pg", v1, psi_hat)
        r0 = self.hh + c**2 - 2 * c * self.h - 2 * self.h1 * (psi @ self.mu1)
        w2 = w * w * self.weight
        source = ratio[:, None] * ((w2 * r0) @ self.e.T)
        outer = psi_hat[:, :, None] * psi_hat[:, None, :]
        source += beta[:, None] * self.pack(outer, (theta / (beta[:, None] * v2)) ** 2)
        q12 = np.linalg.solve(system, self.traces(source, (v1, j, mx), beta)[..., None])[..., 0]
        risk = r0 + q12 @ (self.double[:, None] * self.e)
        return risk @ self.weight, (risk * w2).sum(axis=1)


def run(points: int, rounds: int) -> list[dict[str, Any]]:
    """All K."""
    rng = np.random.default_rng(0)
    alpha, beta = 10 ** rng.uniform(np.log10(0.3), [[1], [np.log10(3)]], (2, points))
    lam = 10 ** rng.uniform(-3, 0, points)
    rows = []
    print(f"{points} points, one core; microseconds a point (median of {rounds} rounds)")
    for k in (1, 2, 4, 8):
        readout = np.linspace(0.5, 1.5, k) if k > 1 else np.ones(1)
        model = srfx.SpikedRF(ACTIVATION, TARGET, r=R, gamma=GAMMA, beta=beta, readout=readout)
        peer = NumpyGroups(readout)
        few = max(points // (100 * k), 8)
        runs: dict[str, tuple[int, Callable[[], Any]]] = {
            "srfx": (points, lambda m=model: srfx.solve(m, alpha=alpha, lam=lam, n_threads=1)),
            "numpy": (few, lambda p=peer, n=few: p.solve(alpha[:n], lam[:n], beta[:n])),
        }
        if k == 1:
            one = np.ones(1)
            fixed = (
                np.full((1, 1), R),
                np.ones((1, 1)),
                GAMMA * one,
                one,
                np.zeros(1, dtype=np.int64),
            )
            runs["general"] = (
                points,
                lambda f=fixed, o=one: _core.solve_groups(
                    compiled(ACTIVATION),
                    compiled(TARGET),
                    *f,
                    beta,
                    0 * o,
                    alpha,
                    lam,
                    0 * o,
                    points,
                    1,
                ),
            )
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _, work in runs.values():
            work()
        for _ in range(rounds):
            for name, (count, work) in runs.items():
                times[name].append(1e6 * seconds(work) / count)
        sol = runs["srfx"][1]()
        test, train = runs["numpy"][1]()
        off = max(
            float(np.max(np.abs(test / sol.test_error[:few] - 1))),
            float(np.max(np.abs(train / sol.train_error[:few] - 1))),
        )
        assert off < 1e-9, off
        for name in runs:
            each = median(times[name])
            ratio = median(t / s for t, s in zip(times[name], times["srfx"], strict=True))
            rows.append(
                {"K": k, "solver": name, "microseconds": each, "ratio": ratio, "agreement": off}
            )
            print(f"  K = {k}  {name:8s} {each:10.2f} us  {ratio:8.1f}x   agreement {off:.0e}")
    return rows


def serve(points: int) -> None:
    """In a process of its own: what --before compares."""
    rng = np.random.default_rng(0)
    alpha, beta = 10 ** rng.uniform(np.log10(0.3), [[1], [np.log10(3)]], (2, points))
    lam = 10 ** rng.uniform(-3, 0, points)
    works: dict[str, Callable[[], Any]] = {}

    def add(name: str, model: Any, few: int, **options: Any) -> None:
        fields = srfx.models.with_fields(model, {"beta": beta[:few]})
        works[name] = lambda: srfx.solve(fields, alpha[:few], lam[:few], n_threads=1, **options)

    for k in (2, 4, 8):
        readout = tuple(np.linspace(0.5, 1.5, k))
        plain = srfx.SpikedRF(ACTIVATION, TARGET, r=R, gamma=GAMMA, readout=readout)
        add(f"isotropic, K = {k}", plain, max(16 * points // k**3, 64))
    for activation, target in (("tanh", "sin"), ("relu", "tanh"), ("gelu", "relu")):
        for k in (2, 3, 8):
            step = srfx.OneStep(
                activation, target, eta=2, alpha0=0.5, readout=tuple(np.linspace(0.5, 1.5, k))
            )
            few = max(points // (2 * k**3), 32)
            add(f"step, {activation}/{target}, K = {k}", step, few, bulk="one_step")
    builds.serve(works)


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", help="folder of another build")
    parser.add_argument("--json", help="write the rows there")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.points)
        return
    config = srfx.show_config(mode="dicts")
    print({key: config[key] for key in ("version", "compiler", "flags", "instruction_set")})
    rows = run(args.points, args.rounds)
    if args.before:
        rows += builds.beside(args.before, __file__, args.points, args.rounds, 1e-10)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
