"""The figures: points against the theory that claims them, files, style, bad input."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import xarray as xr

import srfx
from srfx import _core, cli, config, figures, reference
from srfx.figures import catalogue, jobs
from srfx.models import compiled

SMALL = {"progress": False, "n_threads": 1, "d": 60, "replicates": 2}


MANY = {"progress": False, "n_threads": 1, "d": 400, "replicates": 10}


#: What is left out of the quick figures here: their networks cost what their samples do.
FEWER = {
    "network": {"alpha0": (0.25, 1.0, 4.0, 16.0)},
    "steps": {"steps": (0, 2), "alpha": (1.0, 3.0), "replicates": 8},
    "directions": {"steps": (2,), "bins": 9, "replicates": 6},
    "classification": {"alpha": (1.0, 4.0), "replicates": 6},
}


@pytest.fixture(scope="module")
def quick():
    """The data of a figure at its quick size and with its own parameters, computed once."""
    done = {}

    def get(name):
        if name not in done:
            start = time.process_time()
            given = FEWER.get(name, {})
            done[name] = figures.compute(name, quick=True, progress=False, n_threads=1, **given)
            # under a minute on two cores
            assert time.process_time() - start < 120
        return done[name]

    return get


def theories(ds):
    """Theory at the points by kind; figure 1 has the one that claims them, in each network's t."""
    theory = ds.theory_at_simulated
    if "replicate" in theory.dims:
        return {ds.attrs["claims"]: theory.mean("replicate")}
    return {str(kind): theory.sel(kind=kind) for kind in theory.kind.values}


def allowance(ds):
    """What the theory may be off by, where the documentation admits it, and why.

    - Errors: 1 %, what the documentation claims for a network of d = 500 beside the standard error.
    - Spiked features, whose theory has a 1/d term: the square of that term besides, for the terms
      of order 1/d^2 that are left out (figure 4: 3 % where the 1/d term is 24 %). The limit of
      Gaussian readouts is not one of theirs (see `figures.readout`): 1 % alone.
    - The function learned: 0.01, where its amplitude is about 1: a few times 1/d.
    - Steps: 2.5 % after several, where the theory is verified to about 2 % (docs/accuracy.md).
    - Directions: 0.1, where the target's amplitude is 5: several groups of neurons have only the
      isotropic bulk, an approximation.
    - Network: 5 % at the one point outside of the range alpha0 >= 0.5 where the theory is verified
      and the step is large: ReLU, eta = 4, alpha0 = 0.25, 5 % off at d = 500 and 3.7 % at 1000.
    """
    theory = theories(ds)
    claimed = theory[ds.attrs["claims"]]
    if "bin" in claimed.dims:
        return xr.full_like(claimed, 0.01)
    if "bin1" in claimed.dims:
        return xr.full_like(claimed, 0.1)
    out = 0.01 * claimed
    if "limit" in theory:
        squared = (claimed - theory["limit"]) ** 2 / claimed
        if "readout" in squared.dims:
            squared = squared.where(squared.readout != "Gaussian", 0.0)
        out = out + squared
    if ds.attrs["figure"] == "steps":
        out = xr.where(ds.steps.isin(["no step", "1 step"]), out, 0.025 * claimed)
    if ds.attrs["figure"] == "network":
        worst = (ds.panel == "relu network, relu target, lam = 0.1") & (ds.eta == 4)
        worst = worst & (ds.alpha0_simulated == 0.25)
        assert worst.sum() == (1 if 0.25 in ds.alpha0_simulated and 4 in ds.eta else 0)
        out = xr.where(worst, 0.05 * claimed, out)
    return out


def scores(ds, *, kind=None, factor=1.0):
    """How far the points are from a theory beyond the allowance, in standard errors; its size."""
    expected = factor * theories(ds)[kind or ds.attrs["claims"]]
    count = ds.sizes["replicate"]
    error = ds.simulated.std("replicate", ddof=1) / np.sqrt(count)
    beyond = abs(ds.simulated.mean("replicate") - expected) - allowance(ds)
    z = beyond.clip(min=0) / error
    assert np.isfinite(z).all()
    return float((z**2).mean()), float(z.max())


#: Mean square and largest of the scores: what independent points without any allowance would have.
#: Those of a figure share networks and random numbers, and so fluctuate together.
#: Measured: 0.78 and 2.4 at most; the same numbers on every machine but for rounding.
LARGEST_MEAN_SQUARE, LARGEST = 1.0, 3.0


def lie_on_it(found):
    return found[0] < LARGEST_MEAN_SQUARE and found[1] < LARGEST


@pytest.mark.parametrize("name", ["1", "2", "4", "5", "readout", "network", "steps"])
def test_points_lie_within_their_error_bars_of_the_theory_that_claims_them(name, quick):
    ds = quick(name)
    spiked = name in ("4", "readout")
    own = "multi_step" if name == "steps" else "one_step"
    assert ds.attrs["claims"] == ("finite_d" if spiked else own)
    assert lie_on_it(scores(ds)), scores(ds)
    # a claim that can fail: by a wrong factor of 5 %, or of 12 % where the bars are 4 %
    for factor in (0.88, 1.12) if name == "readout" else (0.95, 1.05):
        assert scores(ds, factor=factor)[0] > 2 * LARGEST_MEAN_SQUARE, (factor, scores(ds))


