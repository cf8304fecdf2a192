"""Several spikes, directions and steps: the core against `srfx.reference`, on random models.

    python bench/fuzz_reference.py [--models 300] [--seed 0] [--seconds 60] [--first 0]

Random `SpikedRF` with one to three spikes, groups and directions, `OneStep` with targets of several
directions in the isotropic and in the step's bulk, `MultiStep` of two and three steps in the
isotropic bulk and in its own. Test and training error may differ by 1e-8, or by what the solution
announces in `quadrature_error` if that is more than 1e-8. What the core refuses, and what the
reference does not finish within `--seconds`, is counted and left out. The exit code is 1 if any
model differs.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import warnings
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from compare_builds import Draw

import srfx
from srfx import reference

TOLERANCE = 1e-8
NOT_SECTION_SEVEN = ("tanh", "erf", "relu", "softplus", "gelu", "sin")
TARGETS: dict[int, tuple[Any, ...]] = {
    2: (
        srfx.Target(lambda a, b: np.tanh(a) + a * b, 2),
        srfx.Target(lambda a, b: np.sin(a) + np.tanh(b), 2),
        srfx.Target(lambda a, b: a + (a * a - b * b) / 2, 2),
        srfx.Target("max", 2),
        srfx.Target("product", 2),
        srfx.Target("sign_product", 2),
        srfx.Target(lambda a, b: np.abs(a) + np.tanh(a + b), 2, kinks=[((1, 0), 0)]),
    ),
    3: (
        srfx.Target(lambda a, b, c: a + np.tanh(b) * c, 3),
        srfx.Target("product", 3),
    ),
}
ONE = ("tanh", "sin", "hermite2", "sign", "relu", "hermite3")


class Timeout(Exception):
    """The reference took too long."""


def _alarm(*_: Any) -> None:
    raise Timeout


def groups(draw: Draw, most: int) -> dict[str, Any]:
    """One to `most` readout values."""
    k = int(draw.random.integers(1, most + 1))
    if k == 1:
        return {"readout": (float(draw.one_of(1.0, 0.5, -1.5)),)}
    weights = draw.random.uniform(0.2, 1, k)
    readout = draw.random.uniform(-2, 2, k).round(3)
    return {"readout": tuple(readout), "weights": tuple(weights / weights.sum())}


def target_of(draw: Draw, least: int = 1) -> tuple[Any, int]:
    """A target and its number of directions."""
    n = int(draw.random.choice([1, 2, 3], p=[0.2, 0.7, 0.1]))
    n = max(n, least)
    return (draw.one_of(*ONE), 1) if n == 1 else (draw.one_of(*TARGETS[n]), n)


def spiked(draw: Draw) -> tuple[Any, str]:
    """Several spikes, groups and directions."""
    target, n = target_of(draw)
    k, q = int(draw.random.integers(1, 4)), int(draw.random.choice([1, 2, 3], p=[0.4, 0.55, 0.05]))
    size = float(draw.log(0.2, 1.8))
    spikes = size * draw.random.normal(size=(k, q)) / np.sqrt(q)
    alignment = draw.random.normal(size=(n, q))
    alignment *= draw.random.uniform(0.2, 0.97) / np.linalg.norm(alignment, 2)
    weights = draw.random.uniform(0.2, 1, k)
    return srfx.SpikedRF(
        draw.one_of(*NOT_SECTION_SEVEN),
        target,
        spikes=spikes,
        alignment=alignment,
        variances=tuple(draw.log(0.4, 2.5, k)),
        weights=None if k == 1 else tuple(weights / weights.sum()),
        beta=float(draw.log(0.3, 3)),
        noise=draw.one_of(0.0, 0.1, 0.7),
    ), "isotropic"


def one_step(draw: Draw) -> tuple[Any, str]:
    """One step, a target of several directions."""
    target, _ = target_of(draw, 2)
    bulk = draw.one_of("isotropic", "one_step")
    readout = groups(draw, 2)
    if bulk == "one_step" and len(readout["readout"]) == 1:
        readout = {}  # as eta
    return srfx.OneStep(
        draw.one_of(*NOT_SECTION_SEVEN),
        target,
        eta=float(draw.log(0.3, 4)),
        alpha0=float(draw.log(0.3, 20)),
        beta=float(draw.log(0.3, 3)),
        noise=draw.one_of(0.0, 0.1, 0.7),
        **readout,
    ), bulk


def multi_step(draw: Draw) -> tuple[Any, str]:
    """Two or three steps."""
    target, n = target_of(draw)
    bulk = "isotropic" if n == 3 else draw.one_of("isotropic", "multi_step", "multi_step")
    steps = int(draw.random.choice([2, 3], p=[0.7, 0.3]))
    return srfx.MultiStep(
        draw.one_of(*NOT_SECTION_SEVEN),
        target,
        eta=tuple(draw.log(0.3, 3, steps)),
        alpha0=tuple(draw.log(0.4, 10, steps)),
        beta=float(draw.log(0.3, 3)),
        noise=draw.one_of(0.0, 0.1, 0.7),
        **groups(draw, 2 if bulk == "isotropic" else 1),
    ), bulk


def oracle(model: Any, bulk: str, alpha: float, lam: float, d: float | None, density: int) -> Any:
    """The reference's solution."""
    if isinstance(model, srfx.SpikedRF):
        return reference.solve_spikes(model, alpha, lam, d, density=density)
    if isinstance(model, srfx.MultiStep):
        return reference.solve_multi_step(model, alpha, lam, d, bulk=bulk, density=density)
    if bulk == "one_step":
        return reference.solve_one_step(model, alpha, lam, d, density=density)
    return reference.solve_multi_step(
        srfx.MultiStep(
            model.activation,
            model.target,
            eta=(model.eta,),
            alpha0=(model.alpha0,),
            beta=model.beta,
            noise=model.noise,
            readout=model.readout,
            weights=model.weights,
        ),
        alpha,
        lam,
        d,
        density=density,
    )


