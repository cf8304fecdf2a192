"""Scans in memory: every number is that of `solve` or `simulate`, on any cut and any executor."""

import asyncio
import dataclasses
import functools
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

import srfx
from srfx import _executors, _replicates
from srfx.scans import plan as planning
from srfx.scans import run as running

ETA, ALPHA, LAM = np.array([0.5, 1, 3]), np.linspace(0.5, 3, 6), np.array([1e-3, 0.1])
STEP = srfx.OneStep("tanh", "sin", alpha0=20)
LONG = {"eta": np.linspace(0.1, 3, 4000), "alpha0": np.linspace(1, 9, 400)}
AXES = {"eta": ETA, "alpha": ALPHA, "lam": LAM}


def solved(**changes):
    model = srfx.OneStep("tanh", "sin", alpha0=20, eta=ETA[:, None, None])
    return srfx.solve(model, alpha=ALPHA[:, None], lam=LAM, **changes)


class TestTheory:
    @pytest.mark.parametrize("block_points", [None, 1, 5, 7])
    def test_values_are_those_of_solve(self, block_points):
        ds = srfx.scan(STEP, block_points=block_points, **AXES)
        want = solved()
        assert ds.test_error.dims == ("eta", "alpha", "lam")
        for name in ("test_error", "train_error", "status"):
            np.testing.assert_array_equal(ds[name], getattr(want, name))
        assert list(ds.data_vars) == ["test_error", "train_error", "status"]
        assert ds.status.dtype == np.int8
        for name, values in AXES.items():
            np.testing.assert_array_equal(ds[name], values)
        assert (ds.alpha0, ds.beta, ds.noise, ds.d) == (20, 1, 0, np.inf)

    def test_the_order_of_the_axes_is_the_users(self):
        ds = srfx.scan(STEP, lam=LAM, alpha=ALPHA, eta=ETA, block_points=5)
        assert ds.test_error.dims == ("lam", "alpha", "eta")
        assert list(ds.sizes) == ["lam", "alpha", "eta"]
        want = srfx.scan(STEP, **AXES)
        xr.testing.assert_equal(ds, want.transpose("lam", "alpha", "eta"))

    def test_every_field_is_an_axis(self):
        for model, fields in (
            (srfx.SpikedRF(), ("r", "c", "gamma", "beta", "noise")),
            (srfx.OneStep(), ("eta", "alpha0", "beta", "noise")),
        ):
            for field in fields:
                values = np.array([0.5, 0.9])
                ds = srfx.scan(model, alpha=1.5, lam=0.1, **{field: values})
                want = srfx.solve(dataclasses.replace(model, **{field: values}), 1.5, 0.1)
                np.testing.assert_array_equal(ds.test_error, want.test_error)
        ds = srfx.scan(srfx.SpikedRF(), alpha=[1, 2], lam=0.1, d=[100, 1000])
        want = srfx.solve(srfx.SpikedRF(), [[1], [2]], 0.1, d=[100, 1000])
        np.testing.assert_array_equal(ds.test_error, want.test_error)

    def test_alpha0_may_be_infinite(self):
        ds = srfx.scan(srfx.OneStep(), alpha0=[1, np.inf], alpha=2, lam=0.1)
        want = srfx.solve(srfx.OneStep(alpha0=np.inf), 2, 0.1).test_error
        assert ds.test_error.sel(alpha0=np.inf) == want

    def test_paired_axes(self):
        point = {"dims": "point", "coords": {"point": [10, 20, 30]}}
        eta, alpha = xr.DataArray([1, 2, 3.0], **point), xr.DataArray([3, 2, 1.0], dims="point")
        ds = srfx.scan(STEP, eta=eta, alpha=alpha, lam=LAM, block_points=2)
        assert dict(ds.sizes) == {"point": 3, "lam": 2}
        assert ds.point.values.tolist() == [10, 20, 30]
        for i in range(3):
            model = dataclasses.replace(STEP, eta=float(eta[i]))
            want = srfx.solve(model, float(alpha[i]), LAM).test_error
            np.testing.assert_array_equal(ds.test_error[i], want)
        # a penalty that follows alpha
        lam = xr.DataArray(0.1 * ALPHA, dims="alpha")
        ds = srfx.scan(STEP, eta=ETA, alpha=ALPHA, lam=lam)
        assert ds.test_error.dims == ("eta", "alpha")
        want = srfx.solve(dataclasses.replace(STEP, eta=ETA[:, None]), ALPHA, 0.1 * ALPHA)
        np.testing.assert_array_equal(ds.test_error, want.test_error)

    def test_one_point(self):
        ds = srfx.scan(STEP, alpha=1.5, lam=0.1)
        assert ds.test_error.shape == ()
        assert ds.test_error == srfx.solve(STEP, 1.5, 0.1).test_error

    def test_variables(self):
        names = ["q2", "v1", "iterations", "status", "quadrature_error"]
        ds = srfx.scan(STEP, variables=names, **AXES)
        assert list(ds.data_vars) == names
        for name in names:
            np.testing.assert_array_equal(ds[name], getattr(solved(), name))
        assert ds.iterations.dtype == np.int32

    def test_failures_are_recorded_and_counted(self):
        ds = srfx.scan(srfx.SpikedRF(), alpha=[0.5, 1, 2], lam=0, block_points=1)
        assert ds.attrs["failed_points"] == 1
        assert ds.status.values.tolist() == [0, srfx.Status.DIVERGED, 0]
        assert np.isnan(ds.test_error.values).tolist() == [False, True, False]

    def test_attributes_tell_the_origin(self):
        attrs = srfx.scan(STEP, **AXES).attrs
        assert attrs["model"] == "OneStep"
        assert attrs["srfx_version"] == srfx.__version__
        assert {"srfx_build", "created", "host", "srfx_fingerprint", "bulk"} <= set(attrs)

    def test_callables(self):
        fn = srfx.Activation(np.tanh)
        ds = srfx.scan(srfx.SpikedRF(fn, "sin"), alpha=ALPHA, lam=LAM)
        want = srfx.solve(srfx.SpikedRF(fn, "sin"), ALPHA[:, None], LAM)
        np.testing.assert_array_equal(ds.test_error, want.test_error)

    def test_warnings_come_once_and_from_the_call(self):
        kinked = srfx.Activation(lambda x: np.maximum(x - 0.3, 0))  # its kink not declared
        model = srfx.SpikedRF("tanh", kinked, gamma=1.0)
        with pytest.warns(srfx.AccuracyWarning) as seen:
            srfx.scan(model, alpha=ALPHA, lam=LAM, block_points=1)
        assert any("of the scan" in str(w.message) for w in seen)
        assert {w.filename for w in seen} == {__file__}
        assert len(seen) <= 4  # not one for each of the twelve blocks
        with pytest.warns(srfx.ApproximationWarning) as seen:
            srfx.scan(srfx.OneStep("relu", "sin"), alpha=ALPHA, lam=LAM)
        assert len(seen) == 1

    def test_it_is_a_result_for_the_pictures_and_netcdf(self, tmp_path):
        ds = srfx.scan(STEP, **AXES)
        ds.to_netcdf(tmp_path / "scan.nc")
        with xr.open_dataset(tmp_path / "scan.nc") as back:
            xr.testing.assert_equal(back, ds)


