"""Targets of several directions, and the models that have them, several spikes or several steps."""

import copy
import pickle
import re

import numpy as np
import pytest

import srfx
from srfx import _core, _identity
from srfx.models import MultiStep, group_count, probabilities, target_of, with_fields
from srfx.targets import Target, compiled_target, probe


def bent(a, b):
    return a + np.abs(a - b)


@pytest.mark.parametrize("directions", [2, 3, 5])
@pytest.mark.parametrize(
    ("name", "fn"),
    [
        ("product", lambda t: np.prod(t, axis=0)),
        ("sign_product", lambda t: np.prod(np.sign(t), axis=0)),
        ("max", lambda t: np.max(t, axis=0)),
    ],
)
def test_named_targets(name, fn, directions):
    t = np.random.default_rng(0).standard_normal((directions, 100))
    t[0, 0] = 0.0
    np.testing.assert_allclose(Target(name, directions)(*t), fn(t), rtol=1e-15)


def test_the_core_calls_the_function_with_one_array_for_each_direction():
    calls = []

    def fn(a, b, c):
        calls.append((a.shape, b.dtype))
        return a + 2 * b - c

    core = compiled_target(Target(fn, 3))
    t = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(_core.evaluate_target(core, t), t[0] + 2 * t[1] - t[2])
    assert calls[-1] == ((4,), np.dtype(float))


@pytest.mark.parametrize(
    ("fn", "error", "words"),
    [
        (lambda a, b: a[:1], ValueError, "one value for each input"),
        (lambda a, b: a / (b * 0), ValueError, "finite values; at (-6.1, "),
        (lambda a, b: a + 1j, ValueError, "real numbers"),
        (lambda a: a, ValueError, "fn must take 2 arrays, one for each direction"),
        (np.tanh, ValueError, "takes 1"),
        ("prodct", ValueError, "did you mean 'product'?"),
        (3, TypeError, "fn must be a name (product, sign_product, max) or callable; got 3"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_bad_functions(fn, error, words):
    with pytest.raises(error, match=re.escape(words)):
        Target(fn, directions=2)


@pytest.mark.parametrize("fn", [lambda a, b: a * b, np.maximum])
def test_a_function_of_two_arrays_that_is_no_target(fn):
    words = re.escape("fn must take one array (one of several is an srfx.Target(fn, directions=")
    for use in (srfx.SpikedRF, srfx.OneStep):
        with pytest.raises(ValueError, match=words):
            use("tanh", fn)
    with pytest.raises(ValueError, match=words):
        srfx.linear_floor(fn)


def test_errors_of_the_function_come_through_the_core():
    tried = []

    def fn(a, b):
        if tried:
            raise ArithmeticError("not there")
        tried.append(1)
        return a * b

    core = compiled_target(Target(fn, 2))
    with pytest.raises(ArithmeticError, match="not there"):
        _core.evaluate_target(core, probe(2))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"directions": 0}, ValueError, "directions must be an integer from 1 to 16; got 0"),
        ({"directions": 2.0}, TypeError, "directions must be an integer"),
        ({"kinks": [(1, 2)]}, TypeError, "n of a plane in kinks must be 2 finite numbers; got 1"),
        ({"kinks": [((1, 2, 3), 0)]}, ValueError, "n of 2 finite numbers"),
        ({"kinks": [((0, 0), 1)]}, ValueError, "not all zero"),
        ({"kinks": [((1, 0), "x")]}, TypeError, "b of a plane in kinks must be finite"),
        ({"kinks": 3}, TypeError, "kinks must be a sequence of planes (n, b)"),
        ({"name": "max"}, ValueError, "not that of a function srfx has"),
    ],
)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=re.escape(words)):
        Target(bent, **{"directions": 2, **arguments})


def test_a_named_target_takes_no_kinks():
    with pytest.raises(ValueError, match="kinks must not be given with the name 'max'"):
        Target("max", 2, kinks=[((1, 0), 0)])


