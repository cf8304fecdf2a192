"""Scans on Slurm: `nox -s slurm` starts one of one node on this machine, tests/slurm/slurm.sh.

Needs root and Debian's slurmctld, slurmd, slurm-client, munge and, for Open MPI, libpmix-dev.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from elsewhere import EXAMPLES, chunks, done, environment, finished, started, until

NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")

pytestmark = [
    pytest.mark.skipif("SRFX_SLURM" not in os.environ, reason="starts a Slurm: nox -s slurm"),
    pytest.mark.skipif(
        not all(map(shutil.which, NEEDED)) or os.geteuid() != 0, reason="needs Slurm, and root"
    ),
]


def run(*words, folder=None):
    done = subprocess.run(
        [*map(str, words)], cwd=folder, env=environment(folder or EXAMPLES) | EXTRA,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


#: For MPI in containers, and `python` in job scripts.
EXTRA = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
}


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory):
    home = tmp_path_factory.mktemp("slurm")
    script = Path(__file__).parent / "slurm" / "slurm.sh"
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(home / "slurm.conf")
    # not of a pipe: daemons would keep it open
    subprocess.run([script, "start", home], timeout=120, check=True, stdin=subprocess.DEVNULL)
    yield
    subprocess.run([script, "stop", home], timeout=120, check=True)
    del os.environ["SLURM_CONF"]
    if before is not None:
        os.environ["SLURM_CONF"] = before


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("laptop")
    run(sys.executable, EXAMPLES / "laptop.py", folder / "scan.zarr", folder=folder)
    return chunks(folder / "scan.zarr")


def jobs(state):
    """Ids of jobs that are in this state."""
    return [int(job) for job in run("squeue", "-h", "-t", state, "-o", "%A").split()]


def ended_as(job):
    """State of a job that may be over."""
    return run("scontrol", "show", "job", job).partition("JobState=")[2].split()[0]


@pytest.fixture
def needs_jobqueue():
    pytest.importorskip("dask_jobqueue")


@pytest.mark.usefixtures("needs_jobqueue")
def test_dask_slurm(laptop, tmp_path):
    for file in ("common.py", "dask_slurm.py"):
        shutil.copy(EXAMPLES / file, tmp_path)
    said = run(sys.executable, "dask_slurm.py", "scan.zarr", folder=tmp_path)
    assert said.startswith("28800 points; least test error 0.0324")
    assert chunks(tmp_path / "scan.zarr") == laptop
    until(lambda: not jobs("RUNNING"), "jobs stay")


@pytest.mark.usefixtures("needs_jobqueue")
def test_jobs_that_are_cancelled_or_run_out_of_time(tmp_path):
    """The scan goes on with new ones, and ends with the same bytes."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    finished("none", "tanh", here)
    out = there / "scan.zarr"
    with started("dask_slurm", "slow", there) as process:
        until(lambda: done(out) >= 1 and len(jobs("RUNNING")) == 2, "no two jobs at work", 120)
        cancelled, timed_out = jobs("RUNNING")
        run("scancel", cancelled)
        run("scontrol", "update", f"JobId={timed_out}", "EndTime=now+1")
        until(lambda: ended_as(timed_out) == "TIMEOUT", "it has time", 120)
        assert ended_as(cancelled) == "CANCELLED"
        assert process.wait(timeout=240) == 0, (there / "said").read_text()
    assert "finished" in (there / "said").read_text()
    assert chunks(out) == chunks(here / "scan.zarr")
    until(lambda: not jobs("RUNNING"), "jobs stay")


def mpi_of_slurm():
    """What srun has to start ranks as: Open MPI knows PMIx, MPICH PMI-2."""
    code = "from mpi4py import MPI; print(MPI.Get_library_version())"
    return "pmix" if "Open MPI" in run(sys.executable, "-c", code) else "pmi2"


def test_mpi(laptop, tmp_path, monkeypatch):
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("needs mpi4py")
    monkeypatch.setenv("SLURM_MPI_TYPE", mpi_of_slurm())
    for file in ("common.py", "mpi.py", "mpi.sbatch"):
        shutil.copy(EXAMPLES / file, tmp_path)
    out = tmp_path / "scan.zarr"
    job = int(run("sbatch", "--parsable", "--ntasks=3", "mpi.sbatch", folder=tmp_path))
    until(lambda: done(out) >= 1, "no block was finished", 120)
    run("scancel", job)
    until(lambda: ended_as(job) in ("CANCELLED", "COMPLETED"), "it goes on")
    run("sbatch", "--ntasks=3", "--wait", "mpi.sbatch", folder=tmp_path)
    assert chunks(out) == laptop


ARRAY = """#!/bin/bash
#SBATCH --array=1-3
#SBATCH --cpus-per-task=1
part=part-$SLURM_ARRAY_TASK_ID.zarr
python -m srfx scan spec.toml -o $part --shard $SLURM_ARRAY_TASK_ID/3 --resume
"""


def test_array_jobs(laptop, tmp_path):
    shutil.copy(EXAMPLES / "spec.toml", tmp_path)
    (tmp_path / "array.sbatch").write_text(ARRAY)
    run("sbatch", "--wait", "array.sbatch", folder=tmp_path)
    parts = [f"part-{i}.zarr" for i in (1, 2, 3)]
    run(sys.executable, "-m", "srfx", "merge", *parts, "-o", "scan.zarr", folder=tmp_path)
    assert chunks(tmp_path / "scan.zarr") == laptop
