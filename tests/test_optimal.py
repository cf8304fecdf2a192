"""Optima and thresholds: against fine scans, and against what they are defined by."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import srfx
from srfx import reference
from srfx.models import MultiStep

LAM = {"lam": (1e-6, 1e2)}


def stationary(f, y, h=0.05):
    """Root of the derivative of f near y: differences of eighth order, and Newton's method."""
    first = np.array([4 / 5, -1 / 5, 4 / 105, -1 / 280])
    second = np.array([8 / 5, -1 / 5, 8 / 315, -1 / 560])
    for _ in range(4):
        here, up, down = np.split(f(y + h * np.array([0, 1, 2, 3, 4, -1, -2, -3, -4])), [1, 5])
        y -= h * (first @ (up - down)) / (second @ (up + down - 2 * here))
    return y


def scanned(f, low, high, n=161):
    """Minimum of f of a logarithm: a scan for the cell, then the root of the derivative."""
    y = np.linspace(np.log(low), np.log(high), n)
    values = f(y)
    i = int(values.argmin())
    assert 0 < i < n - 1
    found = stationary(f, y[i])
    assert y[i - 1] < found < y[i + 1]
    return found, f(np.array([found]))[0]


CASES = [
    ("tanh", "sin", 0.9, 1.0, 0.7, 0.5, 1.0, 1.0, None),
    ("tanh", "sin", 0.9, 1.0, 0.7, 0.05, 2.5, 0.5, None),
    ("relu", "relu", 1.5, 1.3, 0.9, 0.3, 1.4, 2.0, None),
    ("erf", "tanh", 3.0, 0.8, 1.0, 0.2, 0.4, 1.0, 400.0),
    ("softplus", "sign", 0.3, 1.0, 0.0, 0.1, 6.0, 1.0, 1000.0),
]


@pytest.mark.parametrize("case", CASES)
def test_optimal_lam_agrees_with_a_scan_of_the_reference(case):
    sigma, target, r, c, gamma, noise, alpha, beta, d = case

    def f(y):
        point = {"r": r, "c": c, "gamma": gamma, "noise": noise, "alpha": alpha, "beta": beta}
        return np.asarray(
            reference.solve(sigma, target, lam=np.exp(y), d=d, **point).test_error, dtype=float
        )

    y, error = scanned(f, 1e-5, 1e3, 41)
    model = srfx.SpikedRF(sigma, target, r=r, c=c, gamma=gamma, noise=noise, beta=beta)
    best = srfx.optimal(model, over={"lam": (1e-6, 1e4)}, alpha=alpha, d=d)
    assert best.status == 0
    assert best.n_failed == 0
    assert best.lam_bound == 0
    assert best.lam.item() == pytest.approx(np.exp(y), rel=1e-6)
    assert best.test_error.item() == pytest.approx(error, rel=1e-9)


