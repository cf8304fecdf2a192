"""Whether two builds of srfx compute the same numbers: random models through every verb.

    python bench/compare_builds.py --before FOLDER [--models 3000] [--seed 0] [--saved FILE]

FOLDER holds the other build, as `pip install --target FOLDER .` of its source makes it; this build
is the one that Python imports. Each runs the same models in a process of its own: `solve` with
every bulk and one to four readout values, `Solution.gradient`, `feature_spectrum`, `optimal`,
`learned_function`, `bounds` and `simulate`. Differences are relative to the largest entry of a
result; of what may vanish (overlaps, derivatives, bounds) to that and the error it goes with, whose
rounding it carries. Beside the tolerance of 1e-12 the quadrature error that a solution itself
announces is allowed (times a hundred, and 1e-9 at most). A status may become better, never worse.
What differs
is printed with its model; the exit code is then 1. `--saved` keeps what the other build computed in
a file, and takes it from there the next time.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

TOLERANCE, CORNER = 1e-12, 1e-9

FUNCTIONS = ("tanh", "erf", "sin", "relu", "gelu", "softplus", "sigmoid", "hardtanh", "linear")
OTHERS = ("cos", "abs", "sign", "leaky_relu", "silu", "hermite2", "hermite3", "hermite4")
SMOOTH_STEP = ("tanh", "erf", "sin", "relu", "gelu", "softplus", "hermite3")  # for several values

#: Share of the models that each verb gets.
SHARES = {
    "solve isotropic": 0.3,
    "solve groups": 0.12,
    "solve one_step": 0.16,
    "solve groups of the step": 0.03,
    "solve given weights": 0.02,
    "gradient": 0.14,
    "spectrum": 0.03,
    "optimal": 0.05,
    "learned_function": 0.06,
    "bounds": 0.06,
    "simulate": 0.03,
}


class Draw:
    """Random models of one index: the same in every process."""

    def __init__(self, seed: int, index: int) -> None:
        self.random = np.random.default_rng([seed, index])

    def log(self, low: float, high: float, size: Any = None) -> Any:
        """Log-uniform values."""
        return np.exp(self.random.uniform(np.log(low), np.log(high), size))

    def one_of(self, *choices: Any) -> Any:
        """One choice."""
        return choices[self.random.integers(len(choices))]

    def readout(self, values: int) -> dict[str, Any]:
        """Readout values and, half of the time, their probabilities."""
        if values == 1:
            return {}
        out: dict[str, Any] = {"readout": tuple(self.random.uniform(-2, 2, values).round(3))}
        if self.random.random() < 0.5:
            shares = self.random.uniform(0.2, 1, values)
            weights = (shares / shares.sum()).tolist()
            out["weights"] = (*weights[:-1], 1 - sum(weights[:-1]))
        return out

    def spiked(self, values: int = 1) -> dict[str, Any]:
        """Arguments of a SpikedRF."""
        names = FUNCTIONS if self.random.random() < 0.7 else OTHERS
        return {
            "activation": self.one_of(*names),
            "target": self.one_of(*FUNCTIONS, *OTHERS),
            "r": float(self.one_of(0.0, *self.log(0.01, 8, 4))),
            "c": float(self.one_of(1.0, *self.log(0.5, 6, 2))),
            "gamma": float(self.one_of(0.0, 1.0, *self.random.uniform(-1, 1, 4))),
            "beta": float(self.log(0.1, 10)),
            "noise": float(self.one_of(0.0, *self.log(0.001, 2, 1))),
            **self.readout(values),
        }

    def step(self, values: int = 1) -> dict[str, Any]:
        """Arguments of a OneStep."""
        names = (*FUNCTIONS, "silu", "hermite3") if values == 1 else SMOOTH_STEP
        noisy = float(self.log(0.01, 1)) if self.random.random() < 0.2 and values == 1 else 0.0
        return {
            "activation": self.one_of(*names),
            "target": self.one_of("tanh", "sin", "relu", "erf", "softplus", "sign", "hermite3"),
            "eta": float(self.log(0.02, 10)),
            "alpha0": float(self.one_of(np.inf if noisy == 0 else 5.0, *self.log(0.05, 100, 5))),
            "beta": float(self.log(0.2, 5)),
            "noise": noisy,
            **self.readout(values),
        }

    def points(self, n: int = 6) -> dict[str, Any]:
        """Arguments alpha, lam and d of `solve`."""
        return {
            "alpha": self.log(0.1, 10, n),
            "lam": self.log(1e-8, 100, n),
            "d": self.one_of(None, None, float(self.log(50, 5000).round())),
        }


def _solution(solution: Any) -> dict[str, Any]:
    names = ("test_error", "train_error", "m", "theta", "psi", "q1", "q2", "v1", "v2")
    out = {name: np.asarray(getattr(solution, name)) for name in names}
    return out | {
        "scale": np.sqrt(out["test_error"]),
        "status": np.asarray(solution.status),
        "slack": 100 * float(np.nanmax(np.asarray(solution.quadrature_error), initial=0)),
    }


def _compute(srfx: Any, verb: str, draw: Draw) -> dict[str, Any]:
    """What one verb makes of one random model."""
    values = int(draw.random.integers(2, 5))
    points = draw.points()
    if verb == "solve isotropic":
        return _solution(srfx.solve(srfx.SpikedRF(**draw.spiked()), **points, errors="record"))
    if verb == "solve groups":
        model = srfx.SpikedRF(**draw.spiked(values))
        return _solution(srfx.solve(model, **points, errors="record"))
    if verb == "solve one_step":
        model = srfx.OneStep(**draw.step())
        return _solution(srfx.solve(model, **points, bulk="one_step", errors="record"))
    if verb == "solve groups of the step":
        model = srfx.OneStep(**draw.step(min(values, 3)))
        return _solution(srfx.solve(model, **points, bulk="one_step", errors="record"))
    if verb == "solve given weights":
        model = srfx.OneStep(draw.one_of("tanh", "relu"), "sin", eta=1.5, alpha0=2.0, beta=1.0)
        given = srfx.simulation.sample_weights(model, d=80, seed=int(draw.random.integers(99)))
        bulk = srfx.EmpiricalBulk.from_weights(*given)
        points.pop("d")
        return _solution(srfx.solve(model, **points, bulk=bulk, errors="record"))
    if verb == "gradient":
        return _gradients(srfx, draw, values, points)
    if verb == "spectrum":
        return _spectrum(srfx, draw)
    if verb == "optimal":
        found = srfx.optimal(
            srfx.SpikedRF(**draw.spiked()), {"lam": (1e-5, 1e2)}, alpha=points["alpha"][:3]
        )
        return {"test_error": found.test_error.values, "lam": found.lam.values, "slack": 1e-6}
    if verb == "learned_function":
        kind = draw.one_of(1, 1, 2)
        model, t = srfx.SpikedRF(**draw.spiked(kind)), np.linspace(-3, 3, 31)
        alpha, lam = points["alpha"][0], max(points["lam"][0], 1e-6)
        return {"function": srfx.learned_function(model, alpha, lam, t)}
    if verb == "bounds":
        model = srfx.SpikedRF(**draw.spiked(draw.one_of(1, values)))
        least = srfx.bounds(model)
        floor = np.asarray(srfx.linear_floor(model.target))
        return {"lower": np.asarray(least.lower), "upper": np.asarray(least.upper), "scale": floor}
    assert verb == "simulate"
    kind = draw.random.random() < 0.5
    model = srfx.SpikedRF(**draw.spiked()) if kind else srfx.OneStep(**draw.step() | {"alpha0": 2})
    ds = srfx.simulate(model, [0.5, 1.5], [0.01, 0.5], d=60, replicates=2, progress=False)
    return {"test_error": ds.test_error.values, "train_error": ds.train_error.values}


def _gradients(srfx: Any, draw: Draw, values: int, points: dict[str, Any]) -> dict[str, Any]:
    kind = draw.one_of("isotropic", "isotropic", "groups", "one_step")
    points["lam"] = np.maximum(points["lam"], 1e-6)
    if kind == "one_step":
        model = srfx.OneStep(**draw.step())
        solution = srfx.solve(model, **points, bulk="one_step", errors="record")
    else:
        model = srfx.SpikedRF(**draw.spiked(values if kind == "groups" else 1))
        solution = srfx.solve(model, **points, errors="record")
    out: dict[str, Any] = {"scale": np.asarray(solution.test_error)}
    for name in ("lam", "alpha", *model.numeric):
        for of in ("test_error", "train_error"):
            try:
                out[f"{of} {name}"] = np.asarray(solution.gradient(name, of=of))
            except (ValueError, NotImplementedError) as error:
                out[f"{of} {name}"] = type(error).__name__
    return out | {"slack": max(1e-10, 100 * float(np.nanmax(solution.quadrature_error, initial=0)))}


def _spectrum(srfx: Any, draw: Draw) -> dict[str, Any]:
    kind = draw.one_of("isotropic", "groups", "one_step")
    bulk = "one_step" if kind == "one_step" else "isotropic"
    fields = draw.step() if kind == "one_step" else draw.spiked(2 if kind == "groups" else 1)
    model = srfx.OneStep(**fields) if kind == "one_step" else srfx.SpikedRF(**fields)
    x = np.logspace(-4, 1, 40)
    ds = srfx.feature_spectrum(model, float(draw.log(0.3, 4)), x, bulk=bulk)
    return {"density": ds.density.values, "slack": 1e-10}


def _jobs(models: int) -> Iterator[tuple[int, str]]:
    index = 0
    for verb, share in SHARES.items():
        for _ in range(max(1, round(models * share))):
            yield index, verb
            index += 1


def compute_all(models: int, seed: int, file: Path) -> None:
    """Compute everything with the srfx that Python imports, and write it to a file."""
    import srfx

    warnings.simplefilter("ignore")
    results: dict[tuple[int, str], Any] = {}
    for index, verb in _jobs(models):
        try:
            results[index, verb] = _compute(srfx, verb, Draw(seed, index))
        except (srfx.ConvergenceError, ValueError, NotImplementedError) as error:
            results[index, verb] = {"refused": f"{type(error).__name__}: {error}"}
    file.write_bytes(pickle.dumps(results))


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    """Relative difference of each entry; infinity where one is not a number, or refused, alone."""
    if "refused" in before or "refused" in after:
        return {"refused": 0.0 if "refused" in before else np.inf}
    out = {}
    good: Any = True
    scale = np.asarray(before.get("scale", 0.0))
    if "status" in before:
        good = before["status"] == 0
        scale = scale[good] if scale.ndim else scale
        out["status"] = 0.0 if np.all(after["status"][good] == 0) else np.inf
    for name, old in before.items():
        new = after[name]
        if name in ("status", "slack", "scale"):
            continue
        if isinstance(old, str) or isinstance(new, str):
            out[name] = 0.0 if isinstance(old, str) else np.inf
            continue
        if good is not True and np.ndim(old):
            old, new = old[good], new[good]
        lost = np.isfinite(old) & ~np.isfinite(new)
        with np.errstate(all="ignore"):
            axes = tuple(range(1, old.ndim)) if good is not True else None
            gap, size = np.abs(new - old), np.abs(old)
            if axes and old.size:
                gap, size = gap.max(axes), size.max(axes)
            elif good is True:
                size = np.nanmax(size, initial=0)
            if name not in ("test_error", "train_error", "q1", "q2", "v1", "v2"):
                size = size + scale
            relative = np.where(gap == 0, 0.0, gap / size)
        out[name] = np.inf if lost.any() else float(np.nanmax(relative, initial=0))
    return out


def _run(folder: Path | None, options: argparse.Namespace, file: Path) -> None:
    path = os.environ.get("PYTHONPATH", "")
    if folder is not None:
        path = os.pathsep.join([str(folder.resolve()), path])
    command = [sys.executable, __file__, "--compute", str(file)]
    command += ["--models", str(options.models), "--seed", str(options.seed)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})


def main() -> int:
    """Run both builds and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="Folder of the other build.")
    parser.add_argument("--models", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--saved", type=Path, help="Where the other build's numbers are kept.")
    parser.add_argument("--compute", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compute is not None:
        compute_all(options.models, options.seed, options.compute)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        saved = options.saved or Path(folder, "before")
        if not saved.exists():
            if options.before is None:
                parser.error("give --before, or --saved with what it computed earlier")
            _run(options.before, options, saved)
        _run(None, options, Path(folder, "after"))
        before = pickle.loads(saved.read_bytes())
        after = pickle.loads(Path(folder, "after").read_bytes())
    worst: dict[str, list[float]] = defaultdict(list)
    wrong = 0
    for (index, verb), old in before.items():
        new = after[index, verb]
        slack = min(CORNER, float(old.get("slack", 0)))
        if verb == "optimal" and "slack" in old:
            slack = float(old["slack"])
        gaps = differences(old, new)
        worst[verb].append(max(gaps.values(), default=0.0))
        bad = {name: gap for name, gap in gaps.items() if gap > max(TOLERANCE, slack)}
        if bad:
            wrong += 1
            print(f"{verb} {index}: " + ", ".join(f"{n} {gap:.1e}" for n, gap in bad.items()))
            if "refused" in new:
                print(f"    now refused: {new['refused'][:200]}")
    report: Callable[..., None] = print
    report(f"{'verb':<26}{'models':>7}{'median':>10}{'largest':>10}")
    for verb, gaps in worst.items():
        report(f"{verb:<26}{len(gaps):>7}{np.median(gaps):>10.1e}{max(gaps):>10.1e}")
    report(f"{wrong} of {len(before)} models differ by more than is allowed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
