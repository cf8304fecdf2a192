"""The pictures: what is drawn, read off the Axes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import srfx
from srfx import plotting
from srfx.models import MultiStep
from srfx.targets import Target

ALPHA = np.linspace(0.2, 3, 15)


@pytest.fixture
def ax():
    return Figure().add_subplot()


@pytest.fixture
def sol():
    return srfx.solve(srfx.OneStep(), alpha=ALPHA, lam=0.01)


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_errors_and_floor(sol, ax):
    assert srfx.plot.learning_curve(sol, ax=ax) is ax
    drawn = lines(ax)
    assert list(drawn) == legend(ax) == ["test error", "training error", "linear floor"]
    for name, attribute in [("test error", "test_error"), ("training error", "train_error")]:
        assert np.array_equal(drawn[name].get_xdata(), ALPHA)
        assert np.array_equal(drawn[name].get_ydata(), getattr(sol, attribute))
    assert list(drawn["linear floor"].get_ydata()) == [srfx.linear_floor("sin")] * 2
    assert drawn["linear floor"].get_linestyle() == "--"
    assert drawn["test error"].get_linestyle() != drawn["training error"].get_linestyle()
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "linear")
    assert ax.get_ylim()[0] == 0
    assert r"\alpha" in ax.get_xlabel()
    assert ax.get_ylabel() == "error"
    assert ax.get_title().startswith("OneStep: tanh network, sin target\n")
    assert r"$\lambda$ = 0.01" in ax.get_title()
    assert r"\Delta" not in ax.get_title()


def test_parts_can_be_left_out(sol, ax):
    srfx.plot.learning_curve(sol, ax=ax, train=False, floor=False)
    assert legend(ax) == ["test error"]
    assert len(ax.lines) == 1


def test_a_dataset_draws_the_same(sol, ax, tmp_path):
    sol.to_xarray().to_netcdf(tmp_path / "a.nc")
    import xarray as xr

    with xr.open_dataset(tmp_path / "a.nc") as ds:
        srfx.plot.learning_curve(ds, ax=ax)
    other = srfx.plot.learning_curve(sol, ax=Figure().add_subplot())
    assert ax.get_title() == other.get_title()
    for a, b in zip(ax.lines, other.lines, strict=True):
        assert np.array_equal(a.get_xydata(), b.get_xydata())


def test_a_bare_dataset_is_enough(sol, ax):
    ds = sol.to_xarray()[["test_error"]]
    ds.attrs.clear()
    srfx.plot.learning_curve(ds, ax=ax)
    assert legend(ax) == ["test error"]


def test_one_line_for_each_combination(ax):
    model = srfx.OneStep(eta=np.array([1.0, 3.0])[:, None, None])
    sol = srfx.solve(model, alpha=ALPHA[:, None], lam=[0.01, 0.1, 1.0])
    srfx.plot.learning_curve(sol, ax=ax)
    combinations = [
        rf"$\tilde\eta$ = {eta}, $\lambda$ = {lam:g}" for eta in (1, 3) for lam in (0.01, 0.1, 1.0)
    ]
    assert legend(ax) == [*combinations, "test error", "training error", "linear floor"]
    drawn = lines(ax)
    for i, name in enumerate(combinations):
        assert np.array_equal(drawn[name].get_ydata(), sol.test_error[i // 3, :, i % 3])
    colours = {to_hex(drawn[name].get_color()) for name in combinations}
    assert len(colours) == 6
    assert r"\lambda" not in ax.get_title()


def test_paired_parameters_label_their_line_together(ax):
    model = srfx.SpikedRF(beta=np.array([1.0, 2.0])[:, None])
    sol = srfx.solve(model, alpha=ALPHA, lam=np.array([0.1, 0.2])[:, None])
    srfx.plot.learning_curve(sol, ax=ax, train=False, floor=False)
    labels = [r"$\beta$ = 1, $\lambda$ = 0.1", r"$\beta$ = 2, $\lambda$ = 0.2"]
    assert legend(ax) == [*labels, "test error"]


def test_many_lines_keep_a_short_legend(ax):
    sol = srfx.solve(srfx.SpikedRF(), alpha=ALPHA, lam=np.logspace(-3, 0, 30)[:, None])
    srfx.plot.learning_curve(sol, ax=ax, train=False, floor=False)
    assert len(ax.lines) == 31  # and the key to the style
    assert len(legend(ax)) == 9
    assert r"$\lambda$ = 0.001" in legend(ax)
    assert r"$\lambda$ = 1" in legend(ax)


def test_logarithmic_axes_where_they_help(ax):
    sol = srfx.solve(srfx.SpikedRF(), alpha=np.logspace(-1, 2, 30), lam=1e-6)
    srfx.plot.learning_curve(sol, ax=ax)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    bottom = ax.get_ylim()[0]
    assert sol.test_error.min() / 31 < bottom < sol.test_error.min()
    linear = srfx.solve(srfx.SpikedRF(), alpha=np.linspace(0.1, 10, 30), lam=0.1)
    axes = srfx.plot.learning_curve(linear, ax=Figure().add_subplot())
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")


def test_unordered_alpha_is_drawn_in_order_and_failures_leave_gaps(ax):
    alpha = np.array([2.0, 0.5, 1.0])
    sol = srfx.solve(srfx.SpikedRF(), alpha=alpha, lam=0.0, errors="record")
    srfx.plot.learning_curve(sol, ax=ax)
    line = lines(ax)["test error"]
    assert line.get_xdata().tolist() == [0.5, 1.0, 2.0]
    assert np.isnan(line.get_ydata()).tolist() == [False, True, False]


def test_a_target_without_floor_draws_none(ax):
    sol = srfx.solve(srfx.SpikedRF(target="linear"), alpha=ALPHA, lam=0.1)
    srfx.plot.learning_curve(sol, ax=ax)
    assert legend(ax) == ["test error", "training error"]


def test_nothing_converged(ax):
    sol = srfx.solve(srfx.SpikedRF(beta=[[1.0], [2.0]]), alpha=[1.0, 2.0], lam=0.0, errors="record")
    ds = sol.to_xarray().isel(beta=slice(0, 1), alpha=slice(0, 1))
    srfx.plot.learning_curve(ds, ax=ax)
    assert np.isnan(ax.lines[0].get_ydata()).all()


def test_it_can_be_saved(sol, tmp_path):
    figure = Figure()
    srfx.plot.learning_curve(sol, ax=figure.add_subplot())
    for suffix in ("png", "pdf", "svg"):
        figure.savefig(tmp_path / f"a.{suffix}")
        assert (tmp_path / f"a.{suffix}").stat().st_size > 1000


def test_pyplot_makes_the_figure_only_when_none_is_given(sol, run_python):
    ax = srfx.plot.learning_curve(sol)
    assert ax.figure is plt.gcf()
    plt.close("all")
    code = """
