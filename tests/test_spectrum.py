"""The spectrum of the features: against simulated matrices, closed forms and moments."""

from __future__ import annotations

import numpy as np
import pytest

import srfx

FUNCTIONS = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "cos": np.cos,
    "sign": np.sign,
}


def eigenvalues(activation, r, c, alpha, beta, d, seed):
    """Of Phi^T Phi/p for one draw of the spiked random features, in plain NumPy."""
    rng = np.random.default_rng(seed)
    n, p = round(alpha * d), round(beta * d)
    w = rng.standard_normal((p, d))
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    v = rng.standard_normal(d)
    v *= np.sqrt(d) / np.linalg.norm(v)
    w = np.sqrt(c) * w + r * v / np.sqrt(d)
    phi = FUNCTIONS[activation](rng.standard_normal((n, d)) @ w.T)
    return np.linalg.eigvalsh(phi.T @ phi / p if n >= p else phi @ phi.T / p)


def spectrum(activation, r, c, alpha, beta, x):
    return srfx.feature_spectrum(srfx.SpikedRF(activation, r=r, c=c, beta=beta), alpha, x)


@pytest.mark.parametrize(
    ("activation", "r", "c", "alpha", "beta"),
    [
        ("tanh", 0.0, 1.0, 2.0, 1.0),  # before the step
        ("tanh", 1.2, 1.3, 2.0, 1.0),  # after it
        ("relu", 0.8, 1.0, 1.5, 0.7),
        ("sign", 0.7, 1.0, 2.5, 1.2),
        ("linear", 0.5, 1.0, 0.5, 1.5),
    ],
)
def test_distribution_of_simulated_eigenvalues(activation, r, c, alpha, beta):
    d = 800
    seen = eigenvalues(activation, r, c, alpha, beta, d, seed=7)
    edges = spectrum(activation, r, c, alpha, beta, 1.0).edges.values
    x = np.linspace(edges[0], edges[-1], 4001)[1:-1]
    ds = spectrum(activation, r, c, alpha, beta, x)
    assert (ds.status == 0).all()
    assert (ds.density >= 0).all()
    assert abs(ds.mass.item() - 1) < 1e-6
    assert ds.first_moment.item() == pytest.approx(ds.expected_first_moment.item(), rel=1e-6)
    # the mass of each fifth of the support; counts of eigenvalues fluctuate by order one
    parts = np.quantile(seen, [0.2, 0.4, 0.6, 0.8])
    density = ds.density.values
    cumulative = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(x))])
    p = round(beta * d)
    expected = np.interp(parts, x, cumulative) * p
    counted = np.array([(seen <= q).sum() for q in parts])
    zeros = 0 if alpha >= beta else round(max(0, alpha - min(alpha, 1, beta)) * d)
    np.testing.assert_allclose(counted - zeros, expected, atol=5)
    inside = (seen > edges[0] - 0.02 * edges[-1]) & (seen < edges[-1] * 1.02)
    assert (~inside).sum() <= 3 + zeros  # outliers: of the mean, and of the spike


def test_marchenko_pastur_limit():
    # He_3 has no linear part: its features are noise of unit variance, and Phi^T Phi/p a Wishart
    # matrix of ratio a' = n/p
    ratio = 2.5
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2
    x = np.linspace(low, high, 202)[1:-1]
    ds = spectrum("hermite3", 0.0, 1.0, ratio, 1.0, x)
    exact = np.sqrt((x - low) * (high - x)) / (2 * np.pi * x)
    np.testing.assert_allclose(ds.density, exact, rtol=1e-8)
    np.testing.assert_allclose(ds.edges, [low, high], rtol=1e-6)


def test_mass_at_zero():
    x = [1.0]
    assert spectrum("tanh", 0.0, 1.0, 0.5, 1.0, x).mass_at_zero.item() == 0.5
    assert spectrum("linear", 0.0, 1.0, 2.0, 4.0, x).mass_at_zero.item() == 0.75
    below = spectrum("linear", 1.0, 1.0, 0.5, 2.0, x)
    assert below.mass_at_zero.item() == 0.75
    assert abs(below.mass.item() - 1) < 1e-6


def test_outlier_of_the_mean_feature():
    d, r, alpha = 900, 2.5, 3.0
    x = np.geomspace(0.5, 3, 2001)
    ds = spectrum("tanh", r, 1.0, alpha, 1.0, x)
    second, top = eigenvalues("tanh", r, 1.0, alpha, 1.0, d, seed=1)[-2:]
    assert top / d == pytest.approx(ds.outlier_over_d.item(), rel=0.05)
    assert np.isnan(ds.outliers.values).all()  # the next is at the edge of the bulk: few lie beyond
    beyond = np.trapezoid(np.where(x > second, ds.density.values, 0), x) * d
    assert beyond < 6
    assert second < 1.03 * ds.edges.values.max()


def test_outlier_beside_the_bulk():
    # cos, n = 60 d, p = 20 d: one eigenvalue beyond the edge of the bulk, below that of the mean
    ds = spectrum("cos", 0.5, 1.0, 60.0, 20.0, 1.0)
    (found,) = ds.outliers.values
    edge = ds.edges.values.max()
    draws = np.array([eigenvalues("cos", 0.5, 1.0, 60.0, 20.0, 40, seed)[-3:] for seed in range(6)])
    third, second, _ = draws.T
    error = second.std(ddof=1) / np.sqrt(len(second))
    assert abs(second.mean() - found) < 4 * error + 0.02 * found
    assert second.mean() > edge
    assert third.mean() < 1.06 * edge


def test_one_step_and_shapes():
    model = srfx.OneStep(eta=[0.5, 2.0], alpha0=3.0)
    ds = srfx.feature_spectrum(model, alpha=[[2.0], [3.0]], x=np.linspace(0.1, 2, 7))
    assert ds.density.dims == ("alpha", "eta", "x")
    assert ds.density.shape == (2, 2, 7)
    spiked = srfx.OneStep(eta=2.0, alpha0=3.0).equivalent()
    alone = srfx.feature_spectrum(spiked, 3.0, np.linspace(0.1, 2, 7))
    np.testing.assert_allclose(alone.density, ds.density[1, 1], rtol=1e-9)


def test_order_of_x_does_not_matter():
    x = np.geomspace(0.02, 6, 50)
    forward = spectrum("tanh", 0.9, 1.0, 2.0, 1.0, x).density.values
    backward = spectrum("tanh", 0.9, 1.0, 2.0, 1.0, x[::-1]).density.values[::-1]
    np.testing.assert_array_equal(forward, backward)
    alone = [spectrum("tanh", 0.9, 1.0, 2.0, 1.0, v).density.item() for v in x[::10]]
    np.testing.assert_allclose(forward[::10], alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("x", "message"), [(-1.0, "x must be finite and > 0"), ([], "x must be")])
def test_refusals(x, message):
    with pytest.raises(ValueError, match=message):
        srfx.feature_spectrum(srfx.SpikedRF(), 1.0, x)
    with pytest.raises(NotImplementedError, match="readout"):
        srfx.feature_spectrum(srfx.SpikedRF(readout=(1.0, 2.0)), 1.0, 1.0)