def test_targets_compare_by_what_was_given():
    a, b = (Target(bent, 2, kinks=[((1, -1), 0), ((1, -1), 0)]) for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)
    assert len(a.kinks) == 1
    assert a != Target(bent, 2)
    assert a != Target("max", 2)
    assert Target("parity", 3) == Target("sign_product", 3)
    assert pickle.loads(pickle.dumps(a)) == a == copy.deepcopy(a)


def test_named_targets_know_their_planes():
    assert compiled_target(Target("max", 3)).kinks == [
        ([1, -1, 0], 0),
        ([1, 0, -1], 0),
        ([0, 1, -1], 0),
    ]
    assert compiled_target(Target("product", 3)).kinks == []
    assert len(compiled_target(Target("sign_product", 3)).kinks) == 3


def test_one_direction_is_a_function_of_one_variable():
    assert srfx.SpikedRF(target=Target("sign_product", 1)).target == "sign"
    assert srfx.SpikedRF(target=Target("max", 1)).target == "linear"
    target = srfx.SpikedRF(target=Target(np.abs, 1, kinks=[((2,), 3)])).target
    assert target == srfx.Activation(np.abs, kinks=[1.5])
    core = target_of(srfx.SpikedRF(target="relu"))
    assert core.directions == 1
    assert core.kinks == [([1], 0)]


def test_names_stand_for_two_directions():
    model = srfx.SpikedRF(target="product", gamma=(0.6, -0.7))
    assert model.target == Target("product", 2)
    assert model.directions == 2
    assert "gamma" not in model.numeric
    assert eval(repr(model), {**vars(srfx), "Target": Target}) == model
    with pytest.raises(ValueError, match="'max'"):
        srfx.SpikedRF(target="mx")


@pytest.mark.parametrize("gamma", [1.0, (0.5,), (0.8, 0.7), (0.1, 0.2, 0.3)])
def test_bad_gamma_of_several_directions(gamma):
    with pytest.raises((ValueError, TypeError), match="gamma must be 2 numbers"):
        srfx.SpikedRF(target="max", gamma=gamma)


SPIKES, ALIGNMENT = [[1, 0.3], [-0.4, 1.2], [0, 1]], [[0.8, 0.1], [-0.2, 0.7]]


def test_several_spikes():
    model = srfx.SpikedRF(target="max", spikes=SPIKES, alignment=ALIGNMENT)
    assert model.r == 1.0
    assert model.spikes.shape == (3, 2)
    assert group_count(model) == 3
    assert probabilities(model) == (1 / 3,) * 3
    assert model.numeric_names == ("r", "c", "beta", "noise")
    assert with_fields(model, {"r": 2.0}).r == 2.0
    assert eval(repr(model), {**vars(srfx), "Target": Target}) == model
    assert pickle.loads(pickle.dumps(model)) == model != with_fields(model, {"c": 2.0})
    with pytest.raises(ValueError, match="read-only"):
        model.spikes[0, 0] = 1
    different = srfx.SpikedRF(
        target="max",
        spikes=SPIKES,
        alignment=ALIGNMENT,
        variances=(1, 2, 3),
        weights=(0.5, 0.3, 0.2),
    )
    assert different.numeric_names == ("r", "beta", "noise")
    assert srfx.SpikedRF().r == 0.9


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"spikes": [1, 2]}, ValueError, "spikes must be an array of finite numbers of shape (any"),
        ({"spikes": [[1, np.nan]]}, ValueError, "got nan at index (0, 1)"),
        ({"alignment": None}, ValueError, "alignment must be given with spikes, of shape (2, 2)"),
        ({"alignment": [[0.5, 0.5]]}, ValueError, "shape (2, 2), one row for each direction"),
        ({"alignment": [[1, 0], [0.2, 0.9]]}, ValueError, "at most 1"),
        ({"readout": (2.0,)}, ValueError, "readout must not be given with spikes"),
        ({"gamma": 0.5}, ValueError, "gamma must not be given with spikes"),
        ({"variances": (1, 2)}, ValueError, "variances must be None (c for every group) or 3"),
        ({"variances": (1, 2, 0)}, ValueError, "> 0"),
        ({"variances": (1, 2, 3), "c": 2}, ValueError, "c must not be given with variances"),
        ({"weights": (0.5, 0.5)}, ValueError, "one entry for each row of spikes (3)"),
        ({"spikes": None}, ValueError, "alignment must not be given without spikes"),
    ],
)
def test_bad_spikes(arguments, error, words):
    fields = {"target": "max", "spikes": SPIKES, "alignment": ALIGNMENT, **arguments}
    with pytest.raises(error, match=re.escape(words)):
        srfx.SpikedRF(**fields)