def test_optima_of_a_step_agree_with_scans_of_the_reference():
    """eta and alpha0 through the reference's own map, at given lam and at the best lam."""
    noise, alpha, beta = 0.3, 2.5, 1.0

    def error(eta, alpha0, lam):
        r, c, gamma = reference.equivalent("tanh", "sin", eta=eta, alpha0=alpha0, noise=noise)
        point = {"r": r, "c": c, "gamma": gamma, "noise": noise, "alpha": alpha, "beta": beta}
        return np.asarray(reference.solve("tanh", "sin", lam=lam, **point).test_error, dtype=float)

    def along_eta(y, lam):
        return np.array([error(eta, 2.0, lam) for eta in np.exp(y)])

    y, _ = scanned(lambda y: along_eta(y, 0.1), 0.05, 20, 21)
    model = srfx.OneStep("tanh", "sin", alpha0=2.0, noise=noise, beta=beta)
    best = srfx.optimal(model, over={"eta": (0.05, 20.0)}, alpha=alpha, lam=0.1)
    assert best.status == 0
    assert best.eta.item() == pytest.approx(np.exp(y), rel=1e-6)
    # Both: the reference's derivatives in either vanish.
    best = srfx.optimal(model, over={"lam": (1e-5, 1e2), "eta": (0.05, 20.0)}, alpha=alpha)
    assert best.status == 0
    lam, eta = best.lam.item(), best.eta.item()
    y = stationary(lambda y: along_eta(y, lam), np.log(eta))
    assert eta == pytest.approx(np.exp(y), rel=1e-6)
    y = stationary(lambda y: error(eta, 2.0, np.exp(y)), np.log(lam))
    assert lam == pytest.approx(np.exp(y), rel=1e-6)


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
@pytest.mark.parametrize("name", ["lam", "eta", "alpha0", "r"])
def test_every_activation_and_sign(name):
    """No place of a fine scan is better, whatever the functions; the slope vanishes inside."""
    ranges = {"lam": (1e-5, 1e3), "eta": (-4.0, 4.0), "alpha0": (0.1, 50.0), "r": (-5.0, 5.0)}
    low, high = ranges[name]
    log = low > 0
    for i, (sigma, target) in enumerate(
        [("relu", "tanh"), ("tanh", "relu"), ("gelu", "sign"), ("cos", "hermite2"), ("erf", "abs")]
    ):
        noise, alpha, beta = 0.1 + 0.2 * i, 0.6 + 0.7 * i, 1.6 - 0.3 * i
        fields = {"noise": noise, "beta": beta, "readout": (1.0 if i % 2 else -0.8,)}
        if name in ("eta", "alpha0"):
            base = srfx.OneStep(sigma, target, eta=1.5, alpha0=1.7, **fields)
        else:
            base = srfx.SpikedRF(sigma, target, r=0.8, c=1.4, gamma=0.6, **fields)

        def solve(x, base=base, alpha=alpha):
            if name == "lam":
                return srfx.solve(base, alpha, x)
            return srfx.solve(dataclasses.replace(base, **{name: x}), alpha, 0.2)

        given = {} if name == "lam" else {"lam": 0.2}
        best = srfx.optimal(base, over={name: (low, high)}, alpha=alpha, **given)
        assert best.status == 0, (sigma, target)
        x = np.geomspace(low, high, 400) if log else np.linspace(low, high, 400)
        assert best.test_error.item() <= solve(x).test_error.min() * (1 + 1e-11), (sigma, target)
        found = best[name].item()
        if best[f"{name}_bound"] == 0:
            sol = solve(found)
            scale = found if log else 1.0
            assert abs(sol.gradient(name) * scale) < 1e-8 * sol.test_error, (sigma, target)
        else:
            assert found in (low, high)


def test_a_set_does_not_depend_on_company():
    alpha, noise = np.geomspace(0.3, 5, 40), np.array([[0.1], [0.4]])
    model = srfx.OneStep(eta=1.5, alpha0=3.0, noise=noise)
    for over, given in (
        (LAM, {}),
        ({"eta": (0.1, 10.0)}, {"lam": 0.1}),
        ({"eta": (0.1, 10.0)} | LAM, {}),
    ):
        n = slice(None) if over is LAM else slice(0, 40, 13)
        best = srfx.optimal(model, over, alpha=alpha[n], **given, n_threads=1)
        again = srfx.optimal(model, over, alpha=alpha[n], **given, n_threads=2)
        assert best.identical(again)
        alone = srfx.optimal(
            srfx.OneStep(eta=1.5, alpha0=3.0, noise=0.4), over, alpha=alpha[n][2], **given
        )
        for name in over:
            assert alone[name].item() == best[name].values[1, 2]


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
def test_failures_are_reported():
    """Where solves fail the grid says so, and nothing is returned that did not converge."""
    model = srfx.OneStep("relu", "sin", alpha0=0.5, noise=0.1)
    best = srfx.optimal(model, over={"eta": (1e150, 1e200)}, alpha=1.0, lam=0.1)
    assert best.status != 0
    assert best.n_failed > 0
    assert np.isnan(best.eta)
    assert np.isnan(best.test_error)
    assert best.eta_bound == 0


def test_a_jump_is_no_optimum():
    """At d = inf the error falls towards r = 0 and jumps there: the lowest place seen is given."""
    model = srfx.SpikedRF("hermite2", "hermite2", gamma=1.0, noise=0.1)
    best = srfx.optimal(model, {"r": (-4.0, 4.0)}, alpha=1.0, lam=0.01)
    r = np.array([0.0, 1e-9, 1e-4, *np.linspace(-4, 4, 401)])
    seen = srfx.solve(dataclasses.replace(model, r=r), 1.0, 0.01).test_error
    assert best.test_error.item() <= seen.min() * (1 + 1e-9)
    assert 0 < abs(best.r) < 1e-4
    assert seen[0] > 2 * seen[1]  # the jump


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


