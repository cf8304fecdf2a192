"""Bad input is refused before any work, naming the argument, the value and what is allowed."""

import fractions
import multiprocessing

import numpy as np
import pytest

import srfx
from srfx import _core
from srfx._validation import thread_count

NAN, INF = float("nan"), float("inf")


def spiked(**fields):
    return lambda: srfx.SpikedRF(**fields)


def one_step(**fields):
    return lambda: srfx.OneStep(**fields)


def solve(**arguments):
    return lambda: srfx.solve(srfx.SpikedRF(), **{"alpha": 1, "lam": 0.1, **arguments})


def activation(*args, **kwargs):
    return lambda: srfx.Activation(*args, **kwargs)


#: (where, argument, allowed values)
NUMERIC = [
    (spiked, "r", "finite"),
    (spiked, "c", "finite and > 0"),
    (spiked, "gamma", "between -1 and 1"),
    (spiked, "beta", "finite and > 0"),
    (spiked, "noise", "finite and >= 0"),
    (one_step, "eta", "finite"),
    (one_step, "alpha0", ">= 0 (inf is allowed)"),
    (one_step, "beta", "finite and > 0"),
    (one_step, "noise", "finite and >= 0"),
    (solve, "alpha", "finite and > 0"),
    (solve, "lam", "finite and >= 0"),
    (solve, "d", "None or inf (the limit), or >= 1"),
]
WRONG_TYPES = [
    ("0.5", "'0.5'"),
    (b"1", "b'1'"),
    (True, "True"),
    (np.True_, "True"),
    (1 + 0j, "(1+0j)"),
    (np.complex64(1), "1"),
    ({"a": 1}, "{'a': 1}"),
    (np.array([True, False]), "booleans"),
    (np.array([1.0 + 0j]), "complex numbers"),
    (["a", "b"], "text"),
    ([1.0, None], "dtype object"),
    (np.array([object()]), "dtype object"),
    (np.array(["2020-01-01"], dtype="datetime64[D]"), "dtype datetime64"),
    (np.ma.masked_array([1.0, 1.0], mask=[0, 1]), "a masked array"),
]


@pytest.mark.parametrize(("where", "name", "allowed"), NUMERIC)
@pytest.mark.parametrize(("value", "shown"), WRONG_TYPES, ids=[s for _, s in WRONG_TYPES])
def test_wrong_types(where, name, allowed, value, shown):
    with pytest.raises(TypeError) as error:
        where(**{name: value})()
    message = str(error.value)
    assert message.startswith(f"{name} must be {allowed} (a real number or an array of them); got ")
    assert shown in message