class TestBulks:
    def test_one_step(self):
        ds = srfx.scan(STEP, bulk="one_step", block_points=5, **AXES)
        np.testing.assert_array_equal(ds.test_error, solved(bulk="one_step").test_error)
        assert ds.attrs["bulk"] == "one_step"
        assert abs(ds.test_error / srfx.scan(STEP, **AXES).test_error - 1).max() > 0.01

    def test_given_weights(self, tmp_path):
        weights = srfx.simulation.sample_weights(STEP, d=100)
        bulk = srfx.EmpiricalBulk.from_weights(*weights)
        axes = {"alpha": ALPHA, "lam": LAM}
        ds = srfx.scan(STEP, tmp_path / "scan.zarr", bulk=bulk, **axes)
        want = srfx.solve(STEP, ALPHA[:, None], LAM, bulk=bulk)
        np.testing.assert_array_equal(ds.test_error, want.test_error)
        assert ds.d == 100
        assert (ds.r, ds.c, ds.gamma) == (bulk.r, bulk.c, bulk.gamma)
        assert "eta" not in ds.coords
        srfx.scan(STEP, tmp_path / "scan.zarr", bulk=bulk, **axes)
        bulk = srfx.EmpiricalBulk.from_weights(*srfx.simulation.sample_weights(STEP, d=100, seed=1))
        with pytest.raises(
            ValueError, match=r"bulk: a mean of W from row 0, column 0 on is .* in the store"
        ):
            srfx.scan(STEP, tmp_path / "scan.zarr", bulk=bulk, **axes)

    def test_groups_of_neurons(self):
        model = srfx.OneStep(readout=(0.5, 1.5))
        ds = srfx.scan(model, alpha=ALPHA, lam=LAM, block_points=5)
        want = srfx.solve(model, ALPHA[:, None], LAM)
        np.testing.assert_array_equal(ds.test_error, want.test_error)
        with pytest.raises(ValueError, match=r"as test_error, .*; got 'm', which .* of 2 groups"):
            srfx.scan(model, alpha=ALPHA, lam=LAM, variables=["m"])


