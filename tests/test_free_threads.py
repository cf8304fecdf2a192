"""Threads that compute at once, with the GIL or without: the bits of one after the other."""

import sys
import sysconfig
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import srfx

ALPHA, LAM = np.geomspace(0.3, 3, 12), np.array([[1e-3], [0.1]])
COUNT = 8
#: Of all threads: functions of the user, whose objects they share.
BENT = srfx.Activation(
    lambda x: np.abs(x - 0.3), derivative=lambda x: np.sign(x - 0.3), kinks=[0.3], name="bent"
)
PRODUCT = srfx.Target(lambda a, b: np.tanh(a * b), 2, name="product of mine")
MODELS = {
    "named": srfx.SpikedRF("tanh", "sin", gamma=0.8),
    "callable": srfx.SpikedRF(BENT, "sin", gamma=0.8),
    "groups": srfx.SpikedRF("erf", "sin", r=0.8, gamma=0.5, readout=[-1, 1], weights=[0.4, 0.6]),
    "step": srfx.OneStep("tanh", "sin", eta=2.0, alpha0=3.0),
    "directions": srfx.SpikedRF("tanh", PRODUCT, gamma=[0.6, 0.3]),
}
WORK = {
    "solve": lambda model: srfx.solve(model, ALPHA, LAM).test_error,
    "gradient": lambda model: srfx.solve(model, ALPHA, LAM).gradient("lam"),
    "spectrum": lambda model: srfx.feature_spectrum(model, 2.0, np.linspace(0.1, 3, 20)).density,
    "simulation": lambda model: srfx.simulate(model, 2.0, 0.1, d=40, replicates=2).test_error,
    "scan": lambda model: srfx.scan(model, alpha=ALPHA, lam=[0.1], progress=False).test_error,
}


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs Python 3.13t")
def test_the_gil_stays_off():
    assert not sys._is_gil_enabled()


@pytest.mark.parametrize("name", WORK)
def test_threads_at_once(name):
    """Each thread takes all models, from another one on, and more threads inside the core."""
    work = WORK[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = {key: np.asarray(work(model)) for key, model in MODELS.items()}
        start = threading.Barrier(COUNT)

        def one(i):
            start.wait()
            order = [*MODELS][i % len(MODELS) :] + [*MODELS][: i % len(MODELS)]
            return {key: np.asarray(work(MODELS[key])) for key in order}

        with ThreadPoolExecutor(COUNT) as pool:
            for got in pool.map(one, range(COUNT)):
                for key, values in got.items():
                    np.testing.assert_array_equal(values, want[key], err_msg=key)
    assert all(np.isfinite(values).all() for values in want.values())


def test_errors_stay_with_their_thread():
    """The function of every other one fails."""

    class Mine(Exception):
        pass

    def failing(x):
        if threading.current_thread() is not threading.main_thread():
            raise Mine
        return np.tanh(x)

    good, bad = MODELS["named"], srfx.SpikedRF(srfx.Activation(failing, name="failing"), "sin")
    want = srfx.solve(good, ALPHA, LAM).test_error
    start = threading.Barrier(COUNT)

    def one(i):
        start.wait()
        if i % 2:
            with pytest.raises(Mine):
                srfx.solve(bad, 1.0, 0.1)
        else:
            np.testing.assert_array_equal(srfx.solve(good, ALPHA, LAM).test_error, want)
        return i

    with ThreadPoolExecutor(COUNT) as pool:
        for _ in range(5):
            assert list(pool.map(one, range(COUNT))) == list(range(COUNT))
