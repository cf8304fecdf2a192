"""Scans with other losses and labels: what they keep, and what their stores are known by."""

import numpy as np
import pytest

import srfx
from srfx.cli.specification import read_specification

pytest.importorskip("zarr")

SIGN = srfx.SpikedRF("tanh", "tanh", gamma=0.8, labels="sign", noise=0.1)
AXES = {"alpha": [0.5, 1.0, 2.0], "lam": [0.1, 1.0]}


def test_a_scan_holds_what_solve_returns():
    ds = srfx.scan(SIGN, **AXES, loss="hinge", progress=False)
    sol = srfx.solve(SIGN, np.array(AXES["alpha"])[:, None], AXES["lam"], loss="hinge")
    names = ("test_error", "train_error", "train_loss", "test_loss", "classification_error")
    assert set(ds.data_vars) == {*names, "status"}
    for name in names:
        np.testing.assert_array_equal(ds[name].transpose("alpha", "lam"), getattr(sol, name))
    assert ds.attrs["loss"] == "hinge"
    assert ds.attrs["labels"] == "sign"
    kept = srfx.scan(SIGN, **AXES, loss="hinge", variables=["classification_error"], progress=False)
    assert list(kept.data_vars) == ["classification_error"]


def test_a_scan_of_simulations():
    size = {"d": 60, "replicates": 2, "n_test": 200}
    ds = srfx.scan(SIGN, **AXES, loss="logistic", simulate=size, progress=False)
    direct = srfx.simulate(SIGN, **AXES, loss="logistic", **size, progress=False)
    assert set(ds.data_vars) == set(direct.data_vars)
    for name in ds.data_vars:
        found = ds[name].transpose("alpha", "lam", "replicate")
        np.testing.assert_array_equal(found, direct[name])
    margin = srfx.SpikedRF("tanh", "tanh", beta=2, labels="sign")
    ds = srfx.scan(margin, alpha=0.5, lam=1, loss="max_margin", simulate=size, progress=False)
    assert "test_loss" not in ds


def test_another_loss_is_another_scan(tmp_path):
    store = tmp_path / "scan.zarr"
    model = srfx.SpikedRF("tanh", "sin", noise=0.2)
    first = srfx.scan(model, store, **AXES, loss=srfx.Huber(0.5), progress=False)
    again = srfx.scan(model, store, **AXES, loss=srfx.Huber(0.5), progress=False)
    assert again.equals(first)
    variables = list(first.data_vars)
    for loss in (srfx.Huber(0.6), "absolute"):
        with pytest.raises(ValueError, match="loss"):
            srfx.scan(model, store, **AXES, loss=loss, variables=variables, progress=False)


def test_a_plain_scan_is_as_it_was():
    ds = srfx.scan(srfx.SpikedRF(), **AXES, progress=False)
    assert set(ds.data_vars) == {"test_error", "train_error", "status"}
    assert "loss" not in ds.attrs


def test_a_specification_has_a_loss(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text(
        '[model]\ntype = "SpikedRF"\ntarget = "tanh"\nlabels = "logit"\nslope = 2.0\n'
        '[axes]\nalpha = [1.0, 2.0]\nlam = 0.1\n[output]\nloss = "huber:0.5"\n'
    )
    read = read_specification(path)
    assert read["loss"] == srfx.Huber(0.5)
    assert read["model"] == srfx.SpikedRF("tanh", "tanh", labels="logit", slope=2)
    path.write_text(path.read_text().replace('"huber:0.5"', "3"))
    with pytest.raises(ValueError, match=r"loss in \[output\] must be text"):
        read_specification(path)


def test_what_is_refused():
    with pytest.raises(ValueError, match="loss='hinge' needs labels"):
        srfx.scan(srfx.SpikedRF(), **AXES, loss="hinge", progress=False)
    with pytest.raises(ValueError, match="lam must be > 0 with loss='absolute'"):
        srfx.scan(srfx.SpikedRF(), alpha=1, lam=[0, 1], loss="absolute", progress=False)
    with pytest.raises(ValueError, match="variables must be one of"):
        srfx.scan(srfx.SpikedRF(), **AXES, variables=["classification_error"], progress=False)
