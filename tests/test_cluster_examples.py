"""The files of docs/cluster.md run, and all make the same store."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from srfx import cli
from srfx.cli.specification import read_specification

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "cluster"

pytestmark = pytest.mark.skipif(
    not EXAMPLES.exists(), reason="the examples are not beside the tests"
)


def run(*words):
    done = subprocess.run(
        words, cwd=EXAMPLES, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def chunks(path):
    files = [f for f in (path / "test_error").rglob("*") if f.is_file() and f.name != "zarr.json"]
    return {str(f.relative_to(path)): f.read_bytes() for f in files}


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    out = tmp_path_factory.mktemp("laptop") / "scan.zarr"
    said = run(sys.executable, "laptop.py", str(out))
    assert said.startswith("28800 points; least test error 0.0324")
    return out


def test_dask_local(laptop, tmp_path):
    run(sys.executable, "dask_local.py", str(tmp_path / "scan.zarr"))
    assert chunks(tmp_path / "scan.zarr") == chunks(laptop)


def test_array_jobs(laptop, tmp_path):
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    (block,) = (b for b in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "--shard" in b)
    shutil.copy(EXAMPLES / "spec.toml", tmp_path)
    for line in block.splitlines():
        assert cli.run([str(tmp_path / w) if "." in w else w for w in line.split()[1:]]) == 0
    assert chunks(tmp_path / "scan.zarr") == chunks(laptop)


def test_slurm():
    if importlib.util.find_spec("dask_jobqueue") is None:
        pytest.skip("dask-jobqueue is not installed")
    assert "#SBATCH --cpus-per-task=16" in run(sys.executable, "dask_slurm.py", "--show")


def test_the_specification_is_the_same_scan(laptop):
    import srfx

    arguments = read_specification(EXAMPLES / "spec.toml")
    ds = srfx.scans.open_scan(laptop)
    for name, values in arguments["axes"].items():
        np.testing.assert_array_equal(ds[name], values)
    model, axes = arguments["model"], arguments["axes"]
    again = srfx.scan(model, laptop, **axes)  # refused if it were another
    assert again.sizes == ds.sizes


def test_the_page_names_files_that_exist():
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\(\.\./examples/cluster/([\w.]+)\)", page))
    there = {file.name for file in EXAMPLES.iterdir() if file.suffix in (".py", ".toml", ".sbatch")}
    assert linked == there
    assert set(re.findall(r"python (?:-m mpi4py.futures )?([\w]+\.py)", page)) <= there
