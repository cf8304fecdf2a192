"""Scans: points a second, time outside the solver, memory, dask's overhead, beside other ways.

    python bench/bench_scan.py [--threads 2] [--rounds 3] [--points 10000000] [--only NAME ...]

- plane: a plane (alpha, lam) of two million points in memory, beside joblib with the tuned numba
  solver of `peers` on chunks of it (its coefficients given), results compared;
- coefficients: a plane (eta, alpha0), where every point needs new coefficients, beside joblib with
  NumPy's coefficients (`srfx.reference`) and the numba solver at each point;
- store: ten million points to zarr in a process of its own: the share of its wall time that is not
  spent inside `srfx.solve`, peak memory, and that what is read back is right; the same of the
  actual one-step network (store_step);
- dask: a scan of ten blocks of about a second on two worker processes, beside the same on two
  threads of this process (what that takes more is dask's overhead, start of the workers excluded),
  and beside `Client.map` with a call of `srfx.solve` for each of some of its points.

Rounds are interleaved; medians are printed, and CPU seconds beside the wall's, for on a busy
machine the wall tells about the others. Every comparison asserts equal results.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of NumPy's and numba's libraries
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import srfx

PLANE = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=0.9)
STEP = srfx.OneStep("tanh", "sin")
STORED = {
    "store": (PLANE, {}),
    "store_step": (srfx.OneStep("tanh", "sin", eta=3, alpha0=0.25), {"bulk": "one_step"}),
}


def plane_axes(points: int) -> dict[str, Any]:
    """Make alpha .3 to 10 and lam 1e-3 to 1, about so many points."""
    n = 1000
    return {"alpha": np.geomspace(0.3, 10, points // n), "lam": np.geomspace(1e-3, 1, n)}


def step_axes(points: int) -> dict[str, Any]:
    """Make eta and alpha0, about so many points."""
    n = round(points**0.5)
    return {"eta": np.linspace(0.1, 3, n), "alpha0": np.geomspace(0.3, 20, n)}


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall seconds, CPU seconds of this process, and what came out."""
    wall, cpu = time.perf_counter(), time.process_time()
    out = work()
    return time.perf_counter() - wall, time.process_time() - cpu, out


def numba_chunk(table: Any, alpha: Any, lam: Any) -> Any:
    import peers

    return peers.numba_solve(table, alpha, lam, np.ones_like(alpha))[0]


def numpy_point(r: float, c: float, gamma: float) -> float:
    """Coefficients by NumPy and one solution by numba: what a worker of joblib does for a point."""
    import peers

    k = (np.arange(-50, 50) + 0.5) * (7.0 / 50)  # a midpoint rule: the best for these
    p = np.exp(-0.5 * k * k)
    nodes = peers._pad(peers._node_table("tanh", "sin", r, c, gamma, 0.0, k, p))
    start_k, start_p = np.polynomial.hermite_e.hermegauss(10)
    start = peers._pad(peers._node_table("tanh", "sin", r, c, gamma, 0.0, start_k, start_p))
    table = peers.PeerCoefficients(nodes, start, 0.0, 0.0)
    one = np.ones(1)
    return float(peers.numba_solve(table, 1.5 * one, 0.1 * one, one)[0][0])


