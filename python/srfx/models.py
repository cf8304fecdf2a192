"""The models srfx solves: what the networks are, and nothing about how they are solved."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from srfx import _core
from srfx import _validation as check
from srfx.losses import LABELS
from srfx.targets import (
    ALSO,
    TARGET_NAMES,
    Target,
    callable_name,
    check_arguments,
    compiled_target,
)

FloatArray: TypeAlias = NDArray[np.float64]
Function: TypeAlias = Callable[[FloatArray], FloatArray]

#: What a model has for a target.
AnyTarget: TypeAlias = "str | Activation | Target"

#: Names accepted wherever an activation or a target is asked for.
ACTIVATION_NAMES: tuple[str, ...] = tuple(_core.activation_names())

#: Readout values that the equations are solved for, at most.
MAX_GROUPS = 32

#: Gradient steps a model may have.
MAX_STEPS = 16

#: Points where callables are tried at construction: none of them a likely kink.
_PROBE = np.linspace(-6.1, 6.1, 24)


class ApproximationWarning(UserWarning):
    """The result rests on an approximation known to be rough for the given model."""


class AccuracyWarning(UserWarning):
    """Numbers are less accurate than srfx promises: by the quadrature, or the weights given."""


@check.public
@dataclasses.dataclass(frozen=True)
class Activation:
    """A scalar function given as a vectorised Python callable, usable wherever a name is.

    Parameters
    ----------
    fn : callable
        Takes a float64 array of shape (n,) and returns the n values, real and finite, in float64:
        float32 limits every result to some seven digits. It must be defined on the whole real line
        and not grow faster than a polynomial. It is called under NumPy's default ``errstate``.
    derivative : callable, optional
        The derivative of ``fn``, called alike. Needed only for the activation of a `OneStep` model:
        the gradient step contains it.
    kinks : sequence of float, optional
        Where ``fn`` or its derivative is not smooth. The quadrature puts its panel edges there; an
        undeclared kink costs accuracy, which `solve` measures and warns about.
    name : str, optional
        What titles and attributes call it; by default the name of ``fn``. A stored scan goes on
        with a function whose values are those it began with but for rounding errors. One that has
        a name, the same in both, may differ by a part in ten thousand: so one of single precision
        is known again on another processor.

    Raises
    ------
    TypeError
        ``fn`` or ``derivative`` is not callable, ``kinks`` are not real numbers, or ``name`` is not
        a string.
    ValueError
        ``name`` is empty, unprintable or that of a function srfx has; a callable returns the wrong
        shape or non-finite values; ``derivative`` is not the derivative of ``fn``.

    Examples
    --------
    >>> import numpy as np, srfx
    >>> shifted = srfx.Activation(lambda x: np.maximum(x + 1, 0), kinks=[-1])
    >>> model = srfx.SpikedRF(activation=shifted, target="relu", gamma=0.8)
    >>> print(f"{srfx.solve(model, alpha=2, lam=0.1).test_error:.8f}")
    0.12851826
    """

    fn: Function
    derivative: Function | None = None
    kinks: tuple[float, ...] = ()
    name: str | None = None

    def __post_init__(self) -> None:
        check.function_name(self.name, ACTIVATION_NAMES)
        if isinstance(self.fn, str):
            raise TypeError(f"fn must be callable; got {self.fn!r} (a name needs no Activation)")
        if not callable(self.fn):
            raise TypeError(f"fn must be callable; got {self.fn!r}")
        if self.derivative is not None and not callable(self.derivative):
            raise TypeError(f"derivative must be None or callable; got {self.derivative!r}")
        allowed = "a sequence of finite numbers"
        kinks = () if _is_empty(self.kinks) else check.vector("kinks", self.kinks, allowed)
        object.__setattr__(self, "kinks", tuple(sorted(set(kinks))))
        check_arguments(self.fn, 1)
        _call("fn", self.fn, _PROBE)
        if self.derivative is not None:
            self._check_derivative(self.derivative)

    def _check_derivative(self, derivative: Function) -> None:
        step = max(1e-4, np.finfo(_precision(self.fn)).eps ** (1 / 3))
        x = _PROBE
        for kink in self.kinks:
            x = x[np.abs(x - kink) > 2 * step]
        slope = _call("derivative", derivative, x)
        measured = (_call("fn", self.fn, x + step) - _call("fn", self.fn, x - step)) / (2 * step)
        scale = max(np.abs(slope).max(initial=0), np.abs(measured).max(initial=0))
        off = np.abs(slope - measured) > 1e-2 * scale
        if off.any():
            i = int(np.argmax(off))
            raise ValueError(
                "derivative must be the derivative of fn (declare where it jumps in kinks); at "
                f"x = {x[i]:.4g} it returned {slope[i]:.6g} where fn has slope {measured[i]:.6g}"
            )

    def __call__(self, x: FloatArray) -> FloatArray:
        """Values of ``fn`` at ``x``."""
        return self.fn(x)


def _is_empty(value: Any) -> bool:
    return hasattr(value, "__len__") and len(value) == 0


def _call(role: str, fn: Function, x: FloatArray) -> FloatArray:
    """``fn`` at a vector; its answer checked."""
    return check.values_of(role, fn(x.copy()), x)


def _precision(fn: Function) -> np.dtype[Any]:
    """Precision of the values of a callable: of their type, or of what they were rounded to."""
    raw = np.asarray(fn(_PROBE.copy()))
    values = raw.astype(np.float64)
    if np.array_equal(values, np.round(64 * values) / 64):  # steps: right in any type
        return np.dtype(np.float64)
    with np.errstate(over="ignore"):
        for kind in (np.float16, np.float32):
            if raw.dtype == kind or np.array_equal(values.astype(kind), values):
                return np.dtype(kind)
    return np.dtype(np.float64)


def as_function(name: str, value: object) -> str | Activation:
    """Return a known name or an `Activation`; a bare callable becomes one."""
    if isinstance(value, Activation):
        return value
    if isinstance(value, str):
        return check.one_of(name, value, ACTIVATION_NAMES)
    if callable(value):
        return Activation(value)
    raise TypeError(
        f"{name} must be a name ({', '.join(ACTIVATION_NAMES)}), a callable or an srfx.Activation; "
        f"got {value!r}"
    )


def as_target(name: str, value: object) -> AnyTarget:
    """Return a target: of one direction as `as_function` does, of several as a `Target`."""
    if isinstance(value, str) and (value in TARGET_NAMES or value in ALSO):
        return Target(value, directions=2)
    if isinstance(value, Target):
        return value if value.directions > 1 else _one_direction(value)
    if isinstance(value, str):
        return check.one_of(name, value, (*ACTIVATION_NAMES, *TARGET_NAMES))
    if isinstance(value, Activation) or callable(value):
        return as_function(name, value)
    raise TypeError(
        f"{name} must be a name ({', '.join((*ACTIVATION_NAMES, *TARGET_NAMES))}), a callable, an "
        f"srfx.Activation or an srfx.Target; got {value!r}"
    )


def _one_direction(target: Target) -> str | Activation:
    """Return the function of one variable that a target of one direction is."""
    if isinstance(target.fn, str):
        return "sign" if target.fn == "sign_product" else "linear"
    kinks = tuple(offset / normal[0] for normal, offset in target.kinks)
    return Activation(target.fn, kinks=kinks, name=target.name)


def compiled(function: AnyTarget) -> _core.Activation:
    """Return a function of one variable as the compiled core knows it."""
    if isinstance(function, str):
        return _compiled_name(function)
    if isinstance(function, Target):
        raise NotImplementedError(
            f"a target of one direction is needed here; {function.label} has {function.directions}"
        )
    return _core.Activation.from_callable(
        function.fn,
        function.derivative,
        list(function.kinks),
        function.name or callable_name(function.fn),
    )


def target_of(model: Model) -> _core.Target:
    """Return the target of a model, of any number of directions, as the compiled core knows it."""
    if isinstance(model.target, Target):
        return compiled_target(model.target)
    return _core.Target.of(compiled(model.target))


@functools.cache
def _compiled_name(name: str) -> _core.Activation:
    return _core.Activation(name)


def label(function: AnyTarget) -> str:
    """Name the function, for titles and attributes."""
    if isinstance(function, str):
        return function
    if isinstance(function, Target):
        return function.label
    return function.name or f"callable {compiled(function).name}"


def gaussian_constants(function: AnyTarget, derivative: bool = False) -> dict[str, float]:
    """Moments under N(0,1): see `_core.gaussian_constants`. Warns of a poor quadrature."""
    constants: dict[str, float] = _core.gaussian_constants(compiled(function), derivative)
    warn_accuracy(constants["error"], f"the Gaussian moments of {label(function)}", function)
    return constants


def target_constants(target: Target) -> dict[str, Any]:
    """Moments of a target of several directions under N(0, I). Warns of a poor quadrature."""
    constants: dict[str, Any] = _core.target_constants(compiled_target(target))
    warn_accuracy(constants["error"], f"the Gaussian moments of {target.label}", target)
    return constants


def floor_of(function: AnyTarget) -> float:
    """E[s^2] - E[s]^2 - sum_l E[t_l s]^2; of one direction in its centred form, without loss."""
    if isinstance(function, Target):
        return float(target_constants(function)["floor"])
    core = compiled(function)
    at_zero = _core.coefficients(core, core, 0.0, 1.0, 0.0, np.zeros(1))
    warn_accuracy(at_zero["error"], f"the Gaussian moments of {label(function)}", function)
    floor, second_moment = float(at_zero["mu2_squared"][0]), float(at_zero["hh"][0])
    return floor if floor > 1e-26 * second_moment else 0.0


def warn_accuracy(error: float, what: str, *functions: AnyTarget) -> None:
    """Warn where an estimated quadrature error exceeds 1e-8, with what may be done about it."""
    if error > 1e-8:
        advice, kinked, ways = "", [], []
        for function in functions:
            if isinstance(function, Target) and not isinstance(function.fn, str):
                kinked.append(function.label)
                ways.append("srfx.Target(fn, kinks=[...])")
            if isinstance(function, Activation):
                precision, name = _precision(function.fn), f"callable {compiled(function).name}"
                if precision != np.float64:
                    advice += (
                        f"; the {name} returns {precision}, whose rounding errors limit the "
                        "accuracy: let it compute in float64"
                    )
                # rounding errors look like kinks, up to some hundred times their size
                if precision == np.float64 or error > 100 * np.finfo(precision).eps:
                    kinked.append(name)
                    ways.append("srfx.Activation(fn, kinks=[...])")
        if kinked:
            advice += (
                f"; declare the kinks and jumps of the {' and the '.join(kinked)} by "
                f"{' and '.join(dict.fromkeys(ways))}, if there are any"
            )
        warn(
            f"the quadrature error of {what} is about {error:.1e}, more than 1e-8{advice}",
            AccuracyWarning,
        )


Listener: TypeAlias = Callable[[str], None]


class _Told(threading.local):
    """Who is told of this package's warnings in this thread: None is Python's ``warnings``.

    The filters of ``warnings`` belong to the whole process, so that no thread may change them.
    """

    listener: Listener | None = None


_told = _Told()


@contextlib.contextmanager
def warnings_to(listener: Listener) -> Iterator[None]:
    """Hand this package's warnings in this thread to a function."""
    before, _told.listener = _told.listener, listener
    try:
        yield
    finally:
        _told.listener = before


