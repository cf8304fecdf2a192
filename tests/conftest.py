"""Shared fixtures."""

import os
import signal
import subprocess
import sys

import pytest

os.environ["MPLBACKEND"] = "Agg"
# The problems here are small: idle threads of OpenMP sleep, and NumPy's linear algebra has one. In
# a busy wait they take the processor from the thread that has work, and the tests take several
# times as long. NumPy must not be loaded before this: see -p no:zarr in pyproject.toml.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import srfx.models


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`pytest -n auto`: a worker a processor, but no more than the tests can keep busy."""
    return min(
        8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


@pytest.fixture(autouse=True)
def _warn_again(monkeypatch):
    """Every test sees the warnings that are given once a process."""
    monkeypatch.setattr(srfx.models, "_warned_not_odd", False)


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts, here and in children, also if the tests were started with it ignored.

    As by nohup, or in the background of a script: children inherit that.
    """
    if os.name != "posix":
        pytest.skip("sends SIGINT")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def run_python():
    """Run a piece of Python in a fresh interpreter and return what it printed."""

    def run(code: str, **kwargs) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **kwargs,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