def test_several_steps():
    model = MultiStep("tanh", "max", eta=(3, [1, 2]), alpha0=(0.5, np.inf), readout=(0.5, 2))
    assert model.steps == 2
    assert model.shape == (2,)
    assert model.numeric_names == ("eta1", "eta2", "alpha0_1", "alpha0_2", "beta", "noise")
    other = with_fields(model, {"eta2": 5.0, "beta": 2.0})
    assert other.eta == (3.0, 5.0)
    assert other.alpha0 == (0.5, np.inf)
    assert other.beta == 2.0
    assert pickle.loads(pickle.dumps(model)) == model != other
    assert eval(repr(other), {**vars(srfx), **globals(), "inf": np.inf}) == other


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"eta": (1, 2), "alpha0": (1,)}, ValueError, "one entry for each step; got 2 and 1"),
        (
            {"eta": 1.0},
            TypeError,
            "eta must be a sequence with one entry for each of 1 to 16 steps",
        ),
        ({"eta": ()}, ValueError, "got 0 entries"),
        ({"eta": (1, np.nan)}, ValueError, "eta2 must be finite; got nan"),
        ({"alpha0": (1, -1)}, ValueError, "alpha0_2 must be >= 0"),
        ({"activation": "sign"}, ValueError, "activation must be continuous for MultiStep"),
        ({"activation": np.tanh}, ValueError, "must have a derivative for MultiStep"),
        ({"eta": ([1, 2], [1, 2, 3])}, ValueError, "do not broadcast"),
    ],
)
def test_bad_steps(arguments, error, words):
    with pytest.raises(error, match=re.escape(words)):
        MultiStep(**arguments)


def test_scans_know_targets_by_their_values():
    known = _identity.of_function(Target(bent, 2, kinks=[((1, -1), 0)]))
    same = _identity.of_function(
        Target(lambda a, b: a + np.maximum(a - b, b - a), 2, kinks=[((1, -1), 0)])
    )
    other = _identity.of_function(Target(lambda a, b: b + np.abs(a - b), 2, kinks=[((1, -1), 0)]))
    spec = {"target": known}
    assert not list(_identity.differences(spec, {"target": same}, {}))
    assert "of their values a mean is" in next(_identity.differences(spec, {"target": other}, {}))
    assert _identity.of_function(Target("max", 3)) == "max of 3"
    assert list(_identity.differences(spec, {"target": "max of 2"}, {}))


