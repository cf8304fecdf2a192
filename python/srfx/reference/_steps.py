"""Several gradient steps (THEORY section 15): the isotropic map, and the recursion of the bulk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srfx._validation import public
from srfx.reference._one_step import OneGroup, inverse_2x2, one_group_response
from srfx.reference._spiked import Z_MAX, Z_ORDER, Function, conditional, gauss_hermite, gauss_nodes
from srfx.reference._spikes import Spikes, root_of, solve_table, table_of_spikes, turned
from srfx.reference._system import (
    Response,
    SystemSolution,
    as_function,
    groups_of,
    newton,
    solve_system,
)
from srfx.reference._targets import Directions, directions_of, hermite, nested

Array = NDArray[Any]
IMAGINARY = 1e-6  # b at which scalar products and Sigma are read off the overlaps, over i
EYE = np.eye(2)


def _steps_of(model: Any) -> list[tuple[float, float]]:
    """Return eta and 1/alpha0 of the steps that are made."""
    pairs = zip(np.atleast_1d(model.eta), np.atleast_1d(model.alpha0), strict=True)
    return [(float(e), 1.0 / float(a)) for e, a in pairs if a > 0.0 and e != 0.0]


def _slope_of(sigma: Function) -> Function:
    if sigma.derivative is None:
        raise ValueError("the activation needs a derivative: pass Function(value, kinks, slope)")
    return Function(sigma.derivative, sigma.kinks)


@public
def multi_step_map(model: Any, *, density: int = 1, labels: Directions | None = None) -> Spikes:
    """Return the spikes that the steps make (THEORY section 15, Isotropic map).

    Parameters
    ----------
    model : srfx.MultiStep or anything with its attributes
        activation, target, eta, alpha0, noise, readout, weights; numbers only.
    density : int
        Multiplies the panels and nodes of every rule.
    labels : Directions, optional
        E[y | t] of labels of +1 and -1, which the steps see in place of the target and its noise.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> steps = dict(eta=(1.0, 1.0), alpha0=(1.0, 1.0), noise=0.0, readout=(1.0,), weights=None)
    >>> target = Directions(lambda a, b: np.sin(a) + np.tanh(b), 2, np.zeros((0, 3)))
    >>> found = multi_step_map(SimpleNamespace(activation="tanh", target=target, **steps))
    >>> print(f"{abs(found.R[0, 0]):.8f} {found.c[0]:.8f}")
    0.97280288 1.06537079
    """
    sigma, star = as_function(model.activation), labels or directions_of(model.target)
    slope = _slope_of(sigma)
    a, pi = groups_of(model)
    count = star.directions
    now = Spikes(np.zeros((a.size, 1)), np.ones(a.size), pi, np.zeros((count, 1)), np.eye(count))
    for eta, over in _steps_of(model):
        t = table_of_spikes(sigma, star, now, density)
        rows = [
            conditional(slope, strength @ t.k, math.sqrt(c), density)
            for strength, c in zip(now.R, now.c, strict=True)
        ]
        s1, s2, rest = (np.stack([row[i] for row in rows]) for i in range(3))
        f = (pi * a) @ t.mu0
        eu = t.h - f
        spread = float(model.noise) + t.hv + np.sum(t.h1**2, axis=0)
        if labels:  # y^2 = 1
            spread = 1.0 - t.h**2
        uu = spread + eu**2
        drift = np.hstack([(s1 * (t.p * eu)) @ t.k.T, (s1 * t.p) @ t.h1.T])
        values, vectors = np.linalg.eigh((s1 * (t.p * uu)) @ s1.T * over)
        keep = values > 1e-13 * max(float(values[-1]), 0.0)
        root = vectors[:, keep] * np.sqrt(values[keep])
        rates = eta * a[:, None]
        before = np.hstack([now.R, np.zeros((a.size, t.h1.shape[0]))])
        S = np.hstack([before + rates * drift, rates * root])
        theta = np.hstack([now.gamma, now.a, np.zeros((count, root.shape[1]))])
        e2 = (s2 * (t.p * eu)).sum(axis=1)
        spread = ((s2**2 + rest) * (t.p * uu)).sum(axis=1)
        c = (np.sqrt(now.c) + eta * a * e2) ** 2 + (eta * a) ** 2 * spread * over
        _, size, row_space = np.linalg.svd(S, full_matrices=False)
        v = row_space[: max(1, int(np.sum(size > 1e-10 * size[0])))].T
        now = turned(S @ v, c, pi, theta @ v)
    return now


# ------------------------------------------------------------------------ the recursion of the bulk


@dataclass(frozen=True)
class Moments:
    """Averages over z of sigma' = s1 + s2 z + S at r k + sqrt(c) z, functions of k."""

    s1: Array
    s2: Array
    v3: Array  # E S^2
    k3: Array
    k4: Array
    b3: Array
    b4: Array
    b12: Array
    b22: Array
    q2: Array
    b13: Array


