"""srfx spectrum, srfx solve --optimal, and the pictures of both."""

from __future__ import annotations

import io

import numpy as np
import pytest

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


def test_solve_optimal_with_ranges_to_a_file(tmp_path, capsys):
    file = tmp_path / "best.csv"
    words = "solve --alpha0 2 --noise 0.1 --alpha 1 --optimal lam=1e-4:10,eta -o"
    assert run([*words.split(), str(file)]) == 0
    frame = pd.read_csv(file)
    assert {"lam", "eta", "test_error", "status"} <= set(frame.columns)
    assert frame.status.tolist() == [0]


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
    ],
)
def test_refusals(words, message, capsys):
    assert run(words.split()) == 2
    assert message in capsys.readouterr().err


def test_spectrum(tmp_path, capsys):
    file, picture = tmp_path / "s.csv", tmp_path / "s.png"
    words = ["spectrum", "--r", "0.9", "--alpha", "2", "-o", str(file), "--plot", str(picture)]
    assert run(words) == 0
    frame = pd.read_csv(file)
    assert np.trapezoid(frame.density, frame.x) == pytest.approx(1, abs=0.01)
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
