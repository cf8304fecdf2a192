"""What holds for everything public: any errstate, arguments by name, copies, sizes, d = inf."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import pickle
import types

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import srfx
import srfx.cli
from srfx import _validation, reference

MODEL = srfx.OneStep("tanh", "sin", eta=2)
SPIKED = srfx.SpikedRF()
#: Below every limit: products of such numbers underflow.
TINY = 1e-200


def bell(x):
    """Underflow beyond |x| = 9, where the quadrature goes too."""
    return np.exp(-9 * x * x)


def bell_slope(x):
    return -18 * x * np.exp(-9 * x * x)


BELL = srfx.Activation(bell, bell_slope)


@functools.cache
def made(name):
    """What the functions take, made once, under NumPy's defaults."""
    makers = {
        "solution": lambda: srfx.solve(MODEL, alpha=[0.5, 1, 2], lam=0.1),
        "weights": lambda: srfx.simulation.sample_weights(MODEL, d=60),
        "bulk": lambda: srfx.EmpiricalBulk.from_weights(*made("weights")),
        "scan": lambda: srfx.scan(SPIKED, alpha=[0.5, 1, 2], lam=[0.1, 1], progress=False),
        "simulation": lambda: srfx.simulate(SPIKED, alpha=[1, 2], lam=0.1, d=50, replicates=3),
        "spectrum": lambda: srfx.feature_spectrum(SPIKED, 2, np.linspace(0.01, 4, 50)),
        "optimal": lambda: srfx.optimal(MODEL, {"lam": (1e-6, 1e2)}, alpha=[0.5, 1]),
        "thresholds": lambda: srfx.thresholds(
            srfx.SpikedRF(gamma=[0.3, 0.9]), lam=0.1, crossing={"alpha": (0.1, 10)}
        ),
    }
    return makers[name]()


def readout(n):
    return srfx.SpikedRF(readout=srfx.readout_quantiles("gaussian", n))


