"""Derivatives, spectra and optima, each beside the plain way and with its agreement asserted.

    python bench/bench_analysis.py

Times are medians of interleaved runs, in processor time of one thread unless said otherwise.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

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


def optima(repeats: int, n: int) -> None:
    """The best lam of n parameter sets beside a scan of 200 values of lam for a few of them."""
    alpha = np.geomspace(0.2, 20, n // 100)
    noise = np.linspace(0.05, 1, 100)[:, None]
    model = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=0.9, noise=noise)
    over = {"lam": (1e-6, 1e2)}
    best = srfx.optimal(model, over, alpha=alpha)
    assert (best.status == 0).all()
    lam = np.geomspace(1e-6, 1e2, 2000)[:, None, None]
    few = alpha[:: alpha.size // 10]
    scan = srfx.solve(model, few, lam).test_error.min(axis=0)
    found = best.test_error.values[:, :: alpha.size // 10]
    assert (found <= scan * (1 + 1e-12)).all()
    np.testing.assert_allclose(found, scan, rtol=1e-4)
    calls: dict[str, Callable[[], object]] = {
        "optimal": lambda: srfx.optimal(model, over, alpha=alpha)
    }
    wall = medians(calls, repeats, time.perf_counter)["optimal"]
    cpu = medians(calls, repeats, time.process_time)["optimal"]
    print(
        f"optimal lam of {best.lam.size} parameter sets: {wall:.2f} s on all threads, "
        f"{cpu:.2f} s of processor time"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sets", type=int, default=100_000)
    arguments = parser.parse_args()
    gradients(arguments.repeats)
    spectra(arguments.repeats)
    optima(max(1, arguments.repeats // 3), arguments.sets)
