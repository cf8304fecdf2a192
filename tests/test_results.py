"""Solutions as labelled arrays and tables."""

import copy
import dataclasses
import json
import pickle

import hypothesis.extra.numpy
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings

import srfx
from srfx.results import OBSERVABLES

ALPHA = np.array([0.5, 1.0, 2.0])
LAM = np.array([0.1, 1.0])
INPUTS = {"r", "c", "gamma", "beta", "noise", "lam", "alpha", "d"}


def coordinate(ds, name):
    return ds[name].dims, ds[name].values.tolist()


def test_an_axis_of_one_input_bears_its_name():
    sol = srfx.solve(srfx.SpikedRF(beta=2, noise=0.1), alpha=ALPHA, lam=LAM[:, None], d=500)
    ds = sol.to_xarray()
    assert ds.test_error.dims == ("lam", "alpha")
    assert set(ds.data_vars) == set(OBSERVABLES)
    assert set(ds.coords) == INPUTS
    assert set(ds.indexes) == {"lam", "alpha"}
    assert coordinate(ds, "alpha") == (("alpha",), ALPHA.tolist())
    assert coordinate(ds, "lam") == (("lam",), LAM.tolist())
    for name, value in [
        ("r", 0.9),
        ("c", 1),
        ("gamma", 1),
        ("beta", 2),
        ("noise", 0.1),
        ("d", 500),
    ]:
        assert coordinate(ds, name) == ((), value)
    for name in OBSERVABLES:
        assert np.array_equal(ds[name].values, getattr(sol, name))
    alone = srfx.solve(srfx.SpikedRF(beta=2, noise=0.1), alpha=2, lam=0.1, d=500)
    selected = ds.sel(alpha=2.0, lam=0.1).test_error.item()
    assert selected == pytest.approx(alone.test_error, rel=1e-13)


def test_paired_inputs_share_an_unnamed_axis():
    ds = srfx.solve(srfx.SpikedRF(beta=[1, 2, 3]), alpha=ALPHA, lam=LAM[:, None]).to_xarray()
    assert ds.test_error.dims == ("lam", "dim_1")
    assert set(ds.indexes) == {"lam"}
    assert coordinate(ds, "alpha") == (("dim_1",), ALPHA.tolist())
    assert coordinate(ds, "beta") == (("dim_1",), [1, 2, 3])


def test_an_input_along_two_axes_names_neither():
    gamma = np.linspace(0, 1, 6).reshape(2, 3)
    ds = srfx.solve(srfx.SpikedRF(gamma=gamma), alpha=1, lam=0.1).to_xarray()
    assert ds.test_error.dims == ("dim_0", "dim_1")
    assert coordinate(ds, "gamma") == (("dim_0", "dim_1"), gamma.tolist())
    ds = srfx.solve(srfx.SpikedRF(gamma=gamma), alpha=ALPHA, lam=0.1).to_xarray()
    assert ds.test_error.dims == ("dim_0", "dim_1")
    assert coordinate(ds, "alpha") == (("dim_1",), ALPHA.tolist())


def test_inner_singleton_axes():
    ds = srfx.solve(srfx.OneStep(eta=[[[1.0]], [[2.0]]]), alpha=ALPHA, lam=[[0.5]]).to_xarray()
    assert ds.test_error.shape == (2, 1, 3)
    assert ds.test_error.dims[2] == "alpha"
    assert coordinate(ds, "lam")[1] in (0.5, [0.5])
    single = srfx.solve(srfx.SpikedRF(), alpha=[1.0], lam=0.1).to_xarray()
    assert single.test_error.dims == ("alpha",)


