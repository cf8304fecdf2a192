"""What importing srfx brings, and what it must not."""

import importlib.metadata
import importlib.resources
import os
import platform
import re
import tomllib
import types
from pathlib import Path

import pytest

import srfx
from srfx import _store

LAZY = (
    "xarray",
    "pandas",
    "matplotlib",
    "click",
    "tqdm",
    "scipy",
    "dask",
    "distributed",
    "zarr",
    "netCDF4",
)


def test_heavy_packages_are_not_loaded(run_python):
    code = f"import sys, srfx; print([m for m in {LAZY!r} if m in sys.modules])"
    assert run_python(code).strip() == "[]"


def test_submodules_are_loaded_when_first_used(run_python):
    code = (
        "import sys, srfx; print('srfx.figures' in sys.modules, 'srfx.reference' in sys.modules);"
        "print(srfx.figures.figure1.__name__, srfx.reference.solve_one_step.__name__);"
        "print(hasattr(srfx, 'figure'))"
    )
    assert run_python(code).split() == ["False", "False", "figure1", "solve_one_step", "False"]


def test_public_names():
    assert sorted(srfx.__all__) == sorted(set(srfx.__all__))
    assert all(hasattr(srfx, name) for name in srfx.__all__)
    private = {"plotting", "models", "results", "theory", "config", "cli", "reference"}
    public = {
        name
        for name, value in vars(srfx).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public <= set(srfx.__all__) | {"version"}
    assert not private & set(srfx.__all__)


def test_everything_public_is_documented():
    for name in srfx.__all__:
        if name.startswith("__"):
            continue
        thing = getattr(srfx, name)
        assert thing.__doc__, name
        if isinstance(thing, (types.FunctionType, type)) and not issubclass_of_warning(thing):
            assert name == "Bounds" or "Examples" in thing.__doc__, name


def issubclass_of_warning(thing):
    return isinstance(thing, type) and issubclass(thing, Warning)


def test_version_is_stated_once():
    assert srfx.__version__ == importlib.metadata.version("srfx")


def test_the_package_is_typed():
    assert importlib.resources.files("srfx").joinpath("py.typed").is_file()


def test_the_oldest_versions_are_those_that_are_tested():
    """`.ci/run` runs tests with .ci/oldest.txt; a floor has one value wherever it stands."""
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    floors = sorted({tuple(text.split(">=")) for some in lists for text in some})
    pins = re.findall(r"^([\w-]+)==(\S+)$", (root / ".ci" / "oldest.txt").read_text(), re.M)
    assert [name for name, _ in floors] == [name for name, _ in sorted(pins)]
    for (name, floor), (_, pin) in zip(floors, sorted(pins), strict=True):
        parts = floor.split(".")
        assert pin.split(".") == parts + ["0"] * (pin.count(".") + 1 - len(parts)), name
    assert dict(floors)["zarr"] == ".".join(map(str, _store.OLDEST_ZARR))


@pytest.mark.skipif(platform.python_implementation() != "CPython", reason="timed on CPython")
def test_import_is_fast(run_python):
    """Best of five: `import srfx` beyond NumPy's own import, which nobody here can shorten."""
    code = (
        "import numpy, time; t = time.perf_counter(); import srfx; print(time.perf_counter() - t)"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    times = [float(run_python(code, env=environment)) for _ in range(5)]
    assert min(times) < 0.07
