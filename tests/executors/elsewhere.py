"""Scans in other processes, of which some are killed: what the tests of executors share."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples" / "cluster"


def environment(folder):
    """Variables of a scan that leaves notes in a folder."""
    paths = [str(HERE), str(EXAMPLES), os.environ.get("PYTHONPATH", "")]
    out = os.environ | {"SRFX_TEST_FOLDER": str(folder), "PYTHONPATH": os.pathsep.join(paths)}
    out.pop("SRFX_TEST_CALLER", None)
    return out


@contextlib.contextmanager
def started(name, function, folder):
    """Start a scan in a group of its own, as a shell does; end all of it."""
    words = [HERE / "scan_with.py", name, function, folder / "scan.zarr"]
    with (
        open(folder / "said", "a") as said,
        subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=folder, env=environment(folder), stdout=said, stderr=said, start_new_session=True,
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
    """Name and bytes of the chunks of a store."""
    files = [f for f in (path / "test_error").rglob("*") if f.is_file() and f.name != "zarr.json"]
    return {str(f.relative_to(path)): f.read_bytes() for f in files}


def done(path):
    """Count the finished blocks of a store."""
    marks = path / "_srfx" / "done" / "c"
    return len(list(marks.iterdir())) if marks.exists() else 0


def until(holds, what, seconds=60):
    """Wait until something holds, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.02)
    raise TimeoutError(what)


def workers(folder):
    """Process ids of workers that have had a block and are still there."""
    pids = [int(file.stem) for file in folder.glob("*.worker")]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]