CALLS = {
    "Activation": lambda: srfx.Activation(bell, bell_slope),
    "solve": lambda: srfx.solve(
        MODEL, alpha=[1e-9, 1, 1e9], lam=[[1e-300], [1e-8], [1e300]], errors="record"
    ),
    "solve, tiny": lambda: srfx.solve(
        srfx.SpikedRF(r=TINY, noise=TINY, beta=TINY), alpha=TINY, lam=TINY, errors="record"
    ),
    "solve, callable": lambda: srfx.solve(srfx.SpikedRF(BELL, BELL), 1, 0.1, n_threads=2),
    "solve, one_step": lambda: srfx.solve(MODEL, [0.5, 1], 0.1, bulk="one_step"),
    "solve, weights": lambda: srfx.solve(MODEL, [0.5, 1], 0.1, bulk=made("bulk")),
    "solve, groups": lambda: srfx.solve(readout(4), 1, 0.1, d=100),
    "equivalent": lambda: srfx.OneStep(eta=TINY, alpha0=[0, 1e-150, np.inf]).equivalent(),
    "gradient": lambda: [
        made("solution").gradient(n) for n in ("lam", "alpha", "eta", "alpha0", "noise", "beta")
    ],
    "gradient, tiny": lambda: srfx.solve(srfx.OneStep(eta=TINY), 1, 0.1).gradient("alpha0"),
    "to_xarray": lambda: repr(made("solution").to_xarray()) + repr(made("solution")),
    "to_dataframe": lambda: made("solution").to_dataframe(),
    "bounds": lambda: srfx.bounds(srfx.SpikedRF(r=[TINY, 1, 1e3], gamma=TINY)),
    "linear_floor": lambda: srfx.linear_floor(bell),
    "learned_function": lambda: srfx.learned_function(MODEL, 1, 0.1, [-1e3, 0, 1e3]),
    "feature_spectrum": lambda: srfx.feature_spectrum(SPIKED, [0.1, 2], np.geomspace(TINY, 9, 9)),
    "optimal": lambda: srfx.optimal(MODEL, {"lam": (1e-300, 1e2)}, alpha=[0.5, 1]),
    "optimal, searched here": lambda: srfx.optimal(
        MODEL, {"lam": (1e-9, 1e2)}, alpha=1, bulk="one_step"
    ),
    "optimal, lam = 0": lambda: srfx.optimal(
        srfx.SpikedRF(target="abs"), {"r": (0.1, 3)}, alpha=2, lam=0, d=100
    ),
    "thresholds": lambda: srfx.thresholds(SPIKED, lam=1e-4),
    "thresholds, crossing": lambda: srfx.thresholds(MODEL, lam=0.1, crossing={"alpha": (0.1, 10)}),
    "simulate": lambda: srfx.simulate(
        srfx.OneStep(BELL, BELL, eta=1e-9), alpha=1, lam=1e-3, d=50, replicates=2
    ),
    "mean": lambda: srfx.simulation.mean(made("simulation")),
    "standard_error": lambda: srfx.simulation.standard_error(made("simulation")),
    "predictions": lambda: srfx.simulation.predictions(
        SPIKED, 1, 0.1, d=50, replicates=1, n_test=20
    ),
    "sample_weights": lambda: srfx.simulation.sample_weights(MODEL, d=50),
    "scan": lambda: srfx.scan(MODEL, alpha=[1, 2], lam=[1e-300, 0.1], progress=False),
    "scan, stored": lambda: stored(),
    "scan, simulated": lambda: srfx.scan(
        MODEL, alpha=[1, 2], lam=0.1, simulate={"d": 50, "replicates": 2}, progress=False
    ),
    "from_weights": lambda: srfx.EmpiricalBulk.from_weights(
        made("weights")[0] * 1e-65, made("weights")[1] * 1e-300, made("weights")[2] * 1e300
    ),
    "readout_quantiles": lambda: srfx.readout_quantiles("uniform", 5),
    "show_config": lambda: srfx.show_config("dicts"),
    "learning_curve": lambda: srfx.plot.learning_curve(made("solution")),
    "heatmap": lambda: srfx.plot.heatmap(made("scan")),
    "contours": lambda: srfx.plot.contours(made("scan")),
    "curves": lambda: srfx.plot.curves(made("scan"), "alpha"),
    "plot.spectrum": lambda: srfx.plot.spectrum(made("spectrum")),
    "plot.optima": lambda: srfx.plot.optima(made("optimal")),
    "plot.boundary": lambda: srfx.plot.boundary(made("thresholds")),
    "figure 4": lambda: srfx.figures.compute(
        "4", pairs=[("tanh", "sin")], d=50, replicates=2, alpha=[1, 2], progress=False
    ),
    "figure 3": lambda: srfx.figures.draw(srfx.figures.compute("3")),
    "figure spectrum": lambda: srfx.figures.compute("spectrum", d=50, progress=False),
    "srfx solve": lambda: srfx.cli.run(["solve", "--r=1e-200", "--alpha=1,2", "--lam=1"]),
    "reference.solve": lambda: reference.solve(
        "relu", "sin", r=0.9, c=1.0, gamma=0.7, beta=1.0, alpha=1.0, lam=0.1
    ),
    "reference.gaussian_mean": lambda: reference.gaussian_mean(bell),
    "reference.bounds": lambda: reference.bounds("tanh", "sin", r=0.9, c=1.0, gamma=1.0),
    "reference.linear_floor": lambda: reference.linear_floor(bell),
}


def stored():
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        srfx.scan(SPIKED, folder + "/a.zarr", alpha=[1, 2], lam=[1e-300, 1], progress=False)
        srfx.scans.export(folder + "/a.zarr", folder + "/a.nc")
        srfx.scans.open_scan(folder + "/a.zarr").load()


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore::srfx.AccuracyWarning", "ignore::srfx.ApproximationWarning")
def test_no_underflow_of_ours_reaches_the_caller(name):
    for needed in ("solution", "weights", "bulk", "scan", "simulation", "spectrum", "optimal"):
        made(needed)
    made("thresholds")
    with np.errstate(all="raise"):
        CALLS[name]()
        assert set(np.geterr().values()) == {"raise"}
    plt.close("all")


def test_callables_are_called_alike_in_every_thread():
    """Under NumPy's defaults, whatever the caller's settings are."""
    seen = []

    def fn(x):
        seen.append(tuple(np.geterr().values()))
        return np.tanh(x)

    for setting in ("raise", "warn", "ignore"):
        with np.errstate(all=setting):
            srfx.solve(srfx.SpikedRF(fn), alpha=1, lam=0.1, n_threads=2)
    assert set(seen) == {("warn", "warn", "ignore", "warn")}


# --- arguments -----------------------------------------------------------------------------------


