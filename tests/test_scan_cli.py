"""The commands scan, plot and export."""

import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import srfx
from srfx.cli import run
from srfx.cli.specification import read_specification
from srfx.models import MultiStep
from srfx.targets import Target

PROGRAM = [sys.executable, "-c", "from srfx.cli import main; main()"]

SPEC = """
[model]
type = "OneStep"
alpha0 = 20

[axes]
eta = [1, 3]
alpha = "0.5:3:6"
lam = { start = 1e-3, stop = 0.1, count = 3, scale = "log" }

[output]
path = "scan.zarr"
block_points = 6
"""

AXES = {"eta": [1, 3], "alpha": np.linspace(0.5, 3, 6), "lam": np.geomspace(1e-3, 0.1, 3)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.toml").write_text(SPEC)
    return tmp_path


@pytest.fixture(scope="module")
def want():
    return srfx.scan(srfx.OneStep(alpha0=20), **AXES)


def test_scan(folder, want, capsys):
    assert run(["scan", "spec.toml"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "srfx: wrote scan.zarr (36 points)"
    assert "srfx: scan 100 %, 36 of 36 points" in err
    with xr.open_zarr("scan.zarr") as ds:
        xr.testing.assert_equal(ds.load()[list(want.data_vars)], want)


def test_resume_is_asked_for(folder, capsys):
    assert run(["scan", "spec.toml", "--no-progress"]) == 0
    assert run(["scan", "spec.toml"]) == 2
    assert "'scan.zarr' exists: go on with --resume" in capsys.readouterr().err
    assert run(["scan", "spec.toml", "--resume", "--no-progress"]) == 0
    (folder / "spec.toml").write_text(SPEC.replace("[1, 3]", "[1, 2]"))
    assert run(["scan", "spec.toml", "--resume"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "eta[1]: 3.0 in the store, 2.0 asked for" in error


def test_another_output(folder):
    assert run(["scan", "spec.toml", "-o", "other.zarr", "--n-threads", "1"]) == 0
    assert sorted(p.name for p in folder.iterdir()) == ["other.zarr", "spec.toml"]


def test_dry_run(folder, capsys):
    assert run(["scan", "spec.toml", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "points  36 (eta 2 x alpha 6 x lam 3)"
    assert lines[1] == "blocks  6 (of eta 1 x alpha 2 x lam 3)"
    assert lines[2].startswith("time    about ")
    assert lines[3] == "size    612 bytes"
    assert [p.name for p in folder.iterdir()] == ["spec.toml"]


def test_the_estimate_of_the_time_is_of_the_right_size(folder, capsys):
    text = SPEC.replace("[1, 3]", '"0.1:3:3000"').replace("block_points = 6", "")
    (folder / "spec.toml").write_text(text)
    assert run(["scan", "spec.toml", "--dry-run", "--n-threads", "1"]) == 0
    said = float(capsys.readouterr().out.split("about ")[1].split(" s")[0])
    start = time.thread_time()
    srfx.scan(srfx.OneStep(alpha0=20), n_threads=1, **AXES | {"eta": np.linspace(0.1, 3, 3000)})
    assert 0.2 < said / (time.thread_time() - start) < 5


def test_simulations_and_pairs(folder):
    (folder / "spec.toml").write_text(
        """
        [model]
        type = "SpikedRF"
        activation = "erf"
        readout = [0.5, 1.5]
        [axes]
        alpha = [0.5, 1.0]
        lam = [0.1, 0.2]
        gamma = 0.9
        pairs = [["alpha", "lam"]]
        [simulate]
        d = 40
        replicates = 2
        """
    )
    assert run(["scan", "spec.toml", "-o", "s.zarr"]) == 0
    model = srfx.SpikedRF("erf", gamma=0.9, readout=(0.5, 1.5))
    want = srfx.simulate(model, 1.0, 0.2, d=40, replicates=2)
    with xr.open_zarr("s.zarr") as ds:
        assert dict(ds.sizes) == {"alpha_lam": 2, "replicate": 2}
        np.testing.assert_array_equal(ds.test_error[1], want.test_error[0, 0])
    assert run(["scan", "spec.toml", "-o", "s.zarr", "--dry-run"]) == 0


def test_failures_are_said(folder, capsys):
    text = SPEC.replace('"OneStep"\nalpha0 = 20', '"SpikedRF"').replace("eta = [1, 3]", "")
    (folder / "spec.toml").write_text(text.split("lam =")[0].replace('"0.5:3:6"', "[0.5, 1]"))
    with (folder / "spec.toml").open("a") as file:
        file.write("lam = 0\n")
    assert run(["scan", "spec.toml", "-o", "f.zarr"]) == 0
    assert "warning: 1 of 2 points did not converge" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[axes]", "[axis]", "a table must be one of .*'axis' (did you mean 'axes'?)"),
        ("alpha0 = 20", "alfa0 = 20", "a key of [model] must be one of"),
        ("alpha0 = 20", "r = 20", "a key of [model] must be one of"),
        ("eta = [1, 3]", "etaa = [1, 3]", "'etaa' (did you mean 'eta'?)"),
        ("block_points", "blockpoints", "(did you mean 'block_points'?)"),
        ('"OneStep"', '"Onestep"', "(did you mean 'OneStep'?)"),
        ('type = "OneStep"', "", "type is missing in [model]"),
        ("count = 3", "cnt = 3", "(did you mean 'count'?)"),
        ("count = 3, ", "", "lam in [axes] lacks count"),
        ('scale = "log"', 'scale = "lg"', "scale of lam must be one of 'linear', 'log'"),
        ('"0.5:3:6"', '"0.5:3"', "alpha in [axes]: '0.5:3' is not of the form start:stop:count"),
        ("alpha0 = 20", "alpha0 = [1, 2]", "alpha0 in [model] must be a number"),
        ("alpha0 = 20", "alpha0 = -1", "alpha0 must be >= 0"),
        ("eta = [1, 3]", "eta = [1, 1]", "eta must hold distinct values"),
        ("eta = [1, 3]", "eta = []", "eta must be"),
        ("eta = [1, 3]", 'pairs = [["eta", "lam"]]', "pairs in [axes] names 'eta', which is not"),
        ("eta = [1, 3]", 'pairs = ["eta", "lam"]', "pairs in [axes] must be lists of names"),
        (
            "eta = [1, 3]",
            'eta = [1, 2, 3]\npairs = [["eta", "lam"], ["lam", "alpha"]]',
            "pairs in [axes] must name an axis once; 'lam' is there twice",
        ),
        ('"scan.zarr"', "3", "path in [output] must be a path on this machine (text"),
        ("count = 3", "count = true", "count of lam in [axes] must be an integer; got True"),
        ("start = 1e-3", 'start = "log:1"', "start of lam in [axes] must be a number; got 'log:1'"),
        ("start = 1e-3", "start = -1", "is logarithmic and has an end that is not positive"),
        ("eta = [1, 3]", "eta = 2024-01-01", "eta must be"),
        ("[model]", "[model]\nactivation = 3", "activation must be"),
        ("[model]", "[model]\ndirections = 2", "directions in [model] must be given with one of"),
        ("[model]", '[model]\ntarget = "max"\ndirections = 0', "directions must be an integer"),
        ("[model]", "[model]\nspikes = [[1]]", "a key of [model] must be one of"),
        ('"OneStep"', '"MultiStep"', "alpha0 must be a sequence with one entry for each of 1"),
        ("eta = [1, 3]", "eta = " + "[" * 2000, "is not valid TOML"),
        ("eta = [1, 3]", 'eta = ["a", "b", "c"]\npairs = [["eta", "lam"]]', "eta must be"),
        ("[axes]", "[axes", "is not valid TOML"),
        ("[model]", "model = 3\n[simulate]", "model must be a table"),
        ('path = "scan.zarr"', "", "give -o STORE, or path in the table [output]"),
        ('path = "scan.zarr"', 'path = "no/where/s.zarr"', None),
    ],
)
def test_bad_specifications(folder, capsys, old, new, message):
    import re

    assert old in SPEC
    (folder / "spec.toml").write_text(SPEC.replace(old, new))
    code = run(["scan", "spec.toml"])
    err = capsys.readouterr().err
    if message is None:  # folders are made
        assert code == 0
        return
    assert code == 2
    assert err.startswith("srfx: error: ")
    assert err.count("\n") == 1
    assert re.search(re.escape(message).replace(r"\.\*", ".*"), err), err
    assert [p.name for p in folder.iterdir()] == ["spec.toml"]


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("utf-8-sig", None), ("utf-16", "text in UTF-8"), ("utf-16-le", "text in UTF-8")],
)
def test_encodings(folder, want, capsys, encoding, said):
    """Editors of Windows begin with a byte order mark; PowerShell writes UTF-16."""
    (folder / "spec.toml").write_bytes(SPEC.replace("\n", "\r\n").encode(encoding))
    assert run(["scan", "spec.toml", "--dry-run"]) == (2 if said else 0)
    out, err = capsys.readouterr()
    assert (said in err and not out) if said else out.startswith("points  36 ")


def test_missing_axes_table(folder, capsys):
    (folder / "spec.toml").write_text('[model]\ntype = "OneStep"\n')
    assert run(["scan", "spec.toml"]) == 2
    assert "the table [axes] is missing" in capsys.readouterr().err


def test_the_example_of_the_help_is_valid(folder):
    from srfx.cli.scan import SPECIFICATION

    text = SPECIFICATION.split("\b\n")[1].split("\n\n")[0]
    text = "\n".join(line.strip() for line in text.splitlines())
    (folder / "spec.toml").write_text(
        text.replace("eta = [1, 3]", "eta = [1, 3]\ngamma = 0")
        .replace('pairs = [["eta", "alpha"]]', "")
        .replace("gamma = 0", "")
    )
    arguments = read_specification(folder / "spec.toml")
    assert set(arguments) == {
        "model", "axes", "simulate", "out", "variables", "bulk", "block_points", "max_in_flight",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "model", "axes"),
    [
        (
            'type = "MultiStep"\ntarget = "product"\ndirections = 3\neta = [2, 1]\n'
            "alpha0 = [0.5, inf]\n[axes]\neta2 = [0.5, 1]\nalpha0_1 = 2\nalpha = 1\nlam = 1",
            MultiStep(target=Target("product", directions=3), eta=(2, 1), alpha0=(0.5, np.inf)),
            {"eta2", "alpha0_1", "alpha", "lam"},
        ),
        (
            'type = "SpikedRF"\ntarget = "parity"\nspikes = [[1, 0.3], [-0.4, 1.2]]\n'
            "alignment = [[0.8, 0.1], [-0.2, 0.7]]\nvariances = [1.1, 1.4]\n"
            "weights = [0.25, 0.75]\n[axes]\nr = [0.5, 1]\nalpha = 1\nlam = 1",
            srfx.SpikedRF(
                target="sign_product",
                spikes=[[1, 0.3], [-0.4, 1.2]],
                alignment=[[0.8, 0.1], [-0.2, 0.7]],
                variances=(1.1, 1.4),
                weights=(0.25, 0.75),
            ),
            {"r", "alpha", "lam"},
        ),
        (
            'type = "SpikedRF"\ntarget = "max"\ngamma = [0.6, -0.7]\n[axes]\nalpha = 1\nlam = 1',
            srfx.SpikedRF(target="max", gamma=(0.6, -0.7)),
            {"alpha", "lam"},
        ),
    ],
)
def test_steps_spikes_and_directions(folder, text, model, axes):
    (folder / "spec.toml").write_text(f"[model]\n{text}\n")
    got = read_specification(folder / "spec.toml")
    assert got["model"] == model
    assert set(got["axes"]) == axes


def test_a_simulation_of_several_steps(folder):
    (folder / "spec.toml").write_text(
        '[model]\ntype = "MultiStep"\ntarget = "max"\neta = [2, 1]\nalpha0 = [1, 1]\n[axes]\n'
        "eta2 = [0.5, 1]\nalpha = [1, 2]\nlam = 0.1\n[simulate]\nd = 30\nreplicates = 2\n"
    )
    assert run(["scan", "spec.toml", "-o", "s.zarr"]) == 0
    ds = srfx.scans.open_scan(folder / "s.zarr")
    assert dict(ds.test_error.sizes) == {"eta2": 2, "alpha": 2, "replicate": 2}
    model = MultiStep(target="max", eta=(2, 0.5), alpha0=(1, 1))
    want = srfx.simulate(model, [1, 2], 0.1, d=30, replicates=2)
    np.testing.assert_array_equal(ds.test_error.sel(eta2=0.5), want.test_error[:, 0])
    assert run(["plot", "s.zarr", "--x", "alpha"]) == 0
    assert (folder / "s.png").stat().st_size > 0


LONG = SPEC.replace("[1, 3]", '"0.1:3:300000"').replace("block_points = 6", "block_points = 2000")


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_prints_how_to_go_on(folder):
    """Killed, resumed, opened: what was finished is not lost."""
    (folder / "spec.toml").write_text(LONG)
    with subprocess.Popen([*PROGRAM, "scan", "spec.toml"], stderr=subprocess.PIPE, text=True) as p:
        marks = folder / "scan.zarr" / "_srfx" / "done" / "c"
        for _ in range(2000):
            if marks.exists() and len(list(marks.iterdir())) > 3:
                break
            time.sleep(0.01)
        p.send_signal(signal.SIGINT)
        err = [line for line in p.communicate(timeout=30)[1].splitlines() if line]
    assert p.returncode == 130
    assert err[-1] == "srfx: interrupted"
    command = err[-2].removeprefix("srfx: go on with: ")
    assert command == "srfx scan spec.toml -o scan.zarr --resume"
    finished = len(list(marks.iterdir()))
    assert err[-3].startswith(f"srfx: {finished} of ")
    assert err[-3].endswith(" blocks are in 'scan.zarr'")
    assert "Traceback" not in "".join(err)
    # and it does go on: as far as the fifth block, for this is a long scan
    resumed = [*PROGRAM, *shlex.split(command)[1:]]
    with subprocess.Popen(resumed, stderr=subprocess.PIPE, text=True) as p:
        for _ in range(2000):
            if len(list(marks.iterdir())) > finished + 2:
                break
            time.sleep(0.01)
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=30)
    assert p.returncode == 130
    assert len(list(marks.iterdir())) > finished + 2


def test_dask(folder, want, capsys):
    import distributed

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        address = cluster.scheduler_address
        assert run(["scan", "spec.toml", "--dask", address]) == 0
    with xr.open_zarr("scan.zarr") as ds:
        xr.testing.assert_equal(ds.load()[list(want.data_vars)], want)


def test_max_in_flight(folder, capsys, monkeypatch):
    """From the file, or else from the command line, to `scan`."""
    seen = []

    def scan(*_, max_in_flight=None, original=srfx.scans.scan, **arguments):
        seen.append(max_in_flight)
        return original(*_, max_in_flight=max_in_flight, **arguments)

    monkeypatch.setattr(srfx.scans, "scan", scan)
    (folder / "spec.toml").write_text(SPEC + "max_in_flight = 3\n")
    assert run(["scan", "spec.toml"]) == 0
    assert run(["scan", "spec.toml", "--resume", "--max-in-flight", "5"]) == 0
    assert seen == [3, 5]
    for words in ([], ["--dry-run"]):
        assert run(["scan", "spec.toml", "-o", "new.zarr", "--max-in-flight", "0", *words]) == 2
        assert "max_in_flight must be an integer >= 1; got 0" in capsys.readouterr().err
    (folder / "spec.toml").write_text(SPEC + "max_in_flight = true\n")
    assert run(["scan", "spec.toml", "-o", "new.zarr"]) == 2
    assert "max_in_flight must be an integer >= 1; got True" in capsys.readouterr().err
    assert not (folder / "new.zarr").exists()


def test_dask_is_missing(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run(["scan", "spec.toml", "--dask", "tcp://127.0.0.1:1"]) == 2
    assert "pip install 'srfx[dask]'" in capsys.readouterr().err


class TestPlotAndExport:
    @pytest.fixture(autouse=True)
    def _store(self, folder):
        assert run(["scan", "spec.toml", "--no-progress"]) == 0

    def test_plane(self, folder, capsys):
        words = ["--x", "alpha", "--y", "lam", "--at", "eta=2.9"]
        assert run(["plot", "scan.zarr", *words]) == 0
        assert (folder / "scan.png").read_bytes().startswith(b"\x89PNG")
        assert capsys.readouterr().err.endswith("srfx: drew scan.png\n")
        assert run(["plot", "scan.zarr", *words, "--kind", "contours", "-o", "c.svg"]) == 0
        assert "<svg" in (folder / "c.svg").read_text()

    def test_curves(self, folder):
        words = ["--x", "alpha", "--at", "lam=0.1", "--variable", "train_error", "-o", "c.pdf"]
        assert run(["plot", "scan.zarr", *words]) == 0
        assert (folder / "c.pdf").exists()

    def test_a_label(self, folder):
        pair = {"dims": "run", "coords": {"run": ["small", "large"]}}
        ds = srfx.scan(
            srfx.OneStep(), "runs.zarr", alpha=[1, 2], eta=xr.DataArray([1, 3.0], **pair), lam=0.1
        )
        assert run(["plot", "runs.zarr", "--x", "alpha", "--at", "run=large"]) == 0
        ds.close()

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("--x alpha --y lam", "or srfx plot --at eta="),
            ("--x alpha --at beta=1", "--at must be NAME=VALUE with a NAME of alpha, eta, lam"),
            ("--x alpha --at eta=x", "'x' is not a number"),
            ("--x alpha --y lam --kind curves", "--kind curves takes no --y"),
            ("--x alpha -o a.xyz", "must end in one of"),
            ("--x alpha --variable m", "variable must be one of"),
        ],
    )
    def test_bad_input(self, words, message, folder, capsys):
        assert run(["plot", "scan.zarr", *words.split()]) == 2
        err = capsys.readouterr().err.splitlines()[-1]
        assert err.startswith("srfx: error: ")
        assert message in err
        assert sorted(p.name for p in folder.iterdir()) == ["scan.zarr", "spec.toml"]

    def test_export(self, folder, want, capsys):
        assert run(["export", "scan.zarr", "scan.nc"]) == 0
        assert run(["export", "scan.zarr", "scan.parquet"]) == 0
        with xr.open_dataset("scan.nc") as ds:
            xr.testing.assert_equal(ds.load()[list(want.data_vars)], want)
        assert len(pd.read_parquet("scan.parquet")) == 36
        assert run(["plot", "scan.nc", "--x", "alpha", "--at", "eta=1"]) == 0
        assert run(["export", "scan.zarr", "scan.csv"]) == 2
        assert "the suffix of path must be one of '.nc', '.parquet'" in capsys.readouterr().err


