"""The theory in plain NumPy and SciPy, slow and obvious: the oracle of tests and benchmarks.

Shares nothing with the compiled core: neither code, nor quadrature, nor the order of operations.

- `solve`, `solve_notebook`, `bounds`, `learned_function`: one spiked model (THEORY 1 to 6)
- `solve_groups`, `lower_bound_groups`, `learned_function_groups`: readouts of several values (7)
- `solve_one_step`, `one_step_map`: the actual one-step network (9, 10, 14)
- `solve_instance`: given weights (9 f)
- `solve_spikes`, `bounds_spikes`, `learned_function_spikes`: several spikes and directions (13)
- `solve_multi_step`, `multi_step_map`, `multi_step_layers`: several gradient steps (15)
- `solve_loss`: other losses than the square, and labels of +1 and -1 (19)
- `feature_spectrum`: the spectral density of the features (6)
"""

from srfx.reference._groups import learned_function_groups, lower_bound_groups, solve_groups
from srfx.reference._instance import solve_instance
from srfx.reference._losses import LossSolution, solve_loss
from srfx.reference._one_step import one_step_map, solve_one_step
from srfx.reference._spectrum import feature_spectrum
from srfx.reference._spiked import (
    ACTIVATIONS,
    Bounds,
    Coefficients,
    Function,
    ReferenceSolution,
    bounds,
    coefficients,
    equivalent,
    gaussian_mean,
    learned_function,
    linear_floor,
    solve,
    solve_notebook,
)
from srfx.reference._spikes import bounds_spikes, learned_function_spikes, solve_spikes
from srfx.reference._steps import multi_step_layers, multi_step_map, solve_multi_step
from srfx.reference._system import SystemSolution
from srfx.reference._targets import Directions, target_moments

__all__ = [
    "ACTIVATIONS",
    "Bounds",
    "Coefficients",
    "Directions",
    "Function",
    "LossSolution",
    "ReferenceSolution",
    "SystemSolution",
    "bounds",
    "bounds_spikes",
    "coefficients",
    "equivalent",
    "feature_spectrum",
    "gaussian_mean",
    "learned_function",
    "learned_function_groups",
    "learned_function_spikes",
    "linear_floor",
    "lower_bound_groups",
    "multi_step_layers",
    "multi_step_map",
    "one_step_map",
    "solve",
    "solve_groups",
    "solve_instance",
    "solve_loss",
    "solve_multi_step",
    "solve_notebook",
    "solve_one_step",
    "solve_spikes",
    "target_moments",
]
