"""Exact asymptotics of two-layer networks after one large gradient step."""

import typing as _typing

from srfx import plotting as plot
from srfx.config import show_config, version
from srfx.losses import Huber, Quantile
from srfx.models import (
    AccuracyWarning,
    Activation,
    ApproximationWarning,
    MultiStep,
    OneStep,
    SpikedRF,
    readout_quantiles,
)
from srfx.optima import optimal, thresholds
from srfx.results import ConvergenceError, Solution, Status
from srfx.scans import merge, scan
from srfx.simulation import simulate
from srfx.spectrum import feature_spectrum
from srfx.targets import Target
from srfx.theory import Bounds, bounds, learned_function, linear_floor, solve
from srfx.weights import EmpiricalBulk

if _typing.TYPE_CHECKING:
    from srfx import figures as figures
    from srfx import jax as jax
    from srfx import reference as reference
    from srfx import torch as torch
else:

    def __getattr__(name):
        """Load ``srfx.figures``, ``.reference``, ``.jax`` and ``.torch`` when first used."""
        if name in ("figures", "reference", "jax", "torch"):
            import importlib

            return importlib.import_module(f"srfx.{name}")
        raise AttributeError(f"module 'srfx' has no attribute {name!r}")


__version__ = version()

__all__ = [
    "AccuracyWarning",
    "Activation",
    "ApproximationWarning",
    "Bounds",
    "ConvergenceError",
    "EmpiricalBulk",
    "Huber",
    "MultiStep",
    "OneStep",
    "Quantile",
    "Solution",
    "SpikedRF",
    "Status",
    "Target",
    "__version__",
    "bounds",
    "feature_spectrum",
    "learned_function",
    "linear_floor",
    "merge",
    "optimal",
    "plot",
    "readout_quantiles",
    "scan",
    "show_config",
    "simulate",
    "solve",
    "thresholds",
]
