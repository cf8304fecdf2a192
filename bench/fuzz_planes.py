"""The tables of `bulk="one_step"` and of given weights against the bulks themselves.

    python bench/fuzz_planes.py [--models 5000] [--points 8] [--seed 0]

Random models over the ranges of docs/accuracy.md and beyond (alpha .03 to 30, lam 1e-10 to 1e3,
beta .1 to 10, any d), each at a few points, solved twice: through the table of its coefficient set,
eight points at a time, as `srfx.solve` does, and point by point through the bulk (`exact=True` of
the core). No status may be worse, and no test or training error, q2 or V differ by more than 1e-10,
or ten times the quadrature error that the solution announces. Of the coefficients of features, 1e-8
is asked: where the kernel is small, 1/P_vv - 1 leaves the bulk itself no more digits. The exit code
is 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from compare_builds import Draw

import srfx
from srfx.weights import solve_step, solve_weights

TOLERANCE, OF_COEFFICIENTS = 1e-10, 1e-8
ERRORS = ("test_error", "train_error", "q2", "v1", "v2")  # positive: relative
OTHERS = ("m", "theta", "psi", "chi")  # coefficients of features


def compare(table: dict[str, Any], exact: dict[str, Any]) -> tuple[int, int, float, str]:
    """Worse and better statuses; the largest difference beyond what is announced, and of what."""
    good, other = table["status"] == 0, exact["status"] == 0
    both = good & other
    worst, name_of = 0.0, ""
    for name in (*ERRORS, *OTHERS):
        new, old = table[name][both], exact[name][both]
        size = np.abs(old)
        if name in OTHERS:
            size = size + np.sqrt(np.abs(exact["q2"][both]))
        gap = np.where(new == old, 0.0, np.abs(new - old) / np.where(size > 0, size, 1))
        if name in OTHERS:
            gap *= TOLERANCE / OF_COEFFICIENTS
        excess = gap - 10 * exact["quadrature_error"][both]
        if excess.size and excess.max() > worst:
            worst, name_of = float(excess.max()), name
    return int((~good & other).sum()), int((good & ~other).sum()), worst, name_of


def main() -> int:
    """Draw, solve twice, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=5000)
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    totals, largest, failed = [0, 0], 0.0, 0
    given: list[Any] = []
    for index in range(options.models):
        draw = Draw(options.seed, index)
        n = options.points
        points = {
            "alpha": draw.log(0.03, 30, n),
            "lam": draw.log(1e-10, 1e3, n),
            "d": draw.one_of(np.inf, float(draw.log(50, 5000).round())),
        }
        shape = (n,)
        if draw.random.random() < 0.1:
            if len(given) < 8:
                model = srfx.OneStep(
                    draw.one_of("tanh", "relu"), "sin", eta=1.5, alpha0=2.0, beta=1.0
                )
                sampled = srfx.simulation.sample_weights(model, d=60, seed=index)
                given.append((model, srfx.EmpiricalBulk.from_weights(*sampled)))
            model, bulk = given[index % len(given)]
            arguments = {"noise": 0.0, **points, "d": float(bulk.d)}
            runs = [solve_weights(model, bulk, arguments, shape, 1, exact=e) for e in (False, True)]
        else:
            fields = draw.step()
            fields["beta"] = draw.log(0.1, 10, n)
            model = srfx.OneStep(**fields)
            arguments = {**model.numeric, **points}
            try:
                runs = [solve_step(model, arguments, shape, 1, exact=e) for e in (False, True)]
            except ValueError:
                continue
        worse, better, gap, name = compare(*runs)
        totals[0] += worse
        totals[1] += better
        largest = max(largest, gap)
        if worse or gap > TOLERANCE:
            failed += 1
            where = {k: v for k, v in arguments.items() if k != "beta"}
            print(f"{index}: {worse} statuses worse, {gap:.1e} in {name}: {model} {where}")
    print(
        f"{options.models} models of {options.points} points: {totals[0]} statuses worse, "
        f"{totals[1]} better; largest difference beyond the announced error {largest:.1e}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