class TestGivenWeights:
    MODEL = srfx.OneStep("tanh", "product", eta=2, alpha0=1)

    def test_fields(self):
        w, v, theta = srfx.simulation.sample_weights(self.MODEL, d=60)
        bulk = srfx.EmpiricalBulk.from_weights(w, v, theta)
        assert bulk.directions == 2
        assert bulk.vectors.shape == (5, 60)
        assert np.allclose(bulk.gamma, theta @ v / 60)
        # the zhat are orthonormal, and v with them spans theta
        unit = v / np.sqrt(60)
        gamma = theta @ unit / np.sqrt(60)
        values, vectors = np.linalg.eigh(np.eye(2) - np.outer(gamma, gamma))
        z = (vectors / np.sqrt(values)) @ vectors.T @ (theta / np.sqrt(60) - np.outer(gamma, unit))
        assert np.allclose(z @ z.T, np.eye(2))
        size = np.sum(bulk.vectors**2, axis=1)
        assert np.allclose(size[1:3], ((w @ z.T) ** 2).sum(axis=0))
        assert "gamma = " in repr(bulk)

    def test_one_row_is_a_vector(self):
        w, v, theta = srfx.simulation.sample_weights(srfx.OneStep(), d=50)
        one = srfx.EmpiricalBulk.from_weights(w, v, theta)
        rows = srfx.EmpiricalBulk.from_weights(w, v[np.newaxis], theta[np.newaxis])
        np.testing.assert_array_equal(one.vectors, rows.vectors)
        assert rows.gamma == one.gamma

    def test_the_spike_is_the_mean_row_in_the_span(self):
        w, v, theta = srfx.simulation.sample_weights(srfx.OneStep(eta=3), d=80)
        mean = w.mean(axis=0)
        one = srfx.EmpiricalBulk.from_weights(w, mean, theta)
        two = srfx.EmpiricalBulk.from_weights(w, [mean + 0.3 * v, v], theta)
        assert two.r == pytest.approx(one.r, rel=1e-10)
        assert two.c == pytest.approx(one.c, rel=1e-10)
        assert two.gamma == pytest.approx(one.gamma, rel=1e-10)

    @pytest.mark.parametrize(
        ("v", "theta", "words"),
        [
            (np.ones((2, 10)), np.ones(10), "v must have independent rows"),
            (np.ones(10), np.ones((2, 10)), "theta must have orthogonal rows"),
            (np.ones(10), np.eye(10)[:2] * 0, "a row of theta must not be the zero vector"),
            (np.eye(9)[:2], np.ones(10), "v must be a vector of length d = 10"),
        ],
    )
    def test_refusals(self, v, theta, words):
        w = np.random.default_rng(0).standard_normal((12, 10))
        with pytest.raises(ValueError, match=words):
            srfx.EmpiricalBulk.from_weights(w, v, theta)

    def test_directions_have_to_fit(self):
        w, v, theta = srfx.simulation.sample_weights(self.MODEL, d=50)
        bulk = srfx.EmpiricalBulk.from_weights(w, v, theta)
        with pytest.raises(ValueError, match="as many directions as the target of the model, 1"):
            srfx.solve(srfx.OneStep(), 1, 0.1, bulk=bulk)


def test_kinks_in_many_directions_are_refused_at_once():
    many = srfx.Target("max", directions=4)
    with pytest.raises(NotImplementedError, match="at most 3 directions where it has kinks"):
        srfx.solve(srfx.OneStep("tanh", many), 1.0, 0.1)
    with pytest.raises(NotImplementedError, match="got 4, of the target max of 4"):
        srfx.bounds(srfx.OneStep("tanh", many))
    options = {"d": 40, "replicates": 1, "progress": False}
    assert srfx.simulate(srfx.OneStep("tanh", many), 1.0, 0.1, **options).test_error.size == 1
    assert srfx.solve(srfx.OneStep("tanh", srfx.Target("product", directions=4)), 1.0, 0.1).success


def test_targets_without_a_mean_square_are_refused() -> None:
    with pytest.raises(ValueError, match=r"finite mean square over Gaussian inputs.*at \(11"):
        Target(lambda a, b: np.exp(a**2) + b, directions=2)
    for fn in (
        lambda a, b: np.exp(a) * b**9,
        lambda a, b: np.exp(0.2 * a**2),
        lambda a, b: 1 / a + 0 * b,
        lambda a, b: np.exp(-(a**2)),
    ):
        Target(fn, directions=2)
    Target(lambda *t: np.tanh(sum(t)), directions=16)


def test_a_refusal_comes_alone() -> None:
    """No warning of NumPy beside it: warnings are errors here."""
    with pytest.raises(ValueError, match="fn must return finite values; at"):
        Target(lambda a, b: np.sqrt(a) + b, directions=2)
