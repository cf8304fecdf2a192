"""Scans in an MPI job; `nox -s mpi` runs this with MPICH and with Open MPI."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from elsewhere import EXAMPLES, chunks, done, until

import srfx

MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")

pytestmark = [
    pytest.mark.skipif(
        MPIEXEC is None or importlib.util.find_spec("mpi4py") is None,
        reason="needs mpiexec and mpi4py: nox -s mpi",
    ),
    pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are not beside the tests"),
]

ENVIRONMENT = os.environ | {
    # Open MPI's: as many ranks as are asked for, whoever and wherever we are
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PYTHONPATH": os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")]),
}

SMALL_BLOCKS = """
import sys, srfx
from common import AXES, MODEL
from mpi4py.futures import MPIPoolExecutor
if __name__ == "__main__":
    with MPIPoolExecutor() as executor:
        srfx.scan(MODEL, sys.argv[1], executor, block_points=100, **AXES)
"""


@contextlib.contextmanager
def job(*words, ranks=3):
    """Start an MPI job, and see to its end."""
    command = [MPIEXEC, "-n", str(ranks), sys.executable, *map(str, words)]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.communicate(timeout=20)
                except subprocess.TimeoutExpired:
                    process.kill()


def finished(*words):
    with job(*words) as process:
        said, _ = process.communicate(timeout=300)
    return process.returncode, said


def ranks_of(process):
    """Process ids of the ranks of a job, by rank."""
    parents, ranks = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )
    for pid in parents:
        above = pid
        while above not in (0, process.pid):
            above = parents.get(above, 0)
        if above == 0 or pid == process.pid:
            continue
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            settings = dict(word.split(b"=", 1) for word in words if b"=" in word)
            for key in (b"OMPI_COMM_WORLD_RANK", b"PMI_RANK"):
                if key in settings and b"mpi4py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    ranks[int(settings[key])] = pid
    return ranks


@pytest.fixture(scope="module")
def common():
    spec = importlib.util.spec_from_file_location("common", EXAMPLES / "common.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example(common, tmp_path):
    common.run(tmp_path / "laptop.zarr")
    words = ["-m", "mpi4py.futures", EXAMPLES / "mpi.py", tmp_path / "scan.zarr"]
    code, said = finished(*words)
    assert code == 0, said
    assert said.startswith("28800 points; least test error 0.0324")
    assert chunks(tmp_path / "scan.zarr") == chunks(tmp_path / "laptop.zarr")


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for ranks in /proc")
@pytest.mark.parametrize("how", ["worker", "master", "ctrl-c"])
def test_killed_and_resumed(how, common, tmp_path):
    out = tmp_path / "scan.zarr"
    (tmp_path / "small.py").write_text(SMALL_BLOCKS)
    words = ["-m", "mpi4py.futures", tmp_path / "small.py", out]
    with job(*words) as process:
        until(lambda: done(out) >= 2, "no block was finished")
        if how == "ctrl-c":
            process.send_signal(signal.SIGINT)
        else:
            os.kill(ranks_of(process)[2 if how == "worker" else 0], signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode != 0
    assert 2 <= done(out) < 288
    code, said = finished(*words)
    assert code == 0, said
    srfx.scan(common.MODEL, tmp_path / "laptop.zarr", block_points=100, **common.AXES)
    assert chunks(out) == chunks(tmp_path / "laptop.zarr")


def test_every_rank_runs_the_script(tmp_path):
    code, said = finished(EXAMPLES / "mpi.py", tmp_path / "scan.zarr")
    assert code != 0
    assert "each of its 3 ranks runs this script with one of its own: start it with" in said
    assert not (tmp_path / "scan.zarr").exists()


def test_a_communicator_of_ours(common, tmp_path):
    """mpi4py's other executor: all ranks run the script, one of them hands out blocks."""
    (tmp_path / "comm.py").write_text(
        "import sys\n"
        "from common import run\n"
        "from mpi4py import MPI\n"
        "from mpi4py.futures import MPICommExecutor\n"
        "with MPICommExecutor(MPI.COMM_WORLD, root=0) as executor:\n"
        "    if executor is not None:\n"
        "        run(sys.argv[1], executor)\n"
    )
    code, said = finished(tmp_path / "comm.py", tmp_path / "scan.zarr")
    assert code == 0, said
    common.run(tmp_path / "laptop.zarr")
    assert chunks(tmp_path / "scan.zarr") == chunks(tmp_path / "laptop.zarr")


FAILING = """
import sys, numpy as np, srfx
from mpi4py import MPI
from mpi4py.futures import MPIPoolExecutor
def activation(x):
    if MPI.COMM_WORLD.Get_rank():
        raise LookupError("of this function")
    return np.tanh(x)
if __name__ == "__main__":
    model = srfx.SpikedRF(srfx.Activation(activation), "sin")
    with MPIPoolExecutor() as executor:
        try:
            srfx.scan(model, sys.argv[1], executor, alpha=[1, 2], lam=[0.1, 1], block_points=1)
        except LookupError as error:
            print("seen:", error)
"""


def test_an_error_keeps_its_type(tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    words = ["-m", "mpi4py.futures", tmp_path / "failing.py", tmp_path / "scan.zarr"]
    code, said = finished(*words)
    assert code == 0, said
    assert "seen: of this function" in said


LAMBDA = """
import sys, cloudpickle, numpy as np, srfx
from mpi4py import MPI
from mpi4py.futures import MPIPoolExecutor
if __name__ == "__main__":
    if "by value" in sys.argv:
        MPI.pickle.__init__(cloudpickle.dumps, cloudpickle.loads)
    model = srfx.SpikedRF(srfx.Activation(lambda x: np.tanh(x), name="mine"), "sin")
    with MPIPoolExecutor() as executor:
        try:
            srfx.scan(model, sys.argv[1], executor, alpha=[1, 2], lam=[0.1, 1], block_points=1)
            print("finished")
        except ValueError as error:
            print("seen:", error)
"""


@pytest.mark.parametrize("how", ["by value", "by name"])
def test_a_lambda(how, tmp_path):
    pytest.importorskip("cloudpickle")
    (tmp_path / "by.py").write_text(LAMBDA)
    code, said = finished("-m", "mpi4py.futures", tmp_path / "by.py", tmp_path / "scan.zarr", how)
    assert code == 0, said
    wanted = "finished" if how == "by value" else "seen: model must have callables"
    assert wanted in said