def _nobody(message: str) -> None:
    pass


def quiet() -> contextlib.AbstractContextManager[None]:
    """Without warnings of this package in this thread: for a caller who reports by itself."""
    return warnings_to(_nobody)


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line of the user's code that called into this package."""
    if _told.listener is not None:
        _told.listener(message)
        return
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__package__")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_ours(package: str | None) -> bool:
    return package is not None and package.partition(".")[0] == "srfx"


def is_odd(function: str | Activation) -> bool:
    """Whether f(-x) = -f(x): known for names, tried on a grid for callables."""
    if isinstance(function, str):
        return bool(compiled(function).parity == -1)
    values = _call("fn", function.fn, _PROBE)  # the grid is symmetric
    return bool(np.abs(values + values[::-1]).max() <= 1e-12 * np.abs(values).max())


def rebuild(kind: type[Any], values: dict[str, Any]) -> Any:
    """Call the constructor: what unpickling and copying do, so that they check and freeze."""
    return kind(**values)


class Rebuilt:
    """A dataclass whose copies and pickles go through its constructor."""

    def __reduce__(self) -> tuple[Any, ...]:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return rebuild, (type(self), {f.name: getattr(self, f.name) for f in fields})


def freeze(*values: object) -> None:
    """Make arrays read-only."""
    for value in values:
        if isinstance(value, np.ndarray):
            value.flags.writeable = False


#: Fields that a repr leaves out where they have their defaults.
_QUIET = ("labels", "slope")


