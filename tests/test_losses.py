"""Losses and labels: what may be asked for, in words."""

import copy
import math
import pickle

import numpy as np
import pytest

import srfx
from srfx.losses import LOSS_NAMES, chosen
from srfx.models import structure

SIGN = {"labels": "sign"}


@pytest.mark.parametrize("kind", [srfx.SpikedRF, srfx.OneStep])
def test_labels_are_part_of_a_model(kind):
    real, sign = kind(), kind(labels="sign", noise=[0, 0.5])
    logit = kind(labels="logit")
    assert (real.labels, real.slope) == ("real", None)
    assert (sign.labels, sign.slope) == ("sign", None)
    assert (logit.labels, logit.slope) == ("logit", 1.0)
    assert len({real, sign, logit, kind(labels="logit", slope=1)}) == 3
    assert pickle.loads(pickle.dumps(logit)) == logit == copy.deepcopy(logit)
    assert "labels" not in repr(real)
    assert repr(logit).endswith("labels='logit', slope=1.0)")
    assert eval(repr(logit), {kind.__name__: kind}) == logit


@pytest.mark.parametrize("kind", [srfx.SpikedRF, srfx.OneStep])
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"labels": "signs"}, "labels must be one of 'real', 'sign', 'logit'; got 'signs'"),
        ({"slope": 2.0}, "slope must be left out unless labels='logit'"),
        ({"labels": "sign", "slope": 2.0}, "slope must be left out unless labels='logit'"),
        ({"labels": "logit", "slope": 0}, "slope must be finite and > 0; got 0.0"),
        ({"labels": "logit", "slope": [1, -2]}, "slope must be finite and > 0"),
        ({"labels": "logit", "noise": 0.1}, "noise must be 0 with labels='logit'"),
        ({"labels": "logit", "noise": [0, 0.1]}, "noise must be 0 with labels='logit'"),
    ],
)
def test_labels_that_are_refused(kind, fields, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        kind(**fields)


def test_labels_of_another_type_are_refused():
    with pytest.raises(TypeError, match="labels must be one of"):
        srfx.SpikedRF(labels=1)
    with pytest.raises(TypeError, match="slope must be finite and > 0"):
        srfx.SpikedRF(labels="logit", slope="2")


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_delta_out_of_range(value):
    with pytest.raises(ValueError, match="delta must be finite and > 0; got"):
        srfx.Huber(value)


@pytest.mark.parametrize("value", [0, 1, -0.5, 1.5, math.nan])
def test_tau_out_of_range(value):
    with pytest.raises(ValueError, match="tau must be between 0 and 1, neither included; got"):
        srfx.Quantile(value)


def test_parameters_of_losses_are_single_numbers():
    with pytest.raises(TypeError, match="delta must be finite and > 0"):
        srfx.Huber("1")
    with pytest.raises(ValueError, match="tau must be a single number; got an array"):
        srfx.Quantile([0.1, 0.2])
    assert type(srfx.Huber(np.float32(2)).delta) is float
    assert srfx.Huber(2) == srfx.Huber(2.0)
    assert hash(srfx.Quantile(0.5)) == hash(srfx.Quantile(0.5))


def value(piece, e):
    """max over lo <= g <= hi of 2 g e - kappa g^2, by trying many g."""
    g = np.linspace(max(piece.lo, -20), min(piece.hi, 20), 40001)
    return np.max(2 * g * e - piece.kappa * g * g)


@pytest.mark.parametrize(
    ("loss", "labels", "formula"),
    [
        ("square", "real", lambda e: e * e),
        ("absolute", "real", abs),
        (srfx.Huber(0.7), "real", lambda e: e * e if abs(e) < 0.7 else 1.4 * abs(e) - 0.49),
        (srfx.Quantile(0.8), "real", lambda e: max(0.8 * e, -0.2 * e)),
        ("hinge", "sign", lambda e: max(0, e)),
        ("squared_hinge", "logit", lambda e: max(0, e) ** 2),
    ],
)
def test_a_piecewise_quadratic_loss_is_its_three_numbers(loss, labels, formula):
    piece = chosen(loss, labels, 0.1)
    assert piece.kind == ("square" if loss == "square" else "piecewise")
    assert piece.margin == (labels != "real")
    for e in (-3.2, -0.4, 0.0, 0.3, 2.5):
        assert value(piece, e) == pytest.approx(formula(e), abs=1e-6)


def test_every_loss_is_known_with_labels():
    assert {chosen(name, "sign", 0.1).label for name in LOSS_NAMES} == set(LOSS_NAMES)
    assert chosen("logistic", "sign", 0.1).kind == "logistic"
    assert chosen(srfx.Huber(1), "sign", [0.1, 1]).label == "Huber(delta=1.0)"
    assert chosen("square", "real", 0).label == "square"


@pytest.mark.parametrize(
    ("loss", "labels", "lam", "words"),
    [
        ("hinge", "real", 0.1, "loss='hinge' needs labels of \\+1 and -1"),
        ("logistic", "real", 0.1, "loss='logistic' needs labels of \\+1 and -1"),
        ("max_margin", "real", 0.1, "loss='max_margin' needs labels of \\+1 and -1"),
        (srfx.Quantile(0.3), "sign", 0.1, "must not be Quantile\\(tau=0.3\\) with labels='sign'"),
        ("absolute", "real", 0, "lam must be > 0 with loss='absolute'; got 0"),
        (srfx.Huber(1), "real", [0.1, 0], "lam must be > 0 with loss='Huber\\(delta=1.0\\)'"),
        ("huber", "real", 0.1, "loss must be one of 'square'"),
        ("squared-hinge", "sign", 0.1, "did you mean 'squared_hinge'"),
    ],
)
def test_losses_that_are_refused(loss, labels, lam, words):
    with pytest.raises(ValueError, match=words):
        chosen(loss, labels, lam)


@pytest.mark.parametrize("loss", [None, 1, srfx.Huber, ["hinge"]])
def test_losses_of_another_type_are_refused(loss):
    with pytest.raises(TypeError, match=r"loss must be one of .*srfx.Huber\(delta\)"):
        chosen(loss, "sign", 0.1)


@pytest.mark.parametrize(
    "call",
    [
        lambda model: srfx.bounds(model),
        lambda model: srfx.thresholds(model, lam=0.1),
    ],
)
def test_what_does_not_know_labels_refuses_them(call):
    with pytest.raises(NotImplementedError, match="labels must be 'real' here"):
        call(srfx.SpikedRF(labels="sign"))


def test_the_spectrum_of_spiked_features_knows_no_labels():
    x = np.linspace(0.5, 2, 4)
    real, sign = (srfx.feature_spectrum(srfx.SpikedRF(labels=y), 1, x) for y in ("real", "sign"))
    assert np.array_equal(real.density, sign.density)


def test_labels_are_among_what_a_model_is_known_by():
    plain = structure(srfx.OneStep())
    assert structure(srfx.OneStep(labels="sign")) == plain | {"labels": "sign"}
    logit = structure(srfx.SpikedRF(labels="logit", slope=2))
    assert logit == plain | {"labels": "logit"}


@pytest.mark.parametrize("name", ["huber", "Quantile"])
def test_a_loss_with_a_number_has_no_name(name):
    with pytest.raises(ValueError, match=r"an srfx.Huber\(delta\) or an srfx.Quantile\(tau\); got"):
        srfx.solve(srfx.SpikedRF("tanh", "sin"), 1.0, 0.1, loss=name)
