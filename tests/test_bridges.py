"""The errors as functions of JAX and PyTorch: `nox -s bridges` has both."""

import doctest
import importlib
import importlib.util
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

import srfx
from srfx import _bridge

MODEL = srfx.OneStep("tanh", "sin", eta=2, alpha0=5)
NOISY = srfx.SpikedRF("relu", "tanh", noise=0.1)

needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="needs jax: nox -s bridges"
)
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="needs torch: nox -s bridges"
)


@pytest.fixture
def solved(monkeypatch):
    """Shapes of the batches that the core is asked for."""
    seen = []

    def solve(*arguments, original=_bridge.solve, **settings):
        solution = original(*arguments, **settings)
        seen.append(solution.shape)
        return solution

    monkeypatch.setattr(_bridge, "solve", solve)
    return seen


def test_what_both_share():
    arguments = _bridge.given(MODEL, [1.0, 2.0], 0.1, {"eta": 3.0})
    settings = {"d": None, "bulk": "isotropic", "n_threads": 1}
    test, train, slope, train_slope = _bridge.evaluate(MODEL, settings, arguments, ["eta"])
    want = srfx.solve(srfx.OneStep("tanh", "sin", eta=3, alpha0=5), [1.0, 2.0], 0.1)
    np.testing.assert_array_equal(test, want.test_error)
    np.testing.assert_array_equal(train, want.train_error)
    np.testing.assert_array_equal(slope, want.gradient("eta"))
    np.testing.assert_array_equal(train_slope, want.gradient("eta", of="train_error"))
    with pytest.raises(ValueError, match=r"a field must be one of .*; got 'etta'"):
        _bridge.given(MODEL, 1.0, 0.1, {"etta": 1})
    many = srfx.OneStep(eta=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"single numbers in the fields that are not given"):
        _bridge.evaluate(many, settings, {"alpha": 1.0, "lam": 0.1}, [])


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_package_that_is_missing(name, run_python):
    code = (
        f"import sys; sys.modules[{name!r}] = None; import srfx\n"
        f"try: srfx.{name}\n"
        "except ImportError as error: print(error)"
    )
    assert f"pip install 'srfx[{name}]'" in run_python(code)


@pytest.mark.parametrize(
    "name", [pytest.param("jax", marks=needs_jax), pytest.param("torch", marks=needs_torch)]
)
def test_examples(name):
    found = doctest.testmod(importlib.import_module(f"srfx.{name}"))
    assert (found.failed, found.attempted > 5) == (0, True)