@settings(max_examples=60, deadline=None)
@given(hypothesis.extra.numpy.mutually_broadcastable_shapes(num_shapes=4, max_dims=3, max_side=3))
def test_labels_of_any_broadcast_recover_every_input(shapes):
    names = ("gamma", "beta", "alpha", "lam")
    fields = {
        name: np.linspace(0.3, 0.9, int(np.prod(shape))).reshape(shape)
        for name, shape in zip(names, shapes.input_shapes, strict=True)
    }
    model = srfx.SpikedRF("linear", "linear", gamma=fields["gamma"], beta=fields["beta"])
    sol = srfx.solve(model, alpha=fields["alpha"], lam=fields["lam"], n_threads=1)
    ds = sol.to_xarray()
    frame = sol.to_dataframe()
    assert ds.test_error.shape == sol.shape == shapes.result_shape
    for name, values in sol.inputs.items():
        spread = ds[name].broadcast_like(ds.test_error).transpose(*ds.test_error.dims)
        assert np.array_equal(spread.values, values), name
        assert np.array_equal(frame[name].values, values.ravel()), name
    for axis, dim in enumerate(ds.test_error.dims):
        if not dim.startswith("dim_"):
            assert ds[dim].dims == (dim,)
            varies = {n for n, x in sol.inputs.items() if (x != x.take([0], axis)).any()}
            assert varies <= {dim}


def test_scalars_become_a_dataset_without_dimensions():
    ds = srfx.solve(srfx.OneStep(), alpha=1, lam=0.1).to_xarray()
    assert dict(ds.sizes) == {}
    assert set(ds.coords) == {"eta", "alpha0", "beta", "noise", "lam", "alpha", "d"}
    assert ds.d.item() == np.inf


def test_attributes_describe_the_model():
    model = srfx.SpikedRF("relu", np.tanh, readout=(0.5,))
    attrs = srfx.solve(model, alpha=1, lam=0.1).to_xarray().attrs
    assert attrs == {
        "model": "SpikedRF",
        "activation": "relu",
        "target": "callable tanh",
        "readout": [0.5],
        "weights": [1.0],
        "bulk": "isotropic",
        "linear_floor": srfx.linear_floor(np.tanh),
        "units": "dimensionless",
        "srfx_version": srfx.__version__,
    }


def test_status_carries_its_meaning():
    ds = srfx.solve(srfx.SpikedRF(), alpha=[0.5, 1.0], lam=0.0, errors="record").to_xarray()
    assert ds.status.dtype == np.int8
    assert ds.status.values.tolist() == [0, 2]
    meanings = dict(
        zip(ds.status.attrs["flag_values"], ds.status.attrs["flag_meanings"].split(), strict=True)
    )
    assert meanings == {s.value: s.name.lower() for s in srfx.Status}
    assert all(ds[name].attrs["long_name"] for name in OBSERVABLES)


def test_netcdf_round_trip(tmp_path):
    ds = srfx.solve(srfx.SpikedRF(), alpha=ALPHA, lam=LAM[:, None]).to_xarray()
    ds.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as back:
        xr.testing.assert_equal(back, ds)
        assert back.attrs["activation"] == "tanh"


def test_axes_of_groups_spikes_and_directions():
    model = srfx.SpikedRF(
        target="product",
        spikes=[[1, 0.3, 0], [-0.4, 1.2, 1]],
        alignment=[[0.8, 0.1, 0], [-0.2, 0.7, 0]],
        variances=(1.1, 1.4),
        weights=(0.25, 0.75),
    )
    one = srfx.solve(srfx.SpikedRF(), alpha=ALPHA, lam=0.1)
    own = {"m": (2,), "theta": (2, 3), "psi": (2, 2), "q2": (2,), "v2": (2,)}
    own |= {"q1": (2, 2), "v1": (2, 2)}
    given = {name: np.arange(3 * np.prod(n)).reshape(3, *n) for name, n in own.items()}
    arguments = {**model.numeric, "lam": 0.1, "alpha": ALPHA, "d": np.inf}
    sol = dataclasses.replace(one, model=model, arguments=arguments, **given)
    dims, coordinates = srfx.results.dimensions(sol.arguments, sol.shape)
    assert dims == ["alpha"]
    assert set(coordinates) == {"r", "beta", "noise", "lam", "alpha", "d"}
    columns = {n: list(sol.columns(n)) for n in ("m", "theta", "psi", "q1")}
    assert columns["m"] == ["m_1", "m_2"]
    assert columns["theta"] == [f"theta_{g}_{j}" for g in (1, 2) for j in (1, 2, 3)]
    assert columns["psi"] == [f"psi_{g}_{j}" for g in (1, 2) for j in (1, 2)]
    assert columns["q1"] == ["q1_1_1", "q1_1_2", "q1_2_2"]
    assert sol.columns("theta")["theta_2_3"].tolist() == [5, 11, 17]
    assert sol.columns("q1")["q1_1_2"].tolist() == [1, 5, 9]