def moments(slope: Function, mean: Array, sd: float, density: int) -> Moments:
    """Return the averages at every mean."""
    count = math.ceil(2 * Z_MAX * density * max(1.0, sd))
    grid = np.broadcast_to(np.linspace(-Z_MAX, Z_MAX, count + 1), (mean.size, count + 1))
    own = np.clip((np.asarray(slope.kinks, float) - mean[:, None]) / sd, -Z_MAX, Z_MAX)
    z, w = gauss_nodes(np.sort(np.concatenate([grid, own], axis=1), axis=1), Z_ORDER)
    w /= w.sum(axis=1, keepdims=True)
    value = np.asarray(slope.value(mean[:, None] + sd * z), float)
    s1 = np.sum(w * value, axis=1)
    value = value - s1[:, None]
    s2 = np.sum(w * z * value, axis=1)
    S = value - s2[:, None] * z

    def of(i: int, j: int) -> Array:
        return np.asarray(np.sum(w * z**i * S**j, axis=1))

    v3, q2 = of(0, 2), of(2, 2)
    return Moments(
        s1, s2, v3, of(0, 3), of(0, 4), of(2, 1), of(3, 1), of(1, 2), q2 - v3, q2, of(1, 3)
    )


@dataclass(frozen=True)
class Layer:
    """Weights after some steps, as the next step sees them.

    Spike r, bulk variance c; theta_l in the frame (vhat, zhat) as rows (before any step the frame
    is theta itself); C_delta, L.e_i and the Sigma_ij of the frame.
    """

    r: float
    c: float
    theta: Array
    c_delta: float
    l_e: Array
    sigma_ee: Array


