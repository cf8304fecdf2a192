"""The page of ``srfx explore``: its numbers, and the page itself in a headless browser."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import srfx
from srfx import cli
from srfx.app.picture import Picture
from srfx.app.view import (
    ALPHA,
    ALPHA_SIMULATED,
    PASSED,
    PLANE,
    SIZE,
    Desk,
    T,
    View,
    X,
    parse_readout,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
START = "from srfx.cli import main; main()"
IN_CI = os.environ.get("CI") == "true"


def test_numbers_are_those_of_the_library():
    view = View(eta=3, alpha0=5, alpha=1.5, noise=0.1)
    numbers = view.compute()
    model = srfx.OneStep("tanh", "sin", eta=3, alpha0=5, noise=0.1)
    assert np.array_equal(
        numbers.curve, srfx.solve(model, alpha=ALPHA, lam=0.1, bulk="one_step").test_error
    )
    assert numbers.here == srfx.solve(model, alpha=1.5, lam=0.1, bulk="one_step").test_error
    assert (numbers.lower, numbers.upper) == srfx.bounds(model)
    assert numbers.floor == srfx.linear_floor("sin")
    assert np.array_equal(
        numbers.learned,
        srfx.learned_function(model, alpha=1.5, lam=0.1, t=T, bulk="one_step"),
    )
    d = SIZE["d"]
    finite = srfx.solve(model, alpha=ALPHA, lam=0.1, bulk="one_step", d=d).test_error
    assert np.array_equal(numbers.finite, finite)
    assert not np.allclose(numbers.finite, numbers.curve, rtol=1e-3)
    x = numbers.spectrum.x
    density = srfx.feature_spectrum(model, 1.5, x, bulk="one_step").density.values
    assert np.array_equal(numbers.spectrum.density, density * x)
    spiked = model.equivalent()
    assert numbers.spike == (spiked.r, spiked.c, spiked.gamma)


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
def test_the_code_reproduces_the_view():
    view = View("erf", "tanh", 2, 3, 0.5, 0.05, 1.5, 0.2, (1.0, 2.0))
    numbers, names = view.compute(), {}
    exec(view.code(numbers).replace("replicates=8", "replicates=2"), names)
    assert names["model"] == view.model
    assert np.array_equal(names["sol"].test_error, numbers.curve)
    assert np.array_equal(names["sol_d"].test_error, numbers.finite)
    assert np.array_equal(names["f"], numbers.learned)
    assert np.allclose(names["x"], numbers.spectrum.x, rtol=1e-5)
    density = names["spectrum"].density * names["x"]
    assert np.allclose(density, numbers.spectrum.density, atol=1e-3)
    assert dict(names["ds"].sizes) == {"alpha": 5, "lam": 1, "replicate": 2}
    legend = [text.get_text() for text in names["ax"].get_legend().get_texts()]
    assert "test error, theory at d = 200" in legend
    assert "networks at d = 200" in legend
    # Groups that no spiked features are equivalent to have none to print.
    assert "model.equivalent()" in view.code()
    code = View("relu", eta=3, readout=(1.0, 2.0)).code()
    assert "equivalent" not in code
    exec(code.split("alphas = ")[0], {})
    # Without a spectrum, of what was looked through for it.
    assert f"x = np.geomspace(1e-06, 1e+06, {X.size})" in view.code()


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
@pytest.mark.parametrize(
    ("view", "model", "bulk"),
    [
        (
            View("tanh", "sin", eta=2, alpha0=2, steps=2),
            srfx.MultiStep("tanh", "sin", eta=(2, 2), alpha0=(2, 2)),
            "multi_step",
        ),
        (View("relu", "max", eta=1, alpha0=2), srfx.OneStep("relu", "max", alpha0=2), "one_step"),
        (
            View("tanh", "product", eta=1, alpha0=2, readout=(1.0, 2.0), steps=2),
            srfx.MultiStep("tanh", "product", eta=(1, 1), alpha0=(2, 2), readout=(1.0, 2.0)),
            "isotropic",
        ),
    ],
)
def test_steps_and_two_directions(view, model, bulk):
    assert view.model == model
    assert view.bulk == bulk
    numbers = view.compute()
    expected = srfx.solve(model, alpha=ALPHA, lam=0.1, bulk=bulk).test_error
    assert np.array_equal(numbers.curve, expected)
    t = PLANE if view.several else T
    learned = srfx.learned_function(model, alpha=2, lam=0.1, t=t, bulk=bulk)
    assert np.array_equal(numbers.learned, learned)
    picture = Picture()
    picture.png(numbers)
    planes = picture.figure.axes[3:]
    assert [ax.get_visible() for ax in planes] == [view.several] * 2
    assert picture.figure.axes[1].get_visible() is not view.several
    names = {}
    exec(view.code(numbers).split("alphas = ")[0], names)
    assert names["model"] == model
    assert np.array_equal(names["f"], learned)
    # a view of one direction after it looks as if there had been none
    assert picture.png(View().compute()) == Picture().png(View().compute())


@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
@pytest.mark.parametrize(
    ("view", "quantity"),
    [
        (View("tanh", "sign", eta=2, alpha0=2, labels="sign", loss="logistic"), "classification"),
        (View("tanh", "sin", eta=2, labels="logit", loss="square"), "classification"),
        (View("relu", "sin", eta=1, loss=srfx.Huber(1), noise=0.2), "test"),
    ],
)
def test_labels_and_losses(view, quantity):
    quantity += "_error"
    numbers = view.compute()
    options = {"lam": 0.1, "bulk": "one_step", "loss": view.loss}
    solution = srfx.solve(view.model, alpha=ALPHA, **options)
    # digits of other losses depend on what else is solved for, within the quadrature error
    assert np.allclose(numbers.curve, getattr(solution, quantity), rtol=1e-9)
    at_d = srfx.solve(view.model, alpha=ALPHA, d=SIZE["d"], **options)
    assert np.allclose(numbers.finite, getattr(at_d, quantity), rtol=1e-9)
    here = srfx.solve(view.model, alpha=view.alpha, **options)
    assert (numbers.here, numbers.loss, numbers.squares) == pytest.approx(
        (getattr(here, quantity), here.test_loss, here.test_error), rel=1e-9
    )
    learned = srfx.learned_function(view.model, alpha=view.alpha, t=T, **options)
    assert np.allclose(numbers.learned, learned, rtol=1e-9, atol=1e-12)
    # The features know of the labels that the step saw, but not of the loss after it.
    density = srfx.feature_spectrum(view.model, 2.0, numbers.spectrum.x, bulk="one_step").density
    assert np.allclose(numbers.spectrum.density, density.values * numbers.spectrum.x, rtol=1e-9)

    names = {}
    exec(view.code(numbers).replace("replicates=8", "replicates=2"), names)
    assert names["model"] == view.model
    assert np.allclose(getattr(names["sol"], quantity), numbers.curve, rtol=1e-9)
    assert np.allclose(getattr(names["sol_d"], quantity), numbers.finite, rtol=1e-9)
    assert np.allclose(names["f"], learned, rtol=1e-9, atol=1e-12)
    picture = Picture()
    picture.png(numbers, names["ds"])
    legend = [text.get_text() for text in picture.figure.axes[0].get_legend().get_texts()]
    words = quantity.replace("_", " ")
    assert f"{words}, theory at d = 200" in legend
    assert not {"linear floor", "lower bound"} & set(legend)
    assert (r"training error, $d = \infty$" in legend) == (view.labels == "real")
    assert picture.png(View().compute()) == Picture().png(View().compute())


def test_a_loss_that_the_labels_have_no_room_for_is_said():
    with pytest.raises(ValueError, match=r"needs labels of \+1 and -1"):
        View(loss="hinge").compute()


def test_simulated_points_lie_on_the_theory_at_their_d():
    """Where d = 200 is far from the limit: that curve is drawn, and says so."""
    view = View("tanh", "tanh", eta=0.4, alpha0=20)
    numbers, ds = view.compute(), view.simulate()
    values = ds.test_error.values[:, 0]
    mean, error = values.mean(-1), values.std(-1, ddof=1) / np.sqrt(values.shape[-1])
    model = view.model
    at_d = srfx.solve(
        model, alpha=ALPHA_SIMULATED, lam=0.1, bulk="one_step", d=SIZE["d"]
    ).test_error
    limit = srfx.solve(model, alpha=ALPHA_SIMULATED, lam=0.1, bulk="one_step").test_error
    assert np.all(np.abs(mean - at_d) < 4 * error)
    assert np.all(mean - limit > 8 * error)

    picture = Picture()
    picture.png(numbers, ds)
    left = picture.figure.axes[0]
    legend = {text.get_text() for text in left.get_legend().get_texts()}
    assert {
        r"test error, $d = \infty$, bulk one_step",
        "test error, theory at d = 200",
        "8 networks at d = 200:\nmean, standard error",
    } <= legend
    lines = {line.get_label(): line for line in left.lines}
    assert np.array_equal(lines["test error, theory at d = 200"].get_ydata(), numbers.finite)
    assert left.get_ylim()[1] > max(mean.max(), numbers.finite.max())


GROWS = srfx.Activation(lambda z: np.exp(z / 2), derivative=lambda z: np.exp(z / 2) / 2)


@pytest.mark.parametrize(
    ("activation", "readout", "bulk", "points"),
    [
        ("tanh", (1.0, 2.0), "one_step", 50),
        ("relu", (1.0, 2.0), "one_step", 50),
        ("tanh", (0.5, 1.0, 2.0), "one_step", 25),
        ("tanh", (0.5, 1.0, 1.5, 2.0), "isotropic", 50),  # would take too long
        ("sigmoid", (1.0,), "one_step", 50),
        (GROWS, (1.0, 2.0), "isotropic", 50),  # which section 10 does not cover
    ],
)
@pytest.mark.filterwarnings("ignore::srfx.ApproximationWarning")
def test_several_values_are_solved_in_the_actual_step_where_they_can_be(
    activation, readout, bulk, points
):
    view = View(activation, eta=2, alpha0=3, readout=readout)
    now = view.compute_curves()
    assert view.bulk == bulk
    assert now.curve.size == points
    model = srfx.OneStep(activation, "sin", eta=2, alpha0=3, readout=readout)
    expected = srfx.solve(model, alpha=np.linspace(0.1, 5, points), lam=0.1, bulk=bulk)
    assert np.array_equal(now.curve, expected.test_error)
    # The spectrum of several values is of the isotropic bulk.
    whole = view.compute()
    assert np.array_equal(whole.curve, now.curve)
    assert ("bulk isotropic" in whole.spectrum.words()) == (len(readout) > 1 and bulk == "one_step")
    x = whole.spectrum.x
    kind = "one_step" if len(readout) == 1 else "isotropic"
    density = srfx.feature_spectrum(model, 2.0, x, bulk=kind).density.values
    assert np.allclose(whole.spectrum.density, density * x, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("slow", ["compute_curves", "compute_spectrum"])
def test_slow_views_are_not_waited_for(slow, monkeypatch):
    """They come later; those that another view has overtaken are never begun; some are kept."""
    begun, gate = [], threading.Event()
    find = getattr(View, slow)

    def held(view):
        begun.append(view.eta)
        assert gate.wait(60)
        return find(view)

    monkeypatch.setattr(View, slow, held)
    desk = Desk()
    first, second, third = (desk.of(View(eta=eta)) for eta in (1.0, 2.0, 3.0))
    if slow == "compute_spectrum":
        third.curves.result(60)  # however busy the machine is
    start = time.perf_counter()
    now = third.now()
    assert time.perf_counter() - start < 5
    if slow == "compute_curves":
        assert now is None
    else:
        assert now.spectrum is None
        assert np.isfinite(now.curve).all()
    gate.set()
    with pytest.raises(PASSED):
        (second.curves if slow == "compute_curves" else second.spectrum).result()
    for eta, pending in ((1.0, first), (3.0, third)):
        whole = pending.complete(pending.curves.result(60), 60)
        expected = View(eta=eta).compute()
        assert np.array_equal(whole.curve, expected.curve)
        assert np.array_equal(whole.spectrum.density, expected.spectrum.density)
    assert begun[:2] == [1.0, 3.0]
    # The penalty does not matter to a spectrum.
    again = desk.of(View(eta=3.0, lam=0.5))
    assert again.spectrum is third.spectrum
    assert again.curves.result(60).view.lam == 0.5


def test_unsolved_points_are_said():
    numbers = View().compute()
    assert numbers.unsolved == 0
    assert "record" not in numbers.view.code(numbers)
    curve = numbers.curve.copy()
    curve[3:5] = np.nan
    broken = dataclasses.replace(numbers, curve=curve)
    assert broken.unsolved == 2
    assert broken.view.code(broken).count('errors="record"') == 2
    picture = Picture()
    picture.png(broken)
    title = picture.figure.axes[0].get_legend().get_title()
    assert title.get_text() == "gaps: 2 points did not converge"
    picture.png(numbers)
    assert picture.figure.axes[0].get_legend().get_title().get_text() in ("", "None")


def drawn(view):
    """The panel of the spectrum, and the words in it."""
    picture, numbers = Picture(), view.compute()
    picture.png(numbers)
    panel = picture.figure.axes[2]
    return numbers.spectrum, panel, panel.texts[0].get_text()


@pytest.mark.parametrize(
    ("view", "inside"),
    [
        (View("hermite2", "sin", eta=10, alpha0=5, alpha=5), (512, 3500)),
        (View("hermite2", "sin", eta=10, alpha0=0.1, alpha=0.1), (360e3, 1.29e6)),
        (View(eta=0.1, beta=0.1, alpha=5), (9.3, 35)),
        (View(eta=3, alpha0=5), (0.014, 2.8)),
    ],
)
def test_the_spectrum_is_drawn_where_it_is(view, inside):
    spectrum, panel, _ = drawn(view)
    low, high = panel.get_xlim()
    assert low < inside[0] < inside[1] < high
    assert high / low < 3 * inside[1] / inside[0]
    ticks = panel.xaxis.get_ticklocs()
    assert np.count_nonzero((low <= ticks) & (ticks <= high)) >= 2
    assert np.array_equal(panel.lines[0].get_xdata(), spectrum.x)
    assert np.array_equal(panel.lines[0].get_ydata(), spectrum.density)
    # All the mass is there to be seen.
    widths, density = np.diff(np.log(spectrum.x)), spectrum.density
    seen = widths @ (density[1:] + density[:-1]) / 2
    assert abs(seen + spectrum.mass_at_zero - 1) < 0.01
    assert np.count_nonzero(spectrum.density) > 40
    assert panel.get_ylim()[1] > spectrum.density.max()


def test_the_panel_says_what_mass_is_at_zero():
    spectrum, panel, words = drawn(View(beta=5, alpha=2))
    assert spectrum.mass_at_zero == pytest.approx(0.6)
    assert "60 % of the eigenvalues are 0" in words
    assert "are 0" not in drawn(View())[2]
    # A tail down to zero is cut off where nothing of it is seen, and the panel says so.
    tailed, panel, words = drawn(View(eta=10, alpha0=0.1, alpha=0.1))
    assert "the support goes down to" in words
    assert tailed.edges[0] < panel.get_xlim()[0]
    view = View("leaky_relu", "tanh", 10, 20, 5, alpha=5, noise=1)
    assert "the support goes down to 0, 5.2 % below 1e-06" in drawn(view)[2]


def test_an_unresolved_point_is_a_gap_with_a_word():
    view, picture = View(), Picture()
    numbers = view.compute()
    density = numbers.spectrum.density.copy()
    density[100:103] = np.nan
    broken = dataclasses.replace(numbers.spectrum, density=density, mass=0.93)
    picture.png(dataclasses.replace(numbers, spectrum=broken))
    panel = picture.figure.axes[2]
    words = panel.texts[0].get_text()
    assert f"gaps: not resolved at 3 of {density.size} points" in words
    assert "7 % of them not resolved" in words
    assert np.isnan(panel.lines[0].get_ydata()).sum() == 3
    assert len(panel.collections[-1].get_paths()) == 2  # filled on both sides of the gap
    # Nothing at all is said too, and so is what is not there yet.
    nothing = dataclasses.replace(numbers.spectrum, density=np.full(density.size, np.nan))
    picture.png(dataclasses.replace(numbers, spectrum=nothing))
    assert "no density was found here" in panel.texts[0].get_text()
    picture.png(dataclasses.replace(numbers, spectrum=None))
    assert panel.texts[0].get_text() == "computing …"
    assert len(panel.lines[0].get_xdata()) == 0


def test_the_picture_is_drawn():
    view, picture = View(), Picture()
    png = picture.png(view.compute())
    assert png.startswith(b"\x89PNG")
    ds = view.simulate()
    assert dict(ds.sizes) == {"alpha": 5, "lam": 1, "replicate": 8}
    with_points = picture.png(view.compute(), ds)
    assert len(picture.figure.axes[0].containers) == 1
    other = View("relu", "sign", eta=1.5, readout=(1.0, 2.0)).compute()
    assert len({png, with_points, picture.png(other)}) == 3
    # Nothing of the views between is left, and a picture of its own looks the same.
    assert picture.png(view.compute()) == png == Picture().png(view.compute())


def test_the_picture_shows_the_numbers():
    picture, numbers = Picture(), View(eta=3, alpha0=5).compute()
    picture.png(numbers)
    left, right, last = picture.figure.axes[:3]
    lines = {line.get_label(): line for line in left.lines + right.lines}
    assert np.array_equal(
        lines[r"test error, $d = \infty$, bulk one_step"].get_ydata(), numbers.curve
    )
    assert np.array_equal(lines[r"training error, $d = \infty$"].get_ydata(), numbers.train)
    assert np.array_equal(lines["linear floor"].get_ydata(), [numbers.floor] * 2)
    assert np.array_equal(lines["lower bound"].get_ydata(), [numbers.lower] * 2)
    assert np.array_equal(lines["learned, mean at given t"].get_ydata(), numbers.learned)
    assert np.array_equal(last.lines[0].get_ydata(), numbers.spectrum.density)
    assert last.get_ylim()[1] > numbers.spectrum.density.max()
    low, high = right.get_ylim()
    assert low <= min(numbers.learned.min(), -1)
    assert high >= max(numbers.learned.max(), 1)


def test_readouts_are_read():
    assert parse_readout("1, 2.5") == (1.0, 2.5)
    with pytest.raises(ValueError, match="readout must be numbers"):
        parse_readout("1; 2")


def test_a_port_in_use(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.run(["explore", "--no-browser", "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"port {port} of 127.0.0.1 is in use" in said
    assert f"srfx explore --port {port + 1}" in said


def test_a_host_of_another_machine(capsys):
    assert cli.run(["explore", "--no-browser", "--host", "192.0.2.1"]) == 2
    assert "host '192.0.2.1' is not an address of this machine" in capsys.readouterr().err


def test_a_missing_marimo_is_said_plainly(run_python):
    code = """