def public_functions():
    """Every function, method and constructor that the documents list."""
    for name in srfx.scans.__all__:
        yield f"srfx.scans.{name}", getattr(srfx.scans, name)
    modules = (srfx.simulation, srfx.plot, srfx.figures)
    for name in srfx.__all__:
        thing = getattr(srfx, name)
        if isinstance(thing, types.FunctionType):
            yield name, thing
    for name in ("SpikedRF", "OneStep", "Activation"):
        yield name, getattr(srfx, name)
    yield "EmpiricalBulk.from_weights", srfx.EmpiricalBulk.from_weights
    for module in modules:
        for name, thing in vars(module).items():
            own = isinstance(thing, types.FunctionType) and thing.__module__ == module.__name__
            if own and not name.startswith("_"):
                yield f"{module.__name__}.{name}", thing
    for name in reference.__all__:
        if isinstance(getattr(reference, name), types.FunctionType):
            yield f"reference.{name}", getattr(reference, name)
    solution = srfx.solve(SPIKED, 1, 0.1)
    for name in ("gradient", "to_xarray", "to_dataframe", "columns", "at"):
        yield f"Solution.{name}", getattr(solution, name)
    yield "OneStep.equivalent", MODEL.equivalent


@pytest.mark.parametrize(("name", "function"), list(public_functions()))
def test_an_argument_that_a_function_does_not_have(name, function):
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        module, _, short = name.rpartition(".")
        if module == "srfx.plotting":  # the rest is for matplotlib
            with pytest.raises(AttributeError, match="unexpected keyword argument 'zzz'"):
                function(made("scan"), zzz=3)
            plt.close("all")
        elif short == "scan":
            with pytest.raises(ValueError, match=r"an axis must be one of .*'zzz'"):
                function(SPIKED, alpha=1, lam=1, zzz=3)
        else:
            arguments = ("3",) if short in ("make", "compute") else ()
            with pytest.raises(TypeError, match="no parameter 'zzz'"):
                function(*arguments, zzz=3)
        return
    short = name.split(".")[-1]
    has = ", ".join(parameters) or "none"
    with pytest.raises(TypeError) as error:
        function(zzz=3)
    assert str(error.value).endswith(f"has no argument 'zzz'; it has {has}; got zzz=3")
    assert short in str(error.value)


def test_keywords_of_other_functions():
    with pytest.raises(TypeError) as error:
        srfx.bounds(MODEL, bulk="one_step")
    assert str(error.value) == (
        "bounds has no argument 'bulk'; it has model, n_threads; got bulk='one_step'"
    )
    with pytest.raises(TypeError, match=r"^SpikedRF has no argument 'eta'; it has activation, "):
        srfx.SpikedRF(eta=1)
    with pytest.raises(TypeError, match=r"got lamb=1 \(did you mean 'lam'\?\)$"):
        srfx.solve(MODEL, alpha=1, lamb=1)
    with pytest.raises(TypeError, match=r"^OneStep has no argument 'gamma'"):
        dataclasses.replace(MODEL, gamma=1)


# --- sizes ---------------------------------------------------------------------------------------

MANY = np.linspace(0.1, 1, 200_000)
LARGE = {
    "solve": (lambda: srfx.solve(MODEL, MANY, MANY[:, None]), r"40000000000 points, of shape \("),
    "optimal": (
        lambda: srfx.optimal(srfx.SpikedRF(beta=MANY[:, None]), {"lam": (1, 2)}, alpha=MANY),
        r"points, of shape \(200000, 200000, 3\)",
    ),
    "thresholds": (
        lambda: srfx.thresholds(srfx.SpikedRF(beta=MANY[:, None]), lam=MANY),
        r"points, of shape \(200000, 200000, 3\)",
    ),
    "bounds": (lambda: srfx.bounds(srfx.SpikedRF(r=MANY, c=MANY[:, None])), "40000000000 points"),
    "spectrum": (lambda: srfx.feature_spectrum(SPIKED, MANY, MANY), "200000 spectra at 200000 x"),
    "learned": (
        lambda: srfx.learned_function(SPIKED, 1 + MANY, 0.1, np.zeros(10**6)),
        "200000 points at 1000000 t",
    ),
    "weights": (
        lambda: srfx.EmpiricalBulk.from_weights(np.ones((10**6, 2)), [1, 0], [0, 1]),
        r"W of shape \(1000000, 2\)",
    ),
    "sample_weights": (
        lambda: srfx.simulation.sample_weights(SPIKED, d=10**7),
        r"weights of shape \(10000000, 10000000\)",
    ),
    "predictions": (
        lambda: srfx.simulation.predictions(SPIKED, 1, 1, d=50, n_test=10**11),
        "1000000000000 points of 10 replicates",
    ),
    "figure": (lambda: srfx.figures.compute("spectrum", d=10**8), "d = 100000000, p = 100000000"),
}


