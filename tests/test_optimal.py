"""Optima and thresholds: against fine scans, and against what they are defined by."""

from __future__ import annotations

import numpy as np
import pytest

import srfx

LAM = {"lam": (1e-6, 1e2)}


def scanned(f, low, high):
    """Minimum of f on a range: a fine scan, zoomed in on with a parabola through the best three."""
    x = np.linspace(np.log(low), np.log(high), 4001)
    for _ in range(3):
        values = f(np.exp(x))
        i = int(np.clip(values.argmin(), 1, x.size - 2))
        x = np.linspace(x[i - 1], x[i + 1], 201)
    values = f(np.exp(x))
    a, b, _ = np.polyfit(x - x[100], values, 2)
    return np.exp(x[100] - b / (2 * a)), values.min()


def test_optimal_lam_agrees_with_a_scan():
    alpha = np.array([0.4, 1.0, 2.5])
    model = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=0.7, noise=[[0.05], [0.5]])
    best = srfx.optimal(model, over=LAM, alpha=alpha)
    assert best.test_error.dims == ("noise", "alpha")
    assert (best.status == 0).all()
    for i, noise in enumerate((0.05, 0.5)):
        for j, a in enumerate(alpha):
            one = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=0.7, noise=noise)
            lam, error = scanned(lambda x, m=one, a=a: srfx.solve(m, a, x).test_error, 1e-4, 1e2)
            assert best.lam[i, j].item() == pytest.approx(lam, rel=1e-4)  # a scan sees no more
            assert best.test_error[i, j].item() == pytest.approx(error, rel=1e-12)
            assert best.test_error[i, j].item() <= error * (1 + 1e-13)
            slope = srfx.solve(one, a, best.lam[i, j].item()).gradient("lam")
            assert abs(slope * best.lam[i, j].item()) < 1e-8 * error


@pytest.mark.parametrize("name", ["r", "eta", "alpha0"])
def test_other_parameters(name):
    fields = {"r": {"gamma": 0.9}, "eta": {"alpha0": 2.0}, "alpha0": {"eta": 2.0}}[name]
    kind = srfx.SpikedRF if name == "r" else srfx.OneStep
    best = srfx.optimal(kind(**fields), over={name: (0.05, 20.0)}, alpha=2.0, lam=0.1)

    def error(x):
        return srfx.solve(kind(**fields, **{name: x}), 2.0, 0.1).test_error

    fine = error(np.geomspace(0.05, 20, 3001))
    assert best.status.item() == 0
    assert best.test_error.item() <= fine.min() * (1 + 1e-12)
    assert best.test_error.item() == pytest.approx(fine.min(), rel=1e-5)
    assert best[f"{name}_bound"].item() == {"alpha0": 1}.get(name, 0)


def test_several_local_minima():
    model = srfx.SpikedRF("tanh", "sin", gamma=0.9, noise=0.1, beta=1.0)
    best = srfx.optimal(model, over={"r": (-8.0, 8.0)}, alpha=3.0, lam=0.1)
    fine = srfx.solve(
        srfx.SpikedRF("tanh", "sin", gamma=0.9, noise=0.1, r=np.linspace(-8, 8, 801)), 3.0, 0.1
    )
    assert best.n_minima.item() >= 2  # r and -r are the same for an odd activation
    assert best.test_error.item() <= fine.test_error.min() * (1 + 1e-12)


def test_joint_optimum():
    over = {"lam": (1e-5, 1e2), "eta": (0.05, 10.0)}
    model = srfx.OneStep(alpha0=2.0, noise=0.2)
    best = srfx.optimal(model, over=over, alpha=[0.7, 2.0])
    assert (best.status == 0).all()
    for i, alpha in enumerate((0.7, 2.0)):
        eta = np.geomspace(0.05, 10, 120)[:, None]
        scan = srfx.solve(
            srfx.OneStep(alpha0=2.0, noise=0.2, eta=eta), alpha, np.geomspace(1e-5, 1e2, 300)
        )
        assert best.test_error[i].item() <= scan.test_error.min() * (1 + 1e-12)
        assert best.test_error[i].item() == pytest.approx(scan.test_error.min(), rel=1e-3)
        at = srfx.solve(
            srfx.OneStep(alpha0=2.0, noise=0.2, eta=best.eta[i].item()), alpha, best.lam[i].item()
        )
        if best.lam_bound[i] == 0:
            assert abs(at.gradient("lam") * best.lam[i].item()) < 1e-6 * at.test_error
        if best.eta_bound[i] == 0:
            assert abs(at.gradient("eta") * best.eta[i].item()) < 1e-6 * at.test_error


