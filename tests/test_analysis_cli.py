"""srfx spectrum, srfx solve --optimal, and the pictures of both."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from scipy.integrate import trapezoid

import srfx
from srfx.cli import run

pd = pytest.importorskip("pandas")


def table(capsys):
    lines = [x for x in capsys.readouterr().out.splitlines() if not x.startswith("#")]
    return pd.read_csv(io.StringIO("\n".join(lines)), sep=r"\s+")


def test_solve_optimal(capsys):
    assert run(["solve", "--r", "0.9", "--noise", "0.1", "--alpha", "1,2", "--optimal", "lam"]) == 0
    seen = table(capsys)
    best = srfx.optimal(srfx.SpikedRF(r=0.9, noise=0.1), {"lam": (1e-6, 1e2)}, alpha=[1.0, 2.0])
    np.testing.assert_allclose(seen.lam, best.lam, rtol=1e-7)
    np.testing.assert_allclose(seen.test_error, best.test_error, rtol=1e-7)


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
def test_solve_optimal_of_steps(capsys):
    words = "solve --steps 2 --eta ,1 --alpha0 2,3 --alpha 1 --lam 0.1 --optimal"
    assert run([*words.split(), "eta1=0.5:5"]) == 0
    seen = table(capsys)
    model = srfx.models.MultiStep(eta=(1, 1), alpha0=(2, 3))
    best = srfx.optimal(model, {"eta1": (0.5, 5)}, alpha=1, lam=0.1)
    np.testing.assert_allclose(seen.eta1, best.eta1, rtol=1e-7)
    assert run([*words.split(), "eta2"]) == 2
    assert "--eta must not be given when --optimal searches for it" in capsys.readouterr().err


def test_solve_optimal_with_ranges_to_a_file(tmp_path, capsys):
    file = tmp_path / "best.csv"
    words = "solve --alpha0 2 --noise 0.1 --alpha 1 --optimal lam=1e-4:10,eta -o"
    assert run([*words.split(), str(file)]) == 0
    frame = pd.read_csv(file)
    assert {"lam", "eta", "test_error", "status"} <= set(frame.columns)
    assert frame.status.tolist() == ["converged"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("solve --r 1 --alpha 1 --optimal lamb", "did you mean 'lam'"),
        ("solve --r 1 --alpha 1 --optimal lam=1", "--optimal must list"),
        ("solve --r 1 --alpha 1 --optimal lam=2:1", "lowest < highest"),
        ("solve --r 1 --alpha 1 --lam 1 --optimal lam", "--lam must not be given"),
        ("solve --r 1 --optimal lam", "--alpha is required"),
        ("spectrum --r 1", "--alpha is required"),
        ("spectrum --r 1 --alpha 1 --x -1:2:3", "x must be"),
        ("spectrum --r 1 --alpha 1 -o out.txt", "must end in"),
        ("spectrum --r 1 --alpha 1 --format netcdf", "needs a file"),
        ("solve --r 1 --alpha 1 --optimal lam --plot best.png", "a list or a grid"),
        ("solve --r 1 --alpha 1,2 --optimal lam --plot best.xyz", "must end in"),
    ],
)
def test_refusals(words, message, capsys):
    assert run(words.split()) == 2
    assert message in capsys.readouterr().err


def program(*arguments):
    """Run the program; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", "from srfx.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def strict(text):
    """JSON without nan or inf."""

    def refuse(name):
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


def test_the_program_finds_optima(tmp_path):
    """Table, JSON and a picture of one search with two parameters."""
    picture = tmp_path / "best.png"
    words = [
        "solve",
        "--alpha0",
        "4",
        "--noise",
        "0.2",
        "--alpha",
        "0.5:2:3",
        "--optimal",
        "lam,eta=0.1:1.5",
        "--plot",
    ]
    done = program(*words, picture, "--format", "json")
    said = strict(done.stdout)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert said["model"] == "OneStep"
    assert said["eta_range"] == [0.1, 1.5]
    model = srfx.OneStep(alpha0=4, noise=0.2)
    over = {"lam": (1e-6, 1e2), "eta": (0.1, 1.5)}
    best = srfx.optimal(model, over, alpha=[0.5, 1.25, 2.0])
    for i, point in enumerate(said["points"]):
        assert point["status"] == "converged"
        assert point["alpha"] == best.alpha.values[i]
        for name in ("lam", "lam_bound", "eta", "eta_bound", "test_error", "n_minima", "n_failed"):
            assert point[name] == best[name].values[i]
    assert best.eta_bound.values.any()  # and the picture had bounds to mark