import sys, srfx
from matplotlib.figure import Figure
sol = srfx.solve(srfx.SpikedRF(), alpha=[1, 2], lam=0.1)
srfx.plot.learning_curve(sol, ax=Figure().add_subplot())
print("matplotlib.pyplot" in sys.modules)
"""
    assert run_python(code).strip() == "False"


def test_a_missing_matplotlib_is_said_plainly(run_python):
    code = """
import sys, srfx
sys.modules["matplotlib"] = None
try:
    srfx.plot.learning_curve(srfx.solve(srfx.SpikedRF(), alpha=[1, 2], lam=0.1))
except ImportError as error:
    print(error)
"""
    assert run_python(code).strip() == "srfx.plot needs matplotlib: pip install 'srfx[plot]'"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: 3, TypeError, "result must be an srfx.Solution or an xarray.Dataset"),
        (
            lambda: srfx.solve(srfx.SpikedRF(), alpha=1, lam=0.1),
            ValueError,
            "alpha must vary along exactly one dimension of result; here it does not vary",
        ),
        (
            lambda: srfx.solve(srfx.SpikedRF(), alpha=[[1, 2], [3, 4]], lam=0.1),
            ValueError,
            "here it varies along the dimensions",
        ),
        (
            lambda: srfx.solve(srfx.SpikedRF(), alpha=[1, 2], lam=0.1).to_xarray()[["m"]],
            ValueError,
            "result must hold test_error and alpha",
        ),
    ],
)
def test_what_cannot_be_drawn(make, error, message, ax):
    with pytest.raises(error, match=message):
        srfx.plot.learning_curve(make(), ax=ax)


# --- planes and curves of scans ---


@pytest.fixture(scope="module")
def plane():
    model = srfx.OneStep(eta=3, alpha0=20)
    return srfx.scan(model, alpha=ALPHA, lam=np.geomspace(1e-4, 1, 9))


def best_of(ax):
    (star,) = (line for line in ax.lines if line.get_marker() == "*")
    return float(star.get_xdata()[0]), float(star.get_ydata()[0])


def test_heatmap(plane, ax):
    assert srfx.plot.heatmap(plane, "alpha", "lam", ax=ax) is ax
    (mesh,) = ax.collections
    np.testing.assert_array_equal(mesh.get_array(), plane.test_error.transpose("lam", "alpha"))
    x, y = mesh.get_coordinates()[0, :, 0], mesh.get_coordinates()[:, 0, 1]
    assert np.allclose((x[1:] + x[:-1]) / 2, ALPHA)  # every value in the middle of its cell
    assert np.allclose(np.sqrt(y[1:] * y[:-1]), plane.lam)
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "log")
    least = plane.test_error.isel(plane.test_error.argmin(...))
    alpha, lam = least.alpha.item(), least.lam.item()
    assert best_of(ax) == (alpha, lam)
    assert legend(ax) == [f"{least.item():.4g} at ({alpha:.4g}, {lam:.4g})"]
    assert len(ax.figure.axes) == 2


@pytest.mark.parametrize("at", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_the_legend_is_across_from_the_best(plane, ax, at):
    data = plane.copy(deep=True)
    data["test_error"][at] = 1e-9
    srfx.plot.heatmap(data, "alpha", "lam", ax=ax)
    ax.figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    star = ax.transData.transform(ax.lines[-1].get_xydata()[0])
    assert not box.padded(20).contains(*star)


def test_heatmap_options(plane, ax):
    srfx.plot.heatmap(plane, ax=ax, best=False, colorbar=False, log=True, cmap="magma")
    assert ax.get_xlabel() == r"$\lambda$"  # the last one that varies
    assert not ax.lines
    assert len(ax.figure.axes) == 1
    assert type(ax.collections[0].norm).__name__ == "LogNorm"


def test_order_of_the_values_does_not_matter(plane, ax):
    other = Figure().add_subplot()
    shuffled = plane.isel(alpha=np.random.default_rng(0).permutation(len(ALPHA)))
    for axes, data in ((ax, plane), (other, shuffled)):
        srfx.plot.heatmap(data, "alpha", "lam", ax=axes)
    assert (ax.collections[0].get_array() == other.collections[0].get_array()).all()


def test_points_without_a_value_are_blank(ax):
    ds = srfx.scan(srfx.SpikedRF(), alpha=[0.5, 1, 2], lam=[0, 0.1])
    srfx.plot.heatmap(ds, "alpha", "lam", ax=ax)
    assert ax.collections[0].get_array().mask.tolist() == [[False, True, False], [False] * 3]


def test_contours(plane, ax):
    srfx.plot.contours(plane, "alpha", "lam", ax=ax, levels=[0.05, 0.1])
    (lines_,) = ax.collections
    assert lines_.levels.tolist() == [0.05, 0.1]
    for level, path in zip(lines_.levels, lines_.get_paths(), strict=True):
        for x, y in path.vertices[:: len(path.vertices) // 4]:
            # a vertex on the edge may be off the grid by a rounding error
            at = {"alpha": np.clip(x, *ALPHA[[0, -1]]), "lam": np.clip(y, *plane.lam[[0, -1]])}
            assert abs(plane.test_error.interp(at) / level - 1) < 0.2
    assert best_of(ax)[0] in ALPHA
    other = Figure().add_subplot()
    srfx.plot.contours(plane, "alpha", "lam", ax=other, filled=True, levels=5)
    assert len(other.figure.axes) == 2


def test_curves(plane, ax):
    some = plane.isel(lam=[0, 4, 8])
    srfx.plot.curves(some, "alpha", ax=ax)
    drawn = [line for line in ax.lines if line.get_marker() != "o"]
    for i, line in enumerate(drawn):
        np.testing.assert_array_equal(line.get_ydata(), some.test_error[:, i])
        assert f"{float(some.lam[i]):.4g}" in line.get_label()
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    for i, dot in enumerate(dots):
        assert dot.get_ydata()[0] == some.test_error[:, i].min()
    other = Figure().add_subplot()
    srfx.plot.curves(plane.isel(alpha=3), ax=other, variable="train_error", best=False)
    assert other.get_xscale() == "log"
    assert len(other.lines) == 1


def test_curves_of_simulations_have_bars(ax):
    simulate = {"d": 50, "replicates": 4}
    ds = srfx.scan(srfx.SpikedRF(), alpha=[0.5, 1, 2], lam=0.1, simulate=simulate)
    srfx.plot.curves(ds, ax=ax)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), ds.test_error.mean("replicate"))
    (bars,) = ax.containers
    spread = ds.test_error.std("replicate", ddof=1) / 2
    ends = np.array([segment[:, 1] for segment in bars.lines[2][0].get_segments()])
    np.testing.assert_allclose(np.ptp(ends, axis=1), 2 * spread)


def test_paired_axes_are_drawn_too(ax):
    pair = [xr.DataArray(v, dims="p") for v in ([1.0, 2, 3], [0.1, 0.2, 0.3])]
    ds = srfx.scan(srfx.OneStep(), alpha=pair[0], lam=pair[1], eta=[1, 2])
    srfx.plot.heatmap(ds, "alpha", "eta", ax=ax)
    with pytest.raises(ValueError, match="along different dimensions; alpha and lam do not"):
        srfx.plot.heatmap(ds, "alpha", "lam", ax=ax)


def test_bad_input_of_planes(plane, ax):
    with pytest.raises(TypeError, match=r"result must be an srfx.Solution or an xarray.Dataset"):
        srfx.plot.heatmap([1], "alpha", "lam", ax=ax)
    with pytest.raises(ValueError, match=r"variable must be one of .*; got 'm'"):
        srfx.plot.heatmap(plane, "alpha", "lam", "m", ax=ax)
    with pytest.raises(ValueError, match=r"x must be a parameter .* alpha, lam; 'beta' does not v"):
        srfx.plot.heatmap(plane, "beta", "lam", ax=ax)
    with pytest.raises(ValueError, match=r"y must be a parameter .*; 'bta' is not there"):
        srfx.plot.heatmap(plane, "alpha", "bta", ax=ax)
    three = srfx.scan(srfx.OneStep(), alpha=[1, 2], lam=[1, 2], eta=[1, 2])
    with pytest.raises(ValueError, match=r"only alpha and lam may vary: .*sel\(eta="):
        srfx.plot.heatmap(three, "alpha", "lam", ax=ax)
    with pytest.raises(ValueError, match=r"x and y must be given where 3 parameters vary"):
        srfx.plot.contours(three, ax=ax)
    with pytest.raises(ValueError, match=r"at least two values"):
        srfx.plot.contours(three.isel(eta=0, alpha=[0]), "alpha", "lam", ax=ax)


def test_curves_of_labelled_pairs_and_too_many_lines():
    points = {"dims": "network", "coords": {"network": ["small", "large"]}}
    pairs = {"eta": xr.DataArray([0.5, 2.0], **points), "alpha0": xr.DataArray([1.0, 4], **points)}
    ds = srfx.scan(srfx.OneStep(), alpha=[0.5, 1, 2], lam=0.1, **pairs)
    ax = srfx.plot.curves(ds, "alpha", ax=Figure().add_subplot())
    for text, name in zip(legend(ax), ("small", "large"), strict=True):
        assert f"network = {name}" in text
    with pytest.raises(ValueError, match="'network' holds words"):
        srfx.plot.curves(ds, "network", ax=Figure().add_subplot())
    many = srfx.scan(srfx.SpikedRF(), alpha=[1, 2], lam=np.geomspace(0.01, 1, 501))
    with pytest.raises(ValueError, match=r"at most 500 lines.*sel\(lam=.*--at lam="):
        srfx.plot.curves(many, "alpha", ax=Figure().add_subplot())
    with pytest.raises(ValueError, match=r"only alpha and lam may vary.*--at beta="):
        srfx.plot.heatmap(
            srfx.scan(srfx.SpikedRF(), alpha=[1, 2], lam=[1, 2], beta=[1, 2]),
            "alpha",
            "lam",
            ax=Figure().add_subplot(),
        )


@pytest.fixture(scope="module")
def limit():
    """An axis that ends with the limit of infinitely many samples."""
    return srfx.scan(srfx.OneStep(eta=3), alpha0=[np.inf, 1, 5, 2], alpha=[1.0, 2.0], lam=0.1)


def ticks(axis):
    labels = (text.get_text() for text in axis.get_ticklabels())
    return dict(zip(labels, axis.get_majorticklocs().tolist(), strict=True))


@pytest.mark.parametrize("draw", [srfx.plot.heatmap, srfx.plot.contours])
@pytest.mark.parametrize("along", ["x", "y"])
def test_infinity_along_an_axis_of_a_plane(limit, ax, draw, along):
    names = ("alpha0", "alpha") if along == "x" else ("alpha", "alpha0")
    draw(limit, *names, ax=ax)
    found = ticks(ax.xaxis if along == "x" else ax.yaxis)
    infinity = found.pop(r"$\infty$")
    assert infinity == 5 + 4 / 2  # one mean step beyond
    assert all(float(text) == place <= 5 for text, place in found.items())
    assert legend(ax) == [
        f"{limit.test_error.min().item():.4g} at " + ("(inf, 2)" if along == "x" else "(2, inf)")
    ]
    assert best_of(ax) == ((infinity, 2) if along == "x" else (2, infinity))
    if draw is srfx.plot.heatmap:
        drawn = ax.collections[0].get_array()
        values = limit.test_error.sortby("alpha0").squeeze().values
        np.testing.assert_array_equal(drawn if along == "y" else drawn.T, values)


def test_infinity_along_curves(limit, ax):
    srfx.plot.curves(limit, "alpha0", ax=ax)
    places, values = ax.lines[0].get_data()
    np.testing.assert_array_equal(places, [1, 2, 5, 7])
    np.testing.assert_array_equal(values, limit.test_error.sortby("alpha0").squeeze()[:, 0])
    assert ticks(ax.xaxis)[r"$\infty$"] == 7
    grid = np.geomspace(0.1, 100, 7)
    wide = srfx.scan(srfx.OneStep(eta=3), alpha0=[*grid, np.inf], alpha=1.0, lam=0.1)
    ax = srfx.plot.curves(wide, ax=Figure().add_subplot())
    assert ax.get_xscale() == "log"
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [*grid, 100 * 10**0.5])
    only = srfx.plot.curves(wide.isel(alpha0=[-1]), "alpha0", ax=Figure().add_subplot())
    assert list(ticks(only.xaxis)) == [r"$\infty$"]


def test_infinity_in_the_names_of_lines_and_in_optima(limit, ax):
    srfx.plot.curves(limit, "alpha", ax=ax)
    assert r"$\alpha_0$ = inf" in legend(ax)
    best = srfx.optimal(srfx.OneStep(alpha0=[1, 2, np.inf]), {"lam": (1e-3, 10)}, alpha=1.0)
    axes = srfx.plot.optima(best, axes=list(Figure().subplots(2, 1, sharex=True)))
    assert ticks(axes[-1].xaxis)[r"$\infty$"] == 3


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_values_without_a_place(ax, bad):
    ds = xr.Dataset({"test_error": ("run", [1.0, 2.0])}, {"run": [1.0, bad]})
    with pytest.raises(ValueError, match=f"x must have a place for every value; 'run' holds {bad}"):
        srfx.plot.curves(ds, "run", ax=ax)


# --- the function learned of two directions ---

EDGE = np.linspace(-2, 2, 9)
PLANE = np.stack(np.meshgrid(EDGE, EDGE + 0.5, indexing="ij"), axis=-1)


def test_a_learned_plane_beside_the_target():
    model = srfx.SpikedRF("tanh", "max", gamma=(0.8, 0.5))
    learned = srfx.learned_function(model, alpha=2, lam=0.1, t=PLANE)
    axes = Figure().subplots(1, 2)
    drawn = plotting.learned_plane(learned, PLANE, model, axes=axes, levels=6)
    assert drawn == list(axes)
    assert [ax.get_title() for ax in drawn] == ["learned", "target max of 2"]
    target = PLANE.max(axis=-1)
    levels = [ax.collections[0].levels for ax in drawn]
    assert np.array_equal(*levels)
    assert levels[0][0] == min(learned.min(), target.min())
    assert levels[0][-1] == max(learned.max(), target.max())
    assert levels[0].size == 7
    assert [ax.get_xlim() for ax in drawn] == [(-2, 2)] * 2
    assert [ax.get_ylim() for ax in drawn] == [(-1.5, 2.5)] * 2
    own = plotting.learned_plane(learned, PLANE, "max", Figure().subplots(1, 2), levels=[0, 1])
    assert own[0].collections[0].levels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("learned", "t", "target", "said"),
    [
        (EDGE, PLANE, "max", r"learned must have the shape of the grid, \(9, 9\); got \(9,\)"),
        (PLANE[..., 0], PLANE[..., 0], "max", r"t must be a grid of shape \(n, m, 2\)"),
        (PLANE[..., 0], PLANE.transpose(1, 0, 2), "max", "t must be a grid, as np.meshgrid"),
        (PLANE[..., 0], PLANE, "sin", "target must be one of two directions; got sin"),
        (PLANE[..., 0], PLANE, Target("max", directions=3), "got max of 3"),
        (np.nan * PLANE[..., 0], PLANE, "max", "learned must be finite"),
    ],
)
def test_what_is_no_learned_plane(learned, t, target, said):
    with pytest.raises(ValueError, match=said):
        plotting.learned_plane(learned, t, target, axes=Figure().subplots(1, 2))


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
def test_steps_have_symbols():
    model = MultiStep(eta=(np.array([[1.0], [2.0]]), 1.0), alpha0=(1.0, 2.0))
    ax = srfx.plot.learning_curve(srfx.solve(model, [1, 2], 0.1), ax=Figure().add_subplot())
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[:2] == [rf"$\tilde\eta_{{1}}$ = {x}" for x in (1, 2)]
    assert r"$\alpha_{0,2}$ = 2" in ax.get_title()
