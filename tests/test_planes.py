"""Planes of the actual step and of given weights: their tables against the bulks themselves."""

from __future__ import annotations

import numpy as np
import pytest

import srfx
from srfx.weights import solve_step, solve_weights

EXACT = ("test_error", "train_error", "q2", "v1", "v2")

NETWORKS = [
    srfx.OneStep("tanh", "sin", eta=3, alpha0=0.25),
    srfx.OneStep("relu", "tanh", eta=2, alpha0=10, noise=0.1),
    srfx.OneStep("gelu", "relu", eta=1, alpha0=1, readout=(0.7,)),
    srfx.OneStep("softplus", "sign", eta=8, alpha0=0.1),
    srfx.OneStep("hermite3", "hermite3", eta=0.5, alpha0=4),
    srfx.OneStep("tanh", "tanh", eta=0.05, alpha0=np.inf),
    srfx.OneStep("erf", "sin", eta=0, alpha0=1),
]


def points(n, seed):
    rng = np.random.default_rng(seed)
    return {
        "alpha": 10 ** rng.uniform(-1.5, 1.5, n),
        "lam": 10 ** rng.uniform(-9, 3, n),
        "d": np.where(rng.random(n) < 0.5, np.inf, 10 ** rng.uniform(1.7, 4, n).round(3)),
    }


def assert_close(table, exact):
    assert np.all(table["status"] == exact["status"])
    good = exact["status"] == 0
    assert good.mean() > 0.9
    for name in EXACT:
        new, old = table[name][good], exact[name][good]
        slack = 1e-11 + 10 * exact["quadrature_error"][good]
        assert np.all(np.abs(new - old) <= slack * np.abs(old)), name
    assert np.all(table["residual"][good] < 1e-10)


@pytest.mark.parametrize("model", NETWORKS, ids=lambda m: f"{m.activation}-{m.target}")
def test_table_of_the_step_agrees_with_the_bulk(model):
    """Every point is solved alone through the bulk, and through the table of its set."""
    n = 60
    beta = 10 ** np.random.default_rng(1).uniform(-1, 1, n)
    arguments = {**model.numeric, "beta": beta, **points(n, 2)}
    assert_close(*(solve_step(model, arguments, (n,), 1, exact=exact) for exact in (False, True)))


def test_table_of_given_weights_agrees_with_their_sums():
    model = srfx.OneStep("tanh", "sin", eta=2, alpha0=1, beta=1.5)
    bulk = srfx.EmpiricalBulk.from_weights(*srfx.simulation.sample_weights(model, d=40, seed=3))
    n = 60
    arguments = {"noise": 0.1, **points(n, 4), "d": 40.0}
    assert_close(
        *(solve_weights(model, bulk, arguments, (n,), 1, exact=exact) for exact in (False, True))
    )


def test_digits_depend_on_the_point_alone():
    """Not on the other points of a batch, their number and order, or the number of threads."""
    n = 300
    at = points(n, 5)
    beta = 10 ** np.random.default_rng(6).uniform(-1, 1, n)
    model = srfx.OneStep("relu", "tanh", eta=2, alpha0=1, beta=beta)
    names = (*EXACT, "m", "theta", "psi", "residual", "quadrature_error", "iterations", "status")
    options = {"bulk": "one_step", "errors": "record"}
    whole = srfx.solve(model, at["alpha"], at["lam"], d=at["d"], n_threads=2, **options)
    for some in (np.array([17]), np.arange(n)[::-1], np.arange(3, n, 7)):
        part = srfx.solve(
            srfx.OneStep("relu", "tanh", eta=2, alpha0=1, beta=beta[some]),
            at["alpha"][some],
            at["lam"][some],
            d=at["d"][some],
            n_threads=1,
            **options,
        )
        for name in names:
            np.testing.assert_array_equal(
                np.asarray(getattr(part, name)), np.asarray(getattr(whole, name))[some], name
            )


def test_announced_error_counts_the_table():
    """It stays small, and is never less than that of the nodes in k alone."""
    model = srfx.OneStep("tanh", "sin", eta=3, alpha0=0.25)
    sol = srfx.solve(model, [0.3, 1, 3], [[1e-4], [1e-2], [1]], bulk="one_step")
    assert np.all(sol.quadrature_error < 1e-10)
    assert np.all(sol.quadrature_error > 0)


@pytest.mark.parametrize(
    ("activation", "target", "eta", "alpha0", "noise"),
    [
        ("tanh", "hermite2", 10.0, 0.1, 1.0),  # poles far closer to 0 than the noise is wide
        ("relu", "sign", 2.0, 0.5, 0.01),
        ("gelu", "sin", 0.3, 5.0, 1e-4),  # and far beyond
    ],
)
def test_label_noise_agrees_with_the_reference(activation, target, eta, alpha0, noise):
    model = srfx.OneStep(activation, target, eta=eta, alpha0=alpha0, noise=noise)
    want = srfx.reference.solve_one_step(model, 2.0, 0.05)
    found = srfx.solve(model, 2.0, 0.05, bulk="one_step")
    assert found.quadrature_error < 1e-9
    for name in ("test_error", "train_error"):
        assert float(getattr(found, name)) == pytest.approx(float(getattr(want, name)), rel=1e-8)
