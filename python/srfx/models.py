"""The models srfx solves: what the networks are, and nothing about how they are solved."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from srfx import _core
from srfx import _validation as check
from srfx.targets import ALSO, TARGET_NAMES, Target, callable_name, compiled_target

FloatArray: TypeAlias = NDArray[np.float64]
Function: TypeAlias = Callable[[FloatArray], FloatArray]

#: What a model has for a target.
AnyTarget: TypeAlias = "str | Activation | Target"

#: Names accepted wherever an activation or a target is asked for.
ACTIVATION_NAMES: tuple[str, ...] = tuple(_core.activation_names())

#: Readout values that the equations are solved for, at most.
MAX_GROUPS = 32

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


def floor_of(function: AnyTarget) -> float:
    """E[s^2] - E[s]^2 - E[z s]^2, in its centred form, which does not cancel."""
    core = compiled(function)
    at_zero = _core.coefficients(core, core, 0.0, 1.0, 0.0, np.zeros(1))
    warn_accuracy(at_zero["error"], f"the Gaussian moments of {label(function)}", function)
    floor, second_moment = float(at_zero["mu2_squared"][0]), float(at_zero["hh"][0])
    return floor if floor > 1e-26 * second_moment else 0.0


def warn_accuracy(error: float, what: str, *functions: AnyTarget) -> None:
    """Warn where an estimated quadrature error exceeds 1e-8, with what may be done about it."""
    if error > 1e-8:
        advice, kinked = "", []
        for function in functions:
            if isinstance(function, Target) and not isinstance(function.fn, str):
                kinked.append(function.label)
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
        if kinked:
            advice += (
                f"; declare the kinks and jumps of the {' and the '.join(kinked)} by "
                "srfx.Activation(fn, kinks=[...])"
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


class _Model(Rebuilt):
    """What the models share: validation, equality by value, a short repr."""

    activation: str | Activation
    target: AnyTarget

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

        names = [f.name for f in dataclasses.fields(self)]  # type: ignore[arg-type]
        names = [name for name in names if name not in self._unused()]
        inside = ", ".join(f"{name}={short(getattr(self, name))}" for name in names)
        return f"{type(self).__name__}({inside})"

    def _unused(self) -> tuple[str, ...]:
        """Fields that mean nothing beside the others."""
        return ()


@check.public
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SpikedRF(_Model):
    """Spiked random features: ridge regression on ``sigma(W x)`` with a spike in ``W``.

    Rows of W: ``w_i = sqrt(c) w0_i + r v/sqrt(d)``, ``w0_i`` uniform on the unit sphere, ``|v|^2 =
    d``. Inputs ``x ~ N(0, I_d)``, labels ``y = target(theta.x/sqrt(d)) + sqrt(noise) eps``,
    ``|theta|^2 = d``. Source: CPD24 Definition 3.1; THEORY section 1.

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
        Strength of the spike; any finite number.
    c : float or array
        Variance of the bulk of W, > 0; 1 without a gradient step.
    gamma : float or array
        Alignment ``v.theta/d`` of the spike with the target's direction, -1 to 1.
    beta : float or array
        Width ratio p/d, > 0.
    noise : float or array
        Variance of the label noise, >= 0.
    readout : sequence of float
        Values a_g of the initial readout: group g has spike ``r a_g`` and bulk variance
        ``1 + a_g^2 (c - 1)`` (THEORY section 7). `solve` takes up to 32 values; see
        `readout_quantiles` for a continuous distribution.
    weights : sequence of float, optional
        Probabilities of those values, summing to one; equal by default.

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
    r: float | FloatArray = 0.9
    c: float | FloatArray = 1.0
    gamma: float | FloatArray = 1.0
    beta: float | FloatArray = 1.0
    noise: float | FloatArray = 0.0
    readout: tuple[float, ...] = (1.0,)
    weights: tuple[float, ...] | None = None

    numeric_names = ("r", "c", "gamma", "beta", "noise")

    def __post_init__(self) -> None:
        readout, weights = check.readout_and_weights(self.readout, self.weights)
        self._set(
            activation=as_function("activation", self.activation),
            target=as_target("target", self.target),
            r=check.finite("r", self.r),
            c=check.positive("c", self.c),
            gamma=check.correlation("gamma", self.gamma),
            beta=check.positive("beta", self.beta),
            noise=check.non_negative("noise", self.noise),
            readout=readout,
            weights=weights,
        )
        check.common_shape(self.numeric)


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

    numeric_names = ("eta", "alpha0", "beta", "noise")

    def __post_init__(self) -> None:
        readout, weights = check.readout_and_weights(self.readout, self.weights)
        activation = as_function("activation", self.activation)
        function = compiled(activation)
        if isinstance(activation, Activation) and activation.derivative is None:
            raise ValueError(
                "activation must have a derivative for OneStep, whose gradient step contains it; "
                f"got the callable {function.name!r} without one: pass "
                "srfx.Activation(fn, derivative=...)"
            )
        if function.jump or not function.has_derivative:
            raise ValueError(
                "activation must be continuous for OneStep, whose gradient step contains its "
                f"derivative; got {function.name!r}, which jumps"
            )
        self._set(
            activation=activation,
            target=as_target("target", self.target),
            eta=check.finite("eta", self.eta),
            alpha0=check.sample_ratio("alpha0", self.alpha0),
            beta=check.positive("beta", self.beta),
            noise=check.non_negative("noise", self.noise),
            readout=readout,
            weights=weights,
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
        A single readout value a counts as learning rate ``a eta``; the result then has readout 1.

        Returns
        -------
        SpikedRF
            With r, c and gamma of the shape of eta, alpha0 and noise broadcast together.

        Raises
        ------
        NotImplementedError
            Several readout values and an activation with h2 = E[z sigma'(z)] not zero: their bulk
            variances are not of the form ``1 + a_g^2 (c - 1)`` that `SpikedRF` has.
        ValueError
            The step is so large that r or c overflows.

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
        )

    def _spike(self, a: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """r, c and gamma of the neurons whose initial readout is a: the map of `equivalent`."""
        h1, h2, curved, target_h1, u1, noiseless = step_moments(self)
        eta = a * np.asarray(self.eta)
        alpha0 = np.asarray(self.alpha0)
        stepped = alpha0 > 0
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            samples_inverse = np.where(stepped, 1 / alpha0, 0.0)
            u2 = noiseless + self.noise
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


def probabilities(model: SpikedRF | OneStep) -> tuple[float, ...]:
    """Probabilities of the readout values."""
    return model.weights or (1 / len(model.readout),) * len(model.readout)


class StepMoments(NamedTuple):
    """Constants of a step: of ``sigma' = h1 + h2 z + S``, of the residual u (THEORY section 10)."""

    h1: float
    h2: float
    curved: float  # h2^2 + E S^2
    target_h1: float  # E[t sigma*(t)]
    u1: float
    u2: float  # without the label noise


def step_moments(model: OneStep) -> StepMoments:
    """Return the constants that the spike of a step is made of: see `OneStep.equivalent`."""
    sigma = gaussian_constants(model.activation, derivative=True)
    target = gaussian_constants(model.target)
    offset = sum(p * v for p, v in zip(probabilities(model), model.readout, strict=True))
    offset *= sigma["mean"]
    return StepMoments(
        sigma["h1"],
        sigma["h2"],
        sigma["h2"] ** 2 + sigma["hc1"],
        target["h1"],
        target["mean"] - offset,
        target["second_moment"] - 2 * offset * target["mean"] + offset**2,
    )


def check_model(model: object) -> None:
    """Refuse what is no model."""
    if not isinstance(model, (SpikedRF, OneStep)):
        raise TypeError(f"model must be an srfx.SpikedRF or an srfx.OneStep; got {model!r}")


def with_fields(model: SpikedRF | OneStep, fields: Mapping[str, Any]) -> SpikedRF | OneStep:
    """Replace fields of a model."""
    return dataclasses.replace(model, **fields) if fields else model


def check_groups(model: SpikedRF | OneStep) -> None:
    """Refuse more readout values than the core solves for."""
    if len(model.readout) > MAX_GROUPS:
        raise ValueError(
            f"readout must have at most {MAX_GROUPS} values; got {len(model.readout)}; a "
            "continuous distribution is well represented by srfx.readout_quantiles('gaussian', 16)"
        )


def groups_of(model: SpikedRF | OneStep) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Spike r_g and bulk variance c_g of each group of neurons, groups last, and gamma.

    One group a readout value: of a SpikedRF ``r a_g`` and ``1 + a_g^2 (c - 1)`` (THEORY section 7),
    of a OneStep what learning rate ``a_g eta`` makes of its neurons (sections 1 and 10).
    """
    check_groups(model)
    if isinstance(model, OneStep):
        spikes = [model._spike(a) for a in model.readout]
        r, c, gamma = (list(x) for x in zip(*spikes, strict=True))
        return np.stack(r, axis=-1), np.stack(c, axis=-1), gamma[0]
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
