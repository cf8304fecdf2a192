"""The one-step theory against simulated networks, in per cent of the test error.

    python bench/bench_networks.py [--grid NAME] [--error 0.005] [--most 300] [--json FILE]

Grids: tanh (target sin; alpha0 .25, 1, 20; eta 3, 8; d = 1200) and relu, softplus, gelu (targets
tanh, sin, tanh; alpha0 .5, 2, 10; eta .5, 1, 2; d = 600); directions (one step, targets of two) and
steps (two and three steps), at d = 800 and 1200; each at alpha .5, 1, 2 and lam .01, .1, beta = 1.
Networks are simulated in float32, on one thread, until the standard error of every mean
is below --error or --most networks are done; how many depends on the scatter alone, never on the
theory. Printed of each network: theory over simulation - 1 at the six (alpha, lam), the standard
errors, and the isotropic bulk's gap for comparison; of each grid: rms of the gaps, rms of the
standard errors, and the excess, the root of the difference of their squares. The bench fails
where an excess is above 1.5 % (2.5 % for several steps). About 15 minutes on one core, and as much
again for directions and steps.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from typing import Any

import numpy as np

import srfx
from srfx import simulation

ALPHA, LAM = (0.5, 1.0, 2.0), (0.01, 0.1)
PILOT = 16  # networks that tell the scatter


def _sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sin(a) + np.tanh(b)


def _mixed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.tanh(a) + a * b


SUM = srfx.Target(_sum, directions=2, name="sin(a)+tanh(b)")
MIXED = srfx.Target(_mixed, directions=2, name="tanh(a)+ab")
DIRECTIONS = [
    srfx.OneStep("tanh", SUM, eta=3, alpha0=0.5),
    srfx.OneStep("tanh", SUM, eta=3, alpha0=5),
    srfx.OneStep("relu", MIXED, eta=1, alpha0=2),
    srfx.OneStep("tanh", "product", eta=3, alpha0=2),
]
STEPS = [
    srfx.MultiStep("tanh", "sin", eta=(3, 3), alpha0=(0.5, 0.5)),
    srfx.MultiStep("relu", MIXED, eta=(1, 1), alpha0=(2, 2)),
    srfx.MultiStep("tanh", "sin", eta=(1.5, 1.5), alpha0=(5, 5)),
    srfx.MultiStep("tanh", "tanh", eta=(2, 3, 2), alpha0=(1, 1, 1)),
]
#: Name: d, bulk, largest excess, models.
GRIDS = {
    "tanh": (
        1200,
        "one_step",
        0.015,
        [
            srfx.OneStep("tanh", "sin", eta=eta, alpha0=alpha0)
            for alpha0 in (0.25, 1.0, 20.0)
            for eta in (3.0, 8.0)
        ],
    ),
    "relu": (
        600,
        "one_step",
        0.015,
        [
            srfx.OneStep(activation, target, eta=eta, alpha0=alpha0)
            for activation, target in (("relu", "tanh"), ("softplus", "sin"), ("gelu", "tanh"))
            for alpha0 in (0.5, 2.0, 10.0)
            for eta in (0.5, 1.0, 2.0)
        ],
    ),
    "directions": (800, "one_step", 0.015, DIRECTIONS),
    "directions 1200": (1200, "one_step", 0.015, DIRECTIONS),
    "steps": (800, "multi_step", 0.025, STEPS),
    "steps 1200": (1200, "multi_step", 0.025, STEPS),
}


def title_of(model: Any) -> str:
    """Name the functions and the steps of a model."""
    target = getattr(model.target, "label", model.target)
    pairs = zip(np.atleast_1d(model.eta), np.atleast_1d(model.alpha0), strict=True)
    steps = ", ".join(f"({eta:g}, {alpha0:g})" for eta, alpha0 in pairs)
    return f"{model.activation}/{target} (eta, alpha0) = {steps}"


def simulated(
    model: srfx.OneStep | srfx.MultiStep, d: int, seed: int, error: float, most: int
) -> np.ndarray:
    """Test errors (alpha, lam, network), as many networks as the standard error asks for."""

    def run(replicates: int, seed: int) -> Any:
        options: dict[str, Any] = {"d": d, "n_test": 4 * d, "dtype": "float32", "n_threads": 1}
        return simulation.simulate(
            model, ALPHA, LAM, replicates=replicates, seed=seed, progress=False, **options
        ).test_error

    found = run(PILOT, seed).values
    while (count := found.shape[-1]) < most:
        scatter = float((found.std(axis=-1, ddof=1) / found.mean(axis=-1)).max())
        wanted = min(most, math.ceil((scatter / error) ** 2)) - count
        if wanted <= 0:
            break
        found = np.concatenate([found, run(wanted, seed + count).values], axis=-1)
    return np.asarray(found)


def rms(x: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(x**2)))


def main() -> None:
    """Run the grids."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", choices=[*GRIDS, "all"], default="all")
    parser.add_argument("--error", type=float, default=0.005, help="standard error to reach")
    parser.add_argument("--most", type=int, default=300, help="networks of a case at most")
    parser.add_argument("--json", help="write the rows there")
    options = parser.parse_args()
    warnings.simplefilter("ignore", srfx.ApproximationWarning)
    alpha = np.array(ALPHA)[:, None]
    rows, failed = [], []
    for name, (d, bulk, allowed, models) in GRIDS.items():
        if options.grid not in (name, "all"):
            continue
        start, gaps, errors = time.process_time(), [], []
        for number, model in enumerate(models):
            found = simulated(model, d, 10**6 * (number + 1), options.error, options.most)
            mean = found.mean(axis=-1)
            error = found.std(axis=-1, ddof=1) / np.sqrt(found.shape[-1]) / mean
            gap, isotropic = (
                srfx.solve(model, alpha, LAM, d=d, bulk=b).test_error / mean - 1
                for b in (bulk, "isotropic")
            )
            gaps.append(gap)
            errors.append(error)
            row = {"d": d, "networks": found.shape[-1], "simulation": mean, "error": error}
            row |= {"gap": gap, "isotropic": isotropic}
            title = title_of(model)
            rows.append({"case": title, **{k: np.asarray(v).tolist() for k, v in row.items()}})
            print(
                f"{title:42} {row['networks']:4} networks"
                + "".join(
                    f"  {label} {np.array2string(100 * x.ravel(), precision=p, floatmode='fixed')}"
                    for label, x, p in (("gap", gap, 2), ("se", error, 2), ("iso", isotropic, 1))
                ),
                flush=True,
            )
        found_rms, noise = rms(np.array(gaps)), rms(np.array(errors))
        excess = math.sqrt(max(0.0, found_rms**2 - noise**2))
        print(
            f"{name} grid, d = {d}: rms {100 * found_rms:.2f} %, standard errors "
            f"{100 * noise:.2f} %, excess {100 * excess:.2f} %, mean gap "
            f"{100 * np.mean(gaps):+.2f} %, largest {100 * np.abs(gaps).max():.2f} %; "
            f"{time.process_time() - start:.0f} s",
            flush=True,
        )
        rows.append({"grid": name, "rms": found_rms, "error": noise, "excess": excess})
        if excess > allowed:
            failed.append(f"{name} ({100 * allowed:g} %)")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)
    if failed:
        raise SystemExit(f"excess above what is allowed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
