"""Losses and labels in the program and in pictures."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

import srfx
from srfx.cli import run as run_program

SIGNS = ["--activation", "tanh", "--target", "sign", "--labels", "sign", "--eta", "2"]


@pytest.fixture
def run(capsys):
    """Run the program: exit code, what it wrote to the screen, what it said."""

    def call(*arguments):
        code = run_program([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return call


def columns(text):
    """Numbers of a table, by column."""
    names, *rows = [line.split() for line in text.splitlines() if line and line[0] != "#"]
    return {name: [float(row[i]) for row in rows] for i, name in enumerate(names)}


def test_solve_prints_and_draws_classification_errors(run, tmp_path):
    picture = tmp_path / "curve.png"
    grid = ["--alpha0", "2", "--alpha", "0.5:3:3", "--lam", "0.01", "--loss", "logistic"]
    code, out, err = run("solve", *SIGNS, *grid, "--plot", picture)
    assert code == 0, err
    assert "labels = sign" in out
    assert "loss = logistic" in out
    assert "floor" not in out
    model = srfx.OneStep("tanh", "sign", eta=2, alpha0=2, labels="sign")
    sol = srfx.solve(model, np.linspace(0.5, 3, 3), 0.01, loss="logistic")
    found = columns(out)
    np.testing.assert_allclose(found["classification_error"], sol.classification_error, atol=1e-9)
    np.testing.assert_allclose(found["test_loss"], sol.test_loss, atol=1e-9)
    assert picture.stat().st_size > 1000


def test_simulate_lies_on_it(run, tmp_path):
    picture = tmp_path / "curve.png"
    grid = ["--alpha0", "2", "--alpha", "0.5,2", "--lam", "0.1", "--loss", "hinge"]
    size = ["--d", "100", "--replicates", "3", "--n-test", "500", "--no-progress"]
    code, out, err = run("simulate", *SIGNS, *grid, *size, "--plot", picture)
    assert code == 0, err
    assert "labels = sign, loss = hinge" in out
    found = columns(out)
    model = srfx.OneStep("tanh", "sign", eta=2, alpha0=2, labels="sign")
    ds = srfx.simulate(model, [0.5, 2], 0.1, loss="hinge", d=100, replicates=3, n_test=500)
    expected = ds.classification_error.mean("replicate").values.ravel()
    np.testing.assert_allclose(found["classification_error"], expected, atol=1e-6)
    assert picture.stat().st_size > 1000


def test_other_losses_and_slopes(run):
    code, out, err = run(
        "solve", "--r", "0.5", "--target", "tanh", "--labels", "logit", "--slope", "3",
        "--alpha", "1", "--lam", "0.1", "--loss", "huber:0.5", "--format", "json",
    )  # fmt: skip
    assert code == 0, err
    model = srfx.SpikedRF("tanh", "tanh", r=0.5, labels="logit", slope=3)
    sol = srfx.solve(model, 1, 0.1, loss=srfx.Huber(0.5))
    point = json.loads(out)["points"][0]
    assert point["classification_error"] == pytest.approx(float(sol.classification_error))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--loss", "hinge"], "loss='hinge' needs labels of +1 and -1"),
        (["--loss", "huber"], "--loss must have a number after the colon"),
        (["--loss", "quantile:2"], "tau must be between 0 and 1"),
        (["--loss", "hing"], "did you mean 'hinge'"),
        (["--slope", "2"], "slope must be left out unless labels='logit'"),
        (["--labels", "signs"], "'signs' is not one of 'real', 'sign', 'logit'"),
    ],
)
def test_what_is_refused(run, arguments, words):
    code, _, err = run("solve", "--r", "0.5", "--alpha", "1", "--lam", "0.1", *arguments)
    assert code != 0
    assert words in err


def test_learning_curves_of_losses_and_misses():
    model = srfx.SpikedRF("tanh", "tanh", labels="sign", noise=0.1)
    sol = srfx.solve(model, [0.5, 1, 2], 0.1, loss="hinge")

    def lines(quantity):
        ax = srfx.plot.learning_curve(sol, ax=Figure().add_subplot(), quantity=quantity)
        return {line.get_label(): line.get_ydata() for line in ax.lines}, ax.get_ylabel()

    drawn, ylabel = lines("classification_error")
    assert list(drawn) == ["classification error"]
    assert ylabel == "error"
    np.testing.assert_array_equal(drawn["classification error"], sol.classification_error)
    drawn, ylabel = lines("test_loss")
    assert list(drawn) == ["test loss", "training loss"]
    assert ylabel == "loss"
    assert list(lines("test_error")[0]) == ["test error", "training error"]
    with pytest.raises(ValueError, match="quantity must be one of"):
        lines("error")
    ridge = srfx.solve(srfx.SpikedRF(), [0.5, 1], 0.1)
    with pytest.raises(ValueError, match="result must hold classification_error and alpha"):
        srfx.plot.learning_curve(ridge, Figure().add_subplot(), quantity="classification_error")
