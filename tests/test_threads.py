"""Threads that use srfx at once: what belongs to the whole process stays as it was."""

import ast
import sys
import threading
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import srfx
from srfx import _executors
from srfx._style import style
from srfx.cli import run
from srfx.models import quiet
from srfx.scans.plan import make_plan

#: lam = 0 at alpha = beta = 1 has no solution.
AXES = {"alpha": 1.0, "lam": [0.0, 0.1], "block_points": 1, "progress": False}


def kinked():
    """A model of which `solve` warns."""
    return srfx.SpikedRF(srfx.Activation(lambda x: abs(x - 0.3)), "sin")


def in_threads(count, function):
    """Call with 0, 1, .. at once; what they return."""
    start = threading.Barrier(count)

    def one(i):
        start.wait()
        return function(i)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def filters():
    """Those of the process, without the one that xarray puts in front at every opening."""
    return [f for f in warnings.filters if "decode_timedelta" not in str(f[1])]


def test_scans_in_eight_threads(tmp_path):
    """Stores and memory, blocks with and without solutions, at Python's own pace."""
    import zarr

    assert sys.getswitchinterval() == 0.005
    model = srfx.SpikedRF(gamma=0.7)

    def one(k, i):
        if i == 0:  # two blocks at once into one store
            with ThreadPoolExecutor(2) as pool:
                return srfx.scan(model, tmp_path / f"{k}_0.zarr", pool, **AXES)
        out = tmp_path / f"{k}_{i}.zarr" if i < 3 else None
        return srfx.scan(model, out, n_threads=1, **AXES)

    want = one("first", 0).load()
    assert np.isnan(want.test_error.values).tolist() == [True, False]
    before, settings = filters(), zarr.config.to_dict()
    for k in range(60):
        for ds in in_threads(8, lambda i, k=k: one(k, i)):
            for name in want.data_vars:
                np.testing.assert_array_equal(ds[name].values, want[name].values)
    assert filters() == before
    assert zarr.config.to_dict() == settings
    with pytest.warns(srfx.AccuracyWarning):
        srfx.solve(kinked(), alpha=1.0, lam=0.1)


def test_the_settings_of_zarr_do_not_matter(tmp_path):
    """Nor are they changed: another thread may be using its own."""
    import zarr

    want = srfx.scan(srfx.SpikedRF(), tmp_path / "usual.zarr", **AXES).load()
    settings = {"default_zarr_format": 2, "array.order": "F", "array.write_empty_chunks": False}
    with zarr.config.set(settings):
        before = zarr.config.to_dict()
        ds = srfx.scan(srfx.SpikedRF(), tmp_path / "other.zarr", **AXES).load()
        assert zarr.config.to_dict() == before
    xr.testing.assert_equal(ds, want)
    files = [
        {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}
        for folder in (tmp_path / "usual.zarr", tmp_path / "other.zarr")
    ]
    assert files[0] == files[1]


