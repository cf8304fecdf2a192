#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["nox>=2025.2.9"]
# ///
"""The tasks of a developer: `nox -s lint`; `nox -l` lists them.

A session makes its own environment and installs the package in it, which compiles the extension.
In an environment that has the package and the group dev, `nox --no-venv -s lint` uses what is
there: nothing is installed or compiled. So does `.ci/run`.
"""

import json
import os
import platform
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"

PRESETS = json.loads(Path("CMakePresets.json").read_text(encoding="utf-8"))["configurePresets"]
SANITIZERS = {
    preset["name"]: preset["cacheVariables"]["SRFX_SANITIZE"]
    for preset in PRESETS
    if "SRFX_SANITIZE" in preset["cacheVariables"]
}
PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
WHEELS = PROJECT["tool"]["cibuildwheel"]
# What is tested with the oldest versions: what touches the dependencies.
OLDEST = ("import", "models", "results", "plotting", "scan_cli", "scan_store")


def prepare(session: nox.Session, group: str, *packages: str) -> None:
    """Install a dependency group and packages, unless nox runs with --no-venv."""
    if session.virtualenv.venv_backend != "none":
        session.install("pip>=25.1")
        session.install(*packages, "--group", group)


def site_packages(session: nox.Session, python: str = "python") -> str:
    """Return where `python` keeps its packages."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return str(session.run(python, "-c", code, silent=True, external=True)).strip()


@nox.session
def tests(session: nox.Session) -> None:
    """Test the package; arguments after -- go to pytest."""
    prepare(session, "test", ".")
    session.run("pytest", "-n", "auto", "--dist", "worksteal", *session.posargs)


@nox.session(default=False)
def oldest(session: nox.Session) -> None:
    """Run a part of the tests with the oldest versions of all dependencies."""
    prepare(session, "test", ".")
    home = Path(session.create_tmp()) / "oldest"
    session.run("python", "-m", "venv", "--clear", str(home))
    python = str(home / "bin" / "python")
    session.run(
        python, "-m", "pip", "install", "-q", "--no-compile", "-r", ".ci/oldest.txt", external=True
    )
    source, target = Path(site_packages(session)), Path(site_packages(session, python))
    for part in (source / "srfx", *source.glob("srfx-*.dist-info")):
        shutil.copytree(part, target / part.name)
    session.run(python, "-m", "pip", "check", external=True)
    session.run(
        *(python, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("-W", "default", "--disable-warnings"),  # old packages warn of newer ones beneath them
        *(f"tests/test_{name}.py" for name in OLDEST),
        *("-k", "not Kill and not kill and not Disk and not is_fast"),
        *session.posargs,
        external=True,
    )


@nox.session(default=False)
@nox.parametrize("library", ["mpich", "openmpi"])
def mpi(session: nox.Session, library: str) -> None:
    """Scan in MPI jobs, kill ranks, go on: with the libraries of the package index."""
    prepare(session, "mpi", ".[test]", library)
    session.run("pytest", "-q", "tests/test_mpi.py", *session.posargs)


@nox.session(default=False)
def executors(session: nox.Session) -> None:
    """Scan with all executors of docs/cluster.md, kill workers, press Ctrl-C, go on."""
    prepare(session, "executors", ".[test]")
    words = ["pytest", "-q", "tests/test_executors.py", *session.posargs]
    session.run(*words, env={"SRFX_EXECUTORS": "1"})


@nox.session(default=False)
def bridges(session: nox.Session) -> None:
    """Test the errors as functions of JAX and PyTorch."""
    prepare(session, "bridges", ".[test]")
    session.run("pytest", "-q", "tests/test_bridges.py", *session.posargs)


@nox.session(default=False)
def slurm(session: nox.Session) -> None:
    """Scan on a Slurm of one node, which is started and stopped: needs root and Debian's slurm."""
    prepare(session, "slurm", ".[test]")
    words = ["pytest", "-q", "tests/test_slurm.py", *session.posargs]
    session.run(*words, env={"SRFX_SLURM": "1"})