@needs_jax
@needs_torch
def test_the_page(run_python):
    page = Path(__file__).parents[1] / "docs" / "bridges.md"
    if not page.exists():
        pytest.skip("the page is not beside the tests")
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```\n\n((?:    [^\n]*\n)+)", text, re.DOTALL)
    assert len(blocks) == 2
    for code, shown in blocks:
        assert run_python(code) == textwrap.dedent(shown)


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_nothing_is_loaded_unasked(name, run_python):
    assert run_python(f"import sys, srfx; print({name!r} in sys.modules)") == "False\n"


@needs_jax
class TestJax:
    @pytest.fixture(autouse=True)
    def _double(self):
        import jax

        with jax.enable_x64(True):
            yield

    @pytest.mark.parametrize("settings", [{}, {"d": 50.0}, {"bulk": "one_step"}])
    def test_its_own_check_of_gradients(self, settings):
        from jax.test_util import check_grads

        def errors(alpha, lam, eta, noise):
            return srfx.jax.errors(MODEL, alpha, lam, eta=eta, noise=noise, **settings)

        alpha = np.array([[0.5], [2.0]])
        at = (alpha, np.array([0.01, 0.1, 1.0]), 1.5, 0.2)
        check_grads(errors, at, order=1, modes=("fwd", "rev"), eps=1e-5, atol=1e-7, rtol=1e-7)

    def test_values_and_slopes_are_those_of_solve(self):
        import jax

        want = srfx.solve(NOISY, 2.0, 0.1)
        assert srfx.jax.test_error(NOISY, 2.0, 0.1) == want.test_error
        assert srfx.jax.train_error(NOISY, 2.0, 0.1).dtype == "float64"
        for name in ("r", "c", "gamma", "beta", "noise"):
            at = 0.5 if name == "gamma" else getattr(NOISY, name)
            model = srfx.SpikedRF("relu", "tanh", **{"noise": 0.1, name: at})

            def error(x, name=name):
                return srfx.jax.train_error(NOISY, 2.0, 0.1, **{name: x})

            slope = srfx.solve(model, 2.0, 0.1).gradient(name, of="train_error")
            assert jax.grad(error)(at) == slope
            assert jax.jit(jax.jacfwd(error))(at) == slope

    def test_a_batch_is_one_call(self, solved):
        import jax

        def error(lam, eta):
            return srfx.jax.test_error(MODEL, np.array([0.5, 1.0, 2.0]), lam, eta=eta)

        lam, eta = np.geomspace(0.01, 1, 4), np.linspace(0.5, 3, 5)
        inner = jax.vmap(error, in_axes=(None, 0))
        found = jax.jit(jax.vmap(inner, in_axes=(0, None)))(lam, eta)
        assert solved == [(4, 5, 3)]
        models = srfx.OneStep("tanh", "sin", eta=eta[:, None], alpha0=5)
        want = srfx.solve(models, [0.5, 1.0, 2.0], lam[:, None, None])
        np.testing.assert_array_equal(found, want.test_error)
        solved.clear()
        slopes = jax.vmap(jax.grad(lambda lam, eta: error(lam, eta).sum()))(lam[:1] * eta, eta)
        assert solved == [(5, 3)]
        want = srfx.solve(models, [0.5, 1.0, 2.0], (lam[0] * eta)[:, None]).gradient("lam")
        np.testing.assert_allclose(slopes, want.sum(axis=1), rtol=1e-14)

    def test_only_what_moves_is_differentiated(self):
        import jax

        still = srfx.OneStep("tanh", "sin", alpha0=0.0)  # has no slope in alpha0

        def error(lam, alpha0):
            return srfx.jax.test_error(still, 2.0, lam, alpha0=alpha0)

        assert jax.grad(error)(0.1, 0.0) == srfx.solve(still, 2.0, 0.1).gradient("lam")
        with pytest.raises(ValueError, match="alpha0 must be > 0 for a derivative in it"):
            jax.grad(error, argnums=1)(0.1, 0.0)

    def test_what_it_refuses(self):
        import jax

        def error(lam):
            return srfx.jax.test_error(MODEL, 2.0, lam)

        with pytest.raises(ValueError, match=r"lam must be finite and >= 0"):
            error(-1.0)
        with pytest.raises(Exception, match=r"lam must be finite and >= 0"):
            jax.block_until_ready(jax.jit(error)(-1.0))
        with pytest.raises(NotImplementedError, match="first derivatives alone"):
            jax.hessian(error)(0.1)
        with pytest.raises(ValueError, match="a field must be one of"):
            srfx.jax.test_error(MODEL, 2.0, 0.1, etta=1.0)

    def test_float32(self):
        import jax

        with jax.enable_x64(False):
            value, slope = jax.jit(
                jax.value_and_grad(lambda x: srfx.jax.test_error(MODEL, 2.0, x))
            )(0.1)
            assert value.dtype == slope.dtype == "float32"
        want = srfx.solve(MODEL, 2.0, float(np.float32(0.1)))
        assert value == np.float32(want.test_error)
        assert slope == np.float32(want.gradient("lam"))

    def test_a_descent(self):
        """In a loop that JAX compiles, and to the optimum that srfx.optimal finds."""
        import jax

        def step(_, log):
            return log - 10 * jax.grad(lambda x: jax.numpy.log(error(x)))(log)

        def error(log):
            return srfx.jax.test_error(NOISY, 2.0, jax.numpy.exp(log))

        log = jax.jit(lambda x: jax.lax.fori_loop(0, 200, step, x))(0.0)
        assert np.exp(log) == pytest.approx(
            srfx.optimal(NOISY, {"lam": (1e-4, 1e2)}, alpha=2.0).lam.item(), rel=1e-3
        )


@needs_torch
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
class TestTorch:
    @pytest.mark.parametrize("settings", [{}, {"d": 50.0}, {"bulk": "one_step"}])
    def test_its_own_check_of_gradients(self, settings):
        import torch

        def errors(alpha, lam, eta, noise):
            return srfx.torch.errors(MODEL, alpha, lam, eta=eta, noise=noise, **settings)

        at = [
            torch.tensor(x, dtype=torch.float64, requires_grad=True)
            for x in ([[0.5], [2.0]], [0.01, 0.1, 1.0], 1.5, 0.2)
        ]
        checks = {"check_forward_ad": True, "check_batched_grad": False}
        assert torch.autograd.gradcheck(errors, at, eps=1e-6, atol=1e-6, rtol=1e-6, **checks)

    def test_values_and_slopes_are_those_of_solve(self):
        import torch

        want = srfx.solve(NOISY, [1.0, 2.0], 0.1)
        found = srfx.torch.test_error(NOISY, [1.0, 2.0], 0.1)
        assert (found.dtype, found.requires_grad) == (torch.float64, False)
        np.testing.assert_array_equal(found, want.test_error)
        r = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
        srfx.torch.train_error(
            NOISY, [1.0, 2.0], torch.tensor(0.1, dtype=torch.float64), r=r
        ).sum().backward()
        slope = want.gradient("r", of="train_error")
        assert r.grad.item() == pytest.approx(slope.sum(), rel=1e-14)

    def test_a_batch_is_one_call(self, solved):
        import torch

        def error(lam, eta):
            return srfx.torch.test_error(MODEL, [0.5, 1.0, 2.0], lam, eta=eta)

        lam, eta = torch.logspace(-2, 0, 4).double(), torch.linspace(0.5, 3, 5).double()
        inner = torch.func.vmap(error, in_dims=(None, 0))
        found = torch.func.vmap(inner, in_dims=(0, None))(lam, eta)
        assert solved == [(4, 5, 3)]
        models = srfx.OneStep("tanh", "sin", eta=eta.numpy()[:, None], alpha0=5)
        want = srfx.solve(models, [0.5, 1.0, 2.0], lam.numpy()[:, None, None])
        np.testing.assert_array_equal(found, want.test_error)
        solved.clear()
        total = torch.func.grad(lambda lam, eta: error(lam, eta).sum())
        slopes = torch.func.vmap(total)(lam[0] * eta, eta)
        assert solved == [(5, 3)]
        want = srfx.solve(models, [0.5, 1.0, 2.0], (lam[0] * eta).numpy()[:, None])
        np.testing.assert_allclose(slopes, want.gradient("lam").sum(axis=1), rtol=1e-14)
        _, along = torch.func.jvp(lambda x: error(x, eta[:, None]).sum(), (lam[0],), (lam[1],))
        want = srfx.solve(models, [0.5, 1.0, 2.0], lam[0].item()).gradient("lam").sum()
        assert along.item() == pytest.approx(want * lam[1].item(), rel=1e-13)

    def test_only_what_moves_is_differentiated(self):
        import torch

        still = srfx.OneStep("tanh", "sin", alpha0=0.0)  # has no slope in alpha0
        lam = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
        alpha0 = torch.tensor(0.0, dtype=torch.float64)
        srfx.torch.test_error(still, 2.0, lam, alpha0=alpha0).backward()
        assert lam.grad.item() == srfx.solve(still, 2.0, 0.1).gradient("lam")
        with pytest.raises(ValueError, match="alpha0 must be > 0 for a derivative in it"):
            srfx.torch.test_error(still, 2.0, lam, alpha0=alpha0.requires_grad_())

    def test_what_it_refuses(self):
        import torch

        with pytest.raises(ValueError, match=r"lam must be finite and >= 0"):
            srfx.torch.test_error(MODEL, 2.0, torch.tensor(-1.0))
        lam = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(
            srfx.torch.test_error(MODEL, 2.0, lam), lam, create_graph=True
        )
        with pytest.raises(RuntimeError, match=r"differentiate twice|does not require grad"):
            slope.backward()

    def test_float32(self):
        import torch

        lam = torch.tensor(0.1, requires_grad=True)
        value = srfx.torch.test_error(MODEL, 2.0, lam)
        value.backward()
        want = srfx.solve(MODEL, 2.0, float(np.float32(0.1)))
        assert value.dtype == lam.grad.dtype == torch.float32
        assert value.item() == np.float32(want.test_error)
        assert lam.grad.item() == np.float32(want.gradient("lam"))
        assert srfx.torch.test_error(MODEL, torch.tensor([1, 2]), 0.1).dtype == torch.float64

    def test_a_descent(self):
        import torch

        log = torch.zeros((), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([log], lr=10)
        for _ in range(200):
            optimizer.zero_grad()
            srfx.torch.test_error(NOISY, 2.0, log.exp()).log().backward()
            optimizer.step()
        best = srfx.optimal(NOISY, {"lam": (1e-4, 1e2)}, alpha=2.0).lam.item()
        assert log.exp().item() == pytest.approx(best, rel=1e-3)
