"""The witness of THEORY sections 13 to 15: the values of section 17, the properties of section 16.

Reference values are those of docs/theory.md section 17, to the printed digit.
"""

from types import SimpleNamespace

import numpy as np
import pytest

import srfx
from srfx import reference
from srfx.models import MultiStep
from srfx.reference import (
    Directions,
    solve_multi_step,
    solve_one_step,
    solve_spikes,
)
from srfx.targets import Target


def smooth(value, directions=2):
    return Directions(value, directions, np.zeros((0, directions + 1)))


MIXED = smooth(lambda a, b: np.tanh(a) + a * b)
SUM = smooth(lambda a, b: np.sin(a) + np.tanh(b))
GAMMA = np.array([[0.8, 0.1], [-0.2, 0.7]])
SHIFTED = srfx.Activation(
    lambda x: np.tanh(x + 0.7), derivative=lambda x: 1 / np.cosh(x + 0.7) ** 2
)


def spiked(activation, target, **fields):
    default = {"r": 1.0, "c": 1.0, "beta": 1.0, "noise": 0.0, "readout": (1.0,), "weights": None}
    return SimpleNamespace(activation=activation, target=target, **{**default, **fields})


def stepped(activation, target, eta, alpha0, **fields):
    return spiked(activation, target, eta=eta, alpha0=alpha0, **fields)


TWO = {"spikes": [[1, 0.3], [-0.4, 1.2]], "variances": (1.1, 1.4), "alignment": GAMMA}


def check(solution, test, train, digits=8):
    assert f"{solution.test_error:.{digits}f}" == test
    assert f"{solution.train_error:.{digits}f}" == train
    assert solution.energy < 1e-13


def same(one, two, rel):
    assert one.test_error == pytest.approx(two.test_error, rel=rel)
    assert one.train_error == pytest.approx(two.train_error, rel=rel)


