"""The figures of the paper, and some it does not have: theory as lines, simulations as points.

Each figure is a function that computes and draws: ``figure1`` to ``figure5`` for those of the
paper, ``readout``, ``spectrum``, ``network``, ``phase``, ``steps``, ``directions`` and
``classification``. `compute` gives its data alone, `draw` draws them, `make` writes picture, data
(NetCDF) and provenance (JSON) beside each other, as does the command ``srfx figure``. The
parameters are those of the captions of CPD24; where a caption is silent the default is ours, and
every parameter can be given.
"""

# The order of these is that of the list of figures.
# isort: off
from srfx.figures.figure_1 import figure1
from srfx.figures.figure_2 import figure2
from srfx.figures.figure_3 import figure3
from srfx.figures.figure_4 import figure4
from srfx.figures.figure_5 import figure5
from srfx.figures.figure_readout import readout
from srfx.figures.figure_spectrum import spectrum
from srfx.figures.figure_network import network
from srfx.figures.figure_phase import phase
from srfx.figures.figure_steps import steps
from srfx.figures.figure_directions import directions
from srfx.figures.figure_classification import classification

# isort: on
from srfx.figures.catalogue import RECIPES, compute, draw
from srfx.figures.writing import make

__all__ = [
    "NAMES", "classification", "compute", "directions", "draw", "figure1", "figure2", "figure3",
    "figure4", "figure5", "make", "network", "phase", "readout", "spectrum", "steps",
]  # fmt: skip

#: The figures: names that `make` and ``srfx figure`` take, and what each shows.
NAMES: dict[str, str] = {name: recipe.title for name, recipe in RECIPES.items()}