def plane(args: argparse.Namespace) -> list[dict[str, Any]]:
    import joblib
    import peers

    axes = plane_axes(2_000_000)
    alpha, lam = (x.ravel() for x in np.meshgrid(axes["alpha"], axes["lam"], indexing="ij"))
    table = peers.coefficients_for_peers("tanh", "sin", 0.9, 1.0, 0.9)
    chunks = [slice(i, i + 50_000) for i in range(0, alpha.size, 50_000)]
    with joblib.Parallel(n_jobs=args.threads) as parallel:

        def peer() -> Any:
            call = joblib.delayed(numba_chunk)
            return np.concatenate(parallel(call(table, alpha[s], lam[s]) for s in chunks))

        def ours() -> Any:
            return srfx.scan(PLANE, n_threads=args.threads, **axes)

        peer(), ours()
        mine, theirs, cpu = [], [], []
        for _ in range(args.rounds):
            wall, spent, ds = timed(ours)
            mine.append(wall)
            cpu.append(spent)
            wall, _, values = timed(peer)
            theirs.append(wall)
    assert np.abs(ds.test_error.values.ravel() / values - 1).max() < 1e-7
    n = alpha.size
    each = 1e6 * median(cpu) / n
    rate, other = n / median(mine), n / median(theirs)
    print(f"plane (alpha, lam), {n} points in memory, {args.threads} threads")
    print(f"  srfx.scan             {rate / 1e6:7.2f} million points/s, {each:.3f} CPU us a point")
    print(
        f"  joblib, tuned numba   {other / 1e6:7.2f} million points/s, {rate / other:.2f}x slower"
    )
    return [{"case": "plane", "rate": rate, "cpu_us": each, "peer_rate": other}]


def coefficients(args: argparse.Namespace) -> list[dict[str, Any]]:
    import joblib

    axes = step_axes(90_000)
    some = np.random.default_rng(0).choice(300, (2, 100))
    models = [
        srfx.OneStep("tanh", "sin", eta=axes["eta"][i], alpha0=axes["alpha0"][j]).equivalent()
        for i, j in some.T
    ]
    with joblib.Parallel(n_jobs=args.threads) as parallel:

        def peer() -> Any:
            call = joblib.delayed(numpy_point)
            return parallel(call(float(m.r), float(m.c), float(m.gamma)) for m in models)

        def ours() -> Any:
            return srfx.scan(STEP, alpha=1.5, lam=0.1, n_threads=args.threads, **axes)

        peer(), ours()
        mine, theirs, cpu = [], [], []
        for _ in range(args.rounds):
            wall, spent, ds = timed(ours)
            mine.append(wall)
            cpu.append(spent)
            wall, _, values = timed(peer)
            theirs.append(wall)
    assert np.abs(ds.test_error.values[some[0], some[1]] / values - 1).max() < 1e-7
    n = 90_000
    rate, other = n / median(mine), len(models) / median(theirs)
    each = 1e6 * median(cpu) / n
    print(f"plane (eta, alpha0), {n} points with coefficients of their own, {args.threads} threads")
    print(f"  srfx.scan             {rate / 1e3:7.2f} thousand points/s, {each:.1f} CPU us a point")
    print(
        f"  joblib, NumPy, numba  {other / 1e3:7.2f} thousand points/s, {rate / other:.1f}x slower"
    )
    return [{"case": "coefficients", "rate": rate, "cpu_us": each, "peer_rate": other}]


def write_store(case: str, path: str, points: int, threads: int) -> None:
    """In a process of its own: a scan to a store, the time inside the solver, the peak memory."""
    from srfx.scans import blocks

    inside = [0.0]

    def clocked(*arguments: Any, original: Any = blocks.solve_box) -> Any:
        start = time.perf_counter()
        try:
            return original(*arguments)
        finally:
            inside[0] += time.perf_counter() - start

    blocks.solve_box = clocked
    axes = plane_axes(points)
    model, options = STORED[case]
    srfx.scan(model, f"{path}/warm.zarr", n_threads=threads, **options, **plane_axes(10_000))
    inside[0] = 0.0
    cpu, start = time.process_time(), time.perf_counter()
    srfx.scan(model, f"{path}/scan.zarr", n_threads=threads, **options, **axes)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"wall": wall, "inside": inside[0], "cpu": cpu, "peak": peak}))