@pytest.mark.parametrize("name", LARGE)
def test_sizes_beyond_memory_are_said(name):
    call, size = LARGE[name]
    with pytest.raises(ValueError, match=rf"{size}.* would need about .* GB of memory; .* GB are"):
        call()


def test_sizes_beyond_memory_on_the_command_line(capsys, monkeypatch):
    with monkeypatch.context() as small:
        small.setattr(_validation, "available_memory", lambda: 1e8)
        assert srfx.cli.run(["solve", "--r=1", "--alpha=0:1:100000000", "--lam=1"]) == 2
    assert "100000000 would need about 0.8 GB of memory; 0.1 GB are" in capsys.readouterr().err
    assert srfx.cli.run(["figure", "spectrum", "--d=100000000"]) == 2
    assert "d = 100000000, p = 100000000, n = 200000000 would" in capsys.readouterr().err


# --- d = inf -------------------------------------------------------------------------------------


def test_infinite_d_is_the_limit(tmp_path, capsys):
    limit = srfx.solve(MODEL, 2, 0.1)
    given = srfx.solve(MODEL, 2, 0.1, d=[np.inf, 100])
    assert given.test_error[0] == limit.test_error == srfx.solve(MODEL, 2, 0.1, d=np.inf).test_error
    assert given.test_error[1] == srfx.solve(MODEL, 2, 0.1, d=100).test_error
    assert given.gradient("eta")[0] == limit.gradient("eta")
    for bulk in ("isotropic", "one_step"):
        learned = [
            srfx.learned_function(MODEL, 2, 0.1, [0.5, 1], d=d, bulk=bulk) for d in (None, np.inf)
        ]
        assert np.array_equal(*learned)
        step = [srfx.solve(MODEL, 2, 0.1, d=d, bulk=bulk) for d in (None, np.inf)]
        assert step[0].test_error == step[1].test_error
    best = [srfx.optimal(MODEL, {"lam": (1e-3, 10)}, alpha=2, d=d) for d in (None, np.inf)]
    assert best[0].lam.item() == best[1].lam.item()
    peak = [srfx.thresholds(SPIKED, lam=1e-4, d=d).peak.item() for d in (None, np.inf)]
    assert peak[0] == peak[1]

    ds = srfx.scan(MODEL, tmp_path / "a.zarr", alpha=2, lam=0.1, d=[100, np.inf], progress=False)
    assert ds.test_error.sel(d=np.inf).item() == limit.test_error
    again = srfx.scan(MODEL, alpha=2, lam=0.1, d=np.inf, progress=False)
    assert again.test_error.item() == limit.test_error
    spec = tmp_path / "a.toml"
    spec.write_text(
        '[model]\ntype = "OneStep"\neta = 2\n[axes]\nalpha = 2\nlam = 0.1\nd = [100, inf]\n'
        f'[output]\npath = "{tmp_path / "b.zarr"}"\n'
    )
    assert srfx.cli.run(["scan", str(spec)]) == 0
    ds = srfx.scans.open_scan(tmp_path / "b.zarr")
    assert ds.test_error.sel(d=np.inf).item() == limit.test_error
    assert srfx.cli.run(["solve", "--eta=2", "--alpha=2", "--lam=0.1", "--d=inf,100"]) == 0
    assert f"inf  {limit.test_error:.10f}" in capsys.readouterr().out


def test_where_d_has_to_be_finite():
    with pytest.raises(ValueError, match=r"^d must be an integer >= 2 in a simulation.*got inf"):
        srfx.simulate(MODEL, 1, 0.1, d=np.inf)
    with pytest.raises(ValueError, match=r"^d must be an integer >= 2 in a simulation.*got inf"):
        srfx.scan(MODEL, alpha=1, lam=1, simulate={"d": np.inf}, progress=False)
    with pytest.raises(ValueError, match=r"^d must hold integers >= 2 in a simulation; got inf"):
        srfx.scan(MODEL, alpha=1, lam=1, d=[100, np.inf], simulate={}, progress=False)
    for d in (np.inf, [60, np.inf]):
        with pytest.raises(ValueError, match=r"^d must be None or that of the weights, 60"):
            srfx.solve(MODEL, 1, 0.1, d=d, bulk=made("bulk"))
    with pytest.raises(ValueError, match=r"^d must be None or that of the weights, 60"):
        srfx.scan(MODEL, alpha=1, lam=0.1, d=[60, np.inf], bulk=made("bulk"), progress=False)


