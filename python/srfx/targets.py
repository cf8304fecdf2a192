"""Targets of several directions: what they are, and how the compiled core knows them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from srfx import _core
from srfx import _validation as check

FloatArray: TypeAlias = NDArray[np.float64]
Kink: TypeAlias = tuple[tuple[float, ...], float]

#: Names of functions of any number of directions.
TARGET_NAMES: tuple[str, ...] = tuple(_core.target_names())

#: Other words for them.
ALSO = {"parity": "sign_product"}

#: Directions a target may have.
MAX_DIRECTIONS = 16


@check.public
@dataclasses.dataclass(frozen=True)
class Target:
    """A target of several directions, usable wherever the name of a target is.

    Labels are ``s*(t_1, .., t_L)`` plus noise, ``t_l = theta_l.x/sqrt(d)``, with orthogonal
    directions ``theta_l`` of norm sqrt(d). Source: THEORY section 13.

    Parameters
    ----------
    fn : str or callable
        ``"product"`` of all t; ``"sign_product"``, the product of their signs (``"parity"`` is
        another word for it); ``"max"``, the largest. Or a function that takes L float64 arrays of
        shape (n,), one for each direction, and returns the n values, real and finite, in float64.
        It must be defined everywhere and not grow faster than a polynomial. It is called under
        NumPy's default ``errstate``.
    directions : int
        L, 1 to 16.
    kinks : sequence of (n, b), optional
        Planes ``n.t = b`` where ``fn`` or a derivative of it jumps: n has L numbers, b is one. The
        quadrature puts its edges there; an undeclared one costs accuracy, which `solve` measures
        and warns about. Named functions know theirs.
    name : str, optional
        What titles and attributes call a callable, and what a stored scan knows it by: as of an
        `Activation`.

    Raises
    ------
    TypeError
        ``fn`` is neither a name nor callable, or another argument is of the wrong type.
    ValueError
        An unknown name; ``directions`` out of range; ``fn`` does not take L arrays, returns the
        wrong shape or non-finite values, or grows so fast that its mean square over Gaussian
        inputs is infinite; a plane is none in L directions.

    Examples
    --------
    >>> import numpy as np
    >>> from srfx.targets import Target
    >>> Target("product", directions=2)
    Target('product', directions=2)
    >>> bent = Target(lambda a, b: a + np.abs(a - b), directions=2, kinks=[((1, -1), 0)])
    >>> bent(np.array([1.0, 2.0]), np.array([3.0, 0.0]))
    array([3., 4.])
    """

    fn: str | Callable[..., FloatArray]
    directions: int = 2
    kinks: tuple[Kink, ...] = ()
    name: str | None = None

    def __post_init__(self) -> None:
        count = check.integer("directions", self.directions, 1, MAX_DIRECTIONS)
        object.__setattr__(self, "directions", count)
        object.__setattr__(self, "kinks", _planes(self.kinks, count))
        check.function_name(self.name, TARGET_NAMES)
        if isinstance(self.fn, str):
            fn = check.one_of("fn", ALSO.get(self.fn, self.fn), TARGET_NAMES)
            object.__setattr__(self, "fn", fn)
            for name, value, default in (("kinks", self.kinks, ()), ("name", self.name, None)):
                if value != default:
                    raise ValueError(f"{name} must not be given with the name {fn!r}; got {value}")
        elif callable(self.fn):
            check_arguments(self.fn, count)
            points = probe(count)
            with np.errstate(all="ignore"):  # what is not finite is refused in words
                check.values_of("fn", self.fn(*points.copy()), points)
                _check_growth(self.fn, count)
        else:
            raise TypeError(
                f"fn must be a name ({', '.join(TARGET_NAMES)}) or callable; got {self.fn!r}"
            )

    def __call__(self, *t: FloatArray) -> FloatArray:
        """Values at ``t``, one array for each direction."""
        if not isinstance(self.fn, str):
            return self.fn(*t)
        arrays = np.broadcast_arrays(*t)
        points = np.array([np.ravel(x) for x in arrays], dtype=np.float64)
        values: FloatArray = _core.evaluate_target(compiled_target(self), points)
        return values.reshape(arrays[0].shape)

    def __repr__(self) -> str:
        kinks = f", kinks={list(self.kinks)}" if self.kinks else ""
        name = f", name={self.name!r}" if self.name else ""
        return f"Target({self.fn!r}, directions={self.directions}{kinks}{name})"

    @property
    def label(self) -> str:
        """What titles and attributes call it."""
        if isinstance(self.fn, str):
            return f"{self.fn} of {self.directions}"
        return self.name or f"callable {callable_name(self.fn)}"


def callable_name(fn: Callable[..., Any]) -> str:
    """Return the name of a callable, or of its type."""
    return str(getattr(fn, "__name__", type(fn).__name__))


@functools.cache
def probe(directions: int) -> FloatArray:
    """Points where targets are tried at construction, shape (directions, 24): no likely kinks.

    The first row is where functions of one variable are tried; the others have its values in
    another order.
    """
    line = np.linspace(-6.1, 6.1, 24)
    shuffle = np.random.default_rng(1)
    return np.array([line] + [shuffle.permutation(line) for _ in range(directions - 1)])


def _planes(kinks: object, directions: int) -> tuple[Kink, ...]:
    allowed = (
        f"a sequence of planes (n, b), n of {directions} finite numbers that are not all zero and "
        "b a finite number"
    )
    if isinstance(kinks, (str, bytes)) or not isinstance(kinks, Iterable):
        raise TypeError(f"kinks must be {allowed}; got {kinks!r}")
    planes = set()
    for plane in kinks:
        if isinstance(plane, (str, bytes)) or not isinstance(plane, Sequence) or len(plane) != 2:
            raise ValueError(f"kinks must be {allowed}; got the entry {plane!r}")
        normal = check.vector("n of a plane in kinks", plane[0], f"{directions} finite numbers")
        offset = check.finite("b of a plane in kinks", plane[1])
        if len(normal) != directions or not any(normal) or not isinstance(offset, float):
            raise ValueError(f"kinks must be {allowed}; got the entry {plane!r}")
        planes.add((normal, offset))
    return tuple(sorted(planes))


def check_arguments(fn: Callable[..., Any], directions: int) -> None:
    """Refuse what cannot be called with one array for each direction."""
    expected = f"fn must take {directions} arrays, one for each direction"
    if directions == 1:
        expected = "fn must take one array (one of several is an srfx.Target(fn, directions=..))"
    if isinstance(fn, np.ufunc):  # one more array would be where to put the result
        if fn.nin != directions:
            raise ValueError(f"{expected}; {fn!r} takes {fn.nin}")
        return
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # built-in functions need not have one
        return
    try:
        signature.bind(*range(directions))
    except TypeError as error:
        what = f"{callable_name(fn)}{signature}"
        raise ValueError(f"{expected}; {what} does not: {error}") from None


@functools.cache
def _compiled_name(name: str, directions: int) -> _core.Target:
    return _core.Target(name, directions)


def compiled_target(target: Target) -> _core.Target:
    """Return the target as the compiled core knows it."""
    if isinstance(target.fn, str):
        return _compiled_name(target.fn, target.directions)
    name = target.name or callable_name(target.fn)
    return _core.Target.from_callable(target.fn, target.directions, list(target.kinks), name)


def _check_growth(fn: Callable[..., FloatArray], count: int) -> None:
    """Refuse functions whose square grows faster than the density of t falls."""
    ray = 1 / (1 + 3.0 * np.arange(count))
    rays = np.array([s * np.roll(ray, i) for i in range(count) for s in (1, -1)])
    radii = np.array([6.0, 12.0, 24.0]) / float(np.linalg.norm(ray))
    points = rays.T[:, :, np.newaxis] * radii  # (direction of the target, ray, radius)
    try:
        values = np.asarray(fn(*points.reshape(count, -1).copy()), dtype=np.float64)
    except Exception:
        return  # functions that are not made for such arguments are not asked for them here
    if values.size != points[0].size:
        return
    log = 2 * np.log(np.abs(values.reshape(points[0].shape))) - 0.5 * (points**2).sum(axis=0)
    grows = (log[:, 1] >= log[:, 0]) & (log[:, 2] >= log[:, 1]) & np.isfinite(log[:, 1])
    if grows.any():
        first = int(np.argmax(grows))
        at = ", ".join(f"{x:.3g}" for x in points[:, first, 1])
        there = values.reshape(points[0].shape)[first, 1]
        raise ValueError(
            "fn must have a finite mean square over Gaussian inputs; its square grows faster than "
            f"their density falls: at ({at}) it is {there:.3g}"
        )
