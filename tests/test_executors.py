"""Scans on executors of other packages: `nox -s executors`, since these take minutes.

Each runs in a process of its own, tests/executors/scan_with.py: some keep threads, or settings.
"""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples" / "cluster"

pytestmark = [
    pytest.mark.skipif(
        "SRFX_EXECUTORS" not in os.environ, reason="takes minutes: nox -s executors"
    ),
    pytest.mark.skipif(not Path("/proc").exists(), reason="looks for workers in /proc"),
]

#: Each with the package that it needs, and what becomes of a scan of which a worker is killed.
EXECUTORS = {
    "threads": (None, None),
    "processes": (None, "BrokenProcessPool"),
    "forkserver": (None, "BrokenProcessPool"),
    "loky": ("loky", "TerminatedWorkerError"),
    "joblib": ("joblib", "TerminatedWorkerError"),
    "parsl": ("parsl", "WorkerLost"),
    "executorlib": ("executorlib", "finished"),
    "submitit": ("submitit", "UncompletedJobError"),
    "dask_threads": ("distributed", None),
    "dask_processes": ("distributed", "finished"),
}

#: Those whose own shutdown does not end after Ctrl-C.
DEAF = ("parsl", "executorlib")


@pytest.fixture(params=EXECUTORS)
def executor(request):
    package, _ = EXECUTORS[request.param]
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    return request.param


@contextlib.contextmanager
def started(name, function, folder):
    """Start a scan in a group of its own, as a shell does; end all of it."""
    paths = [str(HERE / "executors"), str(EXAMPLES), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "SRFX_TEST_FOLDER": str(folder),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    environment.pop("SRFX_TEST_CALLER", None)
    words = [HERE / "executors" / "scan_with.py", name, function, folder / "scan.zarr"]
    with (
        open(folder / "said", "a") as said,
        subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def finished(name, function, folder):
    """Scan to the end; return what was said."""
    with started(name, function, folder) as process:
        code = process.wait(timeout=120)
    said = (folder / "said").read_text()
    assert code == 0, said
    return said


def chunks(path):
    files = [f for f in (path / "test_error").rglob("*") if f.is_file() and f.name != "zarr.json"]
    return {str(f.relative_to(path)): f.read_bytes() for f in files}


def done(folder):
    marks = folder / "scan.zarr" / "_srfx" / "done" / "c"
    return len(list(marks.iterdir())) if marks.exists() else 0


def until_it_works(folder, blocks=1):
    for _ in range(6000):
        if done(folder) >= blocks:
            return
        time.sleep(0.01)
    raise TimeoutError((folder / "said").read_text())


def workers(folder):
    """Process ids of workers that have had a block and are still there."""
    pids = [int(file.stem) for file in folder.glob("*.worker")]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.fixture(scope="module")
def want(tmp_path_factory):
    folder = tmp_path_factory.mktemp("want")
    finished("none", "tanh", folder)
    return chunks(folder / "scan.zarr")


def test_same_bytes(executor, want, tmp_path):
    said = finished(executor, "tanh", tmp_path)
    assert "finished" in said
    assert chunks(tmp_path / "scan.zarr") == want


def test_an_error_keeps_its_type(executor, tmp_path):
    said = finished(executor, "failing", tmp_path)
    assert "seen: of this function" in said
    assert "finished" not in said


def test_a_worker_is_killed(executor, want, tmp_path):
    _, error = EXECUTORS[executor]
    if error is None:
        pytest.skip("workers are threads")
    with started(executor, "slow", tmp_path) as process:
        until_it_works(tmp_path)
        for _ in range(1000):
            if there := workers(tmp_path):
                os.kill(there[-1], signal.SIGKILL)
                break
            time.sleep(0.01)
        assert there
        process.wait(timeout=120)
    said = (tmp_path / "said").read_text()
    assert error in said
    assert (process.returncode == 0) == (error == "finished"), said
    finished(executor, "tanh", tmp_path)
    assert chunks(tmp_path / "scan.zarr") == want


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c(executor, want, tmp_path):
    """As in a terminal, where the workers get it too."""
    with started(executor, "slow", tmp_path) as process:
        until_it_works(tmp_path)
        os.killpg(process.pid, signal.SIGINT)
        for _ in range(600):
            if "interrupted" in (tmp_path / "said").read_text():
                break
            time.sleep(0.05)
        if executor in DEAF:  # their shutdown, after the scan, waits for workers that are gone
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            process.kill()
        process.wait(timeout=60)
    said = (tmp_path / "said").read_text()
    assert "interrupted" in said
    assert process.returncode != 0, said
    assert done(tmp_path) < len(want), "it had finished"
    for _ in range(200):
        if not workers(tmp_path):
            break
        time.sleep(0.1)
    assert not workers(tmp_path)
    finished(executor, "tanh", tmp_path)
    assert chunks(tmp_path / "scan.zarr") == want
