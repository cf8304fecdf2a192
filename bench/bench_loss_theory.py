"""Solves with other losses and labels: microseconds a point beside the SciPy reference, one core.

    python bench/bench_loss_theory.py [--points 400] [--rounds 3] [--reference 1] [--loss NAME ...]

Random points (alpha .5 to 3, lam 1e-3 to 1) of one model a loss, so that the coefficients are
those of one set; the median of the rounds. The peer is `srfx.reference.solve_loss`, adaptive
quadrature in NumPy and SciPy, on the first few of them, where both must agree to 1e-8 in the
training loss, the test loss and q2.
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import srfx
from srfx import reference

SPIKE = {"r": 0.9, "gamma": 0.8}
CASES = {
    "huber": ("tanh", "sin", {"noise": 0.1}, srfx.Huber(0.3)),
    "absolute": ("relu", "tanh", {"noise": 0.1}, "absolute"),
    "square on labels": ("tanh", "tanh", {"noise": 0.1, "labels": "sign"}, "square"),
    "squared hinge": ("tanh", "tanh", {"noise": 0.1, "labels": "sign"}, "squared_hinge"),
    "hinge": ("tanh", "tanh", {"labels": "sign"}, "hinge"),
    "hinge, relu": ("relu", "tanh", {"noise": 0.1, "labels": "sign"}, "hinge"),
    "logistic": ("tanh", "tanh", {"noise": 0.1, "labels": "sign"}, "logistic"),
    "logistic, relu": ("relu", "tanh", {"labels": "logit", "slope": 2.0}, "logistic"),
}
OUTPUTS = ("train_loss", "test_loss", "q2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reference", type=int, default=1, help="points solved by the peer")
    parser.add_argument("--loss", nargs="*", default=list(CASES), choices=list(CASES))
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    alpha = rng.uniform(0.5, 3, options.points)
    lam = 10 ** rng.uniform(-3, 0, options.points)
    print(
        f"{'':18} {'us/point':>9} {'points/s':>9} {'reference':>10} {'ratio':>8} {'difference':>10}"
    )
    for name in options.loss:
        activation, target, labels, loss = CASES[name]
        model = srfx.SpikedRF(activation, target, **SPIKE, **labels)
        ours = []
        for _ in range(options.rounds):
            start = time.process_time()  # of this process alone, whatever else the machine does
            solution = srfx.solve(model, alpha, lam, loss=loss, n_threads=1)
            ours.append((time.process_time() - start) / options.points)
        theirs, off = [], 0.0
        for i in range(options.reference):
            start = time.process_time()
            wanted = reference.solve_loss(model, float(alpha[i]), float(lam[i]), loss=loss)
            theirs.append(time.process_time() - start)
            for of in OUTPUTS:
                off = max(off, abs(getattr(solution, of)[i] / getattr(wanted, of) - 1))
        mine, peer = median(ours), median(theirs)
        row = f"{name:18} {mine * 1e6:9.1f} {1 / mine:9.0f} {peer:9.2f}s {peer / mine:8.0f}"
        print(f"{row} {off:10.1e}", flush=True)
        if off > 1e-8:
            raise SystemExit(f"{name}: differs from the reference by {off:.1e}, more than 1e-8")


if __name__ == "__main__":
    main()
