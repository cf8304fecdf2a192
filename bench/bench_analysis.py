"""Derivatives, spectra and optima, each beside the plain way and with its agreement asserted.

    python bench/bench_analysis.py

Times are medians of interleaved runs, in processor time of one thread unless said otherwise.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable

import numpy as np
import peers

import srfx


def medians(
    calls: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Median time of each call, the calls taking turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = clock()
            call()
            times[name].append(clock() - start)
    return {name: float(np.median(t)) for name, t in times.items()}


def gradients(repeats: int) -> None:
    """A derivative beside the solve, and beside central differences of solves."""
    alpha, lam = np.geomspace(0.1, 10, 300), np.geomspace(1e-3, 10, 200)[:, None]
    for activation, target in (("tanh", "sin"), ("relu", "relu")):
        model = srfx.SpikedRF(activation, target, r=0.9, c=1.2, gamma=0.9)
        sol = srfx.solve(model, alpha, lam, n_threads=1)

        def solve(model: srfx.SpikedRF = model) -> srfx.Solution:
            return srfx.solve(model, alpha, lam, n_threads=1)

        def differences(model: srfx.SpikedRF = model) -> np.ndarray:
            h = 1e-5
            up = srfx.solve(model, alpha, lam * (1 + h), n_threads=1).test_error
            down = srfx.solve(model, alpha, lam * (1 - h), n_threads=1).test_error
            return np.asarray((up - down) / (2 * h * lam))

        exact = sol.gradient("lam", n_threads=1)
        np.testing.assert_allclose(exact, differences(), rtol=1e-3, atol=1e-6 * np.abs(exact).max())
        names = ("lam", "alpha", "noise", "r", "c", "gamma")
        calls: dict[str, Callable[[], object]] = {"solve": solve, "differences in lam": differences}
        calls |= {n: (lambda n=n, sol=sol: sol.gradient(n, n_threads=1)) for n in names}
        t = medians(calls, repeats, time.process_time)
        point = t["solve"] / sol.size * 1e6
        print(f"{activation} -> {target}: solve {point:.3f} us a point; times that:")
        print("   " + ", ".join(f"{n} {t[n] / t['solve']:.2f}" for n in calls if n != "solve"))


def spectra(repeats: int) -> None:
    """1000 points of a spectrum beside the eigenvalues of one simulated matrix."""
    x = np.linspace(0.02, 3.1, 1000)
    model = srfx.SpikedRF("tanh", r=0.9)
    ds = srfx.feature_spectrum(model, 2.0, x, n_threads=1)
    d = 1000
    rng = np.random.default_rng(0)

    def simulated() -> np.ndarray:
        w = rng.standard_normal((d, d))
        w /= np.linalg.norm(w, axis=1, keepdims=True)
        v = rng.standard_normal(d)
        w += 0.9 * v / np.linalg.norm(v)
        phi = np.tanh(rng.standard_normal((2 * d, d)) @ w.T)
        return np.linalg.eigvalsh(phi.T @ phi / d)

    seen = simulated()
    mass = np.trapezoid(ds.density.values, x)
    share = np.mean((seen > x[0]) & (seen < x[-1]))
    assert abs(mass - share) < 5 / d, (mass, share)
    assert abs(ds.mass.item() - 1) < 1e-6
    calls: dict[str, Callable[[], object]] = {
        "theory": lambda: srfx.feature_spectrum(model, 2.0, x, n_threads=1),
        "simulated": simulated,
    }
    t = medians(calls, repeats, time.process_time)
    print(
        f"spectrum of 1000 points: {t['theory'] * 1e3:.1f} ms; "
        f"eigenvalues of one matrix at d = {d}: {t['simulated'] * 1e3:.0f} ms"
    )


def golden(coefs: peers.PeerCoefficients, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """The best lam of many sets with numba: the same grid, then golden section, all in step."""
    y = np.linspace(np.log(1e-6), np.log(1e2), 33)

    def error(at: np.ndarray) -> np.ndarray:
        return peers.numba_solve(coefs, alpha, np.exp(at), beta)[0]

    grid = np.stack([error(np.full(alpha.shape, v)) for v in y])
    best = np.clip(grid.argmin(axis=0), 1, y.size - 2)
    low, high, share = y[best - 1], y[best + 1], (np.sqrt(5) - 1) / 2
    a, b = high - share * (high - low), low + share * (high - low)
    at_a, at_b = error(a), error(b)
    for _ in range(30):  # 1e-6 of two cells
        left = at_a < at_b
        low, high = np.where(left, low, a), np.where(left, b, high)
        new = np.where(left, high - share * (high - low), low + share * (high - low))
        at_new = error(new)
        a, b = np.where(left, new, b), np.where(left, a, new)
        at_a, at_b = np.where(left, at_new, at_b), np.where(left, at_a, at_new)
    return np.exp(0.5 * (a + b))


def brent(coefs: peers.PeerCoefficients, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """The same one set at a time: the grid in one call, then scipy's Brent on a numba solver."""
    from scipy.optimize import minimize_scalar

    y = np.linspace(np.log(1e-6), np.log(1e2), 33)
    out = []
    for a, b in zip(alpha, beta, strict=True):
        grid = peers.numba_plain_solve(coefs, np.full(33, a), np.exp(y), np.full(33, b))[0]
        i = int(np.clip(grid.argmin(), 1, 31))

        def error(at: float, a: float = a, b: float = b) -> float:
            return float(peers.numba_plain_solve(coefs, a, np.exp(at), b)[0][0])

        found = minimize_scalar(error, bracket=tuple(y[i - 1 : i + 2]), options={"xtol": 1e-7})
        out.append(np.exp(found.x))
    return np.array(out)


