"""One door for everything a user passes: the compiled core trusts what comes through here."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import numbers
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    FloatArray = NDArray[np.float64]

_SCALARS = (numbers.Real, np.number)

_Callable = TypeVar("_Callable", bound=Callable[..., Any])


def public(thing: _Callable) -> _Callable:
    """Make a function, or the constructor of a class, a door of the package.

    Behind it NumPy handles overflow and the like as it does by default, whatever ``np.errstate`` of
    the caller says: what underflows on the way to a right number is no concern of theirs. Functions
    of the user that are called there are treated alike, in every thread; what they return is
    checked. And an argument that the function does not have is refused by name.
    """
    if isinstance(thing, type):
        thing.__init__ = public(thing.__init__)  # type: ignore[misc]
        return thing
    parameters = inspect.signature(thing).parameters
    known = frozenset(parameters)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    @functools.wraps(thing)
    def door(*args: Any, **kwargs: Any) -> Any:
        if not takes_any and not kwargs.keys() <= known:
            raise _no_such_argument(thing, list(parameters), kwargs)
        with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
            return thing(*args, **kwargs)

    return door  # type: ignore[return-value]


def _no_such_argument(
    function: Callable[..., Any], parameters: Sequence[str], given: Mapping[str, Any]
) -> TypeError:
    name = next(key for key in given if key not in parameters)
    has = [p for p in parameters if p not in ("self", "cls")]
    what = function.__qualname__.removesuffix(".__init__")
    return TypeError(
        f"{what} has no argument {name!r}; it has {', '.join(has) or 'none'}; got "
        f"{name}={_short(given[name])}{nearest(name, has)}"
    )


def memory(what: str, needed: float, remedy: str = "") -> None:
    """Refuse what would not fit into memory: ``what`` is its size, in the words of the user."""
    if needed < 2**24:  # always there, and asking the system takes longer than a small solve
        return
    available = available_memory()
    if available is not None and needed > available:
        raise ValueError(
            f"{what} would need about {needed / 1e9:.3g} GB of memory; {available / 1e9:.3g} GB "
            f"are available{remedy}"
        )


def available_memory() -> float | None:
    """Bytes this process could still take, where the system tells."""
    limits = []
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    limits.append(float(line.split()[1]) * 1024)
    except OSError:
        try:
            limits.append(float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))
        except (AttributeError, ValueError, OSError):
            return None
    try:  # a container's own limit
        with (
            open("/sys/fs/cgroup/memory.max") as most,
            open("/sys/fs/cgroup/memory.current") as now,
        ):
            limits.append(float(most.read()) - float(now.read()))
    except (OSError, ValueError):
        pass
    return min(limits) if limits else None


def of_loaded(value: object, package: str, name: str) -> bool:
    """Whether a value is of a class of a package, which is not imported to find out.

    While another thread imports the package, it is there without its class, and so no value of the
    class is.
    """
    return isinstance(value, getattr(sys.modules.get(package), name, ()))


def number_or_array(name: str, value: object, allowed: str, valid: Any) -> float | FloatArray:
    """Return a real argument as a float or a read-only float64 array, or say what is wrong with it.

    Parameters
    ----------
    name : str
        The argument, for the message.
    value : object
        What the user passed.
    allowed : str
        What is allowed, completing "alpha must be ...".
    valid : callable
        Vectorised test; it is given a float64 array and returns a boolean one.

    Raises
    ------
    TypeError
        Not real numbers: text, booleans, complex, None, objects.
    ValueError
        Real numbers out of the allowed range, or sequences of unequal length.
    """
    array = _real_array(name, value, allowed)
    with np.errstate(invalid="ignore"):
        good = np.asarray(valid(array), dtype=bool)
    if not good.all():
        where = np.unravel_index(int(np.argmin(good)), array.shape)
        place = f" at index {_index(where)}" if where else ""
        raise ValueError(f"{name} must be {allowed}; got {float(array[where])!r}{place}")
    if array.ndim == 0:
        return float(array)
    array.flags.writeable = False
    return array


def _real_array(name: str, value: object, allowed: str) -> FloatArray:
    """Copy ``value`` to a float64 array."""

    def wrong_type(got: str) -> TypeError:
        return TypeError(f"{name} must be {allowed} (a real number or an array of them); got {got}")

    if isinstance(value, (bool, np.bool_)) or value is None:
        raise wrong_type(repr(value))
    if isinstance(value, _SCALARS) and not isinstance(value, np.complexfloating):
        try:
            return np.array(float(value))
        except OverflowError:
            raise ValueError(f"{name} must be {allowed}; got an integer beyond float64") from None
    if isinstance(value, (str, bytes, numbers.Complex, Mapping)):
        raise wrong_type(repr(value))
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise wrong_type("a masked array")
    try:
        raw = np.asarray(value)
    except Exception as error:
        if isinstance(value, (list, tuple)) and isinstance(error, ValueError):
            raise ValueError(
                f"{name} must be {allowed}; got a nested sequence with rows of unequal length"
            ) from None
        raise wrong_type(unreadable(value, error, f"pass {name}")) from None
    if _widens(raw.dtype):
        raw = raw.astype(np.float64)
    if raw.dtype.kind not in "iuf":
        what = {"b": "booleans", "c": "complex numbers", "U": "text", "S": "text"}
        got = what.get(raw.dtype.kind, f"dtype {raw.dtype}")
        raise wrong_type(f"{got}: {_short(value)}")
    return np.array(raw, dtype=np.float64)


def _widens(dtype: np.dtype[Any]) -> bool:
    """Whether a type that NumPy does not know, as the bfloat16 of JAX, goes into float64."""
    return dtype.kind == "V" and dtype.names is None and np.can_cast(dtype, np.float64)


def unreadable(value: object, error: Exception, remedy: str) -> str:
    """Say what NumPy cannot read: a tensor on a device, with a gradient, of another precision."""
    words = " ".join(str(error).split())
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    torch = hasattr(value, "detach")
    how = ".detach().cpu().double().numpy()" if torch else " as a float64 array of NumPy"
    return (
        f"a {kind} that NumPy cannot read "
        f"({words[:100]}{'...' if len(words) > 100 else ''}): {remedy}{how}"
    )


def _index(where: Sequence[Any]) -> str:
    return str(int(where[0])) if len(where) == 1 else str(tuple(int(i) for i in where))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def finite(name: str, value: object) -> float | FloatArray:
    """Any finite real number."""
    return number_or_array(name, value, "finite", np.isfinite)


def positive(name: str, value: object) -> float | FloatArray:
    """Finite and above zero."""
    return number_or_array(name, value, "finite and > 0", lambda x: np.isfinite(x) & (x > 0))


def non_negative(name: str, value: object) -> float | FloatArray:
    """Finite and at least zero."""
    return number_or_array(name, value, "finite and >= 0", lambda x: np.isfinite(x) & (x >= 0))


def non_negative_or_inf(name: str, value: object) -> float | FloatArray:
    """At least zero, infinity included."""
    return number_or_array(name, value, ">= 0 (inf is allowed)", lambda x: x >= 0)


def sample_ratio(name: str, value: object) -> float | FloatArray:
    """At least zero, infinity included; not so small that its inverse overflows."""
    non_negative_or_inf(name, value)
    allowed = "0, or at least 1e-150 (inf is allowed)"
    return number_or_array(name, value, allowed, lambda x: (x == 0) | (x >= 1e-150))


def correlation(name: str, value: object) -> float | FloatArray:
    """Between -1 and 1."""
    return number_or_array(name, value, "between -1 and 1", lambda x: np.abs(x) <= 1)


def dimension(name: str, value: object) -> float | FloatArray:
    """At least one; infinity is the limit."""
    return number_or_array(name, value, "None or inf (the limit), or >= 1", lambda x: x >= 1)


def single(name: str, value: object, checked: Callable[[str, object], float | FloatArray]) -> float:
    """Accept one number that passes another check of this module."""
    number = checked(name, value)
    if isinstance(number, np.ndarray):
        raise ValueError(f"{name} must be a single number; got an array of shape {number.shape}")
    return number


def vector(name: str, value: object, allowed: str) -> tuple[float, ...]:
    """Return a non-empty sequence of finite real numbers as a tuple."""
    if isinstance(value, (*_SCALARS, str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be {allowed}; got {_short(value)}")
    if not isinstance(value, np.ndarray):
        value = list(value)
    array = number_or_array(name, value, allowed, np.isfinite)
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.size == 0:
        shape = np.shape(array)
        raise ValueError(f"{name} must be {allowed}; got an array of shape {shape}")
    return tuple(array.tolist())


def readout_and_weights(
    readout: object, weights: object
) -> tuple[tuple[float, ...], tuple[float, ...] | None]:
    """Values of the initial readout and their probabilities (None: equal)."""
    values = vector("readout", readout, "a non-empty sequence of finite numbers, as in (1.0,)")
    return values, probabilities(weights, len(values), "value of readout")


def probabilities(weights: object, count: int, of: str) -> tuple[float, ...] | None:
    """Probabilities of as many groups, one for each ``of``; None: equal."""
    if weights is None:
        return None
    allowed = "None (equal weights) or a sequence of positive numbers that sum to one"
    shares = vector("weights", weights, allowed)
    if len(shares) != count:
        raise ValueError(
            f"weights must have one entry for each {of} ({count}); got {len(shares)}: {shares}"
        )
    if min(shares) <= 0:
        raise ValueError(f"weights must be positive; got {shares}")
    if abs(math.fsum(shares) - 1) > 1e-12:
        raise ValueError(
            f"weights must sum to one within 1e-12; got {shares}, "
            f"which sum to {math.fsum(shares)!r}"
        )
    return shares


def matrix(name: str, value: object, shape: tuple[int | None, int | None], what: str) -> FloatArray:
    """Return finite numbers of two axes, of given lengths or (None) of any but zero.

    ``what`` says in words which axis is which.
    """
    text = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
    allowed = f"an array of finite numbers of shape {text}, {what}"
    array = number_or_array(name, value, allowed, np.isfinite)
    found = np.shape(array)
    fits = len(found) == 2 and 0 not in found
    if not fits or any(n not in (None, m) for n, m in zip(shape, found, strict=True)):
        some = ", at least one of each" if 0 in found else ""
        raise ValueError(f"{name} must be {allowed}{some}; got shape {found}")
    return np.asarray(array)


def function_name(name: object, taken: Sequence[str]) -> None:
    """Accept None, or a name that a callable may have."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be None or a string; got {name!r}")
    if name is not None and (not name.strip() or not name.isprintable() or name in taken):
        raise ValueError(
            "name must be printable text, not empty and not that of a function srfx has "
            f"({', '.join(taken)}); got {name!r}"
        )