class TestBlocks:
    @pytest.mark.parametrize("name", ["tanh", "relu"])
    def test_about_a_second_each_and_few_coefficient_sets(self, name):
        axes = {
            "alpha": np.linspace(0.1, 3, 300),
            "eta": np.linspace(0.1, 3, 1000),
            "lam": np.geomspace(1e-4, 1, 50),
        }
        plan = planning.make_plan(srfx.OneStep(name, "sin"), axes)
        assert plan.order == ("eta", "alpha", "lam")
        assert plan.chunk["alpha"] == 300
        assert plan.chunk["lam"] == 50
        for block in (0, plan.blocks - 1):
            lengths = {dim: s.stop - s.start for dim, s in plan.box(block).items()}
            assert 0.3 < plan.seconds(lengths) <= 1
        assert sum(map(plan.box_points, range(plan.blocks))) == plan.points

    def test_memory_of_a_block_is_bounded(self):
        axes = {"alpha": np.linspace(0.1, 3, 10**4), "lam": np.geomspace(1e-4, 1, 10**4)}
        plan = planning.make_plan(srfx.SpikedRF(), axes, variables=list(srfx.results.OBSERVABLES))
        assert plan.box_points(0) * 93 <= 2**26

    def test_blocks_tile_the_product(self):
        rng = np.random.default_rng(0)
        for _ in range(50):
            sizes = rng.integers(1, 9, 3)
            axes = {
                name: 1 + np.arange(n) / 10
                for name, n in zip(("alpha", "r", "lam"), sizes, strict=True)
            }
            plan = planning.make_plan(srfx.SpikedRF(), axes, block_points=int(rng.integers(1, 60)))
            seen = np.zeros(sizes, dtype=int)
            for block in range(plan.blocks):
                box = plan.box(block)
                seen[tuple(box[dim] for dim in plan.dims)] += 1
                index = plan.index(block)
                start = [box[dim].start for dim in plan.dims]
                assert start == [i * c for i, c in zip(index, plan.chunk_shape, strict=True)]
            assert (seen == 1).all()


class TestSimulations:
    MODEL = srfx.SpikedRF("tanh", "sin", beta=0.5)

    def test_values_are_those_of_simulate(self):
        axes = {"lam": [0.1, 1], "gamma": [0.2, 0.9], "alpha": [1.5, 0.5]}
        ds = srfx.scan(self.MODEL, simulate={"d": 60, "replicates": 3, "seed": 5}, **axes)
        assert ds.test_error.dims == ("lam", "gamma", "alpha", "replicate")
        for gamma in (0.2, 0.9):
            want = srfx.simulate(
                dataclasses.replace(self.MODEL, gamma=gamma),
                [1.5, 0.5], [0.1, 1], d=60, replicates=3, seed=5,
            )  # fmt: skip
            got = ds.sel(gamma=gamma).transpose("alpha", "lam", "replicate")
            np.testing.assert_array_equal(got.test_error, want.test_error)
            np.testing.assert_array_equal(got.train_error, want.train_error)
        assert list(ds.data_vars) == ["test_error", "train_error"]
        assert ds.attrs["method"] == "simulation"
        assert ds.attrs["seed"] == "5"
        srfx.simulation.standard_error(ds)

    def test_d_may_be_an_axis_and_alpha_paired(self):
        alpha = xr.DataArray([0.5, 1.5], dims="point")
        noise = xr.DataArray([0.0, 0.3], dims="point")
        ds = srfx.scan(
            self.MODEL, simulate={"replicates": 2}, d=[40, 60], alpha=alpha, noise=noise, lam=0.1
        )
        assert dict(ds.sizes) == {"d": 2, "point": 2, "replicate": 2}
        model = dataclasses.replace(self.MODEL, noise=0.3)
        want = srfx.simulate(model, 1.5, 0.1, d=60, replicates=2)
        np.testing.assert_array_equal(ds.test_error[1, 1], want.test_error[0, 0])

    def test_one_step_and_executor(self):
        axes = {"eta": [1, 2], "alpha": 1.0, "lam": [0.1]}
        simulate = {"d": 60, "replicates": 3, "dtype": "float32", "n_test": 500}
        ds = srfx.scan(srfx.OneStep(), simulate=simulate, **axes)
        with ThreadPoolExecutor(2) as pool:
            again = srfx.scan(srfx.OneStep(), None, pool, simulate=simulate, **axes)
        xr.testing.assert_equal(ds, again)

    @pytest.mark.parametrize(
        ("simulate", "axes", "message"),
        [
            ({"d": 60, "replicate": 3}, {}, "did you mean 'replicates'"),
            ({"d": 60, "replicates": 0}, {}, "replicates must be an integer >= 1; got 0"),
            ({}, {}, "d must be given once .* neither"),
            ({"d": 60}, {"d": [10, 20]}, "d must be given once .* both"),
            ({}, {"d": [10.5, 20]}, "d must hold integers >= 2 .* got 10.5"),
            ({"d": 1}, {}, "d must be an integer >= 2; got 1"),
            ({"d": 60, "n_test": 0}, {}, "n_test must be an integer >= 1"),
            ({"d": 60, "dtype": "float16"}, {}, "dtype must be one of"),
            ({"d": 60, "dtype": "float32"}, {"lam": [1e-9, 1]}, "lam must be at least 0.0001"),
            ({"d": 60}, {"alpha": [1e-3, 1]}, "alpha must give n = round"),
            ({"d": 60}, {"beta": [1e-3, 1]}, "beta must give p = round"),
            ({"d": 10**6}, {}, "GB of memory"),
        ],
    )
    def test_bad_input(self, simulate, axes, message):
        axes = {"alpha": [1.0], "lam": [0.1], **axes}
        with pytest.raises(ValueError, match=message):
            srfx.scan(srfx.SpikedRF(), simulate=simulate, **axes)

    def test_more_bad_input(self):
        with pytest.raises(ValueError, match="alpha0 must be finite in a simulation"):
            srfx.scan(srfx.OneStep(), alpha0=[1, np.inf], alpha=1, lam=1, simulate={"d": 50})
        with pytest.raises(
            ValueError, match="variables must be one of 'test_error', 'train_error'"
        ):
            srfx.scan(srfx.OneStep(), alpha=1, lam=1, simulate={"d": 50}, variables=["status"])
        with pytest.raises(TypeError, match="simulate must be None or a mapping"):
            srfx.scan(srfx.OneStep(), alpha=1, lam=1, simulate=True)


