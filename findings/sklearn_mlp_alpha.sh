#!/usr/bin/env bash
# scikit-learn 1.9.1: the strength of MLPRegressor's L2 penalty depends on batch_size.
#
# A good guess: alpha fixes the penalty. The docstring says that the penalty is divided by the
#   sample size, so the loss is the mean over the samples plus alpha |W|^2 / (2 n). The size of the
#   batches changes how the minimum is found, not where it lies.
# What happens: the penalty is divided by the size of the batch. Batches of 10 out of 200 samples
#   make it twenty times as strong, for good: each epoch shrinks the weights once a batch. The full
#   batch, and lbfgs, have the penalty of the docstring.
# Why it matters: this is the two-layer network at hand for checking a theory of regularised
#   training. A sweep over batch_size at fixed alpha is a sweep over the penalty in disguise, and so
#   is a change of solver. Batches of b at alpha b / n give the penalty that was meant.
#
# Output seen (norm of the predictions over the norm of the targets; linear network, n = 200):
#   lbfgs, alpha 10: 0.97
#   batches of 200, alpha 10: 0.97
#   batches of 50, alpha 10: 0.87
#   batches of 10, alpha 10: 0.36
#   batches of 10, alpha 0.5: 0.97
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet scikit-learn==1.9.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -I - <<'PY'
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are counted here
rng = np.random.default_rng(0)
X = rng.normal(size=(200, 3))
y = X @ np.ones(3)


def fitted(alpha, **options):
    """Norm of the trained predictions, over that of the targets."""
    network = MLPRegressor(
        hidden_layer_sizes=(8,), activation="identity", alpha=alpha, random_state=0, **options
    )
    return np.linalg.norm(network.fit(X, y).predict(X)) / np.linalg.norm(y)


def descended(alpha, batch):
    return fitted(
        alpha,
        solver="sgd",
        momentum=0,
        batch_size=batch,
        learning_rate_init=0.0002 * batch,
        max_iter=1500,
        tol=0,
        n_iter_no_change=1500,
    )


size = fitted(10, solver="lbfgs", max_iter=3000, tol=1e-10)
print(f"lbfgs, alpha 10: {size:.2f}")
assert round(size, 2) == 0.97
for batch, alpha, expected in ((200, 10, 0.97), (50, 10, 0.87), (10, 10, 0.36), (10, 0.5, 0.97)):
    size = descended(alpha, batch)
    print(f"batches of {batch}, alpha {alpha}: {size:.2f}")
    assert abs(size - expected) < 0.01
PY
