"""What other programs show of a store and of exported files; `nox -s readers` has all of them."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import xarray as xr

import srfx

LABELS = ["bär", "second one", ""]
MEANINGS = "not_computed converged max_iterations diverged non_finite"
UNITS = "nanoseconds since 1970-01-01"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three scans with labels (text, days, truth values); of the first, a block is missing."""
    home = tmp_path_factory.mktemp("readers")
    labels = {
        "text": np.array(LABELS),
        "day": np.array(["2024-01-01", "2024-02-01", "NaT"], "M8[ns]"),
        "flag": np.array([True, False]),
    }
    for name, values in labels.items():
        pairs = {
            key: xr.DataArray(axis[: len(values)], dims="run", coords={"run": values})
            for key, axis in {"alpha": [0.5, 1.0, 2.0], "lam": [0.1, 0.2, 0.3]}.items()
        }
        model = srfx.OneStep("tanh", "sin", alpha0=20)
        kept = ("test_error", "status")
        store = home / f"{name}.zarr"
        srfx.scan(model, store, eta=[0.0, 1.0], variables=kept, block_points=3, **pairs)
        if name == "text":
            for variable in kept:
                (store / variable / "c" / "1" / "0").unlink()
        for suffix in ("nc", "parquet"):
            srfx.scans.export(store, home / f"{name}.{suffix}")
    return home


@pytest.fixture(scope="module")
def want(folder):
    ds = srfx.scans.open_scan(folder / "text.zarr").load()
    assert np.isnan(ds.test_error[1]).all()
    assert (ds.status[1] == -1).all()
    assert ds.test_error[0].notnull().all()
    return ds


def shows(want, error, status, meanings, readout=(1.0,)):
    np.testing.assert_array_equal(np.reshape(error, (2, 3)), want.test_error)
    np.testing.assert_array_equal(np.reshape(status, (2, 3)), want.status)
    assert meanings == MEANINGS
    assert tuple(readout) == (1.0,)


@pytest.mark.parametrize("consolidated", [None, True, False])
def test_xarray(folder, want, consolidated):
    with xr.open_zarr(folder / "text.zarr", consolidated=consolidated) as ds:
        shows(want, ds.test_error, ds.status, ds.status.flag_meanings, ds.readout)
        assert ds.run.values.tolist() == LABELS
        assert ds.run.labels == LABELS
    with xr.open_datatree(folder / "text.zarr", engine="zarr", consolidated=consolidated) as tree:
        shows(want, tree.test_error, tree.status, tree.status.flag_meanings, tree.readout)
    with xr.open_zarr(folder / "day.zarr", consolidated=consolidated) as ds:
        assert ds.run.dtype == "M8[ns]"


def test_a_sharded_copy(folder, want, tmp_path):
    """What xarray writes of it, in shards, is a store of other chunks with the same content."""
    ds = srfx.scans.open_scan(folder / "text.zarr").load()
    for name in ds.variables:
        ds[name].encoding.clear()
    ds.test_error.encoding = {"chunks": (1, 1), "shards": (2, 3)}
    ds.drop_vars("run").to_zarr(tmp_path / "copy.zarr", zarr_format=3, consolidated=False)
    with xr.open_zarr(tmp_path / "copy.zarr", consolidated=False) as copy:
        shows(want, copy.test_error, copy.status, copy.status.flag_meanings, copy.readout)


def test_zarr(folder, want):
    import zarr

    group = zarr.open_group(folder / "text.zarr", mode="r")
    meanings, readout = group["status"].attrs["flag_meanings"], group.attrs["readout"]
    shows(want, group["test_error"][:], group["status"][:], meanings, readout)
    assert list(group["run"][:]) == LABELS
    run = zarr.open_group(folder / "day.zarr", mode="r")["run"]
    assert (run.dtype, run.attrs["units"]) == ("int64", UNITS)


def test_tensorstore(folder, want):
    ts = pytest.importorskip("tensorstore")

    def read(*parts, **driver):
        path = str(folder.joinpath(*parts))
        kvstore = {"driver": "file", "path": path}
        return ts.open({"driver": "zarr3", "kvstore": kvstore, **driver}).result()

    def attribute(*parts, key):
        pointer = f"/attributes/{key}"
        item = read(*parts, "zarr.json", driver="json", json_pointer=pointer)
        return item.read().result().item()

    error, status = read("text.zarr", "test_error"), read("text.zarr", "status")
    assert error.domain.labels == ("eta", "run")
    assert np.isnan(error.fill_value)
    assert status.fill_value == -1
    meanings = attribute("text.zarr", "status", key="flag_meanings")
    readout = attribute("text.zarr", key="readout")
    shows(want, error.read().result(), status.read().result(), meanings, readout)
    assert attribute("text.zarr", "run", key="labels") == LABELS
    with pytest.raises(ValueError, match="string data type is not one of the supported"):
        read("text.zarr", "run")  # hence the attribute
    assert read("day.zarr", "run").read().result()[0] == np.datetime64("2024-01-01", "ns").view(
        "i8"
    )
    assert attribute("day.zarr", "run", key="units") == UNITS
    assert read("flag.zarr", "run").read().result().tolist() == [True, False]