def test_functions_of_two_directions_lie_on_the_theory(quick):
    ds = quick("directions")
    off = ds.simulated.mean("replicate") - ds.theory_at_simulated.mean("replicate")
    error = ds.simulated.std("replicate", ddof=1) / np.sqrt(ds.sizes["replicate"])
    inner = {"bin1": slice(2, -2), "bin2": slice(2, -2)}  # where the bins are full
    beyond = (abs(off) - 0.1).clip(min=0).isel(inner)
    assert float((beyond / error.isel(inner)).max()) < 4
    # two steps have bent what is linear in the second direction without them
    slopes = ds.theory.differentiate("t2").interp(t2=0)
    assert float(slopes.sel(t1=1.5, method="nearest")) > 0.5
    assert float(slopes.sel(t1=-1.5, method="nearest")) < -0.5


def test_classification_errors_lie_on_the_theory(quick):
    ds = quick("classification")
    assert list(ds.loss.values) == ["ridge", "logistic", "hinge"]
    off = ds.simulated.mean("replicate") - ds.theory_at_simulated
    error = ds.simulated.std("replicate", ddof=1) / np.sqrt(ds.sizes["replicate"])
    assert float(((abs(off) - 0.005).clip(min=0) / error).max()) < 4
    # a step helps every loss by more than that
    gain = ds.theory.sel(panel="no step") - ds.theory.sel(panel="one step")
    assert float(gain.min()) > 0.05


@pytest.mark.parametrize(
    ("name", "kind"), [("4", "limit"), ("readout", "limit"), ("network", "isotropic")]
)
def test_the_other_theory_does_not_explain_the_points(name, kind, quick):
    mean_square, largest = scores(quick(name), kind=kind)
    assert mean_square > 10 * LARGEST_MEAN_SQUARE
    assert largest > 3 * LARGEST


def test_bounds_of_several_readout_values(quick):
    ds = quick("readout")
    assert list(ds.readout.values) == ["{1}", "{1, 2}", "{1, 2, 3}", "Gaussian"]
    # three values do better than one at any alpha, and no simulation beats its bound
    assert (ds.simulated.mean("replicate") > ds.lower.fillna(0)).all()
    middle = ds.theory.sel(kind="finite_d").isel(panel=0)
    assert (middle.sel(readout="{1, 2, 3}") < middle.sel(readout="{1}")).all()
    # a Gaussian has no bound above zero, and no limit is drawn for it
    gaussian = srfx.SpikedRF("tanh", "sin", readout=srfx.readout_quantiles("gaussian", 16))
    assert srfx.bounds(gaussian).lower < 1e-12
    assert np.isnan(ds.lower.sel(readout="Gaussian"))
    assert ds.theory.sel(kind="limit").isnull().any("alpha").values.tolist() == [
        [False] * 3 + [True]
    ]


def test_the_function_learned_from_few_samples_is_not_that_of_an_isotropic_bulk():
    few = figures.compute("1", alpha0=(0.25,), eta=4.0, lam=0.1, **MANY)
    curves = few.theory.interp(t=few.t_simulated.mean("replicate"))
    mean = few.simulated.mean("replicate")
    off = {
        kind: float(abs(curves.sel(kind=kind) - mean).max()) for kind in ("isotropic", "one_step")
    }
    assert off["one_step"] < 0.5 * off["isotropic"], off


def test_eigenvalues_follow_the_spectral_density():
    ds = figures.compute("spectrum", **MANY | {"replicates": 3})
    log_x, width = np.log(ds.x.values), float(np.log(ds.bin[1] / ds.bin[0]))
    ends = np.log(ds.bin.values) + width / 2
    for i in range(2):
        # cumulative shares: eigenvalues are rigid, so that they follow to a few in p = 400
        curve = ds.theory.values[i]
        share = np.append(0, np.cumsum((curve[1:] + curve[:-1]) / 2 * np.diff(log_x)))
        expected = np.interp(ends, log_x, share)
        simulated = np.cumsum(ds.simulated.values[i].mean(0)) * width
        assert abs(simulated - expected).max() < 0.015
        assert share[-1] + float(ds.mass_at_zero[i]) == pytest.approx(1, abs=1e-3)
    # the step moves the density: the one before does not fit what comes after
    assert abs(ds.theory[0] - ds.theory[1]).max() > 0.02
    beyond = ds.eigenvalues.values > float(ds.x[-1])
    assert beyond.sum(-1).tolist() == [[0] * 3, [1] * 3]
    # that one where the theory has it, drawn and said
    outlier = float(ds.outlier[1])
    assert np.isnan(ds.outlier[0])
    model = srfx.OneStep("tanh", "tanh", eta=3, alpha0=20)
    assert outlier == 400 * float(srfx.feature_spectrum(model, 2, np.ones(1)).outlier_over_d)
    simulated = ds.eigenvalues.values[1, :, -1].mean()  # each scatters by a few per cent
    assert simulated == pytest.approx(outlier, rel=0.05)
    before, after = figures.draw(ds).axes
    assert [line.get_xdata()[0] for line in after.lines[1:]] == [
        outlier, ds.eigenvalues.values[1, 0, -1],
    ]  # fmt: skip
    assert [text.get_text() for text in after.texts] == [
        f"outlier:\ntheory {outlier:.0f}\nsimulated {simulated:.0f}"
    ]
    assert len(before.lines) == 1
    assert not before.texts
    assert after.get_xlim()[1] > outlier


def test_the_phase_diagram_is_at_the_best_penalty():
    ds = figures.compute("phase", alpha0=(1.0, 16.0), eta=(1.0, 4.0))
    grid = np.geomspace(1e-4, 1e2, 6001)
    for eta in (1.0, 4.0):
        for alpha0 in (1.0, 16.0):
            model = srfx.OneStep("tanh", "sin", eta=eta, alpha0=alpha0)
            error = srfx.solve(model, alpha=2, lam=grid, bulk="one_step").test_error
            at = ds.sel(eta=eta, alpha0=alpha0)
            assert float(at.test_error) == pytest.approx(error.min(), rel=1e-4)
            assert float(at.lam) == pytest.approx(grid[error.argmin()], rel=0.02)
            assert float(at.gain) == pytest.approx(srfx.linear_floor("sin") / error.min(), rel=1e-4)
    figures.draw(ds)