def test_infinite_values_and_labels_are_selected(folder, capsys, monkeypatch):
    from srfx.cli.plot import _select

    runs = xr.DataArray([0.5, 1.5], dims="run", coords={"run": ["small", "large"]})
    axes = {"alpha": [1.0, 2.0], "lam": 0.1, "noise": runs}
    ds = srfx.scan(srfx.OneStep(), "s.zarr", alpha0=[1, 2, np.inf], **axes)
    finite = srfx.scan(srfx.OneStep(), "f.zarr", alpha0=[1, 2], **axes)

    def at(*selections, ds=ds):
        some = _select(ds, selections)
        return some.alpha0.item(), str(some.run.item())

    assert at("alpha0=inf", "run=large") == (np.inf, "large")
    assert at("alpha0=1e9", "run=small") == (2, "small")  # as near to inf as nothing is
    assert run(["plot", "s.zarr", "--x", "alpha", "--at", "alpha0=inf", "-o", "a.svg"]) == 0
    assert run(["plot", "s.zarr", "--x", "alpha0", "--y", "alpha", "--at", "run=small"]) == 0
    capsys.readouterr()
    for selection, said in {
        "alpha0=nan": "no value is near 'nan'; there are 1.0, 2.0, inf",
        "run=medium": "no value is near 'medium'; there are small, large",
    }.items():
        assert run(["plot", "s.zarr", "--x", "alpha", "--at", selection]) == 2
        assert said in capsys.readouterr().err
    assert run(["plot", "f.zarr", "--x", "alpha", "--at", "alpha0=inf"]) == 2
    assert "no value is near 'inf'; there are 1.0, 2.0" in capsys.readouterr().err
    assert finite.sizes["alpha0"] == 2