class Step:
    """One step: what it averages, and the frame of the layer it makes."""

    def __init__(
        self,
        sigma: Function,
        star: Directions,
        noise: float,
        a: float,
        rate: tuple[float, float],
        before: Layer,
        first: bool,
        density: int,
        labels: bool = False,
    ) -> None:
        eta, self.over = a * rate[0], rate[1]
        self.before, over = before, self.over
        x, p = _latents(star, before, density)
        k = x[0] if not first else np.zeros(p.size)
        unique, place = np.unique(k, return_inverse=True)
        sd, c = math.sqrt(before.c), before.c
        found = moments(_slope_of(sigma), before.r * unique, sd, density)
        mu0 = conditional(sigma, before.r * unique, sd, density)[0]
        y = np.asarray(star.value(*(before.theta @ x)), float)
        if labels:  # y is their mean: two points, of +1 and of -1
            p = np.concatenate([0.5 * p * (1.0 + y), 0.5 * p * (1.0 - y)])
            y = np.repeat([1.0, -1.0], y.size)
            x, place = np.tile(x, 2), np.tile(place, 2)
        u = y - a * mu0[place]
        if noise > 0.0 and not labels:
            eps, w = gauss_hermite(round(40 * density))
            u = (u[:, None] + math.sqrt(noise) * eps).ravel()
            p = (p[:, None] * w).ravel()
            x, place = np.repeat(x, eps.size, axis=1), np.repeat(place, eps.size)
        o = Moments(**{name: value[place] for name, value in vars(found).items()})
        self.x, self.p = x, p
        self.e, self.m = eta * u * o.s2 / sd, eta**2 * over * u**2 * o.v3
        e = self.e

        def mean(f: Array) -> float:
            return float(p @ f)

        base = 1.0 + mean(e)
        k2, k3, k4 = (mean(e**n) * over ** (n - 1) for n in (2, 3, 4))
        chi = base + e * over
        psi = chi**2 - base**2
        rho = base**2 + k2 + eta / sd * mean(u * chi * o.b4)
        rho += eta**2 / (2.0 * c) * over * mean(u**2 * o.b22)
        self.f = {
            "us1": u * o.s1,
            "la": eta * c * o.b3 * u * psi
            + 2.0 * eta**2 * sd * over * o.b12 * u**2 * chi
            + eta**3 * over**2 * o.k3 * u**3,
            "gc": eta * u * o.b3 / (2.0 * c),
            "lb": 2.0 * eta * sd * o.b3 * u * chi + eta**2 * over * o.b12 * u**2,
        }
        lb = self.f["lb"]
        l_e = x @ (p * lb)
        self.lb_e = l_e
        self.lb_sigma = c * over * mean(lb**2) + float(l_e @ before.sigma_ee @ l_e)
        product, spread = float(l_e @ before.l_e), mean(u**2 * o.v3)
        self.c_delta = (
            2.0 * c**2 * (k4 + 4.0 * base * k3 + k2**2 + 4.0 * base**2 * k2)
            + 4.0 * eta * c**1.5 * mean(o.b4 * u * chi * psi)
            + 2.0 * eta**2 * c * over * mean(o.b22 * u**2 * psi)
            + 4.0 * eta**2 * c * over * (mean(o.q2 * u**2 * chi**2) + k2 * spread)
            + 4.0 * eta**3 * sd * over**2 * mean(o.b13 * u**3 * chi)
            + eta**4 * over**3 * mean(u**4 * (o.k4 - o.v3**2))
            + 2.0 * eta**4 * over**2 * spread**2
            + float(l_e @ before.sigma_ee @ l_e) / c
            + rho**2 * before.c_delta
            + 2.0 * rho * product / sd
        )
        # coefficients on (e_1.., v_us1, v_la, v_gc, V, U)
        size = len(x)
        spike = np.zeros(size + 5)
        spike[0] = 0.0 if first else before.r
        drift = spike[:size] + eta * (x @ (p * self.f["us1"]))
        spike[size] = eta
        self.r = math.sqrt(float(drift @ drift) + eta**2 * over * mean(self.f["us1"] ** 2))
        self.gamma = before.theta @ drift / self.r
        self.c = (sd + eta * mean(u * o.s2)) ** 2
        self.c += eta**2 * over * mean(u**2 * (o.s2**2 + o.v3))
        back = np.linalg.pinv(root_of(self.gamma[:, None]))
        theta = np.hstack([before.theta, np.zeros((len(before.theta), 5))])
        vhat = spike / self.r
        rows = np.zeros(size + 5)
        rows[size + 1 :] = 1.0, rho * before.c_delta + product / sd, 1.0, rho
        self.frame = np.vstack([vhat, back @ (theta - np.outer(self.gamma, vhat)), rows])

    def blocks(self, b: Any, x: Array) -> tuple[Array, Array, Array, Array]:
        """Return Gm, B, Q and X = E[Q B]."""
        gm = np.array([[x[0], -x[1]], [x[1], x[2]]])
        root = np.sqrt(b)
        big_b = np.zeros((self.p.size, 2, 2), np.result_type(b, x, float))
        big_b[:, 0, 0] = b * self.m
        big_b[:, 0, 1] = root * self.e
        big_b[:, 1, 0] = -root * self.e
        q = inverse_2x2(EYE + big_b @ gm * self.over)
        return gm, big_b, q, np.tensordot(self.p, q @ big_b, axes=(0, 0))

    @staticmethod
    def couplings(b: Any, X: Array) -> tuple[Any, Any, Any, Any]:
        """Return p, m12, m21 and y."""
        root = np.sqrt(b)
        p, m12, m21 = 1.0 + X[0, 0], root + X[0, 1], -root + X[1, 0]
        return p, m12, m21, X[1, 1] - m12 * m21 / p

    def overlaps(self, b: Any, state: Array, inner: Array) -> Array:
        """Return R of the new frame and L at b, from R_y of the one before (its L last)."""
        gm, big_b, q, X = self.blocks(b, state)
        p, m12, m21, y = self.couplings(b, X)
        size, over, c = len(self.x), self.over, self.before.c
        root, weights = np.sqrt(b), self.p
        qt = inverse_2x2(EYE + gm @ big_b * over)
        r_ee, r_el, r_ll = inner[:size, :size], inner[:size, size], inner[size, size]
        eye = np.eye(size)
        N = (eye - r_ee) / y
        F = np.zeros((2 * size + 1, 2 * size + 1), np.result_type(b, X, inner))
        one, two = slice(0, size), slice(size, 2 * size)
        F[one, one], F[one, two] = (eye + m12 * m21 * N / p) / p, -m12 * N / p
        F[two, one], F[two, two] = -m21 * N / p, N
        F[one, -1], F[two, -1] = -m12 * r_el / p, r_el
        F[-1, one], F[-1, two] = -m21 * r_el / p, r_el
        F[-1, -1] = -y * r_ll
        both = np.einsum("n,nab,in,jn->aibj", weights, q @ big_b, self.x, self.x, optimize=True)
        delta = both.reshape(2 * size, 2 * size) - np.kron(X, eye)
        e = slice(0, 2 * size)
        middle = delta @ np.linalg.inv(np.eye(2 * size) + F[e, e] @ delta)
        pi = F - F[:, e] @ middle @ F[e, :]

        right = {
            name: np.einsum("n,nab,in->aib", weights * f, q, self.x, optimize=True)
            .reshape(2 * size, 2)
            for name, f in self.f.items()
        }  # fmt: skip
        left = {
            name: np.einsum("n,nab,in->abi", weights * f, qt, self.x, optimize=True)
            .reshape(2, 2 * size)
            for name, f in self.f.items()
        }  # fmt: skip

        def pair(f: str, h: str) -> Array:
            own = np.tensordot(weights * self.f[f] * self.f[h], q, axes=(0, 0))
            return np.asarray(gm @ own * over + left[f] @ pi[e, e] @ right[h])

        names = ("us1", "la", "gc")
        R = np.zeros((size + 5, size + 5), F.dtype)
        R[:size, :size] = pi[one, one]
        for i, f in enumerate(names, size):
            R[:size, i] = (pi[e, e] @ right[f])[:size, 0]
            for j, h in enumerate(names, size):
                R[i, j] = pair(f, h)[0, 0]
            R[i, -2] = -pair(f, "lb")[0, 1] / np.sqrt(b * c)
            R[i, -1] = -(left[f] @ pi[e, -1])[0] / root
        R[:size, -2] = -(pi[e, e] @ right["lb"])[:size, 1] / np.sqrt(b * c)
        R[:size, -1] = -pi[one, -1] / root
        R[-2, -2] = (self.lb_sigma - pair("lb", "lb")[1, 1]) / (b * c)
        product = float(self.lb_e @ self.before.l_e)
        R[-2, -1] = (product - (left["lb"] @ pi[e, -1])[1]) / (b * math.sqrt(c))
        R[-1, -1] = -pi[-1, -1] / b
        R = np.triu(R) + np.triu(R, 1).T
        W = R[:, [-1, size + 2]]  # U, v_gc
        J = np.array([[-self.before.c_delta, 1.0], [1.0, 0.0]])
        R = R - b * W @ np.linalg.inv(J + b * W[[-1, size + 2]]) @ W.T
        return np.asarray(self.frame @ R @ self.frame.T)