class TestBadInput:
    @pytest.mark.parametrize(
        ("axes", "message"),
        [
            ({"gama": [1]}, "an axis must be one of .*'gama' \\(did you mean 'gamma'"),
            ({"eta": [1]}, "an axis must be one of 'alpha', 'lam', 'd', 'r'"),
            ({"r": []}, "r must be .* got shape \\(0,\\)"),
            ({"r": [[1, 2]]}, "r must be .* got shape \\(1, 2\\)"),
            ({"r": [1, np.nan]}, "r must be .* got nan at index 1"),
            ({"r": [1, np.inf]}, "r must be finite; got inf at index 1"),
            (
                {"r": [1, 2, 1.0]},
                "r must hold distinct values along 'r'; 1 is at .* 0 and .* 2",
            ),
            ({"gamma": [0, 2]}, "gamma must be between -1 and 1; got 2.0 at index 1"),
            ({"alpha": [1, -1]}, "alpha must be finite and > 0; got -1.0"),
            ({"lam": -1}, "lam must be finite and >= 0; got -1.0"),
            ({"d": [0.5]}, "d must be None"),
            ({"variables": ["tst_error"]}, "did you mean 'test_error'"),
            ({"variables": []}, "variables must hold at least one"),
            ({"variables": ["m", "m"]}, "variables must be distinct"),
            ({"bulk": "iso"}, "bulk must be one of"),
            ({"bulk": "one_step", "simulate": {"d": 30}}, "bulk must be left out of a simulation"),
            ({"block_points": 0}, "block_points must be an integer >= 1; got 0"),
            ({"max_in_flight": 0}, "max_in_flight must be an integer >= 1; got 0"),
            ({"n_threads": 0}, "n_threads must be"),
        ],
    )
    def test_values(self, axes, message, monkeypatch):
        monkeypatch.setattr(running, "_run_blocks", lambda *_: pytest.fail("it began"))
        with pytest.raises(ValueError, match=message):
            srfx.scan(srfx.SpikedRF(), **{"alpha": ALPHA, "lam": LAM, **axes})

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"executor": 3}, "executor must be None, have a method submit"),
            ({"executor": ThreadPoolExecutor}, "executor must be None, have a method submit"),
            ({"alpha": "1"}, "alpha must be"),
            ({"alpha": [True]}, "alpha must be"),
            ({"progress": 3}, "progress must be"),
            ({"resume": "yes"}, "resume must be"),
            ({"out": 3}, "out must be a path on this machine"),
            ({"variables": "test_error"}, "variables must be a sequence of names"),
            ({"bulk": 3}, "bulk must be"),
            ({"max_in_flight": 2.0}, "max_in_flight must be an integer >= 1; got 2.0"),
        ],
    )
    def test_types(self, changes, message):
        with pytest.raises(TypeError, match=message):
            srfx.scan(srfx.SpikedRF(), **{"alpha": ALPHA, "lam": LAM, **changes})

    def test_missing_axes_and_models(self):
        with pytest.raises(ValueError, match="lam must be given"):
            srfx.scan(srfx.SpikedRF(), alpha=1)
        with pytest.raises(TypeError, match="model must be"):
            srfx.scan("tanh", alpha=1, lam=1)
        with pytest.raises(ValueError, match="r of the model must be a single number"):
            srfx.scan(srfx.SpikedRF(r=[1, 2]), alpha=1, lam=1)
        assert srfx.scan(srfx.SpikedRF(r=[1, 2]), r=[1, 3], alpha=1, lam=1).sizes["r"] == 2

    def test_pairs(self):
        a, b = xr.DataArray([1, 2.0], dims="p"), xr.DataArray([1, 2, 3.0], dims="p")
        with pytest.raises(ValueError, match=r"lam must have as many values as alpha.*2.*got 3"):
            srfx.scan(srfx.SpikedRF(), alpha=a, lam=b)
        twice = xr.DataArray([1, 1.0], dims="p")
        with pytest.raises(ValueError, match="alpha and lam must hold distinct values along 'p'"):
            srfx.scan(srfx.SpikedRF(), alpha=twice, lam=twice)
        assert srfx.scan(srfx.SpikedRF(), alpha=a, lam=twice).sizes == {"p": 2}
        with pytest.raises(ValueError, match="alpha must have one dimension"):
            srfx.scan(srfx.SpikedRF(), alpha=xr.DataArray([[1.0]], dims=("a", "b")), lam=1)
        with pytest.raises(ValueError, match="lam has the dimension 'alpha', which is also"):
            srfx.scan(srfx.SpikedRF(), alpha=1.0, lam=xr.DataArray([1.0], dims="alpha"))
        with pytest.raises(ValueError, match="must not have a dimension called 'replicate'"):
            srfx.scan(srfx.SpikedRF(), alpha=1.0, lam=xr.DataArray([1.0], dims="replicate"))

    @pytest.mark.parametrize("name", ["test_error", "status", "_srfx", "a/b"])
    def test_dimensions_that_a_store_or_result_cannot_have(self, name):
        with pytest.raises(ValueError, match=f"must not have a dimension called '{name}'"):
            srfx.scan(srfx.SpikedRF(), alpha=1.0, lam=xr.DataArray([1.0], dims=name))

    def test_pairs_are_not_made_of_values_labelled_as_different(self):
        def labelled(values, dim, at):
            return xr.DataArray(values, dims=dim, coords={dim: at})

        scan = functools.partial(srfx.scan, srfx.SpikedRF())
        a = labelled([1, 2.0], "p", [10, 20])
        with pytest.raises(
            ValueError, match=r"lam must have the coordinate of alpha.*'p' \(10, 20"
        ):
            scan(alpha=a, lam=labelled([0.1, 0.2], "p", [20, 10]))
        with pytest.raises(ValueError, match=r"lam must have the coordinate of alpha.*got x, y"):
            scan(alpha=a, lam=labelled([0.1, 0.2], "p", ["x", "y"]))
        with pytest.raises(
            ValueError, match=r"lam must have .* 'alpha' \(1.0, 2.0\); got 2.0, 1.0"
        ):
            scan(lam=labelled([0.1, 0.2], "alpha", [2.0, 1.0]), alpha=[1, 2])
        assert list(scan(alpha=a, lam=labelled([0.1, 0.2], "p", [10, 20])).p) == [10, 20]
        assert scan(alpha=a, lam=xr.DataArray([0.1, 0.2], dims="p")).sizes == {"p": 2}
        scan(lam=labelled([0.1, 0.2], "alpha", [1, 2]), alpha=[1, 2])
        # an axis of its own that kept the labels of what it was computed from
        own = labelled([3.0, 4.0], "alpha", [1, 2])
        assert list(scan(lam=labelled([0.1, 0.2], "alpha", [1, 2]), alpha=own).alpha) == [3, 4]

    def test_more_points_than_memory(self, monkeypatch):
        monkeypatch.setattr(srfx._validation, "available_memory", lambda: 1e6)
        with pytest.raises(ValueError, match=r"GB of memory.*give out="):
            srfx.scan(srfx.SpikedRF(), alpha=1 + np.arange(1000), lam=1 + np.arange(1000))

    def test_forking_pools_are_refused(self):
        if "fork" not in multiprocessing.get_all_start_methods():
            pytest.skip("no fork here")
        context = multiprocessing.get_context("fork")
        with (
            ProcessPoolExecutor(1, context) as pool,
            pytest.raises(ValueError, match=r"must not fork.*get_context\('spawn'\)"),
        ):
            srfx.scan(STEP, executor=pool, **AXES)

    def test_lambdas_do_not_go_to_other_processes(self):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            model = srfx.SpikedRF(lambda x: np.tanh(x), "sin")
            with pytest.raises(
                ValueError, match=r"model must have callables that the workers .* load"
            ):
                srfx.scan(model, executor=pool, alpha=ALPHA, lam=LAM)