def test_the_program_computes_spectra(tmp_path):
    file = tmp_path / "spectra.json"
    words = ["spectrum", "--r", "0,0.9", "--alpha", "0.5", "--x", "log:0.01:5:40", "-o"]
    done = program(*words, file)
    assert "mass at zero: 0.5, 0.5" in done.stderr
    said = strict(file.read_text())
    ds = srfx.feature_spectrum(srfx.SpikedRF(r=[0.0, 0.9]), 0.5, np.geomspace(0.01, 5, 40))
    assert said["activation"] == "tanh"
    for i, spectrum in enumerate(said["spectra"]):
        one = ds.isel(r=i)
        assert spectrum["r"] == one.r.item()
        assert spectrum["mass"] == one.mass.item()
        assert spectrum["edges"] == one.edges.values[np.isfinite(one.edges.values)].tolist()
        np.testing.assert_allclose(spectrum["x"], one.x, rtol=1e-14)
        assert spectrum["density"] == [None if np.isnan(v) else v for v in one.density.values]
        assert set(spectrum["status"]) == {"converged"}
    printed = program("spectrum", "--r", 1, "--alpha", 2, "--x", "1,2", "--format", "json").stdout
    assert len(strict(printed)["spectra"]) == 1
    table = program("spectrum", "--r", 1, "--alpha", 2, "--x", "1,2").stdout
    assert table.splitlines()[2].split() == ["x", "density", "density_error", "status"]


def test_spectrum(tmp_path, capsys):
    file, picture = tmp_path / "s.csv", tmp_path / "s.png"
    words = ["spectrum", "--r", "0.9", "--alpha", "2", "-o", str(file), "--plot", str(picture)]
    assert run(words) == 0
    frame = pd.read_csv(file)
    assert trapezoid(frame.density, frame.x) == pytest.approx(1, abs=0.01)
    assert "mass: 1" in capsys.readouterr().err
    assert picture.stat().st_size > 1000


def test_plots():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    ds = srfx.feature_spectrum(srfx.SpikedRF(r=[0.0, 0.9]), 2.0, np.geomspace(0.01, 4, 80))
    ax = srfx.plot.spectrum(ds, eigenvalues=np.linspace(0.1, 3, 50), ax=figure.add_subplot())
    assert len(ax.lines) == 2
    assert ax.get_xscale() == "log"
    with pytest.raises(ValueError, match="density"):
        srfx.plot.spectrum(ds[["mass"]])
    with pytest.raises(TypeError, match="feature_spectrum"):
        srfx.plot.spectrum(ds.density)
    with pytest.raises(ValueError, match="crossing"):
        srfx.plot.boundary(ds)


def test_optima_are_drawn_from_their_data():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    model = srfx.OneStep(alpha0=4, noise=[[0.1], [0.5]])
    over = {"lam": (1e-3, 10.0), "eta": (0.1, 1.5)}
    best = srfx.optimal(model, over, alpha=[0.5, 1.0, 2.0])
    error, lam, eta = srfx.plot.optima(best, "alpha", list(figure.subplots(3, 1)))
    for i in range(2):
        np.testing.assert_array_equal(error.lines[i].get_ydata(), best.test_error[i])
        np.testing.assert_array_equal(lam.lines[i].get_ydata(), best.lam[i])
        np.testing.assert_array_equal(eta.lines[i].get_ydata(), best.eta[i])
        marked = np.isfinite(eta.lines[2 + i].get_ydata())
        np.testing.assert_array_equal(marked, best.eta_bound[i] != 0)
    assert (lam.get_yscale(), eta.get_yscale()) == ("log", "log")
    assert error.lines[-1].get_ydata()[0] == srfx.linear_floor("sin")
    with pytest.raises(ValueError, match="axes must be 3"):
        srfx.plot.optima(best, "alpha", [error])
    with pytest.raises(ValueError, match="without optima"):
        srfx.plot.optima(best[["test_error"]])
    with pytest.raises(TypeError, match=r"srfx\.optimal"):
        srfx.plot.optima(best.lam)
