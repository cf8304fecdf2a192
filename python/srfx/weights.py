"""The bulk that gradient steps leave behind (THEORY 9, 10, 14, 15), and that of given weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srfx import _core, _identity
from srfx import _validation as check
from srfx._points import columns, distinct, flat
from srfx.models import (
    AccuracyWarning,
    FloatArray,
    Model,
    MultiStep,
    OneStep,
    Rebuilt,
    SpikedRF,
    check_groups,
    compiled,
    freeze,
    gaussian_constants,
    group_count,
    label,
    label_law,
    probabilities,
    target_of,
    warn,
)

if TYPE_CHECKING:
    from srfx.results import Solution

BULKS = ("isotropic", "one_step", "multi_step")

#: Directions of a target that the bulk of gradient steps follows.
MAX_STEP_DIRECTIONS = 3

#: Spread of the rows of given weights, over c, at which the theory is off by about one per cent:
#: the variance of ``W v/|v|`` and the standard deviation of the squared norms.
_SPREAD_OF_ALIGNMENT, _SPREAD_OF_NORMS = 0.1, 0.4

#: How much better the transpose of given weights must fit v or theta to look like the weights.
_TRANSPOSED = 10.0
_LAYOUT = (
    "W has one row a neuron, shape (p, d), as the weight of torch.nn.Linear; kernels of flax, "
    "haiku and keras and coefs_ of scikit-learn have shape (d, p): pass W.T"
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class EmpiricalBulk(Rebuilt):
    """The bulk of one given first layer: a theory of that very network.

    Made by `from_weights`, and passed as ``bulk`` to `solve` or `learned_function`, with a model
    that says what the weights do not: activation, target and label noise. Spike, bulk variance,
    alignment and width are those of the weights (THEORY section 9 f).

    All rows are taken to have one spike r and one norm; what they differ by enters to first order.
    That holds to about one per cent for a gradient step with a single readout value, and fails for
    rows of very different ``w.v`` or ``|w|``, such as those of a step with readout values of both
    signs: `from_weights` warns of them.

    Attributes
    ----------
    r, c, gamma : float
        Measured spike strength (the mean of ``W v/|v|``), bulk variance (the mean squared norm of
        the rows without their part along v) and alignment of v with theta; of L directions an array
        of shape (L,).
    p, d : int
        Width and input dimension.
    eigenvalues : array of shape (p,)
        Spectrum of ``W Pi W^T``, ``Pi = 1 - v v^T/|v|^2``, in ascending order.
    vectors : array of shape (4, p)
        ``W v/|v| - r``, ``W`` applied to the part of theta orthogonal to v (normalised), ``|Pi
        w_i|^2 - c`` and ``(1, .., 1)``, in the basis of its eigenvectors. Of L directions there are
        L rows in place of the second: ``W`` applied to the zhat of THEORY section 14, for the
        symmetric root A of ``1 - gamma gamma^T``.
    given : mapping, optional
        Means over parts of the W, v and theta that `from_weights` was given: what a stored scan
        knows them by. The eigenvectors are known to no last digit, which would depend on the
        memory layout of W and the threads of BLAS. None: it was made of the other fields.

    Examples
    --------
    >>> import srfx
    >>> model = srfx.OneStep("tanh", "sin", eta=3, alpha0=1)
    >>> W, v, theta = srfx.simulation.sample_weights(model, d=400, seed=1)
    >>> bulk = srfx.EmpiricalBulk.from_weights(W, v, theta)
    >>> bulk
    <EmpiricalBulk of 400 x 400 weights: r = 1.67214, c = 1.39668, gamma = 0.6994>
    >>> this_one = srfx.solve(model, alpha=2, lam=0.1, bulk=bulk).test_error
    >>> typical = srfx.solve(model, alpha=2, lam=0.1, bulk="one_step", d=400).test_error
    >>> bool(abs(this_one / typical - 1) < 0.1)
    True
    """

    r: float
    c: float
    gamma: float | FloatArray
    p: int
    d: int
    eigenvalues: FloatArray
    vectors: FloatArray
    given: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        freeze(self.eigenvalues, self.vectors, self.gamma)

    @property
    def directions(self) -> int:
        """Directions of the target."""
        return int(np.size(self.gamma))

    @classmethod
    @check.public
    def from_weights(cls, W: ArrayLike, v: ArrayLike, theta: ArrayLike) -> EmpiricalBulk:
        """Measure a first layer: one eigendecomposition of size p.

        Parameters
        ----------
        W : array of shape (p, d)
            First-layer weights: of `srfx.simulation.sample_weights`, of a trained network, of
            anything. Rows of norm about one, inputs N(0, 1). One row a neuron, as
            ``torch.nn.Linear.weight`` has it; kernels of flax, haiku and keras and ``coefs_[0]`` of
            scikit-learn have shape (d, p): pass their transpose. Tensors of torch as
            ``weight.detach().cpu().double().numpy()``; every real type, bfloat16 of JAX among them,
            is converted to float64.
        v : array of shape (d,), or (q, d)
            Direction of the spike. Its norm does not matter. Of several spikes a row each,
            independent: the rows of W share one spike, in the direction of what their mean has in
            the span of these.
        theta : array of shape (d,), or (L, d)
            Direction of the target, whose argument is ``theta.x/|theta|``; of L directions
            orthogonal rows.

        Returns
        -------
        EmpiricalBulk

        Raises
        ------
        TypeError
            An argument does not hold real numbers.
        ValueError
            W is not a matrix with at least two rows and columns, v or theta is not a vector of
            length d (or some of them), an entry is not finite, v or theta is zero, rows of v are
            dependent or those of theta not orthogonal, all of W is beyond 1e-70 or 1e70, W has
            nothing beside its part along v, or is too large for the memory.

        Warns
        -----
        AccuracyWarning
            The rows differ so much that the theory is off by more than about one per cent:
            ``W v/|v|`` has a variance above 0.1 c (of several rows of v: in some direction of
            their span, as where the rows of W have more than one spike), or the squared norms of
            the rows without their part along v a standard deviation above 0.4 c (measured with
            tanh and relu networks). Or W looks transposed: p = d, and the rows of its transpose
            share v or theta where its own do not. Without a spike there is nothing to tell it by.

        Notes
        -----
        Biases are not modelled: neuron i is ``sigma(w_i.x)``. Whether yours matter is told by
        their size beside ``|w_i|``, the spread of ``w_i.x``: random ones of standard deviation 0.1
        and 0.3 times that change the test error by 0.3 and 2.4 % (tanh; ReLU 2 and 6 %), a common
        one of 0.3 by a quarter (docs/accuracy.md). A bias b that all neurons share is part of the
        activation: ``srfx.Activation(lambda x: np.tanh(x + b))``.

        Examples
        --------
        >>> import numpy as np, srfx
        >>> rng = np.random.default_rng(0)
        >>> W = rng.standard_normal((50, 100)) / 10
        >>> bulk = srfx.EmpiricalBulk.from_weights(W, v=np.ones(100), theta=np.arange(100.0))
        >>> print(f"{bulk.gamma:.6f}")
        0.863847
        """
        weights = check.number_or_array("W", W, "a finite matrix of shape (p, d)", np.isfinite)
        weights = np.asarray(weights)
        if weights.ndim != 2 or min(weights.shape) < 2:
            raise ValueError(
                "W must be a matrix of shape (p, d) with p and d at least 2; got shape "
                f"{weights.shape}"
            )
        p, d = weights.shape
        largest = float(np.max(np.abs(weights)))
        if largest != 0 and not 1e-70 < largest < 1e70:
            raise ValueError(
                "W must have a largest entry between 1e-70 and 1e70 in absolute value, so that its "
                f"products can be represented; got {largest:.6g}"
            )
        check.memory(f"W of shape {weights.shape}", 8.0 * (4 * p * p + 3 * p * d))
        spikes, targets = _rows("v", v, d, p), _rows("theta", theta, d, p)
        spike = spikes[0]
        if len(spikes) > 1:
            mean = spikes @ weights.mean(axis=0)
            if not np.any(mean):
                raise ValueError("v must not be orthogonal to the mean row of W; it is")
            spike = mean @ spikes / np.linalg.norm(mean)
        if p == d and any(_fits_transposed(weights, u) for u in (spike, *targets)):
            warn(
                f"W looks transposed: its columns align with v or theta, not its rows. {_LAYOUT}",
                AccuracyWarning,
            )
        gamma: float | FloatArray = float(np.clip(spike @ targets[0], -1.0, 1.0))
        across = targets - np.outer(targets @ spike, spike)
        across -= np.outer(across @ spike, spike)  # what rounding left, where nearly parallel
        if len(targets) > 1:
            gamma = targets @ spike
            values, axes = np.linalg.eigh(np.eye(len(targets)) - np.outer(gamma, gamma))
            kept = values > 1e-12
            inverse = np.where(kept, 1 / np.sqrt(np.where(kept, values, 1.0)), 0.0)
            across = (axes * inverse) @ axes.T @ across
        length = np.linalg.norm(across, axis=1, keepdims=True)
        across = np.where(length > 1e-12, across / np.where(length > 0, length, 1.0), 0.0)

        along = weights @ spike
        bulk = weights - np.outer(along, spike)
        square_norms = np.einsum("ij,ij->i", bulk, bulk)
        r, c = float(along.mean()), float(square_norms.mean())
        if not c > 1e-28 * float(np.mean(along * along)) or c == 0:
            raise ValueError(
                "W must have a part orthogonal to v; all of its rows are multiples of v"
            )
        # along the spike, and along what else the rows may share: a second spike is no bulk
        shared = np.atleast_2d(np.cov(spikes @ weights.T, bias=True))
        _warn_of_spread(float(np.linalg.eigvalsh(shared)[-1]) / c, float(np.std(square_norms)) / c)
        eigenvalues, basis = np.linalg.eigh(bulk @ bulk.T)
        rows = [along - r, *(weights @ x for x in across), square_norms - c, np.ones(p)]
        vectors = np.stack(rows) @ basis
        eigenvalues = np.maximum(eigenvalues, 0.0)
        given = _identity.of_weights(weights, spikes, targets, r, c, gamma, eigenvalues, vectors)
        return cls(r, c, gamma, p, d, eigenvalues, vectors, given)

    def __repr__(self) -> str:
        return (
            f"<EmpiricalBulk of {self.p} x {self.d} weights: r = {self.r:.6g}, c = {self.c:.6g}, "
            f"gamma = {' '.join(f'{x:.6g}' for x in np.atleast_1d(self.gamma))}>"
        )


def _fits_transposed(weights: FloatArray, direction: FloatArray) -> bool:
    """Tell whether the columns of a square matrix share a direction and the rows do not.

    Neurons share a spike along u: ``W u`` is large, and of one sign for one readout value. Along a
    direction without a spike its entries are noise of variance ``|W|^2/(p d)``, and so are those of
    ``W^T u``, unless u has a part along (1, .., 1), which is left out.
    """
    across = direction - direction.mean()
    length = float(np.linalg.norm(across))
    noise = float(np.vdot(weights, weights)) / len(weights)
    if length < 1e-6 or noise == 0:
        return False

    def evidence(matrix: FloatArray) -> float:
        """About one for noise: the energy over that of noise, ten times that of the mean."""
        along = matrix @ (across / length)
        return float(max(along @ along, 0.1 * along.sum() ** 2)) / noise

    return evidence(weights.T) > _TRANSPOSED * max(1.0, evidence(weights))


def _warn_of_spread(alignment: float, norms: float) -> None:
    """Warn where the rows differ by more than what the theory, linear in it, can bear."""
    found = []
    if alignment > _SPREAD_OF_ALIGNMENT:
        found.append(
            f"W v/|v| has variance {alignment:.2g} c between the rows (one per cent of error is "
            f"reached at about {_SPREAD_OF_ALIGNMENT:g} c; of several rows of v this is the "
            "largest in their span, and groups of rows with spikes of their own are told by it)"
        )
    if norms > _SPREAD_OF_NORMS:
        found.append(
            f"the squared norms of the rows vary by {norms:.2g} c (one per cent is reached at "
            f"about {_SPREAD_OF_NORMS:g} c)"
        )
    if found:
        warn(
            f"the theory of given weights takes what the rows differ by to first order, and here "
            f"{' and '.join(found)}: expect its errors to be off by several per cent or more. For "
            "a step with several readout values use srfx.OneStep(readout=...) with bulk='one_step'",
            AccuracyWarning,
        )


def _rows(name: str, value: Any, d: int, p: int) -> FloatArray:
    """Return one direction or several as orthonormal rows; those of the target as they are."""
    allowed = f"a finite vector of length d = {d}, or a matrix of such rows"
    values = np.asarray(check.number_or_array(name, value, allowed, np.isfinite))
    if values.ndim == 2 and (values.shape[1] != d or not 1 <= len(values) <= d):
        raise ValueError(
            f"{name} must be a vector of length d = {d}, the number of columns of W, or a matrix "
            f"of 1 to {d} such rows; got shape {values.shape}"
        )
    if values.ndim != 2:
        return _direction(name, values, d, p)[np.newaxis]
    rows = np.array([_direction(f"a row of {name}", row, d, p) for row in values])
    if name == "theta":
        cosines = np.abs(rows @ rows.T - np.eye(len(rows)))
        if cosines.max() > 1e-6:
            raise ValueError(
                "theta must have orthogonal rows, the directions of the target; two have a cosine "
                f"of {cosines.max():.3g}"
            )
        return rows
    _, size, basis = np.linalg.svd(rows, full_matrices=False)
    if len(rows) > d or size[-1] < 1e-8:
        raise ValueError(f"v must have independent rows; the {len(rows)} given are not")
    return basis if len(rows) > 1 else rows


def _direction(name: str, vector: FloatArray, d: int, p: int) -> FloatArray:
    """Return a non-zero vector of length d, normalised."""
    if vector.shape != (d,):
        hint = f". W looks transposed: {_LAYOUT}" if vector.shape == (p,) else ""
        raise ValueError(
            f"{name} must be a vector of length d = {d}, the number of columns of W; got shape "
            f"{vector.shape}{hint}"
        )
    largest = float(np.max(np.abs(vector)))
    if largest == 0:
        why = (
            " (the network has made no step, or its weights have no spike)"
            if name.endswith("v")
            else ""
        )
        raise ValueError(f"{name} must not be the zero vector; got norm 0{why}")
    vector = vector / largest
    return vector / np.linalg.norm(vector)


def check_bulk(model: Model, bulk: object, lam: float | FloatArray) -> None:
    """Refuse what is no bulk, and what sections 9 to 15 do not cover here, before any work."""
    if isinstance(bulk, str):
        check.one_of("bulk", bulk, BULKS)
    elif not isinstance(bulk, EmpiricalBulk):
        names = ", ".join(repr(name) for name in BULKS)
        raise TypeError(f"bulk must be {names} or an EmpiricalBulk; got {bulk!r}")
    if bulk == "isotropic":
        return
    name = f"bulk={bulk!r}" if isinstance(bulk, str) else "an EmpiricalBulk"
    needed = {"one_step": OneStep, "multi_step": MultiStep}.get(str(bulk))
    if needed is not None and not isinstance(model, needed):
        made = "step makes" if needed is OneStep else "steps make"
        hint = "use bulk='isotropic'"
        if isinstance(model, OneStep):
            hint = "use bulk='one_step'"
        elif isinstance(model, MultiStep):
            hint = "use bulk='multi_step'"
        raise ValueError(
            f"{name} needs an srfx.{needed.__name__} model, whose gradient {made} the bulk; got "
            f"{type(model).__name__}: {hint}"
        )
    if isinstance(model, (OneStep, MultiStep)) and isinstance(bulk, str):
        if isinstance(model, OneStep) and model.directions == 1:
            _check_endless(model)
        else:
            _check_layers(model, name)
    if isinstance(bulk, EmpiricalBulk) and group_count(model) > 1:
        got = f"readout={model.readout}"
        if isinstance(model, SpikedRF) and model.spikes is not None:
            got = f"spikes of shape {model.spikes.shape}"
        raise NotImplementedError(
            f"an EmpiricalBulk supports a single readout value, as in readout=(1.0,), and a single "
            f"row of spikes, which all of its rows share; got {got}"
        )
    if len(model.readout) > 1:
        _check_groups(model)
    if np.any(np.asarray(lam) == 0):
        raise ValueError(
            f"lam must be > 0 with {name}; got 0: approach the ridgeless limit by a small lam, "
            "such as 1e-8"
        )


def own_bulk(model: Model) -> str:
    """Name the bulk that the steps of a model make; the isotropic one where that is not known."""
    for kind, name in ((OneStep, "one_step"), (MultiStep, "multi_step")):
        if isinstance(model, kind):
            try:
                check_bulk(model, name, 1.0)
            except NotImplementedError:
                break
            return name
    return "isotropic"


def _steps(model: OneStep | MultiStep) -> list[tuple[str, FloatArray, FloatArray]]:
    """Name of alpha0, eta and alpha0 of each step."""
    if isinstance(model, OneStep):
        return [("alpha0", np.asarray(model.eta), np.asarray(model.alpha0))]
    pairs = zip(model.eta, model.alpha0, strict=True)
    return [(f"alpha0_{i}", np.asarray(e), np.asarray(a)) for i, (e, a) in enumerate(pairs, 1)]


def _check_layers(model: OneStep | MultiStep, name: str) -> None:
    """Refuse what the recursion over steps, or targets of several directions, do not cover."""
    if model.directions > MAX_STEP_DIRECTIONS:
        raise NotImplementedError(
            f"{name} supports targets of at most {MAX_STEP_DIRECTIONS} directions; got "
            f"{model.directions}: use bulk='isotropic'"
        )
    for field, eta, alpha0 in _steps(model):
        if np.any((eta != 0) & np.isinf(alpha0)):
            raise ValueError(
                f"{field} must be finite with {name} for several steps or directions of the "
                "target; got inf: take a large one, such as 1e6"
            )
    if len(model.readout) > 1 and isinstance(model, MultiStep):
        raise NotImplementedError(
            f"{name} supports a single readout value with several steps, as in readout=(1.0,): for "
            f"more there is bulk='isotropic'; got readout={model.readout}"
        )


def _check_endless(model: OneStep) -> None:
    """Refuse a step on endless data that makes no spike and yet turns the weights."""
    steps, sizes = np.asarray(model.eta), np.asarray(model.alpha0)
    if not np.any((steps != 0) & np.isinf(sizes)):
        return
    target = gaussian_constants(model.target)
    if (
        target["h1"] ** 2 <= 1e-24 * target["second_moment"]
        and _core.step_constants(compiled(model.activation))["h2"]
    ):
        raise ValueError(
            f"alpha0 must be finite with bulk='one_step' for target {label(model.target)!r}, "
            f"whose E[t s*(t)] vanishes, and activation {label(model.activation)!r}: on endless "
            "data the gradient has no direction of its own; got alpha0=inf: take a large alpha0, "
            "such as 1e9"
        )


def _check_groups(model: Model) -> None:
    """Refuse several readout values where section 10 does not cover them."""
    check_groups(model)
    constants = _core.step_constants(compiled(model.activation))
    if constants["h2"] != 0 and any(constants[name] != 0 for name in ("b3", "b12", "k3")):
        raise NotImplementedError(
            "bulk='one_step' supports several readout values for an activation with "
            "E[z sigma'(z)] = 0, such as an odd one, or with sigma'(z) = h1 + h2 z + an odd "
            "function, such as relu, gelu or softplus; got "
            f"{label(model.activation)}: use a single readout value, or bulk='isotropic'"
        )


def inputs_of(
    numeric: Mapping[str, float | FloatArray], bulk: str | EmpiricalBulk
) -> dict[str, float | FloatArray]:
    """Numbers that a solve used: of given weights their own spike in place of the model's."""
    if isinstance(bulk, str):
        return dict(numeric)
    kept = {k: v for k, v in numeric.items() if k not in ("r", "c", "gamma", "eta", "alpha0")}
    own = {} if bulk.directions > 1 else {"gamma": bulk.gamma}  # a vector is no number of a point
    return {"r": bulk.r, "c": bulk.c, **own, **kept}


