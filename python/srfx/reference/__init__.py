"""The theory in plain NumPy and SciPy, slow and obvious: the oracle of tests and benchmarks.

Shares nothing with the compiled core: neither code, nor quadrature, nor the order of operations.

- `solve`, `solve_notebook`, `bounds`, `learned_function`: one spiked model (THEORY 1 to 6)
- `solve_groups`, `lower_bound_groups`, `learned_function_groups`: readouts of several values (7)
- `solve_one_step`, `one_step_map`: the actual one-step network (9, 10)
- `solve_instance`: given weights (9 f)
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
from srfx.reference._system import SystemSolution

__all__ = [
    "ACTIVATIONS",
    "Bounds",
    "Coefficients",
    "Function",
    "LossSolution",
    "ReferenceSolution",
    "SystemSolution",
    "bounds",
    "coefficients",
    "equivalent",
    "feature_spectrum",
    "gaussian_mean",
    "learned_function",
    "learned_function_groups",
    "linear_floor",
    "lower_bound_groups",
    "one_step_map",
    "solve",
    "solve_groups",
    "solve_instance",
    "solve_loss",
    "solve_notebook",
    "solve_one_step",
]
