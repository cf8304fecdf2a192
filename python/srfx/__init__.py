"""Exact asymptotics of two-layer networks after one large gradient step."""

from srfx import plotting as plot
from srfx.analysis import feature_spectrum
from srfx.config import show_config, version
from srfx.models import (
    AccuracyWarning,
    Activation,
    ApproximationWarning,
    OneStep,
    SpikedRF,
    readout_quantiles,
)
from srfx.one_step import EmpiricalBulk
from srfx.optima import optimal, thresholds
from srfx.results import ConvergenceError, Solution, Status
from srfx.scans import scan
from srfx.simulation import simulate
from srfx.theory import Bounds, bounds, learned_function, linear_floor, solve

__version__ = version()

__all__ = [
    "AccuracyWarning",
    "Activation",
    "ApproximationWarning",
    "Bounds",
    "ConvergenceError",
    "EmpiricalBulk",
    "OneStep",
    "Solution",
    "SpikedRF",
    "Status",
    "__version__",
    "bounds",
    "feature_spectrum",
    "learned_function",
    "linear_floor",
    "optimal",
    "plot",
    "readout_quantiles",
    "scan",
    "show_config",
    "simulate",
    "solve",
    "thresholds",
]