class TestSpikes:
    def test_one_spike_two_directions(self):
        model = spiked("tanh", MIXED, r=1.2, gamma=(0.6, -0.7), noise=0.1, beta=1.5)
        check(solve_spikes(model, 1.5, 0.1), "1.44317136", "0.66977948")

    def test_two_groups(self):
        model = spiked("tanh", MIXED, **TWO)
        check(solve_spikes(model, 1.5, 0.1), "1.45219148", "0.59454216")
        check(solve_spikes(model, 1.5, 0.1, d=800), "1.45274627", "0.59472454")
        lower, upper = reference.bounds_spikes(model)
        assert lower == pytest.approx(1.01034758, abs=6e-9)
        assert f"{upper:.8f}" == "1.15002159"

    def test_kinks(self):
        model = spiked("relu", Target("max"), spikes=np.eye(2), alignment=0.9 * np.eye(2))
        model.noise = 0.1
        check(solve_spikes(model, 1.5, 0.1), "0.37293008", "0.17154832")

    @pytest.mark.parametrize("target", ["sin", "sign"])
    def test_one_direction_is_section_7(self, target):
        groups = {"readout": (0.5, -1.5), "weights": (0.4, 0.6)}
        model = spiked("relu", target, r=0.7, c=1.3, gamma=0.6, noise=0.1, **groups)
        same(
            solve_spikes(model, 1.5, 0.1, 400), reference.solve_groups(model, 1.5, 0.1, 400), 1e-11
        )

    def test_a_rank_of_one_is_one_spike(self):
        turn = np.array([0.6, 0.8])
        model = spiked("tanh", MIXED, spikes=[1.2 * turn], alignment=np.outer([0.6, -0.7], turn))
        one = spiked("tanh", MIXED, r=1.2, gamma=(0.6, -0.7))
        same(solve_spikes(model, 1.5, 0.1), solve_spikes(one, 1.5, 0.1), 1e-12)

    def test_rotations_and_signs(self):
        want = solve_spikes(spiked("tanh", MIXED, **TWO), 1.5, 0.1)
        x = 0.7
        turn = np.array([[np.cos(x), np.sin(x)], [-np.sin(x), np.cos(x)]])
        fields = {**TWO, "spikes": TWO["spikes"] @ turn, "alignment": GAMMA @ turn}
        same(solve_spikes(spiked("tanh", MIXED, **fields), 1.5, 0.1), want, 1e-10)
        other = smooth(lambda a, b: MIXED.value(*np.tensordot(turn.T, np.array([a, b]), 1)))
        fields = {**TWO, "alignment": turn @ GAMMA}
        same(solve_spikes(spiked("tanh", other, **fields), 1.5, 0.1), want, 1e-10)
        signs = np.array([1.0, -1.0])
        fields = {**TWO, "spikes": TWO["spikes"] * signs, "alignment": GAMMA * signs}
        same(solve_spikes(spiked("tanh", MIXED, **fields), 1.5, 0.1), want, 1e-12)
        fields = {**TWO, "spikes": [[1, 0.3, 0], [-0.4, 1.2, 0]]}  # one that nobody reads
        fields["alignment"] = np.hstack([GAMMA, [[0.3], [0.2]]])
        same(solve_spikes(spiked("tanh", MIXED, **fields), 1.5, 0.1), want, 1e-12)
        fields = {**TWO, "spikes": [[1, 0.3], [0.4, -1.2]]}  # R_g -> -R_g, odd sigma
        same(solve_spikes(spiked("tanh", MIXED, **fields), 1.5, 0.1), want, 1e-12)

    def test_identical_groups_are_one(self):
        fields = {"spikes": [[1, 0.3]] * 2, "alignment": GAMMA, "weights": (0.3, 0.7)}
        one = {"spikes": [[1, 0.3]], "alignment": GAMMA}
        got, want = (solve_spikes(spiked("relu", SUM, **x), 1.5, 0.1, 500) for x in (fields, one))
        same(got, want, 1e-12)

    def test_the_learned_function_has_the_projection_of_the_network(self):
        model = spiked("tanh", MIXED, **TWO)
        solution = solve_spikes(model, 1.5, 0.1)
        t, p = reference._targets.hermite(18, 2)
        f = reference.learned_function_spikes(model, solution, t.T, nodes=18)
        spikes = reference._spikes.spikes_of(model)
        table = reference._spikes.table_of_spikes(reference.ACTIVATIONS["tanh"], MIXED, spikes)
        C = np.asarray(solution.m) @ table.mu0
        C += np.einsum("jn,jg,gn->n", table.k, solution.theta, table.mu1)
        psi = np.einsum("mn,mg,gn->n", table.h1, solution.psi, table.mu1)
        want = np.sum(table.p * (table.h * C + psi))
        assert p @ (f * MIXED.value(*t)) == pytest.approx(want, rel=1e-4)

    def test_the_least_loss_has_the_squared_norm_for_a_slope(self):
        model, alpha, lam, step = spiked("tanh", MIXED, **TWO), 1.5, 0.1, 1e-4

        def least(penalty):
            found = solve_spikes(model, alpha, penalty)
            return found.train_error + penalty / alpha * np.sum(found.q2)

        slope = (least(lam + step) - least(lam - step)) / (2 * step)
        want = np.sum(solve_spikes(model, alpha, lam).q2) / alpha
        assert slope == pytest.approx(want, rel=1e-6)

    def test_moments_of_a_target(self):
        mean, slopes, second = reference.target_moments(Target("max"))
        assert mean == pytest.approx(1 / np.sqrt(np.pi), rel=1e-12)
        assert np.allclose(slopes, 0.5, rtol=1e-12)
        assert second == pytest.approx(1, rel=1e-12)