def dimension_of(bulk: EmpiricalBulk, d: float | FloatArray | None) -> float:
    """Return the input dimension of the weights; d may say so too."""
    if d is not None and np.any(np.asarray(d) != bulk.d):
        raise ValueError(
            f"d must be None or that of the weights, {bulk.d}, with an EmpiricalBulk; got {d!r}"
        )
    return float(bulk.d)


def _seen(model: Model) -> _core.Activation | _core.Target:
    """Return the target as the core takes it: of one direction, or of several."""
    return compiled(model.target) if model.directions == 1 else target_of(model)


def inputs_of_step(
    model: Model, arguments: Mapping[str, float | FloatArray], shape: tuple[int, ...]
) -> dict[str, Any]:
    """Give the arguments that the core's functions for the actual step share."""
    with np.errstate(divide="ignore"):
        inverse_alpha0 = 1 / np.asarray(arguments["alpha0"])
    law = np.asarray(label_law(model.labels, arguments))
    values = [np.asarray(arguments["eta"]), inverse_alpha0, law]
    table, index = distinct(values, shape)
    names = ("eta", "inv_alpha0", "set_noise", "beta", "noise", "alpha", "lam", "inv_d")
    vectors = (*np.ascontiguousarray(table.T), *columns(arguments, shape))
    return {
        "sigma": compiled(model.activation),
        "target": _seen(model),
        "set_index": index,
        **dict(zip(names, vectors, strict=True)),
    }