def test_only_the_thread_that_asks_is_quiet():
    with quiet(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        srfx.solve(kinked(), alpha=1.0, lam=0.1)
        assert not caught
        in_threads(1, lambda _: srfx.solve(kinked(), alpha=1.0, lam=0.1))
        assert [warning.category for warning in caught] == [srfx.AccuracyWarning]


def test_the_program_in_threads(capsys):
    """It says its warnings by itself, each once, and leaves those of the process alone."""
    before, show = filters(), warnings.showwarning
    words = ["solve", "--activation", "relu", "--eta", "1", "--alpha", "1,2", "--lam", "0.1"]
    assert in_threads(4, lambda _: run(words)) == [0] * 4
    said = capsys.readouterr().err.splitlines()
    assert said
    assert all(line.startswith("srfx: warning: the activation relu is not odd") for line in said)
    assert filters() == before
    assert warnings.showwarning is show


def test_pictures_in_threads():
    """Their style is set for one at a time, and the user's is there again after it."""
    import matplotlib as mpl

    mpl.rcParams["lines.linewidth"] = 7.5
    before = dict(mpl.rcParams)
    try:

        def one(_):
            for _ in range(20):
                with style():
                    assert mpl.rcParams["lines.linewidth"] == 1.4
            return True

        assert all(in_threads(4, one))
        assert dict(mpl.rcParams) == before
    finally:
        mpl.rcdefaults()


FIRST_USE = """
import os, sys, tempfile, threading, time
os.environ["MPLBACKEND"] = "Agg"
import srfx
folder, lost = tempfile.TemporaryDirectory(), []
axes = {"alpha": [0.5, 1.5], "lam": [0.1, 1.0], "progress": False}
def scan(i): srfx.scan(srfx.SpikedRF(), **axes)
def store(i): srfx.scan(srfx.SpikedRF(), f"{folder.name}/{i}.zarr", **axes).load()
def table(i): srfx.solve(srfx.SpikedRF(), [0.5, 1], 0.1).to_dataframe()
def labelled(i): srfx.solve(srfx.SpikedRF(), [0.5, 1], 0.1).to_xarray()
def simulate(i): srfx.simulate(srfx.SpikedRF(), 1, 0.1, d=20, replicates=2, progress=False)
def submodules(i): srfx.figures.draw, srfx.reference.solve_one_step
def one(i, use):
    try: use(i)
    except BaseException as error: lost.append((use.__name__, repr(error)))
uses = [globals()[name] for name in sys.argv[1].split(",")]
threads = [threading.Thread(target=one, args=pair) for pair in enumerate(uses)]
for thread in threads: thread.start(); time.sleep(0.05)
for thread in threads: thread.join()
folder.cleanup()
print(lost)
"""


@pytest.mark.parametrize(
    "uses", ["scan,scan,scan,scan", "table,store,labelled,simulate,scan,submodules,store,scan"]
)
def test_first_use_in_threads(run_python, uses):
    """What one thread is importing, another finds half imported."""
    code = f"import sys; sys.argv = ['', '{uses}']\n{FIRST_USE}"
    assert run_python(code).strip() == "[]"


@pytest.mark.parametrize("package", ["xarray", "distributed"])
def test_a_half_imported_package(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    assert not _executors.is_dask(object())
    with ThreadPoolExecutor(1) as pool:
        _executors.check_executor(pool)
    make_plan(srfx.SpikedRF(), {"alpha": [1.0], "lam": 0.1})


EXPORTS = """
import tempfile, threading
import numpy as np, srfx
ds = srfx.scan(srfx.SpikedRF(), alpha=np.linspace(0.5, 3, 100), lam=np.geomspace(0.1, 1, 100))
def one(i):
    for k in range(3): srfx.scans.export(ds, f"{folder}/{i}_{k}.nc")
with tempfile.TemporaryDirectory() as folder:
    threads = [threading.Thread(target=one, args=(i,)) for i in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print("written")
"""


def test_netcdf_files_in_threads(run_python):
    """Two threads in the netCDF library at once end the process."""
    assert run_python(EXPORTS).strip() == "written"


#: Calls that change the whole process, even if they are undone, and who may make them.
PROCESS_WIDE = {
    **dict.fromkeys(("catch_warnings", "simplefilter", "filterwarnings", "resetwarnings"), ()),
    **dict.fromkeys(("seterr", "set_printoptions", "set_options", "set_start_method"), ()),
    **dict.fromkeys(("chdir", "umask", "putenv", "unsetenv", "setlocale", "basicConfig"), ()),
    **dict.fromkeys(("setswitchinterval", "setrecursionlimit", "switch_backend"), ()),
    # Only in the main thread, where Ctrl-C arrives; and matplotlib has no other settings.
    "signal": ("scans/run.py",),
    "rc_context": ("_style.py",),
    "rcdefaults": ("_style.py",),
}


def test_nothing_changes_the_process():
    found = []
    package = Path(srfx.__file__).parent
    for file in package.rglob("*.py"):
        place = file.relative_to(package).as_posix()
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                owner = ast.unparse(node.func).rsplit(".", 1)[0]
                if name in PROCESS_WIDE and place not in PROCESS_WIDE[name]:
                    found.append(f"{place}:{node.lineno}: {name}")
                if name in ("set", "seed", "update", "pop", "setdefault") and owner.endswith(
                    ("config", "random", "environ", "rcParams")
                ):
                    found.append(f"{place}: {owner}.{name}")
            if isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(
                node.ctx, (ast.Store, ast.Del)
            ):
                owner = ast.unparse(node.value)
                if owner in ("warnings", "sys") or owner.endswith(("environ", "rcParams")):
                    found.append(f"{place}: {ast.unparse(node)} = ...")
    assert sorted(found) == [
        "_style.py: mpl.rcParams[name] = ...",  # inside rc_context
        "cli/__init__.py: os.environ.pop",  # of the program, to which the process belongs
        "cli/__init__.py: warnings.showwarning = ...",
    ]