def values_of(role: str, raw: object, points: FloatArray) -> FloatArray:
    """Check what a callable of the user returned for points, of shape (n,) or (directions, n)."""
    shape = points.shape[-1:]
    try:
        values = np.asarray(raw)
    except Exception as error:
        got = unreadable(raw, error, "let it return values")
        raise ValueError(
            f"{role} must return an array of real numbers; it returned {got}"
        ) from None
    if values.dtype.kind not in "biuf":
        kind = "" if values.dtype == object else f" of {values.dtype}"
        raise ValueError(
            f"{role} must return an array of real numbers; it returned {type(raw)}{kind}"
        )
    if values.shape != shape:
        raise ValueError(
            f"{role} must return one value for each input: given shape {shape} "
            f"it returned shape {values.shape}"
        )
    good = np.isfinite(values)
    if not good.all():
        i = int(np.argmin(good))
        at = ", ".join(f"{x:.6g}" for x in np.atleast_1d(points[..., i]))
        at = f"({at})" if points.ndim > 1 else at
        raise ValueError(f"{role} must return finite values; at {at} it returned {values[i]}")
    return np.asarray(values, dtype=np.float64)


def integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """Accept an integer from low on, to high if that is given."""
    if high is None:
        allowed = f"an integer >= {low}"
    elif high < 2**32:
        allowed = f"an integer from {low} to {high}"
    else:
        allowed = f"an integer >= {low} and < 2**{high.bit_length()}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be {allowed}; got {_short(value)}")
    count = int(value)
    if count < low or (high is not None and count > high):
        raise ValueError(f"{name} must be {allowed}; got {count}")
    return count