def test_bounds_and_threads():
    model = srfx.SpikedRF(noise=np.linspace(0, 1, 5))
    narrow = srfx.optimal(model, over={"lam": (50.0, 100.0)}, alpha=2.0)
    assert narrow.lam_bound.values.tolist() == [-1, 1, 1, 1, 1]
    assert narrow.lam.values.tolist() == [50.0, 100.0, 100.0, 100.0, 100.0]
    one = srfx.optimal(model, over=LAM, alpha=2.0, n_threads=1)
    two = srfx.optimal(model, over=LAM, alpha=2.0, n_threads=2)
    np.testing.assert_array_equal(one.lam, two.lam)


def test_groups_by_golden_section():
    model = srfx.SpikedRF("tanh", "sin", readout=(0.5, 1.5), noise=0.2)
    best = srfx.optimal(model, over={"lam": (1e-3, 10.0)}, alpha=1.5)
    fine = srfx.solve(model, 1.5, np.geomspace(1e-3, 10, 400)).test_error
    assert best.test_error.item() <= fine.min() * (1 + 1e-11)


def test_thresholds():
    ds = srfx.thresholds(srfx.SpikedRF("linear", beta=[0.5, 2.0]))
    assert ds.interpolation.values.tolist() == [0.5, 1.0]
    model = srfx.SpikedRF("tanh", "sin", r=0.5, gamma=0.8, noise=0.2, beta=[0.6, 1.7])
    ds = srfx.thresholds(model, lam=1e-4)
    alpha = np.linspace(0.9, 1.1, 4001)[:, None] * model.beta
    fine = srfx.solve(model, alpha, 1e-4).test_error
    np.testing.assert_allclose(
        ds.peak, np.take_along_axis(alpha, fine.argmax(0)[None], 0)[0], rtol=2e-4
    )
    np.testing.assert_allclose(ds.peak_error, fine.max(0), rtol=1e-6)
    assert np.isnan(srfx.thresholds(srfx.SpikedRF(r=0, noise=0), lam=100.0).peak)


def test_crossing_of_the_linear_floor():
    model = srfx.OneStep("tanh", "sin", eta=[2.0, 3.0, 4.0])
    floor = srfx.linear_floor("sin")
    ds = srfx.thresholds(model, alpha=2.0, over=LAM, crossing={"alpha0": (0.05, 20.0)})
    assert (ds.below == 1).all()
    for eta, alpha0 in zip(model.eta, ds.alpha0.values, strict=True):
        best = srfx.optimal(srfx.OneStep(eta=float(eta), alpha0=float(alpha0)), over=LAM, alpha=2.0)
        assert best.test_error.item() == pytest.approx(floor, rel=1e-9)
    stepped = srfx.OneStep(eta=model.eta, alpha0=20.0)
    ds = srfx.thresholds(stepped, lam=0.1, crossing={"alpha": (0.05, 20.0)})
    assert np.isfinite(ds.alpha.values).any()
    assert (np.isfinite(ds.alpha.values) == (ds.n_crossings.values > 0)).all()
    for eta, alpha in zip(model.eta, ds.alpha.values, strict=True):
        if np.isnan(alpha):  # never crossed
            continue
        error = srfx.solve(srfx.OneStep(eta=float(eta), alpha0=20.0), float(alpha), 0.1).test_error
        assert error == pytest.approx(floor, rel=1e-9)
    none = srfx.thresholds(srfx.SpikedRF(r=0), alpha=1.0, lam=0.1, crossing={"beta": (0.5, 2.0)})
    assert np.isnan(none.beta)
    assert none.n_crossings == 0


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"lamb": (1, 2)}, "did you mean 'lam'"),
        ({"lam": (2, 1)}, "lowest < highest"),
        ({"lam": (1, 1)}, "lowest < highest"),
        ({"lam": (0, 1)}, "> 0 only"),
        ({"lam": (1e-3, np.inf)}, "finite"),
        ({"lam": ()}, "pair"),
        ({}, "at least one of"),
    ],
)
def test_refused_ranges(over, message):
    with pytest.raises(ValueError, match=message):
        srfx.optimal(srfx.SpikedRF(), over=over, alpha=1.0)


def test_refused_arguments():
    with pytest.raises(TypeError, match="alpha must be given"):
        srfx.optimal(srfx.SpikedRF(), over=LAM)
    with pytest.raises(ValueError, match="lam must not be given"):
        srfx.optimal(srfx.SpikedRF(), over=LAM, alpha=1.0, lam=0.1)
    with pytest.raises(ValueError, match="gamma must be between -1 and 1"):
        srfx.thresholds(srfx.SpikedRF(), alpha=1.0, lam=0.1, crossing={"gamma": (0.5, 1.5)})
    with pytest.raises(TypeError, match="over must map"):
        srfx.optimal(srfx.SpikedRF(), over=[("lam", 1)], alpha=1.0)
