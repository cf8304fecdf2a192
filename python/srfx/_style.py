"""The one look of srfx's figures: readable at column width, colour-blind safe, free of LaTeX."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

#: Width of a column and of a page of a two-column paper, in inches.
COLUMN, PAGE = 3.35, 6.9

#: Okabe and Ito's colours, told apart in every form of colour blindness (without its yellow).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

#: Grey of the marks that are not data: floors, targets, keys.
GREY = "0.35"

_STYLE: dict[Any, Any] = {
    "text.usetex": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "mathtext.fontset": "dejavusans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.7,
    "legend.borderaxespad": 0.3,
    "legend.labelspacing": 0.3,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.4,
    "errorbar.capsize": 1.6,
    "savefig.dpi": 200,
    "figure.dpi": 100,
    "svg.hashsalt": "srfx",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}


#: Figures are drawn one at a time.
_DRAWING = threading.RLock()


def require_matplotlib(needed: str) -> None:
    """Load matplotlib, or say why it cannot be; ``needed`` says for what, "... need matplotlib"."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{needed}: pip install 'srfx[plot]'") from error
    except ValueError:
        backend = os.environ.get("MPLBACKEND")
        if backend is None:
            raise
        raise ValueError(
            "the environment variable MPLBACKEND must name a backend of matplotlib that is "
            f"installed, or be unset; got {backend!r}"
        ) from None


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw in srfx's style inside the ``with``; matplotlib's own settings return after it.

    These settings belong to the whole process and matplotlib, which is made for one thread, has no
    others. So threads take turns here, and what is set before is there after.
    """
    import matplotlib as mpl

    with _DRAWING, mpl.rc_context():
        mpl.rcdefaults()
        for name, value in _STYLE.items():
            mpl.rcParams[name] = value
        yield


def ordered_colours(count: int) -> list[Any]:
    """Choose colours of an ordered parameter, dark to light, without viridis's pale end.

    Up to four lines take Okabe and Ito's colours, whose contrast is larger.
    """
    if count <= 4:
        return list(COLOURS[:count])
    from matplotlib import colormaps

    return [colormaps["viridis"](0.88 * i / (count - 1)) for i in range(count)]


def function_bands(ax: Any, x: Any, y: Any, values: Any, levels: Any) -> Any:
    """Draw a function of two projections, of shape (x, y), in bands between levels."""
    bands = ax.contourf(x, y, values.T, levels, cmap="viridis", extend="both")
    ax.contour(x, y, values.T, levels, colors="white", linewidths=0.4, linestyles="-")
    ax.set_aspect("equal")
    ax.set_xlabel("$t_1$")
    ax.set_ylabel("$t_2$")
    return bands
