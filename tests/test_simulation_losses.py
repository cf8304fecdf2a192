"""Simulated readouts of every loss, and labels of +1 and -1."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, ndtr

import srfx
from srfx import _core
from srfx.losses import chosen

SIGN = srfx.SpikedRF("tanh", "tanh", gamma=0.8, noise=0.1, labels="sign")
REAL = srfx.SpikedRF("relu", "sin", gamma=0.8, noise=0.2)
LOSSES = [
    (SIGN, "logistic"),
    (SIGN, "hinge"),
    (SIGN, "squared_hinge"),
    (SIGN, srfx.Huber(0.5)),
    (REAL, srfx.Huber(0.3)),
    (REAL, srfx.Quantile(0.8)),
    (REAL, "absolute"),
]
SMALL = {"alpha": [0.4, 1.5], "lam": [0.01, 1.0], "d": 60, "replicates": 2, "n_test": 400}


def fit(phi, y, lam, loss, labels, threads=1):
    """Readouts of given features."""
    c = chosen(loss, labels, lam)
    numbers = (c.kind, c.kappa, c.lo, c.hi, c.margin)
    return _core.fit_readouts(phi, y, [lam], *numbers, threads)[0][0]


def features(n, p, labels, seed=0):
    rng = np.random.default_rng(seed)
    phi = rng.normal(size=(n, p)) / p**0.5
    t = phi @ rng.normal(size=p) * 2
    y = t + 0.5 * rng.normal(size=n)
    return phi, y if labels == "real" else np.where(y > 0, 1.0, -1.0)


# --- the readout is the minimum -------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "labels", "value", "slope"),
    [
        ("logistic", "sign", lambda m: np.logaddexp(0, -m), lambda m: -expit(-m)),
        (
            "squared_hinge",
            "sign",
            lambda m: np.maximum(0, 1 - m) ** 2,
            lambda m: -2 * np.maximum(0, 1 - m),
        ),
    ],
)
@pytest.mark.parametrize("shape", [(80, 30), (30, 80)])
def test_a_smooth_loss_against_scipy(loss, labels, value, slope, shape):
    phi, y = features(*shape, labels)

    def objective(a):
        margins = y * (phi @ a)
        return value(margins).sum() + 0.1 * a @ a, phi.T @ (y * slope(margins)) + 0.2 * a

    peer = minimize(objective, np.zeros(shape[1]), jac=True, method="BFGS", tol=1e-9)
    ours = fit(phi, y, 0.1, loss, labels)
    assert objective(ours)[0] <= peer.fun * (1 + 1e-9)
    np.testing.assert_allclose(ours, peer.x, atol=1e-5)
    assert np.abs(objective(ours)[1]).max() < 1e-4


@pytest.mark.parametrize("loss", ["hinge", "absolute", srfx.Quantile(0.8)])
@pytest.mark.parametrize("shape", [(80, 30), (30, 80)])
def test_a_loss_with_bends_against_its_dual_by_scipy(loss, shape):
    """min over lo <= g <= hi of |Phi^T q|^2/lam - 2 sum g e0, by bounded quasi-Newton steps."""
    labels = "sign" if loss == "hinge" else "real"
    phi, y = features(*shape, labels)
    c = chosen(loss, labels, 0.1)
    signs, base = (y, np.ones_like(y)) if c.margin else (np.ones_like(y), y)
    kernel = (phi * signs[:, None]) @ (phi * signs[:, None]).T / 0.1

    def dual(g):
        return g @ kernel @ g - 2 * g @ base, 2 * (kernel @ g - base)

    bounds = [(c.lo, c.hi)] * len(y)
    start = np.full(len(y), (c.lo + c.hi) / 2)
    options = {"maxiter": 20000, "maxfun": 200000, "ftol": 1e-15, "gtol": 1e-9}
    peer = minimize(dual, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    ours = fit(phi, y, 0.1, loss, labels)
    e = base - signs * (phi @ ours)
    primal = np.maximum(2 * c.hi * e, 2 * c.lo * e).sum() + 0.1 * ours @ ours
    assert primal == pytest.approx(-peer.fun, rel=1e-6)
    assert primal >= -peer.fun * (1 - 1e-12)


def test_the_square_loss_is_the_ridge():
    phi, y = features(50, 20, "real")
    a = fit(phi, y, 0.3, "square", "real")
    np.testing.assert_allclose(
        a, np.linalg.solve(phi.T @ phi + 0.3 * np.eye(20), phi.T @ y), rtol=1e-6
    )
    np.testing.assert_allclose(fit(phi, y, 0.3, srfx.Huber(1e6), "real"), a, rtol=1e-5)


def test_absolute_is_huber_of_a_small_delta():
    phi, y = features(40, 15, "real")
    bent = fit(phi, y, 0.1, "absolute", "real")
    round_ = fit(phi, y, 2e-7 * 0.1, srfx.Huber(1e-7), "real")
    np.testing.assert_allclose(round_, bent, atol=1e-4)


def test_many_features_are_fitted_alike_on_any_number_of_threads():
    phi, y = features(1200, 450, "sign")  # enough to be shared out
    for loss in ("logistic", "hinge"):
        one, three = (fit(phi, y, 0.05, loss, "sign", threads) for threads in (1, 3))
        assert np.array_equal(one, three)


# --- what simulate returns ------------------------------------------------------------------


@pytest.mark.parametrize(("model", "loss"), LOSSES)
def test_results_are_the_same_for_any_threads_and_executor(model, loss):
    one = srfx.simulate(model, **SMALL, loss=loss, n_threads=1, progress=False)
    three = srfx.simulate(model, **SMALL, loss=loss, n_threads=3, progress=False)
    with ThreadPoolExecutor(2) as pool:
        spread = srfx.simulate(model, **SMALL, loss=loss, executor=pool, progress=False)
    assert one.equals(three)
    assert one.equals(spread)
    assert float(one.duality_gap.max()) <= 1e-10
    assert float(one.duality_gap.min()) >= 0
    labelled = model.labels != "real"
    assert ("classification_error" in one) == labelled
    assert one.attrs["loss"] == (loss if isinstance(loss, str) else repr(loss))
    assert one.attrs.get("labels", "real") == model.labels
    assert np.isfinite(one.to_array()).all()


def test_the_square_loss_on_labels():
    ds = srfx.simulate(SIGN, **SMALL, progress=False)
    assert np.array_equal(ds.train_loss, ds.train_error)
    np.testing.assert_allclose(ds.test_loss, ds.test_error, rtol=1e-12)
    assert "duality_gap" not in ds
    assert "loss" not in ds.attrs
    huge = srfx.simulate(SIGN, **SMALL, loss=srfx.Huber(1e9), progress=False)
    for name in ("test_error", "train_error", "classification_error", "test_loss"):
        np.testing.assert_allclose(ds[name], huge[name], rtol=1e-4)
    plain = srfx.simulate(REAL, **SMALL, progress=False)
    assert set(plain.data_vars) == {"test_error", "train_error"}


def test_the_maximum_margin_is_the_limit_of_the_hinge():
    model = srfx.SpikedRF("tanh", "tanh", beta=2, labels="sign")
    common = {"alpha": 0.5, "d": 60, "replicates": 2, "n_test": 400, "progress": False}
    limit = srfx.simulate(model, lam=[1.0, 1e-3], **common, loss="max_margin")
    hinge = srfx.simulate(model, lam=1e-9, **common, loss="hinge")
    assert "test_loss" not in limit
    one, two = limit.isel(lam=0), limit.isel(lam=1)
    for name in ("classification_error", "test_error", "train_error"):
        assert np.array_equal(one[name], two[name])
        np.testing.assert_allclose(hinge[name].isel(lam=0), one[name], rtol=1e-3, atol=5e-3)


def test_samples_that_cannot_be_separated():
    model = srfx.SpikedRF("tanh", "tanh", labels="sign", noise=1.0)
    with pytest.raises(np.linalg.LinAlgError, match="its samples cannot be separated"):
        srfx.simulate(model, alpha=5, lam=1, d=30, replicates=1, loss="max_margin")


@pytest.mark.parametrize(
    ("labels", "target", "chance"),
    [
        ({"labels": "sign", "noise": 0.5}, "tanh", lambda t: ndtr((np.tanh(t) + 0.3) / 0.5**0.5)),
        ({"labels": "logit", "slope": 2.0}, "tanh", lambda t: expit(2 * (np.tanh(t) + 0.3))),
        ({"labels": "sign"}, "relu", lambda t: np.where(t > 0, 1, 0.5)),  # a coin where s* = 0
    ],
)
def test_labels_follow_their_law(labels, target, chance):
    """A constant feature fits the mean of the labels, 2 p - 1, and errs on the fewer."""
    star = "relu" if target == "relu" else srfx.Activation(lambda t: np.tanh(t) + 0.3)
    constant = srfx.Activation(lambda x: np.ones_like(x))
    model = srfx.SpikedRF(constant, star, beta=0.1, **labels)
    ds = srfx.simulate(model, 20, 1e-3, d=100, replicates=8, n_test=4000, progress=False)
    t = np.linspace(-9, 9, 20001)
    p = np.average(chance(t), weights=np.exp(-t * t / 2))
    assert float(ds.classification_error.mean()) == pytest.approx(1 - p, abs=0.012)
    assert float(ds.test_error.mean()) == pytest.approx(1 - (2 * p - 1) ** 2, abs=0.03)
    assert float(ds.train_error.mean()) == pytest.approx(1 - (2 * p - 1) ** 2, abs=0.03)


def test_the_step_sees_the_labels():
    real = srfx.OneStep("tanh", "tanh", noise=0.3)
    sign = srfx.OneStep("tanh", "tanh", noise=0.3, labels="sign")
    w, v, _ = srfx.simulation.sample_weights(real, d=40, seed=3)
    w_sign, v_sign, _ = srfx.simulation.sample_weights(sign, d=40, seed=3)
    assert not np.allclose(w, w_sign)
    assert not np.allclose(v, v_sign)


def test_predictions_of_another_loss():
    common = {"alpha": 1.0, "lam": 0.1, "d": 60, "replicates": 2, "n_test": 300, "literal": True}
    ds = srfx.simulation.predictions(SIGN, **common, loss="hinge")
    ridge = srfx.simulation.predictions(SIGN, **common)
    assert np.array_equal(ds.t, ridge.t)
    assert not np.allclose(ds.f, ridge.f)
    assert ds.attrs["loss"] == "hinge"


# --- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "arguments", "words"),
    [
        (REAL, {"loss": "hinge"}, "loss='hinge' needs labels"),
        (SIGN, {"loss": srfx.Quantile(0.3)}, "must not be Quantile"),
        (REAL, {"loss": "absolute", "lam": 0}, "lam must be > 0 with loss='absolute'"),
        (REAL, {"loss": "absolute", "dtype": "float32"}, "dtype must be 'float64' with loss="),
        (REAL, {"loss": "huber"}, "loss must be one of"),
    ],
)
def test_what_is_refused(model, arguments, words):
    with pytest.raises(ValueError, match=words):
        srfx.simulate(model, **{"alpha": 1, "lam": 0.1, "d": 50, **arguments})


def test_a_prediction_of_zero_is_half_an_error():
    """Of a ReLU network few neurons of which answer: labels that no readout can know are a coin."""
    model = srfx.SpikedRF("relu", "product", gamma=(0, 0), r=1.5, labels="sign")
    options = {"d": 100, "replicates": 40, "progress": False}
    missed = srfx.simulate(model, 2.0, 0.05, **options).classification_error.values.ravel()
    assert abs(missed.mean() - 0.5) < 4 * missed.std(ddof=1) / np.sqrt(missed.size)