class Oddball:
    """An executor whose futures are its own."""

    class Later:
        def __init__(self, call):
            self.call = call

        def done(self):
            return False

        def result(self):
            return self.call()

        def cancel(self):
            return True

    def submit(self, function, *arguments):
        return self.Later(lambda: function(*arguments))


def shut_down(kind):
    """An executor of this kind that takes no more work."""
    if kind == "dask":
        distributed = pytest.importorskip("distributed")
        pool = distributed.Client(processes=False, n_workers=1, dashboard_address=None)
        pool.close()
        pool.cluster.close()
        return pool
    if kind == "loky":
        pool = pytest.importorskip("loky").ProcessPoolExecutor(1)
    elif kind == "processes":
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    else:
        pool = ThreadPoolExecutor(1)
    pool.shutdown()
    return pool


class TestExecutors:
    @pytest.mark.parametrize("n_threads", [1, 2])
    def test_threads(self, n_threads):
        with ThreadPoolExecutor(3) as pool:
            ds = srfx.scan(STEP, None, pool, n_threads=n_threads, block_points=5, **AXES)
        xr.testing.assert_equal(ds, srfx.scan(STEP, **AXES))

    def test_other_futures(self):
        ds = srfx.scan(STEP, executor=Oddball(), block_points=5, **AXES)
        xr.testing.assert_equal(ds, srfx.scan(STEP, **AXES))

    def test_futures_with_a_result_alone(self, monkeypatch):
        monkeypatch.delattr(Oddball.Later, "done")
        ds = srfx.scan(STEP, executor=Oddball(), block_points=5, **AXES)
        xr.testing.assert_equal(ds, srfx.scan(STEP, **AXES))

    @pytest.mark.parametrize("kind", ["of asyncio", "none"])
    def test_futures_that_no_thread_can_wait_for(self, kind):
        loop = asyncio.new_event_loop()

        class Pool:
            def submit(self, *_):
                return loop.create_future() if kind == "of asyncio" else None

        for call in (
            functools.partial(srfx.scan, STEP, **AXES),
            functools.partial(srfx.simulate, STEP, alpha=1, lam=0.1, d=30),
        ):
            with pytest.raises(TypeError, match="executor must hand back futures that a thread"):
                call(executor=Pool())
        loop.close()

    def test_few_blocks_in_flight(self):
        most = []

        class Watched(ThreadPoolExecutor):
            def submit(self, *arguments):
                most.append(self._work_queue.qsize())
                return super().submit(*arguments)

        with Watched(2) as pool:
            srfx.scan(STEP, executor=pool, block_points=1, **AXES)
        assert len(most) == 36
        assert max(most) <= 4

    @pytest.mark.parametrize("most", [None, 1, 7])
    def test_as_many_blocks_in_flight_as_asked_for(self, most):
        class Counting(Oddball):
            """Runs a block when its result is asked for, and does not say how many workers."""

            given, finished, flying = 0, 0, 0

            def submit(self, function, *arguments):
                self.given += 1

                def call():
                    self.flying = max(self.flying, self.given - self.finished)
                    self.finished += 1
                    return function(*arguments)

                return self.Later(call)

        pool = Counting()
        srfx.scan(STEP, executor=pool, block_points=1, max_in_flight=most, **AXES)
        assert pool.flying == min(36, most or 2 * os.cpu_count())

    def test_results_are_taken_as_they_come(self):
        """Also of futures of another make, if they tell when they have ended."""

        class Foreign:
            def __init__(self, call):
                self.call, self.tell = call, []

            def add_done_callback(self, tell):
                self.tell.append(tell)
                if self.call is None:
                    tell(self)

            def run(self):
                self.value, self.call = self.call(), None
                for tell in self.tell:
                    tell(self)

            def result(self):
                assert self.call is None, "it has not ended"
                return self.value

        class SlowFirst:
            given = ()

            def submit(self, function, *arguments):
                future = Foreign(lambda: function(*arguments))
                self.given = (*self.given, future)
                if len(self.given) > 1:
                    future.run()
                if len(self.given) == 10:
                    self.given[0].run()
                return future

        ds = srfx.scan(STEP, executor=SlowFirst(), max_in_flight=2, block_points=1, **AXES)
        xr.testing.assert_equal(ds, srfx.scan(STEP, **AXES))

    @pytest.mark.parametrize("wrong", [RuntimeError("no good"), KeyboardInterrupt()])
    def test_futures_that_cannot_be_cancelled_hide_nothing(self, wrong, monkeypatch):
        class Stubborn(Future):
            def cancel(self):
                raise NotImplementedError("cancelling is not supported")

        class Parsley:
            def submit(self, function, *arguments):
                return Stubborn()

        def raising(self, running, ended):
            raise wrong

        monkeypatch.setattr(_executors.Pool, "_finished", raising)
        for call in (
            functools.partial(srfx.scan, STEP, **AXES),
            functools.partial(srfx.simulate, STEP, alpha=1, lam=0.1, d=30),
        ):
            with pytest.raises(type(wrong)) as caught:
                call(executor=Parsley())
            assert caught.value is wrong

    @pytest.mark.parametrize("kind", ["threads", "processes", "loky", "dask"])
    def test_pools_that_are_shut_down(self, kind, tmp_path):
        """Before any work: there is no store then."""
        pool = shut_down(kind)
        for call in (
            functools.partial(srfx.scan, STEP, tmp_path / "s.zarr", **AXES),
            functools.partial(srfx.simulate, STEP, alpha=1, lam=0.1, d=30),
        ):
            with pytest.raises(ValueError, match="executor must be running; this one is shut down"):
                call(executor=pool)
        assert list(tmp_path.iterdir()) == []

    def test_cancelled_elsewhere(self):
        class Cancelling:
            def submit(self, function, *arguments):
                future = Future()
                future.cancel()
                return future

        with pytest.raises(RuntimeError, match="executor must not cancel what it was given"):
            srfx.scan(STEP, executor=Cancelling(), **AXES)

    def test_errors_of_blocks_come_through(self):
        def broken(x):
            if threading.current_thread() is not threading.main_thread():
                raise RuntimeError("no good")
            return np.tanh(x)

        with ThreadPoolExecutor(2) as pool, pytest.raises(RuntimeError, match="no good"):
            srfx.scan(srfx.SpikedRF(broken, "sin"), executor=pool, alpha=ALPHA, lam=LAM)


