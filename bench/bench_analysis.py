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
from scipy.integrate import trapezoid

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


SPIKE = ("lam", "alpha", "beta", "noise", "r", "c", "gamma")
STEP = ("lam", "alpha", "beta", "noise", "eta", "alpha0")


def cases() -> list[tuple[str, srfx.SpikedRF | srfx.OneStep, str | srfx.EmpiricalBulk]]:
    """One of each kind of model that can be differentiated and has a spectrum."""
    spike, step = {"r": 0.9, "c": 1.2, "gamma": 0.9}, {"eta": 2.0, "alpha0": 1.5}
    odd = srfx.OneStep("tanh", "sin", **step)
    weights = srfx.simulation.sample_weights(odd, d=800, seed=0)
    return [
        ("tanh -> sin", srfx.SpikedRF("tanh", "sin", **spike), "isotropic"),
        ("relu -> relu", srfx.SpikedRF("relu", "relu", **spike), "isotropic"),
        ("two groups", srfx.SpikedRF("tanh", "sin", readout=(1, 2), **spike), "isotropic"),
        ("four groups", srfx.SpikedRF("tanh", "sin", readout=(1, 2, 3, 4), **spike), "isotropic"),
        ("one_step, tanh -> sin", odd, "one_step"),
        ("one_step, relu -> tanh", srfx.OneStep("relu", "tanh", **step), "one_step"),
        ("given weights, p = 800", odd, srfx.EmpiricalBulk.from_weights(*weights)),
    ]


def gradients(repeats: int) -> None:
    """A derivative beside the solve, and beside central differences of solves."""
    alpha, lam = np.geomspace(0.1, 10, 200), np.geomspace(1e-3, 10, 100)[:, None]
    for name, model, bulk in cases():
        some = np.s_[:] if model.readout == (1.0,) and bulk == "isotropic" else np.s_[::5]
        at = (alpha, lam[some])
        sol = srfx.solve(model, *at, bulk=bulk, n_threads=1)

        def test_error(
            scale: float = 1,
            model: srfx.SpikedRF | srfx.OneStep = model,
            bulk: str | srfx.EmpiricalBulk = bulk,
            at: tuple[np.ndarray, np.ndarray] = at,
        ) -> np.ndarray:
            return srfx.solve(model, at[0], at[1] * scale, bulk=bulk, n_threads=1).test_error

        def differences(
            error: Callable[..., np.ndarray] = test_error, lam: np.ndarray = at[1]
        ) -> np.ndarray:
            h = 1e-5
            return np.asarray((error(1 + h) - error(1 - h)) / (2 * h * lam))

        exact = sol.gradient("lam", n_threads=1)
        np.testing.assert_allclose(exact, differences(), rtol=1e-3, atol=1e-6 * np.abs(exact).max())
        names = SPIKE if isinstance(model, srfx.SpikedRF) else STEP
        names = names if isinstance(bulk, str) else ("lam", "alpha", "noise")
        calls: dict[str, Callable[[], object]] = {
            "solve": test_error,
            "differences in lam": differences,
        }
        calls |= {n: (lambda n=n, sol=sol: sol.gradient(n, n_threads=1)) for n in names}
        t = medians(calls, repeats, time.thread_time)  # threads of BLAS may still spin
        print(f"{name}: solve {t['solve'] / sol.size * 1e6:.3f} us a point; times that:")
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
    mass = trapezoid(ds.density.values, x)
    share = np.mean((seen > x[0]) & (seen < x[-1]))
    assert abs(mass - share) < 5 / d, (mass, share)
    calls: dict[str, Callable[[], object]] = {"eigenvalues": simulated}
    for name, other, bulk in cases():
        ds = srfx.feature_spectrum(other, 2.0, x, bulk=bulk, n_threads=1)
        assert abs(ds.mass.item() - 1) < 1e-6, name
        calls[name] = lambda other=other, bulk=bulk: srfx.feature_spectrum(
            other, 2.0, x, bulk=bulk, n_threads=1
        )
    t = medians(calls, repeats, time.process_time)
    print(
        "spectrum of 1000 points, in ms: "
        + ", ".join(f"{name} {t[name] * 1e3:.1f}" for name in calls if name != "eigenvalues")
        + f"; eigenvalues of one matrix at d = {d} {t['eigenvalues'] * 1e3:.0f}"
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
