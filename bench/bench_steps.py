"""Several directions, spikes and steps, on one core: time a point, beside the NumPy reference.

    python bench/bench_steps.py [--points 20000] [--rounds 5] [--reference 2] [--json FILE]

Points of one coefficient set: alpha .3 to 10, lam 1e-3 to 1, beta .3 to 3. The peer is
`srfx.reference` (`solve_spikes`, `solve_one_step`, `solve_multi_step`), the same equations in NumPy
with quadrature of its own, on a few of the points; every round times both in turn. Also timed: a
new set, which for the recursion of several steps is its set-up; and one spike with a target of one
direction, so that the ratio to it can be read off. The bench fails where a test or training error
differs from the reference's by more than is allowed (1e-8; 1e-6 of several steps, where the
reference's own rule ends), or where the reference is less than 1000 times slower. Times are
processor time of this process, medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import srfx
from srfx import reference

LEAST_RATIO = 1000


def _mixed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.tanh(a) + a * b


def _sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sin(a) + np.tanh(b)


MIXED, SUM = srfx.Target(_mixed, directions=2), srfx.Target(_sum, directions=2)
SPIKES = {
    "spikes": [[1, 0.3], [-0.4, 1.2]],
    "variances": (1.1, 1.4),
    "alignment": [[0.8, 0.1], [-0.2, 0.7]],
}
CASES: list[tuple[str, Any, str, float]] = [  # name, model, bulk, difference allowed
    ("one spike, one direction", srfx.SpikedRF("tanh", "sin", r=1.2, gamma=0.6), "isotropic", 1e-8),
    (
        "one spike, two directions",
        srfx.SpikedRF("tanh", MIXED, r=1.2, gamma=(0.6, -0.7)),
        "isotropic",
        1e-8,
    ),
    (
        "one spike, sign(t1 t2)",
        srfx.SpikedRF("tanh", "sign_product", r=1.2, gamma=(0.6, -0.7)),
        "isotropic",
        1e-8,
    ),
    ("two spikes, two groups", srfx.SpikedRF("tanh", MIXED, **SPIKES), "isotropic", 1e-8),
    (
        "one step, one direction",
        srfx.OneStep("tanh", "sin", eta=3, alpha0=0.5),
        "one_step",
        1e-8,
    ),
    ("one step, two directions", srfx.OneStep("tanh", SUM, eta=3, alpha0=0.5), "one_step", 1e-8),
    (
        "two steps, isotropic",
        srfx.MultiStep("tanh", SUM, eta=(1, 1), alpha0=(1, 1)),
        "isotropic",
        1e-8,
    ),
    (
        "two steps",
        srfx.MultiStep("tanh", "sin", eta=(3, 3), alpha0=(0.5, 0.5)),
        "multi_step",
        1e-6,
    ),
    (
        "three steps",
        srfx.MultiStep("tanh", "sin", eta=(2, 2, 2), alpha0=(1, 1, 1)),
        "multi_step",
        1e-6,
    ),
]


def seconds(work: Callable[[], Any]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def peer(model: Any, bulk: str, alpha: float, lam: float) -> Any:
    """Solve a point by the reference."""
    if isinstance(model, srfx.MultiStep):
        return reference.solve_multi_step(model, alpha, lam, bulk=bulk)
    if bulk == "one_step":
        return reference.solve_one_step(model, alpha, lam)
    return reference.solve_spikes(model, alpha, lam)


def main() -> None:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reference", type=int, default=2, help="points of the reference")
    parser.add_argument("--json", help="write the rows to this file")
    options = parser.parse_args()
    warnings.simplefilter("ignore", srfx.ApproximationWarning)
    rng = np.random.default_rng(0)
    n, few = options.points, options.reference
    alpha, beta = 10 ** rng.uniform(np.log10(0.3), [[1], [np.log10(3)]], (2, n))
    lam = 10 ** rng.uniform(-3, 0, n)
    rows, failed = [], []
    header = ("us/point", "reference us/point", "ratio", "difference", "new set ms")
    print("{:26} {:>9} {:>19} {:>9} {:>11} {:>11}".format("model", *header))
    for name, model, bulk, allowed in CASES:
        every = replace(model, beta=beta)

        def ours(model: Any = every, bulk: str = bulk) -> Any:
            return srfx.solve(model, alpha, lam, bulk=bulk, n_threads=1)

        def set_up(model: Any = model, bulk: str = bulk) -> Any:
            return srfx.solve(model, 1.0, 0.1, bulk=bulk, n_threads=1)

        points = [replace(model, beta=float(b)) for b in beta[:few]]
        times: dict[str, list[float]] = {"ours": [], "set": [], "reference": []}
        for _ in range(options.rounds):
            times["ours"].append(seconds(ours))
            times["set"].append(seconds(set_up))
            start = time.process_time()
            theirs = [
                peer(point, bulk, float(alpha[i]), float(lam[i])) for i, point in enumerate(points)
            ]
            times["reference"].append((time.process_time() - start) / few)
        found = ours()
        gap = max(
            abs(float(getattr(found, key)[i]) / float(getattr(solved, key)) - 1)
            for key in ("test_error", "train_error")
            for i, solved in enumerate(theirs)
        )
        new = median(times["set"])
        point = max(median(times["ours"]) - new, 0.0) / n
        ratio = median(times["reference"]) / (median(times["ours"]) / n)
        print(
            f"{name:26} {1e6 * point:9.3f} {1e6 * median(times['reference']):19.0f} {ratio:9.0f} "
            f"{gap:11.1e} {1e3 * new:11.2f}",
            flush=True,
        )
        rows.append({"case": name, "seconds": point, "set": new, "ratio": ratio, "difference": gap})
        if not gap < allowed:
            failed.append(f"{name} differs by {gap:.1e}")
        if ratio < LEAST_RATIO:
            failed.append(f"{name} is only {ratio:.0f} times as fast as the reference")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)
    if failed:
        raise SystemExit("; ".join(failed))


if __name__ == "__main__":
    main()
