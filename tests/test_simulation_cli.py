"""The command ``srfx simulate``."""

import itertools
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import srfx
from srfx import simulation
from srfx.cli import run
from srfx.models import MultiStep, label
from srfx.targets import Target

SMALL = ["simulate", "--d", "50", "--replicates", "3", "--n-test", "100", "--seed", "4"]
MODEL = ["--eta", "2", "--alpha0", "0.5", "--lam", "0.1"]


def test_the_table_is_what_the_api_gives(capsys):
    assert run([*SMALL, *MODEL, "--alpha", "0.5,2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    head, names, *rows = out.splitlines()
    assert head == (
        "# OneStep: tanh network, sin target; d = 50, p = 50, n0 = 25, 3 replicates, seed 4, "
        "float64"
    )
    model = srfx.OneStep(eta=2, alpha0=0.5)
    ds = simulation.simulate(model, [0.5, 2], 0.1, d=50, replicates=3, n_test=100, seed=4)
    expected = {
        "alpha": [0.5, 2],
        "lam": [0.1, 0.1],
        "n": [25, 100],
        "test_error": simulation.mean(ds).test_error.values.ravel(),
        "test_error_se": simulation.standard_error(ds).test_error.values.ravel(),
        "train_error": simulation.mean(ds).train_error.values.ravel(),
        "train_error_se": simulation.standard_error(ds).train_error.values.ravel(),
    }
    assert names.split() == list(expected)
    values = np.array([[float(x) for x in row.split()] for row in rows]).T
    assert np.allclose(values, list(expected.values()), atol=6e-7)


def test_files(tmp_path, capsys):
    import xarray as xr

    for name in ("run.nc", "run.csv", "run.png"):
        option = "--plot" if name.endswith("png") else "-o"
        assert run([*SMALL, *MODEL, "--alpha", "0.2:2:3", option, str(tmp_path / name)]) == 0
        assert (tmp_path / name).stat().st_size > 0
    with xr.open_dataset(tmp_path / "run.nc") as ds:
        assert dict(ds.sizes) == {"alpha": 3, "lam": 1, "replicate": 3}
        assert ds.attrs["eta"] == 2
    assert (tmp_path / "run.csv").read_text().startswith("alpha,lam,n,test_error,")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.csv", "run.nc", "run.png"]


def test_plot_of_groups_and_single_points(tmp_path):
    """A model without a theory yet is drawn all the same."""
    groups = ["--r", "0.5", "--readout", "0.5,1.5", "--lam", "0.1,1", "--alpha", "1"]
    assert run([*SMALL, *groups, "--plot", str(tmp_path / "a.svg")]) == 0
    assert "SpikedRF, tanh network" in (tmp_path / "a.svg").read_text()


STEPS = "--steps 2 --eta 2,1 --alpha0 0.5"


@pytest.mark.parametrize(
    ("words", "model"),
    [
        (f"{STEPS} --target product", MultiStep(target="product", eta=(2, 1), alpha0=(0.5, 0.5))),
        ("--steps 3 --eta 2 --alpha0 1,,2", MultiStep(eta=(2, 2, 2), alpha0=(1, 1.5, 2))),
        ("--steps 1", MultiStep(eta=(1,), alpha0=(1.5,))),
        (
            "--eta 2 --target parity --directions 3",
            srfx.OneStep(target=Target("sign_product", directions=3), eta=2),
        ),
        ("--gamma 0.6,-0.7 --target max", srfx.SpikedRF(target="max", gamma=(0.6, -0.7))),
        (
            "--target max --spikes 1,0.3;-0.4,1.2 --alignment 0.8,0.1;-0.2,0.7 --variances 1.1,1.4 "
            "--weights 0.25,0.75 --r 0.5",
            srfx.SpikedRF(
                target="max",
                r=0.5,
                spikes=[[1, 0.3], [-0.4, 1.2]],
                alignment=[[0.8, 0.1], [-0.2, 0.7]],
                variances=(1.1, 1.4),
                weights=(0.25, 0.75),
            ),
        ),
    ],
)
def test_steps_spikes_and_directions(words, model, capsys):
    assert run([*SMALL, *words.split(), "--alpha", "1", "--lam", "0.1"]) == 0
    head, _, row = capsys.readouterr().out.splitlines()
    assert head.startswith(f"# {type(model).__name__}: tanh network, {label(model.target)} target")
    ds = simulation.simulate(model, 1, 0.1, d=50, replicates=3, n_test=100, seed=4)
    assert float(row.split()[3]) == pytest.approx(ds.test_error.mean().item(), abs=6e-7)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_what_is_finished(tmp_path):
    import xarray as xr

    words = [*SMALL, *MODEL, "--alpha", "1", "--replicates", "1000000", "-o", "run.nc"]
    with subprocess.Popen(
        [sys.executable, "-m", "srfx", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    with xr.open_dataset(tmp_path / "run.nc") as ds:
        kept = ds.sizes["replicate"]
        assert ds.attrs["interrupted"] == "by Ctrl-C"
        first = simulation.simulate(
            srfx.OneStep(eta=2, alpha0=0.5), 1, 0.1, d=50, replicates=3, n_test=100, seed=4
        )
        assert np.array_equal(ds.test_error[..., :3], first.test_error)
    assert err.splitlines() == [
        f"srfx: interrupted; finished replicates are kept: {kept}",
        f"srfx: wrote run.nc ({kept} replicates)",
    ]


def test_a_singular_replicate_keeps_what_is_finished(tmp_path, capsys, monkeypatch):
    import xarray as xr

    original, calls = simulation._core.simulate, itertools.count()

    def third_fails(*arguments):
        if next(calls) % 3 == 2:
            raise simulation._core.NotPositiveDefinite("on purpose")
        return original(*arguments)

    monkeypatch.setattr(simulation._core, "simulate", third_fails)
    words = [*SMALL, *MODEL, "--alpha", "1"]
    assert run([*words, "-o", str(tmp_path / "run.nc")]) == 1
    assert "replicate 2 is singular" in capsys.readouterr().err
    with xr.open_dataset(tmp_path / "run.nc") as ds:
        assert ds.sizes["replicate"] == 2
        assert "replicate 2 is singular" in ds.attrs["interrupted"]
    assert run(words) == 1
    assert "replicate 2 is singular" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*MODEL], "--alpha is required"),
        ([*MODEL, "--alpha", "1", "--r", "1"], "not both"),
        (["--eta", "1,2", "--alpha", "1", "--lam", "1"], "--eta must be a single number"),
        ([*MODEL, "--alpha", "1", "--replicates", "0"], "replicates must be an integer >= 1"),
        ([*MODEL, "--alpha", "1", "-o", "x.txt"], "must end in .nc or .csv"),
        ([*MODEL, "--alpha", "0.001"], "alpha must give n"),
        (["--steps", "2", "--eta", "1:2:3,1", "--alpha", "1", "--lam", "1"], "--eta must be a sin"),
        (
            ["--steps", "2", "--alpha0", "inf,1", "--alpha", "1", "--lam", "1"],
            "alpha0_1 must be f",
        ),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_refusals(arguments, message, capsys):
    assert run(["simulate", *arguments, "--d", "50"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"srfx: error: .*\n", err)
    assert message in err
