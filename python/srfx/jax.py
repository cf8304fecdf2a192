"""Test and training error as functions of JAX: differentiable, under ``jit`` and ``vmap``.

The numbers come from `solve` and the slopes from `Solution.gradient` (THEORY section 11), both
through ``jax.pure_callback``: always in float64 on the processor, a batch as one call. Needs
``srfx[jax]``; ``import srfx.jax`` or ``srfx.jax.test_error`` loads it.

JAX computes in float32 unless ``jax.config.update("jax_enable_x64", True)`` was called. Then
arguments reach the equations rounded to seven digits, and what comes back is rounded likewise: each
is as good as float32 can be, but differences of two errors are not. srfx does not change the
setting, which belongs to the whole process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srfx import _bridge
from srfx import _validation as check

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    raise ImportError("srfx.jax needs JAX: pip install 'srfx[jax]'") from error

if TYPE_CHECKING:
    from srfx.weights import EmpiricalBulk

__all__ = ["errors", "test_error", "train_error"]


@check.public
def test_error(
    model: Any,
    alpha: Any,
    lam: Any,
    *,
    d: float | None = None,
    bulk: str | EmpiricalBulk = "isotropic",
    n_threads: int | None = None,
    **fields: Any,
) -> jax.Array:
    """Compute the noise-free test error, as a differentiable function of its numeric arguments.

    Parameters
    ----------
    model : SpikedRF or OneStep
        The model, with single numbers.
    alpha, lam : float or array
        As in `solve`: numbers, NumPy's or JAX's arrays, traced or not. They broadcast.
    d : float, optional
        Input dimension, as in `solve`; a constant.
    bulk, n_threads
        As in `solve`.
    **fields : float or array
        Numeric fields of the model, such as ``eta`` or ``r``, in place of its own: those to
        differentiate in, or to give arrays of.

    Returns
    -------
    jax.Array
        Of the common shape, float64 or float32 as JAX is set; NaN where a point did not converge.
        Forward and reverse derivatives are exact; there are none of second order.

    Raises
    ------
    TypeError, ValueError
        As `solve`. Values known under ``jit`` alone are checked when the compiled function runs:
        JAX then raises an error of its own with the same words.
    NotImplementedError
        Derivatives that `Solution.gradient` does not have, among them all second ones.

    Examples
    --------
    >>> import jax, srfx, srfx.jax
    >>> def error(lam):
    ...     return srfx.jax.test_error(srfx.OneStep(eta=2), alpha=2.0, lam=lam)
    >>> slope = jax.jit(jax.grad(error))(0.1)
    >>> exact = srfx.solve(srfx.OneStep(eta=2), 2.0, 0.1).gradient("lam")
    >>> bool(abs(slope / exact - 1) < 1e-5)
    True
    """
    return errors(model, alpha, lam, d=d, bulk=bulk, n_threads=n_threads, **fields)[0]


@check.public
def train_error(
    model: Any,
    alpha: Any,
    lam: Any,
    *,
    d: float | None = None,
    bulk: str | EmpiricalBulk = "isotropic",
    n_threads: int | None = None,
    **fields: Any,
) -> jax.Array:
    """Compute the training error; arguments, result and errors are those of `test_error`.

    Examples
    --------
    >>> import jax, srfx, srfx.jax
    >>> slope = jax.grad(lambda r: srfx.jax.train_error(srfx.SpikedRF(), 2.0, 0.1, r=r))(0.9)
    >>> exact = srfx.solve(srfx.SpikedRF(), 2.0, 0.1).gradient("r", of="train_error")
    >>> bool(abs(slope / exact - 1) < 1e-5)
    True
    """
    return errors(model, alpha, lam, d=d, bulk=bulk, n_threads=n_threads, **fields)[1]


@check.public
def errors(
    model: Any,
    alpha: Any,
    lam: Any,
    *,
    d: float | None = None,
    bulk: str | EmpiricalBulk = "isotropic",
    n_threads: int | None = None,
    **fields: Any,
) -> tuple[jax.Array, jax.Array]:
    """Compute test and training error at once; arguments and errors are those of `test_error`.

    Examples
    --------
    >>> import srfx, srfx.jax
    >>> test, train = srfx.jax.errors(srfx.SpikedRF(), [1.0, 2.0], 0.1)
    >>> test.shape, bool((train < test).all())
    ((2,), True)
    """
    arguments = _bridge.given(model, alpha, lam, fields)
    settings = {"d": d, "bulk": bulk, "n_threads": n_threads}
    names = tuple(arguments)
    values = [jnp.asarray(value, dtype=float) for value in arguments.values()]
    shape = jnp.broadcast_shapes(*(value.shape for value in values))
    values = [value.reshape((1,) * (len(shape) - value.ndim) + value.shape) for value in values]

    def call(of: tuple[str, ...], *numbers: Any) -> list[jax.Array]:
        """Solve on the host; a batch of vmap is an axis more, of all arguments."""
        wanted = jax.ShapeDtypeStruct(shape, jnp.result_type(float))

        def host(*numbers: Any) -> list[Any]:
            found = _bridge.evaluate(model, settings, dict(zip(names, numbers, strict=True)), of)
            return [value.astype(wanted.dtype) for value in found]

        if not any(isinstance(number, jax.core.Tracer) for number in numbers):
            return [jnp.asarray(value) for value in host(*numbers)]  # errors as they are
        results = [wanted] * (2 + 2 * len(of))
        return list(jax.pure_callback(host, results, *numbers, vmap_method="expand_dims"))

    @jax.custom_jvp
    def solved(*numbers: Any) -> tuple[jax.Array, jax.Array]:
        test, train = call((), *numbers)
        return test, train

    def along(primals: Any, tangents: Any) -> Any:
        moving = [not isinstance(t, jax.custom_derivatives.SymbolicZero) for t in tangents]
        of = tuple(name for name, moves in zip(names, moving, strict=True) if moves)
        once = jax.custom_jvp(lambda *numbers: tuple(call(of, *numbers)))
        once.defjvp(_refuse)
        test, train, *slopes = once(*primals)
        moves = [t for t, there in zip(tangents, moving, strict=True) if there]
        ahead = [
            sum((s * t for s, t in zip(slopes[i::2], moves, strict=True)), jnp.zeros_like(test))
            for i in (0, 1)
        ]
        return (test, train), tuple(ahead)

    solved.defjvp(along, symbolic_zeros=True)
    test, train = solved(*values)
    return test, train


def _refuse(primals: Any, tangents: Any) -> Any:
    raise NotImplementedError("srfx.jax has first derivatives alone; a second one was asked for")