def test_two_minima_in_lam():
    """A weak and a strong penalty that are both locally best: the better is returned."""
    left, right = (9.6, 7.3, 0.1), (6.9, 3.35, 0.0)
    for (alpha, beta, noise), better in ((left, 0), (right, 1)):
        model = srfx.SpikedRF("tanh", "sign", r=1.0, c=0.3, beta=beta, noise=noise)
        lam = np.geomspace(1e-4, 1e3, 2001)
        e = srfx.solve(model, alpha, lam).test_error
        seen = lam[1:-1][(e[1:-1] < e[:-2]) & (e[1:-1] < e[2:])]
        assert seen.size == 2
        assert seen[1] > 50 * seen[0]
        best = srfx.optimal(model, {"lam": (1e-4, 1e3)}, alpha=alpha)
        assert best.n_minima == 2
        assert best.lam.item() == pytest.approx(seen[better], rel=0.01)
        assert best.test_error.item() <= e.min()
        ends = {0: (1e-4, 0.1), 1: (2.0, 1e3)}[1 - better]
        other = srfx.optimal(model, {"lam": ends}, alpha=alpha)
        assert other.lam.item() == pytest.approx(seen[1 - better], rel=0.01)
        assert other.test_error > best.test_error


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


def test_several_readout_values_and_parameters():
    """lam and the step together: slopes vanish, by differences of the solver."""
    model = srfx.OneStep("tanh", "sin", alpha0=3.0, noise=0.3, readout=(0.6, 1.4))
    over = {"lam": (1e-3, 1e2), "eta": (0.05, 10.0)}
    best = srfx.optimal(model, over, alpha=[1.0, 2.5], d=400)
    assert (best.status == 0).all()
    for i, alpha in enumerate((1.0, 2.5)):
        lam, eta = best.lam[i].item(), best.eta[i].item()

        def error(eta, lam, alpha=alpha):
            at = dataclasses.replace(model, eta=eta)
            return srfx.solve(at, alpha, lam, d=400).test_error

        y = stationary(lambda y, eta=eta: error(eta, np.exp(y)), np.log(lam))
        assert lam == pytest.approx(np.exp(y), rel=1e-5)
        y = stationary(lambda y, lam=lam: error(np.exp(y), lam), np.log(eta))
        assert eta == pytest.approx(np.exp(y), rel=1e-5)
        scan = error(np.geomspace(0.05, 10, 60)[:, None], np.geomspace(1e-3, 1e2, 60))
        assert best.test_error[i].item() <= scan.min()


def test_where_the_core_does_not_search():
    """Several readout values, the ridgeless limit, a kinked target nearly aligned: scans agree."""
    model = srfx.SpikedRF("tanh", "sin", readout=(0.5, 1.5), noise=0.2)
    best = srfx.optimal(model, over={"lam": (1e-3, 1e3)}, alpha=1.5, d=300)
    y, error = scanned(lambda y: srfx.solve(model, 1.5, np.exp(y), d=300).test_error, 1e-3, 1e3)
    assert best.lam.item() == pytest.approx(np.exp(y), rel=1e-7)
    assert best.test_error.item() == pytest.approx(error, rel=1e-11)

    def ridgeless(y):
        spiked = srfx.SpikedRF("tanh", "sin", gamma=0.9, noise=0.1, r=np.exp(y))
        return srfx.solve(spiked, 3.0, 0.0).test_error

    model = srfx.SpikedRF("tanh", "sin", gamma=0.9, noise=0.1)
    best = srfx.optimal(model, over={"r": (0.2, 8.0)}, alpha=3.0, lam=0)
    y, _ = scanned(ridgeless, 0.2, 8)
    assert best.r.item() == pytest.approx(np.exp(y), rel=1e-6)

    model = srfx.OneStep("tanh", "hardtanh", eta=8.0)
    best = srfx.optimal(model, over={"alpha0": (1.0, 1e10)}, alpha=2.0, lam=0.1)
    fine = srfx.solve(srfx.OneStep("tanh", "hardtanh", eta=8.0, alpha0=best.alpha0.item()), 2, 0.1)
    assert best.status == 0
    assert best.test_error.item() == fine.test_error


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
    assert (ds.status == 0).all()
    none = srfx.thresholds(srfx.SpikedRF(r=0, noise=0), lam=100.0)
    assert np.isnan(none.peak)
    assert none.status == 0  # it was looked for, and is not there


