"""Readouts fitted with another loss than the square, or to labels: what they ask of `_core`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srfx import _core, weights
from srfx._points import columns, distinct, spike_sets, without_axes_of_one
from srfx.losses import CLASSIFICATION, Chosen, Huber, chosen
from srfx.models import (
    FloatArray,
    Model,
    MultiStep,
    OneStep,
    compiled,
    group_count,
    groups_of,
    label,
    label_law,
    layout,
    probabilities,
    target_of,
)
from srfx.weights import EmpiricalBulk


def is_ridge(model: Model, loss: Chosen) -> bool:
    """Whether this is ridge regression on real labels, which sections 3 to 10 solve."""
    return loss.loss == "square" and model.labels == "real"


#: Groups of neurons that another loss than the square is solved for, so that a point takes no more
#: than half a minute: the time goes with the fifth power of their number, or faster.
MAX_LOSS_GROUPS = {"isotropic": 32, "one_step": 8}


def _single(model: Model) -> bool:
    """Whether it is one group beside one spike, and a target of one direction."""
    return layout(model) == "one" and model.directions == 1 and not isinstance(model, MultiStep)


def check_readout(
    model: Model, loss: object, lam: float | FloatArray, bulk: str | EmpiricalBulk = "isotropic"
) -> Chosen:
    """Check a loss beside the model and refuse what section 19 does not cover, before any work."""
    known = chosen(loss, model.labels, lam)
    if is_ridge(model, known):
        return known
    what = f"loss={known.label!r}" if known.loss != "square" else f"labels={model.labels!r}"
    most = MAX_LOSS_GROUPS.get(str(bulk))  # with the other bulks check_bulk refuses several
    if most is not None and group_count(model) > most:
        raise NotImplementedError(
            f"readout must have at most {most} values with {what} and bulk={bulk!r}, and spikes as "
            f"many rows: a point of more would take minutes; got {group_count(model)}"
        )
    if np.any(np.asarray(lam) == 0):
        raise ValueError(
            f"lam must be > 0 with {what}; got 0: the ridgeless limit is known for loss='square' "
            "with real labels alone; approach it by a small lam, such as 1e-6"
        )
    return known


def solve_readout(
    model: Model,
    bulk: str | EmpiricalBulk,
    loss: Chosen,
    arguments: Mapping[str, float | FloatArray],
    shape: tuple[int, ...],
    n_threads: int,
    slopes: bool = False,
) -> dict[str, NDArray[Any]]:
    """Solve every point.

    With ``slopes`` derivatives too, as an array ``(4, 2, n)``: of train_loss, test_loss, test_error
    and classification_error by lam and by alpha.
    """
    common: dict[str, Any] = {
        "sigma": compiled(model.activation),
        "loss": (loss.kind, loss.kappa, loss.lo, loss.hi, loss.margin),
        "labels": model.labels,
        "n_points": math.prod(shape),
        "n_threads": n_threads,
    }
    raw: dict[str, NDArray[Any]]
    common["slopes"] = slopes
    if bulk in ("one_step", "multi_step") and weights.in_layers(model):
        assert isinstance(model, (OneStep, MultiStep))
        given = weights.inputs_of_layers(model, arguments, shape)
        return without_axes_of_one(_core.solve_layer_losses(**(given | common)))
    if bulk == "one_step" and len(model.readout) > 1:
        given = weights.inputs_of_step(model, arguments, shape)
        shares = list(probabilities(model))
        raw = _core.solve_group_step_losses(
            **(given | common), readout=list(model.readout), pi=shares
        )
        return without_axes_of_one(raw)
    if isinstance(bulk, EmpiricalBulk):
        law = np.asarray(label_law(model.labels, arguments), dtype=np.float64)
        table, index = distinct([law], shape)
        given = weights.inputs_of_weights(model, bulk, arguments, shape) | common
        given |= {"set_noise": table[:, 0], "set_index": index}
        if model.directions > 1:
            return without_axes_of_one(_core.solve_group_losses_empirical(**given))
        return _core.solve_losses_empirical(**given)
    if not _single(model):
        return _solve_groups(model, common, arguments, shape)
    common["target"] = compiled(model.target)
    if bulk == "one_step":
        assert isinstance(model, OneStep)
        given = weights.inputs_of_step(model, arguments, shape)
        raw = _core.solve_losses_one_step(**(given | common), readout=model.readout[0])
    else:
        r, c, gamma = groups_of(model)
        noises = np.asarray(label_law(model.labels, arguments), dtype=np.float64)
        table, index = distinct([r[..., 0], c[..., 0], gamma, noises], shape)
        names = ("r", "c", "gamma", "set_noise")
        sets: dict[str, Any] = dict(zip(names, np.ascontiguousarray(table.T), strict=True))
        beta, noise, alpha, lam, inverse_d = columns(arguments, shape)
        raw = _core.solve_losses(
            **common,
            **sets,
            set_index=index,
            beta=beta,
            noise=noise,
            alpha=alpha,
            lam=lam,
            inv_d=inverse_d,
        )
    return raw


def _solve_groups(
    model: Model,
    common: dict[str, Any],
    arguments: Mapping[str, float | FloatArray],
    shape: tuple[int, ...],
) -> dict[str, NDArray[Any]]:
    """Solve every point of several groups, spikes or directions, with an isotropic bulk."""
    sets = spike_sets(model, shape, label_law(model.labels, arguments))
    r, c, gamma = sets.r, sets.c, sets.gamma
    if sets.alone:  # beside several directions
        r, c = r[:, np.newaxis, np.newaxis], c[:, np.newaxis]
        gamma = gamma.reshape(len(r), -1, 1)
    beta, noise, alpha, lam, inverse_d = columns(arguments, shape)
    raw = _core.solve_group_losses(
        **common,
        target=sets.target if r.ndim < 3 else target_of(model),
        r=r,
        c=c,
        gamma=gamma,
        pi=np.asarray(probabilities(model)),
        set_noise=sets.noise,
        set_index=sets.of_point,
        beta=beta,
        noise=noise,
        alpha=alpha,
        lam=lam,
        inv_d=inverse_d,
    )
    return without_axes_of_one(raw)


def remedy(loss: Chosen, model: Model, status: str, at: Mapping[str, float]) -> str | None:
    """Say what may be done about a point that failed for reasons of its loss."""
    separable = (
        "the training data can be separated there, so that the readout grows without bound as lam "
        "goes to 0; its direction tends to that of loss='max_margin'"
    )
    hard = loss.loss == "max_margin"  # which knows no lam
    tails = (
        f"with {label(model.activation)} and this spike the averages hang on |k| > 6, values of "
        "the projection on the spike that no sample draws, or on labels as rare: take a smaller "
        f"r{'' if hard else ' or a larger lam'}"
    )
    if hard:
        return (
            "No readout separates the training data there, as far as the theory can tell, or "
            f"{tails}. A smaller alpha or a larger beta makes data separable; loss='hinge' needs "
            "no separable data."
        )
    grows = loss.loss in CLASSIFICATION  # the others are least at y f = 1
    if status == "diverged":
        return f"Either {separable}, or {tails}." if grows else f"There, {tails}."
    partial = "errors='record' returns the points that did converge."
    if grows and at["lam"] < 1e-3:
        return f"Perhaps {separable}. Take a larger lam; {partial}"
    # What lam is beside: the slopes of the loss, or 1.
    beside = at["lam"] / min(1.0, loss.hi - loss.lo) if loss.kind == "piecewise" else at["lam"]
    if loss.loss != "square" and beside >= 1:
        ways = ["a smaller lam"]
        ways += ["a larger delta"] if isinstance(loss.loss, Huber) else []
        ways += ["a finite d"] if math.isinf(at["d"]) else []
        return (
            "So large a penalty leaves predictions whose scatter is narrow beside the bends of "
            f"the loss, which the method does not resolve: use {' or '.join(ways)}; {partial}"
        )
    return None
