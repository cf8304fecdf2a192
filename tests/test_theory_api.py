"""The verbs: broadcasting, failures, warnings, threads, interruption, bounds and the like."""

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import srfx
from srfx import _core
from srfx.results import OBSERVABLES

ERRORS = ("test_error", "train_error")


def gaussian_average(f, edges=(), n=40):
    """E f(z) by Gauss-Legendre panels of width one half with edges at given points."""
    x, w = np.polynomial.legendre.leggauss(n)
    grid = np.union1d(np.linspace(-10, 10, 41), edges)
    middle, half = (grid[1:] + grid[:-1]) / 2, np.diff(grid) / 2
    z = (middle[:, None] + half[:, None] * x).ravel()
    weights = (half[:, None] * w).ravel() * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return float(weights @ f(z))


# --- shapes ---


def test_scalars_in_floats_out():
    sol = srfx.solve(srfx.SpikedRF(), alpha=1.5, lam=0.1)
    assert sol.shape == ()
    for name in OBSERVABLES:
        value = getattr(sol, name)
        kind = int if name in ("status", "iterations") else float
        assert isinstance(value, kind), name
        assert np.isfinite(value)
    assert sol.status is srfx.Status.CONVERGED
    assert bool(sol.success) is True
    assert f"{sol.test_error:.4f}" == "0.0345"


@pytest.mark.parametrize(
    ("kind", "varying"),
    [
        (srfx.SpikedRF, ("r", "c", "gamma", "beta", "noise")),
        (srfx.OneStep, ("eta", "alpha0", "beta", "noise")),
    ],
)
def test_every_numeric_argument_broadcasts_as_if_solved_alone(kind, varying):
    names = (*varying, "alpha", "lam", "d")
    pairs = [(0.3, 0.8), (0.7, 1.0), (0.5, 1.0), (0.5, 2.0), (0.1, 1.0)][: len(varying)]
    pairs += [(0.5, 2.0), (0.01, 1.0), (100, 1000)]
    # the first name varies along the last axis, and so on
    values = {
        name: np.array(pair).reshape((2,) + (1,) * i)
        for i, (name, pair) in enumerate(zip(names, pairs, strict=True))
    }
    fields = {name: values[name] for name in varying}
    rest = {name: values[name] for name in ("alpha", "lam", "d")}
    sol = srfx.solve(kind(**fields), **rest)
    assert sol.shape == (2,) * len(names)
    for index in [(0,) * len(names), (1,) * len(names), *np.ndindex(sol.shape)][::17]:
        at = {
            name: float(values[name].ravel()[index[len(names) - 1 - i]])
            for i, name in enumerate(names)
        }
        alone = srfx.solve(
            kind(**{name: at[name] for name in varying}),
            **{name: at[name] for name in ("alpha", "lam", "d")},
        )
        for name in (*ERRORS, "m", "theta", "psi", "q1", "q2", "v1", "v2"):
            want = getattr(alone, name)
            assert getattr(sol, name)[index] == pytest.approx(want, rel=1e-11, abs=1e-13), name
        assert sol.at(np.ravel_multi_index(index, sol.shape)) == at


def test_a_sweep_over_the_coefficients_alone():
    gammas = np.linspace(-1, 1, 7)
    sol = srfx.solve(srfx.SpikedRF(gamma=gammas), alpha=1.5, lam=0.1)
    for i, gamma in enumerate(gammas):
        alone = srfx.solve(srfx.SpikedRF(gamma=gamma), alpha=1.5, lam=0.1)
        assert sol.test_error[i] == pytest.approx(alone.test_error, rel=1e-12)
    # repeated sets are found and computed once
    twice = srfx.solve(srfx.SpikedRF(gamma=np.tile(gammas, (3, 1))), alpha=1.5, lam=0.1)
    assert np.array_equal(twice.test_error, np.tile(sol.test_error, (3, 1)))


@pytest.mark.parametrize("shape", [(0,), (3, 0), (1,), (1, 1)])
def test_empty_and_single_element_arrays(shape):
    sol = srfx.solve(srfx.SpikedRF(), alpha=np.ones(shape), lam=0.1)
    assert sol.test_error.shape == sol.status.shape == shape
    sol = srfx.solve(srfx.SpikedRF(gamma=np.ones(shape)), alpha=1, lam=0.1)
    assert sol.test_error.shape == shape
    lower, upper = srfx.bounds(srfx.SpikedRF(gamma=np.ones(shape)))
    assert lower.shape == upper.shape == shape