class Pickling:
    """An executor that pickles what it is given in a way of its own."""

    def __init__(self, dumps, answers=True):
        self.dumps, self.answers, self.given = dumps, answers, []

    def submit(self, function, *arguments):
        future = Future()
        self.given.append(function)
        try:
            function, arguments = pickle.loads(self.dumps((function, arguments)))
            future.set_result(function(*arguments))
        except Exception as error:
            if self.answers:
                future.set_exception(error)
        return future


SCRIPT = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import numpy as np, srfx

def known(x):
    return np.tanh(x)

if __name__ == "__main__":
    def unknown(x):  # as a function of a notebook's cell: there is no module to import it from
        return np.tanh(x)

    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            srfx.scan(srfx.SpikedRF(unknown), None, pool, alpha=[1, 2], lam=0.1)
        except ValueError as error:
            print(error)
        print(srfx.scan(srfx.SpikedRF(known), None, pool, alpha=[1, 2], lam=0.1).sizes["alpha"])
"""


class TestCallables:
    MODEL = srfx.SpikedRF(lambda x: np.tanh(x), "sin")

    def test_taken_by_value(self):
        cloudpickle = pytest.importorskip("cloudpickle")
        pool = Pickling(cloudpickle.dumps)
        ds = srfx.scan(self.MODEL, executor=pool, alpha=ALPHA, lam=LAM)
        xr.testing.assert_equal(ds, srfx.scan(self.MODEL, alpha=ALPHA, lam=LAM))

    @pytest.mark.parametrize("answers", [True, False])
    def test_refused_before_any_work(self, answers, tmp_path, monkeypatch):
        monkeypatch.setattr(_executors, "PATIENCE", 0.05)
        pool = Pickling(pickle.dumps, answers)
        for call in (
            functools.partial(srfx.scan, out=tmp_path / "scan.zarr"),
            functools.partial(srfx.scan, simulate={"d": 30}),
            functools.partial(srfx.simulate, d=30),
        ):
            with pytest.raises(ValueError, match="model must have callables that the workers"):
                call(self.MODEL, executor=pool, alpha=1, lam=0.1)
        assert not list(tmp_path.iterdir())
        assert not {"work", "_numbered"} & {function.__name__ for function in pool.given}

    def test_names_are_not_tried(self):
        pool = Pickling(pickle.dumps)
        srfx.scan(srfx.SpikedRF(), executor=pool, alpha=[1, 2], lam=0.1)
        assert {function.__name__ for function in pool.given} == {"work"}

    def test_a_finished_store_needs_no_worker(self, tmp_path):
        class Nobody:
            def submit(self, *_):
                raise RuntimeError("nobody is there")

        arguments = {"out": tmp_path / "scan.zarr", "alpha": [1, 2], "lam": 0.1}
        srfx.scan(self.MODEL, **arguments)
        assert srfx.scan(self.MODEL, executor=Nobody(), **arguments).sizes == {"alpha": 2}

    def test_functions_of_a_script(self, tmp_path):
        """Those that a worker does not find are refused, and the pool stays whole."""
        script = tmp_path / "script.py"
        script.write_text(SCRIPT)
        said = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
        first, second = said.stdout.splitlines()
        assert first.startswith("model must have callables that the workers of executor can load")
        assert "Can't get attribute 'unknown'" in first
        assert second == "2"


# Python drops an interrupt that falls into a destructor, with this warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("interruptible")
class TestCtrlC:
    @pytest.mark.parametrize("pool", [None, ThreadPoolExecutor])
    def test_at_once(self, pool):
        """Answered in time; the bound leaves room for a machine that does other things."""
        sent = []

        def interrupt():
            sent.append(time.perf_counter())
            os.kill(os.getpid(), signal.SIGINT)

        executor = pool(2) if pool else None
        timer = threading.Timer(0.7, interrupt)
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                srfx.scan(STEP, executor=executor, alpha=1.0, lam=0.1, **LONG)
            answered = time.perf_counter() - sent[0]
        finally:
            timer.join()
            if executor:
                executor.shutdown()
        assert answered < 1
        assert not _replicates.RUNS  # nothing is left behind

    def test_a_lost_interrupt_is_remembered(self):
        """As when it was raised inside a destructor, where Python drops it."""
        with running.ctrl_c() as look:
            look()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                look()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_ignored_where_it_was_ignored_before(self, tmp_path):
        """As nohup, or the background of a script, starts a scan."""
        pressed = []

        def tanh(x):
            pressed.append(os.kill(os.getpid(), signal.SIGINT))
            return np.tanh(x)

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what was before returns with the fixture
        slope = srfx.Activation(tanh, lambda x: 1 - np.tanh(x) ** 2)
        model = srfx.OneStep(slope, "sin", alpha0=20)
        for out in (None, tmp_path / "scan.zarr"):
            ds = srfx.scan(model, out, **AXES)
            assert pressed
            np.testing.assert_allclose(ds.test_error, srfx.scan(STEP, **AXES).test_error, rtol=1e-9)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_the_tests_themselves_may_be_started_with_ctrl_c_ignored(request, run_python):
    code = "import signal; print(signal.getsignal(signal.SIGINT).name)"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run_python(code) == "SIG_IGN\n"
        request.getfixturevalue("interruptible")  # and with it children are as usual
        assert run_python(code.replace(".name", ".__name__")) == "default_int_handler\n"
    finally:
        signal.signal(signal.SIGINT, before)


class TestProgress:
    def test_quiet_unless_asked(self, capfd):
        srfx.scan(STEP, **AXES)
        srfx.scan(STEP, progress=False, **AXES)
        assert capfd.readouterr() == ("", "")

    def test_lines(self, capfd):
        srfx.scan(STEP, progress=True, block_points=1, **AXES)
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 36
        assert lines[-1].startswith("srfx: scan 100 %, 36 of 36 points, ")
        assert lines[-1].endswith("points/s, 0:00:00 left")

    def test_a_line_is_a_percent(self, capfd):
        eta = np.linspace(0.1, 3, 400)
        srfx.scan(STEP, progress=True, block_points=1, eta=eta, alpha=1, lam=1)
        assert len(capfd.readouterr().err.splitlines()) == 100

    def test_logger(self, caplog):
        with caplog.at_level(logging.INFO, "srfx"):
            srfx.scan(STEP, **AXES)
        assert caplog.messages[-1].startswith("scan 100 %")

    def test_a_bar_on_a_terminal(self, monkeypatch, capsys):
        import sys

        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        srfx.scan(STEP, block_points=6, **AXES)
        err = capsys.readouterr().err
        assert "scan: 100%" in err
        assert "36.0/36.0" in err


def test_pep_3148_futures_are_enough():
    """An executor that runs at once, as a cluster's wrapper might look."""

    class Now:
        def submit(self, function, *arguments):
            future = Future()
            future.set_result(function(*arguments))
            return future

    xr.testing.assert_equal(srfx.scan(STEP, executor=Now(), **AXES), srfx.scan(STEP, **AXES))