def _latents(star: Directions, layer: Layer, density: int) -> tuple[Array, Array]:
    """Return a rule for the components of an input on a frame."""
    planes = np.hstack([star.planes[:, :-1] @ layer.theta, star.planes[:, -1:]])
    size = layer.theta.shape[1]
    if len(planes) == 0 and size == 3:
        return hermite(round(40 * density), 3)
    return nested(planes, size, round({1: 24, 2: 10, 3: 4}[size] * density), 12)


class LayersBulk(OneGroup):
    """The bulk after several steps, one readout value: unknowns g and (tau, om, rho) of each."""

    def __init__(self, steps: list[Step], beta: float, d: float | None) -> None:
        super().__init__()
        self.steps, self.beta, self.d = steps[::-1], beta, d  # the last step first
        self.variance = steps[-1].c
        self.size = 3 * len(steps)

    def chain(self, b: Any, x: Array) -> tuple[Array, list[Any]]:
        """Return what the states of all steps should be, and the b of each."""
        places, found = [b], []
        for i, step in enumerate(self.steps):
            X = step.blocks(places[-1], x[3 * i : 3 * i + 3])[3]
            found.append(step.couplings(places[-1], X))
            places.append(found[-1][3])
        out = np.zeros(self.size, np.result_type(b, x))
        for i, (p, m12, m21, y) in enumerate(found):
            last = i + 1 == len(found)
            tau = 1.0 / (1.0 + y) if last else x[3 * i + 3]
            nu = (1.0 - tau) / y
            out[3 * i : 3 * i + 3] = (1.0 + m12 * m21 * nu / p) / p, -m21 * nu / p, nu
        return out, places

    def inner(self, g: float, start: Array | None) -> Array:
        b = self.beta * g

        def defect(x: Array) -> Array:
            return np.asarray(self.chain(b, x)[0] - x)

        if start is not None:
            x, done = newton(defect, start, positive=1)
            if done:
                return x
        x = np.tile(np.array([1.0, math.sqrt(b), 1.0]) / (1.0 + b), len(self.steps))
        for steps in (3, 10, 100, 1000):
            for _ in range(steps):
                x = self.chain(b, x)[0]
            found, done = newton(defect, x, positive=1)
            if done:
                return found
        raise ValueError(f"the layers of section 15 did not converge at g = {g}")

    def defect(self, x: Array, s: Any) -> Array:
        out = np.empty(self.size + 1, np.result_type(x, s))
        out[0] = s * x[0] - 1.0 + (1.0 - x[1]) / self.beta
        out[1:] = self.chain(self.beta * x[0], x[1:])[0] - x[1:]
        return out

    def overlaps(self, b: Any, x: Array) -> Array:
        """Return R of the last frame and its L at b, from the first step on."""
        places = self.chain(b, x)[1]
        y = places[-1]
        count = len(self.steps[-1].x)
        R = np.zeros((count + 1, count + 1), np.result_type(b, x))
        R[:count, :count] = np.eye(count) / (1.0 + y)
        for i in reversed(range(len(self.steps))):
            R = self.steps[i].overlaps(places[i], x[3 * i : 3 * i + 3], R)
        return R

    def response(self, vh1: Array, a: Array) -> Response:
        _, big_b, x = self.at(vh1, a)
        g = x[0]
        R = self.overlaps(self.beta * g, x[1:])
        matrix = one_group_response(
            self.beta, g, R[0, 0], R[0, 1:-1], R[1:-1, 1:-1], R[-1, 0], R[-1, 1:-1], R[-1, -1],
            self.steps[0].c_delta,
        )  # fmt: skip
        mean = None if self.d is None else np.array([[self.beta * self.d * g / big_b]])
        return Response(*self.averages(vh1, a), matrix / big_b, mean)