def test_a_one_step_network_is_solved_as_its_equivalent():
    model = srfx.OneStep(eta=[1, 3], alpha0=20, noise=0.1, beta=2)
    a = srfx.solve(model, alpha=3, lam=0.1)
    b = srfx.solve(model.equivalent(), alpha=3, lam=0.1)
    for name in OBSERVABLES:
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert a.model is model


def test_the_number_of_the_readme():
    model = srfx.OneStep("tanh", "sin", eta=3, alpha0=20)
    assert f"{srfx.solve(model, alpha=3, lam=0.1).test_error:.10f}" == "0.0325182080"


def test_inputs_are_kept_as_read_only_views():
    alpha = np.linspace(1, 2, 4)
    sol = srfx.solve(srfx.SpikedRF(beta=[[1], [2]]), alpha=alpha, lam=0.1)
    assert set(sol.inputs) == {"r", "c", "gamma", "beta", "noise", "lam", "alpha", "d"}
    assert all(x.shape == (2, 4) for x in sol.inputs.values())
    assert np.array_equal(sol.inputs["alpha"][1], alpha)
    assert (sol.inputs["d"] == np.inf).all()
    alpha[0] = 99
    assert sol.inputs["alpha"][0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        sol.inputs["alpha"][0, 0] = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        sol.test_error = 3


# --- one readout value ---


def test_readout_of_one_value():
    a = 0.6
    r, c = 0.9, 1.4
    want = srfx.solve(srfx.SpikedRF(r=r * a, c=1 + a * a * (c - 1)), alpha=1.5, lam=0.1)
    got = srfx.solve(srfx.SpikedRF(r=r, c=c, readout=(a,), weights=(1,)), alpha=1.5, lam=0.1)
    assert got.test_error == pytest.approx(want.test_error, rel=1e-13)
    flipped = srfx.solve(srfx.SpikedRF(r=r, c=c, readout=(-a,)), alpha=1.5, lam=0.1)
    assert flipped.test_error == pytest.approx(want.test_error, rel=1e-11)
    # the step is linear in the readout: half of it at twice the rate
    one = srfx.solve(srfx.OneStep(eta=2), alpha=1.5, lam=0.1).test_error
    half = srfx.solve(srfx.OneStep(eta=4, readout=(0.5,)), alpha=1.5, lam=0.1).test_error
    assert half == pytest.approx(one, rel=1e-13)


def test_bounds_and_learned_function_see_the_readout():
    plain, scaled = srfx.SpikedRF(r=0.45, c=1), srfx.SpikedRF(r=0.9, readout=(0.5,))
    assert srfx.bounds(scaled) == srfx.bounds(plain)
    t = np.linspace(-2, 2, 5)
    assert np.array_equal(
        srfx.learned_function(scaled, 1, 0.1, t), srfx.learned_function(plain, 1, 0.1, t)
    )


# --- failures ---


def test_a_failure_is_raised_with_its_place_and_remedy():
    with pytest.raises(srfx.ConvergenceError) as caught:
        srfx.solve(srfx.SpikedRF(beta=0.5), alpha=[0.25, 0.5, 2.0], lam=0.0)
    error = caught.value
    assert isinstance(error, RuntimeError)
    assert str(error) == (
        "1 of 3 points did not converge; the first, at r=0.9, c=1, gamma=1, beta=0.5, noise=0, "
        "lam=0, alpha=0.5: diverged. The ridgeless limit diverges at the interpolation threshold "
        "alpha = 0.5: use lam > 0, or move alpha off it."
    )
    assert error.solution.success.tolist() == [True, False, True]
    assert np.isfinite(error.solution.test_error[[0, 2]]).all()
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.solution.success.tolist() == [True, False, True]


def test_failures_recorded_hold_nan_and_their_status():
    sol = srfx.solve(srfx.SpikedRF(), alpha=[0.5, 1.0, 2.0], lam=0.0, errors="record")
    assert sol.status.tolist() == [0, 2, 0]
    assert (sol.status == srfx.Status.DIVERGED).tolist() == [False, True, False]
    assert sol.success.tolist() == [True, False, True]
    for name in (*ERRORS, "m", "theta", "psi", "q1", "q2", "v1", "v2"):
        assert np.isnan(getattr(sol, name)).tolist() == [False, True, False], name
    assert (sol.train_error[0], sol.v1[0]) == (0, np.inf)
    alone = srfx.solve(srfx.SpikedRF(), alpha=1.0, lam=0.0, errors="record")
    assert alone.status is srfx.Status.DIVERGED
    assert not alone.success
    assert np.isnan(alone.test_error)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_ridgeless_limit_that_no_simulation_draws(activation):
    model = srfx.SpikedRF(activation, "sin", r=1.5, gamma=0.9)
    with pytest.raises(srfx.ConvergenceError, match=r"\|k\| > 6, .* Use lam > 0"):
        srfx.solve(model, alpha=0.5, lam=0.0)
    assert np.isfinite(srfx.solve(model, alpha=0.5, lam=1e-4).test_error)
    assert np.isfinite(srfx.solve(model, alpha=2, lam=0.0).test_error)


def test_a_linear_activation_interpolates_at_the_smaller_of_one_and_beta():
    model = srfx.SpikedRF("linear", "tanh", beta=2)
    with pytest.raises(srfx.ConvergenceError, match="threshold alpha = 1: use lam > 0"):
        srfx.solve(model, alpha=1, lam=0.0)


def test_numbers_that_overflow_are_never_passed_off_as_results():
    huge = srfx.Activation(lambda x: 1e200 * np.tanh(x))
    sol = srfx.solve(srfx.SpikedRF(target=huge), alpha=1, lam=0.1, errors="record")
    assert not sol.success
    assert np.isnan(sol.test_error)
    with pytest.raises(
        srfx.ConvergenceError, match=r"rescale the activation or the target|larger lam"
    ):
        srfx.solve(srfx.SpikedRF(target=huge), alpha=1, lam=0.1)


# --- accuracy ---


def test_an_undeclared_kink_is_noticed_and_a_declared_one_is_exact():
    def fn(x):
        return np.maximum(x - 0.3, 0)

    with pytest.warns(srfx.AccuracyWarning, match=r"callable fn by srfx.*kinks=\[...\]") as caught:
        rough = srfx.solve(srfx.SpikedRF(fn, gamma=0.5), alpha=1.5, lam=0.1)
    assert caught[0].filename == __file__
    assert rough.quadrature_error > 1e-8
    exact = srfx.solve(
        srfx.SpikedRF(srfx.Activation(fn, kinks=[0.3]), gamma=0.5), alpha=1.5, lam=0.1
    )
    assert exact.quadrature_error < 1e-10
    assert rough.test_error == pytest.approx(exact.test_error, rel=1e-3)


@pytest.mark.parametrize(
    ("fn", "kinks", "name"),
    [
        (np.tanh, (), "tanh"),
        (np.sin, (), "sin"),
        (lambda x: np.maximum(x, 0), (0,), "relu"),
        (np.sign, (0,), "sign"),
        (lambda x: np.clip(x, -1, 1), (-1, 1), "hardtanh"),
        (lambda x: (x**3 - 3 * x) / np.sqrt(6), (), "hermite3"),
    ],
)
def test_a_callable_equals_the_name(fn, kinks, name):
    function = srfx.Activation(fn, kinks=kinks)
    for model, twin in [
        (srfx.SpikedRF(name, "sin", gamma=0.6), srfx.SpikedRF(function, "sin", gamma=0.6)),
        (srfx.SpikedRF("tanh", name, gamma=0.6), srfx.SpikedRF("tanh", function, gamma=0.6)),
    ]:
        a = srfx.solve(model, alpha=[0.5, 3], lam=0.05)
        b = srfx.solve(twin, alpha=[0.5, 3], lam=0.05)
        for error in ERRORS:
            np.testing.assert_allclose(getattr(b, error), getattr(a, error), rtol=1e-10)
    assert srfx.linear_floor(function) == pytest.approx(srfx.linear_floor(name), rel=1e-10)


# --- the other verbs ---


def test_bounds_of_the_paper():
    model = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=1.0)
    bounds = srfx.bounds(model)
    lower, upper = bounds
    assert (bounds.lower, bounds.upper) == (lower, upper)
    assert isinstance(lower, float)
    assert lower == pytest.approx(0.00166905, abs=5e-9)
    assert upper == pytest.approx(0.02910490, abs=5e-9)
    lam = np.logspace(-4, 1, 6)[:, None]
    errors = srfx.solve(model, alpha=np.logspace(-1, 3, 9), lam=lam).test_error
    assert (errors >= lower).all()
    assert srfx.solve(model, alpha=1e6, lam=0.1).test_error <= upper * (1 + 1e-6)


