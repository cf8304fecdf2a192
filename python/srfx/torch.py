"""Test and training error as functions of PyTorch, with exact derivatives.

The numbers come from `solve` and the slopes from `Solution.gradient` (THEORY section 11): always in
float64 on the processor, a batch as one call, whatever the tensors are. Needs ``srfx[torch]``;
``import srfx.torch`` or ``srfx.torch.test_error`` loads it.

Results have the type of the tensors given (float64 beside plain numbers alone), and so do
gradients. Of float32 they keep seven digits: give float64 where differences of errors count.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from srfx import _bridge
from srfx import _validation as check

try:
    import torch
except ImportError as error:
    raise ImportError("srfx.torch needs PyTorch: pip install 'srfx[torch]'") from error

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
) -> torch.Tensor:
    """Compute the noise-free test error, as a differentiable function of its numeric arguments.

    Parameters
    ----------
    model : SpikedRF or OneStep
        The model, with single numbers.
    alpha, lam : float, array or tensor
        As in `solve`. They broadcast.
    d : float, optional
        Input dimension, as in `solve`; a constant.
    bulk, n_threads
        As in `solve`.
    **fields : float, array or tensor
        Numeric fields of the model, such as ``eta`` or ``r``, in place of its own: those to
        differentiate in, or to give arrays of.

    Returns
    -------
    torch.Tensor
        Of the common shape, on the device of the tensors given; NaN where a point did not converge.
        ``backward``, ``torch.func.grad``, ``jvp`` and ``vmap`` work; there are no second
        derivatives.

    Raises
    ------
    TypeError, ValueError
        As `solve`.
    NotImplementedError
        Derivatives that `Solution.gradient` does not have.

    Examples
    --------
    >>> import srfx, srfx.torch, torch
    >>> lam = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    >>> srfx.torch.test_error(srfx.OneStep(eta=2), 2.0, lam).backward()
    >>> exact = srfx.solve(srfx.OneStep(eta=2), 2.0, 0.1).gradient("lam")
    >>> bool(abs(lam.grad / exact - 1) < 1e-12)
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
) -> torch.Tensor:
    """Compute the training error; arguments, result and errors are those of `test_error`.

    Examples
    --------
    >>> import srfx, srfx.torch
    >>> f"{srfx.torch.train_error(srfx.SpikedRF(), 2.0, 0.1).item():.4f}"
    '0.0216'
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
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute test and training error at once; arguments and errors are those of `test_error`.

    Examples
    --------
    >>> import srfx, srfx.torch
    >>> test, train = srfx.torch.errors(srfx.SpikedRF(), [1.0, 2.0], 0.1)
    >>> test.shape
    torch.Size([2])
    """
    arguments = _bridge.given(model, alpha, lam, fields)
    settings = {"d": d, "bulk": bulk, "n_threads": n_threads}
    tensors = [x for x in arguments.values() if isinstance(x, torch.Tensor)]
    kind = functools.reduce(torch.promote_types, [x.dtype for x in tensors] or [torch.float64])
    kind = kind if kind.is_floating_point else torch.float64
    device = tensors[0].device if tensors else torch.device("cpu")
    values = [
        x.to(device, kind)
        if isinstance(x, torch.Tensor)
        else torch.tensor(np.asarray(x, dtype=np.float64), device=device)
        for x in arguments.values()
    ]
    of = tuple(name for name, x in arguments.items() if _moves(x))
    about = _About(model, settings, tuple(arguments), of, kind)
    test, train, *_ = _Errors.apply(about, *values)
    return test, train


@dataclasses.dataclass(frozen=True)
class _About:
    """What is no tensor."""

    model: Any
    settings: dict[str, Any]
    names: tuple[str, ...]
    of: tuple[str, ...]  # what slopes are wanted in
    kind: torch.dtype


def _moves(x: Any) -> bool:
    """Whether a slope in it may be asked for, backward or forward."""
    if not isinstance(x, torch.Tensor):
        return False
    return x.requires_grad or torch.autograd.forward_ad.unpack_dual(x).tangent is not None


class _Errors(torch.autograd.Function):
    """Both errors, and behind them the slopes of both in what moves."""

    @staticmethod
    def forward(about: _About, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        numbers = (value.numpy(force=True) for value in values)
        arguments = dict(zip(about.names, numbers, strict=True))
        found = _bridge.evaluate(about.model, about.settings, arguments, about.of)
        return tuple(torch.tensor(x, dtype=about.kind, device=values[0].device) for x in found)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.about, *values = inputs
        ctx.shapes = [value.shape for value in values]
        slopes = output[2:]
        ctx.mark_non_differentiable(*slopes)
        ctx.save_for_backward(*slopes)
        ctx.save_for_forward(*slopes)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, test: Any, train: Any, *_: Any) -> tuple[Any, ...]:
        slopes = dict(zip(ctx.about.of, _pairs(ctx.saved_tensors), strict=True))
        out: list[Any] = [None]
        for name, shape in zip(ctx.about.names, ctx.shapes, strict=True):
            slope = slopes.get(name)
            moved = None if slope is None else test * slope[0] + train * slope[1]
            out.append(None if moved is None else moved.sum_to_size(shape))
        return tuple(out)

    @staticmethod
    def jvp(ctx: Any, _: Any, *tangents: Any) -> tuple[Any, ...]:
        moves = dict(zip(ctx.about.names, tangents, strict=True))
        pairs = list(zip(ctx.about.of, _pairs(ctx.saved_tensors), strict=True))
        along = [sum(pair[i] * moves[name] for name, pair in pairs) for i in (0, 1)]
        return (*along, *(None for _ in ctx.saved_tensors))

    @staticmethod
    def vmap(info: Any, in_dims: Any, about: _About, *values: torch.Tensor) -> Any:
        """Make of a batch an axis more, the first of all arguments."""
        dims = in_dims[1:]
        most = max(v.ndim - (dim is not None) for v, dim in zip(values, dims, strict=True))
        moved = []
        for value, dim in zip(values, dims, strict=True):
            front = value.unsqueeze(0) if dim is None else value.movedim(dim, 0)
            ones = (1,) * (most + 1 - front.ndim)
            moved.append(front.reshape(front.shape[0], *ones, *front.shape[1:]))
        out = _Errors.apply(about, *moved)
        return out, (0,) * len(out)


def _pairs(slopes: Any) -> list[Any]:
    """Slopes of test and training error, for each name."""
    return list(zip(slopes[0::2], slopes[1::2], strict=True))