# --- copies --------------------------------------------------------------------------------------


def failure():
    error = srfx.ConvergenceError("one of two", srfx.solve(MODEL, [1, 2], 0.1))
    error.add_note("a note")
    return error


THINGS = {
    "SpikedRF": lambda: srfx.SpikedRF(r=[0.1, 0.2], readout=(1, 2)),
    "OneStep": lambda: srfx.OneStep(BELL, np.tanh, eta=[[1], [2]]),
    "Activation": lambda: BELL,
    "Solution": lambda: made("solution"),
    "Solution of one point": lambda: srfx.solve(SPIKED, 1, 0.1),
    "Solution of weights": lambda: srfx.solve(MODEL, [1, 2], 0.1, bulk=made("bulk")),
    "EmpiricalBulk": lambda: made("bulk"),
    "Bounds": lambda: srfx.bounds(srfx.SpikedRF(r=[0.1, 0.2])),
    "Status": lambda: srfx.Status.DIVERGED,
    "ConvergenceError": failure,
    "AccuracyWarning": lambda: srfx.AccuracyWarning("rough"),
    "optimal": lambda: made("optimal"),
    "thresholds": lambda: made("thresholds"),
    "simulation": lambda: made("simulation"),
    "scan": lambda: made("scan"),
    "spectrum": lambda: made("spectrum"),
}
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {p}": lambda x, p=p: pickle.loads(pickle.dumps(x, p))
        for p in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


def same(a, b):
    """Equal all the way down, and as read-only as the original."""
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert a.flags.writeable <= b.flags.writeable
        return np.array_equal(a, b, equal_nan=True)
    if isinstance(a, xr.Dataset):
        return a.identical(b)
    if dataclasses.is_dataclass(a):
        names = [f.name for f in dataclasses.fields(a)]
        return all(same(getattr(a, n), getattr(b, n)) for n in names)
    if isinstance(a, BaseException):
        return a.args == b.args and all(same(vars(a)[k], vars(b)[k]) for k in vars(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in b)
    if isinstance(a, tuple):
        return all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", THINGS)
def test_copies_are_alike_and_as_frozen(name, how):
    thing = THINGS[name]()
    if isinstance(thing, xr.Dataset) and how in ("pickle 0", "pickle 1"):
        pytest.skip("xarray's own classes have slots, which these protocols do not know")
    twin = COPIES[how](thing)
    assert same(twin, thing)
    assert repr(twin) == repr(thing)
    if dataclasses.is_dataclass(thing):
        field = dataclasses.fields(thing)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(twin, field, None)
        assert same(dataclasses.replace(thing), thing)
        plain = dataclasses.asdict(thing)
        assert list(plain) == [f.name for f in dataclasses.fields(thing)]


def test_a_lambda_is_copied():
    model = srfx.SpikedRF(srfx.Activation(lambda x: np.tanh(x), kinks=[1]))
    for twin in (copy.copy(model), copy.deepcopy(model), dataclasses.replace(model)):
        assert twin == model
    assert dataclasses.asdict(model)["activation"]["kinks"] == (1.0,)


@pytest.mark.parametrize("how", COPIES)
def test_arguments_stay_read_only(how):
    solution = COPIES[how](made("solution"))
    for change in (
        lambda x: x.update(lam=1),
        lambda x: x.pop("lam"),
        lambda x: x.clear(),
        lambda x: x.setdefault("new", 1),
        lambda x: x.__setitem__("lam", 1),
        lambda x: x.__delitem__("lam"),
        lambda x: x.__ior__({"lam": 1}),
    ):
        with pytest.raises(TypeError, match="read-only"):
            change(solution.arguments)
    with pytest.raises(ValueError, match="read-only"):
        solution.arguments["alpha"][0] = 3
    assert solution.arguments["lam"] == 0.1
    plain = dataclasses.asdict(solution)
    assert plain["model"]["eta"] == 2.0
    assert plain["arguments"]["alpha"].tolist() == [0.5, 1.0, 2.0]
