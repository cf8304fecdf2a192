"""Shared fixtures."""

import os
import subprocess
import sys

import pytest

os.environ["MPLBACKEND"] = "Agg"

import srfx.models


@pytest.fixture(autouse=True)
def _warn_again(monkeypatch):
    """Every test sees the warnings that are given once a process."""
    monkeypatch.setattr(srfx.models, "_warned_not_odd", False)


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
