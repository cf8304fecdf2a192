"""The panels of a view of ``srfx explore``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from srfx._style import COLOURS, GREY, function_bands, style
from srfx.app.view import ALPHA, ALPHA_SIMULATED, EDGE, SIZE, Numbers, Spectrum, T

if TYPE_CHECKING:
    import xarray as xr


class Picture:
    """The panels of a view, drawn again and again: what changes is data, not axes."""

    def __init__(self) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullLocator

        with style():
            self.figure = Figure(figsize=(11.5, 3.5), dpi=100)
            self._canvas = FigureCanvasAgg(self.figure)
            left, right, last = self.figure.subplots(1, 3, width_ratios=[3, 2, 2])
            self.figure.subplots_adjust(left=0.05, right=0.99, bottom=0.14, top=0.93, wspace=0.22)
            (self._test,) = left.plot([], [], color=COLOURS[0])
            (self._finite,) = left.plot(
                [], [], color=COLOURS[1], ls="--", label=f"test error, theory at d = {SIZE['d']}"
            )
            (self._train,) = left.plot(
                [], [], color=COLOURS[0], ls=":", lw=1.1, label="training error, $d = \\infty$"
            )
            (self._here,) = left.plot([], [], "o", ms=6, mfc="none", color=COLOURS[0])
            self._levels = [
                left.axhline(0, color=GREY, ls=ls, lw=0.9, label=text)
                for ls, text in (
                    ("--", "linear floor"),
                    ((0, (4, 2, 1, 2)), "upper bound at large $\\alpha$"),
                    ((0, (1, 2)), "lower bound"),
                )
            ]
            left.set(xlabel=r"$\alpha = n/d$", title="learning curve", xlim=(0, ALPHA[-1]))
            self._simulated: Any = None

            (self._target,) = right.plot([], [], color=GREY, ls="--", label=r"target $\sigma_*(t)$")
            (self._learned,) = right.plot(
                [], [], color=COLOURS[2], label="learned, mean at given t"
            )
            right.set(
                xlabel=r"$t = \theta\cdot x/\sqrt{d}$", title="function learned", xlim=(-3, 3)
            )
            right.legend(loc="upper left")
            for ax in (left, right):
                ax.locator_params(nbins=5)

            self._area: Any = None
            (self._density,) = last.plot([], [], color=COLOURS[3])
            (self._outliers,) = last.plot([], [], "v", ms=6, color=COLOURS[6])
            self._words = last.text(
                0.02, 0.98, "", transform=last.transAxes, va="top", fontsize=7.5, linespacing=1.5
            )
            last.set_xscale("log")
            last.xaxis.set_minor_locator(NullLocator())
            last.set(
                xlabel=r"eigenvalue of $\Phi^T\Phi/p$", title="features: density of its logarithm"
            )
            self._axes = left, right, last
            # for targets of two directions, in place of the middle one
            box = right.get_position()
            height = 0.44 * box.height
            self._planes = [
                self.figure.add_axes((box.x0, low, box.width, height))
                for low in (box.y1 - height, box.y0)
            ]
            for ax in self._axes:  # placed once: looking for room takes a quarter of a redraw
                ax.set_title(ax.get_title(), y=1.0)
                ax.xaxis.set_label_coords(0.5, -0.09)
                ax.yaxis.set_label_coords(-0.1, 0.5)

    def png(self, numbers: Numbers, simulated: xr.Dataset | None = None) -> bytes:
        """Draw a view.

        Parameters
        ----------
        numbers : Numbers
            The view's numbers.
        simulated : xarray.Dataset, optional
            What `View.simulate` returned.

        Returns
        -------
        bytes
            A PNG.
        """
        import io

        view = numbers.view
        left, right, _ = self._axes
        with style():
            self._test.set_data(view.alphas, numbers.curve)
            self._test.set_label(f"{view.name}, $d = \\infty$, bulk {view.bulk}")
            self._finite.set_data(view.alphas, numbers.finite)
            self._finite.set_label(f"{view.name}, theory at d = {SIZE['d']}")
            self._train.set_data(view.alphas, numbers.train)
            self._train.set_visible(view.labels == "real")
            self._here.set_data([view.alpha], [numbers.here])
            values = numbers.floor, numbers.upper, numbers.lower
            for line, level in zip(self._levels, values, strict=True):
                line.set_ydata([level, level])
                line.set_visible(view.plain)
            if self._simulated is not None:
                self._simulated.remove()
                self._simulated = None
            if simulated is not None:
                self._simulated = _error_bars(left, simulated[view.quantity])
            shown = [numbers.curve, numbers.finite, np.array([numbers.floor])]
            if simulated is not None:
                shown.append(simulated[view.quantity].values.mean(-1).ravel())
            left.set_ylim(0, 1.45 * np.nanmax(np.concatenate(shown)) or 1.0)
            unsolved = numbers.unsolved
            left.legend(
                *_seen(left),
                loc="upper right",
                ncols=2,
                title=f"gaps: {unsolved} points did not converge" if unsolved else None,
            )

            right.set_visible(not view.several)
            for ax in self._planes:
                ax.set_visible(view.several)
            if view.several:
                self._draw_planes(numbers)
            else:
                self._target.set_data(T, numbers.target)
                self._learned.set_data(T, numbers.learned)
                right.relim()
                right.autoscale_view(scalex=False)

            self._draw_spectrum(numbers.spectrum)

            buffer = io.BytesIO()
            canvas: Any = self._canvas
            canvas.print_png(buffer, pil_kwargs={"compress_level": 1})
        return buffer.getvalue()

    def _draw_planes(self, numbers: Numbers) -> None:
        """Draw the function learned of two directions, and the target below, in the same bands."""
        levels = np.linspace(numbers.target.min(), numbers.target.max(), 13)
        what = (numbers.learned, "function learned"), (numbers.target, r"target $\sigma_*(t)$")
        for ax, (values, title) in zip(self._planes, what, strict=True):
            ax.clear()
            function_bands(ax, EDGE, EDGE, values, levels)
            ax.set_title(title, y=1.0)
        self._planes[0].set(xticks=[], xlabel="")

    def _draw_spectrum(self, spectrum: Spectrum | None) -> None:
        from matplotlib.ticker import LogFormatterSciNotation, LogLocator

        last = self._axes[-1]
        if self._area is not None:
            self._area.remove()
            self._area = None
        if spectrum is None or not spectrum.x.size:
            self._density.set_data([], [])
            self._outliers.set_data([], [])
            self._words.set_text("computing …" if spectrum is None else spectrum.note)
            return
        x, density = spectrum.x, spectrum.density
        known = np.isfinite(density)
        top = density[known].max(initial=0)
        self._density.set_data(x, density)
        self._area = last.fill_between(
            x, np.where(known, density, 0), where=known, color=COLOURS[3], alpha=0.4, lw=0
        )
        outliers = spectrum.outliers
        self._outliers.set_data(outliers, np.full(outliers.shape, 0.03 * top))
        words = spectrum.words()
        if top == 0:
            words.insert(0, "no density was found here")
        self._words.set_text("\n".join(words))
        last.set_xlim(x[0], x[-1])
        if x[-1] < 50 * x[0]:  # powers of ten alone may be one or none
            last.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            last.xaxis.set_major_formatter(lambda value, _: f"{value:.6g}")
        else:
            last.xaxis.set_major_locator(LogLocator())
            last.xaxis.set_major_formatter(LogFormatterSciNotation())
        # Room for the words above the density.
        last.set_ylim(0, (1.05 + 0.09 * len(words)) * top if top > 0 else 1)


def _seen(ax: Any) -> tuple[list[Any], list[str]]:
    """Return handles and labels of a legend of what is visible."""
    pairs = zip(*ax.get_legend_handles_labels(), strict=True)
    seen = [(h, label) for h, label in pairs if h not in ax.lines or h.get_visible()]
    return [h for h, _ in seen], [label for _, label in seen]


def _error_bars(ax: Any, error: xr.DataArray) -> Any:
    values = error.values[:, 0]
    return ax.errorbar(
        ALPHA_SIMULATED,
        values.mean(-1),
        yerr=values.std(-1, ddof=1) / np.sqrt(values.shape[-1]),
        fmt="s",
        color=COLOURS[1],
        label=f"{values.shape[-1]} networks at d = {SIZE['d']}:\nmean, standard error",
    )