class _Model(Rebuilt):
    """What the models share: validation, equality by value, a short repr."""

    activation: str | Activation
    target: AnyTarget
    noise: float | FloatArray
    labels: str
    slope: float | FloatArray | None

    def _checked_labels(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Labels, slope, and the names of the numeric fields, which slope may be one of."""
        labels, slope = check.one_of("labels", self.labels, LABELS), self.slope
        if labels != "logit" and slope is not None:
            raise ValueError(
                f"slope must be left out unless labels='logit'; got {slope!r} with "
                f"labels={labels!r}"
            )
        if labels == "logit":
            slope = check.positive("slope", 1.0 if slope is None else slope)
            names = (*names, "slope")
            if np.any(np.asarray(check.non_negative("noise", self.noise)) != 0):
                raise ValueError(
                    "noise must be 0 with labels='logit', whose only noise is the draw of the "
                    f"label; got {self.noise!r}: a smaller slope makes the labels noisier"
                )
        return {"labels": labels, "slope": slope, "numeric_names": names}

    def _stepping(self) -> str | Activation:
        """Return the activation of a network that makes gradient steps."""
        activation = as_function("activation", self.activation)
        function = compiled(activation)
        if isinstance(activation, Activation) and activation.derivative is None:
            raise ValueError(
                f"activation must have a derivative for {type(self).__name__}, whose gradient step "
                f"contains it; got the callable {function.name!r} without one: pass "
                "srfx.Activation(fn, derivative=...)"
            )
        if function.jump or not function.has_derivative:
            raise ValueError(
                f"activation must be continuous for {type(self).__name__}, whose gradient step "
                f"contains its derivative; got {function.name!r}, which jumps"
            )
        return activation

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def numeric(self) -> dict[str, float | FloatArray]:
        """The numeric fields, by name: those that broadcast."""
        return {name: getattr(self, name) for name in self.numeric_names}

    #: Names of these fields.
    numeric_names: tuple[str, ...] = ()

    @property
    def directions(self) -> int:
        """Directions of the target."""
        return self.target.directions if isinstance(self.target, Target) else 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the numeric fields broadcast together."""
        return check.common_shape(self.numeric)

    def _key(self) -> tuple[Any, ...]:
        def hashable(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(hashable, value))
            return (value.shape, tuple(value.ravel())) if isinstance(value, np.ndarray) else value

        return tuple(hashable(getattr(self, f.name)) for f in dataclasses.fields(self))  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._key()))

    def __repr__(self) -> str:
        def short(value: Any) -> str:
            if isinstance(value, np.ndarray) and value.size > 6:
                low, high = f"{value.min():.6g}", f"{value.max():.6g}"
                return f"<{low} to {high}, shape {value.shape}>"
            if isinstance(value, tuple) and any(isinstance(x, np.ndarray) for x in value):
                return f"({', '.join(map(short, value))},)"
            return repr(value.tolist()) if isinstance(value, np.ndarray) else repr(value)

        unused = self._unused()
        fields = [
            f
            for f in dataclasses.fields(self)  # type: ignore[arg-type]
            if f.name not in unused
            and (f.name not in _QUIET or np.any(getattr(self, f.name) != f.default))
        ]
        inside = ", ".join(f"{f.name}={short(getattr(self, f.name))}" for f in fields)
        return f"{type(self).__name__}({inside})"

    def _unused(self) -> tuple[str, ...]:
        """Fields that mean nothing beside the others."""
        return ()


class _Default(float):
    """The default of a field, told apart from the same number given by the user."""


_STRENGTH = _Default(0.9)


@check.public
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SpikedRF(_Model):
    """Spiked random features: ridge regression on ``sigma(W x)`` with a spike in ``W``.

    Rows of W: ``w_i = sqrt(c) w0_i + r v/sqrt(d)``, ``w0_i`` uniform on the unit sphere, ``|v|^2 =
    d``. Inputs ``x ~ N(0, I_d)``, labels ``y = target(theta.x/sqrt(d)) + sqrt(noise) eps``,
    ``|theta|^2 = d``. Source: CPD24 Definition 3.1; THEORY section 1.

    With ``spikes`` there are several: q orthogonal ``v_j`` and K groups of neurons, the rows of
    group g ``sqrt(c_g) w0_i + r sum_j spikes[g, j] v_j/sqrt(d)``. A target of L directions has L
    orthogonal ``theta_l``. Source: THEORY section 13.

    Parameters
    ----------
    activation : str, callable or Activation
        Activation sigma of the network. Names: tanh, erf, sin, cos, relu, leaky_relu, sign, abs,
        softplus, sigmoid, gelu, silu, hardtanh, linear, hermite1 to hermite6 (normalised: E He_n^2
        = 1).
    target : str, callable, Activation or Target
        Activation sigma* of the target, or a `Target` of several directions; ``"product"``,
        ``"sign_product"`` and ``"max"`` are those of two.
    r : float or array
        Strength of the spike; any finite number. With ``spikes`` a factor of all of them, 1 by
        default.
    c : float or array
        Variance of the bulk of W, > 0; 1 without a gradient step.
    gamma : float or array
        Alignment ``v.theta/d`` of the spike with the target's direction, -1 to 1. For a target of L
        directions the L numbers ``v.theta_l/d``, whose squares sum to at most 1.
    beta : float or array
        Width ratio p/d, > 0.
    noise : float or array
        Variance of the label noise, >= 0.
    readout : sequence of float
        Values a_g of the initial readout: group g has spike ``r a_g`` and bulk variance
        ``1 + a_g^2 (c - 1)`` (THEORY section 7). `solve` takes up to 32 values; see
        `readout_quantiles` for a continuous distribution.
    weights : sequence of float, optional
        Probabilities of those values, or of the rows of ``spikes``, summing to one; equal by
        default.
    spikes : array of shape (K, q), optional
        Strengths of the q spikes in each of K groups of neurons. Then ``readout`` and ``gamma`` are
        not given.
    alignment : array of shape (L, q)
        With ``spikes``: ``theta_l.v_j/d`` of every direction with every spike; singular values at
        most 1.
    variances : sequence of K floats, optional
        With ``spikes``: the bulk variance of each group, > 0, in place of ``c``.
    labels : {"real", "sign", "logit"}
        What y is: "real": ``target(t) + sqrt(noise) eps``, with ``t =
        theta.x/sqrt(d)``; "sign": the sign of that; "logit": 1 with probability ``1/(1 +
        exp(-slope target(t)))`` and -1 otherwise, without further noise (THEORY section 19).
    slope : float or array, optional
        Of labels="logit" alone, > 0; 1 by default. A numeric field then.

    Raises
    ------
    TypeError, ValueError
        A field is of the wrong type or out of range. The message names it, its value and what is
        allowed.

    Notes
    -----
    Numeric fields broadcast by NumPy's rules, against each other and against the arguments of
    `solve`.

    References
    ----------
    CPD24: Cui, Pesce, Dandi, Krzakala, Lu, Zdeborova, Loureiro, "Asymptotics of feature learning in
    two-layer networks after one gradient-step", ICML 2024, arXiv:2402.04980.

    Examples
    --------
    >>> import srfx
    >>> model = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=1.0)
    >>> print(f"{srfx.bounds(model).lower:.8f}")
    0.00166905
    """

    activation: str | Activation = "tanh"
    target: AnyTarget = "sin"
    _: dataclasses.KW_ONLY
    r: float | FloatArray = _STRENGTH
    c: float | FloatArray = 1.0
    gamma: float | FloatArray = 1.0
    beta: float | FloatArray = 1.0
    noise: float | FloatArray = 0.0
    readout: tuple[float, ...] = (1.0,)
    weights: tuple[float, ...] | None = None
    spikes: FloatArray | None = None
    alignment: FloatArray | None = None
    variances: tuple[float, ...] | None = None
    labels: str = "real"
    slope: float | FloatArray | None = None

    numeric_names = ("r", "c", "gamma", "beta", "noise")

    def __post_init__(self) -> None:
        self._set(
            activation=as_function("activation", self.activation),
            target=as_target("target", self.target),
            c=check.positive("c", self.c),
            beta=check.positive("beta", self.beta),
            noise=check.non_negative("noise", self.noise),
        )
        unused: tuple[str, ...] = ()
        if self.spikes is not None:
            self._set_spikes(self.spikes)
            unused = ("gamma",) if self.variances is None else ("gamma", "c")
        else:
            for name in ("alignment", "variances"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name} must not be given without spikes; got {getattr(self, name)!r}"
                    )
            readout, weights = check.readout_and_weights(self.readout, self.weights)
            if self.directions > 1:
                unused = ("gamma",)
            gamma = check.correlation if self.directions == 1 else self._alignments
            self._set(gamma=gamma("gamma", self.gamma), readout=readout, weights=weights)
        self._set(
            r=check.finite("r", self.r),
            **self._checked_labels(tuple(x for x in type(self).numeric_names if x not in unused)),
        )
        check.common_shape(self.numeric)

    def _alignments(self, name: str, value: object) -> FloatArray:
        """Check the alignment of one spike with several directions."""
        allowed = (
            f"{self.directions} numbers, the alignments of the spike with the directions of the "
            "target, whose squares sum to at most 1"
        )
        numbers = np.array(check.vector(name, value, allowed))
        if numbers.size != self.directions or numbers @ numbers > 1 + 1e-12:
            raise ValueError(f"{name} must be {allowed}; got {numbers.tolist()}")
        freeze(numbers)
        return numbers

    def _set_spikes(self, spikes: object) -> None:
        rows = "one row for each group, one column for each spike"
        R = check.matrix("spikes", spikes, (None, None), rows)
        (groups, q), columns = R.shape, "one row for each direction, one column for each spike"
        if self.alignment is None:
            raise ValueError(
                f"alignment must be given with spikes, of shape ({self.directions}, {q}), {columns}"
            )
        alignment = check.matrix("alignment", self.alignment, (self.directions, q), columns)
        largest = float(np.linalg.norm(alignment, 2))
        if largest > 1 + 1e-12:
            raise ValueError(
                "alignment must have singular values of at most 1, so that I - alignment "
                f"alignment^T is positive semidefinite; the largest is {largest:.10g}"
            )
        for name, default in (("readout", (1.0,)), ("gamma", 1.0)):
            if not np.array_equal(getattr(self, name), default):
                raise ValueError(
                    f"{name} must not be given with spikes, whose rows and alignment say it all; "
                    f"got {getattr(self, name)!r}"
                )
        variances = self.variances
        if variances is not None:
            allowed = f"None (c for every group) or {groups} numbers > 0, one for each group"
            variances = check.vector("variances", variances, allowed)
            if len(variances) != groups or min(variances) <= 0:
                raise ValueError(f"variances must be {allowed}; got {variances}")
            if not np.array_equal(self.c, 1.0):
                raise ValueError(f"c must not be given with variances; got {self.c!r}")
        self._set(
            r=1.0 if self.r is _STRENGTH else self.r,
            spikes=R,
            alignment=alignment,
            variances=variances,
            weights=check.probabilities(self.weights, groups, "row of spikes"),
            readout=(1.0,),
            gamma=1.0,
        )

    def _unused(self) -> tuple[str, ...]:
        if self.spikes is None:
            return ("spikes", "alignment", "variances")
        return ("readout", "gamma", "variances" if self.variances is None else "c")