class TestOneStep:
    @pytest.mark.parametrize(
        ("model", "test", "train"),
        [
            (stepped("tanh", SUM, 3.0, 0.5), "0.58702805", "0.28642248"),
            (
                stepped("relu", smooth(lambda a, b: a + (a * a - b * b) / 2), 2.0, 5.0),
                "1.44320254",
                "0.62781449",
            ),
            (stepped("tanh", SUM, 2.0, 0.5, readout=(0.5, 1.5)), "0.48401681", "0.21515438"),
        ],
        ids=["tanh", "relu", "groups"],
    )
    def test_values(self, model, test, train):
        check(solve_one_step(model, 2.0, 0.1), test, train)

    def test_groups_of_one_value(self):
        model = stepped("relu", SUM, 2.0, 0.8, noise=0.2)
        one = solve_one_step(model, 2.0, 0.1)
        same(solve_one_step(model, 2.0, 0.1, route="groups"), one, 1e-10)

    @pytest.mark.parametrize("readout", [(1.0,), (0.5, 1.5)])
    def test_one_direction_of_two(self, readout):
        """A target that reads one direction, in either of two frames, is that of one direction."""
        c, s = 0.6, 0.8
        fields = {"noise": 0.1, "readout": readout}
        turned = smooth(lambda a, b: np.sin(c * a + s * b))
        got = solve_one_step(stepped("tanh", turned, 2.0, 0.7, **fields), 1.5, 0.1, 600)
        want = solve_one_step(stepped("tanh", "sin", 2.0, 0.7, **fields), 1.5, 0.1, 600)
        same(got, want, 1e-9)

    def test_no_linear_part(self):
        """The target t1 t2 has E[t u] = 0: the spike is noise alone."""
        model = stepped("tanh", Target("product"), 2.0, 0.7)
        found = reference.one_step_map(model)
        assert np.max(np.abs(found.gamma)) < 1e-12
        assert solve_one_step(model, 1.5, 0.1).energy < 1e-12


class TestInstance:
    def test_one_direction_of_two(self):
        """What a target does not read changes nothing, in any frame."""
        w, v, theta = srfx.simulation.sample_weights(srfx.OneStep(eta=2.0, alpha0=1.0), d=120)
        rest = np.random.default_rng(0).standard_normal(120)
        rest -= (rest @ theta) / 120 * theta
        both = np.array([theta, rest * np.sqrt(120) / np.linalg.norm(rest)])
        want = reference.solve_instance(w, v, theta, "tanh", "sin", 1.5, 0.1)
        one = smooth(lambda a, b: np.sin(a))
        same(reference.solve_instance(w, v, both, "tanh", one, 1.5, 0.1), want, 1e-10)
        turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
        other = smooth(lambda a, b: np.sin(0.6 * a - 0.8 * b))
        same(reference.solve_instance(w, v, turn @ both, "tanh", other, 1.5, 0.1), want, 1e-10)

    def test_the_network_of_the_theory(self):
        model = srfx.OneStep("tanh", Target(SUM.value), eta=2.0, alpha0=1.0)
        w, v, theta = srfx.simulation.sample_weights(model, d=500, seed=2)
        got = reference.solve_instance(w, v, theta, "tanh", SUM, 1.5, 0.1)
        same(got, solve_one_step(model, 1.5, 0.1, 500), 0.05)
        mean = np.array([w.mean(axis=0), np.arange(500.0)])
        same(reference.solve_instance(w, mean, theta, "tanh", SUM, 1.5, 0.1), got, 0.02)


