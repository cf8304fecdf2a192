"""The reference's spectral density of the features against a closed form and eigenvalues."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("scipy")

from srfx import reference


def model(activation, r, c, beta):
    return SimpleNamespace(activation=activation, target="sin", r=r, c=c, gamma=1.0, beta=beta)


def test_linear_features_of_many_samples():
    """Then Phi^T Phi / p = (alpha / beta) W W^T: Marchenko-Pastur, scaled."""
    alpha, beta = 1e6, 0.4
    x = np.array([0.1, 0.5, 1.0, 2.5, 3.0])  # edges .135 and 2.665
    got = reference.feature_spectrum(model("linear", 0.0, 1.0, beta), alpha, alpha / beta * x)
    low, high = (1 - math.sqrt(beta)) ** 2, (1 + math.sqrt(beta)) ** 2
    want = np.sqrt(np.maximum((high - x) * (x - low), 0.0)) / (2 * math.pi * beta * x)
    assert np.max(np.abs(got * alpha / beta - want)) < 1e-4


@pytest.mark.parametrize(("activation", "beta", "alpha"), [("tanh", 0.5, 2.0), ("relu", 1.5, 0.7)])
def test_counts_of_eigenvalues(activation, beta, alpha):
    rng = np.random.default_rng(2)
    d, r, c = 700, 0.6, 1.3
    p, n = int(beta * d), int(alpha * d)
    w0 = rng.standard_normal((p, d))
    w = math.sqrt(c) * w0 / np.linalg.norm(w0, axis=1, keepdims=True)
    w[:, 0] += r
    phi = reference.ACTIVATIONS[activation].value(rng.standard_normal((n, d)) @ w.T)
    found = np.linalg.eigvalsh(phi.T @ phi / p)
    bulk = found[found > 1e-9]
    cuts = np.quantile(bulk, [0.2, 0.5, 0.8])
    nodes, weight = np.polynomial.legendre.leggauss(8)
    for low, high in itertools.pairwise(cuts):
        x = 0.5 * (high + low) + 0.5 * (high - low) * nodes
        f = reference.feature_spectrum(model(activation, r, c, beta), alpha, x)
        mass = 0.5 * (high - low) * float(weight @ f)
        assert mass == pytest.approx(np.sum((found > low) & (found <= high)) / p, rel=0.03)


def test_refused():
    with pytest.raises(ValueError, match="x > 0"):
        reference.feature_spectrum(model("tanh", 0.5, 1.0, 1.0), 1.0, [0.0])