@pytest.mark.parametrize(("where", "name", "allowed"), NUMERIC)
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_nan_and_infinity(where, name, allowed, bad):
    if name == "alpha0" and bad == INF:
        assert where(alpha0=INF)().alpha0 == INF
        return
    if name == "d" and bad == INF:  # the limit
        assert where(d=INF)().test_error == where(d=None)().test_error
        return
    with pytest.raises(ValueError, match=f"^{name} must be ") as error:
        where(**{name: bad})()
    assert str(error.value) == f"{name} must be {allowed}; got {bad!r}"
    with pytest.raises(ValueError, match=r".") as error:
        where(**{name: [[1.0, 1.0], [1.0, bad]]})()
    assert str(error.value) == f"{name} must be {allowed}; got {bad!r} at index (1, 1)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (spiked(c=0), "c must be finite and > 0; got 0.0"),
        (spiked(c=[1, 2, -3]), "c must be finite and > 0; got -3.0 at index 2"),
        (spiked(beta=0), "beta must be finite and > 0; got 0.0"),
        (one_step(beta=-1), "beta must be finite and > 0; got -1.0"),
        (solve(alpha=0), "alpha must be finite and > 0; got 0.0"),
        (solve(alpha=[1, -2]), "alpha must be finite and > 0; got -2.0 at index 1"),
        (solve(lam=-1e-9), "lam must be finite and >= 0; got -1e-09"),
        (spiked(gamma=1.0000001), "gamma must be between -1 and 1; got 1.0000001"),
        (spiked(gamma=-1.5), "gamma must be between -1 and 1; got -1.5"),
        (spiked(noise=-0.1), "noise must be finite and >= 0; got -0.1"),
        (one_step(noise=-0.1), "noise must be finite and >= 0; got -0.1"),
        (one_step(alpha0=-1), "alpha0 must be >= 0 (inf is allowed); got -1.0"),
        (
            one_step(alpha0=1e-320),
            "alpha0 must be 0, or at least 1e-150 (inf is allowed); got 1e-320",
        ),
        (solve(d=0.5), "d must be None or inf (the limit), or >= 1; got 0.5"),
        (spiked(r=10**400), "r must be finite; got an integer beyond float64"),
        (
            spiked(r=[[1, 2], [3]]),
            "r must be finite; got a nested sequence with rows of unequal length",
        ),
        (
            spiked(r=[1, 2], beta=[1, 2, 3]),
            "these shapes do not broadcast against each other: r (2,), beta (3,)",
        ),
        (
            one_step(eta=np.ones((2, 3)), noise=np.ones((2, 1, 2))),
            "these shapes do not broadcast against each other: eta (2, 3), noise (2, 1, 2)",
        ),
        (
            solve(alpha=[1, 2], lam=[[1, 2, 3]], d=[9, 9]),
            "these shapes do not broadcast against each other: lam (1, 3), alpha (2,), d (2,)",
        ),
        (
            spiked(weights=(0.5,)),
            "weights must sum to one within 1e-12; got (0.5,), which sum to 0.5",
        ),
        (
            spiked(readout=(1, 2), weights=(0.5, 0.5 + 1e-11)),
            "weights must sum to one within 1e-12; got (0.5, 0.50000000001), "
            "which sum to 1.00000000001",
        ),
        (
            one_step(readout=(1, 2), weights=(1,)),
            "weights must have one entry for each value of readout (2); got 1: (1.0,)",
        ),
        (spiked(readout=(1, 2), weights=(1.5, -0.5)), "weights must be positive; got (1.5, -0.5)"),
        (spiked(readout=(1, 2), weights=(1, 0)), "weights must be positive; got (1.0, 0.0)"),
        (
            spiked(readout=()),
            "readout must be a non-empty sequence of finite numbers, as in (1.0,); "
            "got an array of shape (0,)",
        ),
        (
            spiked(readout=(1, NAN)),
            "readout must be a non-empty sequence of finite numbers, as in (1.0,); "
            "got nan at index 1",
        ),
        (
            spiked(readout=[[1, 2]]),
            "readout must be a non-empty sequence of finite numbers, as in (1.0,); "
            "got an array of shape (1, 2)",
        ),
        (
            solve(bulk="isotopic"),
            "bulk must be one of 'isotropic', 'one_step', 'multi_step'; got 'isotopic' "
            "(did you mean 'isotropic'?)",
        ),
        (solve(errors="ignore"), "errors must be one of 'raise', 'record'; got 'ignore'"),
        (
            solve(n_threads=0),
            "n_threads must be None (all processors this process may use) or an integer >= 1; "
            "got 0",
        ),
        (
            lambda: srfx.show_config(mode="dict"),
            "mode must be one of 'stdout', 'dicts'; got 'dict' (did you mean 'dicts'?)",
        ),
        (
            lambda: srfx.learned_function(srfx.SpikedRF(), 1, 0.1, [0, NAN]),
            "t must be finite; got nan at index 1",
        ),
        (
            lambda: srfx.bounds(srfx.SpikedRF(), n_threads=-1),
            "n_threads must be None (all processors this process may use) or an integer >= 1; "
            "got -1",
        ),
    ],
)
def test_values_out_of_range(make, message):
    with pytest.raises(ValueError, match=r".") as error:
        make()
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (spiked(readout=1.0), "readout must be a non-empty sequence of finite numbers"),
        (spiked(readout="1"), "readout must be a non-empty sequence of finite numbers"),
        (spiked(readout=("a",)), "readout must be a non-empty sequence of finite numbers"),
        (spiked(weights=1.0), r"weights must be None \(equal weights\) or a sequence"),
        (spiked(activation=3), "activation must be a name .*, a callable or an srfx.Activation"),
        (
            one_step(target=None),
            "target must be a name .*, a callable, an srfx.Activation or an srfx.Target",
        ),
        (solve(n_threads=2.0), "n_threads must be None .* or an integer >= 1; got 2.0"),
        (solve(n_threads=True), "n_threads must be None .* or an integer >= 1; got True"),
        (
            solve(bulk=None),
            "bulk must be 'isotropic', 'one_step', 'multi_step' or an EmpiricalBulk; got None",
        ),
        (solve(errors=True), "errors must be one of 'raise', 'record'; got True"),
        (solve(lam=None), "lam must be finite and >= 0 .*; got None"),
        (lambda: srfx.solve("tanh", 1, 1), "model must be an srfx.SpikedRF or an srfx.OneStep"),
        (lambda: srfx.bounds(3), "model must be an srfx.SpikedRF or an srfx.OneStep; got 3"),
        (lambda: srfx.linear_floor(3), "target must be a name .*; got 3"),
        (activation("tanh"), "fn must be callable; got 'tanh' .a name needs no Activation"),
        (activation(3), "fn must be callable; got 3"),
        (activation(np.tanh, derivative=2), "derivative must be None or callable; got 2"),
        (activation(np.tanh, kinks=0.0), "kinks must be a sequence of finite numbers; got 0.0"),
        (activation(np.tanh, kinks=["a"]), "kinks must be a sequence of finite numbers"),
    ],
)
def test_arguments_of_the_wrong_type(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize("name", ["activation", "target"])
@pytest.mark.parametrize("make", [spiked, one_step])
def test_an_unknown_name_lists_the_names_and_the_nearest(make, name):
    with pytest.raises(ValueError, match=f"^{name} must be one of") as error:
        make(**{name: "ReLu"})()
    for known in _core.activation_names():
        assert repr(known) in str(error.value)
    assert str(error.value).endswith("got 'ReLu' (did you mean 'relu'?)")
    with pytest.raises(ValueError, match=r"got 'zzzz'$"):
        make(**{name: "zzzz"})()
    with pytest.raises(ValueError, match="did you mean 'leaky_relu'"):
        srfx.linear_floor("leaky-relu")


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (
            lambda x: 1.0,
            r"fn must return one value for each input: given shape \(24,\) it returned",
        ),
        (lambda x: x[:-1], r"given shape \(24,\) it returned shape \(23,\)"),
        (lambda x: x[None], r"given shape \(24,\) it returned shape \(1, 24\)"),
        (
            lambda x: np.where(x > 1, np.nan, x),
            "fn must return finite values; at .* it returned nan",
        ),
        (lambda x: np.exp(x**4), "fn must return finite values; at .* it returned inf"),
        (lambda x: None, "fn must return an array of real numbers; it returned .*NoneType"),
        (lambda x: x + 1j, "fn must return an array of real numbers"),
        (lambda x: ["a"] * len(x), "fn must return an array of real numbers"),
        (lambda x: [[1], [1, 2]], "fn must return an array of real numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_callables_that_misbehave(fn, message):
    with pytest.raises(ValueError, match=message):
        srfx.Activation(fn)
    with pytest.raises(ValueError, match=message):
        srfx.SpikedRF(activation=fn)
    with pytest.raises(ValueError, match=message):
        srfx.linear_floor(fn)


@pytest.mark.parametrize("name", ["sin", " ", "a\ud800", "a\n"])
def test_names_of_callables(name):
    with pytest.raises(ValueError, match=r"name must be printable text, .*; got ") as caught:
        srfx.Activation(np.tanh, name=name)
    assert str(caught.value).endswith(f"got {name!r}")
    assert srfx.Activation(np.tanh, name="weich tänh").name == "weich tänh"


def test_a_callable_that_misbehaves_only_when_solved():
    fn = srfx.Activation(lambda x: np.where(np.abs(x) > 6.5, np.nan, x))
    with pytest.raises(ValueError, match="must return finite values"):
        srfx.solve(srfx.SpikedRF(fn), alpha=1, lam=0.1)
    fn = srfx.Activation(lambda x: x if len(x) == 24 else x[:-1])
    with pytest.raises(ValueError, match="must return one value for each input"):
        srfx.solve(srfx.SpikedRF(target=fn, gamma=0.5), alpha=1, lam=0.1)


def test_what_a_callable_raises_comes_through():
    class Oops(Exception):
        pass

    def fn(x):
        if len(x) != 24:
            raise Oops("mine")
        return x

    with pytest.raises(Oops, match="mine"):
        srfx.solve(srfx.SpikedRF(fn), alpha=[1, 2], lam=0.1, n_threads=2)


def test_a_wrong_derivative_is_caught():
    with pytest.raises(ValueError, match="derivative must be the derivative of fn"):
        srfx.Activation(np.tanh, derivative=lambda x: 1 - np.tanh(x))
    with pytest.raises(ValueError, match="derivative must return one value"):
        srfx.Activation(np.tanh, derivative=lambda x: 0.0)
    # right, with a jump at a declared kink; in single precision too
    kink = float(np.linspace(-6.1, 6.1, 24)[13])
    srfx.Activation(
        lambda x: np.maximum(x - kink, 0).astype(np.float32),
        derivative=lambda x: (x > kink).astype(float),
        kinks=[kink],
    )


def test_one_step_needs_a_derivative():
    with pytest.raises(ValueError, match=r"activation must be continuous for OneStep.*'sign'"):
        srfx.OneStep("sign")
    with pytest.raises(ValueError, match=r"pass srfx.Activation\(fn, derivative=...\)"):
        srfx.OneStep(np.tanh)
    assert srfx.OneStep(target="sign").target == "sign"


def test_an_infinite_step_is_refused():
    with pytest.raises(ValueError, match="eta must be smaller or alpha0 larger"):
        srfx.OneStep(eta=1e200).equivalent()


def test_a_readout_that_leaves_no_bulk_variance():
    with pytest.raises(ValueError, match=r"c must exceed 1 - 1/readout\^2 = 0.75"):
        srfx.solve(srfx.SpikedRF(c=0.5, readout=(2,)), 1, 0.1)


def test_unusual_but_real_numbers_are_welcome():
    model = srfx.SpikedRF(
        r=fractions.Fraction(1, 2), c=np.longdouble(2), gamma=np.int8(1), beta=np.array(3, np.uint8)
    )
    assert (model.r, model.c, model.gamma, model.beta) == (0.5, 2.0, 1.0, 3.0)
    assert srfx.SpikedRF(r=range(3)).r.tolist() == [0.0, 1.0, 2.0]
    unmasked = np.ma.masked_array([1.0, 2.0])
    assert srfx.SpikedRF(r=unmasked).r.tolist() == [1.0, 2.0]


def test_thread_count_outside_and_inside_a_worker():
    assert thread_count(3) == 3
    assert thread_count(np.int64(2)) == 2
    assert thread_count(None) >= 1
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(thread_count, (None,)) == 1
        assert pool.apply(thread_count, (2,)) == 2


def test_thread_count_follows_the_allowed_processors(run_python):
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from srfx._validation import thread_count; print(thread_count(None))"
    )
    if not hasattr(__import__("os"), "sched_setaffinity"):
        pytest.skip("no processor affinity on this platform")
    assert run_python(code).strip() == "1"