import sys, contextlib
sys.modules["marimo"] = None
from srfx.cli import run
with contextlib.redirect_stderr(sys.stdout):
    print(run(["explore", "--no-browser"]))
"""
    said = run_python(code)
    assert said.split("\n")[:2] == [
        "srfx: error: srfx explore needs marimo and matplotlib: pip install 'srfx[app]'",
        "2",
    ]


# --- in a browser ---------------------------------------------------------------------------------


def missing():
    lacking = []
    for name in ("marimo", "selenium"):
        try:
            __import__(name)
        except ImportError:
            lacking.append(name)
    return lacking + [
        name for name, path in (("chromium", CHROMIUM), ("chromedriver", DRIVER)) if not path
    ]


@pytest.fixture
def page(tmp_path):
    """Address of the page, served by the command itself; and how long it took to answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path / "log").open("w+")
    start = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-c", START, "explore", "--no-browser", "--port", str(port)],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        for _ in range(600):
            assert server.poll() is None, (tmp_path / "log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
                break
            except OSError:
                time.sleep(0.05)
        print(f"the page answered after {time.perf_counter() - start:.2f} s")
        yield f"http://127.0.0.1:{port}/"
        server.send_signal(signal.SIGINT)  # Ctrl-C ends it, whatever has been opened
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.wait(20)
        log.close()


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--window-size=1200,1000",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_page_in_a_browser(request):
    """It loads, a slider moves the curve, the button adds points, and nothing complains."""
    if lacking := missing():
        if IN_CI:
            pytest.fail(f"the browser test must run in CI, and lacks {', '.join(lacking)}")
        pytest.skip(f"lacks {', '.join(lacking)}")
    address, driver = request.getfixturevalue("page"), request.getfixturevalue("browser")
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    wait = WebDriverWait(driver, 90, poll_frequency=0.05)

    def data():
        text = driver.execute_script(
            "const e = document.querySelector('#srfx-data'); return e && e.textContent"
        )
        return json.loads(text) if text else None

    start = time.perf_counter()
    driver.get(address)
    first = wait.until(lambda _: data())
    print(f"interactive after {time.perf_counter() - start:.2f} s")
    model = srfx.OneStep("tanh", "sin", eta=3, alpha0=5)
    expected = srfx.solve(model, alpha=ALPHA, lam=0.1, bulk="one_step").test_error
    assert np.allclose(first["test_error"], expected, rtol=1e-12)
    assert first["simulated"] is None

    thumb = find(driver, "[role=slider]")
    start = time.perf_counter()
    thumb.send_keys(Keys.ARROW_RIGHT)
    second = wait.until(lambda _: (d := data()) and d["test_error"] != first["test_error"] and d)
    print(f"redrawn after {time.perf_counter() - start:.2f} s, {second['seconds']:.3f} s of them")
    model = srfx.OneStep("tanh", "sin", eta=3.1, alpha0=5)
    expected = srfx.solve(model, alpha=ALPHA, lam=0.1, bulk="one_step").test_error
    assert np.allclose(second["test_error"], expected, rtol=1e-12)

    button(driver, "Simulate").click()
    third = wait.until(lambda _: (d := data()) and d["simulated"] and d)
    ds = View(eta=3.1, alpha0=5).simulate()
    assert np.allclose(third["simulated"], ds.test_error.mean("replicate")[:, 0])
    folder = Path(os.environ.get("SRFX_TEST_ARTEFACTS", request.config.rootpath / "build"))
    folder.mkdir(parents=True, exist_ok=True)
    assert driver.save_screenshot(str(folder / "explore.png"))

    # Faster than it can draw: every view replaces one that the browser is still fetching.
    for step in range(60):
        thumb.send_keys(Keys.ARROW_RIGHT if 20 <= step < 35 else Keys.ARROW_LEFT)
    model = srfx.OneStep("tanh", "sin", eta=0.1, alpha0=5)  # 30 steps of 0.1 down in all
    expected = srfx.solve(model, alpha=ALPHA, lam=0.1, bulk="one_step").test_error
    settled = wait.until(
        lambda _: (d := data()) and np.allclose(d["test_error"], expected, rtol=1e-12) and d
    )
    assert settled["simulated"] is None
    assert driver.execute_script(IMAGE).startswith("data:image/png;base64,")

    # Of several values the curve comes first, then the spectrum.
    field = next(
        e for e in driver.execute_script(DEEP, "input") if e.get_attribute("type") == "text"
    )
    field.send_keys(", 2" + Keys.ENTER)
    several = wait.until(
        lambda _: (d := data()) and d["here"] != settled["here"] and d["spectrum"] and d
    )
    model = srfx.OneStep("tanh", "sin", eta=0.1, alpha0=5, readout=(1.0, 2.0))
    expected = srfx.solve(model, alpha=ALPHA, lam=0.1, bulk="one_step").test_error
    assert np.allclose(several["test_error"], expected, rtol=1e-9)

    # Views change while the spectrum of the one before is still to come.
    for step in range(24):
        thumb.send_keys(Keys.ARROW_RIGHT if step < 16 else Keys.ARROW_LEFT)
        time.sleep(0.04 * (step % 6))
    model = srfx.OneStep("tanh", "sin", eta=0.9, alpha0=5, readout=(1.0, 2.0))
    expected = srfx.solve(model, alpha=ALPHA, lam=0.1, bulk="one_step").test_error
    wait.until(lambda _: (d := data()) and np.allclose(d["test_error"], expected) and d["spectrum"])

    # What cannot be solved says so and leaves the controls.
    sliders = len(driver.execute_script(DEEP, "[role=slider]"))
    field.send_keys("e300" + Keys.ENTER)
    wait.until(lambda _: not driver.execute_script(DEEP, "#srfx-data"))
    assert len(driver.execute_script(DEEP, "[role=slider]")) == sliders
    field.send_keys(Keys.BACKSPACE * 4 + Keys.ENTER)
    wait.until(lambda _: data() and np.allclose(data()["test_error"], expected))

    errors = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []
    assert "Traceback" not in (request.getfixturevalue("tmp_path") / "log").read_text()


IMAGE = "return document.querySelector('img[alt*=panels]').src"

DEEP = """
const found = [];
const walk = root => {
  found.push(...root.querySelectorAll(arguments[0]));
  for (const e of root.querySelectorAll('*')) if (e.shadowRoot) walk(e.shadowRoot);
};
walk(document);
return found;
"""


def find(driver, css):
    """First element, looked for inside web components too."""
    return driver.execute_script(DEEP, css)[0]


def button(driver, text):
    return next(e for e in driver.execute_script(DEEP, "button") if text in e.text)