def main() -> int:
    """Draw, solve twice, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--density", type=int, default=2, help="of the reference, at most")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--every", action="store_true", help="print every model")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, _alarm)
    compared = refused = late = failed = hidden = 0
    for index in range(options.first, options.first + options.models):
        draw = Draw(options.seed, index)
        model, bulk = (spiked, one_step, multi_step)[index % 3](draw)
        alpha, lam = float(draw.log(0.2, 6)), float(draw.log(1e-3, 1))
        d = draw.one_of(None, 700.0)
        if bulk == "multi_step":
            d = None
        start = time.process_time()
        try:
            mine = srfx.solve(model, alpha, lam, d=np.inf if d is None else d, bulk=bulk)
        except (ValueError, srfx.ConvergenceError) as error:
            refused += 1
            print(f"{index}: refused: {str(error)[:120]}", flush=True)
            continue
        middle = time.process_time()
        density, gap = 0, np.inf
        try:
            while density < options.density and gap > TOLERANCE:  # the reference may need more
                density += 1
                signal.setitimer(signal.ITIMER_PROF, options.seconds * density**2)
                theirs = oracle(model, bulk, alpha, lam, d, density)
                gap = max(
                    abs(float(getattr(mine, name)) / float(getattr(theirs, name)) - 1)
                    for name in ("test_error", "train_error")
                )
        except Timeout:
            late += 1
            print(f"{index}: {gap:.1e} so far, too slow ({bulk}) {model}", flush=True)
            continue
        except (ValueError, RuntimeError, np.linalg.LinAlgError) as error:
            print(f"{index}: reference: {type(error).__name__} {str(error)[:120]}", flush=True)
            continue
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        end = time.process_time()
        compared += 1
        announced = float(np.max(mine.quadrature_error))
        bad = gap > max(TOLERANCE, announced)
        failed += bad
        hidden += gap > 10 * announced + 1e-12
        if bad or options.every or announced > 1e-6:
            print(
                f"{index}: {gap:.1e} announced {announced:.1e} ({bulk}, "
                f"{1e3 * (middle - start):.0f} ms, reference {end - middle:.1f} s at density "
                f"{density}) {model} alpha={alpha!r} lam={lam!r} d={d}",
                flush=True,
            )
    print(
        f"{compared} compared, {failed} differ, {hidden} by more than they say; {refused} refused, "
        f"{late} too slow"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
