"""The spectrum of the features: the equations at complex lam."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srfx import _core
from srfx import _validation as check
from srfx.models import (
    FloatArray,
    Model,
    MultiStep,
    OneStep,
    SpikedRF,
    check_model,
    compiled,
    label_law,
    probabilities,
    spikes_of,
)
from srfx.results import describe, dimensions
from srfx.theory import covers
from srfx.weights import EmpiricalBulk, check_bulk, check_weights, in_layers, layer_inputs

if TYPE_CHECKING:
    import xarray as xr


@check.public
def feature_spectrum(
    model: Model,
    alpha: ArrayLike,
    x: ArrayLike,
    *,
    bulk: str | EmpiricalBulk = "isotropic",
    n_threads: int | None = None,
) -> xr.Dataset:
    """Compute the limiting spectral density of ``Phi^T Phi/p``, Phi the n x p matrix of features.

    The equations of `solve` at complex ``lam = -x - i0``: ``density = Im V2/pi``, V2 summed over
    groups (THEORY sections 6 and 12). Above the axis their solution in the upper half plane is
    unique, so there is no branch to choose. Each spectrum comes with checks made at run time: its
    total mass, by integration over all of it, should be 1, its first moment ``a' (E u1 + E u2)``.
    After a step whose labels are unbounded the spectrum has a tail without an end: what lies far
    out in it, some 1e-5 of the mass, is found as islands or not at all.

    Parameters
    ----------
    model : SpikedRF, OneStep or MultiStep
        The model. The target matters only as far as it shapes the steps.
    alpha : float or array
        Samples over d, > 0; broadcasts with the numeric fields of the model.
    x : array
        Where to compute the density, > 0 (the mass at zero is reported apart), of one dimension.
        Use log-spaced points where the density reaches far down.
    bulk : {"isotropic", "one_step", "multi_step"} or EmpiricalBulk
        As in `solve`: ``"isotropic"`` treats a OneStep through `OneStep.equivalent`;
        ``"one_step"`` and ``"multi_step"`` have the anisotropic bulk of the actual steps, for a
        single readout value; given weights have their own.
    n_threads : int, optional
        Threads, as in `solve`: one model a thread.

    Returns
    -------
    xarray.Dataset
        ``density`` (NaN where ``status`` is not 0; 0 in gaps), ``density_error``, an estimate, and
        ``status`` over the model's dimensions and ``x``. Over the model's dimensions:
        ``mass_at_zero``; ``mass`` and ``first_moment`` by integration, the former including zero,
        and ``expected_first_moment``; ``edges`` of the bulk, ascending in pairs, and ``outliers``
        beside it, both padded with NaN; ``outlier_over_d``: if the mean feature is not zero one
        eigenvalue of about d times this stands apart, ``alpha E mu0^2`` (of several groups the
        largest of as many as there are independent means).

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or out of range, or the model contradicts given weights.
    NotImplementedError
        Several readout values with a bulk other than ``"isotropic"``; rows of ``spikes`` that span
        more than three directions.

    Notes
    -----
    For ``n < p`` and a saturating or growing activation with a spike the density has a tail towards
    small x, made of rare large projections on the spike: log-spaced x show it. Points where rules
    of growing density in k do not agree (``density_error * x`` above 1e-6) are NaN with status 1,
    and ``mass`` falls short of 1 by what was left out.

    Spikes that span a plane take about a second, three directions minutes.

    Given weights have p numbers for a bulk, and a resolution to match: structure of the density
    finer than their spacing is theirs, not the limit's.

    Examples
    --------
    >>> import numpy as np, srfx
    >>> ds = srfx.feature_spectrum(srfx.SpikedRF(r=0.9), alpha=2, x=np.linspace(0.01, 4, 400))
    >>> print(f"{ds.mass.item():.6f} {ds.edges.values.round(4)}")
    1.000000 [0.0146 3.1638]
    """
    import xarray as xr

    check_model(model, labelled=True, covers=covers(bulk), bulk=bulk)
    alpha_values = check.positive("alpha", alpha)
    points = np.asarray(check.positive("x", x))
    if points.ndim > 1 or points.size == 0:
        raise ValueError(f"x must be a number or a vector of them; got shape {points.shape}")
    points = np.atleast_1d(points)
    check_bulk(model, bulk, 1.0)
    if bulk != "isotropic" and len(model.readout) > 1:
        raise NotImplementedError(
            "feature_spectrum is available for several readout values with bulk='isotropic' only; "
            f"got readout={model.readout}, bulk={bulk!r}"
        )
    threads = check.thread_count(n_threads)
    relevant = dict(model.numeric)
    if isinstance(model, SpikedRF):
        relevant = {k: v for k, v in relevant.items() if k not in ("noise", "slope", "gamma")}
    if isinstance(bulk, EmpiricalBulk):
        check_weights(model, bulk)
        relevant = {"r": bulk.r, "c": bulk.c, "beta": bulk.p / bulk.d}
    arguments = {**relevant, "alpha": alpha_values}
    shape = check.common_shape(arguments)
    count = math.prod(shape)
    check.memory(f"{count} spectra at {points.size} x", 64.0 * count * points.size)
    raw = spectra(model, bulk, alpha_values, shape, points, threads)

    dims, coordinates = dimensions(arguments, shape)

    def rows(name: str) -> NDArray[Any]:
        return np.stack([item[name] for item in raw]).reshape(*shape, points.size)

    def numbers(name: str) -> FloatArray:
        return np.array([item[name] for item in raw], dtype=np.float64).reshape(shape)

    def padded(name: str) -> FloatArray:
        width = max((item[name].size for item in raw), default=0)
        out = np.full((len(raw), width), np.nan)
        for row, item in zip(out, raw, strict=True):
            row[: item[name].size] = item[name]
        return out.reshape(*shape, width)

    variables = {
        "density": ([*dims, "x"], rows("density"), {"long_name": "spectral density"}),
        "density_error": ([*dims, "x"], rows("error"), {"long_name": "estimated error"}),
        "status": ([*dims, "x"], rows("status"), {"long_name": "0 converged, 1 max_iterations"}),
        "mass_at_zero": (dims, numbers("zero_mass"), {"long_name": "mass at zero"}),
        "mass": (dims, numbers("mass"), {"long_name": "total mass, by integration"}),
        "first_moment": (dims, numbers("first_moment"), {"long_name": "by integration"}),
        "expected_first_moment": (dims, numbers("expected_moment"), {"long_name": "exact"}),
        "outlier_over_d": (dims, numbers("outlier_rate"), {"long_name": "alpha E mu0^2"}),
        "edges": ([*dims, "edge"], padded("edges"), {"long_name": "edges of the bulk"}),
        "outliers": ([*dims, "outlier"], padded("outliers"), {"long_name": "outlying eigenvalues"}),
    }
    coords = {**coordinates, "x": ("x", points)}
    return xr.Dataset(variables, coords=coords, attrs=describe(model, bulk))


def spectra(
    model: Model,
    bulk: str | EmpiricalBulk,
    alpha: float | FloatArray,
    shape: tuple[int, ...],
    x: FloatArray,
    threads: int,
) -> list[Any]:
    """One spectrum of the core a model, in C order."""

    def full(value: float | FloatArray) -> FloatArray:
        array = np.asarray(value, dtype=np.float64)
        return np.ascontiguousarray(np.broadcast_to(array, shape)).ravel()

    sigma = compiled(model.activation)
    if isinstance(bulk, EmpiricalBulk):
        return _core.spectrum_empirical(
            sigma,
            bulk.r,
            bulk.c,
            bulk.eigenvalues,
            bulk.vectors,
            bulk.p / bulk.d,
            full(alpha),
            x,
            threads,
        )
    if bulk != "isotropic" and in_layers(model):
        assert isinstance(model, (OneStep, MultiStep))
        return _core.spectrum_layers(
            **layer_inputs(model, full),
            labels=model.labels,
            alpha=full(alpha),
            x=x,
            n_threads=threads,
        )
    if bulk == "one_step":
        assert isinstance(model, OneStep)
        with np.errstate(divide="ignore"):
            inverse_alpha0 = 1 / np.asarray(model.alpha0)
        return _core.spectrum_one_step(
            sigma,
            compiled(model.target),
            model.readout[0],
            full(model.eta),
            full(inverse_alpha0),
            full(label_law(model.labels, model.numeric)),
            model.labels,
            full(alpha),
            full(model.beta),
            x,
            threads,
        )
    rows, c, _ = spikes_of(model)
    k, q = rows.shape[-2:]
    if k == 1:
        r = np.linalg.norm(rows[..., 0, :], axis=-1) if q > 1 else rows[..., 0, 0]
        return _core.spectrum(
            sigma, full(r), full(c[..., 0]), full(alpha), full(model.beta), x, threads
        )
    return _core.spectrum_groups(
        sigma,
        np.ascontiguousarray(np.broadcast_to(rows, (*shape, k, q))).reshape(-1, k, q),
        np.ascontiguousarray(np.broadcast_to(c, (*shape, k))).reshape(-1, k),
        np.asarray(probabilities(model)),
        full(alpha),
        full(model.beta),
        x,
        threads,
    )
