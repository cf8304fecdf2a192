"""A simulated learning curve: srfx against NumPy at its best and against the notebooks' way.

    python bench/bench_simulation.py [--d 2000] [--rounds 3] [--threads 2]

One replicate of spiked random features (tanh/sin, d = p, seven alphas from .2 to 3, 5000 test
points, lam = .1) by

- srfx: `srfx.simulate`, with its shortcuts that are exact in law;
- literal: `srfx.simulate(literal=True)`, the same work as (b) does;
- (b): the best NumPy/SciPy pipeline we know how to write: nested samples, shared test features,
  everything in place, BLAS syrk, cho_factor;
- (c): the notebooks' way: fresh data for each alpha, numpy.linalg.inv;

in both precisions, rounds interleaved; medians of times and of the ratios within a round. Beside
them the machine's matrix-multiplication rate (NumPy's BLAS, measured in the same rounds) and the
share of it reached, one thread against two, and the peak memory of d = p = 5000, n = 6000 in
float32. Each side's errors must agree with the theory's within 20 per cent on average (a few
networks). Run it on an otherwise idle machine: the threads share its cores with whatever else runs.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import subprocess
import sys
import time

ALPHAS = (0.2, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0)
LAM, N_TEST, R, GAMMA = 0.1, 5000, 0.9, 1.0


def numpy_best(d, dtype, seed):
    import numpy as np
    from scipy.linalg import blas, cho_factor, cho_solve

    rng = np.random.default_rng(seed)
    p, scale = d, dtype(1 / np.sqrt(d))
    syrk = blas.dsyrk if dtype is np.float64 else blas.ssyrk
    theta = rng.standard_normal(d, dtype=dtype)
    theta *= np.sqrt(d) / np.linalg.norm(theta)
    w = rng.standard_normal((p, d), dtype=dtype)
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    w += dtype(R) * scale * theta
    counts = [round(alpha * d) for alpha in ALPHAS]
    largest = max(b - a for a, b in zip([0, *counts[:-1]], counts, strict=True))
    inputs = np.empty((max(largest, N_TEST), d), dtype)  # allocated once: fresh pages are slow
    block = np.empty((largest, p), dtype)
    gram, system = (np.zeros((p, p), dtype, order="F") for _ in range(2))

    def draw(n, out):
        x = inputs[:n]
        rng.standard_normal(dtype=dtype, out=x)
        np.matmul(x, w.T, out=out)
        np.tanh(out, out=out)
        out *= scale
        return np.sin(x @ theta * scale)

    fresh = np.empty((N_TEST, p), dtype)
    target = draw(N_TEST, fresh)
    moment = np.zeros(p, dtype)
    done, out = 0, []
    for n in counts:
        features = block[: n - done]
        y = draw(n - done, features)
        gram = syrk(1.0, features.T, beta=1.0, c=gram, overwrite_c=1, lower=1)
        moment += features.T @ y
        np.copyto(system, gram)
        system.T.flat[:: p + 1] += dtype(LAM)
        factor = cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
        a = cho_solve(factor, moment, check_finite=False)
        out.append(float(np.mean((fresh @ a - target) ** 2)))
        done = n
    return out


def notebook(d, dtype, seed):
    import numpy as np

    rng = np.random.default_rng(seed)
    p, out = d, []
    theta = rng.standard_normal(d).astype(dtype)
    theta *= np.sqrt(d) / np.linalg.norm(theta)
    w = rng.standard_normal((p, d)).astype(dtype)
    w = w / np.linalg.norm(w, axis=1)[:, None] + R * theta / np.sqrt(d).astype(dtype)
    for alpha in ALPHAS:
        n = round(alpha * d)
        x = rng.standard_normal((n, d)).astype(dtype)
        features = (np.tanh(x @ w.T) / np.sqrt(p)).astype(dtype)
        y = np.sin(x @ theta / np.sqrt(d)).astype(dtype)
        a = np.linalg.inv(features.T @ features + LAM * np.eye(p, dtype=dtype)) @ features.T @ y
        x = rng.standard_normal((N_TEST, d)).astype(dtype)
        f = np.tanh(x @ w.T) @ a / np.sqrt(p)
        out.append(float(np.mean((np.sin(x @ theta / np.sqrt(d)) - f) ** 2)))
    return out


def ours(d, dtype, seed, literal=False, threads=None):
    import srfx
    from srfx import simulation

    model = srfx.SpikedRF("tanh", "sin", r=R, gamma=GAMMA)
    ds = simulation.simulate(
        model, ALPHAS, LAM, d=d, replicates=1, n_test=N_TEST, seed=seed, dtype=dtype.__name__,
        literal=literal, n_threads=threads, progress=False,
    )  # fmt: skip
    return ds.test_error.values.ravel().tolist()


def gemm_rate(d, dtype):
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((d, d)).astype(dtype) for _ in range(2))
    c = np.empty_like(a)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        np.matmul(a, b, out=c)
        times.append(time.perf_counter() - start)
    return 2 * d**3 / min(times)


def literal_operations(d):
    """Operations of the literal path: features, Gram matrices, factors by its own plan."""
    n = [round(alpha * d) for alpha in ALPHAS]

    def cost(k):
        dual = n[k - 1] ** 2 * d + n[k - 1] ** 3 / 3 if k else 0
        return dual + (n[-1] * d**2 + (len(n) - k) * d**3 / 3 if k < len(n) else 0)

    ridge = min(cost(k) for k in range(len(n) + 1) if k == 0 or n[k - 1] <= d)
    return 2 * (n[-1] + N_TEST) * d**2 + ridge


def timed(f, *args, **options):
    time.sleep(0.1)  # the threads of the side before have stopped waiting for more work by then
    start = time.perf_counter()
    out = f(*args, **options)
    return time.perf_counter() - start, out


def compare(d, rounds, threads, with_notebook):
    import numpy as np

    import srfx

    model = srfx.SpikedRF("tanh", "sin", r=R, gamma=GAMMA)
    expected = srfx.solve(model, alpha=ALPHAS, lam=LAM, d=d).test_error
    for dtype in (np.float64, np.float32):
        own = functools.partial(ours, d, dtype)
        sides = {
            "srfx": functools.partial(own, threads=threads),
            "literal": functools.partial(own, literal=True, threads=threads),
            "(b)": functools.partial(numpy_best, d, dtype),
        }
        if threads > 1:
            sides["srfx, 1 thread"] = functools.partial(own, threads=1)
        if with_notebook and dtype is np.float64:
            sides["(c)"] = functools.partial(notebook, d, dtype)
        times = {name: [] for name in sides}
        values = {name: [] for name in sides}
        rates = []
        for side in sides.values():  # warm up
            if side is not sides.get("(c)"):
                side(99)
        for seed in range(rounds):
            rates.append(gemm_rate(d, dtype))
            for name, side in sides.items():
                seconds, errors = timed(side, seed)
                times[name].append(seconds)
                values[name].append(errors)
        print(f"\n{dtype.__name__}, d = p = {d}, {rounds} rounds, {threads} threads")
        rate = statistics.median(rates)
        print(f"  matrix multiplication (NumPy's BLAS)   {rate / 1e9:8.1f} GFLOP/s")
        for name in sides:
            ratios = [t / own for t, own in zip(times[name], times["srfx"], strict=True)]
            print(
                f"  {name:<16}{statistics.median(times[name]):8.3f} s"
                f"{statistics.median(ratios):8.2f} x srfx's time"
            )
            gap = np.abs(np.mean(values[name], axis=0) / expected - 1)
            assert gap.mean() < 0.2, (name, values[name], expected)
        shares = [
            literal_operations(d) / t / r for t, r in zip(times["literal"], rates, strict=True)
        ]
        print(f"  literal path: {100 * statistics.median(shares):.0f} % of that rate")


def memory(d, n, dtype):
    """Peak resident memory of one run in a process of its own, in bytes."""
    code = (
        "import srfx; from srfx import simulation as s\n"
        f"s.simulate(srfx.SpikedRF(), {n / d!r}, 0.1, d={d}, replicates=1, dtype={dtype!r})\n"
        "print(next(int(x.split()[1]) for x in open('/proc/self/status') if x.startswith('VmHWM')))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return 1024 * int(out.stdout)


def main():
    sys.stdout.reconfigure(line_buffering=True)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--no-notebook", action="store_true")
    parser.add_argument("--no-memory", action="store_true")
    options = parser.parse_args()
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)  # before NumPy loads
    compare(options.d, options.rounds, options.threads, not options.no_notebook)
    if not options.no_memory:
        peak = memory(5000, 6000, "float32")
        print(f"\npeak memory, d = p = 5000, n = 6000, float32: {peak / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