def flag(name: str, value: object) -> bool:
    """Accept True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False; got {value!r}")
    return bool(value)


def one_of(name: str, value: object, choices: Sequence[str]) -> str:
    """One of a few words; the message names them and, for a near miss, the nearest."""
    if not isinstance(value, str):
        alone = ", and only one" if isinstance(value, (list, tuple)) else ""
        raise TypeError(f"{name} must be one of {_listed(choices)}{alone}; got {_short(value)}")
    if value in choices:
        return value
    hint = nearest(value, choices)
    raise ValueError(f"{name} must be one of {_listed(choices)}; got {value!r}{hint}")


def nearest(word: str, choices: Sequence[str]) -> str:
    """Ask whether the nearest of the words was meant, if one is near."""
    near = difflib.get_close_matches(word.strip().lower().replace("-", "_"), choices, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _listed(choices: Sequence[str]) -> str:
    return ", ".join(repr(choice) for choice in choices)


def common_shape(arguments: Mapping[str, float | FloatArray]) -> tuple[int, ...]:
    """Shape of the arguments broadcast together, or a ValueError naming each one's shape."""
    try:
        return np.broadcast_shapes(*(np.shape(value) for value in arguments.values()))
    except ValueError:
        shapes = ", ".join(
            f"{name} {np.shape(value)}" for name, value in arguments.items() if np.ndim(value)
        )
        raise ValueError(f"these shapes do not broadcast against each other: {shapes}") from None


_after_fork: list[bool] = []  # not empty in a child made by os.fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _after_fork.append(True))


def thread_count(n_threads: object) -> int:
    """Threads to use: the number asked for, or all that this process may use.

    Inside a worker process of an executor the default is one thread: the executor has already
    spread the work over the processors. In a child made by fork it is always one: the threads of
    OpenMP do not survive a fork.
    """
    if n_threads is None:
        from multiprocessing import parent_process

        if parent_process() is not None or _after_fork:
            return 1
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    allowed = "None (all processors this process may use) or an integer >= 1"
    if isinstance(n_threads, (bool, np.bool_)) or not isinstance(n_threads, numbers.Integral):
        raise TypeError(f"n_threads must be {allowed}; got {_short(n_threads)}")
    if n_threads < 1:
        raise ValueError(f"n_threads must be {allowed}; got {n_threads}")
    return 1 if _after_fork else min(int(n_threads), 1024)