def test_a_single_group_has_axes_of_spikes_and_directions():
    model = srfx.SpikedRF(target="product", gamma=(0.6, -0.7))
    one = srfx.solve(srfx.SpikedRF(), alpha=2, lam=0.1)
    sol = dataclasses.replace(one, model=model, psi=np.array([0.1, 0.2]))
    assert {name: x.tolist() for name, x in sol.columns("psi").items()} == {
        "psi_1": [0.1],
        "psi_2": [0.2],
    }
    assert list(sol.columns("theta")) == ["theta"]


def test_dataframe_has_a_row_for_each_point():
    sol = srfx.solve(srfx.SpikedRF(beta=[1, 2, 3]), alpha=ALPHA, lam=LAM[:, None])
    frame = sol.to_dataframe()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == 6
    assert set(frame.columns) == INPUTS | set(OBSERVABLES)
    assert frame["lam"].tolist() == [0.1] * 3 + [1.0] * 3
    assert frame["alpha"].tolist() == ALPHA.tolist() * 2
    assert frame["test_error"].tolist() == sol.test_error.ravel().tolist()
    assert frame["status"].tolist() == [0] * 6
    assert len(srfx.solve(srfx.SpikedRF(), alpha=1, lam=1).to_dataframe()) == 1
    assert len(srfx.solve(srfx.SpikedRF(), alpha=[], lam=1).to_dataframe()) == 0


def test_repr():
    scalar = srfx.solve(srfx.SpikedRF(), alpha=1.5, lam=0.1)
    assert repr(scalar) == (
        f"<Solution of SpikedRF tanh -> sin: test_error {scalar.test_error:.10g}, "
        f"train_error {scalar.train_error:.10g}, converged>"
    )
    some = srfx.solve(srfx.SpikedRF(), alpha=[0.5, 1, 2], lam=0.0, errors="record")
    low, high = some.test_error[2], some.test_error[0]
    assert repr(some) == (
        "<Solution of SpikedRF tanh -> sin, shape (3,): 2/3 converged, "
        f"test_error {low:.6g} to {high:.6g}>"
    )
    none = srfx.solve(srfx.SpikedRF(), alpha=1.0, lam=0.0, errors="record")
    assert repr(none) == "<Solution of SpikedRF tanh -> sin: diverged>"
    assert "shape (0,): 0/0 converged" in repr(srfx.solve(srfx.SpikedRF(), alpha=[], lam=1))


def test_pickle_keeps_everything():
    sol = srfx.solve(srfx.SpikedRF(beta=2), alpha=ALPHA, lam=LAM[:, None])
    back = pickle.loads(pickle.dumps(sol))
    assert back.model == sol.model
    xr.testing.assert_identical(back.to_xarray(), sol.to_xarray())
    assert len(pickle.dumps(sol)) < 5000  # inputs are not blown up to the full shape


def test_description_is_plain_data():
    sol = srfx.solve(srfx.OneStep(), alpha=1, lam=1)
    assert json.loads(json.dumps(sol.describe())) == sol.describe()


def test_a_solution_cannot_be_changed():
    sol = srfx.solve(srfx.SpikedRF(), alpha=[1.0, 2.0], lam=0.1)
    for twin in (sol, copy.deepcopy(sol), pickle.loads(pickle.dumps(sol))):
        np.testing.assert_array_equal(twin.test_error, sol.test_error)
        with pytest.raises(ValueError, match="read-only"):
            twin.test_error[0] = 1
        with pytest.raises(TypeError):
            twin.arguments["alpha"] = 3