def test_bounds_broadcast():
    model = srfx.SpikedRF(r=[0.1, 0.9, 0.9], gamma=[[0.2], [1.0]], beta=np.ones(7)[:, None, None])
    lower, upper = srfx.bounds(model)
    assert lower.shape == upper.shape == (2, 3)
    alone = srfx.bounds(srfx.SpikedRF(r=0.1, gamma=1.0))
    assert (lower[1, 0], upper[1, 0]) == alone
    assert np.array_equal(lower[:, 1], lower[:, 2])
    assert (lower <= upper).all()


@pytest.mark.parametrize(
    ("name", "fn", "edges"),
    [
        ("sin", np.sin, ()),
        ("tanh", np.tanh, ()),
        ("relu", lambda z: np.maximum(z, 0), (0,)),
        ("sign", np.sign, (0,)),
        ("cos", np.cos, ()),
        ("hermite2", lambda z: (z * z - 1) / np.sqrt(2), ()),
    ],
)
def test_linear_floor(name, fn, edges):
    mean = gaussian_average(fn, edges)
    h1 = gaussian_average(lambda z: z * fn(z), edges)
    want = gaussian_average(lambda z: (fn(z) - mean - h1 * z) ** 2, edges)
    assert srfx.linear_floor(name) == pytest.approx(want, rel=1e-11)
    assert srfx.linear_floor(srfx.SpikedRF(target=name)) == srfx.linear_floor(name)
    assert srfx.linear_floor(srfx.OneStep(target=name)) == srfx.linear_floor(name)
    assert srfx.linear_floor(srfx.Activation(fn, kinks=edges)) == pytest.approx(want, rel=1e-11)


