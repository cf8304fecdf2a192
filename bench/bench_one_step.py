"""The actual one-step network, on one core: microseconds a point, beside the plain NumPy reference.

    python bench/bench_one_step.py [--points 200000] [--rounds 5] [--reference 6] [--groups 24]
        [--before FOLDER] [--json FILE]

Points of one coefficient set: alpha .3 to 10, lam 1e-3 to 1, beta .3 to 3. The peer is
`srfx.reference.solve_one_step`, the same equations in NumPy (quadrature by panels, every point on
its own), on a few of the points; every round times both in turn. Also timed: a new set (its
coefficients, and the law of its residuals), two and three readout values (fewer points, a third of
the rounds, two points of the reference: it takes a second each), and given weights
(`EmpiricalBulk`, p = d = 800) with its eigendecomposition, and planes (eta, alpha0), where every
point needs a set of its own. The bench fails where a test or training error differs from the
reference's by more than 1e-8. Times are processor time of a process.

--before: another build, as `pip install --target FOLDER .` makes it, on the same points, in a
process of its own; both builds answer in turn, and the median of the ratios of their times is
printed. It fails where their errors differ by more than 1e-11.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import builds
import numpy as np
import step_peer

import srfx
from srfx import reference

NUMBA = {("tanh", "sin", 3.0, 0.25), ("tanh", "tanh", 8.0, 20.0)}  # section 9 in numba
PLANES = [("tanh", "sin"), ("softplus", "tanh"), ("relu", "tanh"), ("gelu", "sin")]  # (eta, alpha0)
CASES = [  # activation, target, eta, alpha0, noise, readout
    ("tanh", "sin", 3.0, 0.25, 0.0, (1.0,)),
    ("tanh", "tanh", 8.0, 20.0, 0.0, (1.0,)),
    ("relu", "tanh", 2.0, 10.0, 0.0, (1.0,)),
    ("gelu", "relu", 2.0, 1.0, 0.2, (1.0,)),
    ("softplus", "sin", 2.0, 0.5, 0.0, (1.0,)),
    ("tanh", "sin", 2.0, 0.5, 0.0, (0.5, 1.5)),
    ("tanh", "sin", 2.0, 0.5, 0.0, (0.5, 1.0, 1.5)),
    ("relu", "tanh", 1.0, 2.0, 0.0, (0.5, 1.5)),
    ("relu", "tanh", 1.0, 2.0, 0.0, (0.5, 1.0, 1.5)),
]


def seconds(work: Callable[[], Any]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def difference(solution: Any, peers: list[Any]) -> float:
    """Largest relative difference of the two errors."""
    return max(
        abs(float(ours) / float(getattr(theirs, name)) - 1)
        for name in ("test_error", "train_error")
        for ours, theirs in zip(getattr(solution, name), peers, strict=True)
    )


def random_points(n: int) -> tuple[Any, Any, Any]:
    """Alpha .3 to 10, lam 1e-3 to 1, beta .3 to 3."""
    rng = np.random.default_rng(0)
    alphas, betas = 10 ** rng.uniform(np.log10(0.3), [[1], [np.log10(3)]], (2, n))
    return alphas, 10 ** rng.uniform(-3, 0, n), betas


def serve(points: int) -> None:
    """In a process of its own: solve the cases whose names come in, say what took how long."""
    warnings.simplefilter("ignore")
    alphas, lams, betas = random_points(points)
    model = srfx.OneStep("tanh", "sin", eta=3, alpha0=1)
    weights = srfx.EmpiricalBulk.from_weights(*srfx.simulation.sample_weights(model, d=800, seed=1))
    n = 20
    eta, alpha0 = np.linspace(0.5, 4, n)[:, None], np.geomspace(0.3, 10, n)
    options: dict[str, Any] = {"n_threads": 1, "errors": "record"}

    def of_step(model: Any, alpha: Any, lam: Any) -> Callable[[], Any]:
        return lambda: srfx.solve(model, alpha, lam, bulk="one_step", **options)

    works: dict[str, Callable[[], Any]] = {
        "given weights": lambda: srfx.solve(model, alphas, lams, bulk=weights, **options)
    }
    for activation, target, step, samples, noise, readout in CASES:
        if len(readout) == 1:
            fields = {"eta": step, "alpha0": samples, "noise": noise, "beta": betas}
            step_model = srfx.OneStep(activation, target, **fields)
            works[f"{activation}/{target}"] = of_step(step_model, alphas, lams)
    for activation, target in PLANES:
        plane = srfx.OneStep(activation, target, eta=eta, alpha0=alpha0)
        works[f"{activation}/{target} sets"] = of_step(plane, 1.5, 0.1)
    builds.serve(works)


def beside_numba(points: int, rounds: int) -> list[dict[str, Any]]:
    """Section 9 in numba, point by point, on a few of the points."""
    alphas, lams, betas = random_points(points)
    few = slice(0, min(points, 500))
    rows = []
    for activation, target, eta, alpha0 in sorted(NUMBA):
        peer = step_peer.StepCoefficients(activation, target, eta, alpha0)
        model = srfx.OneStep(activation, target, eta=eta, alpha0=alpha0, beta=betas)
        found = step_peer.numba_step_solve(peer, alphas[few], lams[few], betas[few])
        want = srfx.solve(model, alphas, lams, bulk="one_step", n_threads=1)
        gap = max(
            float(np.abs(found[i] / getattr(want, name)[few] - 1).max())
            for i, name in enumerate(("test_error", "train_error"))
        )
        if gap > 1e-5:
            raise SystemExit(f"{activation}/{target}: numba and srfx differ by {gap:.1e}")
        times = [
            (
                seconds(lambda m=model: srfx.solve(m, alphas, lams, bulk="one_step", n_threads=1))
                / points,
                seconds(
                    lambda p=peer: step_peer.numba_step_solve(p, alphas[few], lams[few], betas[few])
                )
                / len(alphas[few]),
            )
            for _ in range(rounds)
        ]
        ratio = median(b / a for a, b in times)
        ours, theirs = (1e6 * median(x) for x in zip(*times, strict=True))
        name = f"{activation}/{target}, numba"
        print(f"{name:47} {ours:9.2f} {theirs:19.1f} {ratio:7.0f} {gap:11.1e}")
        rows.append({"network": name, "us": ours, "numba_us": theirs, "ratio": ratio})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reference", type=int, default=6, help="points of the reference")
    parser.add_argument("--groups", type=int, default=24, help="points with several readout values")
    parser.add_argument("--before", help="folder of another build")
    parser.add_argument("--json", help="write the rows to this file")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.points)
        return
    warnings.simplefilter("ignore", srfx.ApproximationWarning)
    alphas, lams, betas = random_points(options.points)
    rows = []
    header = ("us/point", "reference us/point", "ratio", "difference", "new set ms")
    print("{:47} {:>9} {:>19} {:>7} {:>11} {:>11}".format("network", *header))
    for activation, target, eta, alpha0, noise, readout in CASES:
        groups = len(readout) > 1
        n, few, rounds = options.points, options.reference, options.rounds
        if groups:
            n, few, rounds = min(n, options.groups), min(few, 2), max(1, rounds // 3)
        fields = {"eta": eta, "alpha0": alpha0, "noise": noise, "readout": readout}

        def ours(
            count: int, activation: str = activation, target: str = target, fields: Any = fields
        ) -> Any:
            model = srfx.OneStep(activation, target, beta=betas[:count], **fields)
            return srfx.solve(model, alphas[:count], lams[:count], bulk="one_step", n_threads=1)

        def theirs(
            count: int, activation: str = activation, target: str = target, fields: Any = fields
        ) -> list[Any]:
            return [
                reference.solve_one_step(
                    srfx.OneStep(activation, target, beta=float(beta), **fields),
                    float(alpha),
                    float(lam),
                )
                for alpha, lam, beta in zip(
                    alphas[:count], lams[:count], betas[:count], strict=True
                )
            ]

        gap = difference(ours(few), theirs(few))
        if gap > 1e-8:
            raise SystemExit(f"{activation}/{target}: srfx and its reference differ by {gap:.1e}")
        times = [
            (
                seconds(lambda ours=ours, n=n: ours(n)),
                seconds(lambda theirs=theirs, few=few: theirs(few)),
                seconds(lambda ours=ours: ours(1)),
            )
            for _ in range(rounds)
        ]
        per_point = median((a - c) / (n - 1) for a, _, c in times) * 1e6
        peer = median(b / few for _, b, _ in times) * 1e6
        ratio = median((b / few) / ((a - c) / (n - 1)) for a, b, c in times)
        new_set = median(c for _, _, c in times) * 1e3
        name = f"{activation}/{target} eta {eta:g} alpha0 {alpha0:g} noise {noise:g}"
        if groups:
            name += f" K = {len(readout)}"
        print(f"{name:47} {per_point:9.2f} {peer:19.0f} {ratio:7.0f} {gap:11.1e} {new_set:11.2f}")
        row = {"us": per_point, "reference_us": peer, "difference": gap, "set_ms": new_set}
        rows.append({"network": name, **row})

    rows += beside_numba(options.points, options.rounds)
    model = srfx.OneStep("tanh", "sin", eta=3, alpha0=1)
    weights = srfx.simulation.sample_weights(model, d=800, seed=1)
    decomposition = seconds(lambda: srfx.EmpiricalBulk.from_weights(*weights))
    bulk = srfx.EmpiricalBulk.from_weights(*weights)
    some = slice(0, options.points)
    taken = median(
        seconds(lambda: srfx.solve(model, alphas[some], lams[some], bulk=bulk, n_threads=1))
        for _ in range(options.rounds)
    )
    per_point = taken / len(alphas[some]) * 1e6
    print(f"given weights, 800 x 800: {per_point:.1f} us/point, measured in {decomposition:.2f} s")
    rows.append({"network": "given weights", "us": per_point, "set_ms": decomposition * 1e3})
    if options.before:
        rows += builds.beside(options.before, __file__, options.points, options.rounds)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
