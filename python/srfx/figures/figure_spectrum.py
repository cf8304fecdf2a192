"""The spectrum of the features before and after the step."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import xarray as xr

from srfx import _core
from srfx import _validation as check
from srfx._style import PAGE, ordered_colours
from srfx.figures import catalogue, layout
from srfx.figures.jobs import Run
from srfx.models import FloatArray, OneStep, compiled, quiet
from srfx.simulation import sample_weights
from srfx.spectrum import feature_spectrum


def _eigenvalues(
    model: OneStep, alpha: float, d: int, seed: int, replicate: int, n_threads: int | None
) -> FloatArray:
    """Spectrum of Phi^T Phi/p of a simulated network, on Gaussian inputs of its own."""
    weights, _, _ = sample_weights(model, d=d, seed=seed, replicate=replicate, n_threads=n_threads)
    x = np.random.default_rng([seed, replicate]).standard_normal((round(alpha * d), d))
    preactivations = x @ weights.T
    features = _core.evaluate(compiled(model.activation), preactivations.ravel())
    features = features.reshape(preactivations.shape)
    return np.asarray(np.linalg.eigvalsh(features.T @ features / len(weights)))


def _draw(ds: xr.Dataset) -> layout.Figure:
    figure = layout.new_figure(PAGE, 2.2)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    ratio = float(ds.bin[1] / ds.bin[0])
    theory, simulated = ordered_colours(2)
    bars: dict[str, Any] = {"color": simulated, "alpha": 0.45}
    dashes: dict[str, Any] = {"color": theory, "ls": "--", "lw": 1.1}
    triangles: dict[str, Any] = {
        "color": simulated, "ls": "", "marker": "v", "mec": "white", "mew": 0.4, "ms": 5,
    }  # fmt: skip
    farthest = np.nanmax([ds.x.max() / 2, ds.eigenvalues.max(), ds.outlier.max()])
    for i, ax in enumerate(axes):
        heights = ds.simulated[i].mean("replicate").values
        starts = ds.bin.values / np.sqrt(ratio)
        ax.bar(starts, heights, starts * (ratio - 1), align="edge", lw=0, **bars)
        ax.plot(ds.x, ds.theory[i], color=theory)
        ax.set_title(str(ds.step.values[i]))
        _draw_outlier(ax, ds.isel(step=i), dashes, triangles)
        ax.set_xlabel(r"eigenvalue of $\Phi^T\Phi/p$")
        ax.set_xscale("log")
        ax.set_xlim(float(ds.x[0]), 2 * float(farthest))
    axes[0].set_ylabel("density of its logarithm")
    axes[0].set_ylim(bottom=0)
    figure.suptitle(
        f"{layout.subject(ds, 'network')}, {layout.stated(ds, 'eta', 'alpha0', 'alpha', 'beta')}",
        fontsize=7.5,
    )
    text = f"simulated networks, $d = {ds.attrs['d']}$: histogram of {ds.sizes['replicate']}"
    keys: list[layout.Key] = [
        ("theory, isotropic bulk, $d = \\infty$", {"color": theory}),
        (text, {**bars, "lw": 5}),
    ]
    if np.isfinite(ds.outlier).any():
        keys += [
            ("outlying eigenvalue, theory: of order $d$", dashes),
            ("outlying eigenvalue, simulated", triangles),
        ]
    layout.legend_below(figure, axes[0], keys)
    return figure


def _draw_outlier(
    ax: layout.Axes, ds: xr.Dataset, dashes: dict[str, Any], triangles: dict[str, Any]
) -> None:
    """Mark the eigenvalues beyond the bulk, of the theory and simulated, and say them."""
    beyond = ds.eigenvalues.values[ds.eigenvalues.values > float(ds.x[-1])]
    top = ax.get_xaxis_transform()
    found = {}
    if np.isfinite(ds.outlier):
        found["theory"] = float(ds.outlier)
        ax.axvline(found["theory"], 0, 0.3, **dashes)
    if beyond.size:
        found["simulated"] = beyond.mean()
        ax.plot(beyond, np.full(beyond.size, 0.04), transform=top, **triangles)
    if found:
        text = "\n".join(["outlier:", *(f"{name} {x:.0f}" for name, x in found.items())])
        x = next(iter(found.values()))
        ax.annotate(text, (x, 0.34), xycoords=top, fontsize=7, ha="center")


@catalogue.figure(
    "spectral density of the features before and after the step",
    _draw,
    quick={"d": 600, "replicates": 4},
    least={"replicates": 1, "bins": 2},  # a histogram has no error bars
    meanings={
        "theory": "density of log x by the theory, isotropic bulk, d = inf",
        "simulated": "density of log x in bins, of each simulated network",
        "mass_at_zero": "share of eigenvalues that are zero, by the theory",
        "outlier": "eigenvalue of order d beyond the bulk, by the theory; NaN where there is none",
        "eigenvalues": "eigenvalues of Phi^T Phi/p of each simulated network",
        "step": "before or after the gradient step",
        "x": "eigenvalue of Phi^T Phi/p",
        "index": "position among the ascending eigenvalues",
    },
    bars="none: mean over replicate",
    keeps=False,
)
def spectrum(
    run: Run,
    *,
    activation: Any = "tanh",
    target: Any = "tanh",
    eta: float = 3.0,
    alpha0: float = 20.0,
    beta: float = 1.0,
    alpha: float = 2.0,
    noise: float = 0.0,
    d: int = 1500,
    replicates: int = 2,
    bins: int = 60,
    seed: int = 8,
) -> xr.Dataset:
    """Spectral density of the features before and after the step, with histograms.

    Lines: `srfx.feature_spectrum`. Bars: eigenvalues of ``Phi^T Phi/p`` of simulated networks. The
    eigenvalue that the spike sends to order d stands apart: a dashed mark where the theory has it
    (``outlier_over_d`` times d), triangles for the simulated networks, and both in figures.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.spectrum(d=100, bins=20, progress=False)
    """
    before = OneStep(activation, target, eta=eta, alpha0=0.0, beta=beta, noise=noise)
    after = dataclasses.replace(before, alpha0=alpha0)
    n, p = round(alpha * d), round(beta * d)
    check.memory(  # inputs, preactivations, features, weights, their matrix and its copies
        f"d = {d}, p = {p}, n = {n}", 8.0 * (n * d + 3 * n * p + 2 * p * d + 3 * p * p)
    )
    steps = {"before the step": before, "after the step": after}
    with run.bar(len(steps) * replicates) as bar:
        values = []
        for model in steps.values():
            for replicate in range(replicates):
                values.append(_eigenvalues(model, alpha, d, seed, replicate, run.n_threads))
                bar.update()
    eigenvalues = np.array(values).reshape(len(steps), replicates, -1)

    def densities(x: FloatArray) -> list[xr.Dataset]:
        with quiet():  # of what is less than the width of a line
            return [
                feature_spectrum(model, alpha, x, n_threads=run.n_threads)
                for model in steps.values()
            ]

    # on a logarithmic scale: the density of log x, which is x times that of x
    edges = np.concatenate([ds.edges.values.ravel() for ds in densities(np.ones(1))])
    edges = edges[np.isfinite(edges) & (edges > 0)]
    low, high = edges.min() / 2, edges.max() * 2
    x = np.geomspace(low, high, 601)
    theory = densities(x)
    outlier = d * np.array([float(ds.outlier_over_d.item()) for ds in theory])
    limits = np.geomspace(low, high, bins + 1)
    width = np.log(limits[1] / limits[0])
    counts = [
        [np.histogram(own, limits)[0] / (own.size * width) for own in each] for each in eigenvalues
    ]
    dims = ("step", "replicate")
    return xr.Dataset(
        {
            "theory": (("step", "x"), np.array([ds.density.values.ravel() * x for ds in theory])),
            "mass_at_zero": ("step", [float(ds.mass_at_zero.item()) for ds in theory]),
            "outlier": ("step", np.where(outlier > high, outlier, np.nan)),
            "simulated": ((*dims, "bin"), np.array(counts)),
            "eigenvalues": ((*dims, "index"), eigenvalues),
        },
        coords={
            "step": list(steps),
            "x": x,
            "bin": np.sqrt(limits[1:] * limits[:-1]),
        },
        attrs={"d": d, "eta": eta, "alpha0": alpha0, "alpha": alpha, "beta": beta},
    )