def test_the_boundary_of_the_phase_diagram_is_where_the_floor_is_crossed():
    """At the line, by the reference, the error at the best lam is the floor; beyond, less."""
    eta, alpha0 = (0.25, 2.0, 5.0), np.geomspace(0.5, 32, 5)
    ds = figures.compute("phase", alpha0=alpha0.tolist(), eta=eta, lam=(1e-2, 1e2))
    floor = srfx.linear_floor("sin")
    assert np.isnan(ds.boundary[0])  # too small a step
    assert (ds.boundary[1:] < 32).all()
    gain = ds.gain.values
    for i in (1, 2):
        line = ds.boundary.values[i]
        np.testing.assert_array_equal(gain[i] > 1, alpha0 > line)
        model = srfx.OneStep("tanh", "sin", eta=eta[i], alpha0=line)
        y = np.linspace(-2, 2, 9)  # log(lam): a polynomial through the errors has the minimum
        error = [reference.solve_one_step(model, 2.0, lam).test_error for lam in np.exp(y)]
        fit = np.polynomial.Polynomial.fit(y, np.log(error), 8)
        assert np.exp(fit(np.linspace(-2, 2, 5001)).min()) == pytest.approx(floor, rel=1e-5)
        # and with the isotropic bulk, by solve
        model = srfx.OneStep("tanh", "sin", eta=eta[i], alpha0=ds.boundary_isotropic.values[i])
        least = srfx.solve(model, 2.0, np.geomspace(0.05, 20, 6001)).test_error.min()
        assert least == pytest.approx(floor, rel=1e-6)
    (ax, _) = figures.draw(ds).axes
    for drawn, name in zip(ax.lines, ("boundary", "boundary_isotropic"), strict=True):
        np.testing.assert_array_equal(drawn.get_xdata(), ds[name])
        np.testing.assert_array_equal(drawn.get_ydata(), ds.eta)


def test_the_boundary_of_the_phase_diagram_reaches_its_frame():
    ds = figures.compute("phase", alpha0=(0.25, 64), eta=np.geomspace(0.7, 1, 5), lam=(1e-2, 1e2))
    boundary = ds.boundary.values
    assert np.isfinite(boundary).all()
    assert boundary[0] > 64 > boundary[-1]
    ax, _ = figures.draw(ds).axes
    assert ax.get_xlim() == (0.25, 64)
    assert ax.get_title().startswith("tanh network, sin target, ")


def test_bounds_of_figure_3():
    ds = figures.compute("3")
    t, weight = np.polynomial.hermite_e.hermegauss(80)
    weight /= weight.sum()
    for name in ("lower", "upper"):
        # at gamma = 1 the curve is all of the fit: its error is the bound itself
        curve = np.interp(t, ds.t, ds[name])
        inside = np.abs(t) <= 6
        error = (weight * (np.sin(t) - curve) ** 2)[inside].sum()
        bound = getattr(srfx.bounds(srfx.SpikedRF("tanh", "sin", r=0.9, gamma=1.0)), name)
        assert error == pytest.approx(bound, rel=1e-3)
        assert ds[name].attrs["error"] == bound


@pytest.mark.parametrize(
    ("r", "c", "gamma"), [(0.9, 1.0, 1.0), (1.5, 0.7, 0.6), (0.5, 2.0, -0.8), (0.0, 1.0, 0.5)]
)
@pytest.mark.parametrize(("activation", "target"), [("tanh", "sin"), ("relu", "abs")])
def test_functions_of_the_bounds_have_their_errors(r, c, gamma, activation, target):
    model = srfx.SpikedRF(activation, target, r=r, c=c, gamma=gamma)
    one = [np.array([x]) for x in (r, c, gamma)]
    best = _core.bounds(compiled(activation), compiled(target), *one, 1)
    # of k and z apart from it: the error of the predictor on a grid, by the coefficients
    k = np.linspace(-9, 9, 20001)
    weight = np.exp(-(k**2) / 2)
    weight /= weight.sum()
    found = _core.coefficients(compiled(activation), compiled(target), r, c, gamma, k)
    mu0, mu1, h, h1, hh = (np.asarray(found[name]) for name in ("mu0", "mu1", "h", "h1", "hh"))
    for name, m, theta, psi in (
        ("upper", best["upper_m"], 0, 0),
        ("lower", best["lower_m"], best["lower_theta"], best["lower_psi"]),
    ):
        fit = mu0 * m + mu1 * k * theta
        error = hh - 2 * h * fit + fit**2 - 2 * mu1 * psi * h1 + (mu1 * psi) ** 2
        assert weight @ error == pytest.approx(getattr(srfx.bounds(model), name), rel=1e-4)