def _layer_after(steps: list[Step]) -> Layer:
    """Return the layer that steps lead to: products and Sigma from the overlaps at b = i h."""
    step = steps[-1]
    bulk = LayersBulk(steps, 1.0, None)
    b = 1j * IMAGINARY
    x = np.tile(np.array([1.0, np.sqrt(b), 1.0]) / (1.0 + b), len(steps))
    for _ in range(50):
        new = bulk.chain(b, x)[0]
        moved = float(np.max(np.abs(new - x)))
        x = new
        if moved < 1e-15:
            break
    else:
        raise ValueError("the layers of section 15 did not converge at a small b")
    R = bulk.overlaps(b, x)
    theta = np.hstack([step.gamma[:, None], root_of(step.gamma[:, None])])
    sigma_ee = -R[:-1, :-1].imag / IMAGINARY
    return Layer(step.r, step.c, theta, step.c_delta, R[:-1, -1].real, sigma_ee)


@public
def multi_step_layers(
    model: Any, *, density: int = 1, labels: Directions | None = None
) -> tuple[list[Step], list[Layer]]:
    """Return the steps of a model and the layers before, between and after them (section 15).

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> steps = dict(eta=(3.0, 3.0), alpha0=(0.5, 0.5), noise=0.0, readout=(1.0,), weights=None)
    >>> model = SimpleNamespace(activation="tanh", target="sin", **steps)
    >>> last = multi_step_layers(model)[1][-1]
    >>> print(f"{last.r:.6f} {last.c:.6f} {last.c_delta:.4f}")
    2.159714 2.941448 38.1247
    """
    sigma, star = as_function(model.activation), labels or directions_of(model.target)
    a, _ = groups_of(model)
    if a.size != 1:
        raise ValueError(f"the recursion of section 15 is for one readout value; got {a.tolist()}")
    count = star.directions
    layers = [Layer(0.0, 1.0, np.eye(count), 0.0, np.zeros(count), np.eye(count))]
    steps: list[Step] = []
    for rate in _steps_of(model):
        steps.append(
            Step(
                sigma, star, float(model.noise), float(a[0]), rate, layers[-1], not steps, density,
                labels is not None,
            )
        )  # fmt: skip
        layers.append(_layer_after(steps))
    return steps, layers