ZARRITA = """
import * as zarr from "zarrita";
import FileSystemStore from "@zarrita/storage/fs";
const root = zarr.root(new FileSystemStore(process.argv[2]));
const group = await zarr.open.v3(root, { kind: "group" });
const out = { attrs: group.attrs };
for (const name of ["test_error", "status", "run"]) {
  const array = await zarr.open.v3(root.resolve(name), { kind: "array" });
  const values = Array.from((await zarr.get(array)).data);
  const shown = values.map((x) => (Number.isNaN(x) ? "NaN" : typeof x === "bigint" ? `${x}` : x));
  const fill = String(array.fillValue);
  out[name] = { values: shown, attrs: array.attrs, dims: array.dimensionNames, fill };
}
console.log(JSON.stringify(out));
"""


def test_zarrita(folder, want, tmp_path):
    packages = os.environ.get("SRFX_NODE_MODULES")
    if shutil.which("node") is None or packages is None:
        pytest.skip("needs node, and the folder node_modules with zarrita in SRFX_NODE_MODULES")
    (tmp_path / "node_modules").symlink_to(packages)
    (tmp_path / "read.mjs").write_text(ZARRITA)

    def read(name):
        words = ["node", str(tmp_path / "read.mjs"), str(folder / name)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    text = read("text.zarr")
    error, status = text["test_error"], text["status"]
    assert (error["dims"], error["fill"], status["fill"]) == (["eta", "run"], "NaN", "-1")
    error = [float(x) for x in error["values"]]
    meanings = status["attrs"]["flag_meanings"]
    shows(want, error, status["values"], meanings, text["attrs"]["readout"])
    assert text["run"]["values"] == text["run"]["attrs"]["labels"] == LABELS
    day = read("day.zarr")["run"]
    assert day["values"][0] == str(np.datetime64("2024-01-01", "ns").view("i8"))
    assert day["attrs"]["units"] == UNITS
    assert read("flag.zarr")["run"]["values"] == [True, False]


def test_netcdf4(folder, want):
    import netCDF4

    with netCDF4.Dataset(folder / "text.nc") as file:
        error, status = file["test_error"], file["status"]
        shows(want, error[:].filled(np.nan), status[:], status.flag_meanings, [file.readout])
        assert error[:].mask[1].all()
        assert status.flag_values.dtype == "i1"
        assert file["run"][:].tolist() == LABELS
    with netCDF4.Dataset(folder / "day.nc") as file:
        assert file["run"].units == UNITS
    with netCDF4.Dataset(folder / "flag.nc") as file:
        assert (file["run"].getncattr("dtype"), file["run"][:].tolist()) == ("bool", [1, 0])
    with pytest.raises(OSError, match=r"text\.zarr"):  # zarr 3
        netCDF4.Dataset(f"file://{folder / 'text.zarr'}#mode=zarr,file")


def test_h5netcdf(folder, want):
    h5netcdf = pytest.importorskip("h5netcdf")
    with h5netcdf.File(folder / "text.nc") as file:
        error, status = file["test_error"], file["status"]
        shows(want, error[:], status[:], status.attrs["flag_meanings"], [file.attrs["readout"]])
        assert np.isnan(error.attrs["_FillValue"])
        assert [label.decode() for label in file["run"][:]] == LABELS
    with h5netcdf.File(folder / "day.nc") as file:
        assert file["run"].attrs["units"] == UNITS
    with xr.open_dataset(folder / "text.nc", engine="h5netcdf") as ds:
        shows(want, ds.test_error, ds.status, ds.status.flag_meanings, [ds.readout])


def test_pyarrow(folder, want):
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(folder / "text.parquet")
    columns = {name: table[name].to_pylist() for name in ("test_error", "status", "run")}
    about = table.schema.metadata
    readout = json.loads(about[b"readout"])
    shows(want, columns["test_error"], columns["status"], about[b"flag_meanings"].decode(), readout)
    assert columns["run"] == LABELS * 2
    days = pq.read_table(folder / "day.parquet")["run"]
    assert str(days.type) == "timestamp[ns]"
    assert days.to_pylist()[2] is None


def test_polars(folder, want):
    pl = pytest.importorskip("polars")
    table = pl.read_parquet(folder / "text.parquet")
    about = pl.read_parquet_metadata(folder / "text.parquet")
    readout = json.loads(about["readout"])
    shows(want, table["test_error"], table["status"], about["flag_meanings"], readout)
    assert table["run"].to_list() == LABELS * 2
    assert table.filter(pl.col("test_error") > 1e300).height == 3  # NaN
    days = pl.read_parquet(folder / "day.parquet")["run"]
    assert days.dtype == pl.Datetime("ns")
    assert days[2] is None


def test_duckdb(folder, want):
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as db:
        path = str(folder / "text.parquet")
        rows = db.execute("select test_error, status, run from read_parquet(?)", [path]).fetchall()
        error, status, run = zip(*rows, strict=True)
        query = "select decode(key), decode(value) from parquet_kv_metadata(?)"
        about = dict(db.execute(query, [path]).fetchall())
        shows(want, error, status, about["flag_meanings"], json.loads(about["readout"]))
        assert list(run) == LABELS * 2
        query = "select count(*) filter (test_error > 1e300) from read_parquet(?)"  # NaN
        assert db.execute(query, [path]).fetchone() == (3,)
        query = "select count(*) from read_parquet(?) where test_error > 1e300"
        assert db.execute(query, [path]).fetchone() == (0,)  # skipped by the statistics
        path = str(folder / "day.parquet")
        (day,) = db.execute("select typeof(run) from read_parquet(?) limit 1", [path]).fetchone()
        assert day == "TIMESTAMP_NS"