def store(args: argparse.Namespace, case: str = "store") -> list[dict[str, Any]]:
    rows = []
    model, options = STORED[case]
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.rounds):
            place = Path(folder) / str(i)
            place.mkdir()
            words = [sys.executable, __file__, "--write", str(place), "--only", case]
            words += ["--points", str(args.points), "--threads", str(args.threads)]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout))
        ds = srfx.scans.open_scan(place / "scan.zarr")
        some = ds.isel(alpha=slice(0, None, 997), lam=slice(0, None, 97)).load()
        want = srfx.scan(model, alpha=some.alpha.values, lam=some.lam.values, **options)
        np.testing.assert_array_equal(some.test_error, want.test_error)
        size = sum(file.stat().st_size for file in (place / "scan.zarr").rglob("*"))
    outside = median(1 - row["inside"] / row["wall"] for row in rows)
    wall, cpu = median(row["wall"] for row in rows), median(row["cpu"] for row in rows)
    peak = max(row["peak"] for row in rows)
    print(f"{case}, {args.points} points to zarr, {args.threads} threads")
    print(f"  {wall:.2f} s ({cpu:.2f} CPU s), {args.points / wall / 1e6:.2f} million points/s")
    print(
        f"  outside the solver {100 * outside:.0f} %, peak {peak / 1e6:.0f} MB, {size / 1e6:.0f} MB"
    )
    return [{"case": case, "wall": wall, "outside": outside, "peak": peak, "size": size}]


def store_step(args: argparse.Namespace) -> list[dict[str, Any]]:
    return store(args, "store_step")


def one_point(point: tuple[float, float]) -> float:
    model = srfx.OneStep("tanh", "sin", eta=point[0], alpha0=point[1])
    return float(srfx.solve(model, 1.5, 0.1).test_error)


def dask(args: argparse.Namespace) -> list[dict[str, Any]]:
    import distributed

    axes = {**step_axes(10_000), "alpha": 1.5, "lam": 0.1}
    seconds = srfx.scans.plan.make_plan(STEP, axes).seconds()
    axes = step_axes(round(10_000 / seconds * 10))

    def scan(executor: Any) -> Any:
        return srfx.scan(STEP, executor=executor, alpha=1.5, lam=0.1, **axes)

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        small = {**axes, "eta": axes["eta"][:2]}
        srfx.scan(STEP, executor=client, alpha=1.5, lam=0.1, **small)  # imports in the workers
        ours, theirs = [], []
        for _ in range(args.rounds):
            wall, _, ds = timed(lambda: scan(client))
            ours.append(wall)
            wall, _, want = timed(lambda: scan(pool))
            theirs.append(wall)
        np.testing.assert_array_equal(ds.test_error, want.test_error)
        overhead = median(a / b - 1 for a, b in zip(ours, theirs, strict=True))
        eta, alpha0 = (x.ravel() for x in np.meshgrid(axes["eta"], axes["alpha0"], indexing="ij"))
        some = np.random.default_rng(0).choice(eta.size, 2000, replace=False)
        pairs = list(zip(eta[some].tolist(), alpha0[some].tolist(), strict=True))
        wall, _, found = timed(lambda: client.gather(client.map(one_point, pairs, pure=False)))
        np.testing.assert_array_equal(found, ds.test_error.values.ravel()[some])
    rate, other = eta.size / median(ours), len(pairs) / wall
    print(f"dask, {eta.size} points in blocks of about a second, two processes")
    print(f"  srfx.scan with a client  {rate / 1e3:8.2f} thousand points/s")
    print(f"  over two threads here    {100 * overhead:+8.1f} %")
    times = f"{rate / other:.0f}x slower"
    print(f"  Client.map, a point each {other / 1e3:8.2f} thousand points/s, {times}")
    return [{"case": "dask", "rate": rate, "overhead": overhead, "map_rate": other}]


def main() -> None:
    """Run all of it."""
    cases = {
        "plane": plane,
        "coefficients": coefficients,
        "store": store,
        "store_step": store_step,
        "dask": dask,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--points", type=int, default=10_000_000, help="of the stored scan")
    parser.add_argument("--only", nargs="+", choices=list(cases), default=list(cases))
    parser.add_argument("--json", help="write the rows there")
    parser.add_argument("--write", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write_store(args.only[0], args.write, args.points, args.threads)
        return
    config = srfx.show_config(mode="dicts")
    print({key: config[key] for key in ("version", "compiler", "instruction_set", "threads")})
    rows = [row for name in args.only for row in cases[name](args)]
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
