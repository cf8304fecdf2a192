"""What comes after "what is the error": its derivatives, optima, thresholds, spectra."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from srfx import _core
from srfx import _validation as check
from srfx.models import FloatArray, OneStep, SpikedRF, compiled, gaussian_constants, groups_of
from srfx.results import Solution
from srfx.theory import _coefficient_sets, _flat

#: Directions of the core, in its order.
_CORE = ("lam", "alpha", "beta", "noise", "r", "c", "gamma")
_ERRORS = ("test_error", "train_error")


def gradient(
    solution: Solution, names: Sequence[str], of: Sequence[str], n_threads: int | None
) -> dict[tuple[str, str], FloatArray]:
    """Differentiate a solution: (error, parameter) -> values; see `Solution.gradient`."""
    model = solution.model
    known = ("lam", "alpha", *model._numeric_names)
    for name in names:
        check.one_of("name", name, known)
    for name in of:
        check.one_of("of", name, _ERRORS)
    threads = check.thread_count(n_threads)
    if solution.bulk != "isotropic" or len(model.readout) > 1:
        raise NotImplementedError(
            "gradient is available for one readout value and bulk='isotropic'; got readout="
            f"{model.readout}, bulk={solution.bulk!r}"
        )
    lam = solution.arguments["lam"]
    if np.any(np.isinf(solution.v2)):
        raise NotImplementedError(
            "gradient is not available in the ridgeless limit at or below the interpolation "
            f"threshold, where V is infinite; use a small lam > 0; got lam={lam!r}"
        )
    chains = {name: _chain(model, name) for name in names}
    directions = [d for d in _CORE if any(d in chain for chain in chains.values())]
    r, c, gamma = groups_of(model)
    smooth = gamma[np.abs(gamma) > 1 - 5e-9]
    if "gamma" in directions and smooth.size and not compiled(model.target).smooth:
        raise NotImplementedError(
            "the derivative in gamma within 5e-9 of |gamma| = 1 needs a target without kinks; got "
            f"gamma={float(smooth.flat[0])!r}, target={model.target!r}"
        )
    shape = solution.shape
    sets, index = _coefficient_sets((r, c, gamma), shape)
    test, train = _core.gradient(
        compiled(model.activation),
        compiled(model.target),
        sets[0].ravel(),
        sets[1].ravel(),
        sets[2],
        index,
        _flat(model.beta, shape),
        _flat(model.noise, shape),
        _flat(solution.arguments["alpha"], shape),
        _flat(lam, shape),
        _flat(1 / np.asarray(solution.arguments["d"]), shape),
        np.ravel(np.asarray(solution.v1)),
        np.ravel(np.asarray(solution.v2)),
        [_CORE.index(d) for d in directions],
        threads,
    )
    raw = {
        (error, d): values[i].reshape(shape)
        for error, values in zip(_ERRORS, (test, train), strict=True)
        for i, d in enumerate(directions)
    }
    return {
        (error, name): sum(
            (raw[error, d] * factor for d, factor in chain.items()), np.zeros(shape)
        )[()]
        for error in of
        for name, chain in chains.items()
    }


def _chain(model: SpikedRF | OneStep, name: str) -> dict[str, float | FloatArray]:
    """Give what a unit of a parameter does to those of the core: direction -> derivative."""
    (a,) = model.readout
    if isinstance(model, SpikedRF):
        return {name: {"r": a, "c": a * a}.get(name, 1.0)}
    if name not in ("eta", "alpha0", "noise"):
        return {name: 1.0}
    sigma = gaussian_constants(model.activation, derivative=True)
    target = gaussian_constants(model.target)
    h1, h2, curved = sigma["h1"], sigma["h2"], sigma["h2"] ** 2 + sigma["hc1"]
    offset = a * sigma["mean"]
    u1 = target["mean"] - offset
    u2 = target["second_moment"] - 2 * offset * target["mean"] + offset**2 + model.noise
    eta = a * np.asarray(model.eta)
    alpha0 = np.asarray(model.alpha0)
    if name == "alpha0" and np.any(alpha0 == 0):
        raise ValueError(
            "alpha0 must be > 0 for a derivative in it: alpha0 = 0 means no step, which no small "
            f"alpha0 comes near; got alpha0={model.alpha0!r}"
        )
    stepped = alpha0 > 0
    share = np.where(stepped, 1 / np.where(stepped, alpha0, 1.0), 0.0)  # 1/alpha0
    length = np.sqrt(target["h1"] ** 2 + u2 * share)
    if name == "eta":
        dr = a * h1 * length
        dc = a * (2 * (1 + eta * h2 * u1) * h2 * u1 + 2 * eta * curved * u2 * share)
        return {"r": np.where(stepped, dr, 0.0), "c": np.where(stepped, dc, 0.0)}
    # alpha0 and noise act through u2/alpha0
    moved = -u2 * share**2 if name == "alpha0" else share
    safe = np.where(length > 0, length, 1.0)
    chain: dict[str, float | FloatArray] = {
        "r": eta * h1 * moved / (2 * safe),
        "c": eta**2 * curved * moved,
    }
    turn = -target["h1"] * moved / (2 * safe**3)
    if np.any(turn != 0):
        chain["gamma"] = turn
    if name == "noise":
        chain["noise"] = 1.0
    return chain
