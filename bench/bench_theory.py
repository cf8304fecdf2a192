"""The solver against its peers, on one core: microseconds a point, accuracy, ratios.

    python bench/bench_theory.py [--points 200000] [--rounds 7] [--json FILE]

Peers, on the same random points (alpha .3 to 10, lam 1e-3 to 1, beta .3 to 3), coefficients given:

(a) `srfx.reference.solve_notebook`: the damped seven-variable iteration with adaptive quadrature,
    as in the notebooks of CPD24; a few points.
(b) NumPy vectorised over points (`peers.numpy_solve`).
(c) numba: a two-variable Newton iteration, twice: point by point as one writes it first
    (`peers.numba_plain_solve`), and tuned by hand: blocks of points side by side, a coarse start,
    the divisions paired (`peers.numba_solve`).

Every round times srfx and each peer in turn, so that what the machine does meanwhile hits all of
them; medians of times and of round-by-round ratios are printed. Accuracy is the largest relative
difference to `srfx.reference.solve` (long double) in test_error, train_error, q2 and v2; the bench
fails if srfx misses 1e-10 or a peer 1e-8.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # NumPy's and numba's libraries too: one core each
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import peers

import srfx
from srfx import reference

CASES = [  # activation, target, r, c, gamma
    ("tanh", "sin", 0.9, 1.0, 0.9),
    ("tanh", "sin", 0.9, 1.0, 1.0),
    ("sign", "sign", 0.9, 1.0, 0.9),
    ("relu", "sin", 0.9, 1.0, 0.9),
]
SWEEPS = [("tanh", "sin"), ("tanh", "tanh"), ("erf", "sin"), ("softplus", "tanh"), ("relu", "tanh")]
PEERS = {
    "numba": peers.numba_plain_solve,
    "tuned numba": peers.numba_solve,
    "numpy": peers.numpy_solve,
}
OUTPUTS = ("test_error", "train_error", "q2", "v2")


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def worst(values: Any, exact: Any) -> float:
    """Largest relative difference over the four outputs."""
    pairs = zip(values, exact, strict=True)
    return max(float(np.max(np.abs(np.asarray(a) / np.asarray(b) - 1))) for a, b in pairs)


def at_fixed_coefficients(n: int, rounds: int) -> list[dict[str, Any]]:
    """Alpha, lam and beta vary; the coefficients do not."""
    rng = np.random.default_rng(0)
    alpha, beta = 10 ** rng.uniform(np.log10(0.3), [[1], [np.log10(3)]], (2, n))
    lam = 10 ** rng.uniform(-3, 0, n)
    some = rng.choice(n, 64, replace=False)
    rows = []
    print(f"{n} points, one core; microseconds a point (median of {rounds}), accuracy, time/srfx")
    for activation, target, r, c, gamma in CASES:
        model = srfx.SpikedRF(activation, target, r=r, c=c, gamma=gamma, beta=beta)
        table = peers.coefficients_for_peers(activation, target, r, c, gamma)
        a20, l20, b20 = (x[: max(n // 20, 1)] for x in (alpha, lam, beta))
        runs: dict[str, tuple[int, Callable[[], Any]]] = {
            "srfx": (n, lambda m=model: srfx.solve(m, alpha=alpha, lam=lam, n_threads=1)),
            "numba": (n, lambda t=table: peers.numba_plain_solve(t, alpha, lam, beta)),
            "tuned numba": (n, lambda t=table: peers.numba_solve(t, alpha, lam, beta)),
            "numpy": (
                len(a20),
                lambda t=table, a=a20, lm=l20, b=b20: peers.numpy_solve(t, a, lm, b),
            ),
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        for work in runs.values():
            work[1]()  # compile, warm up
        for _ in range(rounds):
            for name, (count, work) in runs.items():
                times[name].append(1e6 * seconds(work) / count)

        exact = reference.solve(
            activation, target, r=r, c=c, gamma=gamma,
            beta=beta[some], alpha=alpha[some], lam=lam[some],
        )  # fmt: skip
        truth = [getattr(exact, name) for name in OUTPUTS]
        sol = srfx.solve(model, alpha=alpha, lam=lam, n_threads=1)
        accuracy = {"srfx": worst([getattr(sol, name)[some] for name in OUTPUTS], truth)}
        for name, peer in PEERS.items():
            accuracy[name] = worst(peer(table, alpha[some], lam[some], beta[some]), truth)
            assert accuracy[name] < 1e-8, accuracy
        assert accuracy["srfx"] < 1e-10, accuracy

        print(f"  {activation}/{target} r={r} c={c} gamma={gamma}")
        for name in runs:
            ratio = median(t / s for t, s in zip(times[name], times["srfx"], strict=True))
            row = {
                "case": f"{activation}/{target} gamma={gamma}",
                "solver": name,
                "microseconds": median(times[name]),
                "accuracy": accuracy[name],
                "ratio": ratio,
            }
            rows.append(row)
            print(
                f"    {name:11s} {row['microseconds']:8.3f} us  {accuracy[name]:.0e}  {ratio:6.2f}x"
            )
    return rows


def notebook(points: int = 2) -> dict[str, Any]:
    """(a): one point at a time, each expectation by adaptive quadrature."""
    activation, target, r, c, gamma = CASES[0]
    alpha, lam = np.array([0.7, 2.0])[:points], np.array([0.1, 0.01])[:points]
    found = []
    start = time.perf_counter()
    for a, lm in zip(alpha, lam, strict=True):
        found.append(
            reference.solve_notebook(
                activation, target, r=r, c=c, gamma=gamma, beta=1.0, alpha=float(a), lam=float(lm)
            )
        )
    each = (time.perf_counter() - start) / points
    sol = srfx.solve(srfx.SpikedRF(activation, target, r=r, c=c, gamma=gamma), alpha=alpha, lam=lam)
    error = worst(
        [[getattr(f, name) for f in found] for name in OUTPUTS],
        [getattr(sol, name) for name in OUTPUTS],
    )
    assert error < 1e-7, error
    print(f"  notebook style: {each:.2f} s a point, agrees with srfx to {error:.0e}")
    return {"solver": "notebook", "microseconds": 1e6 * each, "accuracy": error}


def new_coefficients(n: int, rounds: int) -> list[dict[str, Any]]:
    """Every point has an (r, c, gamma) of its own: the cost of coefficients."""
    rows = []
    r = np.linspace(0.1, 1.5, n)
    c = np.linspace(1.0, 1.2, n)
    print(f"{n} sets of coefficients, one point each, one core; microseconds a set")
    for activation, target in SWEEPS:
        model = srfx.SpikedRF(activation, target, r=r, c=c, gamma=0.9)
        work = lambda m=model: srfx.solve(m, alpha=1.5, lam=0.1, n_threads=1)  # noqa: E731
        work()
        each = median(1e6 * seconds(work) / n for _ in range(rounds))
        rows.append({"case": f"{activation}/{target}", "solver": "srfx", "microseconds": each})
        print(f"  {activation}/{target:5s} {each:8.1f} us")
    return rows


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="write the rows there")
    args = parser.parse_args()
    config = srfx.show_config(mode="dicts")
    print({key: config[key] for key in ("version", "compiler", "flags", "instruction_set")})
    rows = at_fixed_coefficients(args.points, args.rounds)
    rows.append(notebook())
    rows += new_coefficients(2000, args.rounds)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
