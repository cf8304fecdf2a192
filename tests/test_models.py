"""The models: fields and defaults, equality, and the map from one gradient step to a spike."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest

import srfx


def hermite_moments(f, n=200):
    """E f, E f^2, E z f by Gauss-Hermite quadrature (for smooth f)."""
    z, w = np.polynomial.hermite_e.hermegauss(n)
    w = w / w.sum()
    return w @ f(z), w @ f(z) ** 2, w @ (z * f(z))


def softplus(x):
    return np.logaddexp(0, x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def tanh_slope(x):
    return 1 - np.tanh(x) ** 2


# --- fields ---


@pytest.mark.parametrize(
    ("kind", "defaults"),
    [
        (
            srfx.SpikedRF,
            {
                "activation": "tanh",
                "target": "sin",
                "r": 0.9,
                "c": 1.0,
                "gamma": 1.0,
                "beta": 1.0,
                "noise": 0.0,
                "readout": (1.0,),
                "weights": None,
                "labels": "real",
                "slope": None,
                "spikes": None,
                "alignment": None,
                "variances": None,
            },
        ),
        (
            srfx.OneStep,
            {
                "activation": "tanh",
                "target": "sin",
                "eta": 1.0,
                "alpha0": 1.5,
                "beta": 1.0,
                "noise": 0.0,
                "readout": (1.0,),
                "weights": None,
                "labels": "real",
                "slope": None,
            },
        ),
    ],
)
def test_fields_and_defaults(kind, defaults):
    assert dataclasses.asdict(kind()) == defaults
    assert kind(**defaults) == kind()
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind().beta = 2.0


def test_numbers_become_floats_and_arrays_private_copies():
    beta = np.array([1, 2, 3])
    model = srfx.SpikedRF(r=np.float32(0.5), gamma=0, beta=beta)
    beta[0] = 7
    assert type(model.r) is float
    assert type(model.gamma) is float
    assert model.beta.tolist() == [1.0, 2.0, 3.0]
    assert model.beta.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        model.beta[0] = 5
    assert model.shape == (3,)
    assert srfx.SpikedRF(r=[[1], [2]], beta=[1, 2, 3]).shape == (2, 3)


def test_equality_hash_replace_and_pickle():
    a = srfx.SpikedRF("relu", r=[0.1, 0.2], beta=2)
    b = srfx.SpikedRF("relu", r=np.array([0.1, 0.2]), beta=2.0)
    assert a == b
    assert hash(a) == hash(b)
    assert a != dataclasses.replace(a, r=[0.1, 0.3])
    assert a != dataclasses.replace(a, r=[[0.1], [0.2]])
    assert a != srfx.OneStep("relu")
    assert dataclasses.replace(a, beta=3).beta == 3.0
    assert pickle.loads(pickle.dumps(a)) == a
    with pytest.raises(ValueError, match="c must be"):
        dataclasses.replace(a, c=-1)


def test_repr_is_short_and_complete():
    assert repr(srfx.SpikedRF(r=[1, 2])) == (
        "SpikedRF(activation='tanh', target='sin', r=[1.0, 2.0], c=1.0, gamma=1.0, beta=1.0, "
        "noise=0.0, readout=(1.0,), weights=None)"
    )
    text = repr(srfx.OneStep(eta=np.linspace(0, 3, 1000)))
    assert "eta=<0 to 3, shape (1000,)>" in text


def test_a_bare_callable_is_wrapped():
    model = srfx.SpikedRF(np.tanh, target=np.sin)
    assert model.activation == srfx.Activation(np.tanh)
    assert model.target.kinks == ()
    assert np.array_equal(model.activation(np.ones(3)), np.tanh(np.ones(3)))


def test_activation_sorts_its_kinks():
    kinks = np.array([2, -1, 2.0])
    assert srfx.Activation(np.abs, kinks=kinks).kinks == (-1.0, 2.0)
    assert srfx.Activation(np.sin, kinks=np.array([])).kinks == ()


# --- the map ---


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_map_of_the_paper_for_an_odd_activation(noise):
    eta, alpha0 = np.array([0.5, 1.0, 3.0])[:, None], np.array([0.25, 1.5, 20.0])
    model = srfx.OneStep("tanh", "sin", eta=eta, alpha0=alpha0, noise=noise, beta=2)
    _, _, h1 = hermite_moments(np.tanh)
    _, second, h1_target = hermite_moments(np.sin)
    _, slope2, _ = hermite_moments(tanh_slope)
    h2_target = second + noise
    length = np.sqrt(h2_target / alpha0 + h1_target**2)

    spiked = model.equivalent()
    np.testing.assert_allclose(spiked.r, eta * h1 * length, rtol=1e-9)
    np.testing.assert_allclose(
        spiked.c, 1 + eta**2 * h2_target * (slope2 - h1**2) / alpha0, rtol=1e-9
    )
    np.testing.assert_allclose(spiked.gamma, h1_target / length, rtol=1e-9)
    assert (spiked.beta, spiked.noise) == (2.0, noise)


def relu_map(eta, alpha0, noise, a):
    """THEORY section 10's map for ReLU and a ReLU target, all moments in closed form."""
    mean, h1, h2, hc1 = 1 / np.sqrt(2 * np.pi), 0.5, 1 / np.sqrt(2 * np.pi), 0.25 - 1 / (2 * np.pi)
    u1 = mean - a * mean
    u2 = 0.5 - 2 * a * mean * mean + (a * mean) ** 2 + noise
    length = np.sqrt(0.25 + u2 / alpha0)
    c = (1 + a * eta * h2 * u1) ** 2 + (a * eta) ** 2 * (h2**2 + hc1) * u2 / alpha0
    return a * eta * h1 * length, c, 0.5 / length


