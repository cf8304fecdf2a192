"""Targets of several directions, and quadrature in several variables (THEORY section 13)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srfx._validation import public
from srfx.reference._spiked import gauss_hermite, gauss_nodes
from srfx.reference._system import as_function

Array = NDArray[Any]
REACH = 9.0  # of Gaussian variables whose rule has edges at planes
CHUNK = 1_500_000  # values of a target at a time
MOST = 6_000_000  # nodes of a rule


@dataclass(frozen=True)
class Directions:
    """A target of several directions.

    Parameters
    ----------
    value : callable
        Takes one array for each direction.
    directions : int
        L.
    planes : array of shape (count, L + 1)
        Rows (n, b): the planes n.t = b where the function or one of its derivatives jumps.

    Examples
    --------
    >>> import numpy as np
    >>> float(Directions(lambda a, b: a * b, 2, np.zeros((0, 3))).value(2.0, 3.0))
    6.0
    """

    value: Callable[..., Array]
    directions: int
    planes: Array


def _max(*t: Array) -> Array:
    return np.asarray(np.max(np.broadcast_arrays(*t), axis=0))


def _product(*t: Array) -> Array:
    return np.asarray(np.prod(np.broadcast_arrays(*t), axis=0))


def _sign_product(*t: Array) -> Array:
    return np.sign(_product(*t))


def directions_of(target: Any) -> Directions:
    """Return what a target of a model means: one of several directions, or any of one."""
    if isinstance(target, Directions):
        return target
    count = int(getattr(target, "directions", 1))
    fn = getattr(target, "fn", target)
    axes = np.eye(count)
    if fn == "product":
        return Directions(_product, count, np.zeros((0, count + 1)))
    if fn == "sign_product":
        return Directions(_sign_product, count, np.hstack([axes, np.zeros((count, 1))]))
    if fn == "max":
        pairs = [axes[i] - axes[j] for i, j in itertools.combinations(range(count), 2)]
        return Directions(_max, count, np.hstack([np.array(pairs), np.zeros((len(pairs), 1))]))
    if hasattr(target, "directions"):
        rows = [(*normal, offset) for normal, offset in target.kinks]
        return Directions(fn, count, np.array(rows, float).reshape(len(rows), count + 1))
    one = as_function(target)
    return Directions(one.value, 1, np.array([(1.0, x) for x in one.kinks]).reshape(-1, 2))


# -------------------------------------------------------------------------------------- quadrature


def hermite(count: int, variables: int) -> tuple[Array, Array]:
    """Return the tensor rule of Gauss and Hermite: nodes (variables, n) and node weights."""
    if count**variables > MOST:
        raise ValueError(
            f"density must be smaller here: a rule of {count} nodes in each of {variables} "
            f"variables has more than {MOST:,}. Averages that do not settle before are not known"
        )
    x, w = gauss_hermite(count)
    nodes = np.stack(np.meshgrid(*[x] * variables, indexing="ij")).reshape(variables, -1)
    weights = np.ones(1)
    for _ in range(variables):
        weights = np.outer(weights, w).ravel()
    keep = weights > 1e-22
    return nodes[:, keep], weights[keep]


def _distinct(planes: list[Array]) -> Array:
    """Return planes of unit normals without repetitions, those of no normal dropped."""
    out: list[Array] = []
    for plane in planes:
        length = float(np.linalg.norm(plane[:-1]))
        if length < 1e-12:
            continue
        unit = plane / length
        unit = unit * np.sign(unit[np.argmax(np.abs(unit[:-1]) > 1e-12)])
        if not any(np.max(np.abs(unit - other)) < 1e-12 for other in out):
            out.append(unit)
    return np.array(out)


def levels_of(planes: Array, variables: int) -> list[Array]:
    """Return for each variable the planes that are its edges, given the variables before it.

    The last variable is integrated first. What remains has its kinks on the planes without that
    variable, and where two of those with it meet.
    """
    levels = []
    left = [np.asarray(plane, float) for plane in planes]
    for i in reversed(range(variables)):
        found = list(_distinct(left))
        own = [plane / plane[i] for plane in found if abs(plane[i]) > 1e-12]
        levels.append(np.array(own).reshape(len(own), variables + 1))
        left = [plane for plane in found if abs(plane[i]) <= 1e-12]
        left += [a - b for a, b in itertools.combinations(own, 2)]
    return levels[::-1]


def extend(x: Array, edges: Array, panels: int, order: int) -> tuple[Array, Array]:
    """Return nodes and node weights of the next variable, given the ones before (variables, ...).

    Of shape (..., nodes); the weights sum to one over the last axis.
    """
    variable = len(x)
    shape = x.shape[1:]
    before = np.tensordot(edges[:, :variable], x, axes=(1, 0))
    crossing = np.clip(edges[:, -1].reshape(-1, *[1] * len(shape)) - before, -REACH, REACH)
    ends = np.broadcast_to(np.array([-REACH, REACH]), (*shape, 2))
    cuts = np.sort(np.concatenate([ends, np.moveaxis(crossing, 0, -1)], axis=-1), axis=-1)
    part = np.arange(panels) / panels
    fine = (cuts[..., :-1, None] + np.diff(cuts)[..., None] * part).reshape(*shape, -1)
    nodes, weights = gauss_nodes(np.concatenate([fine, cuts[..., -1:]], axis=-1), order)
    return nodes, weights / weights.sum(axis=-1, keepdims=True)


def nested(planes: Array, variables: int, panels: int, order: int) -> tuple[Array, Array]:
    """Return a rule for standard normal variables with edges at planes: nodes, node weights."""
    x, weights = np.zeros((0, 1)), np.ones(1)
    for edges in levels_of(planes, variables):
        nodes, w = extend(x, edges, panels, order)
        x = np.concatenate([np.repeat(x, nodes.shape[-1], axis=1), nodes.reshape(1, -1)])
        weights = (weights[:, None] * w).ravel()
        keep = weights > 1e-19
        x, weights = x[:, keep], weights[keep]
    return x, weights / weights.sum()


def rule_of(target: Directions, density: float = 1) -> tuple[Array, Array]:
    """Return a rule for functions of the target at t ~ N(0, I_L): nodes (L, n), node weights."""
    count = target.directions
    panels = {1: 24, 2: 20, 3: 7}[count] * density
    if len(target.planes) == 0 and count == 3:
        return hermite(round(44 * density), 3)
    width = max(1, round(panels / (1 + len(target.planes) / 2)))
    return nested(target.planes, count, width, 12)


@public
def target_moments(target: Any, density: float = 1) -> tuple[float, Array, float]:
    """Return E s*, the vector E[t s*] and E s*^2 of a target, t ~ N(0, I_L).

    Parameters
    ----------
    target : srfx.Target, or any target of one direction
        The target.
    density : float
        Multiplies the panels of the rule.

    Examples
    --------
    >>> mean, slopes, second = target_moments(Directions(lambda a, b: 2 * a + 3 * a * b, 2,
    ...     np.zeros((0, 3))))
    >>> print(f"{mean:.10f} {slopes[0]:.10f} {slopes[1]:.10f} {second:.10f}".replace("-0.", "0."))
    0.0000000000 2.0000000000 0.0000000000 13.0000000000
    """
    s = directions_of(target)
    t, p = rule_of(s, density)
    values = np.asarray(s.value(*t), float)
    return float(p @ values), t @ (p * values), float(p @ values**2)


def latents(
    target: Directions, gamma: Array, a: Array, k: Array, density: float
) -> Iterator[tuple[slice, Array, Array]]:
    """Yield nodes z (L', k, nodes) and weights (k, nodes) under some of the k, of shape (q, n)."""
    q, n = k.shape
    others = a.shape[1]
    planes = np.hstack([target.planes[:, :-1] @ np.hstack([gamma, a]), target.planes[:, -1:]])
    kinked = len(planes) > 0
    levels = levels_of(planes, q + others)[q:]
    if not kinked and others > 0:
        flat, flat_p = hermite(round({1: 128, 2: 80, 3: 40}[others] * density), others)
    panels, order = (max(1, round(5 * density)), 14) if others < 3 else (round(2 * density), 10)
    inner = math.prod((len(edges) + 1) * panels * order for edges in levels)
    if not kinked:
        inner = flat_p.size if others > 0 else 1
    size = max(1, CHUNK // (inner * (q + others)))
    for at in range(0, n, size):
        x: Array = k[:, at : at + size]
        count = x.shape[1]
        if kinked:
            p: Array = np.ones(count)
            for edges in levels:
                nodes, w = extend(x, edges, panels, order)
                x = np.concatenate(
                    [np.broadcast_to(x[..., None], (*x.shape, nodes.shape[-1])), nodes[None]]
                )
                p = p[..., None] * w
            z, p = x[q:].reshape(others, count, -1), p.reshape(count, -1)
        elif others > 0:
            z = np.broadcast_to(flat[:, None], (others, count, flat_p.size))
            p = np.broadcast_to(flat_p / flat_p.sum(), (count, flat_p.size))
        else:
            z, p = np.zeros((0, count, 1)), np.ones((count, 1))
        yield slice(at, at + count), z, p


def given_k(target: Directions, gamma: Array, a: Array, k: Array, density: float) -> list[Array]:
    """Return h, h1 (L', n) and E_z (s* - h - z.h1)^2 at t = gamma k + a z, k of shape (q, n)."""
    n = k.shape[1]
    h, h1, hv = np.zeros(n), np.zeros((a.shape[1], n)), np.zeros(n)
    for now, z, p in latents(target, gamma, a, k, density):
        t = np.tensordot(gamma, k[:, now], axes=(1, 0))[..., None] + np.tensordot(a, z, (1, 0))
        values = np.asarray(target.value(*[row.ravel() for row in t]), float).reshape(p.shape)
        h[now] = np.sum(p * values, axis=1)
        values = values - h[now, None]
        h1[:, now] = np.sum(p * z * values, axis=2)
        values = values - np.sum(h1[:, now, None] * z, axis=0)
        hv[now] = np.sum(p * values**2, axis=1)
    return [h, h1, hv]