def test_crossing_of_the_linear_floor():
    model = srfx.OneStep("tanh", "sin", eta=[2.0, 3.0, 4.0])
    floor = srfx.linear_floor("sin")
    ds = srfx.thresholds(model, alpha=2.0, over=LAM, crossing={"alpha0": (0.05, 20.0)})
    assert (ds.below == 1).all()
    assert (ds.status == 0).all()
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
    assert none.status == 0
    failed = srfx.thresholds(srfx.SpikedRF(r=0.5), alpha=1.0, crossing={"lam": (1e-300, 1e-100)})
    assert failed.status != 0  # what cannot be solved is no statement about crossings
    assert np.isnan(failed.lam)


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


def test_the_best_lam_and_step_of_the_actual_network():
    best = srfx.optimal(
        srfx.OneStep("tanh", "sin", alpha0=1),
        {"lam": (1e-4, 10), "eta": (0.1, 10)},
        alpha=2,
        bulk="one_step",
    )
    eta = np.linspace(0.9, 1.1, 41)[:, None] * float(best.eta)
    lam = np.linspace(0.9, 1.1, 41) * float(best.lam)
    scan = srfx.solve(srfx.OneStep("tanh", "sin", alpha0=1, eta=eta), 2, lam, bulk="one_step")
    assert int(best.status) == 0
    assert scan.test_error.min() >= float(best.test_error) * (1 - 1e-12)
    assert scan.test_error.min() == pytest.approx(float(best.test_error), rel=1e-12)
    coarse = srfx.solve(
        srfx.OneStep("tanh", "sin", alpha0=1, eta=np.geomspace(0.1, 10, 40)[:, None]),
        2,
        np.geomspace(1e-4, 10, 40),
        bulk="one_step",
    )
    assert coarse.test_error.min() > float(best.test_error)


# --- several steps ---


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
def test_one_of_several_steps_is_a_step():
    over = {"eta": (0.1, 10), "lam": (1e-4, 10)}
    one = srfx.optimal(srfx.OneStep(alpha0=2), over, alpha=[1, 2])
    same = srfx.optimal(
        MultiStep(eta=(1,), alpha0=(2,)), {"eta1": over["eta"], "lam": over["lam"]}, alpha=[1, 2]
    )
    assert (same.status == 0).all()
    np.testing.assert_allclose(same.eta1, one.eta, rtol=1e-7)
    np.testing.assert_allclose(same.lam, one.lam, rtol=1e-7)
    np.testing.assert_allclose(same.test_error, one.test_error, rtol=1e-11)


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
def test_samples_are_split_between_two_steps():
    model = MultiStep("tanh", "sin", eta=(2, 2), alpha0=(1, 3))
    over = {"eta1": (0.5, 8), "eta2": (0.5, 8)}
    best = srfx.optimal(model, over, alpha=2, lam=0.1)
    assert best.status == 0
    assert (best.eta1_bound, best.eta2_bound) == (0, 0)
    found = np.array([best.eta1.item(), best.eta2.item()])
    for move in ([0.02, 0], [-0.02, 0], [0, 0.02], [0, -0.02]):
        near = MultiStep("tanh", "sin", eta=tuple(found * np.exp(move)), alpha0=(1, 3))
        assert srfx.solve(near, alpha=2, lam=0.1).test_error > best.test_error
    alone = srfx.optimal(model, {"alpha0_1": (0.1, 5)}, alpha=2, lam=0.1)
    assert alone.alpha0_1_bound == 1  # more samples are better


def test_parameters_of_several_steps_are_named():
    model = MultiStep("tanh", "sin", eta=(2, 2), alpha0=(1, 3))
    with pytest.raises(ValueError, match=r"'eta' .did you mean 'eta1'|'eta2'"):
        srfx.optimal(model, {"eta": (0.5, 8)}, alpha=2, lam=0.1)
    with pytest.raises(ValueError, match=r"alpha0_2.* must hold values > 0 only"):
        srfx.optimal(model, {"alpha0_2": (0, 8)}, alpha=2, lam=0.1)
    over = dict.fromkeys(("eta1", "eta2", "alpha0_1", "alpha0_2", "lam"), (0.5, 8))
    with pytest.raises(ValueError, match="at most 4 parameters"):
        srfx.optimal(model, over, alpha=2)