@check.public
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class OneStep(_Model):
    """A two-layer network after one large gradient step, its readout fitted by ridge regression.

    One step on ``n0 = alpha0 d`` samples from rows uniform on the unit sphere, ``w_i <- w_i + (eta
    a_i/n0) sum_mu (y_mu - f0(x_mu)) sigma'(w_i.x_mu) x_mu``; then ridge regression on ``n = alpha
    d`` fresh samples. Source: CPD24; THEORY section 1.

    Parameters
    ----------
    activation : str, callable or Activation
        Activation sigma of the network; see `SpikedRF` for the names. It must have a derivative:
        ``sign`` is refused, and a callable needs ``srfx.Activation(fn, derivative=...)``.
    target : str, callable, Activation or Target
        Activation sigma* of the target, or a `Target` of several directions; ``"product"``,
        ``"sign_product"`` and ``"max"`` are those of two.
    eta : float or array
        Normalised learning rate of the step; any finite number.
    alpha0 : float or array
        Sample complexity n0/d of the step, >= 0; 0 is no step, ``inf`` is the population gradient.
    beta : float or array
        Width ratio p/d, > 0.
    noise : float or array
        Variance of the label noise, >= 0.
    readout : sequence of float
        Values a_g of the initial readout, which is ``a_g/sqrt(p)``: group g makes a step with
        learning rate ``a_g eta``. `solve` takes up to 32 values; see `readout_quantiles` for a
        continuous distribution.
    weights : sequence of float, optional
        Probabilities of those values, summing to one; equal by default.
    labels : {"real", "sign", "logit"}
        What y is, in the gradient step too: "real": ``target(t) + sqrt(noise) eps``, with ``t =
        theta.x/sqrt(d)``; "sign": the sign of that; "logit": 1 with probability ``1/(1 +
        exp(-slope target(t)))`` and -1 otherwise, without further noise (THEORY section 19).
    slope : float or array, optional
        Of labels="logit" alone, > 0; 1 by default. A numeric field then.

    Raises
    ------
    TypeError, ValueError
        A field is of the wrong type or out of range. The message names it, its value and what is
        allowed.

    Examples
    --------
    >>> import srfx
    >>> model = srfx.OneStep("tanh", "sin", eta=3, alpha0=20)
    >>> print(f"{srfx.solve(model, alpha=3, lam=0.1).test_error:.10f}")
    0.0325182080
    """

    activation: str | Activation = "tanh"
    target: AnyTarget = "sin"
    _: dataclasses.KW_ONLY
    eta: float | FloatArray = 1.0
    alpha0: float | FloatArray = 1.5
    beta: float | FloatArray = 1.0
    noise: float | FloatArray = 0.0
    readout: tuple[float, ...] = (1.0,)
    weights: tuple[float, ...] | None = None
    labels: str = "real"
    slope: float | FloatArray | None = None

    numeric_names = ("eta", "alpha0", "beta", "noise")

    def __post_init__(self) -> None:
        readout, weights = check.readout_and_weights(self.readout, self.weights)
        activation = self._stepping()
        self._set(
            activation=activation,
            target=as_target("target", self.target),
            eta=check.finite("eta", self.eta),
            alpha0=check.sample_ratio("alpha0", self.alpha0),
            beta=check.positive("beta", self.beta),
            noise=check.non_negative("noise", self.noise),
            readout=readout,
            weights=weights,
            **self._checked_labels(type(self).numeric_names),
        )
        check.common_shape(self.numeric)

    @check.public
    def equivalent(self) -> SpikedRF:
        """Spiked random features with the same asymptotic errors, by the paper's map.

        For an odd activation this is the map of CPD24 (THEORY section 1); for any other its
        generalisation in THEORY section 10. Writing ``sigma'(z) = h1 + h2 z + S(z)`` with S
        orthogonal to 1 and z, ``hc1 = E S^2``, ``h1* = E[t sigma*(t)]`` and the residual ``u =
        sigma*(t) + sqrt(noise) eps - a E sigma`` with moments ``u_1, u_2``::

            l = sqrt(h1*^2 + u_2/alpha0)     r = eta h1 l     gamma = h1*/l
            c = (1 + eta h2 u_1)^2 + eta^2 (h2^2 + hc1) u_2/alpha0

        ``alpha0 = 0`` is no step (r = 0, c = 1, gamma = 0); ``alpha0 = inf`` drops ``u_2/alpha0``.
        For a target of L directions ``h1*`` is the vector of ``E[t_l sigma*(t)]``, and so is gamma
        (THEORY section 14). A single readout value a counts as learning rate ``a eta``; the result
        then has readout 1.

        Returns
        -------
        SpikedRF
            With r, c and gamma of the shape of eta, alpha0 and noise (or slope) broadcast together.

        Raises
        ------
        NotImplementedError
            Several readout values and an activation with h2 = E[z sigma'(z)] not zero: their bulk
            variances are not of the form ``1 + a_g^2 (c - 1)`` that `SpikedRF` has.
        ValueError
            The step is so large that r or c overflows, or alpha0 or noise is an array and the
            target has several directions.

        Warns
        -----
        ApproximationWarning
            Once per process, if the activation is not odd: the isotropic bulk of the spiked model
            is then off by several percent in the test error; ``bulk="one_step"`` of `solve` is not.

        Examples
        --------
        >>> import srfx
        >>> spiked = srfx.OneStep("tanh", "sin", eta=3, alpha0=20).equivalent()
        >>> print(f"{spiked.r:.6f} {spiked.c:.6f} {spiked.gamma:.6f}")
        1.134056 1.018973 0.971854
        """
        h2 = gaussian_constants(self.activation, derivative=True)["h2"]
        single = len(self.readout) == 1
        if not single and h2 != 0:
            raise NotImplementedError(
                "an equivalent SpikedRF with several readout values exists only for an activation "
                f"with E[z sigma'(z)] = 0, such as an odd one; {label(self.activation)} "
                f"has {h2:.4g}"
            )
        r, c, gamma = self._spike(self.readout[0] if single else 1.0)
        if self.directions > 1:
            if np.shape(gamma) != ():
                raise ValueError(
                    "alpha0 and noise must be single numbers for an equivalent SpikedRF with a "
                    f"target of several directions, whose gamma has one value for each; got "
                    f"alpha0={self.alpha0!r}, noise={self.noise!r}"
                )
            gamma = gamma * step_moments(self).direction
        return SpikedRF(
            self.activation,
            self.target,
            r=r,
            c=c,
            gamma=gamma,
            beta=self.beta,
            noise=self.noise,
            readout=(1.0,) if single else self.readout,
            weights=None if single else self.weights,
            labels=self.labels,
            slope=self.slope,
        )

    def _spike(self, a: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """r, c and gamma of the neurons whose initial readout is a: the map of `equivalent`."""
        h1, h2, curved, target_h1, u1, noiseless, _ = step_moments(self)
        eta = a * np.asarray(self.eta)
        alpha0 = np.asarray(self.alpha0)
        stepped = alpha0 > 0
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            samples_inverse = np.where(stepped, 1 / alpha0, 0.0)
            u2 = noiseless + (self.noise if self.labels == "real" else 0.0)
            length = np.sqrt(target_h1**2 + u2 * samples_inverse)
            r = np.where(stepped, eta * h1 * length, 0.0)
            c = (1 + eta * h2 * u1) ** 2 + eta**2 * curved * u2 * samples_inverse
            c = np.where(stepped, c, 1.0)
            cosine = np.where(length > 0, target_h1 / np.where(length > 0, length, 1), 0.0)
            gamma = np.where(stepped, np.clip(cosine, -1.0, 1.0), 0.0)
        if not (np.isfinite(r).all() and np.isfinite(c).all()):
            raise ValueError(
                f"eta must be smaller or alpha0 larger: the step makes r or c infinite; got "
                f"eta={self.eta!r}, alpha0={self.alpha0!r}"
            )
        if not is_odd(self.activation) and np.any(stepped & (eta != 0)):
            _warn_not_odd(label(self.activation))
        return r, c, gamma


@check.public
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class MultiStep(_Model):
    """A two-layer network after several gradient steps, its readout fitted by ridge regression.

    T steps, each on fresh samples: step tau on ``alpha0[tau] d`` samples with learning rate
    ``eta[tau]`` and the residual of the network as it then is, ``w_i <- w_i + (eta a_i/n0) sum_mu
    (y_mu - f(x_mu)) sigma'(w_i.x_mu) x_mu``; the initial readout stays. Then ridge regression on
    ``n = alpha d`` fresh samples. One step is that of `OneStep`. Source: THEORY section 15.

    Parameters
    ----------
    activation : str, callable or Activation
        Activation sigma of the network, with a derivative; see `OneStep`.
    target : str, callable, Activation or Target
        Activation sigma* of the target, or a `Target` of several directions.
    eta : sequence of T floats or arrays
        Learning rate of each step; any finite numbers. T is 1 to 16.
    alpha0 : sequence of T floats or arrays
        Sample complexity n0/d of each step, >= 0; 0 is no step, ``inf`` is the population gradient.
    beta : float or array
        Width ratio p/d, > 0.
    noise : float or array
        Variance of the label noise, >= 0.
    readout : sequence of float
        Values a_g of the initial readout, as of `OneStep`.
    weights : sequence of float, optional
        Probabilities of those values, summing to one; equal by default.
    labels : {"real", "sign", "logit"}
        What y is, in the gradient steps too; see `OneStep`.
    slope : float or array, optional
        Of labels="logit" alone, > 0; 1 by default. A numeric field then.

    Raises
    ------
    TypeError, ValueError
        A field is of the wrong type or out of range, or ``eta`` and ``alpha0`` are not of as many
        steps. The message names it, its value and what is allowed.

    Notes
    -----
    The numeric fields, those that broadcast, are ``eta1``, .., ``etaT``, ``alpha0_1``, ..,
    ``alpha0_T``, ``beta`` and ``noise``.

    Examples
    --------
    >>> from srfx.models import MultiStep
    >>> model = MultiStep("tanh", "sin", eta=(3, 2), alpha0=(0.5, 1))
    >>> model.steps
    2
    >>> sorted(model.numeric)
    ['alpha0_1', 'alpha0_2', 'beta', 'eta1', 'eta2', 'noise']
    """

    activation: str | Activation = "tanh"
    target: AnyTarget = "sin"
    _: dataclasses.KW_ONLY
    eta: tuple[float | FloatArray, ...] = (1.0, 1.0)
    alpha0: tuple[float | FloatArray, ...] = (1.5, 1.5)
    beta: float | FloatArray = 1.0
    noise: float | FloatArray = 0.0
    readout: tuple[float, ...] = (1.0,)
    weights: tuple[float, ...] | None = None
    labels: str = "real"
    slope: float | FloatArray | None = None

    numeric_names = ("beta", "noise")

    def __post_init__(self) -> None:
        readout, weights = check.readout_and_weights(self.readout, self.weights)
        eta, alpha0 = _entries("eta", self.eta), _entries("alpha0", self.alpha0)
        if len(eta) != len(alpha0):
            raise ValueError(
                "eta and alpha0 must have one entry for each step; got "
                f"{len(eta)} and {len(alpha0)}"
            )
        steps = range(1, len(eta) + 1)
        names = ([f"eta{i}" for i in steps], [f"alpha0_{i}" for i in steps])
        self._set(
            activation=self._stepping(),
            target=as_target("target", self.target),
            eta=tuple(check.finite(n, x) for n, x in zip(names[0], eta, strict=True)),
            alpha0=tuple(check.sample_ratio(n, x) for n, x in zip(names[1], alpha0, strict=True)),
            beta=check.positive("beta", self.beta),
            noise=check.non_negative("noise", self.noise),
            readout=readout,
            weights=weights,
            **self._checked_labels((*names[0], *names[1], *type(self).numeric_names)),
        )
        check.common_shape(self.numeric)

    @property
    def steps(self) -> int:
        """How many steps."""
        return len(self.eta)

    @check.public
    def equivalent(self) -> SpikedRF:
        """Spiked random features with the same asymptotic errors, by an isotropic bulk.

        A step adds to the spikes of each group a drift along the spikes and along what they leave
        of the target's directions, and noise that the groups share in part; the bulk variances
        grow (THEORY section 15). One readout value has one spike after any number of steps, K
        values have up to K.

        Returns
        -------
        SpikedRF
            With r, c and gamma for one readout value; with spikes, alignment and variances for
            several. The spikes are known up to a rotation.

        Raises
        ------
        ValueError
            A numeric field is an array, and the model has several readout values or directions.
        NotImplementedError
            The spikes span more than three directions.

        Warns
        -----
        ApproximationWarning
            Once per process: the isotropic bulk is an approximation.

        Examples
        --------
        >>> import srfx
        >>> spiked = srfx.MultiStep("tanh", "sin", eta=(3, 2), alpha0=(0.5, 1)).equivalent()
        >>> print(f"{spiked.r:.6f} {spiked.c:.6f} {spiked.gamma:.6f}")
        1.997866 2.220265 0.668461
        """
        rows, c, alignment = step_spikes(self)
        shape, (k, _), count = c.shape[:-1], rows.shape[-2:], self.directions
        if shape != () and (k > 1 or count > 1):
            raise ValueError(
                "eta, alpha0 and noise must be single numbers for an equivalent SpikedRF with "
                "several readout values or directions of the target; got arrays of shape "
                f"{shape}"
            )
        common = {name: getattr(self, name) for name in ("beta", "noise", "labels", "slope")}
        if k > 1:
            return SpikedRF(
                self.activation,
                self.target,
                spikes=rows,
                alignment=alignment,
                variances=tuple(c),
                weights=self.weights,
                **common,
            )
        gamma = alignment[..., 0, 0] if count == 1 else alignment[:, 0]
        return SpikedRF(
            self.activation, self.target, r=rows[..., 0, 0], c=c[..., 0], gamma=gamma, **common
        )

    @property
    def numeric(self) -> dict[str, float | FloatArray]:
        """The numeric fields, by name: those that broadcast."""
        values = (*self.eta, *self.alpha0, self.beta, self.noise)
        if self.slope is not None:
            values = (*values, self.slope)
        return dict(zip(self.numeric_names, values, strict=True))

    def _with(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the constructor for other numeric fields."""
        values = {**self.numeric, **fields}
        others = {name: x for name, x in fields.items() if name not in self.numeric_names}
        eta, alpha0 = (
            tuple(values[n] for n in self.numeric_names if n.startswith(start))
            for start in ("eta", "alpha0_")
        )
        others |= {name: values[name] for name in ("beta", "noise", "slope") if name in values}
        return {**others, "eta": eta, "alpha0": alpha0}


def _entries(name: str, value: object) -> tuple[Any, ...]:
    """Return what was given for each step."""
    allowed = f"a sequence with one entry for each of 1 to {MAX_STEPS} steps, such as (1.0, 2.0)"
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} must be {allowed}; got {value!r}")
    if not 1 <= len(value) <= MAX_STEPS:
        raise ValueError(f"{name} must be {allowed}; got {len(value)} entries")
    return tuple(value)


def step_spikes(model: MultiStep) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Spikes that steps make: R (.., K, q), c (.., K), Gamma (.., L, q) (THEORY section 15).

    Leading axes are those of eta, alpha0 and noise broadcast together. The spikes are those of the
    row space of R; where they are fewer than elsewhere, columns of zeros follow.
    """
    check_groups(model)
    check_model(model, labelled=True, covers=("directions", "steps"))
    sigma = compiled(model.activation)
    law = label_law(model.labels, model.numeric)
    inputs = [np.asarray(x, dtype=np.float64) for x in (*model.eta, *model.alpha0, law)]
    shape = np.broadcast_shapes(*(x.shape for x in inputs))
    table = np.stack([np.broadcast_to(x, shape).ravel() for x in inputs], axis=1)
    table, index = np.unique(table, axis=0, return_inverse=True)
    t = model.steps
    with np.errstate(divide="ignore"):
        inverse = 1 / table[:, t : 2 * t]
    readout, pi = np.array(model.readout), np.array(probabilities(model))
    try:
        raw = _core.multi_step(
            sigma,
            target_of(model),
            readout,
            pi,
            table[:, :t],
            inverse,
            table[:, -1],
            model.labels,
        )
    except ValueError as error:
        raise NotImplementedError(
            f"{label(model.activation)}, {label(model.target)}: {error}"
        ) from error
    functions = (model.activation, model.target)
    warn_accuracy(float(raw["error"].max(initial=0.0)), "the steps", *functions)
    if np.any((table[:, :t] != 0) & (table[:, t : 2 * t] > 0)):
        _warn_several_steps()
    index = index.ravel()
    rows, c, alignment = (
        raw[name][index].reshape(*shape, *raw[name].shape[1:])
        for name in ("rows", "c", "alignment")
    )
    if not (np.isfinite(rows).all() and np.isfinite(c).all()):
        raise ValueError(
            f"eta must be smaller or alpha0 larger: the steps make spikes or bulk infinite; got "
            f"eta={model.eta!r}, alpha0={model.alpha0!r}"
        )
    return rows, c, alignment


#: What the verbs take.
Model: TypeAlias = "SpikedRF | OneStep | MultiStep"
AnyModel = TypeVar("AnyModel", "SpikedRF", "OneStep", "MultiStep", Model)


def group_count(model: Model) -> int:
    """How many groups of neurons: values of the initial readout, or rows of the spikes."""
    spikes = model.spikes if isinstance(model, SpikedRF) else None
    return len(model.readout) if spikes is None else len(spikes)


def layout(model: Model) -> str:
    """Name how the core takes a model: "one" group and spike, "groups" of it, or "spikes"."""
    k = group_count(model)
    if isinstance(model, SpikedRF) and model.spikes is not None:
        return "spikes"
    if k > 1 and (model.directions > 1 or isinstance(model, MultiStep)):
        return "spikes"
    return "groups" if k > 1 else "one"


def structure(model: Model) -> dict[str, Any]:
    """Return what a model has beside functions and numbers that broadcast, in flat lists.

    Labels are among it where they are not the target's values.
    """
    out: dict[str, Any] = {"readout": list(model.readout), "weights": list(probabilities(model))}
    if isinstance(model, SpikedRF) and model.spikes is not None:
        del out["readout"]
        out |= {name: np.ravel(getattr(model, name)).tolist() for name in ("spikes", "alignment")}
        out |= {"variances": list(model.variances)} if model.variances else {}
    elif isinstance(model, SpikedRF) and model.directions > 1:
        out["gamma"] = np.ravel(model.gamma).tolist()
    if model.labels != "real":
        out["labels"] = model.labels
    return {name: value for name, value in out.items() if value is not None}


def probabilities(model: Model) -> tuple[float, ...]:
    """Probabilities of the groups of neurons."""
    return model.weights or (1 / group_count(model),) * group_count(model)


class StepMoments(NamedTuple):
    """Constants of a step: of ``sigma' = h1 + h2 z + S``, of the residual u (THEORY section 10)."""

    h1: float
    h2: float
    curved: float  # h2^2 + E S^2
    target_h1: float | FloatArray  # E[t y]; of several directions the length of that vector
    u1: float | FloatArray
    u2: float | FloatArray  # without the label noise, but of labels of +1 and -1
    direction: FloatArray  # E[t y] in units of target_h1: of one direction 1


def step_moments(model: OneStep) -> StepMoments:
    """Return the constants that the spike of a step is made of: see `OneStep.equivalent`."""
    check_model(model, labelled=True, covers=("directions",))
    sigma = gaussian_constants(model.activation, derivative=True)
    if model.directions > 1:
        target = _constants_across(model)
        length = np.linalg.norm(target["h1"], axis=-1)
        known = length[..., np.newaxis] > 0
        axis = target["h1"] / np.where(known, length[..., np.newaxis], 1.0)
        direction = np.where(known, axis, np.eye(model.directions)[0])
    else:
        target = _label_constants(model)
        length, direction = target["h1"], np.ones(1)
    offset = sum(p * v for p, v in zip(probabilities(model), model.readout, strict=True))
    offset *= sigma["mean"]
    return StepMoments(
        sigma["h1"],
        sigma["h2"],
        sigma["h2"] ** 2 + sigma["hc1"],
        length,
        target["mean"] - offset,
        target["second_moment"] - 2 * offset * target["mean"] + offset**2,
        direction,
    )


def label_law(labels: str, numbers: Mapping[str, float | FloatArray]) -> float | FloatArray:
    """Return the number among these that the labels' law has: of "logit" slope, else noise."""
    return numbers["slope" if labels == "logit" else "noise"]


def _constants_across(model: OneStep) -> dict[str, Any]:
    """As _label_constants, of a target of several directions: h1 has an axis of them."""
    assert isinstance(model.target, Target)
    target = model.target
    if model.labels == "real":
        return target_constants(target)
    law = np.asarray(label_law(model.labels, model.numeric), dtype=np.float64)
    core = compiled_target(target)
    each = [_core.target_constants(core, model.labels, x) for x in law.ravel()]
    warn_accuracy(max(x["error"] for x in each), f"the moments of labels of {target.label}", target)
    out = {name: np.array([x[name] for x in each]) for name in ("mean", "h1")}
    out = {name: x.reshape((*law.shape, *x.shape[1:]))[()] for name, x in out.items()}
    return {**out, "second_moment": 1.0}


def _label_constants(model: OneStep) -> dict[str, Any]:
    """Mean, second moment and E[t y] of the labels, without the noise of real ones."""
    if model.labels == "real":
        return gaussian_constants(model.target)
    law = np.asarray(label_law(model.labels, model.numeric), dtype=np.float64)
    raw = _core.label_moments(compiled(model.target), model.labels, law.ravel())
    values = {name: values.reshape(law.shape)[()] for name, values in raw.items()}
    return {**values, "second_moment": 1.0}


#: Of so many directions a target may have kinks.
BENDING = 3


def check_model(
    model: object, labelled: bool = False, covers: Collection[str] = (), bulk: object = "isotropic"
) -> None:
    """Refuse what is no model, and what the caller does not cover, because of its bulk if it has.

    That is labels that are not real unless ``labelled``, and of "directions" (several, of the
    target), "bends" (kinks of a target of more than `BENDING` directions, whose averages are not
    known exactly), "spikes" (the field) and "steps" (a MultiStep) what is not among ``covers``.
    """
    if not isinstance(model, (SpikedRF, OneStep, MultiStep)):
        raise TypeError(f"model must be an srfx.SpikedRF or an srfx.OneStep; got {model!r}")
    if not labelled and model.labels != "real":
        raise NotImplementedError(
            f"labels must be 'real' here: for +1 and -1 this is not known yet; got a model with "
            f"labels={model.labels!r}"
        )
    where, instead = "here", ""
    if bulk != "isotropic":
        where = f"with bulk={bulk!r}" if isinstance(bulk, str) else "with an EmpiricalBulk"
        instead = ": for these there is bulk='isotropic'"
    if model.directions > 1 and "directions" not in covers:
        raise NotImplementedError(
            f"target must have one direction {where}: for several this is not known yet; "
            f"got the target {label(model.target)}{instead}"
        )
    if model.directions > BENDING and "bends" not in covers:
        assert isinstance(model.target, Target)
        jumps = not isinstance(model, SpikedRF) and model.labels == "sign"
        if compiled_target(model.target).kinks or (jumps and not np.all(model.noise)):
            raise NotImplementedError(
                f"target must have at most {BENDING} directions where it has kinks or jumps, or "
                "its signs without noise are what a gradient step sees: their "
                f"averages over more would take too long; got {model.directions}, of the target "
                f"{label(model.target)}: srfx.simulate takes it"
            )
    if isinstance(model, SpikedRF) and model.spikes is not None and "spikes" not in covers:
        raise NotImplementedError(
            f"spikes must be left out {where}: for several this is not known yet; got spikes of "
            f"shape {model.spikes.shape}{instead}"
        )
    if isinstance(model, MultiStep) and "steps" not in covers:
        raise NotImplementedError(
            f"model must not be a MultiStep here: for several steps this is not known yet; got "
            f"{model}"
        )


def with_fields(model: AnyModel, fields: Mapping[str, Any]) -> AnyModel:
    """Replace fields of a model."""
    if fields and isinstance(model, MultiStep):
        fields = model._with(fields)
    return dataclasses.replace(model, **fields) if fields else model


def check_groups(model: Model) -> None:
    """Refuse more groups than the core solves for."""
    if len(model.readout) == 1 and group_count(model) > MAX_GROUPS:
        raise ValueError(
            f"spikes must have at most {MAX_GROUPS} rows; got {group_count(model)} of them"
        )
    if len(model.readout) > MAX_GROUPS:
        raise ValueError(
            f"readout must have at most {MAX_GROUPS} values; got {len(model.readout)}; a "
            "continuous distribution is well represented by srfx.readout_quantiles('gaussian', 16)"
        )


def spikes_of(model: Model) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Spikes of any model: R (.., K, q), bulk variances c (.., K), alignment Gamma (.., L, q)."""
    if isinstance(model, MultiStep):
        return step_spikes(model)
    if isinstance(model, SpikedRF) and model.spikes is not None:
        check_groups(model)
        k = len(model.spikes)
        rows = np.multiply.outer(np.asarray(model.r, dtype=np.float64), model.spikes)
        c = np.asarray(model.c, dtype=np.float64)
        c = np.array(model.variances) if model.variances else np.stack([c] * k, axis=-1)
        assert model.alignment is not None
        return rows, c, model.alignment
    r, c, gamma = groups_of(model)
    if model.directions == 1:
        alignment = gamma[..., np.newaxis]
    elif isinstance(model, OneStep):
        alignment = gamma[..., np.newaxis] * step_moments(model).direction
    else:
        alignment = gamma
    return r[..., np.newaxis], c, alignment[..., np.newaxis]


def groups_of(model: Model) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Spike r_g and bulk variance c_g of each group of neurons, groups last, and gamma.

    One group a readout value: of a SpikedRF ``r a_g`` and ``1 + a_g^2 (c - 1)`` (THEORY section 7),
    of a OneStep what learning rate ``a_g eta`` makes of its neurons (sections 1 and 10).
    """
    check_model(model, labelled=True, covers=("directions",))
    check_groups(model)
    if isinstance(model, OneStep):
        spikes = [model._spike(a) for a in model.readout]
        r, c, gamma = (list(x) for x in zip(*spikes, strict=True))
        return np.stack(r, axis=-1), np.stack(c, axis=-1), gamma[0]
    assert isinstance(model, SpikedRF)
    r, c = [], []
    for a in model.readout:
        variance = np.asarray(model.c if a == 1 else 1 + a * a * (model.c - 1))
        if np.any(variance <= 0):
            raise ValueError(
                f"c must exceed 1 - 1/readout^2 = {1 - 1 / (a * a):.6g} for readout="
                f"{model.readout}: the bulk variance 1 + readout^2 (c - 1) must be positive; got "
                f"c={model.c!r}"
            )
        r.append(np.asarray(a * model.r))
        c.append(variance)
    return np.stack(r, axis=-1), np.stack(c, axis=-1), np.asarray(model.gamma)


@check.public
def readout_quantiles(distribution: str = "gaussian", n: int = 16) -> tuple[float, ...]:
    """Readout values that stand for a continuous initialisation: equal-weight quantile midpoints.

    Value i of n is the quantile at ``(i + 1/2)/n`` of a distribution of mean 0 and variance 1; pass
    them as ``readout=`` with equal weights and solve at finite ``d``: the mean features of many
    groups are nearly parallel, and only their ridge cost tells them apart (THEORY section 7).

    Parameters
    ----------
    distribution : {"gaussian", "uniform"}
        The distribution of the initial readout; multiply the result for another scale.
    n : int
        How many values, 1 to 32.

    Returns
    -------
    tuple of float
        Ascending, symmetric around 0 to the last digit: for an odd activation a and -a are one
        group.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or out of range.

    Examples
    --------
    >>> import srfx
    >>> [round(a, 4) for a in srfx.readout_quantiles("gaussian", 4)]
    [-1.1503, -0.3186, 0.3186, 1.1503]
    >>> model = srfx.SpikedRF("tanh", "sin", readout=srfx.readout_quantiles("gaussian", 16))
    >>> print(f"{srfx.solve(model, alpha=2, lam=0.1, d=1000).test_error:.6f}")
    0.007991
    """
    from statistics import NormalDist

    kind = check.one_of("distribution", distribution, ("gaussian", "uniform"))
    count = check.integer("n", n, 1, MAX_GROUPS)
    upper = []
    for i in range((count + 1) // 2, count):
        p = (i + 0.5) / count
        upper.append(NormalDist().inv_cdf(p) if kind == "gaussian" else 3**0.5 * (2 * p - 1))
    middle = [0.0] if count % 2 else []
    return tuple([-x for x in reversed(upper)] + middle + upper)


_warned_not_odd = False
_warned_several_steps = False


def _warn_several_steps() -> None:
    global _warned_several_steps
    if not _warned_several_steps and _told.listener is not _nobody:
        _warned_several_steps = True
        warn(
            "a network after several steps is equivalent to spiked random features with an "
            "isotropic bulk only roughly (test errors off by some 5 percent, more at alpha0 below "
            "1: docs/accuracy.md). This is said once.",
            ApproximationWarning,
        )


def _warn_not_odd(name: str) -> None:
    global _warned_not_odd
    if not _warned_not_odd and _told.listener is not _nobody:
        _warned_not_odd = True
        warn(
            f"the activation {name} is not odd: its network after one step is equivalent to spiked "
            "random features with an isotropic bulk only roughly (test errors off by several "
            "percent; bulk='one_step' does without). This is said once.",
            ApproximationWarning,
        )