class TestSeveral:
    """Simulations of several spikes, directions and steps."""

    def test_steps_are_axes(self, tmp_path):
        from srfx.models import MultiStep

        model = MultiStep("tanh", "product", eta=(2, 1), alpha0=(0.5, 1))
        options = {"d": 30, "replicates": 2, "n_test": 50}
        axes = {"eta2": [0.5, 1], "alpha0_1": [0.5, 2], "alpha": [1, 2], "lam": 0.1}
        ds = srfx.scan(model, tmp_path / "s.zarr", simulate=options, **axes)
        again = srfx.scan(model, tmp_path / "s.zarr", simulate=options, **axes)
        assert ds.test_error.equals(again.test_error)
        one = MultiStep("tanh", "product", eta=(2, 0.5), alpha0=(2, 1))
        alone = srfx.simulate(one, alpha=[1, 2], lam=[0.1], **options)
        np.testing.assert_array_equal(
            ds.test_error.sel(eta2=0.5, alpha0_1=2).transpose("alpha", "replicate"),
            alone.test_error[:, 0],
        )
        other = MultiStep("tanh", "max", eta=(2, 1), alpha0=(0.5, 1))
        with pytest.raises(ValueError, match="target: product of 2 in the store, max of 2 asked"):
            srfx.scan(other, tmp_path / "s.zarr", simulate=options, **axes)

    def test_spikes_are_part_of_a_store(self, tmp_path):
        fields = {"target": "max", "alignment": [[0.5, 0], [0, 0.5]]}
        options = {"simulate": {"d": 30, "replicates": 1}, "alpha": 1, "lam": [0.1, 1]}
        model = srfx.SpikedRF(spikes=[[1, 0.3]], **fields)
        srfx.scan(model, tmp_path / "s.zarr", **options)
        other = srfx.SpikedRF(spikes=[[1, 0.4]], **fields)
        with pytest.raises(ValueError, match=r"spikes\[1\]: 0.3 in the store, 0.4 asked for"):
            srfx.scan(other, tmp_path / "s.zarr", **options)