def test_files_data_and_provenance(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(config, "commit", lambda: "0123abc")
    out = figures.make(
        ["3", "3"], tmp_path / "new", formats=["png", "pdf", "svg"], progress=False, say=said.append
    )
    assert [path.name for path in out] == ["figure-3.png", "figure-3.pdf", "figure-3.svg"]
    assert all(path.stat().st_size > 5000 for path in out)
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {path.name for path in out} | {"figure-3.nc", "figure-3.json"}
    record = json.loads((tmp_path / "new" / "figure-3.json").read_text())
    assert record["parameters"] == {
        "activation": "tanh", "target": "sin", "r": 0.9, "c": 1.0, "gamma": 1.0,
    }  # fmt: skip
    assert record["srfx"] == srfx.__version__
    assert record["commit"] == "0123abc"
    assert record["data"] == "figure-3.nc"
    with xr.open_dataset(tmp_path / "new" / "figure-3.nc") as ds:
        again = figures.draw(ds.load())
    drawn = figures.draw(figures.compute("3"))
    for a, b in zip(again.axes[0].lines, drawn.axes[0].lines, strict=True):
        assert np.array_equal(a.get_xydata(), b.get_xydata())
    assert said == [f"figure 3: wrote {', '.join(map(str, out))}, and its .nc and .json"]


def test_what_is_drawn_is_the_data(quick):
    ds = quick("4")
    figure = figures.draw(ds)
    assert len(figure.axes) == 2
    for j, ax in enumerate(figure.axes):
        curves = [line for line in ax.lines if len(line.get_xdata()) == ds.sizes["alpha"]]
        assert len(curves) == 2 * ds.sizes["r"]
        drawn = np.array([line.get_ydata() for line in curves]).reshape(ds.sizes["r"], 2, -1)
        assert np.array_equal(drawn.swapaxes(0, 1), ds.theory[:, j])
        for i, bars in enumerate(ax.containers):
            points, _, (segments,) = bars.lines
            values = ds.simulated.values[j, i]
            assert np.allclose(points.get_ydata(), values.mean(-1))
            ends = np.array([segment[:, 1] for segment in segments.get_segments()])
            error = values.std(-1, ddof=1) / np.sqrt(values.shape[-1])
            assert np.allclose(np.diff(ends)[:, 0], 2 * error)
    assert [ax.get_yscale() for ax in figure.axes] == ["linear", "log"]
    words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert any("d = 500" in word and "standard error" in word for word in words)
    assert "linear floor" in words


BARS = {"5": "standard deviation over replicate", "spectrum": "none: mean over replicate"}

_POINTS = {"theory", "theory_at_simulated", "simulated"}
#: What the docstring of `figures.compute` promises.
VARIABLES = {
    "1": _POINTS | {"t_simulated", "target"},
    **{name: _POINTS | {"floor", "lam"} for name in ("2", "4", "5", "network")},
    "3": {"upper", "lower", "target"},
    "readout": _POINTS | {"floor", "lam", "lower"},
    "spectrum": {"theory", "simulated", "eigenvalues", "mass_at_zero", "outlier"},
    "phase": {"test_error", "lam", "gain", "boundary", "boundary_isotropic"},
    "steps": _POINTS | {"floor", "lam"},
    "directions": _POINTS | {"t_simulated", "target"},
    "classification": _POINTS | {"lam"},
}

#: What each picture must state: activation and target, and every parameter that is not an axis.
STATED = {
    "1": ["tanh network, tanh target", r"$\tilde\eta$ = 2.5", r"$\alpha$ = 2", r"$\lambda$ = 0.01"],
    "2": ["tanh network, sin target, $\\lambda$ = 0.1", r"$\tilde\eta$ = 1", r"$\beta$ = 1"],
    "3": ["tanh features, sin target", "$r$ = 0.9", "$c$ = 1", r"$\gamma$ = 1"],
    "4": ["sin features, sign target, $\\lambda$ = 0.1", "$c$ = 1", r"$\gamma$ = 1"],
    "5": ["tanh network, sin target", r"$\alpha_0$ = 1.5", r"$\alpha$ = 1.2", r"$\lambda$ = 0.1"],
    "readout": ["tanh features, sin target", "$r$ = 0.9", r"$\beta$ = 1", r"$\lambda$ = 0.01"],
    "spectrum": ["tanh network, tanh target", r"$\alpha_0$ = 20", r"$\alpha$ = 2"],
    "network": ["relu network, relu target, $\\lambda$ = 0.1", r"$\alpha$ = 2", r"$\beta$ = 1"],
    "phase": ["tanh network, sin target", r"$\alpha$ = 2", r"$\beta$ = 1"],
    "steps": ["tanh network, sin target", "samples over $d$ = 6", r"$\lambda$ = 0.1"],
    "directions": ["relu network, readout 1, -1", "target a + ab", r"$\alpha_0$ = 5", "2 steps"],
    "classification": ["tanh network, hermite3 target: one step", r"$\alpha_0$ = 4"],
}


@pytest.mark.parametrize("name", list(figures.NAMES))
def test_data_describe_themselves_and_pictures_state_their_parameters(name, tmp_path):
    given = SMALL if "d" in catalogue.RECIPES[name].parameters else {}
    if name == "phase":
        given = {"alpha0": (1, 4), "eta": (1, 2), "n_threads": 1}
    made = figures.compute(name, **given)
    made.to_netcdf(tmp_path / "data.nc")
    with xr.open_dataset(tmp_path / "data.nc") as kept:
        ds = kept.load()
    assert set(ds.data_vars) == VARIABLES[name]
    for key, variable in ds.variables.items():
        assert variable.attrs["long_name"], key
        assert variable.attrs["units"] == "1", key
        if variable.dtype.kind in "UO":
            assert not any("$" in text or "\\" in text for text in variable.values), key
    assert set(ds.dims) <= set(ds.coords)
    if "simulated" in ds:
        bars = BARS.get(name, "standard error of the mean over replicate")
        assert ds.simulated.attrs["bars"] == bars
    assert ds.attrs["units"] == "dimensionless"
    assert ds.attrs["srfx_version"] == srfx.__version__
    assert ds.attrs.get("srfx_commit") == config.commit()
    figure = figures.draw(ds)
    said = [ax.get_title() for ax in figure.axes] + [figure.get_suptitle()]
    for text in STATED[name]:
        assert any(text in line for line in said), (text, said)
    if name == "phase":  # where the error crosses the floor, which is found soonest
        given = {"alpha0": (4, 16), "eta": (2, 4), "n_threads": 1}
    if name != "3":
        figure = figures.draw(figures.compute(name, noise=0.25, **given))
        said = [ax.get_title() for ax in figure.axes] + [figure.get_suptitle()]
        assert any("noise 0.25" in line for line in said)


def test_the_legend_of_readouts_is_true():
    ds = figures.compute("readout", **SMALL)
    figure = figures.draw(ds)
    words = {
        text.get_text(): line.get_linestyle()
        for legend in figure.legends
        for text, line in zip(legend.get_texts(), legend.get_lines(), strict=False)
        if len(legend.get_lines()) == len(legend.get_texts())
    }
    bounds_key = "lower bounds of {1}, {1, 2}, {1, 2, 3}, $d = \\infty$"
    limit_key = "theory in the limit $d = \\infty$ (not for Gaussian)"
    assert words[bounds_key] != words[limit_key]
    levels = [line for line in figure.axes[0].lines if len(set(line.get_ydata())) == 1]
    drawn = [line.get_ydata()[0] for line in levels if line.get_linestyle() == words[bounds_key]]
    assert set(ds.lower.values[:3]) <= set(drawn)
    assert not np.isnan(drawn).any()


@pytest.mark.parametrize(
    "name", [name for name in figures.NAMES if name not in ("3", "phase", "spectrum")]
)
def test_legends_stay_within_the_figure_and_off_the_axes(name):
    figure = figures.draw(figures.compute(name, **SMALL))
    frame = figure.bbox
    axes = [ax.get_tightbbox() for ax in figure.axes]
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert box.x0 >= frame.x0 - 1
        assert box.x1 <= frame.x1 + 1
        assert box.y0 >= frame.y0 - 1
        assert not any(box.overlaps(other) for other in axes)


def test_finished_simulations_are_kept(tmp_path, monkeypatch):
    options = SMALL | {"store": tmp_path, "alpha": (0.5, 1), "r": (0, 1)}
    said = []
    first = figures.compute("4", say=said.append, **options)
    assert said == ["16 simulated errors or functions, a few seconds"]
    assert len(list(tmp_path.iterdir())) == 4

    def run(*args):
        raise AssertionError("simulated again")

    monkeypatch.setattr("srfx._core.simulate", run)
    again = figures.compute("4", say=said.append, **options)
    assert said[1:] == ["16 simulated errors or functions, all of them in the store"]
    assert np.array_equal(first.simulated, again.simulated)
    with pytest.raises(AssertionError, match="simulated again"):
        figures.compute("4", **options | {"replicates": 3})


@pytest.mark.parametrize(
    ("name", "axis", "first", "then", "count"),
    [
        ("2", {"lam": 0.1, "targets": "sin", "alpha": (0.5, 1, 2)}, (0,), (0, 4), 12),
        ("5", {"beta": (0.5, 1.0)}, (1,), (1, 2), 8),
        ("1", {}, (0,), (0, 4), 4),
    ],
)
def test_the_estimate_is_of_what_is_not_in_the_store(
    name, axis, first, then, count, tmp_path, monkeypatch
):
    """Half of it is there; the time said is that of the other half, by the rule of scans."""
    options = SMALL | {"store": tmp_path} | axis
    line = "eta" if name == "5" else "alpha0"
    figures.compute(name, **options, **{line: first})
    works = []
    monkeypatch.setattr(jobs, "_slowness", lambda _: 1.0)
    monkeypatch.setattr(jobs, "_duration", lambda seconds: works.append(seconds) or "T")
    said = []
    figures.compute(name, say=said.append, **options, **{line: then})
    held = f"{count // 2} of them in the store"
    assert said == [f"{count} simulated errors or functions, {held}, the rest T"]
    figures.compute(
        name, say=said.append, progress=False, **axis, d=60, replicates=2, **{line: then[1:]}
    )
    assert works[0] == pytest.approx(works[1], rel=1e-12)


def test_the_estimate_counts_replicates(tmp_path):
    options = SMALL | {"store": tmp_path, "alpha": (0.5, 1), "r": 1, "pairs": [("tanh", "sin")]}
    figures.compute("4", **options)
    said = []
    figures.compute("4", say=said.append, **options | {"replicates": 5})
    assert said[0].startswith("10 simulated errors or functions, 4 of them in the store, the rest")


def test_functions_learned_are_kept(tmp_path, monkeypatch):
    options = SMALL | {"store": tmp_path, "alpha0": (0, 1)}
    first = figures.compute("1", **options)
    monkeypatch.setattr(jobs, "predictions", None)
    assert np.array_equal(figures.compute("1", **options).simulated, first.simulated)
    assert first.simulated.dims == ("alpha0", "replicate", "bin")


def scaled(factor):
    """Functions of the same name whose values differ."""
    return srfx.Activation(lambda x: factor * np.tanh(x), lambda x: factor * (1 - np.tanh(x) ** 2))


@pytest.mark.parametrize("role", ["activation", "target"])
@pytest.mark.parametrize(("name", "axis"), [("1", {}), ("2", {"alpha": (0.5, 1), "lam": (0.1, 1)})])
def test_callables_of_one_name_do_not_share_what_is_kept(name, axis, role, tmp_path, monkeypatch):
    options = SMALL | {"alpha0": (0, 1), "store": tmp_path} | axis

    def compute(factor):
        given = {"targets": (scaled(factor), "sin")} if (name, role) == ("2", "target") else None
        return figures.compute(name, **options, **(given or {role: scaled(factor)})).simulated

    one, two = compute(1.0), compute(2.0)
    del options["store"]
    assert np.array_equal(two, compute(2.0))
    assert not np.array_equal(two, one)
    options["store"] = tmp_path  # and each is kept
    monkeypatch.setattr(jobs, "predictions", None)
    monkeypatch.setattr("srfx._core.simulate", None)
    assert np.array_equal(one, compute(1.0))
    assert np.array_equal(two, compute(2.0))


def test_numbers_close_by_are_found_or_simulated_and_never_refused(tmp_path):
    run = jobs.Run(tmp_path, progress=False, n_threads=1)
    setting = {"along": "alpha", "values": (0.5,), "alpha": None, "lam": 0.1}

    def kept(r):
        jobs.Job(srfx.SpikedRF(r=r), **setting, d=20, replicates=1, seed=0).run(run)
        return len(list(tmp_path.iterdir()))

    assert kept(1.2) == kept(np.nextafter(1.2, 2)) == 1
    assert kept(1.2 * (1 + 3e-13)) == 2
    assert kept(0.0) == kept(-0.0) == 3


def test_style_does_not_leak():
    import matplotlib as mpl

    before = mpl.rcParams["font.size"]
    with mpl.rc_context({"font.size": 17}):
        figures.figure3()
        assert mpl.rcParams["font.size"] == 17
    assert mpl.rcParams["font.size"] == before


@pytest.mark.mpl_image_compare(baseline_dir="baseline", tolerance=12, savefig_kwargs={"dpi": 80})
def test_picture_of_figure_3():
    return figures.figure3()


@pytest.mark.mpl_image_compare(baseline_dir="baseline", tolerance=12, savefig_kwargs={"dpi": 80})
def test_picture_of_figure_4():
    """Its look, on made-up points: independent of the simulations' random numbers."""
    ds = figures.compute("4", d=50, replicates=2, alpha=(0.5, 1, 2), progress=False)
    wobble = 1 + 0.05 * np.array([-1, 1])
    ds["simulated"] = ds.simulated.dims, ds.theory_at_simulated[1].values[..., None] * wobble
    return figures.draw(ds)


# --- the command line and bad input ---------------------------------------------------------------


def test_the_command(tmp_path, capsys):
    assert cli.run(["figure", "3", "-o", str(tmp_path / "f"), "--format", "png,svg"]) == 0
    assert sorted(path.name for path in (tmp_path / "f").iterdir()) == [
        "figure-3.json", "figure-3.nc", "figure-3.png", "figure-3.svg",
    ]  # fmt: skip
    assert "srfx: figure 3: wrote" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["figure", "7"], "name must be one of 1, 2, 3, 4, 5"),
        (["figure"], "name a figure: 1, 2, 3, 4, 5"),
        (["figure", "3", "--format", "gif"], "formats must be one of"),
        (["figure", "spectrum", "--d", "1.5"], "error: '--d' must be an integer; got '1.5'"),
        (["figure", "spectrum", "--d", "inf"], "error: '--d' must be an integer; got 'inf'"),
    ],
)
def test_the_command_refuses(words, message, capsys, tmp_path):
    assert cli.run([*words, "-o", str(tmp_path / "f")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


def test_a_dimension_beyond_memory(capsys, tmp_path):
    words = ["figure", "spectrum", "--d", "1e11", "-o", str(tmp_path / "f")]
    assert cli.run(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "srfx: error: d = 100000000000, p = 100000000000, n = 200000000000 would"
    )
    assert not list((tmp_path / "f").rglob("*.*"))


def test_parameters_on_the_command_line(tmp_path):
    words = ["figure", "4", "--d", "50", "--replicates", "3", "--seed", "9", "--no-progress"]
    assert cli.run([*words, "--quick", "-o", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "figure-4.json").read_text())["parameters"]
    assert [record[name] for name in ("d", "replicates", "seed")] == [50, 3, 9]
    with xr.open_dataset(tmp_path / "figure-4.nc") as ds:
        assert ds.sizes["replicate"] == 3


@pytest.mark.parametrize("option", ["d", "replicates", "seed"])
@pytest.mark.parametrize(
    ("names", "lacking"), [(["3"], "3"), (["phase"], "phase"), (["all"], "3, phase")]
)
def test_the_command_refuses_parameters_that_a_figure_lacks(
    names, lacking, option, tmp_path, capsys
):
    assert cli.run(["figure", *names, f"--{option}", "50", "-o", str(tmp_path / "f")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert option in said
    assert f"figure {lacking} has no parameter" in said or f"asked for; {lacking} ha" in said
    assert "1, 2, 4, 5, readout, spectrum, network, steps" in said
    assert not (tmp_path / "f").exists()


def test_parameters_of_what_is_written(tmp_path):
    out = figures.make(["2", 4], tmp_path, quick=True, progress=False, d=50, replicates=2, alpha=1)
    assert [path.name for path in out] == ["figure-2.png", "figure-4.png"]
    for name in ("2", "4"):
        record = json.loads((tmp_path / f"figure-{name}.json").read_text())["parameters"]
        assert (record["d"], record["replicates"], record["alpha"]) == (50, 2, [1.0])
    recorded = set()
    for factor in (2.0, 3.0):
        (path,) = figures.make(3, tmp_path, formats="svg", r=0.5, activation=scaled(factor))
        assert path.name == "figure-3.svg"
        record = json.loads((tmp_path / "figure-3.json").read_text())["parameters"]
        recorded.add(record["activation"])
        with xr.open_dataset(tmp_path / "figure-3.nc") as ds:
            title = figures.draw(ds.load()).axes[0].get_title()
        assert title.startswith("callable <lambda> features, sin target\n")
    assert len(recorded) == 2  # functions of one name are told apart


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("file", "the output folder is a file: '{0}/file'\n"),
        (
            "file/a/b",
            "the output folder is a file: '{0}/file', so that '{0}/file/a/b' cannot be made\n",
        ),
        ("/proc/figures", "the output folder cannot be made: "),
    ],
)
def test_a_folder_that_cannot_be_made(folder, message, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.run(["figure", "3", "-o", str(tmp_path / folder)]) == 2
    assert f"error: {message.format(tmp_path)}" in capsys.readouterr().err


def test_a_store_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    words = ["figure", "2", "--quick", "-o", str(tmp_path / "f"), "--store"]
    for store in ("file", "file/below"):
        assert cli.run([*words, str(tmp_path / store)]) == 2
        assert f"error: the store is a file: '{tmp_path}/file'" in capsys.readouterr().err
    with pytest.raises(NotADirectoryError, match="the store is a file"):
        figures.compute("2", **SMALL, store=tmp_path / "file")


def test_a_folder_that_cannot_be_written(tmp_path, capsys, monkeypatch):

    def refuse(self):
        raise PermissionError(f"permission denied: {self}")

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    assert cli.run(["figure", "3", "-o", str(tmp_path / "f")]) == 2
    assert "the output folder cannot be written" in capsys.readouterr().err


def test_a_missing_matplotlib_is_said_plainly(run_python, tmp_path):
    code = f"""
import sys
sys.modules["matplotlib"] = None
from srfx.cli import run
import contextlib
with contextlib.redirect_stderr(sys.stdout):
    print(run(["figure", "3", "-o", {str(tmp_path)!r}]))
"""
    said = run_python(code)
    assert said.split("\n")[:2] == [
        "srfx: error: figures need matplotlib: pip install 'srfx[plot]'",
        "2",
    ]


SIMULATED = ("1", "2", "4", "5", "readout", "network")


def bad(names, **given):
    return [(name, given) for name in names]


@pytest.mark.parametrize(
    ("cases", "error", "message"),
    [
        (bad([*SIMULATED, "spectrum"], d="a"), TypeError, "d must be an integer >= 2; got 'a'"),
        (bad([*SIMULATED, "spectrum"], d=1), ValueError, "d must be an integer >= 2; got 1"),
        (bad(SIMULATED, replicates=0), ValueError, "replicates must be an integer >= 2; got 0"),
        (bad(SIMULATED, replicates=1), ValueError, "replicates must be an integer >= 2; got 1"),
        (bad(["spectrum"], replicates=0), ValueError, "replicates must be an integer >= 1; got 0"),
        (bad([*SIMULATED, "spectrum"], seed=-1), ValueError, "seed must be an integer >= 0"),
        (bad(["1"], bins=0), ValueError, "bins must be an integer >= 1; got 0"),
        (bad(["1"], bins=-1), ValueError, "bins must be an integer >= 1; got -1"),
        (bad(["spectrum"], bins=1), ValueError, "bins must be an integer >= 2; got 1"),
        (bad(["spectrum"], bins=2.0), TypeError, "bins must be an integer >= 2; got 2.0"),
        (bad(["2", "4", "readout"], alpha=()), ValueError, "alpha must be a number or a non-empty"),
        (bad(["1", "2", "network", "phase"], alpha0=[]), ValueError, "alpha0 must be a number or"),
        (bad(["5", "network", "phase"], eta=()), ValueError, "eta must be a number or a non-empty"),
        (bad(["4"], r=[[1, 2]]), ValueError, "r must be a number or a non-empty"),
        (bad(["5"], beta=0), ValueError, "beta must be finite and > 0; got 0"),
        (bad(["1", "2", "5"], lam="x"), TypeError, "lam must be finite and > 0 .*'x'"),
        (bad(["4"], lam="x"), TypeError, "lam must be finite and >= 0 .*'x'"),
        (bad(["1", "5", "network"], lam=0), ValueError, "lam must be finite and > 0; got 0"),
        (bad(["2"], lam=(0.1, 0)), ValueError, "lam must be finite and > 0; got 0"),
        (bad(["2"], alpha=(1, 1)), ValueError, r"alpha must hold distinct values; got \(1, 1\)"),
        (bad(["1", "5", "readout"], lam=(0.1, 1)), ValueError, r"lam must be a single number.*1\)"),
        (bad(["1", "2", "phase"], alpha0=np.inf), ValueError, "alpha0 must be finite .* got inf"),
        (bad(["2"], targets=()), ValueError, r"targets must be a .*; got \(\)"),
        (bad(["2"], targets=3), TypeError, "targets must be a function or .*; got 3"),
        (bad(["2"], targets=("sin", "foo")), ValueError, "targets must be one of .*; got 'foo'"),
        (bad(["2"], targets=("sin",)), ValueError, r"got 1 target and lam = \(0.01, 0.1\)"),
        (bad(["2"], lam=(0.1, 0.2, 1)), ValueError, "got 2 targets and lam = .*, 1.0"),
        (bad(["4", "network"], pairs=()), ValueError, r"pairs must be .*; got \(\)"),
        (bad(["4", "network"], pairs="tanh"), TypeError, "pairs must be .* got 'tanh'"),
        (bad(["4"], pairs=("tanh", "sin")), TypeError, r"pairs must be .* got \('tanh', 'sin'\)"),
        (bad(["4"], pairs=[("sin",)]), ValueError, r"got \('sin',\) among them"),
        (bad(["4"], pairs=[("sin", "foo")]), ValueError, "the target in pairs must be one of"),
        (bad(["network"], alpha0=(0, 1)), ValueError, "alpha0 must be finite and > 0; got 0.0"),
        (bad(["phase"], alpha0=(0, 1)), ValueError, "alpha0 must be finite and > 0; got 0.0"),
        (bad(["phase"], eta=(0, 1)), ValueError, "eta must be finite and > 0; got 0.0 at index 0"),
        (bad(["phase"], eta=(2, 2)), ValueError, r"eta must hold distinct values; got \(2, 2\)"),
        (bad(["phase"], eta=2), ValueError, r"eta must hold at least two .* got \(2.0,\)"),
        (bad(["phase"], alpha0=3), ValueError, r"alpha0 must hold at least two .* got \(3.0,\)"),
        (bad(["phase"], lam=(0, 1)), ValueError, "lam must be finite and > 0; got 0.0 at index 0"),
        (bad(["phase"], lam=(1, 0.1)), ValueError, "lam must be two increasing numbers"),
        (bad(["phase"], lam=1), ValueError, "lam must be two increasing numbers"),
        (bad(["phase"], target="linear"), ValueError, "target must have a linear floor above zero"),
        (bad(["3"], r="a"), TypeError, "r must be finite"),
        (bad(["3"], gamma=2), ValueError, "gamma must be between -1 and 1; got 2.0"),
        (bad(["3"], quick="yes"), TypeError, "quick must be True or False; got 'yes'"),
        (bad(["3"], eta=1), TypeError, "figure 3 has no parameter 'eta'; it has activation"),
        (bad(["2"], eta=float("nan")), ValueError, "eta must be finite; got nan"),
        (bad(["1"], activation=3), TypeError, "activation must be a name .*; got 3"),
    ],
)
def test_bad_parameters_are_named_before_any_work(cases, error, message, monkeypatch, tmp_path):
    def work(*args, **options):
        raise AssertionError("work was begun")

    monkeypatch.setattr(catalogue, "Run", work)
    for name, given in cases:
        with pytest.raises(error, match=message):
            figures.compute(name, **given)
        with pytest.raises(error, match=message):
            figures.make(name, tmp_path / "f", **given)
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("1", {"alpha0": 0.001}),
        ("2", {"alpha0": (1, 1e-3)}),
        ("2", {"alpha": (1, 1e-3)}),
        ("4", {"beta": 1e-3}),
        ("5", {"beta": (1, 1e-3)}),
        ("network", {"alpha0": (1, 1e-3)}),
    ],
)
def test_sizes_that_round_to_zero_are_refused_before_any_work(name, given, monkeypatch):
    for function in ("scan", "predictions"):
        monkeypatch.setattr(jobs, function, None)
    with pytest.raises(ValueError, match=rf"{next(iter(given))} must give .* >= 1; got .*d=60"):
        figures.compute(name, **SMALL, **given)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"formats": ()}, ValueError, r"formats must hold at least one of png, .*; got \(\)"),
        ({"formats": "gif"}, ValueError, "formats must be one of .*; got 'gif'"),
        ({"formats": 3}, TypeError, "formats must be one of .*; got 3"),
        ({"names": ()}, ValueError, "names must hold at least one of 1, 2, .*; got none"),
        ({"names": None}, TypeError, "names must hold some of 1, 2, .*; got None"),
        ({"names": 7}, ValueError, "name must be one of 1, 2, .* or all; got 7"),
        ({"names": ["3", True]}, ValueError, "name must be one of 1, 2, .* or all; got True"),
        ({"names": ["2", "3"], "d": 9}, ValueError, "d must be .* every .*; 3 has none .* 1, 2, 4"),
        ({"names": "all", "foo": 9}, ValueError, "foo must be a parameter of every .*no figure"),
        ({"n_threads": 0}, ValueError, "n_threads must be"),
    ],
)
def test_make_refuses(given, error, message, tmp_path):
    with pytest.raises(error, match=message):
        figures.make(**{"names": "3", "folder": tmp_path / "f"} | given)
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("name", "scalar", "listed"),
    [
        ("2", {"alpha0": 1, "alpha": 2, "lam": 1}, {"alpha0": (1,), "alpha": [2], "lam": [1, 1]}),
        ("2", {"targets": "sin", "lam": 1}, {"targets": ["sin"], "lam": [1]}),
        ("5", {"eta": 1, "beta": 1}, {"eta": (1,), "beta": np.array([1])}),
        ("network", {"eta": 1, "alpha0": 2}, {"eta": (1,), "alpha0": range(2, 3)}),
    ],
)  # fmt: skip
def test_one_number_is_a_list_of_one(name, scalar, listed):
    a, b = (figures.compute(name, **SMALL, **given) for given in (scalar, listed))
    assert np.array_equal(a.simulated, b.simulated)
    assert a.attrs["parameters"] == b.attrs["parameters"]
    along = a.attrs["along"]
    points, curve = a[f"{along}_simulated"].values, a[along].values
    if len(points) == 1:  # the curve goes to both sides of it
        assert (curve[0], curve[-1]) == (points[0] / 2, 2 * points[0])
    figures.draw(a)


def test_figure_3_of_jumps():
    """Their bounds, and curves, are those of the core, which has edges at the jumps."""
    ds = figures.compute("3", target="sign", r=2.0)
    lower, upper = srfx.bounds(srfx.SpikedRF("tanh", "sign", r=2.0, gamma=1.0))
    assert (ds.lower.attrs["error"], ds.upper.attrs["error"]) == (lower, upper)
    t = np.linspace(-6, 6, 20_000)  # with a jump no Gaussian rule has its digits
    weight = np.exp(-(t**2) / 2)
    error = weight @ (np.sign(t) - np.interp(t, ds.t, ds.lower)) ** 2 / weight.sum()
    assert error == pytest.approx(lower, rel=1e-3)


def test_what_cannot_be_drawn():
    with pytest.raises(ValueError, match=r"ds must be what srfx\.figures\.compute returned"):
        figures.draw(xr.Dataset())
