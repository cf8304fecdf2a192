"""The command line, run as a program."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

import srfx
from srfx.cli import run
from srfx.results import OBSERVABLES

PROGRAM = [sys.executable, "-c", "from srfx.cli import main; main()"]
ONE_STEP = ["solve", "--eta", "1", "--alpha0", "1.5"]


def srfx_(*arguments, **kwargs):
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **kwargs,
    )


def rows(stdout):
    """The table printed, as dicts of text."""
    lines = [line.split() for line in stdout.splitlines() if not line.startswith("#")]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def refused(*arguments, **kwargs):
    """The one line on stderr of a command that is refused as bad input, with nothing on stdout."""
    done = srfx_(*arguments, **kwargs)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("srfx: error: ")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("\n")
    return done.stderr


# --- solving ---


def test_the_installed_program():
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="srfx")
    assert script.value == "srfx.cli:main"


def test_the_main_job(tmp_path):
    words = "--activation tanh --target sin --eta 1 --alpha0 1.5 --alpha 0.2:3:50 --lam 0.01"
    done = srfx_("solve", *words.split(), "--plot", "curve.png", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == "srfx: drew curve.png\n"
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["curve.png"]
    table = rows(done.stdout)
    assert list(table[0]) == ["alpha", "test_error", "train_error", "m", "theta", "psi"]
    sol = srfx.solve(srfx.OneStep(), alpha=np.linspace(0.2, 3, 50), lam=0.01)
    assert len(table) == 50
    for name in ("test_error", "train_error", "m", "theta", "psi"):
        printed = [float(row[name]) for row in table]
        np.testing.assert_allclose(printed, getattr(sol, name), rtol=1e-9, atol=6e-11)
    np.testing.assert_allclose(
        [float(row["alpha"]) for row in table], sol.inputs["alpha"], rtol=1e-7
    )


def test_the_number_of_the_readme():
    words = "--activation tanh --target sin --eta 3 --alpha0 20 --alpha 3 --lam 0.1"
    done = srfx_("solve", *words.split())
    assert done.returncode == 0
    assert done.stderr == ""
    (row,) = rows(done.stdout)
    assert row["test_error"] == "0.0325182080"
    assert done.stdout.splitlines()[:2] == [
        "# OneStep: tanh network, sin target; linear floor 0.0644529172",
        "# eta = 3, alpha0 = 20, beta = 1, noise = 0, lam = 0.1, alpha = 3",
    ]


def test_spiked_random_features_with_everything():
    words = "--r -0.9 --c 1.1 --gamma 0.8 --beta 2 --noise 0.1 --d 500 --readout 0.5 --weights 1"
    extra = "--activation relu --target tanh --alpha 1.5 --lam 0.1 --n-threads 1 --bulk isotropic"
    done = srfx_("solve", *words.split(), *extra.split())
    assert done.returncode == 0
    model = srfx.SpikedRF(
        "relu", "tanh", r=-0.9, c=1.1, gamma=0.8, beta=2, noise=0.1, readout=(0.5,)
    )
    sol = srfx.solve(model, alpha=1.5, lam=0.1, d=500)
    assert float(rows(done.stdout)[0]["test_error"]) == pytest.approx(sol.test_error, abs=6e-11)
    assert "readout = 0.5" in done.stdout
    assert "d = 500" in done.stdout


GROUPS = ["--readout", "1,2", "--weights", ".5,.5"]


@pytest.mark.parametrize(
    ("words", "model", "options"),
    [
        ("--alpha0 .25 --eta 3 --bulk one_step", {}, {"bulk": "one_step"}),
        (
            "--alpha0 .25 --eta 3 --bulk one_step --d 1000 --activation relu --noise .2",
            {"activation": "relu", "noise": 0.2},
            {"bulk": "one_step", "d": 1000},
        ),
    ],
)
@pytest.mark.parametrize("groups", [[], GROUPS], ids=["one value", "two values"])
def test_the_actual_step_several_values_and_finite_d(words, model, options, groups):
    done = srfx_("solve", *words.split(), *groups, "--alpha", "1,2", "--lam", ".1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    readout = {"readout": (1, 2), "weights": (0.5, 0.5)} if groups else {}
    model = srfx.OneStep(eta=3, alpha0=0.25, **model, **readout)
    sol = srfx.solve(model, alpha=[1, 2], lam=0.1, **options)
    table = rows(done.stdout)
    for name in ("test_error", "train_error"):
        printed = [float(row[name]) for row in table]
        np.testing.assert_allclose(printed, getattr(sol, name), rtol=1e-8)
    for name in ("m", "theta", "psi"):
        columns = [name] if not groups else [f"{name}_1", f"{name}_2"]
        printed = [[float(row[column]) for column in columns] for row in table]
        np.testing.assert_allclose(printed, getattr(sol, name).reshape(2, -1), rtol=1e-7, atol=1e-9)
    about = done.stdout.splitlines()[1]
    assert ("readout = 1, 2, weights = 0.5, 0.5" in about) == bool(groups)
    assert ("bulk = one_step" in about) == ("bulk" in options)
    assert ("d = 1000" in about) == ("d" in options)


def test_both_theories_in_files(tmp_path):
    """The file says which bulk it is of."""
    for bulk in ("isotropic", "one_step"):  # the first: two values and d without the step's bulk
        file = tmp_path / f"{bulk}.json"
        words = ["--eta", 3, "--alpha0", 0.25, "--bulk", bulk, *GROUPS, "--d", 1000, "-o", file]
        assert srfx_("solve", *words, "--alpha", 2, "--lam", 0.1).returncode == 0
    one, two = (json.loads((tmp_path / f"{x}.json").read_text()) for x in ("isotropic", "one_step"))
    assert (one["bulk"], two["bulk"]) == ("isotropic", "one_step")
    assert one["readout"] == two["readout"] == [1, 2]
    assert abs(two["points"][0]["test_error"] / one["points"][0]["test_error"] - 1) > 0.03


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--eta 1 --bulk one_step --lam 0 --readout 1,2", "lam must be > 0 with bulk='one_step'"),
        ("--r 1 --bulk one_step --lam 1 --readout 1,2", "needs an srfx.OneStep model"),
    ],
)
def test_what_the_step_and_groups_do_not_support_is_refused(words, said):
    assert said in refused("solve", *words.split(), "--alpha", "1")


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
@pytest.mark.parametrize(
    ("words", "model", "said"),
    [
        (
            "--steps 2 --eta 2,1 --alpha0 2 --target max",
            srfx.models.MultiStep(target="max", eta=(2, 1), alpha0=(2, 2)),
            ["eta1 = 2, eta2 = 1, alpha0_1 = 2, alpha0_2 = 2, beta = 1", "psi_2"],
        ),
        (
            "--steps 2 --eta 2,1 --readout 0.5,1.5",
            srfx.models.MultiStep(eta=(2, 1), readout=(0.5, 1.5)),
            ["readout = 0.5, 1.5, weights = 0.5, 0.5", "theta_1_1"],
        ),
        (
            "--spikes 1,0.3;-0.4,1.2 --alignment 0.8,0.1;-0.2,0.7 --variances 1.1,1.4 --target max",
            srfx.SpikedRF(
                target="max",
                spikes=[[1, 0.3], [-0.4, 1.2]],
                alignment=[[0.8, 0.1], [-0.2, 0.7]],
                variances=(1.1, 1.4),
            ),
            ["spikes = 1, 0.3; -0.4, 1.2, alignment = 0.8, 0.1; -0.2, 0.7, variances = 1.1, 1.4"],
        ),
        (
            "--gamma 0.6,-0.7 --target max",
            srfx.SpikedRF(target="max", gamma=(0.6, -0.7)),
            ["gamma = 0.6, -0.7", "linear floor 0.1816901138"],
        ),
    ],
)
def test_steps_spikes_and_directions(words, model, said, capsys):
    assert run(["solve", *words.split(), "--alpha", "1.5", "--lam", "0.1"]) == 0
    out = capsys.readouterr().out
    sol = srfx.solve(model, alpha=1.5, lam=0.1)
    (row,) = rows(out)
    assert float(row["test_error"]) == pytest.approx(sol.test_error, abs=6e-11)
    for text in said:
        assert text in out


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
def test_grids_of_steps(capsys):
    fixed = ["--alpha0", "1", "--alpha", "1", "--lam", "0.1", "--format", "csv"]
    for text, pairs in (
        ("0.5:1.5:3,2", [(0.5, 2), (1, 2), (1.5, 2)]),
        ("0.5:1.5:3", [(0.5, 0.5), (1, 1), (1.5, 1.5)]),
    ):
        assert run(["solve", "--steps", "2", "--eta", text, *fixed]) == 0
        table = list(csv.DictReader(capsys.readouterr().out.splitlines()))
        assert [(float(row["eta1"]), float(row["eta2"])) for row in table] == pairs


def test_several_grids_make_an_outer_product():
    words = "--eta 1,3 --lam log:1e-3:0.1:3 --alpha 0.5:2:4"
    done = srfx_("solve", *words.split(), "--alpha0", "inf")
    assert done.returncode == 0
    table = rows(done.stdout)
    assert list(table[0])[:4] == ["eta", "lam", "alpha", "test_error"]
    got = [(float(r["eta"]), float(r["lam"]), float(r["alpha"])) for r in table]
    want = [(e, la, a) for e in (1, 3) for la in (1e-3, 1e-2, 1e-1) for a in (0.5, 1, 1.5, 2)]
    np.testing.assert_allclose(got, want, rtol=1e-7)
    assert "alpha0 = inf" in done.stdout


def test_small_numbers_keep_their_digits():
    done = srfx_("solve", "--r", "0.9", "--alpha", "0.1,5", "--lam", "1e-9")
    table = rows(done.stdout)
    sol = srfx.solve(srfx.SpikedRF(), alpha=[0.1, 5], lam=1e-9)
    assert sol.train_error[0] < 1e-6
    printed = [float(row["train_error"]) for row in table]
    np.testing.assert_allclose(printed, sol.train_error, rtol=1e-10)


def test_columns_are_aligned():
    done = srfx_("solve", "--r", "0.5,10", "--alpha", "1,20", "--lam", "1e-7,1")
    table = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert len({len(line) for line in table}) == 1
    ends = {
        tuple(i for i, ch in enumerate(x + " ") if ch == " " and (x + " ")[i - 1] != " ")
        for x in table
    }
    assert len(ends) == 1


# --- files ---


def arguments(*extra):
    return [*ONE_STEP, "--alpha", "0.5,1,2", "--lam", "0.01,0.1", *extra]


def expected():
    lam = np.array([0.01, 0.1])[:, None]
    return srfx.solve(srfx.OneStep(), alpha=[0.5, 1, 2], lam=lam)


def test_csv(tmp_path):
    done = srfx_(*arguments("-o", "a.csv"), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "srfx: wrote a.csv (6 points)\n"
    with (tmp_path / "a.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    sol = expected()
    for name in OBSERVABLES:
        if name != "status":
            got = [float(row[name]) for row in table]
            assert got == np.ravel(getattr(sol, name)).tolist(), name  # to the last bit
    assert {row["status"] for row in table} == {"converged"}
    for name, values in sol.inputs.items():
        assert [float(row[name]) for row in table] == values.ravel().tolist()


def test_json(tmp_path):
    assert srfx_(*arguments("--output", "a.json"), cwd=tmp_path).returncode == 0
    data = json.loads((tmp_path / "a.json").read_text())
    points = data.pop("points")
    sol = expected()
    assert data == json.loads(json.dumps(sol.describe()))
    assert [p["test_error"] for p in points] == sol.test_error.ravel().tolist()
    assert {p["d"] for p in points} == {"inf"}


def test_netcdf(tmp_path):
    assert srfx_(*arguments("-o", "a.nc"), cwd=tmp_path).returncode == 0
    with xr.open_dataset(tmp_path / "a.nc") as ds:
        assert ds.test_error.dims == ("lam", "alpha")
        xr.testing.assert_equal(ds, expected().to_xarray())


def test_an_existing_file_is_replaced_and_a_failed_one_is_not_touched(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("precious")
    bad = srfx_("solve", "--r", "0.9", "--alpha", "1", "--lam", "0", "-o", path)
    assert bad.returncode == 1
    assert path.read_text() == "precious"
    assert srfx_(*arguments("-o", path)).returncode == 0
    assert path.read_text().startswith("eta,")
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_formats_on_stdout(tmp_path):
    done = srfx_(*arguments("--format", "csv"))
    assert done.stdout.startswith("eta,alpha0,beta,noise,lam,alpha,d,test_error,")
    assert len(done.stdout.splitlines()) == 7
    done = srfx_(*arguments("--format", "json"))
    assert len(json.loads(done.stdout)["points"]) == 6
    done = srfx_(*arguments("--format", "table", "-o", "a.txt"), cwd=tmp_path)
    assert done.returncode == 0
    assert len(rows((tmp_path / "a.txt").read_text())) == 6
    assert "needs a file" in refused(*arguments("--format", "netcdf"))


def test_a_device_can_be_the_output():
    if not os.path.exists("/dev/stdout"):
        pytest.skip("no /dev/stdout")
    done = srfx_(*arguments("--format", "csv", "-o", "/dev/stdout"))
    assert done.returncode == 0
    assert done.stdout.startswith("eta,")


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "file.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "file.csv")
    assert srfx_(*arguments("-o", "link.csv"), cwd=tmp_path).returncode == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "file.csv").read_text().startswith("eta,")


def test_the_table_survives_a_plot_that_fails(tmp_path):
    # the folder vanishes while srfx computes: here, a full disk stands in for it
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    link = tmp_path / "curve.png"
    link.symlink_to("/dev/full")
    done = srfx_(*arguments("--plot", link))
    assert done.returncode == 2
    assert len(rows(done.stdout)) == 6
    assert done.stderr.splitlines()[-1].startswith("srfx: error: ")
    assert "Traceback" not in done.stderr


# --- failures ---


def test_no_convergence():
    done = srfx_("solve", "--r", "0.9", "--alpha", "0.5,1,2", "--lam", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "srfx: error: 1 of 3 points did not converge; the first, at r=0.9"
    )
    assert done.stderr.count("\n") == 1


def test_recorded_failures(tmp_path):
    base = ["solve", "--r", "0.9", "--alpha", "0.5,1,2", "--lam", "0", "--errors", "record"]
    done = srfx_(*base)
    assert done.returncode == 0
    assert done.stderr == "srfx: warning: 1 of 3 points did not converge (nan, with their status)\n"
    table = rows(done.stdout)
    assert [row["status"] for row in table] == ["converged", "diverged", "converged"]
    assert [row["test_error"] for row in table][1] == "nan"
    data = json.loads(srfx_(*base, "--format", "json").stdout)
    assert [p["test_error"] is None for p in data["points"]] == [False, True, False]
    assert data["points"][0]["v1"] == "inf"


def test_warnings_are_one_line():
    words = "--activation relu --target relu --eta 1 --alpha 1 --lam 0.1"
    done = srfx_("solve", *words.split())
    assert done.returncode == 0
    assert done.stderr.startswith("srfx: warning: the activation relu is not odd")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--eta 1 --r 1 --alpha 1 --lam 1", "not both; got --eta and --r"),
        ("--alpha 1 --lam 1", "give --eta or --alpha0"),
        ("--eta 1 --lam 1", "--alpha is required"),
        ("--eta 1 --alpha 1", "--lam is required"),
        ("--eta 1 --alpha x --lam 1", "'--alpha': 'x' contains 'x', which is not a number"),
        ("--eta 1 --alpha 1,,2 --lam 1", "contains '', which is not a number"),
        ("--eta 1 --alpha 1:2 --lam 1", "is not of the form start:stop:count"),
        ("--eta 1 --alpha log:1:2 --lam 1", "is not of the form start:stop:count"),
        ("--eta 1 --alpha 1:2:0 --lam 1", "has count 0, which is no integer from 1 to 100000000"),
        ("--eta 1 --alpha 1:2:2.5 --lam 1", "has count '2.5', which is no integer from 1 to"),
        ("--eta 1 --alpha log:0:1:5 --lam 1", "has an end that is not positive"),
        ("--eta 1 --alpha 1:inf:5 --lam 1", "has an end that is not finite"),
        ("--eta 1 --alpha -1:2:4 --lam 1", "alpha must be finite and > 0; got -1.0 at index"),
        ("--eta 1 --alpha 0 --lam 1", "alpha must be finite and > 0; got 0.0"),
        ("--eta 1 --alpha inf --lam 1", "alpha must be finite and > 0; got inf"),
        ("--eta 1 --alpha 1 --lam -1", "lam must be finite and >= 0; got -1.0"),
        ("--eta 1 --alpha 1 --lam nan", "lam must be finite and >= 0; got nan"),
        ("--eta 1 --alpha0 -1 --alpha 1 --lam 1", "alpha0 must be >= 0"),
        ("--eta 1 --alpha 1 --lam 1 --beta 0", "beta must be finite and > 0; got 0.0"),
        ("--eta 1 --alpha 1 --lam 1 --noise -1", "noise must be finite and >= 0; got -1.0"),
        ("--eta 1 --alpha 1 --lam 1 --d 0.5", "d must be None or inf (the limit), or >= 1"),
        ("--c 0 --alpha 1 --lam 1", "c must be finite and > 0; got 0.0"),
        ("--gamma 2 --alpha 1 --lam 1", "gamma must be between -1 and 1; got 2.0"),
        ("--eta 1 --alpha 1 --lam 1 --activation tnh", "did you mean 'tanh'?"),
        ("--eta 1 --alpha 1 --lam 1 --target sine", "did you mean 'sin'?"),
        ("--eta 1 --alpha 1 --lam 1 --activation sign", "activation must be continuous"),
        ("--eta 1 --alpha 1 --lam 1 --bulk iso", "bulk must be one of 'isotropic', 'one_step'"),
        ("--r 1 --alpha 1 --lam 1 --bulk one_step", "bulk='one_step' needs an srfx.OneStep model"),
        ("--eta 1 --alpha 1 --lam 0 --bulk one_step", "lam must be > 0 with bulk='one_step'"),
        (
            "--eta 1 --alpha 1 --lam 1 --bulk one_step --d 0",
            "d must be None or inf (the limit), or",
        ),
        (f"--eta 1 --alpha 1 --lam 1 --readout 1{',2' * 32}", "at most 32 values; got 33"),
        (
            f"--eta 1 --alpha 1 --lam 1 --bulk one_step --readout 1{',2' * 32}",
            "at most 32 values; got 33",
        ),
        ("--eta 1 --alpha 1 --lam 1 --readout 1,2 --weights .5", "one entry for each value"),
        ("--eta 1 --alpha 1 --lam 1 --readout 1,2 --weights .5,.6", "which sum to 1.1"),
        ("--eta 1 --alpha 1 --lam 1 --readout 1,2 --weights 1,0", "weights must be"),
        ("--eta 1 --alpha 1 --lam 1 --readout 1,nan", "readout must be"),
        ("--eta 1 --alpha 1 --lam 1 --readout a", "'--readout': 'a' contains 'a'"),
        ("--eta 1 --alpha 1 --lam 1 --weights 0.5", "weights must sum to one"),
        ("--eta 1 --alpha 1 --lam 1 --n-threads 0", "n_threads must be"),
        ("--eta 1 --alpha 1 --lam 1 --n-threads x", "'--n-threads' must be an integer; got 'x'"),
        ("--eta 1 --alpha 1 --lam 1 --errors ignore", "'--errors'"),
        ("--eta 1 --alpha 1 --lam 1 --format xml", "'--format'"),
        ("--eta 1 --alpha 1 --lam 1 --plot a.png", "give it a list or a grid"),
        ("--eta 1 --alpha 1,2 --lam 1 --plot a.xyz", "--plot FILE must end in one of"),
        ("--eta 1 --alpha 1 --lam 1 -o a.xls", "-o FILE must end in .csv, .json, .nc"),
        ("--eta 1 --alpha 1 --lam 1 -o a", "-o FILE must end in .csv, .json, .nc"),
        ("--eta 1 --alpha 1 --lam 1 -o no/such/a.csv", "a directory that does not exist"),
        ("--eta 1 --alpha 1,2 --lam 1 --plot no/such/a.png", "a directory that does not exist"),
        ("--eta 1 --alpha 1 --lam 1 -o dir.csv", "is a directory"),
        ("--eta 1 --alpha 1 --lam 1 --frobnicate", "No such option"),
        ("--eta 1 --alpha 1 --lam 1 stray", "unexpected extra argument"),
        ("--steps 2 --r 1 --alpha 1 --lam 1", "not both; got --steps and --r"),
        ("--steps 2 --spikes 1 --alpha 1 --lam 1", "not both; got --steps and --spikes"),
        ("--steps 2 --eta 1,2,3 --alpha 1 --lam 1", "an entry for each of the 2 steps, or one for"),
        ("--steps 2 --eta 1,x --alpha 1 --lam 1", "'--eta': 'x' contains 'x', which is not a num"),
        ("--steps 0 --eta 1 --alpha 1 --lam 1", "--steps must be an integer from 1 to 16; got 0"),
        ("--steps 2 --alpha0 1,-1 --alpha 1 --lam 1", "alpha0_2 must be >= 0"),
        ("--eta 1,x --alpha 1 --lam 1", "'--eta': '1,x' contains 'x', which is not a number"),
        ("--spikes 1,a --alpha 1 --lam 1", "'--spikes': '1,a' contains 'a', which is not a number"),
        ("--spikes 1,2;3 --alpha 1 --lam 1", "spikes must be an array of finite numbers of shape"),
        ("--spikes 1,2 --alpha 1 --lam 1", "alignment must be given with spikes, of shape (1, 2)"),
        ("--spikes 1 --alignment 2 --alpha 1 --lam 1", "alignment must have singular values of at"),
        ("--alignment 1 --alpha 1 --lam 1", "alignment must not be given without spikes"),
        ("--r 1 --variances 1 --alpha 1 --lam 1", "variances must not be given without spikes"),
        ("--spikes 1 --alignment 1 --variances 1,2 --alpha 1 --lam 1", "variances must be None"),
        ("--spikes 1 --alignment 1 --gamma 0.5 --alpha 1 --lam 1", "gamma must not be given with"),
        ("--gamma 0.5 --target max --alpha 1 --lam 1", "gamma must be 2 numbers"),
        ("--eta 1 --directions 2 --alpha 1 --lam 1", "--directions must be given with one of the"),
        ("--eta 1 --target max --directions 17 --alpha 1 --lam 1", "an integer from 1 to 16"),
        ("--eta", "requires an argument"),
    ],
)
def test_bad_input_is_one_clear_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir.csv").mkdir()
    assert run(["solve", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("srfx: error: ")
    assert said in err
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["dir.csv"]


@pytest.mark.parametrize(
    "words",
    ["--eta 1 --r 1 --alpha 1 --lam 1", "--eta 1 --alpha x --lam 1", "--c 0 --alpha 1 --lam 1"],
)
def test_bad_input_to_the_program(words):
    refused("solve", *words.split())


def test_an_unwritable_output_is_refused_before_computing(tmp_path):
    # a million points would take far longer than the refusal
    huge = ["solve", "--gamma", "0:1:1000", "--alpha", "0.1:3:1000", "--lam", "0.01:1:100"]
    start = time.perf_counter()
    refused(*huge, "-o", tmp_path / "a.txt")
    refused(*huge, "--plot", tmp_path / "a.txt")
    if os.name == "posix" and os.geteuid() != 0:
        tmp_path.chmod(0o500)
        assert "is not writable" in refused(*huge, "-o", tmp_path / "a.csv")
        tmp_path.chmod(0o700)
    assert time.perf_counter() - start < 20


def test_an_unknown_command():
    assert "No such command" in refused("slove")


def test_a_missing_matplotlib_is_said_before_computing():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "sys.modules['matplotlib.backend_bases'] = None\n"
        "from srfx.cli import run; sys.exit(run(sys.argv[1:]))"
    )
    words = [*ONE_STEP, "--alpha", "1,2", "--lam", "1", "--plot", "a.png"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "srfx: error: --plot needs matplotlib: pip install 'srfx[plot]'\n"


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c():
    words = ["solve", "--gamma", "0:1:100000", "--alpha", "0.1:3:100", "--lam", "0.01"]
    with subprocess.Popen(
        [*PROGRAM, *words, "--n-threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        time.sleep(2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == ""
    assert err.strip() == "srfx: interrupted"


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_a_reader_that_leaves_early():
    words = [*ONE_STEP, "--alpha", "0.1:3:100000", "--lam", "0.01", "--n-threads", "1"]
    with subprocess.Popen(
        [*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 0


# --- the rest ---


def test_version_help_and_info():
    assert srfx_("--version").stdout == f"srfx {srfx.__version__}\n"
    bare, help_ = srfx_(), srfx_("--help")
    assert (bare.returncode, help_.returncode) == (0, 0)
    assert "solve" in bare.stdout
    assert bare.stdout == help_.stdout
    page = srfx_("solve", "--help").stdout
    for option in (
        "--eta",
        "--gamma",
        "--readout",
        "--errors",
        "--plot",
        "--output",
        "log:1e-4:1:30",
    ):
        assert option in page
    example = "  srfx solve --eta 1 --alpha0 1.5 --alpha 0.2:3:50 --lam 0.01 --plot curve.png\n"
    assert example in page
    done = srfx_("info")
    assert done.returncode == 0
    for name in ("compiler", "eigen", "openmp", "threads", "hermite6"):
        assert name in done.stdout


def test_the_program_starts_quickly_and_loads_no_plotting():
    code = (
        "import sys; from srfx.cli import run; "
        "run(['solve', '--eta', '1', '--alpha', '1,2', '--lam', '1']); "
        "print([m for m in ('matplotlib', 'xarray', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
