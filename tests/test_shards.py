"""Shares of a scan, each with a store of its own, and what they are merged into."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr

import srfx
from srfx import cli

MODEL = srfx.OneStep("tanh", "sin", alpha0=20)
AXES = {"alpha": np.linspace(0.5, 3, 7), "eta": [0.5, 1.0, 3.0], "lam": [0.001, 0.1]}


def run(out, shard=None, **changes):
    arguments = {"model": MODEL, "block_points": 4, **AXES, **changes}
    return srfx.scan(out=out, shard=shard, **arguments)


def stored(path):
    """Every file of a store but those that tell one writer from another."""
    files = (f for f in path.rglob("*") if f.is_file() and f.name not in ("lock", "zarr.json"))
    return {str(f.relative_to(path)): f.read_bytes() for f in files}


@pytest.fixture
def parts(tmp_path):
    return [tmp_path / f"{i}.zarr" for i in (1, 2, 3)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home = tmp_path_factory.mktemp("shards")
    for i in (1, 2, 3):
        run(home / f"{i}.zarr", (i, 3))
    return home


@pytest.fixture
def shards(made, parts):
    for part in parts:
        shutil.copytree(made / part.name, part)
    return parts


def test_a_shard_has_its_blocks(parts):
    ds = run(parts[0], (2, 5))
    assert int((ds.status == 0).sum()) == int(ds.test_error.notnull().sum())
    assert set(np.unique(ds.status)) == {-1, 0}
    marks = parts[0] / "_srfx" / "done" / "c"
    assert sorted(int(f.name) for f in marks.iterdir()) == [1, 6, 11]


def test_merged_they_are_the_scan(shards, tmp_path):
    whole, merged = tmp_path / "whole.zarr", tmp_path / "merged.zarr"
    want, found = run(whole).load(), srfx.merge(shards, merged).load()
    assert stored(merged) == stored(whole)
    own = ("created", "srfx_store_id")
    for ds in (want, found):
        for key in own:
            del ds.attrs[key]
    xr.testing.assert_identical(found, want)
    before = stored(merged)
    xr.testing.assert_equal(run(merged).load(), want)  # gone on with, though nothing is missing
    assert stored(merged) == before
    with xr.open_zarr(merged) as ds:
        xr.testing.assert_equal(ds.load(), want)


def test_more_shards_than_blocks(tmp_path):
    parts = [tmp_path / f"{i}.zarr" for i in range(5)]
    for i, part in enumerate(parts, 1):
        run(part, (i, len(parts)), block_points=14)  # three blocks
    run(tmp_path / "whole.zarr", block_points=14)
    srfx.merge(parts[::-1], tmp_path / "merged.zarr")
    assert stored(tmp_path / "merged.zarr") == stored(tmp_path / "whole.zarr")


def test_simulations_with_labels_and_more_replicates(parts, tmp_path):
    pairs = {
        name: xr.DataArray(values, dims="run", coords={"run": ["a", "b"]})
        for name, values in {"alpha": [1.0, 2.0], "lam": [0.1, 0.2]}.items()
    }

    def simulated(out, replicates, shard=None):
        settings = {"d": 20, "replicates": replicates, "n_test": 50}
        return srfx.scan(MODEL, out, simulate=settings, eta=[0.5, 1.0], shard=shard, **pairs)

    for replicates in (2, 3):
        for i in (1, 2):
            simulated(parts[i - 1], replicates, (i, 2))
        if replicates == 2:
            (parts[0] / "_srfx" / "done" / "c" / "0").unlink()
            with pytest.raises(ValueError, match=r"complete; .* has 0 of 1 blocks"):
                srfx.merge(parts[:2], tmp_path / "merged.zarr")
    merged = srfx.merge(parts[:2], tmp_path / "merged.zarr")
    xr.testing.assert_equal(merged.load(), simulated(tmp_path / "whole.zarr", 3).load())
    simulated(parts[1], 4, (2, 2))
    with pytest.raises(ValueError, match=r"replicates each; '.*2\.zarr' has 4 and '.*1\.zarr' 3"):
        srfx.merge(parts[:2], tmp_path / "again.zarr")


def test_failures_are_added_up(parts, tmp_path):
    axes = {"alpha": [0.5, 1.0, 1.5, 2.0], "lam": [0.0, 0.1], "eta": 1.0, "block_points": 2}
    failed = [run(part, (i, 2), **axes).failed_points for i, part in enumerate(parts[:2], 1)]
    want = run(tmp_path / "whole.zarr", **axes)
    assert sum(failed) == want.failed_points
    assert srfx.merge(parts[:2], tmp_path / "merged.zarr").failed_points == want.failed_points


@pytest.mark.parametrize(
    ("shard", "error", "said"),
    [
        ((0, 3), ValueError, r"shard must be an integer >= 1; got 0"),
        ((4, 3), ValueError, r"from 1 to their number; got 4 of 3"),
        ((1, 0), ValueError, r"the number of shards must be an integer >= 1; got 0"),
        ((1.5, 3), (TypeError, ValueError), r"shard must be an integer"),
        ("1/3", TypeError, r"a pair of integers, as \(3, 16\): .* got '1/3'"),
        ((1, 2, 3), TypeError, r"a pair of integers"),
    ],
)
def test_no_shard(shard, error, said, tmp_path):
    with pytest.raises(error, match=said):
        run(tmp_path / "part.zarr", shard)
    assert not (tmp_path / "part.zarr").exists()


def test_a_shard_needs_a_store_of_its_own(shards):
    with pytest.raises(ValueError, match=r"shard must come with out"):
        run(None, (1, 3))
    with pytest.raises(ValueError, match=r"shard: 1/3 in the store, 2/3 asked for"):
        run(shards[0], (2, 3))
    with pytest.raises(ValueError, match=r"shard: 1/3 in the store, nothing asked for"):
        run(shards[0])


class TestRefusals:
    @pytest.fixture
    def merged(self, tmp_path):
        yield tmp_path / "merged.zarr"
        left = {file.name for file in tmp_path.iterdir()}
        assert not any("merged" in name for name in left)  # nothing is left of an attempt

    def refused(self, stores, merged, said):
        with pytest.raises(ValueError, match=said):
            srfx.merge(stores, merged)

    def test_missing_and_twice(self, shards, merged):
        self.refused(shards[:1], merged, r"must hold all 3 shards; got 1: missing 2, 3")
        self.refused([*shards, shards[1]], merged, r"each shard once; .* both are shard 2 of 3")

    def test_another_division(self, shards, merged, tmp_path):
        run(tmp_path / "four.zarr", (2, 4))
        stores = [shards[0], tmp_path / "four.zarr", shards[2]]
        self.refused(stores, merged, r"one division; '.*four\.zarr' is one of 4 and .* one of 3")

    def test_another_scan(self, shards, merged, tmp_path):
        run(tmp_path / "other.zarr", (2, 3), eta=[0.5, 1.0, 4.0])
        stores = [shards[0], tmp_path / "other.zarr", shards[2]]
        self.refused(stores, merged, r"of one scan; '.*other\.zarr' differs from .*1\.zarr' asks ")
        self.refused(stores, merged, r"eta: 3 .* in the store, 4 .* asked for|eta.* 4.* 3")

    def test_other_blocks(self, shards, merged, tmp_path):
        run(tmp_path / "other.zarr", (2, 3), block_points=2)
        stores = [shards[0], tmp_path / "other.zarr", shards[2]]
        self.refused(stores, merged, r"blocks of one size \(block_points\); those of .* differ")

    def test_another_version(self, shards, merged):
        root = json.loads((shards[1] / "zarr.json").read_text())
        specification = json.loads(root["attributes"]["srfx_specification"])
        changed = json.dumps(specification | {"srfx_version": "9.9"})
        root["attributes"]["srfx_specification"] = changed
        (shards[1] / "zarr.json").write_text(json.dumps(root))
        self.refused(shards, merged, r"srfx_version: 9\.9 in the store, .* asked for")
        layout = json.loads(root["attributes"]["srfx_blocks"]) | {"format": 1}
        root["attributes"]["srfx_blocks"] = json.dumps(layout)
        (shards[1] / "zarr.json").write_text(json.dumps(root))
        self.refused(shards, merged, r"stores must be a store of this version .* in format 1")

    def test_not_complete(self, shards, merged):
        chunk = shards[2] / "test_error" / "c"
        next(file for file in chunk.rglob("*") if file.is_file()).write_bytes(b"short")
        self.refused(shards, merged, r"complete; '.*3\.zarr' has 3 of 4 blocks: go on with that")

    def test_no_shards(self, shards, merged, tmp_path):
        run(tmp_path / "whole.zarr")
        self.refused([tmp_path / "whole.zarr"], merged, r"is of a scan without")
        self.refused([tmp_path / "nowhere"], merged, r"those of shards; there is none at")
        for stores in ([], str(shards[0])):
            with pytest.raises(TypeError, match=r"a list of paths, one a shard"):
                srfx.merge(stores, merged)

    def test_what_is_there_is_kept(self, shards, tmp_path):
        with pytest.raises(ValueError, match=r"out must be new; .*1\.zarr' exists"):
            srfx.merge(shards, shards[0])
        with pytest.raises(OSError, match=r"out must be in a directory that can be written to"):
            srfx.merge(shards, tmp_path / "nowhere" / "merged.zarr")


SPEC = """
[model]
type = "OneStep"
[axes]
eta = [1, 3]
alpha = "0.5:3:6"
lam = [0.01, 0.1]
[output]
block_points = 4
"""


def test_the_program(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.toml").write_text(SPEC)
    for i in (1, 2):
        words = ["spec.toml", "-o", f"{i}.zarr", "--shard", f"{i}/2", "--resume", "--no-progress"]
        assert cli.run(["scan", *words]) == 0
    assert "wrote 2.zarr (shard 2 of 2)" in capsys.readouterr().err
    assert cli.run(["merge", "1.zarr", "2.zarr", "-o", "merged.zarr"]) == 0
    assert cli.run(["scan", "spec.toml", "-o", "whole.zarr", "--no-progress"]) == 0
    assert stored(tmp_path / "merged.zarr") == stored(tmp_path / "whole.zarr")
    assert cli.run(["scan", "spec.toml", "--dry-run", "--shard", "2/5"]) == 0
    assert "; 1 in shard 2 of 5" in capsys.readouterr().out
    for word in ("2", "a/b", "0/2", "3/2", "1/2/3"):
        assert cli.run(["scan", "spec.toml", "-o", "x.zarr", "--shard", word]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert cli.run(["merge", "1.zarr", "-o", "one.zarr"]) == 2
    assert "got 1: missing 2" in capsys.readouterr().err