@pytest.mark.parametrize("a", [1.0, -0.7, 2.0])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_general_map_for_relu(a, noise):
    eta, alpha0 = np.array([0.5, 4.0])[:, None], np.array([0.5, 2.0, 1e6])
    model = srfx.OneStep("relu", "relu", eta=eta, alpha0=alpha0, noise=noise, readout=(a,))
    with pytest.warns(srfx.ApproximationWarning):
        spiked = model.equivalent()
    assert spiked.readout == (1.0,)
    for got, want in zip(
        (spiked.r, spiked.c, spiked.gamma), relu_map(eta, alpha0, noise, a), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_callable_with_its_derivative_gives_the_map_of_the_name():
    fn = srfx.Activation(softplus, derivative=sigmoid)
    named = srfx.OneStep("softplus", "tanh", eta=2, alpha0=3)
    with pytest.warns(srfx.ApproximationWarning):
        want = named.equivalent()
    got = dataclasses.replace(named, activation=fn).equivalent()
    for field in ("r", "c", "gamma"):
        assert getattr(got, field) == pytest.approx(getattr(want, field), rel=1e-12)


def test_limits_of_the_map():
    _, _, h1 = hermite_moments(np.tanh)
    _, _, h1_target = hermite_moments(np.sin)
    spiked = srfx.OneStep(eta=2, alpha0=[0, 1, np.inf]).equivalent()
    assert (spiked.r[0], spiked.c[0], spiked.gamma[0]) == (0, 1, 0)
    assert spiked.r[2] == pytest.approx(2 * h1 * h1_target, rel=1e-9)
    assert (spiked.c[2], spiked.gamma[2]) == (1, 1)
    assert spiked.r[1] > spiked.r[2]
    flipped = srfx.OneStep(target=lambda x: -np.sin(x), eta=2, alpha0=np.inf).equivalent()
    assert flipped.gamma == -1
    assert flipped.r == pytest.approx(spiked.r[2], rel=1e-12)
    even = srfx.OneStep(target="cos", eta=2, alpha0=np.inf).equivalent()
    assert (even.r, even.gamma) == (0, 0)
    still = srfx.OneStep(eta=0).equivalent()
    assert (still.r, still.c) == (0, 1)
    far = srfx.OneStep(eta=2, alpha0=1e12).equivalent()
    assert far.r == pytest.approx(spiked.r[2], rel=1e-11)


def test_the_map_gives_scalars_for_scalars_and_stays_in_range():
    spiked = srfx.OneStep().equivalent()
    assert all(type(x) is float for x in (spiked.r, spiked.c, spiked.gamma))
    gammas = srfx.OneStep("tanh", "linear", alpha0=np.logspace(-6, 18, 500)).equivalent().gamma
    assert (np.abs(gammas) <= 1).all()


def test_several_readout_values():
    odd = srfx.OneStep(eta=2, readout=(0.5, 1.5), weights=(0.25, 0.75))
    spiked = odd.equivalent()
    assert (spiked.readout, spiked.weights) == ((0.5, 1.5), (0.25, 0.75))
    unit = srfx.OneStep(eta=2).equivalent()
    assert (spiked.r, spiked.c, spiked.gamma) == (unit.r, unit.c, unit.gamma)
    with pytest.raises(NotImplementedError, match="several readout values"):
        srfx.OneStep("relu", readout=(0.5, 1.5)).equivalent()


def test_one_readout_value_scales_the_step():
    scaled = srfx.OneStep(eta=2, readout=(0.5,)).equivalent()
    assert scaled == srfx.OneStep(eta=1).equivalent()


# --- the warning about activations that are not odd ---


def test_a_rough_approximation_is_announced_once():
    model = srfx.OneStep("relu", "relu")
    with pytest.warns(srfx.ApproximationWarning, match="not odd.*several percent") as caught:
        model.equivalent()
    model.equivalent()  # a second warning would be an error
    srfx.solve(srfx.OneStep("gelu"), alpha=1, lam=0.1)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_no_announcement_where_the_map_is_the_papers_or_exact():
    # warnings are errors here
    srfx.OneStep("erf").equivalent()
    srfx.OneStep(srfx.Activation(np.arctan, derivative=lambda x: 1 / (1 + x**2))).equivalent()
    srfx.OneStep("relu", eta=0).equivalent()
    srfx.OneStep("relu", alpha0=[0, 0]).equivalent()
    shifted = srfx.Activation(lambda x: np.tanh(x + 1), derivative=lambda x: tanh_slope(x + 1))
    with pytest.warns(srfx.ApproximationWarning):
        srfx.OneStep(shifted).equivalent()


def test_copies_are_as_frozen_as_the_original():
    model = srfx.SpikedRF(gamma=[0.1, 0.2])
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin == model
        with pytest.raises(ValueError, match="read-only"):
            twin.gamma[0] = 7