def solve_step(
    model: OneStep,
    arguments: Mapping[str, float | FloatArray],
    shape: tuple[int, ...],
    n_threads: int,
    matrix: bool = False,
    exact: bool = False,
) -> dict[str, NDArray[Any]]:
    """Solve every point: vectors of length 1 or n, with the spike of each point and ``chi``.

    One readout value: ``matrix`` takes section 10's path for every activation, ``exact`` the bulk
    itself in place of its table.
    """
    inputs = inputs_of_step(model, arguments, shape)
    inputs |= {"n_points": math.prod(shape), "n_threads": n_threads}
    raw: dict[str, NDArray[Any]]
    if len(model.readout) == 1:
        raw = _core.solve_one_step(**inputs, readout=model.readout[0], matrix=matrix, exact=exact)
    else:
        shares = list(probabilities(model))
        raw = _core.solve_one_step_groups(**inputs, readout=list(model.readout), pi=shares)
    return raw


def step_gradient(
    solution: Solution, directions: list[int], n_threads: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differentiate both errors of a solved step: rows are directions of the core."""
    model = solution.model
    return _core.gradient_one_step(
        **inputs_of_step(model, solution.arguments, solution.shape),
        readout=model.readout[0],
        v1=np.ravel(np.asarray(solution.v1)),
        v2=np.ravel(np.asarray(solution.v2)),
        directions=directions,
        n_threads=n_threads,
    )


def layer_inputs(
    model: OneStep | MultiStep, full: Callable[[float | FloatArray], FloatArray]
) -> dict[str, Any]:
    """Give the networks of a batch, each with steps of its own, as the core takes them."""
    steps = _steps(model)
    with np.errstate(divide="ignore"):
        return {
            "sigma": compiled(model.activation),
            "target": _seen(model),
            "readout": model.readout[0],
            "eta": np.stack([full(eta) for _, eta, _ in steps], axis=-1),
            "inv_alpha0": np.stack([full(1 / alpha0) for _, _, alpha0 in steps], axis=-1),
            "noise": full(label_law(model.labels, model.numeric)),
            "beta": full(model.beta),
        }


def inputs_of_layers(
    model: OneStep | MultiStep,
    arguments: Mapping[str, float | FloatArray],
    shape: tuple[int, ...],
) -> dict[str, Any]:
    """Give the arguments that the core's functions for steps share (THEORY 14 and 15)."""
    steps, count = _steps(model), len(_steps(model))
    with np.errstate(divide="ignore"):
        inverse = [1 / alpha0 for _, _, alpha0 in steps]
    values = [
        *(eta for _, eta, _ in steps),
        *inverse,
        np.asarray(label_law(model.labels, arguments)),
    ]
    table, index = distinct(values, shape)
    names = ("beta", "noise", "alpha", "lam", "inv_d")
    return {
        "sigma": compiled(model.activation),
        "target": _seen(model),
        "readout": model.readout[0],
        "eta": np.ascontiguousarray(table[:, :count]),
        "inv_alpha0": np.ascontiguousarray(table[:, count:-1]),
        "set_noise": np.ascontiguousarray(table[:, -1]),
        "set_index": index,
        **dict(zip(names, columns(arguments, shape), strict=True)),
    }


def solve_layers(
    model: OneStep | MultiStep,
    arguments: Mapping[str, float | FloatArray],
    shape: tuple[int, ...],
    n_threads: int,
) -> dict[str, NDArray[Any]]:
    """Solve every point after several steps, or one with a target of several directions."""
    inputs = inputs_of_layers(model, arguments, shape)
    inputs |= {"n_points": math.prod(shape), "n_threads": n_threads}
    raw: dict[str, NDArray[Any]] = _core.solve_layers(**inputs)
    return raw


def layers_gradient(
    solution: Solution, directions: list[int], n_threads: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differentiate both errors after such steps: rows are directions of the core."""
    model = solution.model
    assert isinstance(model, (OneStep, MultiStep))
    return _core.gradient_layers(
        **inputs_of_layers(model, solution.arguments, solution.shape),
        v1=np.ravel(np.asarray(solution.v1)),
        v2=np.ravel(np.asarray(solution.v2)),
        directions=directions,
        n_threads=n_threads,
    )


def inputs_of_weights(
    model: Model,
    bulk: EmpiricalBulk,
    arguments: Mapping[str, float | FloatArray],
    shape: tuple[int, ...],
) -> dict[str, Any]:
    """Give the arguments that the core's functions for given weights share."""
    return {
        "sigma": compiled(model.activation),
        "target": _seen(model),
        "r": bulk.r,
        "c": bulk.c,
        "gamma": np.atleast_1d(bulk.gamma),
        "eigenvalues": bulk.eigenvalues,
        "vectors": bulk.vectors,
        "beta": bulk.p / bulk.d,
        "inv_d": 1 / bulk.d,
        "noise": flat(arguments["noise"], shape),
        "alpha": flat(arguments["alpha"], shape),
        "lam": flat(arguments["lam"], shape),
    }


def weights_gradient(
    solution: Solution, directions: list[int], n_threads: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differentiate both errors for given weights: rows are directions of the core."""
    inputs = inputs_of_weights(solution.model, solution.weights, solution.arguments, solution.shape)
    return _core.gradient_empirical(
        **inputs,
        v1=np.ravel(np.asarray(solution.v1)),
        v2=np.ravel(np.asarray(solution.v2)),
        directions=directions,
        n_threads=n_threads,
    )


def check_weights(model: Model, bulk: EmpiricalBulk) -> None:
    """Refuse fields of the model that contradict the weights."""
    if model.directions != bulk.directions:
        raise ValueError(
            f"bulk must have as many directions as the target of the model, {model.directions}; "
            f"its theta had {bulk.directions}"
        )
    for name, value in model.numeric.items():
        if name not in ("noise", "slope", "beta") and np.size(value) != 1:
            raise ValueError(
                f"{name} must be a single number with an EmpiricalBulk, which does not use it: the "
                f"weights hold what the step has done; got shape {np.shape(value)}"
            )
    if np.any(np.rint(np.asarray(model.beta) * bulk.d) != bulk.p):
        raise ValueError(
            f"beta must be that of the weights, p/d = {bulk.p}/{bulk.d}, with an EmpiricalBulk; "
            f"got {model.beta!r}"
        )


def solve_weights(
    model: Model,
    bulk: EmpiricalBulk,
    arguments: Mapping[str, float | FloatArray],
    shape: tuple[int, ...],
    n_threads: int,
    exact: bool = False,
) -> dict[str, NDArray[Any]]:
    """Solve every point for given weights; ``exact``: without their table."""
    raw: dict[str, NDArray[Any]] = _core.solve_empirical(
        **inputs_of_weights(model, bulk, arguments, shape),
        n_points=math.prod(shape),
        n_threads=n_threads,
        exact=exact,
    )
    return raw


def solve_bulk(
    model: Model,
    bulk: str | EmpiricalBulk,
    arguments: Mapping[str, float | FloatArray],
    shape: tuple[int, ...],
    n_threads: int,
) -> dict[str, NDArray[Any]]:
    """Solve every point for a bulk that is not isotropic."""
    if isinstance(bulk, EmpiricalBulk):
        return solve_weights(model, bulk, arguments, shape, n_threads)
    assert isinstance(model, (OneStep, MultiStep))
    if in_layers(model):
        return solve_layers(model, arguments, shape, n_threads)
    assert isinstance(model, OneStep)
    return solve_step(model, arguments, shape, n_threads)


def in_layers(model: Model) -> bool:
    """Whether a bulk of gradient steps is that of several, or of one value's several directions."""
    return isinstance(model, MultiStep) or (model.directions > 1 and len(model.readout) == 1)


def learned(
    model: Model, raw: dict[str, NDArray[Any]], t: FloatArray, n_threads: int
) -> NDArray[np.float64]:
    """Average the network over inputs with projection t, from what a solve returned."""
    values: NDArray[np.float64] = _core.learned_function_of_step(
        compiled(model.activation),
        raw["r"].ravel(),
        raw["c"].ravel(),
        raw["gamma"].ravel(),
        raw["m"].ravel(),
        raw["theta"].ravel(),
        raw["psi"].ravel(),
        raw["chi"].ravel(),
        t,
        n_threads,
    )
    total: NDArray[np.float64] = values.reshape(-1, len(model.readout), t.size).sum(axis=1)
    return total