def test_linear_floor_of_a_linear_target_is_zero():
    assert srfx.linear_floor("linear") == srfx.linear_floor("hermite1") == 0


def test_learned_function_shape_and_parity():
    model = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=[[0.5], [1.0]])
    t = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.5, 2.0]])
    f = srfx.learned_function(model, [0.5, 2, 5], 0.1, t, d=500)
    assert f.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(f[..., 0, 0], -f[..., 0, 2], rtol=1e-10)
    np.testing.assert_allclose(f[..., 0, 1], 0, atol=1e-13)
    one = srfx.learned_function(srfx.SpikedRF("tanh", "sin", r=0.9, gamma=0.5), 2, 0.1, 2.0, d=500)
    assert one.shape == ()
    assert f[0, 1, 1, 2] == pytest.approx(float(one), rel=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_learned_function_carries_the_overlap_with_the_target(activation, gamma):
    """E[s* f] over t equals E[h C + h1 mu1 psi] over k (THEORY 8)."""
    model = srfx.SpikedRF(activation, "sin", r=0.9, c=1.2, gamma=gamma)
    sol = srfx.solve(model, alpha=3, lam=0.05)

    def integrand(k):
        core = _core.coefficients(
            _core.Activation(activation), _core.Activation("sin"), 0.9, 1.2, gamma, k
        )
        mean = core["mu0"] * sol.m + core["mu1"] * k * sol.theta
        return core["h"] * mean + core["h1"] * core["mu1"] * sol.psi

    over_k = gaussian_average(integrand)
    over_t = gaussian_average(lambda t: np.sin(t) * srfx.learned_function(model, 3, 0.05, t))
    assert over_t == pytest.approx(over_k, rel=1e-9)
    # averaging over everything but t removes variance and nothing else
    misfit = gaussian_average(lambda t: (np.sin(t) - srfx.learned_function(model, 3, 0.05, t)) ** 2)
    assert 0 < misfit < sol.test_error


def test_learned_function_of_an_aligned_spike():
    """gamma = 1: f(t) = mu0(t) m + mu1(t) t theta, here by another quadrature."""
    model = srfx.SpikedRF("softplus", "sin", r=0.9, gamma=1)
    sol = srfx.solve(model, alpha=3, lam=0.05)
    t = 0.7
    mu0 = gaussian_average(lambda z: np.logaddexp(0, 0.9 * t + z))
    mu1 = gaussian_average(lambda z: z * np.logaddexp(0, 0.9 * t + z))
    want = mu0 * sol.m + mu1 * t * sol.theta
    assert float(srfx.learned_function(model, 3, 0.05, t)) == pytest.approx(want, rel=1e-11)


def test_show_config(capsys):
    assert srfx.show_config() is None
    printed = capsys.readouterr().out
    config = srfx.show_config(mode="dicts")
    assert capsys.readouterr().out == ""
    keys = {"version", "compiler", "flags", "build_type", "instruction_set", "eigen", "openmp"}
    keys |= {"instruction_sets", "threads", "python", "numpy", "platform"}
    assert keys == set(config)
    for key, value in config.items():
        shown = "none" if value is None else str(value)
        assert any(line.split(None, 1) == [key, shown] for line in printed.splitlines()), key
    assert config["version"] == srfx.__version__


# --- threads, memory, interruption ---


def test_threads_do_not_change_a_bit():
    model = srfx.SpikedRF("relu", "tanh", gamma=np.linspace(0, 1, 5)[:, None])
    arguments = {"alpha": np.linspace(0.2, 3, 101), "lam": 0.01}
    one = srfx.solve(model, **arguments, n_threads=1)
    for n in (2, 3, 1000):
        many = srfx.solve(model, **arguments, n_threads=n)
        for name in OBSERVABLES:
            assert np.array_equal(getattr(one, name), getattr(many, name)), (n, name)


def test_callables_work_in_threads():
    model = srfx.SpikedRF(np.tanh, np.sin, gamma=np.linspace(0, 1, 5))
    one = srfx.solve(model, alpha=1, lam=0.1, n_threads=1)
    two = srfx.solve(model, alpha=1, lam=0.1, n_threads=2)
    assert np.array_equal(one.test_error, two.test_error)


def test_a_million_points_fit_in_200_megabytes_above_the_output(run_python):
    resource = pytest.importorskip("resource")
    unit = 1 if sys.platform == "darwin" else 1024
    code = f"""
import resource, numpy as np, srfx
from srfx.results import OBSERVABLES
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * {unit} / 1e6
srfx.solve(srfx.SpikedRF(), 1, 1)
before = peak()
model = srfx.SpikedRF(noise=np.linspace(0, 1, 1000))
sol = srfx.solve(model, np.linspace(0.2, 3, 1000)[:, None], np.linspace(0.1, 1, 1000), d=1000)
output = sum(getattr(sol, name).nbytes for name in OBSERVABLES) / 1e6
print(output, peak() - before - output)
"""
    assert resource.RUSAGE_SELF is not None
    output, above = map(float, run_python(code).split())
    assert output > 90
    assert above < 200


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_stops_a_long_solve():
    code = """
import numpy as np, srfx
model = srfx.SpikedRF("softplus", "sign", gamma=np.linspace(0, 1, 100_000)[:, None])
print("ready", flush=True)
try:
    srfx.solve(model, alpha=np.linspace(0.2, 3, 200), lam=1e-3, n_threads=1)
except KeyboardInterrupt:
    print("stopped")
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(1)
        assert process.poll() is None
        start = time.perf_counter()
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "stopped\n"
        assert time.perf_counter() - start < 2
        assert process.wait(10) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_answers():
    code = (
        "import os, signal, srfx\n"
        "m = srfx.SpikedRF(r=[[0.1], [0.5]])\n"
        "a = list(range(1, 200))\n"
        "srfx.solve(m, alpha=a, lam=0.1, n_threads=2)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    signal.alarm(20)\n"
        "    srfx.solve(m, alpha=a, lam=0.1, n_threads=2)\n"
        "    os._exit(0)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_callable_that_turns_complex_is_refused():
    def fn(x):
        return np.tanh(x) + (0j if x.size > 1000 else 0)

    with pytest.raises(ValueError, match="real numbers"):
        srfx.solve(srfx.SpikedRF(srfx.Activation(fn)), alpha=1, lam=0.1)
