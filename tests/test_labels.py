"""Labels of paired axes: the same in memory, in a store and in files, or refused in words."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import srfx
from srfx import scans
from srfx.cli import plot
from srfx.scans import store

MODEL = srfx.SpikedRF()


def labelled(labels, values=(0.5, 1.5, 2.5)):
    return xr.DataArray(list(values), dims="run", coords={"run": labels})


def run(out, alpha, lam=0.1):
    return srfx.scan(MODEL, out, alpha=alpha, lam=lam, progress=False)


WORDS = ["", "b", "\u00e9\U0001f600"]

KEPT = {
    "int8": (np.array([0, -1, 5], "i1"), np.int8),
    "int64": ([0, 1, -1], np.int64),
    "uint8": (np.arange(3, dtype="u1"), np.uint8),
    "uint64": (np.array([0, 1, 2**64 - 1], "u8"), np.uint64),
    "float32": (np.array([0, 1.5, np.inf], "f4"), np.float32),
    "nan": ([1, np.nan, 2.0], np.float64),
    "big_endian": (np.arange(3, dtype=">f8"), np.float64),
    "bool": ([True, False, True], np.bool_),
    "text": (WORDS, "<U2"),
    "text_of_objects": (np.array(WORDS, dtype=object), "<U2"),
    "text_of_pandas": (pd.Index(WORDS), "<U2"),
    "more_text_of_pandas": (pd.Index(WORDS, dtype="string"), "<U2"),
    "dates": (pd.date_range("2024", periods=3), "M8[ns]"),
    "dates_with_a_gap": (np.array(["1700-01-01", "NaT", "2025"], "M8[ns]"), "M8[ns]"),
    "nanoseconds": (np.array([1, 2, 3], "M8[ns]"), "M8[ns]"),
    "differences": (np.array([1, "NaT", 3], "m8[ns]"), "m8[ns]"),
}
FIELDS = ("alpha", "lam", "r", "c", "gamma", "beta")
AXES = {  # one dimension for each kind; three scans hold them all
    start: {
        field: xr.DataArray([0.1, 0.2, 0.3], dims=kind, coords={kind: KEPT[kind][0]})
        for field, kind in zip(FIELDS, list(KEPT)[start : start + 6], strict=False)
    }
    for start in (0, 6, 12)
}
for axes in AXES.values():
    axes.setdefault("alpha", 0.5)
    axes.setdefault("lam", 0.1)


@pytest.mark.parametrize("axes", AXES.values(), ids=map(str, AXES))
def test_kept_everywhere(axes, tmp_path):
    want = srfx.scan(MODEL, **axes)

    def same(ds):
        for kind in want.sizes:
            labels, dtype = KEPT[kind]
            assert ds[kind].dtype == dtype
            np.testing.assert_array_equal(ds[kind], xr.DataArray(labels, dims=kind))

    same(want)
    out = tmp_path / "scan.zarr"
    stored = srfx.scan(MODEL, out, **axes).load()
    same(stored)
    xr.testing.assert_equal(stored, want)
    again = srfx.scan(MODEL, out, **{name: want[name] for name in axes})
    xr.testing.assert_identical(again.load(), stored)  # resumed, labels and all
    with xr.open_zarr(out) as raw:  # warnings are errors here
        same(raw.assign_coords({kind: raw[kind].astype(KEPT[kind][1]) for kind in want.sizes}))
    for source in (want, scans.open_scan(out)):
        scans.export(source, tmp_path / "scan.nc")
        with xr.open_dataset(tmp_path / "scan.nc") as back:
            same(back)
            xr.testing.assert_equal(back.load(), want)
        scans.export(source, tmp_path / "scan.parquet")
        table = pd.read_parquet(tmp_path / "scan.parquet")
        flat = want.to_dataframe(list(source.sizes)).reset_index()
        for name in (*want.sizes, "test_error"):
            np.testing.assert_array_equal(table[name], flat[name])


@pytest.mark.parametrize("kind", ["nan", "dates_with_a_gap", "text_of_objects", "bool"])
def test_labels_agree_with_themselves(kind):
    labels, _ = KEPT[kind]
    lam = labelled(labels, (0.1, 0.2, 0.3))
    ds = run(None, labelled(labels), lam)
    assert ds.sizes == {"run": 3}
    np.testing.assert_array_equal(ds.run, np.asarray(lam.run))
    other = lam.assign_coords(run=lam.run[::-1].values if kind != "bool" else [False, True, True])
    with pytest.raises(ValueError, match="lam must have the coordinate of alpha"):
        run(None, labelled(labels), other)


def test_text_agrees_in_every_form():
    forms = [KEPT[kind][0] for kind in KEPT if "text" in kind]
    for form in forms:
        assert run(None, labelled(forms[0]), labelled(form, (0.1, 0.2, 0.3))).sizes == {"run": 3}


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (pd.CategoricalIndex(["a", "b", "a"]), "dtype category"),
        (pd.period_range("2024", periods=3, freq="M"), r"dtype period\[M\]"),
        (pd.interval_range(0, 3), "dtype interval"),
        (pd.Index([1, 2, 3], dtype="Int64"), "dtype Int64"),
        (pd.Index(["a", "b", None], dtype="string"), "<NA> of type NAType"),
        (np.array(["a", 1, None], dtype=object), "1 of type int"),
        (np.array(["a", "b\0", "c"], dtype=object), r"'b\\x00', which files cannot hold"),
        (pd.Index(["a", "\ud800", "c"], dtype=object), "which files cannot hold"),
        ([b"a", b"b", b"c"], "b'a', b'b', b'c' of dtype"),
        ([1j, 2, 3], r"1j, \(2\+0j\), \(3\+0j\) of dtype complex128"),
        (np.arange(3, dtype="g"), "0.0, 1.0, 2.0 of dtype float"),
        pytest.param(
            np.array(["0001", "2000", "9999"], "M8[Y]"),
            "beyond what counts nanoseconds",
            marks=pytest.mark.skipif(xr.__version__ < "2025", reason="xarray itself refuses them"),
        ),
        (xr.date_range("2024", periods=3, use_cftime=True), "of type DatetimeGregorian"),
    ],
)
@pytest.mark.parametrize("stored", [False, True])
def test_refused_before_any_work(labels, got, stored, tmp_path):
    out = tmp_path / "scan.zarr" if stored else None
    if isinstance(labels, np.ndarray) and labels.dtype == np.float64:
        pytest.skip("no longer float here")
    with pytest.raises(TypeError, match=f"alpha must have labels along 'run' that .*; got .*{got}"):
        run(out, labelled(labels))
    assert not list(tmp_path.iterdir())


def test_more_refusals():
    index = pd.MultiIndex.from_product([["a"], [1, 2, 3]], names=["q", "w"])
    several = xr.Coordinates.from_pandas_multiindex(index, "run")
    with pytest.raises(TypeError, match="got a MultiIndex of 'q', 'w'"):
        run(None, xr.DataArray([0.5, 1.5, 2.5], dims="run", coords=several))
    with pytest.raises(TypeError, match="alpha must have a dimension named by text; got 5"):
        run(None, xr.DataArray([1.0, 2], dims=[5]))
    own = xr.DataArray([1.0, 2], dims="alpha", coords={"alpha": ["a", "b"]})
    with pytest.raises(ValueError, match=r"alpha must be labelled by numbers along .*; got a, b"):
        run(None, own)


def test_other_labels_are_another_scan(tmp_path):
    out = tmp_path / "scan.zarr"
    first = run(out, labelled(["a", "b", "c"])).load()
    for labels, difference in (
        (["a", "x", "c"], r"labels of run\[1\]: b in the store, x asked for"),
        ([1, 2, 3], "labels of run: text in the store, numbers asked for"),
    ):
        with pytest.raises(ValueError, match=difference):
            run(out, labelled(labels))
    with pytest.raises(ValueError, match=r"labels of run: .* in the store, nothing asked for"):
        run(out, labelled(["a", "b", "c"]).drop_vars("run"))
    xr.testing.assert_identical(scans.open_scan(out).load(), first)


def test_labels_are_compared_by_their_values(tmp_path):
    """As axes are: but for the last digits of numbers."""
    out = tmp_path / "scan.zarr"
    first = run(out, labelled([0.1, np.nan, 2.0])).load()
    again = run(out, labelled(np.array([0.1 * (1 + 1e-15), np.nan, 2.0])))
    xr.testing.assert_identical(again.load(), first)
    with pytest.raises(ValueError, match=r"labels of run\[1\]: nan in the store, 1.0 asked for"):
        run(out, labelled([0.1, 1.0, 2.0]))
    dates = tmp_path / "dates.zarr"
    run(dates, labelled(pd.date_range("2024", periods=3)))
    with pytest.raises(ValueError, match=r"labels of run\[0\]: 2024-01-01T.* store, 2025-01-01T"):
        run(dates, labelled(pd.date_range("2025", periods=3)))


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        (pd.to_datetime([1, 2, 3]), [1, 2, 3], "dates in the store, numbers asked for"),
        ([1, 2, 3], pd.to_timedelta([1, 2, 3]), "numbers in the store, time differences asked for"),
        (["a", "b", "c"], pd.to_datetime([1, 2, 3]), "text in the store, dates asked for"),
        ([True, False, True], [1, 0, 1], "truth values in the store, numbers asked for"),
        (["1", "2", "3"], [1, 2, 3], "text in the store, numbers asked for"),
    ],
)
def test_labels_of_another_kind_are_others(first, then, said, tmp_path):
    """Though a store counts dates in the same integers."""
    out = tmp_path / "scan.zarr"
    alpha = xr.DataArray([0.5, 1.5, 2.5], dims="run", coords={"run": first})
    srfx.scan(MODEL, out, alpha=alpha, lam=0.1, progress=False)
    with pytest.raises(ValueError, match=f"differs in labels of run: {said}"):
        srfx.scan(MODEL, out, alpha=alpha.assign_coords(run=then), lam=0.1, progress=False)


def test_lost_labels_are_put_back(tmp_path):
    out = tmp_path / "scan.zarr"
    axes = {**AXES[6], "r": AXES[0]["c"], "c": AXES[12]["alpha"]}  # text, bool, uint64, dates
    first = srfx.scan(MODEL, out, **axes).load()
    for dim in first.sizes:
        for file in (out / dim / "c").iterdir():
            file.unlink()
    xr.testing.assert_identical(srfx.scan(MODEL, out, **axes).load(), first)


def test_text_is_of_zarrs_own_type(tmp_path):
    zarr = store.require_zarr()
    run(tmp_path / "scan.zarr", labelled(["a", "b", "\u00e9"]))
    array = zarr.open_array(tmp_path / "scan.zarr", path="run", mode="r")
    assert array.metadata.to_dict()["data_type"] == "string"


def test_places_of_labels():
    nan = np.array([1, np.nan, 2, np.inf])
    assert [plot._place(nan, text) for text in ("1", "1.9", "inf")] == [0, 2, 3]
    assert plot._place(np.arange(3, dtype="u8"), "2") == 2
    assert plot._place(np.array(["a", "b"]), "b") == 1
    assert plot._place(np.array([True, False]), "False") == 1
    assert plot._place(np.array(["2024-01-01", "2024-01-02"], "M8[ns]"), "2024-01-02") == 1
    for shown in (  # every label that a message shows is taken, the very one
        np.array([20240101123456788, 20240101123456789]),
        np.array([2**64 - 2, 2**64 - 1], "u8"),
        np.array([1, 2], "m8[ns]"),
        np.array(["2024-01-01", "NaT"], "M8[ns]"),
        np.array([1.0, np.nan]),
    ):
        assert [plot._place(shown, str(label)) for label in shown] == [0, 1]
    for values, text, message in (
        (nan[:3], "inf", "no value is near 'inf'; there are 1.0, nan, 2.0"),
        (nan, "b", "'b' is not a number"),
        (np.array(["a", "b"]), "1", "no value is near '1'; there are a, b"),
    ):
        with pytest.raises(ValueError, match=message):
            plot._place(values, text)


@pytest.mark.parametrize("bulk", ["isotropic", "one_step"])
def test_a_slope_broadcasts_as_other_numbers_do(bulk):
    slopes, alpha0 = np.array([0.5, 2.0, 8.0])[:, np.newaxis], np.array([1.0, 3.0])
    model = srfx.OneStep("tanh", "tanh", alpha0=alpha0, labels="logit", slope=slopes)
    assert model.numeric_names[-1] == "slope"
    assert "slope=[[0.5], [2.0], [8.0]]" in repr(model)
    sol = srfx.solve(model, 2, 0.1, loss="hinge", bulk=bulk)
    assert sol.shape == (3, 2)
    assert model.equivalent().r.shape == (3, 2)
    alone = srfx.OneStep("tanh", "tanh", alpha0=3.0, labels="logit", slope=2)
    error = srfx.solve(alone, 2, 0.1, loss="hinge", bulk=bulk).classification_error
    assert sol.classification_error[1, 1] == pytest.approx(error, rel=1e-9)


def test_a_slope_is_an_axis_of_scans():
    model = srfx.SpikedRF("tanh", "tanh", labels="logit")
    ds = srfx.scan(model, slope=[1.0, 3.0], alpha=2, lam=0.1, loss="logistic", progress=False)
    own = srfx.SpikedRF("tanh", "tanh", labels="logit", slope=[1.0, 3.0])
    known = srfx.solve(own, 2, 0.1, loss="logistic").classification_error
    np.testing.assert_allclose(ds.classification_error.values.ravel(), known, rtol=1e-9)
    assert ds.slope.values.tolist() == [1.0, 3.0]


def test_a_slope_of_several_steps_is_kept_by_its_name():
    model = srfx.MultiStep("tanh", "tanh", labels="logit", slope=[1.0, 2.0])
    assert model.shape == (2,)
    assert srfx.models.with_fields(model, {"slope": 3.0}).slope == 3.0