@nox.session(default=False)
def readers(session: nox.Session) -> None:
    """Read stores and exported files with all programs of docs/cluster.md."""
    prepare(session, "readers", ".[test]")
    home = session.create_tmp()
    npm = ["npm", "install", "--silent", "--prefix", home, "zarrita@0.7", "@zarrita/storage@0.2"]
    env = {}
    if works("npm", "--version"):
        session.run(*npm, external=True)
        env["SRFX_NODE_MODULES"] = str(Path(home, "node_modules").resolve())
    session.run("pytest", "-q", "tests/test_readers.py", *session.posargs, env=env)


@nox.session
def lint(session: nox.Session) -> None:
    """Check files, types and the repository: all hooks of .pre-commit-config.yaml."""
    prepare(session, "lint", ".[test]")
    session.run(*("pre-commit", "run", "--all-files", "--hook-stage", "manual"), *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation in docs/_build; warnings are errors."""
    prepare(session, "docs", ".[plot]")
    session.run(
        *("python", "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"), "docs", "docs/_build"
    )


@nox.session(default=False)
@nox.parametrize("preset", list(SANITIZERS), ids=list(SANITIZERS))
def sanitizers(session: nox.Session, preset: str) -> None:
    """Run the C++ tests under a sanitizer, in build/<preset>."""
    prepare(session, "cpp")
    cpp(session, preset)
    command = ["ctest", "--preset", preset, "--parallel", "2"]
    # The thread sanitizer knows std::thread but not GCC's OpenMP, to it a race everywhere: its
    # preset builds without OpenMP. Of older compilers it asks for fixed addresses.
    fixed = ["setarch", platform.machine(), "-R"]
    if SANITIZERS[preset] == "thread" and works(*fixed, "true"):
        command = [*fixed, *command]
    session.run(*command, external=True)


@nox.session(default=False)
def cpp_tests(session: nox.Session) -> None:
    """Run the C++ tests, optimised, in build/tests."""
    prepare(session, "cpp")
    cpp(session, "tests")
    session.run("ctest", "--preset", "tests", "--parallel", "2")


@nox.session(default=False)
def format(session: nox.Session) -> None:
    """Format Python and C++; `-- --check` says what it would change."""
    prepare(session, "lint")
    check = "--check" in session.posargs
    session.run("ruff", "format", *(["--check"] if check else []))
    clang = ["--dry-run", "--Werror"] if check else ["-i"]
    session.run("clang-format", *clang, *sources("hpp"), *sources("cpp"))


@nox.session(default=False)
def tidy(session: nox.Session) -> None:
    """Run clang-tidy on the C++ tests and the headers that they include."""
    prepare(session, "cpp-style")
    # Without OpenMP, whose header is the compiler's own.
    configure(
        session,
        "tests",
        "-B",
        "build/tidy",
        "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON",
        "-DSRFX_USE_OPENMP=OFF",
    )
    files = session.posargs or [name for name in sources("cpp") if "/tests/" in name]
    session.run("clang-tidy", "-p", "build/tidy", "--quiet", "--extra-arg=-Wno-everything", *files)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Run the benchmarks named after --, or bench/bench_theory.py."""
    prepare(session, "bench", ".[test]")
    for name in session.posargs or ["bench/bench_theory.py"]:
        session.run("python", name)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Make the source distribution and from it the wheel, for all instruction sets; try both.

    The wheel is tested in a fresh environment, under qemu-user (if it is there) on other
    processors too. `-- --only-test` tests what is in dist/.
    """
    prepare(session, "build")
    if "--only-test" not in session.posargs:
        shutil.rmtree("dist", ignore_errors=True)
        sets = WHEELS["linux" if platform.machine() == "x86_64" else "macos"]
        setting = f"cmake.define.SRFX_ISA={sets['config-settings']['cmake.define.SRFX_ISA']}"
        session.run("python", "-m", "build", "--sdist")
        sdist = check_sdist(session)
        session.run("python", "-m", "pip", "wheel", "--no-deps", "-w", "dist", sdist, "-C", setting)
        if platform.system() == "Linux":  # OpenMP's runtime comes with the wheel, as on the index
            made = str(next(Path("dist").glob("*.whl")))
            session.run("auditwheel", "repair", "--wheel-dir", "dist", made)
            Path(made).unlink()
    (wheel,) = Path("dist").resolve().glob("*.whl")
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))
    if platform.system() == "Linux":
        session.run("auditwheel", "show", str(wheel))

    home = Path(session.create_tmp()).resolve() / "fresh"
    session.run("python", "-m", "venv", "--clear", str(home))
    python, tests = str(home / "bin" / "python"), Path("tests").resolve()
    session.run(
        *(python, "-m", "pip", "install", "-q", f"srfx[reference] @ {wheel.as_uri()}"),
        *("pytest", "scikit-learn"),
        external=True,
    )
    with session.chdir(home):
        program = str(home / "bin" / "srfx")
        session.run(program, "info", external=True)
        point = ["--gamma", "0.8", "--alpha", "1", "--lam", "0.1"]
        session.run(program, "solve", *point, external=True)
        session.run(
            *(str(home / "bin" / "pytest"), "-c", os.devnull, "-p", "no:cacheprovider"),
            *("-v", "--rootdir", str(tests)),
            *(str(tests / f"test_{name}.py") for name in ("processor", "runtimes")),
            external=True,
        )


@nox.session(default=False)
def aarch64(session: nox.Session) -> None:
    """Run the C++ tests for aarch64, cross-compiled, under qemu.

    Needs Debian's crossbuild-essential-arm64 and qemu-user.
    """
    prepare(session, "cpp")
    cpp(session, "aarch64")
    session.run("ctest", "--preset", "aarch64", "--parallel", "2")


@nox.session(default=False, python=["3.13t", "3.14t"])
def free_threads(session: nox.Session) -> None:
    """Test threads in an interpreter without the GIL.

    Of what srfx needs, netCDF4 is left out: it has no wheels for such interpreters.
    """
    session.install("numpy", "xarray", "pandas", "tqdm", "click", "pytest")
    session.install("--no-deps", ".")
    session.run(
        *("pytest", "-q", "-c", os.devnull, "--rootdir", "tests", "-p", "no:cacheprovider"),
        *("-W", "error", "tests/test_free_threads.py"),
    )


def check_sdist(session: nox.Session) -> str:
    """Compare the source distribution with what git tracks, less what pyproject.toml excludes.

    Returns its path.
    """
    (sdist,) = Path("dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {entry.name.partition("/")[2] for entry in archive if entry.isfile()}
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True)
    left_out = tuple(PROJECT["tool"]["scikit-build"]["sdist"]["exclude"])
    wanted = {name for name in tracked.stdout.splitlines() if not name.startswith(left_out)}
    if held != wanted | {"PKG-INFO"}:
        session.error(
            f"{sdist} lacks {sorted(wanted - held)} and holds "
            f"{sorted(held - wanted - {'PKG-INFO'})} too"
        )
    return str(sdist)


def configure(session: nox.Session, preset: str, *options: str) -> None:
    """Configure the C++ build, with Eigen from this environment."""
    session.run(
        *("cmake", "--preset", preset, "--log-level=WARNING"),
        f"-DCMAKE_PREFIX_PATH={site_packages(session)}",
        *options,
        env={"CMAKE_GENERATOR": "Ninja"},
    )


def cpp(session: nox.Session, preset: str) -> None:
    """Configure and build what a preset names."""
    configure(session, preset)
    session.run("cmake", "--build", "--preset", preset)


def sources(suffix: str) -> list[str]:
    """Return the C++ files of this suffix."""
    return sorted(str(path) for path in Path("cpp").rglob(f"*.{suffix}"))


def works(*command: str) -> bool:
    """Say whether a command can be run here."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


if __name__ == "__main__":
    nox.main()