@public
def solve_multi_step(
    model: Any,
    alpha: float,
    lam: float,
    d: float | None = None,
    *,
    bulk: str = "isotropic",
    density: int = 1,
) -> SystemSolution:
    """Solve the network after several gradient steps at one point (THEORY section 15).

    Parameters
    ----------
    model : srfx.MultiStep or anything with its attributes
        activation, target, eta and alpha0 (one for each step), beta, noise, readout, weights.
    alpha, lam : float
        Sample complexity of the ridge regression and its penalty, both > 0.
    d : float or None
        Input dimension: adds the term of the mean (not damped). None is the limit.
    bulk : {"isotropic", "multi_step"}
        Through section 13 with the spikes of `multi_step_map`, or by the recursion over the layers,
        for one readout value.
    density : int
        Multiplies the panels and nodes of every rule.

    Returns
    -------
    SystemSolution
        In the convention of a unit bulk.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> steps = dict(eta=(3.0, 3.0), alpha0=(0.5, 0.5), beta=1.0, noise=0.0, readout=(1.0,),
    ...     weights=None)
    >>> model = SimpleNamespace(activation="tanh", target="sin", **steps)
    >>> print(f"{solve_multi_step(model, 2.0, 0.1, bulk='multi_step').test_error:.6f}")
    0.239776
    """
    sigma, star = as_function(model.activation), directions_of(model.target)
    if bulk not in ("isotropic", "multi_step"):
        raise ValueError(f"bulk must be 'isotropic' or 'multi_step'; got {bulk!r}")
    if bulk == "isotropic" or not _steps_of(model):
        spikes = multi_step_map(model, density=density)
        t = table_of_spikes(sigma, star, spikes, density)
        return solve_table(t, spikes, model, alpha, lam, d)
    bulk_of, spikes = network_of_steps(model, d, density)
    t = table_of_spikes(sigma, star, spikes, density, own_bulk=True)
    c = spikes.c
    return solve_system(
        t, bulk_of, (c[None] / lam, np.array([1.0 / lam])), alpha=float(alpha),
        beta=float(model.beta), lam=float(lam), noise=float(model.noise), unit=np.sqrt(c),
    )  # fmt: skip


def network_of_steps(
    model: Any, d: float | None, density: int, labels: Directions | None = None
) -> tuple[LayersBulk, Spikes]:
    """Return the bulk of section 15, of one readout value, and its spike."""
    steps, layers = multi_step_layers(model, density=density, labels=labels)
    last = layers[-1]
    gamma = last.theta[:, :1]
    spikes = Spikes(np.array([[last.r]]), np.array([last.c]), np.ones(1), gamma, last.theta[:, 1:])
    return LayersBulk(steps, float(model.beta), d), spikes
