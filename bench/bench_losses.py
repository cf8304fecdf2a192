"""Learning curves of classifiers: `srfx.simulate` beside scikit-learn at the same optimum.

    python bench/bench_losses.py [--d D] [--rounds 3] [--threads 2] [--loss logistic hinge ...]

One replicate of spiked random features (tanh/tanh, d = p: 1000 for the logistic loss, 500 for the
others, where liblinear takes a minute to agree; labels by the sign of a noisy target, seven alphas
from .2 to 3, 5000 test points, lam = .1) by

- srfx: `srfx.simulate(loss=)`, threads as asked for;
- scikit-learn: features drawn in place with NumPy, then
  - logistic: LogisticRegression, solver newton-cholesky, each alpha from the one before;
  - hinge, squared_hinge: LinearSVC (liblinear), dual or primal as it does better;

rounds interleaved; medians of times and of the ratios within a round. Before that both fit the same
features, and the values of the objective are compared: the peer's tolerance is the loosest that
comes within 1e-8 of the minimum (liblinear, which converges slowly, within 1e-6), as far as srfx's
duality gap tells. The classification
errors of the two must agree with those of `srfx.reference.solve_loss` within 10 per cent.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time

ALPHAS = (0.2, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0)
LAM, N_TEST, R, GAMMA, NOISE = 0.1, 5000, 0.9, 0.8, 0.1


def peer(loss, tolerance):
    """Return scikit-learn's estimator with the objective of srfx divided by 2 lam."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    common = {"C": 1 / (2 * LAM), "fit_intercept": False, "tol": tolerance}
    if loss == "logistic":
        return LogisticRegression(solver="newton-cholesky", warm_start=True, max_iter=200, **common)
    return LinearSVC(loss=loss, dual=loss == "hinge", max_iter=1_000_000, **common)


def objective(loss, phi, y, a):
    import numpy as np

    gap = 1 - y * (phi @ a)
    losses = {
        "logistic": lambda: np.logaddexp(0, gap - 1),
        "hinge": lambda: np.maximum(gap, 0),
        "squared_hinge": lambda: np.maximum(gap, 0) ** 2,
    }[loss]()
    return losses.sum() + LAM * a @ a


def draw(d, seed, counts):
    """Features and labels of the largest sample, and of the test points."""
    import numpy as np

    rng = np.random.default_rng(seed)
    theta, other = (rng.standard_normal(d) for _ in range(2))
    theta *= np.sqrt(d) / np.linalg.norm(theta)
    other -= (other @ theta) / d * theta
    v = GAMMA * theta + np.sqrt(1 - GAMMA**2) * np.sqrt(d) / np.linalg.norm(other) * other
    w = rng.standard_normal((d, d))
    w /= np.linalg.norm(w, axis=1)[:, None]
    w += R * v / np.sqrt(d)

    def points(n):
        x = rng.standard_normal((n, d))
        phi = x @ w.T
        np.tanh(phi, out=phi)
        phi /= np.sqrt(d)
        noisy = np.tanh(x @ theta / np.sqrt(d)) + np.sqrt(NOISE) * rng.standard_normal(n)
        return phi, np.where(noisy > 0, 1.0, -1.0)

    return points(max(counts)), points(N_TEST)


def theirs(d, loss, tolerance, seed):
    import numpy as np

    counts = [round(alpha * d) for alpha in ALPHAS]
    (phi, y), (fresh, expected) = draw(d, seed, counts)
    model, out = peer(loss, tolerance), []
    for n in counts:
        model.fit(phi[:n], y[:n])
        out.append(float(np.mean(expected * (fresh @ model.coef_[0]) < 0)))
    return out


def ours(d, loss, threads, seed):
    import srfx

    model = srfx.SpikedRF("tanh", "tanh", r=R, gamma=GAMMA, noise=NOISE, labels="sign")
    ds = srfx.simulate(
        model, ALPHAS, LAM, loss=loss, d=d, replicates=1, n_test=N_TEST, seed=seed,
        n_threads=threads, progress=False,
    )  # fmt: skip
    return ds.classification_error.values.ravel().tolist()


def same_optimum(d, loss, threads):
    """Return the loosest tolerance of the peer that reaches the minimum at two sizes."""
    from srfx import _core
    from srfx.losses import chosen

    c, near = chosen(loss, "sign", LAM), 1e-8 if loss == "logistic" else 1e-6
    (phi, y), _ = draw(d, 99, [2 * d])
    for tolerance in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10):
        worst = 0.0
        for n in (d // 2, 2 * d):
            numbers = (c.kind, c.kappa, c.lo, c.hi, c.margin, threads)
            a, gap = _core.fit_readouts(phi[:n], y[:n], [LAM], *numbers)
            least = objective(loss, phi[:n], y[:n], a[0])
            fitted = peer(loss, tolerance).fit(phi[:n], y[:n]).coef_[0]
            reached = objective(loss, phi[:n], y[:n], fitted)
            assert gap[0] <= 1e-10, gap
            assert least <= reached * (1 + 1e-10), (loss, n, least, reached)
            worst = max(worst, reached / least - 1)
        if worst <= near:
            return tolerance, worst
    raise AssertionError(f"scikit-learn does not come within {near:g} of the minimum: {worst:.1e}")


def expected(d, loss):
    from types import SimpleNamespace

    from srfx.reference import solve_loss

    model = SimpleNamespace(
        activation="tanh", target="tanh", r=R, c=1.0, gamma=GAMMA, beta=1.0, noise=NOISE,
        labels="sign", slope=None, readout=(1.0,), weights=None,
    )  # fmt: skip
    return [solve_loss(model, a, LAM, d, loss=loss).classification_error for a in ALPHAS]


def timed(f, *args):
    time.sleep(0.1)  # the threads of the side before have stopped waiting for more work by then
    start = time.perf_counter()
    out = f(*args)
    return time.perf_counter() - start, out


def compare(d, loss, rounds, threads):
    import numpy as np

    tolerance, distance = same_optimum(d, loss, threads)
    sides = {
        "srfx": lambda seed: ours(d, loss, threads, seed),
        "scikit-learn": lambda seed: theirs(d, loss, tolerance, seed),
    }
    times = {name: [] for name in sides}
    errors = {name: [] for name in sides}
    for seed in range(rounds):
        for name, side in sides.items():
            seconds, values = timed(side, seed)
            times[name].append(seconds)
            errors[name].append(values)
    print(f"\n{loss}, d = p = {d}, {rounds} rounds, {threads} threads")
    print(f"  same features: scikit-learn (tol {tolerance:g}) within {distance:.1e} of the minimum")
    for name in sides:
        ratios = [t / own for t, own in zip(times[name], times["srfx"], strict=True)]
        print(
            f"  {name:<16}{statistics.median(times[name]):8.3f} s"
            f"{statistics.median(ratios):8.2f} x srfx's time"
        )
    known = np.array(expected(d, loss))
    for name, values in errors.items():
        away = np.abs(np.mean(values, axis=0) / known - 1)
        assert away.mean() < 0.1, (name, np.mean(values, axis=0), known)


def main():
    sys.stdout.reconfigure(line_buffering=True)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d", type=int, help="1000 for the logistic loss, else 500")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--loss", nargs="+", default=["logistic", "hinge", "squared_hinge"])
    options = parser.parse_args()
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)  # before NumPy loads
    for loss in options.loss:
        d = options.d or (1000 if loss == "logistic" else 500)
        compare(d, loss, options.rounds, options.threads)


if __name__ == "__main__":
    main()