class TestSteps:
    def test_the_map(self):
        model = stepped("tanh", SUM, (1, 1), (1, 1))
        found = reference.multi_step_map(model)
        assert f"{abs(found.R[0, 0]):.8f} {found.c[0]:.8f}" == "0.97280288 1.06537079"
        assert [f"{abs(x):.8f}" for x in found.gamma[:, 0]] == ["0.59206292", "0.58759507"]
        check(solve_multi_step(model, 2.0, 0.1), "0.21871096", "0.09775732")

    def test_the_map_of_two_groups(self):
        model = stepped("tanh", SUM, (2, 2), (1, 1), readout=(0.5, 2))
        found = reference.multi_step_map(model)
        gram = (found.R @ found.R.T)[np.triu_indices(2)]
        assert [f"{x:.8f}" for x in gram] == ["0.69638830", "2.41122143", "9.56177355"]
        along = (found.R @ found.gamma.T).ravel()
        assert [f"{x:.8f}" for x in along] == [
            "0.48880279",
            "0.48457503",
            "1.73634834",
            "1.71491531",
        ]
        assert [f"{x:.8f}" for x in found.c] == ["1.23756127", "3.58585143"]
        check(solve_multi_step(model, 2.0, 0.1), "0.25954588", "0.10921964")

    def test_one_step_is_section_10(self):
        groups = {"readout": (0.5, 1.5), "weights": (0.4, 0.6), "noise": 0.2}
        found = reference.multi_step_map(stepped("tanh", SUM, (2.0,), (0.7,), **groups))
        want = reference.one_step_map(stepped("tanh", SUM, 2.0, 0.7, **groups))
        assert np.allclose(np.abs(found.R[:, 0]), np.abs(want.r), rtol=1e-9)
        assert np.allclose(found.c, want.c, rtol=1e-9)
        assert np.allclose(np.abs(found.gamma[:, 0]), np.abs(want.gamma), rtol=1e-9)

    def test_layers(self):
        model = MultiStep("tanh", "sin", eta=(3, 3), alpha0=(0.5, 0.5))
        _, layers = reference.multi_step_layers(model)
        last = layers[-1]
        values = (last.r, last.c, last.theta[0, 0], last.c_delta, *last.l_e, last.sigma_ee[0, 0])
        want = [
            "2.15971392",
            "2.94144753",
            "0.67239219",
            "38.124653",
            "-5.758133",
            "1.988065",
            "5.903205",
        ]
        assert [f"{x:.{len(y.split('.')[1])}f}" for x, y in zip(values, want, strict=True)] == want
        check(solve_multi_step(model, 2.0, 0.1, bulk="multi_step"), "0.23977634", "0.09558283")

    def test_layers_of_a_shifted_activation(self):
        model = stepped(SHIFTED, "tanh", (2, 2), (1, 1))
        check(solve_multi_step(model, 2.0, 0.1, bulk="multi_step"), "0.20506496", "0.07913852")

    @pytest.mark.parametrize("sigma", ["tanh", "relu", SHIFTED], ids=["tanh", "relu", "shifted"])
    def test_the_recursion_of_one_step_is_section_14(self, sigma):
        one = solve_one_step(stepped(sigma, "sin", 2.0, 0.7, noise=0.1), 1.5, 0.1)
        many = stepped(sigma, "sin", (2.0,), (0.7,), noise=0.1)
        same(solve_multi_step(many, 1.5, 0.1, bulk="multi_step"), one, 1e-8)

    def test_the_recursion_of_one_step_and_two_directions(self):
        one = solve_one_step(stepped(SHIFTED, SUM, 2.0, 0.7), 1.5, 0.1)
        many = stepped(SHIFTED, SUM, (2.0,), (0.7,))
        same(solve_multi_step(many, 1.5, 0.1, bulk="multi_step"), one, 1e-7)

    def test_a_tiny_step_changes_little(self):
        one = solve_multi_step(stepped(SHIFTED, "sin", (2.0,), (0.7,)), 1.5, 0.1, bulk="multi_step")
        many = stepped(SHIFTED, "sin", (2.0, 1e-9, 3.0), (0.7, 1.0, 0.0))
        same(solve_multi_step(many, 1.5, 0.1, bulk="multi_step"), one, 1e-8)

    def test_refusals(self):
        model = stepped("tanh", "sin", (3, 3), (0.5, 0.5), readout=(0.5, 1))
        with pytest.raises(ValueError, match="for one readout value"):
            solve_multi_step(model, 2.0, 0.1, bulk="multi_step")
        with pytest.raises(ValueError, match="bulk must be"):
            solve_multi_step(model, 2.0, 0.1, bulk="one_step")


def test_rules_of_many_nodes() -> None:
    """NumPy's rules of more than 370 nodes are not numbers; those of three variables are large."""
    from srfx.reference._spiked import gauss_hermite
    from srfx.reference._targets import hermite

    for count in (60, 299, 301, 600):
        x, w = gauss_hermite(count)
        assert w.sum() == pytest.approx(1, rel=1e-13)
        assert w @ x**6 == pytest.approx(15, rel=1e-12)
    with pytest.raises(ValueError, match="density must be smaller here: a rule of 396 nodes"):
        hermite(396, 3)
    model = srfx.SpikedRF("tanh", "sin", spikes=[[1, 0.3], [-0.4, 1.2]], alignment=[[0.6, 0.5]])
    fine = reference.solve_spikes(model, 1.5, 0.1, density=3).test_error
    assert fine == pytest.approx(reference.solve_spikes(model, 1.5, 0.1).test_error, rel=1e-12)
