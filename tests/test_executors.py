"""Scans on executors of other packages: `nox -s executors`, since these take minutes.

Each runs in a process of its own, tests/executors/scan_with.py: some keep threads, or settings.
"""

import contextlib
import importlib.util
import os
import signal
import subprocess
from pathlib import Path

import pytest
from elsewhere import chunks, done, finished, started, until, workers

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

#: Those that send functions by name alone.
BY_REFERENCE = ("processes", "forkserver")

#: Those whose own shutdown, after the scan, may wait for workers that are gone after Ctrl-C.
DEAF = ("parsl", "executorlib")


@pytest.fixture(params=EXECUTORS)
def executor(request):
    package, _ = EXECUTORS[request.param]
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    return request.param


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


def test_a_lambda(executor, want, tmp_path):
    """Refused before any work, or sent by value."""
    said = finished(executor, "lambda", tmp_path)
    if executor in BY_REFERENCE:
        assert "seen: model must have callables that the workers of executor can load" in said
        assert not (tmp_path / "scan.zarr").exists()
    else:
        assert "finished" in said
        assert chunks(tmp_path / "scan.zarr") == want


def test_a_worker_is_killed(executor, want, tmp_path):
    _, error = EXECUTORS[executor]
    if error is None:
        pytest.skip("workers are threads")
    with started(executor, "slow", tmp_path) as process:
        until(lambda: done(tmp_path / "scan.zarr"), "no block was finished")
        there = until(lambda: workers(tmp_path), "no worker is there")
        os.kill(there[-1], signal.SIGKILL)
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
        until(lambda: done(tmp_path / "scan.zarr"), "no block was finished")
        os.killpg(process.pid, signal.SIGINT)
        until(lambda: "interrupted" in (tmp_path / "said").read_text(), "the scan goes on")
        if executor in DEAF:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            process.kill()
        process.wait(timeout=60)
    said = (tmp_path / "said").read_text()
    assert "interrupted" in said
    assert process.returncode != 0, said
    assert done(tmp_path / "scan.zarr") < len(want), "it had finished"
    until(lambda: not workers(tmp_path), "workers stay")
    finished(executor, "tanh", tmp_path)
    assert chunks(tmp_path / "scan.zarr") == want
