"""The figures: points against the theory that claims them, files, style, bad input."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import xarray as xr

import srfx
from srfx import cli, figures, reference

SMALL = {"progress": False, "n_threads": 1, "d": 60, "replicates": 2}


MANY = {"progress": False, "n_threads": 1, "d": 400, "replicates": 10}


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The data of a figure at its quick size, computed once."""
    store = tmp_path_factory.mktemp("store")
    done = {}

    def get(name):
        if name not in done:
            start = time.process_time()
            options = {"alpha0": (0, 1)} if name in ("1", "2") else {}
            done[name] = figures.compute(
                name, quick=True, store=store, progress=False, n_threads=1, **options
            )
            assert time.process_time() - start < 60
        return done[name]

    return get


def gaps(ds):
    """Distance of each point from the theory that claims it, in standard errors and relative."""
    theory = ds.theory_at_simulated
    if "kind" in theory.dims:
        theory = theory.sel(kind=ds.attrs["claims"])
    values = ds.simulated
    count = values.sizes["replicate"]
    error = values.std("replicate", ddof=1) / np.sqrt(count)
    expected = theory.mean("replicate") if "replicate" in theory.dims else theory
    gap = abs(values.mean("replicate") - expected)
    return gap / error, gap, error, expected


def claimed(ds):
    """The claim: within 4 standard errors, and for orders beyond 1/d 1 % and that term squared."""
    z, gap, error, expected = gaps(ds)
    beyond = 0.01 * expected
    if ds.attrs["claims"] == "finite_d":
        beyond += (expected - ds.theory_at_simulated.sel(kind="limit")) ** 2 / expected
    assert (gap <= 4 * error + beyond).all(), (z.max().item(), (gap / expected).max().item())
    return z


def test_spiked_features_lie_on_the_theory_with_its_finite_d_term(quick):
    ds = quick("4")
    assert ds.attrs["claims"] == "finite_d"
    z = claimed(ds)
    assert float(z.median()) < 2
    # the limit alone does not explain them: the claim above is one that can fail
    ds.attrs["claims"] = "limit"
    with pytest.raises(AssertionError):
        claimed(ds)
    ds.attrs["claims"] = "finite_d"


def test_several_readout_values_lie_on_the_theory_with_its_finite_d_term(quick):
    ds = quick("readout")
    claimed(ds)
    assert list(ds.readout.values) == ["{1}", "{1, 2}", "{1, 2, 3}", "Gaussian"]
    # three values do better than one at any alpha, and no simulation beats its bound
    assert (ds.simulated.mean("replicate") > ds.lower.fillna(0)).all()
    middle = ds.theory.sel(kind="finite_d").isel(panel=0)
    assert (middle.sel(readout="{1, 2, 3}") < middle.sel(readout="{1}")).all()


def test_the_function_learned_lies_on_the_theory_of_the_step(quick):
    ds = quick("1")
    z, gap, error, _ = gaps(ds)
    assert (gap <= 4 * error + 0.01).all(), float(z.max())
    assert float((z < 2).mean()) > 0.8
    # an isotropic bulk does not explain the function learned from few samples
    assert ds.attrs["claims"] == "one_step"
    few = figures.compute("1", alpha0=(0.25,), eta=4.0, lam=0.1, **MANY)
    curves = few.theory.interp(t=few.t_simulated.mean("replicate"))
    mean = few.simulated.mean("replicate")
    off = {
        kind: float(abs(curves.sel(kind=kind) - mean).max()) for kind in ("isotropic", "one_step")
    }
    assert off["one_step"] < 0.5 * off["isotropic"], off


def test_networks_lie_on_the_theory_of_the_step(quick):
    for ds in (
        quick("2"),
        figures.compute("network", alpha0=(0.5, 8.0), eta=(1.0, 4.0), **MANY),
        figures.compute("5", beta=(0.5, 1.5), **MANY),
    ):
        assert ds.attrs["claims"] == "one_step"
        z = claimed(ds)
        assert float((z < 2).mean()) > 0.6
    ds = figures.compute("network", alpha0=(0.25,), eta=(4.0,), **MANY)
    ds.attrs["claims"] = "isotropic"
    with pytest.raises(AssertionError):
        claimed(ds)


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
    assert len(figures.draw(ds).axes) == 2


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
    fitted, limits = figures._bound_parameters(model), srfx.bounds(model)
    for name in ("lower", "upper"):
        assert fitted[name][3] == pytest.approx(getattr(limits, name), rel=1e-4)


def test_files_data_and_provenance(tmp_path):
    said = []
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
    """Half of it is there; the time said is that of the other half, at a speed of 1 a second."""
    options = SMALL | {"store": tmp_path} | axis
    line = "eta" if name == "5" else "alpha0"
    figures.compute(name, **options, **{line: first})
    works = []
    monkeypatch.setattr(figures, "_flops_per_second", lambda _: 1.0)
    monkeypatch.setattr(figures, "_duration", lambda seconds: works.append(seconds) or "T")
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
    monkeypatch.setattr(figures, "predictions", None)
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

    one, three = compute(1.0), compute(3.0)
    del options["store"]
    assert np.array_equal(three, compute(3.0))
    assert not np.array_equal(three, one)
    options["store"] = tmp_path  # and each is kept
    monkeypatch.setattr(figures, "predictions", None)
    monkeypatch.setattr("srfx._core.simulate", None)
    assert np.array_equal(one, compute(1.0))
    assert np.array_equal(three, compute(3.0))


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
    ],
)
def test_the_command_refuses(words, message, capsys, tmp_path):
    assert cli.run([*words, "-o", str(tmp_path / "f")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


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
    assert "1, 2, 4, 5, readout, spectrum, network" in said
    assert not (tmp_path / "f").exists()


def test_parameters_of_what_is_written(tmp_path):
    out = figures.make(["2", 4], tmp_path, quick=True, progress=False, d=50, replicates=2, alpha=1)
    assert [path.name for path in out] == ["figure-2.png", "figure-4.png"]
    for name in ("2", "4"):
        record = json.loads((tmp_path / f"figure-{name}.json").read_text())["parameters"]
        assert (record["d"], record["replicates"], record["alpha"]) == (50, 2, [1.0])
    (path,) = figures.make(3, tmp_path, formats="svg", r=0.5, activation=scaled(2.0))
    assert path.name == "figure-3.svg"


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
        (bad(["1", "2", "4", "5"], lam="x"), TypeError, "lam must be finite and >= 0 .*'x'"),
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
        (bad(["phase"], eta=(2, 2)), ValueError, r"eta must hold at least two .* got \(2.0,\)"),
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

    for name in ("scan", "predictions", "sample_weights", "solve", "learned_function", "bounds"):
        monkeypatch.setattr(figures, name, work)
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
        monkeypatch.setattr(figures, function, None)
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


def test_what_cannot_be_drawn():
    with pytest.raises(ValueError, match=r"ds must be what srfx\.figures\.compute returned"):
        figures.draw(xr.Dataset())
