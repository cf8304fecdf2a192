"""Paths that a user gives, and files that are written: nothing goes elsewhere, nothing is lost."""

import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import srfx
from srfx import _files
from srfx.cli import run
from srfx.scan_cli import read_specification

MODEL = srfx.SpikedRF(r=0.9, gamma=0.7)
AXES = {"alpha": [0.5, 1.5], "lam": [0.1, 1.0], "progress": False}
URLS = ["s3://bucket/x.zarr", "memory://x.nc", "file:///x.zarr", "gs://b/x", "https://x.org/x.nc"]
SOLVE = ["solve", "--r", "0.9", "--alpha", "1,2", "--lam", "0.1"]
posix = pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory beside the one where the process is."""
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def names(folder="."):
    return sorted(os.listdir(folder))


class TestLocal:
    def test_home(self, home):
        assert _files.local("out", "~/a/b.nc") == home / "a" / "b.nc"
        assert _files.local("out", Path("~")) == home
        assert _files.local("out", "a~/b") == Path.cwd() / "a~" / "b"
        assert _files.local("out", "~a.nc") == Path.cwd() / "~a.nc"
        assert _files.local("out", "./~/b") == Path.cwd() / "~" / "b"

    def test_what_has_a_path(self, home):
        class Bytes:
            def __fspath__(self):
                return b"a.nc"

        class Entry:
            def __fspath__(self):
                return "~/a.nc"

        assert _files.local("out", Bytes()) == Path.cwd() / "a.nc"
        assert _files.local("out", Entry()) == home / "a.nc"
        assert _files.local("out", "/a/../b") == Path("/a/../b")  # a may be a link

    @pytest.mark.parametrize("url", [*URLS, "zip::s3://a/x", "file:/x", "S3://a"])
    def test_urls(self, url):
        with pytest.raises(ValueError, match=f"^out must be .*, not a URL; got '{re.escape(url)}'"):
            _files.local("out", url)
        with pytest.raises(ValueError, match=r"^out must be .*, not a URL"):
            _files.local("out", Path(url))

    def test_names_with_colons_are_none(self):
        for name in ("a:b.nc", "2024-01-01T10:00.zarr", "./s3:/a", "eta:1/x.nc"):
            assert _files.local("out", name) == Path.cwd() / name if ":/" not in name[:5] else True
        assert _files.local("out", "./s3:/a").is_absolute()

    @pytest.mark.parametrize("bad", [3, b"a", None, "", ["a"], True])
    def test_other_types(self, bad):
        with pytest.raises(TypeError, match=r"^out must be a path on this machine"):
            _files.local("out", bad)

    def test_what_cannot_be(self, home):
        with pytest.raises(ValueError, match="there is no such home directory"):
            _files.local("out", "~nobody-of-that-name/x.zarr")
        with pytest.raises(ValueError, match="holds what no name of a file can"):
            _files.local("out", "a\0b")
        with pytest.raises(ValueError, match="holds what no name of a file can"):
            _files.local("out", "a\ud800b")


class TestDoors:
    """Every argument and option that is a path."""

    def test_a_scan_is_read_where_it_was_written(self, home):
        want = srfx.scan(MODEL, **AXES)
        other = srfx.scan(srfx.SpikedRF("relu", "abs", r=2.0), home / "y.zarr", **AXES)
        got = srfx.scan(MODEL, "~/x.zarr", **AXES)
        np.testing.assert_array_equal(got.test_error, want.test_error)
        assert names(home) == ["x.zarr", "y.zarr"]
        assert names() == []
        with pytest.raises(ValueError, match="holds another"):
            srfx.scan(MODEL, "~/y.zarr", **AXES)
        again = srfx.scans.open_scan("~/y.zarr")
        np.testing.assert_array_equal(again.test_error, other.test_error)
        assert again.attrs["activation"] == "relu"

    def test_the_process_may_go_elsewhere(self, home, monkeypatch):
        want = srfx.scan(MODEL, **AXES)
        got = srfx.scan(MODEL, "x.zarr", **AXES)
        opened = srfx.scans.open_scan("x.zarr")
        monkeypatch.chdir(home)
        np.testing.assert_array_equal(got.test_error, want.test_error)
        np.testing.assert_array_equal(opened.test_error, want.test_error)

    @pytest.mark.parametrize("suffix", [".nc", ".parquet"])
    @pytest.mark.parametrize("prepared", [False, True])
    def test_export(self, home, suffix, prepared):
        if prepared:
            Path("~").mkdir()  # not expanded: a folder of that name
        ds = srfx.scan(MODEL, "~/x.zarr", **AXES)
        srfx.scans.export("~/x.zarr", "~/x" + suffix)
        assert names(home) == ["x" + suffix, "x.zarr"]
        assert names() == (["~"] if prepared else [])
        if suffix == ".nc":
            with xr.open_dataset(home / "x.nc") as back:
                xr.testing.assert_equal(back.load(), ds.load())

    @pytest.mark.parametrize("url", URLS)
    def test_urls_are_refused_before_any_work(self, url, home, capsys, monkeypatch):
        ds = srfx.scan(MODEL, **AXES)
        for name in ("solve", "optimal", "simulate", "feature_spectrum"):
            for module in (srfx.cli, srfx.analysis_cli, srfx.simulation_cli):
                monkeypatch.setattr(module, name, None, raising=False)
        Path("spec.toml").write_text(
            f'[model]\ntype = "SpikedRF"\n[axes]\nalpha = 1\nlam = 1\n[output]\npath = "{url}"\n'
        )
        calls = {
            "out": lambda: srfx.scan(MODEL, url, **(AXES | {"lam": "refused later"})),
            "path": lambda: srfx.scans.open_scan(url),
            "path ": lambda: srfx.scans.export(ds, url),
            "path  ": lambda: srfx.scans.export(url, "x.nc"),
            "folder": lambda: srfx.figures.make(3, url),
            "store": lambda: srfx.figures.make(3, "figures", store=url),
            "store ": lambda: srfx.figures.compute(1, store=url),
            "path in .output.": lambda: read_specification(Path("spec.toml")),
        }
        for name, call in calls.items():
            with pytest.raises(ValueError, match=f"^{name.strip()} must be .*not a URL"):
                call()
        simulate = ["simulate", *SOLVE[1:], "--d", "50"]
        for words in (
            [*SOLVE, "-o", url],
            [*SOLVE, "--plot", url],
            [*SOLVE[:-2], "--optimal", "lam", "-o", url],
            ["spectrum", *SOLVE[1:-2], "-o", url],
            ["spectrum", *SOLVE[1:-2], "--plot", url],
            [*simulate, "-o", url],
            [*simulate, "--plot", url],
            ["scan", "spec.toml"],
            ["scan", "spec.toml", "-o", url],
            ["scan", url],
            ["plot", url],
            ["plot", ".", "-o", url],
            ["export", ".", url],
            ["figure", "3", "-o", url],
            ["figure", "3", "--store", url],
        ):
            assert run(words) == 2, words
            out, err = capsys.readouterr()
            assert out == ""
            assert err.startswith("srfx: error: ")
            assert "not a URL" in err
            assert err.count("\n") == 1
        assert names() == ["spec.toml"]

    def test_the_program(self, home, capsys):
        Path("spec.toml").write_text(
            '[model]\ntype = "SpikedRF"\n[axes]\nalpha = [1, 2]\nlam = 1\n[output]\n'
            'path = "~/scan.zarr"\n'
        )
        simulate = ["simulate", *SOLVE[1:], "--d", "50", "--replicates", "2", "--no-progress"]
        for words in (
            [*SOLVE, "-o", "~/a.csv", "--plot", "~/a.png"],
            ["spectrum", *SOLVE[1:-2], "--x", "0.5,1", "-o", "~/b.json", "--plot", "~/b.png"],
            [*SOLVE[:-2], "--optimal", "lam", "-o", "~/c.nc"],
            [*simulate, "-o", "~/d.csv", "--plot", "~/d.png"],
            ["scan", "spec.toml", "--no-progress"],
            ["plot", "~/scan.zarr"],
            ["export", "~/scan.zarr", "~/scan.nc"],
            ["figure", "3", "-o", "~/figures"],
        ):
            assert run(words) == 0, (words, capsys.readouterr().err)
        assert names() == ["spec.toml"]
        made = ["a.csv", "a.png", "b.json", "b.png", "c.nc", "d.csv", "d.png"]
        made += ["figures", "scan.nc", "scan.png", "scan.zarr"]
        assert [n for n in names(home) if not n.startswith(".")] == made  # matplotlib has a cache
        assert names(home / "figures") == ["figure-3.json", "figure-3.nc", "figure-3.png"]


def fill(text):
    return lambda file: file.write(text)


class TestWrite:
    def test_a_new_file_and_another_in_its_place(self, tmp_path):
        path = tmp_path / "a.csv"
        for text in ("one", "two, longer", "3"):
            _files.write_text(path, fill(text))
            assert path.read_text() == text
        assert names(tmp_path) == ["a.csv"]

    def test_what_fails_leaves_the_old_one(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text("old")
        for error in (ValueError, KeyboardInterrupt):

            def fails(part, error=error):
                part.write_text("half")
                raise error("no")

            with pytest.raises(error):
                _files.write(path, fails)
            assert path.read_text() == "old"
            assert names(tmp_path) == ["a.csv"]

    @posix
    def test_mode(self, tmp_path):
        path = tmp_path / "a.csv"
        _files.write_text(path, fill("new"))
        other = tmp_path / "other"
        other.touch()
        assert path.stat().st_mode == other.stat().st_mode  # as the umask has it
        for mode in (0o600, 0o664, 0o755):
            path.chmod(mode)
            seen = []

            def content(part, seen=seen):
                seen.append(stat.S_IMODE(part.stat().st_mode))
                part.write_text("text")

            _files.write(path, content)
            assert stat.S_IMODE(path.stat().st_mode) == mode
            assert seen == [0o600]  # nobody may read more meanwhile

    @posix
    def test_links(self, tmp_path):
        real = tmp_path / "deep" / "real.csv"
        real.parent.mkdir()
        link = tmp_path / "link.csv"
        link.symlink_to("deep/real.csv")
        for text in ("first, where none is yet", "second"):
            _files.check("-o", link)
            _files.write_text(link, fill(text))
            assert link.is_symlink()
            assert real.read_text() == text
        twin = tmp_path / "twin.csv"
        os.link(real, twin)
        _files.write_text(link, fill("third"))
        assert twin.read_text() == "third"
        assert names(tmp_path) == ["deep", "link.csv", "twin.csv"]
        assert names(tmp_path / "deep") == ["real.csv"]

    @posix
    def test_attributes(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text("old")
        try:
            os.setxattr(path, "user.origin", b"x")
        except (OSError, AttributeError):
            pytest.skip("no extended attributes here")
        _files.write_text(path, fill("new"))
        assert (path.read_text(), os.getxattr(path, "user.origin")) == ("new", b"x")

    @pytest.mark.parametrize("letter", ["a", "é"])
    def test_long_names(self, tmp_path, monkeypatch, letter, capsys):
        most = os.pathconf(tmp_path, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
        size = len(letter.encode())
        longest = letter * ((most - 4) // size) + ".csv"
        monkeypatch.chdir(tmp_path)
        assert run([*SOLVE, "-o", longest]) == 0
        assert names() == [longest]
        capsys.readouterr()
        assert run([*SOLVE, "-o", letter + letter + longest]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "is not writable (File name too long)" in err
        assert names() == [longest]

    def test_long_names_of_stores(self, tmp_path):
        ds = srfx.scan(MODEL, tmp_path / ("a" * 245 + ".zarr"), **AXES)
        srfx.scans.export(ds, tmp_path / ("a" * 245 + ".parquet"))
        assert len(names(tmp_path)) == 2

    @pytest.mark.parametrize("suffix", ["csv", "json", "nc", "png"])
    def test_a_file_that_cannot_be_replaced(self, tmp_path, suffix, monkeypatch, capsys):
        """As one that is mounted into a container: the name is busy."""
        path = tmp_path / f"a.{suffix}"
        path.write_text("old" * 10**6)
        number = path.stat().st_ino

        def busy(*_):
            raise OSError(errno.EBUSY, "Device or resource busy")

        monkeypatch.setattr(os, "replace", busy)
        assert run([*SOLVE, "--plot" if suffix == "png" else "-o", str(path)]) == 0
        assert path.stat().st_ino == number
        assert names(tmp_path) == [path.name]
        held = path.read_bytes()
        assert held.startswith(
            {"csv": b"r,c,", "json": b"{", "nc": b"\x89HDF", "png": b"\x89PNG"}[suffix]
        )
        assert b"oldold" not in held
        if suffix == "nc":
            xr.load_dataset(path)

    @posix
    def test_a_bind_mount(self, tmp_path):
        (tmp_path / "host.csv").write_text("old")
        target = tmp_path / "container.csv"
        target.touch()
        mounted = subprocess.run(
            ["mount", "--bind", tmp_path / "host.csv", target], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("bind mounts need root")
        try:
            _files.check("-o", target)
            _files.write_text(target, fill("new"))
        finally:
            subprocess.run(["umount", target], check=True)
        assert (tmp_path / "host.csv").read_text() == "new"
        assert names(tmp_path) == ["container.csv", "host.csv"]

    @posix
    def test_a_writable_file_in_a_folder_of_somebody_else(self, run_python):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            path = Path(folder, "a.csv")
            path.write_text("old, and longer than the new one")
            os.chmod(path, 0o666)
            os.chmod(folder, 0o555)
            code = f"""