def optima(repeats: int, n: int) -> None:
    """The best lam of n parameter sets: one call of the core, and what numba and scipy do."""
    alpha = np.repeat(np.geomspace(0.2, 20, n // 100), 100)
    beta = np.tile(np.geomspace(0.3, 3, 100), n // 100)
    model = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=0.9, noise=0.2, beta=beta)
    over = {"lam": (1e-6, 1e2)}
    coefs = peers.coefficients_for_peers("tanh", "sin", 0.9, 1.0, 0.9, 0.2)
    best = srfx.optimal(model, over, alpha=alpha)
    assert (best.status == 0).all()
    assert (best.lam_bound == 0).all()
    few = np.arange(0, alpha.size, max(1, alpha.size // 200))
    for name, found in (("golden", golden(coefs, alpha, beta)), ("brent", None)):
        at = np.arange(alpha.size) if name == "golden" else few
        lam = found if found is not None else brent(coefs, alpha[few], beta[few])
        # values alone tell the least to about the root of their accuracy, the table's 1e-8
        np.testing.assert_allclose(lam, best.lam.values[at], rtol=2e-3, err_msg=name)
        at_peer = srfx.solve(dataclasses.replace(model, beta=beta[at]), alpha[at], lam).test_error
        assert (best.test_error.values[at] <= at_peer * (1 + 1e-12)).all(), name
        np.testing.assert_allclose(best.test_error.values[at], at_peer, rtol=1e-7, err_msg=name)
    calls: dict[str, Callable[[], object]] = {
        "srfx": lambda: srfx.optimal(model, over, alpha=alpha, n_threads=1),
        "golden": lambda: golden(coefs, alpha, beta),
        "brent": lambda: brent(coefs, alpha[few], beta[few]),
    }
    t = medians(calls, repeats, time.process_time)
    everything: dict[str, Callable[[], object]] = {
        "wall": lambda: srfx.optimal(model, over, alpha=alpha)
    }
    wall = medians(everything, repeats, time.perf_counter)["wall"]
    own, vectorised, single = t["srfx"] / n, t["golden"] / n, t["brent"] / few.size
    print(
        f"optimal lam of {n} parameter sets: {wall:.2f} s on all threads; in processor time of one "
        f"thread {own * 1e6:.1f} us a set\n   numba, grid and golden section, all sets in step: "
        f"{vectorised * 1e6:.1f} us, {vectorised / own:.1f} times that\n   numba and "
        f"scipy.optimize.minimize_scalar, set by set: {single * 1e6:.0f} us, "
        f"{single / own:.0f} times that"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sets", type=int, default=100_000)
    arguments = parser.parse_args()
    gradients(arguments.repeats)
    spectra(arguments.repeats)
    optima(arguments.repeats, arguments.sets)
