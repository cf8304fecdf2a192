"""Stored scans: what is marked as finished is right, whatever happened to the writer."""

import contextlib
import copy
import dataclasses
import errno
import json
import math
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import srfx
from srfx import _executors, scans
from srfx.scans import formats, store
from srfx.scans import run as running

MODEL = srfx.OneStep("tanh", "sin", alpha0=20)
AXES = {"alpha": np.linspace(0.5, 3, 7), "eta": [0.5, 1.0, 3.0], "lam": [0.001, 0.1]}
BLOCKS = 12  # of block_points=4: eta one by one, alpha by twos, lam


def run(out, **changes):
    return srfx.scan(**{"model": MODEL, "out": out, "block_points": 4, **AXES, **changes})


@pytest.fixture(scope="module")
def want():
    return srfx.scan(MODEL, **AXES)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "scan.zarr"


def chunks(path):
    """Name and bytes of every chunk of the variables."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for name in ("test_error", "train_error", "status")
        for file in (Path(path) / name).rglob("*")
        if file.is_file() and file.name != "zarr.json"
    }


def markers(path):
    # A kill in the middle of a write leaves a .partial file beside them, which marks nothing.
    files = (Path(path) / "_srfx" / "done" / "c").iterdir()
    return sorted((f for f in files if f.name.isdecimal()), key=lambda file: int(file.name))


def forget(path, *blocks):
    """Make blocks unfinished."""
    for block in blocks:
        markers_ = {int(file.name): file for file in markers(path)}
        markers_[block].unlink()


def equal(stored, want):
    xr.testing.assert_equal(stored.load()[list(want.data_vars)], want)


@pytest.fixture
def computed(monkeypatch):
    """Blocks that are computed in this process."""
    seen = []

    def fill(task, arrays, original=running.fill):
        seen.append(task.block)
        return original(task, arrays)

    monkeypatch.setattr(running, "fill", fill)
    return seen


class TestStore:
    def test_it_holds_what_memory_would(self, out, want):
        ds = run(out)
        assert ds.test_error.dims == ("alpha", "eta", "lam")
        assert not isinstance(ds.test_error.variable._data, np.ndarray)  # not loaded
        assert len(markers(out)) == BLOCKS
        equal(ds, want)
        assert ds.attrs["failed_points"] == 0
        assert set(want.attrs) <= set(ds.attrs)

    def test_xarray_opens_it_directly(self, out, want):
        run(out)
        with xr.open_zarr(out) as ds:  # warnings are errors here
            assert ds.test_error.encoding["chunks"] == (2, 1, 2)
            equal(ds, want)
            assert ds.status.attrs["flag_meanings"].startswith("not_computed converged")

    def test_zarr_knows_every_object(self, out):
        import zarr

        run(out)
        group = zarr.open_group(out, mode="r", use_consolidated=False)
        names = {name for name, _ in group.members(max_depth=None)}
        assert {"test_error", "_srfx/done", "alpha", "noise"} <= names
        assert group.metadata.zarr_format == 3

    def test_without_assertions(self, out):
        """`python -O` leaves out what zarr 3.1.6 needs to read a group inside a group."""

        def optimised(code):
            code = (
                "import srfx, sys, xarray; out = sys.argv[1];"
                "assert False;"  # left out
                "scan = lambda: srfx.scan(srfx.SpikedRF(), out, alpha=[1, 2], lam=[0.1, 1]);"
            ) + code
            words = [sys.executable, "-O", "-W", "error", "-c", code, str(out)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            # of a success the output alone: old packages warn of others beneath them
            return done.stdout + (done.stderr if done.returncode else "")

        again = "xarray.testing.assert_identical(scan().load(), scan().load());"
        said = optimised(again + "print(xarray.open_zarr(out).test_error.shape)")
        assert said == "(2, 2)\n"
        # a store as earlier versions wrote it
        root = json.loads((out / "zarr.json").read_text())
        group = json.loads((out / "_srfx" / "zarr.json").read_text())
        root["consolidated_metadata"]["metadata"]["_srfx"] = group
        (out / "zarr.json").write_text(json.dumps(root))
        said = optimised("srfx.scans.open_scan(out)")
        assert "is of an earlier one, which zarr reads without -O alone: go on with it" in said
        assert optimised("print(scan().test_error.shape)") == "(2, 2)\n"

    def test_labels_of_an_earlier_version(self, out):
        def labelled():
            alpha = xr.DataArray([1.0, 2.0], dims="run", coords={"run": ["a", "b"]})
            return srfx.scan(MODEL, out, alpha=alpha, lam=1)

        labelled()
        array = json.loads((out / "run" / "zarr.json").read_text())
        assert array["attributes"].pop("labels") == ["a", "b"]
        (out / "run" / "zarr.json").write_text(json.dumps(array))
        assert labelled().run.values.tolist() == ["a", "b"]
        with xr.open_zarr(out) as ds:
            assert ds.run.labels == ["a", "b"]

    def test_where_it_comes_from(self, out):
        attrs = run(out).attrs
        for key in ("srfx_version", "srfx_build", "created", "host", "srfx_fingerprint"):
            assert attrs[key]
        specification = json.loads(attrs["srfx_specification"])
        assert specification["tolerance"] == 1e-10
        assert specification["alpha"]["count"] == 7

    def test_a_finished_store_costs_nothing(self, out, want, computed):
        run(out)
        computed.clear()
        before = {file: file.stat().st_mtime_ns for file in out.rglob("zarr.json")}
        equal(run(out), want)
        assert computed == []
        assert {file: file.stat().st_mtime_ns for file in out.rglob("zarr.json")} == before

    def test_only_missing_blocks_are_computed(self, out, want, computed):
        run(out)
        forget(out, 3, 7)
        computed.clear()
        equal(run(out), want)
        assert computed == [3, 7]

    def test_a_store_keeps_its_blocks(self, out, want, computed):
        run(out)
        forget(out, 5)
        computed.clear()
        equal(run(out, block_points=None), want)
        assert computed == [5]

    def test_unfinished_points_show(self, out):
        run(out)
        shutil.rmtree(out / "status" / "c" / "0")
        with xr.open_zarr(out) as ds:
            assert (ds.status[:2] == -1).all()
            assert (ds.status[2:] == 0).all()

    def test_damage_is_noticed_on_reading(self, out):
        run(out)
        chunk = out / "test_error" / "c" / "0" / "0" / "0"
        data = bytearray(chunk.read_bytes())
        data[3] ^= 1
        chunk.write_bytes(data)
        with pytest.raises(ValueError, match="checksum"):
            scans.open_scan(out).test_error.load()

    def test_failures_are_counted_over_all_runs(self, out):
        arguments = {"alpha": [0.5, 1, 2], "lam": 0, "block_points": 1}
        assert srfx.scan(srfx.SpikedRF(), out, **arguments).attrs["failed_points"] == 1
        forget(out, 0)
        assert srfx.scan(srfx.SpikedRF(), out, **arguments).attrs["failed_points"] == 1

    def test_one_point(self, out):
        ds = srfx.scan(MODEL, out, alpha=1.5, lam=0.1)
        assert ds.test_error.item() == srfx.solve(MODEL, 1.5, 0.1).test_error

    @pytest.mark.parametrize("labels", [[10, 20], ["first", "second one"]])
    def test_labels_of_pairs(self, out, labels):
        pair = {"dims": "point", "coords": {"point": labels}}
        ds = srfx.scan(
            MODEL, out, alpha=xr.DataArray([1.0, 2], **pair), lam=xr.DataArray([0.1, 0.2], **pair)
        )
        assert ds.point.values.tolist() == labels
        assert ds.lam.values.tolist() == [0.1, 0.2]
        again = srfx.scan(MODEL, out, alpha=ds.alpha, lam=ds.lam)  # resumed, labels and all
        xr.testing.assert_identical(again, ds)

    def test_given_weights_are_known_by_their_values(self, out):
        """However they lie in memory."""
        model = srfx.OneStep("tanh", "sin", eta=2, alpha0=1)
        bulk = srfx.EmpiricalBulk.from_weights(*srfx.simulation.sample_weights(model, d=50))
        turned = dataclasses.replace(bulk, vectors=np.asfortranarray(bulk.vectors))
        first = srfx.scan(model, out, bulk=bulk, alpha=[1, 2], lam=0.1).load()
        xr.testing.assert_equal(
            srfx.scan(model, out, bulk=turned, alpha=[1, 2], lam=0.1).load(), first
        )
        other = dataclasses.replace(bulk, vectors=bulk.vectors * 1.01)
        with pytest.raises(ValueError, match="differs in bulk"):
            srfx.scan(model, out, bulk=other, alpha=[1, 2], lam=0.1)


def sampled(d=40):
    return srfx.simulation.sample_weights(srfx.OneStep("tanh", "sin", eta=2, alpha0=1), d=d)


class TestWhatIsKnown:
    """A scan is known by what the user gave, not by digits that depend on the machine."""

    MODEL = srfx.OneStep("tanh", "sin", eta=2, alpha0=1)

    def weights(self, out, W, v, theta):
        bulk = srfx.EmpiricalBulk.from_weights(W, v, theta)
        return self.bulk(out, bulk)

    def bulk(self, out, bulk):
        return srfx.scan(self.MODEL, out, bulk=bulk, alpha=[1, 2], lam=0.1).load()

    def function(self, out, fn, **options):
        model = srfx.SpikedRF(srfx.Activation(fn, **options), "sin")
        return srfx.scan(model, out, alpha=1, lam=1).load()

    def test_given_weights(self, out, monkeypatch, computed):
        W, v, theta = sampled()
        W = W.astype(np.float32)
        first = self.weights(out, W, v, theta)

        def otherwise(matrix, original=np.linalg.eigh):
            """As with another number of BLAS threads."""
            values, vectors = original(matrix)
            return values * (1 + 1e-15), -vectors

        monkeypatch.setattr(np.linalg, "eigh", otherwise)
        computed.clear()
        for again in (
            (np.asfortranarray(W), v, theta),
            (W.astype(np.float64), v, theta),
            (W.tolist(), 3 * v, theta / 7),  # of any norm
        ):
            xr.testing.assert_identical(self.weights(out, *again), first)
        assert computed == []

    def test_other_weights(self, out):
        W, v, theta = sampled()
        self.weights(out, W, v, theta)
        other = W.copy()
        other[3, 5] *= 1 + 1e-6
        turned = np.roll(theta, 1)
        for again, message in (
            ((other, v, theta), r"in bulk: a mean of W from row 3, column 5 on is \S+ in the"),
            ((W[::-1], v, theta), r"in bulk: a mean of W from row 0, column 0 on is \S+ in the"),
            ((W, v, turned), r"in bulk: a mean of theta from index 0 on is \S+ in the store"),
            (sampled(42), "in bulk: weights with p = 40 and d = 40 in the store, weights with p"),
        ):
            with pytest.raises(ValueError, match=message):
                self.weights(out, *again)

    def test_a_bulk_made_of_its_fields(self, out, computed):
        bulk = srfx.EmpiricalBulk.from_weights(*sampled())
        fields = {f.name: getattr(bulk, f.name) for f in dataclasses.fields(bulk)}
        made = srfx.EmpiricalBulk(**fields | {"given": None})
        self.bulk(out, made)
        computed.clear()
        self.bulk(out, dataclasses.replace(made, vectors=np.asfortranarray(bulk.vectors)))
        assert computed == []
        with pytest.raises(ValueError, match=r"bulk: fields of an E.* in the store, weights with"):
            self.bulk(out, bulk)
        with pytest.raises(ValueError, match=r"in bulk: r: 1\.\d+ in the store, 1\.\d+ asked for"):
            self.bulk(out, dataclasses.replace(made, r=bulk.r + 1e-9))
        changed = dataclasses.replace(bulk, vectors=1.01 * bulk.vectors)  # W made other vectors
        with pytest.raises(ValueError, match="in bulk: a mean of vectors is"):
            self.bulk(out, changed)
        for name in ("r", "c", "gamma"):
            changed = dataclasses.replace(bulk, **{name: 0.9 * fields[name]})
            with pytest.raises(ValueError, match=f"in bulk: {name}: "):
                self.bulk(out, changed)

    def test_unpickled_weights(self, out, computed):
        bulk = srfx.EmpiricalBulk.from_weights(*sampled())
        self.bulk(out, bulk)
        computed.clear()
        self.bulk(out, pickle.loads(pickle.dumps(bulk)))
        self.bulk(out, copy.deepcopy(bulk))
        assert computed == []

    def test_a_function_on_another_processor(self, out, computed):
        def last_digits(x):
            y = np.tanh(x)
            return np.where(np.arange(x.size) % 3 == 1, np.nextafter(y, 2), y)

        first = self.function(out, np.tanh)
        computed.clear()
        xr.testing.assert_identical(self.function(out, last_digits), first)
        assert computed == []
        with pytest.raises(ValueError, match="activation: callable tanh in the store, callable <l"):
            self.function(out, lambda x: np.tanh((1 + 1e-8) * x))
        with pytest.raises(ValueError, match="derivative of activation: none in the store, one a"):
            self.function(out, np.tanh, derivative=lambda x: 1 / np.cosh(x) ** 2)
        with pytest.raises(
            ValueError, match=r"kinks of activation: \(\) in the store, \(1.0\) ask"
        ):
            self.function(out, np.tanh, kinks=[1])

    def test_a_function_with_a_name(self, out, computed):
        def single(x):
            return np.tanh(x).astype(np.float32).astype(np.float64)

        ds = self.function(out, single, name="soft step")
        assert ds.attrs["activation"] == "soft step"
        computed.clear()
        self.function(out, lambda x: single(x) * (1 + 2e-7), name="soft step")
        assert computed == []
        with pytest.raises(ValueError, match="activation: soft step in the store, other asked for"):
            self.function(out, np.tanh, name="other")
        with pytest.raises(ValueError, match="activation: soft step in the store, callable tanh a"):
            self.function(out, np.tanh)
        with pytest.raises(ValueError, match=r"activation: soft step .*of their values between"):
            self.function(out, lambda x: np.tanh(1.001 * x), name="soft step")

    def test_axes_but_for_their_last_digits(self, out, computed):
        """As of np.arange, or of powers on another processor: those of the store are used."""
        grid = np.arange(0.1, 1, 0.1)
        literal = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
        assert (grid != literal).any()
        arguments = {"alpha": grid, "lam": 0.1 + 0.2, "block_points": 1}
        first = srfx.scan(srfx.SpikedRF(), out, **arguments).load()
        (markers(out)[2]).unlink()
        before = chunks(out)
        computed.clear()
        again = srfx.scan(srfx.SpikedRF(), out, **arguments | {"alpha": literal, "lam": 0.3}).load()
        assert computed == [2]
        xr.testing.assert_identical(again, first)
        assert chunks(out) == before  # to the last bit

    def test_zero_among_numbers_of_both_signs(self, out, computed):
        def fit(gamma, **others):
            return srfx.scan(srfx.SpikedRF(), out, gamma=gamma, alpha=1, **others).load()

        grid = np.arange(-0.3, 0.4, 0.1)
        assert 0 < grid[3] < 1e-15
        first = fit(grid, lam=0.1)
        computed.clear()
        literal = [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3]
        xr.testing.assert_identical(fit(literal, lam=0.1), first)
        assert computed == []
        for others, said in (
            ([-0.3, -0.2, -0.1, 1e-14, 0.1, 0.2, 0.3], "1e-14"),
            ([0.3, 0.2, 0.1, 0, -0.1, -0.2, -0.3], "0.3"),
        ):
            with pytest.raises(ValueError, match=rf"in gamma\[.\]: .* in the store, {said} "):
                fit(others, lam=0.1)

    def test_other_axes(self, out):
        srfx.scan(srfx.SpikedRF(), out, alpha=[0.1, 0.2, 0.3], lam=0.1)
        for changes, message in (
            (
                {"alpha": [0.1, 0.2 + 1e-12, 0.3]},
                r"in alpha\[1\]: 0\.2 in the store, 0\.2000000000010",
            ),
            ({"lam": 0.1 + 1e-12}, r"in lam: 0\.1 in the store, 0\.10000000000100001 asked"),
            ({"alpha": 0.1}, "in alpha: 3 values from 0.1 to 0.3 in the store, 0.1 asked for"),
        ):
            with pytest.raises(ValueError, match=message):
                srfx.scan(srfx.SpikedRF(), out, **{"alpha": [0.1, 0.2, 0.3], "lam": 0.1} | changes)
        (out / "alpha" / "c" / "0").unlink()
        with pytest.raises(ValueError, match="whose values in the store are lost"):
            srfx.scan(srfx.SpikedRF(), out, alpha=[0.1, 0.2, 0.1 + 0.2], lam=0.1)
        srfx.scan(srfx.SpikedRF(), out, alpha=[0.1, 0.2, 0.3], lam=0.1)  # put back

    @pytest.mark.parametrize(
        ("first", "then", "said"),
        [
            ({"d": 100}, {}, r"d: 100\.0 in the store, inf asked for"),
            ({}, {"d": 100}, r"d: inf in the store, 100\.0 asked for"),
            (
                {"d": [100, np.inf]},
                {"d": [100, 200]},
                r"d\[1\]: inf in the store, 200\.0 asked for",
            ),
            ({"alpha0": [1, 2]}, {"alpha0": [1, np.inf]}, r"alpha0\[1\]: 2\.0 in the store, inf"),
            ({"alpha0": np.inf}, {"alpha0": 1e300}, r"alpha0: inf in the store, 1e\+300 asked for"),
        ],
    )
    def test_infinity_is_near_to_nothing(self, out, first, then, said, computed):
        arguments = {"model": srfx.OneStep(), "out": out, "alpha": [0.5, 2], "lam": 0.1}
        srfx.scan(**arguments | first)
        computed.clear()
        srfx.scan(**arguments | first)
        assert computed == []
        with pytest.raises(ValueError, match=f"differs in {said}"):
            srfx.scan(**arguments | then)

    def test_readout_values(self, out):
        def fit(readout):
            model = srfx.SpikedRF("tanh", "sin", readout=readout)
            return srfx.scan(model, out, alpha=1, lam=1)

        fit([0.5, 1.2])
        fit([0.5, np.nextafter(1.2, 2)])
        with pytest.raises(
            ValueError, match=r"in readout\[1\]: 1\.2 in the store, 1\.2000001 asked"
        ):
            fit([0.5, 1.2000001])
        with pytest.raises(
            ValueError, match=r"in readout: \(0\.5, 1\.2\) in the store, \(0\.5\) asked"
        ):
            fit([0.5])

    @pytest.mark.filterwarnings("ignore::srfx.AccuracyWarning")
    def test_fingerprints(self):
        def fingerprint(fn, **axes):
            model = srfx.SpikedRF(srfx.Activation(fn), "sin")
            return srfx.scan(model, **{"alpha": 1, "lam": 1} | axes).attrs["srfx_fingerprint"]

        first = fingerprint(np.tanh)
        assert fingerprint(lambda x: np.tanh(x) * (1 + 2e-16)) == first
        assert fingerprint(lambda x: np.tanh(x) * (1 + 1e-6)) != first
        assert fingerprint(lambda x: 2 * np.tanh(x)) != first  # a power of two too
        assert fingerprint(np.tanh, lam=2) != first
        assert len(fingerprint(lambda x: 0 * x + math.ulp(0.0))) == len(first)
        # zero where the size is taken; far larger than there
        right = fingerprint(lambda x: 1e-12 * np.maximum(x - 5, 0))
        assert fingerprint(lambda x: 2e-12 * np.maximum(x - 5, 0)) != right
        power = fingerprint(lambda x: x**9)
        assert fingerprint(lambda x: x**9 * (1 + 1e-14 * np.sin(1e4 * x))) == power

    def test_a_store_of_an_earlier_format(self, out):
        run(out)
        root = json.loads((out / "zarr.json").read_text())
        layout = json.loads(root["attributes"]["srfx_blocks"])
        root["attributes"]["srfx_blocks"] = json.dumps(layout | {"format": 1})
        (out / "zarr.json").write_text(json.dumps(root))
        with pytest.raises(
            ValueError, match=r"by srfx .* in format 1, and not 2: it can be read, "
        ):
            run(out)
        assert scans.open_scan(out).test_error.notnull().all()


class TestReplicates:
    ARGUMENTS = {"gamma": [0.5, 1], "alpha": [0.5, 1], "lam": 0.1}  # noqa: RUF012

    def simulate(self, out, replicates, **changes):
        simulate = {"d": 40, "replicates": replicates, **changes}
        return srfx.scan(srfx.SpikedRF(), out, simulate=simulate, **self.ARGUMENTS)

    def test_more_replicates_run_the_new_ones_only(self, out, computed):
        first = self.simulate(out, 2).load()
        assert computed == [0, 1]
        more = self.simulate(out, 5).load()
        assert computed == [0, 1, 2, 3, 4]
        xr.testing.assert_equal(more.isel(replicate=slice(2)), first)
        xr.testing.assert_equal(more, self.simulate(None, 5))
        fewer = self.simulate(out, 3)
        assert computed == [0, 1, 2, 3, 4, *range(5)]  # the five of the comparison in memory
        xr.testing.assert_equal(fewer, more.isel(replicate=slice(3)))
        with xr.open_zarr(out) as ds:
            assert ds.sizes["replicate"] == 5

    @pytest.mark.parametrize("seen", ["other shapes", "nothing"])
    def test_killed_before_readers_are_shown_the_new_ones(self, out, seen, monkeypatch):
        self.simulate(out, 2)

        class Killed(BaseException):
            pass

        def kill(self):
            if seen == "nothing":  # as between the two steps of `describe`
                root = json.loads((out / "zarr.json").read_text())
                del root["consolidated_metadata"]
                (out / "zarr.json").write_text(json.dumps(root))
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(store.Store, "consolidate", kill)
            with pytest.raises(Killed):
                self.simulate(out, 3)
        again = self.simulate(out, 3)
        xr.testing.assert_equal(again, self.simulate(None, 3))
        with xr.open_zarr(out) as ds:
            assert ds.sizes["replicate"] == 3

    def test_another_seed_is_another_scan(self, out):
        self.simulate(out, 1)
        with pytest.raises(ValueError, match="differs in seed: 0 in the store, 1 asked for"):
            self.simulate(out, 1, seed=1)


class TestRefusals:
    def test_another_specification(self, out):
        run(out)
        for changes, message in (
            ({"alpha": np.linspace(0.5, 3, 8)}, "alpha: 7 values from 0.5 to 3 in the store, 8 v"),
            ({"model": srfx.OneStep("erf", "sin", alpha0=20)}, "activation: tanh in the s.* erf"),
            ({"model": srfx.OneStep("tanh", "sin", alpha0=10)}, "alpha0: 20.0 in the store, 10.0"),
            ({"variables": ["m"]}, r"variables: \(test_error, train_error, status\) in the s.*\(m"),
            ({"beta": [1, 2]}, "beta: 1.0 in the store, 2 values from 1 to 2 asked for"),
        ):
            with pytest.raises(ValueError, match=message):
                run(out, **changes)
        assert len(markers(out)) == BLOCKS  # untouched

    def test_another_version(self, out, monkeypatch):
        run(out)
        monkeypatch.setattr("srfx.scans.plan.version", lambda: "99.0")
        with pytest.raises(ValueError, match=r"srfx_version: .* in the store, 99\.0 asked for"):
            run(out)

    def test_callables_are_told_apart_by_their_values(self, out):
        def fit(fn):
            return srfx.scan(srfx.SpikedRF(fn, "sin"), out, alpha=1, lam=1)

        message = r"activation: callable <lambda> in the store, .* a mean is -?\d\."
        fit(srfx.Activation(lambda x: np.tanh(x)))
        fit(srfx.Activation(lambda x: np.tanh(x) + 0))  # the same function
        with pytest.raises(ValueError, match=message):
            fit(srfx.Activation(lambda x: np.tanh(1.0001 * x)))
        with pytest.raises(ValueError, match=message):
            fit(srfx.Activation(lambda x: np.tanh(x) + ((x > 0.501) & (x < 0.502))))

    @pytest.mark.filterwarnings("ignore::srfx.AccuracyWarning")
    def test_steps_are_told_apart_wherever_they_are(self, out):
        """Undeclared ones too, between two points where the functions are compared."""

        def fit(at, width=0.0):
            def step(x):
                return np.clip((x - at) / width, 0, 1) if width else (x > at) * 1.0

            return srfx.scan(srfx.SpikedRF(step, "sin"), out, alpha=1, lam=1, progress=False)

        fit(0.5)
        fit(0.5)
        message = r"in activation: callable step .*of their steps between x = 0\.482 and 0\.862 a"
        for other in ((0.5 + 1e-6,), (0.5 - 1e-6,), (0.5001,), (0.5, 1e-6)):
            with pytest.raises(ValueError, match=message):
                fit(*other)

    @pytest.mark.filterwarnings("ignore::srfx.AccuracyWarning")
    def test_functions_are_told_apart_far_out(self, out):
        """Where a large r or c leads."""

        def fit(rate):
            def bent(x):
                return x * np.exp(-rate * np.maximum(np.abs(x) - 13, 0) ** 3)

            model = srfx.SpikedRF(bent, "relu", r=6, gamma=0.8)
            return float(srfx.scan(model, out, alpha=2, lam=0.1, progress=False).test_error)

        assert fit(0.1) == pytest.approx(0.477938, rel=1e-5)
        with pytest.raises(ValueError, match=r"in activation: .*of their logarithms of values bet"):
            fit(1.0)  # 0.572277

    @pytest.mark.filterwarnings("ignore::srfx.AccuracyWarning")
    @pytest.mark.parametrize(
        "function",
        [
            lambda x: np.maximum(x - 5, 0),
            lambda x: np.clip(1e3 * x, -1, 1),
            lambda x: 1e6 + 100 * np.clip(1e3 * x, -1, 1),
            lambda x: 1 - np.tanh(x) ** 2,
            lambda x: np.where(np.abs(x) < 100, x, np.nan),
        ],
    )
    def test_rounding_errors_of_slopes_and_far_values(self, out, function):
        def fit(noise):
            def fn(x):
                return function(x) * (1 + noise * np.sin(1e4 * x))

            return srfx.scan(srfx.SpikedRF(fn, "sin"), out, alpha=1, lam=1, progress=False).load()

        xr.testing.assert_identical(fit(1e-14), fit(0.0))

    @pytest.mark.parametrize("name", [None, "mine"])
    @pytest.mark.parametrize(
        "functions",
        [
            (lambda x: 1e4 + np.tanh(x), lambda x: 1e4 + np.tanh(2 * x)),
            (lambda x: 1e5 + np.tanh(x), lambda x: 1e5 + np.tanh(1.01 * x)),
            (lambda x: 1e3 + (x > 1e-5), lambda x: 1e3 + (x > 1e-4)),
        ],
    )
    @pytest.mark.filterwarnings("ignore::srfx.AccuracyWarning")
    def test_a_constant_hides_no_difference(self, out, functions, name):
        def fit(fn):
            model = srfx.SpikedRF(srfx.Activation(fn, name=name), "sin")
            return srfx.scan(model, out, alpha=1, lam=1, progress=False)

        fit(functions[0])
        fit(functions[0])
        with pytest.raises(ValueError, match="differs in activation"):
            fit(functions[1])

    def test_functions_without_a_middle(self, out):
        """Constants: known by their value alone."""

        def fit(constant):
            model = srfx.SpikedRF("tanh", srfx.Activation(lambda x: constant + 0 * x))
            return srfx.scan(model, out, alpha=1, lam=1, progress=False)

        fit(0.3)
        fit(0.3 * (1 + 1e-15))
        with pytest.raises(ValueError, match=r"values between x = -4 and 4 a mean is 0\.3 in the"):
            fit(0.31)

    def test_an_existing_store_without_resume(self, out):
        run(out, resume=False)
        with pytest.raises(ValueError, match="out must not exist with resume=False"):
            run(out, resume=False)

    def test_something_else(self, tmp_path):
        (tmp_path / "file").write_text("precious")
        with pytest.raises(ValueError, match=r"'.*file' is a file"):
            run(tmp_path / "file")
        with pytest.raises(ValueError, match="is something else"):
            run(tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["file"]
        message = r"out must be a directory that can be made and written to \(Not a directory\)"
        with pytest.raises(NotADirectoryError, match=message):
            run(tmp_path / "file" / "scan.zarr")

    @pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
    def test_links(self, out, computed):
        """To a store, to nothing yet, and in a circle."""
        link = out.with_name("link.zarr")
        link.symlink_to(out.name)
        run(link)
        assert link.is_symlink()
        assert (out / "zarr.json").exists()
        computed.clear()
        run(link)
        run(out)
        assert computed == []
        again = out.with_name("again.zarr")
        again.symlink_to(again.name)
        with pytest.raises(OSError, match="out must be a directory that can be made"):
            run(again)

    def test_a_disk_that_is_too_small(self, out, monkeypatch):
        usage = shutil.disk_usage(out.parent)._replace(free=100)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(ValueError, match=r"out would need .* are free"):
            run(out)
        assert not out.exists()

    def test_zarr_is_missing(self, out, monkeypatch):
        monkeypatch.setitem(sys.modules, "zarr", None)
        with pytest.raises(ImportError, match=r"needs zarr: pip install 'srfx\[scan\]'"):
            run(out)

    def test_an_old_zarr_is_named(self, out, monkeypatch):
        import zarr

        for old in ("2.18.7", "3.0.10", "3.1.2rc1"):
            monkeypatch.setattr(zarr, "__version__", old)
            with pytest.raises(ImportError, match=f"needs zarr >= 3.1.3, and {old} is installed"):
                run(out)
        assert not out.exists()
        for fine in ("3.1.3", "3.2.0rc1", "3.2.dev7", "4.0", "10.0.0"):
            monkeypatch.setattr(zarr, "__version__", fine)
            assert store.require_zarr() is zarr

    def test_no_store_to_open(self, out):
        with pytest.raises(ValueError, match="there is none at"):
            scans.open_scan(out)


class TestTwoWriters:
    def test_the_second_is_refused(self, out, want):
        run(out)
        forget(out, 2)
        lock = store.Lock(out / "_srfx" / "done" / "lock")
        with pytest.raises(ValueError, match=f"out is being written by process {os.getpid()} on"):
            run(out)
        lock.release()
        equal(run(out), want)

    def test_between_two_directories(self, out, want):
        """What another sees whose start falls between the making of one directory and the next."""
        (out / "_srfx").mkdir(parents=True)
        xr.testing.assert_equal(run(out).load(), want)

    def test_at_creation(self, out, want):
        """Two start at once: at least one writes, none disturbs."""
        outcomes = []

        def one():
            try:
                outcomes.append(run(out, n_threads=1))
            except ValueError as error:
                outcomes.append(str(error))

        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [x for x in outcomes if isinstance(x, str)]
        assert len(refused) < 4
        assert all("being written by" in text for text in refused)
        equal(run(out), want)

    def test_where_files_cannot_be_locked(self, out, want, monkeypatch):
        import fcntl

        def no_locks(*_):
            raise OSError(errno.ENOTSUP, "no locks")

        monkeypatch.setattr(fcntl, "flock", no_locks)
        run(out)
        held = out / "_srfx" / "done" / "writing"
        assert not held.exists()
        held.touch()
        with pytest.raises(ValueError, match=r"if nobody is, remove '.*writing'"):
            run(out)
        held.unlink()
        equal(run(out), want)


class TestDamage:
    def test_half_deleted_stores_are_completed(self, out, want, computed):
        run(out)
        original = chunks(out)
        rng = np.random.default_rng(0)
        files = [file for file in out.rglob("*") if file.is_file()]
        spared = {out / "zarr.json"}
        for _ in range(8):
            lost = [file for file in files if file not in spared and rng.random() < 0.3]
            for file in lost:
                file.unlink(missing_ok=True)
            equal(run(out), want)
            assert chunks(out) == original
            with xr.open_zarr(out) as ds:
                equal(ds, want)

    def test_without_its_metadata_it_is_refused(self, out):
        run(out)
        (out / "zarr.json").unlink()
        with pytest.raises(ValueError, match="are missing or not its own"):
            run(out)

    def test_a_chunk_cut_short_is_computed_again(self, out, want, computed):
        run(out)
        chunk = out / "test_error" / "c" / "1" / "0" / "0"
        chunk.write_bytes(chunk.read_bytes()[:-1])
        computed.clear()
        equal(run(out), want)
        assert len(computed) == 1

    def test_stale_partial_files_are_swept(self, out):
        run(out)
        stale = out / "test_error" / "c" / "0" / "0" / "0.abc.partial"
        stale.write_bytes(b"half a chunk")
        run(out)
        assert not stale.exists()

    def test_a_creation_that_was_cut_short_is_begun_anew(self, out, want):
        run(out)
        (out / "_srfx" / "done" / "creating").touch()
        (out / "zarr.json").unlink()
        shutil.rmtree(out / "status")
        equal(run(out, resume=False), want)

    def test_read_only(self, out, want, monkeypatch):
        run(out)

        def denied(_):
            raise PermissionError(errno.EROFS, "read only")

        monkeypatch.setattr(store, "Lock", denied)
        equal(run(out), want)
        forget(out, 1)
        with pytest.raises(PermissionError, match=r"11 of 12 blocks are in .* read only"):
            run(out)


@contextlib.contextmanager
def small_disk(folder, size):
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("cannot mount a small disk here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class TestFullDisk:
    @pytest.mark.parametrize("pool", [None, ThreadPoolExecutor])
    def test_finished_blocks_stay_valid(self, tmp_path, monkeypatch, pool):
        axes = {"alpha": np.linspace(0.5, 3, 64), "lam": np.geomspace(1e-3, 1, 1024)}
        whole = srfx.scan(srfx.SpikedRF(), **axes)
        with small_disk(tmp_path / "disk", "1m"):
            out = tmp_path / "disk" / "scan.zarr"
            ballast = tmp_path / "disk" / "ballast"
            ballast.write_bytes(bytes(400_000))
            monkeypatch.setattr(running, "_check_disk", lambda *_: None)
            with contextlib.ExitStack() as stack:
                executor = stack.enter_context(pool(2)) if pool else None
                with pytest.raises(OSError, match="space left") as caught:
                    srfx.scan(srfx.SpikedRF(), out, executor, block_points=4096, **axes)
            assert caught.value.errno == errno.ENOSPC
            done = [int(file.name) for file in markers(out) if file.stat().st_size == 20]
            assert 0 < len(done) < 16
            assert f"{len(done)} of 16 blocks are in" in caught.value.__notes__[0]
            assert not list(out.rglob("*.partial"))
            for block in done:
                part = scans.open_scan(out).isel(alpha=slice(4 * block, 4 * block + 4))
                equal(part, whole.isel(alpha=slice(4 * block, 4 * block + 4)))
            # room again, but not enough for all: what was finished is not computed again
            ballast.unlink()
            with contextlib.suppress(OSError):
                srfx.scan(srfx.SpikedRF(), out, **axes)
            assert len(markers(out)) > len(done)

    def test_read_only_disk(self, tmp_path, want):
        with small_disk(tmp_path / "disk", "4m"):
            out = tmp_path / "disk" / "scan.zarr"
            run(out)
            subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
            equal(run(out), want)
            subprocess.run(["mount", "-o", "remount,rw", str(tmp_path / "disk")], check=True)
            forget(out, 0)
            subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
            with pytest.raises(PermissionError, match="11 of 12 blocks"):
                run(out)


# --- executors on a store ---


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "scan.zarr"
    run(path)
    return chunks(path)


@pytest.fixture(scope="module")
def spawned():
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def cluster():
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=50,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


NAMELESS = srfx.SpikedRF(lambda x: np.tanh(x), "sin")  # for executors that take it by value


class TestSameBytes:
    def check(self, out, reference, want, executor, **changes):
        ds = run(out, executor=executor, **changes)
        assert chunks(out) == reference
        equal(ds, want)
        xr.testing.assert_equal(run(None, executor=executor, **changes), want)

    @pytest.mark.parametrize("n_threads", [1, 2, 3])
    def test_here(self, out, reference, want, n_threads):
        self.check(out, reference, want, None, n_threads=n_threads)

    def test_threads(self, out, reference, want):
        with ThreadPoolExecutor(3) as pool:
            self.check(out, reference, want, pool)

    def test_spawned_processes(self, out, reference, want, spawned):
        self.check(out, reference, want, spawned)

    def test_workers_that_opened_it_before_it_grew(self, out, spawned):
        arguments = {"gamma": [0.5, 1.0], "alpha": 1.0, "lam": 0.1}
        for replicates in (1, 3):
            simulate = {"d": 20, "replicates": replicates}
            ds = srfx.scan(srfx.SpikedRF(), out, spawned, simulate=simulate, **arguments)
        want = srfx.scan(srfx.SpikedRF(), simulate=simulate, **arguments)
        xr.testing.assert_equal(ds.load(), want)

    def test_loky(self, out, reference, want):
        loky = pytest.importorskip("loky")
        pool = loky.ProcessPoolExecutor(2)
        try:
            self.check(out, reference, want, pool)
            same = srfx.scan(NAMELESS, executor=pool, alpha=[1, 2], lam=0.1)
            xr.testing.assert_equal(same, srfx.scan(NAMELESS, alpha=[1, 2], lam=0.1))
        finally:
            pool.shutdown()

    def test_dask_cluster_of_two_processes(self, out, reference, want, cluster):
        assert len(cluster.scheduler_info()["workers"]) == 2
        self.check(out, reference, want, cluster)
        same = srfx.scan(NAMELESS, alpha=[1, 2], lam=0.1)
        for executor in (cluster, cluster.get_executor()):
            ds = srfx.scan(NAMELESS, executor=executor, alpha=[1, 2], lam=0.1)
            xr.testing.assert_equal(ds, same)
            assert _executors.Pool(executor).workers() == 2

    def test_simulations_on_a_cluster(self, out, cluster):
        arguments = {"alpha": [0.5, 1], "lam": 0.1, "simulate": {"d": 40, "replicates": 3}}
        ds = srfx.scan(srfx.SpikedRF(), out, cluster, **arguments)
        xr.testing.assert_equal(ds.load(), srfx.scan(srfx.SpikedRF(), **arguments))
        once = {"alpha": [0.5, 1], "lam": 0.1, "d": 40, "replicates": 3}
        ds = srfx.simulate(NAMELESS, executor=cluster, **once)
        xr.testing.assert_equal(ds, srfx.simulate(NAMELESS, **once))

    def test_workers_that_do_not_see_the_store(self, out, reference, want, monkeypatch):
        monkeypatch.setattr(store, "visible", lambda *_: False)
        with ThreadPoolExecutor(2) as pool:
            self.check(out, reference, want, pool)

    @pytest.mark.parametrize("cancelled", [True, False])
    def test_executors_that_fail_midway(self, out, reference, want, cancelled):
        """What was finished stays, and the same call goes on."""

        class Failing(ThreadPoolExecutor):
            given = 0

            def submit(self, *arguments):
                self.given += 1
                if self.given <= 5:
                    future = super().submit(*arguments)
                    future.result()
                    return future
                if not cancelled:
                    raise OSError("the queue is full")
                future = Future()
                future.cancel()
                return future

        message = "must not cancel" if cancelled else "the queue is full"
        with (
            Failing(1) as pool,
            pytest.raises((RuntimeError, OSError), match=message) as caught,
        ):
            run(out, executor=pool)
        assert len(markers(out)) == 5
        assert "5 of 12 blocks are in" in caught.value.__notes__[-1]
        equal(run(out), want)
        assert chunks(out) == reference

    def test_an_asynchronous_client_is_refused(self, cluster, monkeypatch):
        monkeypatch.setattr(type(cluster), "asynchronous", True)
        with pytest.raises(TypeError, match="must be a synchronous dask client"):
            run(None, executor=cluster)


SLOW = {"eta": np.linspace(0.1, 3, 4000), "alpha": 1.0, "lam": 0.1, "block_points": 100}


def kill_soon(pids, out, by=None):
    """Send a process a signal once a few blocks are finished."""

    def wait_and_kill():
        for _ in range(3000):
            with contextlib.suppress(OSError):
                if len(list((out / "_srfx" / "done" / "c").iterdir())) >= 3:
                    break
            time.sleep(0.005)
        os.kill(pids[0], by or signal.SIGKILL)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
class TestKilledWorkers:
    def test_dask_goes_on(self, out, cluster):
        pids = list(cluster.run(os.getpid).values())
        killer = kill_soon(pids, out)
        ds = srfx.scan(MODEL, out, cluster, **SLOW)
        killer.join()
        xr.testing.assert_equal(ds.load(), srfx.scan(MODEL, **SLOW))
        assert list(cluster.run(os.getpid).values()) != pids  # one was started anew

    def test_a_pool_breaks_and_is_resumed(self, out):
        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
            pids = list({pool.submit(os.getpid).result() for _ in range(20)})
            killer = kill_soon(pids, out)
            with pytest.raises(BrokenProcessPool) as caught:
                srfx.scan(MODEL, out, pool, **SLOW)
            killer.join()
        finished = len(markers(out))
        assert 3 <= finished < 40
        assert f"{finished} of 40 blocks are in" in caught.value.__notes__[-1]
        assert "the pool lost a worker: it was killed" in caught.value.__notes__[0]
        xr.testing.assert_equal(srfx.scan(MODEL, out, **SLOW).load(), srfx.scan(MODEL, **SLOW))


VICTIM = """
import os, signal, sys, time
import numpy as np, xarray, zarr, tqdm, srfx, srfx.scans.store, srfx._executors
import zarr.codecs, zarr.storage, uuid, socket, concurrent.futures.thread
# srfx.scan has not run here yet: no thread is lost by these forks
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        eta = np.linspace(0.1, 3, 2000)
        srfx.scan(srfx.OneStep("tanh", "sin"), sys.argv[1], eta=eta, alpha=[1.0, 2.0], lam=0.1,
                  block_points=80)
        os._exit(0)
    time.sleep(float(line))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print("killed" if os.WIFSIGNALED(status) else "finished", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the process to be killed")
def test_twenty_kills(out):
    """SIGKILL at random moments, from the creation on: no finished block wrong, none missing."""
    axes = {"eta": np.linspace(0.1, 3, 2000), "alpha": [1.0, 2.0], "lam": 0.1}
    want = srfx.scan(srfx.OneStep("tanh", "sin"), **axes)
    rng = np.random.default_rng(11)
    kills, ever = 0, 0
    with subprocess.Popen(
        [sys.executable, "-c", VICTIM, out],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        while kills < 20:
            process.stdin.write(f"{rng.uniform(0, 0.25):.6f}\n")
            process.stdin.flush()
            if process.stdout.readline() == "finished\n":
                equal(scans.open_scan(out), want)
                shutil.rmtree(out)
                ever = 0
                continue
            kills += 1
            if not (out / "zarr.json").exists() or (out / "_srfx" / "done" / "creating").exists():
                continue
            stored = scans.open_scan(out).load()
            finished = (
                [int(f.name) for f in markers(out)]
                if (out / "_srfx" / "done" / "c").exists()
                else []
            )
            assert len(finished) >= ever  # what was finished stays
            ever = len(finished)
            for block in finished:
                part = {"eta": slice(40 * block, 40 * block + 40)}
                equal(stored.isel(part), want.isel(part))
        process.stdin.close()
    ds = srfx.scan(srfx.OneStep("tanh", "sin"), out, block_points=80, **axes)
    equal(ds, want)
    shutil.rmtree(out.parent / "again", ignore_errors=True)
    srfx.scan(srfx.OneStep("tanh", "sin"), out.parent / "again", block_points=80, **axes)
    assert chunks(out) == chunks(out.parent / "again")
    assert not list(out.rglob("*.partial"))


# Python drops an interrupt that falls into a destructor, with this warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("pool", [None, ThreadPoolExecutor])
def test_ctrl_c_keeps_finished_blocks(out, pool):
    sender = kill_soon([os.getpid()], out, signal.SIGINT)
    axes = {**SLOW, "eta": np.linspace(0.1, 3, 200_000)}
    with contextlib.ExitStack() as stack:
        executor = stack.enter_context(pool(2)) if pool else None
        with pytest.raises(KeyboardInterrupt) as caught:
            srfx.scan(MODEL, out, executor, **axes)
    sender.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finished = markers(out)
    assert finished
    assert f"{len(finished)} of 2000 blocks are in" in caught.value.__notes__[0]
    stored = scans.open_scan(out)
    for file in finished[::10]:
        part = stored.isel(eta=slice(100 * int(file.name), 100 * int(file.name) + 100)).load()
        want = srfx.scan(MODEL, eta=part.eta.values, alpha=1.0, lam=0.1)
        equal(part, want)
    store.Lock(out / "_srfx" / "done" / "lock").release()  # it was let go


class TestExport:
    def test_netcdf(self, out, want, tmp_path, monkeypatch):
        monkeypatch.setattr(formats, "_EXPORT_POINTS", 5)
        run(out)
        scans.export(out, tmp_path / "scan.nc")
        with xr.open_dataset(tmp_path / "scan.nc") as back:
            equal(back, want)
            assert back.attrs["srfx_fingerprint"] == want.attrs["srfx_fingerprint"]
            assert back.test_error.attrs["long_name"] == "noise-free test error"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["scan.nc", "scan.zarr"]

    def test_parquet(self, want, tmp_path, monkeypatch):
        pytest.importorskip("pyarrow")
        monkeypatch.setattr(formats, "_EXPORT_POINTS", 5)
        scans.export(want, tmp_path / "scan.parquet")
        table = pd.read_parquet(tmp_path / "scan.parquet")
        assert len(table) == want.test_error.size
        flat = want.to_dataframe().reset_index()
        for name in ("alpha", "eta", "lam", "test_error", "status", "beta"):
            np.testing.assert_array_equal(table[name], flat[name])

    def test_bad_input(self, want, tmp_path, monkeypatch):
        with pytest.raises(ValueError, match="the suffix of path must be one of"):
            scans.export(want, tmp_path / "scan.csv")
        with pytest.raises(TypeError, match="source must be"):
            scans.export(3, tmp_path / "scan.nc")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(ImportError, match="pip install pyarrow"):
            scans.export(want, tmp_path / "scan.parquet")
