"""The spectrum of the features: against simulated matrices, closed forms and moments."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import trapezoid

import srfx

FUNCTIONS = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "cos": np.cos,
    "sign": np.sign,
    "abs": np.abs,
}


def eigenvalues(activation, r, c, alpha, beta, d, seed):
    """Of Phi^T Phi/p for one draw of the spiked random features, in plain NumPy.

    r and c: one number, or one for each neuron.
    """
    rng = np.random.default_rng(seed)
    p = round(beta * d)
    w = rng.standard_normal((p, d))
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    v = rng.standard_normal(d)
    v *= np.sqrt(d) / np.linalg.norm(v)
    w = np.sqrt(c) * w + r * v / np.sqrt(d)
    return eigenvalues_of(activation, w, round(alpha * d), rng)


def eigenvalues_of(activation, w, n, rng):
    p, d = w.shape
    phi = FUNCTIONS[activation](rng.standard_normal((n, d)) @ w.T)
    return np.linalg.eigvalsh(phi.T @ phi / p if n >= p else phi @ phi.T / p)


def assert_distribution(ds, seen, x, p, outliers):
    """Compare the mass of each fifth of the support; counts fluctuate by order one."""
    assert (ds.status == 0).all()
    assert (ds.density >= 0).all()
    assert abs(ds.mass.item() - 1) < 1e-6
    assert ds.first_moment.item() == pytest.approx(ds.expected_first_moment.item(), rel=1e-6)
    edges = ds.edges.values
    parts = np.quantile(seen, [0.2, 0.4, 0.6, 0.8])
    density = ds.density.values
    cumulative = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(x))])
    counted = np.array([(seen <= q).sum() for q in parts])
    np.testing.assert_allclose(counted, np.interp(parts, x, cumulative) * p, atol=5)
    inside = (seen > edges[0] - 0.02 * edges[-1]) & (seen < edges[-1] * 1.02)
    assert (~inside).sum() <= outliers


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
    if alpha < beta:  # the eigenvalues seen are those of the n x n matrix
        seen = seen[round(alpha * d) - round(min(alpha, 1, beta) * d) :]
    assert_distribution(ds, seen, x, round(beta * d), outliers=3)


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


@pytest.mark.parametrize(
    ("model", "bulk"),
    [
        (srfx.SpikedRF("tanh", r=1.5, c=1.3, beta=1.5), "isotropic"),
        (srfx.SpikedRF("erf", r=1.7, c=1.5, beta=1.5, readout=(0.9, 0.5)), "isotropic"),
        (srfx.OneStep("tanh", "sin", eta=2, alpha0=1.0, beta=1.5), "one_step"),
    ],
)
def test_thin_tail_of_few_samples(model, bulk):
    # n < p: the density reaches down to where no simulation has eigenvalues
    x = np.geomspace(1e-7, 20, 3001)
    ds = srfx.feature_spectrum(model, 0.6, x, bulk=bulk)
    assert (ds.status == 0).all()
    assert abs(ds.mass.item() - 1) < 1e-6
    assert ds.mass_at_zero.item() == pytest.approx(0.6)
    assert ds.first_moment.item() == pytest.approx(ds.expected_first_moment.item(), rel=1e-5)
    assert np.isnan(ds.outliers.values).all()
    density = ds.density.values
    below = np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(x))
    assert 0 < np.interp(1e-3, x[1:], below) < 0.02
    if isinstance(model, srfx.SpikedRF) and len(model.readout) == 1:
        # the few samples of large |k| that the tail is made of fluctuate
        d, at = 800, np.interp([0.008, 0.02, 0.04, 0.2], below, x[1:])
        seen = [eigenvalues(model.activation, model.r, model.c, 0.6, 1.5, d, s) for s in range(8)]
        counted = np.array([np.searchsorted(values, at) for values in seen])
        error = counted.std(axis=0, ddof=1) / np.sqrt(8)
        off = np.interp(at, x[1:], below) * 1.5 * d - counted.mean(axis=0)
        assert (np.abs(off) < 3 * error + 0.5).all(), (off, error)


def test_outlier_of_the_mean_feature():
    d, r, alpha = 900, 2.5, 3.0
    x = np.geomspace(0.5, 3, 2001)
    ds = spectrum("tanh", r, 1.0, alpha, 1.0, x)
    second, top = eigenvalues("tanh", r, 1.0, alpha, 1.0, d, seed=1)[-2:]
    assert top / d == pytest.approx(ds.outlier_over_d.item(), rel=0.05)
    assert np.isnan(ds.outliers.values).all()  # the next is at the edge of the bulk: few lie beyond
    beyond = trapezoid(np.where(x > second, ds.density.values, 0), x) * d
    assert beyond < 6
    assert second < 1.03 * ds.edges.values.max()


def test_outlier_beside_the_bulk():
    # cos, n = 60 d, p = 20 d: one eigenvalue beyond the edge of the bulk, below that of the mean
    ds = spectrum("cos", 0.5, 1.0, 60.0, 20.0, 1.0)
    (found,) = ds.outliers.values
    edge = ds.edges.values.max()
    draws = np.array([largest("cos", 0.5, 1.0, 60.0, 20.0, 40, seed) for seed in range(6)])
    third, second, _ = draws.T
    error = second.std(ddof=1) / np.sqrt(len(second))
    assert abs(second.mean() - found) < 4 * error + 0.02 * found
    assert second.mean() > edge
    assert third.mean() < 1.06 * edge


def assert_in_gap(ds, draws):
    """One eigenvalue of each draw within the gap around the outlier, there on average."""
    outliers = ds.outliers.values
    (found,) = outliers[np.isfinite(outliers)]
    edges = ds.edges.values
    below, above = edges[edges < found].max(), edges[edges > found].min()
    assert 1.1 * below < found < above / 1.1  # well inside
    low, high = np.sqrt(below * found), np.sqrt(found * above)  # the bulk's own edges fluctuate
    inside = [seen[(seen > low) & (seen < high)] for seen in draws]
    assert [len(values) for values in inside] == [1] * len(draws)
    values = np.concatenate(inside)
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean() - found) < 4 * error + 0.02 * found, (found, values)


@pytest.mark.parametrize(
    ("activation", "readout", "r"), [("tanh", (-1.0, 1.0), 1.0), ("abs", (-1.0, 1.0), 2.0)]
)
def test_outlier_of_groups(activation, readout, r):
    """In the gap below what the directions of the inputs make of the features at n, p >> d."""
    d, alpha, beta = 120, 20.0, 8.0
    ds = srfx.feature_spectrum(srfx.SpikedRF(activation, r=r, beta=beta, readout=readout), alpha, 1)
    a = np.resize(readout, round(beta * d))[:, np.newaxis]
    draws = [eigenvalues(activation, r * a, 1.0, alpha, beta, d, seed) for seed in range(10)]
    assert_in_gap(ds, draws)


def test_outlier_of_the_actual_step():
    d, alpha, beta = 300, 10.0, 3.0
    model = srfx.OneStep("tanh", "sin", eta=3.0, alpha0=4.0, beta=beta)
    ds = srfx.feature_spectrum(model, alpha, 1.0, bulk="one_step")
    draws, given = [], []
    for seed in range(6):
        w, v, theta = srfx.simulation.sample_weights(model, d=d, seed=seed)
        draws.append(eigenvalues_of("tanh", w, round(alpha * d), np.random.default_rng(seed)))
        bulk = srfx.EmpiricalBulk.from_weights(w, v, theta)
        own = srfx.feature_spectrum(model, alpha, 1.0, bulk=bulk)
        given.append(own.outliers.values[np.isfinite(own.outliers.values)])
    assert_in_gap(ds, draws)
    found = ds.outliers.values[np.isfinite(ds.outliers.values)]
    assert [len(values) for values in given] == [1] * len(draws)
    np.testing.assert_allclose(np.mean(given), found, rtol=0.05)


def largest(activation, r, c, alpha, beta, d, seed):
    """The three largest eigenvalues, which need no full decomposition."""
    eigsh = pytest.importorskip("scipy.sparse.linalg").eigsh
    rng = np.random.default_rng(seed)
    n, p = round(alpha * d), round(beta * d)
    w = rng.standard_normal((p, d))
    w *= np.sqrt(c) / np.linalg.norm(w, axis=1, keepdims=True)
    w[:, 0] += r
    phi = FUNCTIONS[activation](rng.standard_normal((n, d)) @ w.T)
    found = eigsh(
        phi.T @ phi / p, 3, which="LA", tol=1e-8, v0=np.ones(p), return_eigenvectors=False
    )
    return np.sort(found)


@pytest.mark.parametrize(
    ("activation", "readout", "r", "c", "alpha", "beta"),
    [
        ("tanh", (0.5, 1.5), 1.2, 1.3, 2.0, 1.0),
        ("relu", (-0.5, 0.5, 1.5), 0.8, 1.2, 1.5, 0.7),
    ],
)
def test_distribution_of_groups(activation, readout, r, c, alpha, beta):
    d = 800
    p = round(beta * d)
    rng = np.random.default_rng(1)
    a = np.resize(readout, p)[:, np.newaxis]
    seen = eigenvalues(activation, r * a, 1 + a * a * (c - 1), alpha, beta, d, seed=rng)
    counts = [np.mean(a == value) for value in readout]
    model = srfx.SpikedRF(
        activation, r=r, c=c, beta=beta, readout=readout, weights=tuple(np.array(counts))
    )
    edges = srfx.feature_spectrum(model, alpha, 1.0).edges.values
    x = np.linspace(edges[0], edges[-1], 2001)[1:-1]
    ds = srfx.feature_spectrum(model, alpha, x)
    assert_distribution(ds, seen, x, p, outliers=5)


def test_groups_that_are_one():
    x = np.geomspace(0.03, 2, 20)
    one = srfx.feature_spectrum(srfx.SpikedRF("tanh", r=0.8), 2.0, x)
    for readout in [(1.0, 1.0), (1.0, -1.0)]:
        two = srfx.feature_spectrum(srfx.SpikedRF("tanh", r=0.8, readout=readout), 2.0, x)
        np.testing.assert_allclose(two.density, one.density, rtol=1e-8)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_distribution_beside_two_spikes(activation):
    """Of groups whose spikes span a plane: eigenvalues, total mass and first moment."""
    d, alpha = 700, 2.0
    model = srfx.SpikedRF(
        activation,
        "sin",
        spikes=[[1.0, 0.3], [-0.4, 1.2]],
        variances=(1.1, 1.4),
        alignment=[[0.8, 0.1]],
    )
    w, _, _ = srfx.simulation.sample_weights(model, d=d, seed=3)
    seen = eigenvalues_of(activation, w, round(alpha * d), np.random.default_rng(3))
    edges = srfx.feature_spectrum(model, alpha, 1.0).edges.values
    x = np.geomspace(edges[0], edges[-1], 1001)[1:-1]
    ds = srfx.feature_spectrum(model, alpha, x)
    assert ds.mass.item() == pytest.approx(1, abs=1e-8)
    assert ds.first_moment.item() == pytest.approx(ds.expected_first_moment.item(), rel=1e-7)
    assert_distribution(ds, seen, x, d, outliers=5)


def test_spikes_nearly_along_one_line():
    """A further spike too weak to matter leaves the spectrum of one."""
    x = np.geomspace(0.03, 2, 12)
    fields = {"variances": (1.1, 1.4)}
    one = srfx.SpikedRF("tanh", "sin", spikes=[[0.5], [1.0]], alignment=[[0.5]], **fields)
    several = srfx.SpikedRF(
        "tanh", "sin", spikes=[[0.5, 0.0], [1.0, 1e-5]], alignment=[[0.5, 0.0]], **fields
    )
    expected = srfx.feature_spectrum(one, 2.0, x)
    found = srfx.feature_spectrum(several, 2.0, x)
    np.testing.assert_allclose(found.density, expected.density, rtol=1e-6, atol=1e-7)
    assert found.outlier_over_d.item() == pytest.approx(expected.outlier_over_d.item(), rel=1e-6)


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
@pytest.mark.parametrize(
    ("activation", "target", "eta", "alpha0", "labels"),
    [
        ("tanh", "sin", 3.0, 0.5, "real"),
        ("relu", "tanh", 2.0, 1.0, "real"),  # the other path of the bulk
        ("tanh", "sin", 2.0, 0.5, "sign"),
    ],
)
def test_distribution_of_the_actual_step(activation, target, eta, alpha0, labels):
    # the numbers of eigenvalues below nine quantiles, over networks; the isotropic bulk is off
    d, alpha = 800, 2.0
    model = srfx.OneStep(activation, target, eta=eta, alpha0=alpha0, labels=labels)
    edges = srfx.feature_spectrum(model, alpha, 1.0, bulk="one_step").edges.values
    x = np.geomspace(edges[0] / 2, 1.5 * edges[-1], 801)

    def counts(ds, parts):
        assert (ds.status == 0).all()
        assert abs(ds.mass.item() - 1) < 1e-8
        assert ds.first_moment.item() == pytest.approx(ds.expected_first_moment.item(), rel=1e-8)
        density = ds.density.values
        return np.interp(
            parts, x[1:], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(x)) * d
        )

    typical = {b: srfx.feature_spectrum(model, alpha, x, bulk=b) for b in ("one_step", "isotropic")}
    differences = {"one_step": [], "isotropic": [], "given": []}
    for seed in range(4):
        w, v, theta = srfx.simulation.sample_weights(model, d=d, seed=seed)
        seen = eigenvalues_of(activation, w, round(alpha * d), np.random.default_rng(seed))
        assert ((seen < 0.9 * edges[0]) | (seen > 1.1 * edges[-1])).sum() <= 1  # that of the mean
        parts = np.quantile(seen, np.linspace(0.1, 0.9, 9))
        counted = np.searchsorted(seen, parts, side="right")
        bulk = srfx.EmpiricalBulk.from_weights(w, v, theta)
        given = srfx.feature_spectrum(model, alpha, x, bulk=bulk)
        assert [given[key].item() for key in ("r", "c")] == [bulk.r, bulk.c]
        for name, ds in (typical | {"given": given}).items():
            differences[name].append(counts(ds, parts) - counted)
    for name, rows in differences.items():
        off = np.abs(np.mean(rows, axis=0)).max()
        error = np.std(rows, axis=0, ddof=1).max() / 2
        assert (off < 3 * error + 1) == (name != "isotropic"), (name, off, error)


def test_a_step_that_is_none():
    x = np.geomspace(0.03, 2, 20)
    still = srfx.feature_spectrum(srfx.OneStep(eta=0), 2.0, x)
    np.testing.assert_allclose(
        srfx.feature_spectrum(srfx.OneStep(eta=0), 2.0, x, bulk="one_step").density,
        still.density,
        rtol=1e-8,
    )


def test_one_step_against_the_reference():
    pytest.importorskip("scipy")
    from srfx import reference

    x = np.geomspace(0.05, 1.5, 5)
    model = srfx.SpikedRF("tanh", "sin", r=0.9, c=1.2, beta=1.0)
    np.testing.assert_allclose(
        srfx.feature_spectrum(model, 2.0, x).density,
        reference.feature_spectrum(model, 2.0, x),
        rtol=1e-6,
    )


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
    groups = srfx.OneStep(readout=(1.0, 2.0))
    with pytest.raises(NotImplementedError, match="bulk='isotropic' only; got readout"):
        srfx.feature_spectrum(groups, 1.0, 1.0, bulk="one_step")
    with pytest.raises(ValueError, match="bulk='one_step' needs an"):
        srfx.feature_spectrum(srfx.SpikedRF(), 1.0, 1.0, bulk="one_step")
    with pytest.raises(ValueError, match="bulk must be one of"):
        srfx.feature_spectrum(srfx.SpikedRF(), 1.0, 1.0, bulk="onestep")
    w = np.random.default_rng(0).standard_normal((20, 30)) / 5
    bulk = srfx.EmpiricalBulk.from_weights(w, np.ones(30), np.arange(30.0))
    with pytest.raises(ValueError, match="beta must be that of the weights"):
        srfx.feature_spectrum(srfx.SpikedRF(), 1.0, 1.0, bulk=bulk)
