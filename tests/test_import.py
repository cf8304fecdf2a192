"""What importing srfx brings, and what it must not."""

import ast
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
from srfx.scans.store import OLDEST_ZARR

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
    extras = dict(project["optional-dependencies"])
    del extras["jax"], extras["torch"]  # gigabytes: `nox -s bridges` tests the newest alone
    lists = [project["dependencies"], *extras.values()]
    floors = sorted({tuple(text.split(">=")) for some in lists for text in some})
    pins = re.findall(r"^([\w-]+)==(\S+)$", (root / ".ci" / "oldest.txt").read_text(), re.M)
    assert [name for name, _ in floors] == [name for name, _ in sorted(pins)]
    for (name, floor), (_, pin) in zip(floors, sorted(pins), strict=True):
        parts = floor.split(".")
        assert pin.split(".") == parts + ["0"] * (pin.count(".") + 1 - len(parts)), name
    assert dict(floors)["zarr"] == ".".join(map(str, OLDEST_ZARR))


@pytest.mark.skipif(platform.python_implementation() != "CPython", reason="timed on CPython")
def test_import_is_fast(run_python):
    """Best of five: `import srfx` beyond NumPy's own import, which nobody here can shorten.

    In seconds of the processor, which other programs on it do not lengthen.
    """
    code = (
        "import numpy, time; t = time.process_time(); import srfx; print(time.process_time() - t)"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    times = [float(run_python(code, env=environment)) for _ in range(5)]
    assert min(times) < 0.07


# --- who may know whom -------------------------------------------------------------------------

PACKAGE = Path(srfx.__file__).parent
#: Imports that are not made before they are needed, and close a circle that is meant: an answer
#: can be asked for its derivatives; one verb of the reference serves one group and several.
LATER = {("results", "gradient"), ("reference._one_step", "reference._one_step_groups")}
#: What computes; it knows no picture and no command line.
VERBS = ("theory", "gradient", "spectrum", "optima", "simulation", "scans")


def sources():
    """Name of each module below srfx, and its syntax tree."""
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), ast.parse(file.read_text())


SOURCES = dict(sources())


def imports(tree):
    """Modules below srfx that one imports, inside functions too, but not for its types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (name for part in node.orelse for name in imports(part))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "srfx":
            inside = node.module.removeprefix("srfx").removeprefix(".")
            for alias in node.names:
                name = f"{inside}.{alias.name}".removeprefix(".")
                yield name if name in SOURCES else inside
        else:
            yield from imports(node)


KNOWN = {name: set(imports(tree)) - {name, "", "_core"} for name, tree in SOURCES.items()}


def reached(name, seen):
    """Everything that a module imports, and what that imports."""
    for other in KNOWN[name] - seen:
        if (name, other) not in LATER:
            seen.add(other)
            reached(other, seen)
    return seen


@pytest.mark.parametrize("name", SOURCES)
def test_no_module_imports_itself_by_way_of_others(name):
    assert name not in reached(name, set())


@pytest.mark.parametrize("name", SOURCES)
def test_modules_know_those_below_them_alone(name):
    room = name.split(".")[0]
    rooms = {other.split(".")[0] for other in reached(name, set())}
    if room in ("models", "results", "_validation"):
        assert not rooms & {*VERBS, "plotting", "figures", "cli", "app"}
    if room in VERBS:
        assert not rooms & {"plotting", "figures", "cli", "app"}
    if room == "reference":
        assert rooms <= {"reference", "_validation"}


@pytest.mark.parametrize("name", SOURCES)
def test_no_private_name_crosses_modules(name):
    """Neither imported, nor taken from a module or an object that another module defines."""
    nodes = list(ast.walk(SOURCES[name]))
    own = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    own |= {n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    own |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    taken = {n.attr for n in nodes if isinstance(n, ast.Attribute)} - own
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("srfx."):
            taken |= {alias.name for alias in node.names}
    private = {x for x in taken if x.startswith("_") and not x.startswith("__")}
    private -= {"_exit", "_getframe"}  # of os and sys
    modules = {part for known in SOURCES for part in known.split(".")}
    assert not private - modules


# --- the same for the core ---------------------------------------------------------------------

HEADERS = Path(__file__).parents[1] / "cpp" / "include" / "srfx"
#: What the headers of a folder may include: those of their own and of these folders.
BELOW = {
    "core": set(),
    "gaussian": {"core"},
    "bulk": {"core", "gaussian"},
    "data": {"core", "gaussian", "bulk"},
    "solve": {"core", "gaussian", "bulk", "data"},
    "spectrum": {"core", "gaussian", "bulk", "data", "solve"},
    "simulate": {"core", "gaussian"},
}


@pytest.mark.parametrize("folder", BELOW)
def test_headers_include_those_below_them_alone(folder):
    assert {path.name for path in HEADERS.iterdir()} == set(BELOW)
    for header in (HEADERS / folder).glob("*.hpp"):
        text = header.read_text(encoding="utf-8")
        named = set(re.findall(r'#include "srfx/(\w+)/', text))
        assert named <= BELOW[folder] | {folder}, header.name
        assert "pybind" not in text, header.name
        if folder == "simulate":  # its witness is its own: of the Gaussian side, sigma(x) alone
            known = set(re.findall(r'"srfx/gaussian/(\w+)', text))
            assert known <= {"activation", "target"}, header.name