import os, shutil, tempfile  # nobody may not be able to read them
from pathlib import Path
from srfx import _files
if os.geteuid() == 0:
    os.seteuid(65534)
path = Path({str(path)!r})
_files.check("-o", path)
_files.write_text(path, lambda file: file.write("new"))
try:
    _files.check("-o", path.with_name("b.csv"))
except PermissionError as error:
    print(error)
"""
            said = run_python(code)
            assert path.read_text() == "new"
            assert names(folder) == ["a.csv"]
            assert (
                said
                == f"-o must be writable; '{folder}/b.csv' is not writable (Permission denied)\n"
            )
            os.chmod(folder, 0o755)

    def test_a_full_disk_loses_nothing(self, tmp_path, monkeypatch):
        """Not beside the target, and not in it: then the numbers are elsewhere, and it says so."""
        path, spare = tmp_path / "full" / "a.csv", tmp_path / "spare"
        path.parent.mkdir()
        spare.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(spare))

        def content(part):
            if part.parent == path.parent:
                raise OSError(errno.ENOSPC, "No space left on device")
            part.write_text("numbers")

        _files.write(path, content)  # there is room once the old one is gone
        assert path.read_text() == "numbers"

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(shutil, "copyfileobj", full)
        path.unlink()
        with pytest.raises(
            OSError, match=r"could not be written \(No space left on device\); "
        ) as e:
            _files.write(path, content)
        (left,) = spare.iterdir()
        assert left.read_text() == "numbers"
        assert str(e.value).endswith(f"what it should hold is in {str(left)!r}")
        assert names(path.parent) == []  # no half of it

    @posix
    def test_a_full_file_system(self, tmp_path, monkeypatch, capsys):
        """Every format says so in its own way, netCDF4 as a RuntimeError."""
        small = tmp_path / "small"
        small.mkdir()
        spare = tmp_path / "spare"
        spare.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", small]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("mounting needs root")
        monkeypatch.setattr(tempfile, "tempdir", str(spare))
        words = [*SOLVE[:-4], "--alpha", "0.1:3:300", "--lam", "0.1"]
        try:
            for suffix in ("csv", "json", "nc"):
                assert run([*words, "-o", str(small / f"a.{suffix}")]) == 2
                assert names(small) == []
                (left,) = spare.iterdir()
                assert f"what it should hold is in {str(left)!r}" in capsys.readouterr().err
                if suffix == "nc":
                    assert xr.load_dataset(left).sizes == {"alpha": 300}
                left.unlink()
        finally:
            subprocess.run(["umount", "-l", small], check=True)  # netCDF4 leaves it open

    @posix
    def test_devices_and_pipes(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        code = (
            "import sys; from srfx.cli import run;"
            "print('before', flush=True); code = run(sys.argv[1:]); print('after')"
        )
        program = [sys.executable, "-c", code, *SOLVE, "--format", "csv", "-o"]
        piped = subprocess.run(
            [*program, "/dev/stdout"], capture_output=True, text=True, check=True
        )
        with open(tmp_path / "out", "w") as out:
            subprocess.run([*program, "/dev/fd/1"], stdout=out, stderr=subprocess.PIPE, check=True)
        assert piped.stdout == (tmp_path / "out").read_text()
        assert piped.stdout.startswith("before\nr,c,gamma")
        assert piped.stdout.endswith("\nafter\n")
        os.mkfifo(tmp_path / "fifo")
        with subprocess.Popen(["cat", tmp_path / "fifo"], stdout=subprocess.PIPE, text=True) as cat:
            assert run([*SOLVE, "--format", "csv", "-o", str(tmp_path / "fifo")]) == 0
            assert "before\n" + cat.stdout.read() + "after\n" == piped.stdout
        assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
        assert run([*SOLVE, "--format", "csv", "-o", "/dev/null"]) == 0
        assert run([*SOLVE, "--format", "csv", "-o", "/dev/full"]) == 2

    @pytest.mark.parametrize("name", ["a b.nc", "ä#?%.nc", "[1].nc", "a:b.nc", "x=1&y.nc", "-.nc"])
    def test_odd_names(self, name, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert run([*SOLVE, f"--output={name}"]) == 0
        assert names() == [name]
        assert srfx.scans.open_scan(name).sizes == {"alpha": 2}


def test_the_check_agrees_with_the_writer(tmp_path, monkeypatch):
    """Whatever is refused could not be written, and leaves nothing."""
    (tmp_path / "dir.csv").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "spare").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spare"))
    for name, said in {
        "dir.csv": "is a directory",
        "no/such.csv": "is in a directory that does not exist: ",
        "file/a.csv": "is in a directory that does not exist: ",
        "a" * 300: "is not writable (File name too long)",
    }.items():
        with pytest.raises(OSError, match=re.escape(said)):
            _files.check("-o", tmp_path / name)
        with pytest.raises(OSError):  # noqa: PT011  # whatever the system says
            _files.write_text(tmp_path / name, fill("x"))
    assert names(tmp_path) == ["dir.csv", "file", "spare"]


def test_pictures_named_after_stores_with_dots(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("run1.4", "run1.5", "a.zarr"):
        srfx.scan(MODEL, name, **AXES)
        assert run(["plot", name, "--x", "alpha"]) == 0
    assert [n for n in names() if n.endswith(".png")] == ["a.png", "run1.4.png", "run1.5.png"]


BACKEND = {**os.environ, "MPLBACKEND": "of_another_environment"}


def test_a_backend_that_is_not_installed(tmp_path):
    """The program draws to files, and needs none."""
    program = [sys.executable, "-m", "srfx", *SOLVE, "--plot", "p.png"]
    done = subprocess.run(
        program, cwd=tmp_path, env=BACKEND, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "srfx: drew p.png\n")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_library_call_says_which_variable_it_is(run_python, tmp_path):
    code = "import srfx\ntry: srfx.figures.make(3, 'x')\nexcept ValueError as e: print(e)"
    said = run_python(code, env=BACKEND, cwd=tmp_path)
    assert said.startswith("the environment variable MPLBACKEND must name a backend of matplotlib")
    assert BACKEND["MPLBACKEND"] in said
    assert names(tmp_path) == []


class TestAttributes:
    """Of NetCDF files: numbers and lists as they were, a list of one too."""

    @pytest.mark.parametrize("readout", [(1.0,), (0.5, 1.5)])
    def test_they_come_back(self, readout, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        model = srfx.SpikedRF(readout=readout)
        solution = srfx.solve(model, alpha=[1.0, 2.0], lam=0.1)
        stored = srfx.scan(model, "s.zarr", **AXES)
        sets = {
            "solve": solution.to_xarray(),
            "optimal": srfx.optimal(model, {"lam": (1e-3, 10)}, alpha=1.0),
            "spectrum": srfx.feature_spectrum(model, 2.0, [0.5, 1.0]),
            "simulate": srfx.simulate(model, 1.0, 0.1, d=50, replicates=2, seed=2**64 - 1),
            "figure": srfx.figures.compute(3),
        }
        for name, ds in sets.items():
            ds.to_netcdf(f"{name}.nc")
        for name, ds in {"memory": srfx.scan(model, **AXES), "store": stored}.items():
            srfx.scans.export(ds, f"{name}.nc")
            sets[name] = ds
        srfx.scans.export("s.zarr", "again.nc")
        sets["again"] = stored
        words = ["solve", "--r", "0.9", "--alpha", "1,2", "--lam", "0.1"]
        assert run([*words, "--readout", ",".join(map(str, readout)), "-o", "program.nc"]) == 0
        sets["program"] = sets["solve"]
        for name, ds in sets.items():
            with srfx.scans.open_scan(f"{name}.nc") as back:
                assert back.attrs == ds.attrs, name
                assert {k: type(v) for k, v in back.attrs.items()} == {
                    k: type(v) for k, v in ds.attrs.items()
                }
                if "readout" in ds.attrs:
                    assert back.attrs["readout"] == list(readout)
                    assert json.loads(json.dumps(back.attrs)) == ds.attrs
