"""What the page of ``srfx explore`` shows: numbers, pictures, code. The page itself is app.py."""

from __future__ import annotations

import dataclasses
import socket
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srfx import _core, _validation
from srfx._style import COLOURS, GREY, style
from srfx.analysis import _spectra
from srfx.figures import _quietly
from srfx.models import FloatArray, OneStep, compiled
from srfx.simulation import simulate
from srfx.theory import bounds, learned_function, linear_floor, solve

if TYPE_CHECKING:
    import xarray as xr

#: Where the learning curve is drawn, and where it is simulated.
ALPHA = np.linspace(0.1, 5, 50)
ALPHA_SIMULATED = (0.25, 0.5, 1.0, 2.0, 4.0)
#: Size of the page's simulation: a few seconds.
SIZE: dict[str, Any] = {"d": 200, "replicates": 8}
T = np.linspace(-3, 3, 121)
#: Where the density of the features is drawn.
X = np.geomspace(1e-3, 30, 121)

#: Views are computed and drawn one at a time: matplotlib's settings belong to the whole process.
_LOCK = threading.RLock()

EXTRA = "srfx explore needs marimo and matplotlib: pip install 'srfx[app]'"


@dataclasses.dataclass(frozen=True)
class View:
    """Everything the controls of the page say."""

    activation: str = "tanh"
    target: str = "sin"
    eta: float = 1.0
    alpha0: float = 1.5
    beta: float = 1.0
    lam: float = 0.1
    alpha: float = 2.0
    noise: float = 0.0
    readout: tuple[float, ...] = (1.0,)

    @property
    def model(self) -> OneStep:
        """The network."""
        return OneStep(
            self.activation,
            self.target,
            eta=self.eta,
            alpha0=self.alpha0,
            beta=self.beta,
            noise=self.noise,
            readout=self.readout,
        )

    @property
    def bulk(self) -> str:
        """The bulk of the actual step; for several readout values that would take too long here."""
        return "one_step" if len(self.readout) == 1 else "isotropic"

    @property
    def experiment(self) -> View:
        """The view without what a simulation of the curve does not depend on."""
        return dataclasses.replace(self, alpha=1.0)

    def code(self) -> str:
        """Python that reproduces the view."""
        fields = [f"{self.activation!r}", f"{self.target!r}"]
        fields += [f"{name}={getattr(self, name):g}" for name in ("eta", "alpha0", "beta")]
        if self.noise:
            fields.append(f"noise={self.noise:g}")
        if self.readout != (1.0,):
            fields.append(f"readout=({', '.join(f'{a:g}' for a in self.readout)},)")
        return f"""import numpy as np, srfx

model = srfx.OneStep({", ".join(fields)})
sol = srfx.solve(model, alpha=np.linspace(0.1, 5, 50), lam={self.lam:g}, bulk={self.bulk!r})
ax = srfx.plot.learning_curve(sol)

t = np.linspace(-3, 3, 121)
f = srfx.learned_function(model, alpha={self.alpha:g}, lam={self.lam:g}, t=t, bulk={self.bulk!r})
print(srfx.bounds(model), srfx.linear_floor(model), model.equivalent())

x = np.geomspace(1e-3, 30, 121)
density = srfx.feature_spectrum(model, alpha={self.alpha:g}, x=x, bulk={self.bulk!r}).density

alphas = {list(ALPHA_SIMULATED)}
ds = srfx.simulate(model, alpha=alphas, lam={self.lam:g}, d=200, replicates=8)
"""

    def compute(self) -> Numbers:
        """Solve for all that is shown."""
        with _LOCK:
            return self._compute()

    def _compute(self) -> Numbers:
        model = self.model
        options: dict[str, Any] = {"bulk": self.bulk}
        recorded = options | {"errors": "record"}
        solution = _quietly(solve, model, ALPHA, self.lam, **recorded)
        limits = _quietly(bounds, model)
        return Numbers(
            view=self,
            curve=np.asarray(solution.test_error),
            train=np.asarray(solution.train_error),
            here=float(_quietly(solve, model, self.alpha, self.lam, **recorded).test_error),
            floor=linear_floor(model),
            lower=float(limits.lower),
            upper=float(limits.upper),
            learned=_quietly(learned_function, model, self.alpha, self.lam, T, **options),
            target=_core.evaluate(compiled(model.target), T),
            spike=_spike(model),
            density=self._density(),
        )

    def _density(self) -> FloatArray:
        # Not by feature_spectrum, whose labelled answer would load xarray: half a second at start.
        (raw,) = _spectra(self.model, self.bulk, self.alpha, (), X, _validation.thread_count(None))
        return np.asarray(raw["density"] * X)

    def simulate(self) -> xr.Dataset:
        """Run the small simulation of the curve."""
        return simulate(self.model, ALPHA_SIMULATED, self.lam, progress=False, **SIZE)


def _spike(model: OneStep) -> tuple[float, float, float] | None:
    try:
        spiked = _quietly(model.equivalent)
    except NotImplementedError:  # groups whose bulks are not those of one SpikedRF
        return None
    return float(spiked.r), float(spiked.c), float(spiked.gamma)


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What a view shows, in numbers."""

    view: View
    curve: FloatArray
    train: FloatArray
    here: float
    floor: float
    lower: float
    upper: float
    learned: FloatArray
    target: FloatArray
    spike: tuple[float, float, float] | None  # r, c, gamma of the equivalent features
    density: FloatArray  # of log x, x the eigenvalues of the features; NaN where unresolved


def parse_readout(text: str) -> tuple[float, ...]:
    """Read "1, 2" as (1.0, 2.0).

    Parameters
    ----------
    text : str
        Numbers separated by commas.

    Raises
    ------
    ValueError
        Not such a list.
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"readout must be numbers, as in 1 or 0.5, 1.5; got {text!r}") from None
    return values


class Picture:
    """The panels of a view, drawn again and again: what changes is data, not axes."""

    def __init__(self) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullLocator

        with _LOCK, style():
            self.figure = Figure(figsize=(11.5, 3.5), dpi=100)
            self._canvas = FigureCanvasAgg(self.figure)
            left, right, last = self.figure.subplots(1, 3, width_ratios=[3, 2, 2])
            self.figure.subplots_adjust(left=0.05, right=0.99, bottom=0.14, top=0.93, wspace=0.22)
            (self._test,) = left.plot([], [], color=COLOURS[0])
            (self._train,) = left.plot(
                [], [], color=COLOURS[0], ls=":", lw=1.1, label="training error"
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

            (self._area,) = last.fill([], [], color=COLOURS[3], alpha=0.4, lw=0)
            (self._density,) = last.plot([], [], color=COLOURS[3])
            last.set_xscale("log")
            last.xaxis.set_minor_locator(NullLocator())
            last.set(
                xlabel=r"eigenvalue of $\Phi^T\Phi/p$",
                title="features: density of its logarithm",
                xlim=(X[0], X[-1]),
            )
            self._axes = left, right, last

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
        left, right, last = self._axes
        with _LOCK, style():
            self._test.set_data(ALPHA, numbers.curve)
            self._test.set_label(f"test error, bulk {view.bulk}")
            self._train.set_data(ALPHA, numbers.train)
            self._here.set_data([view.alpha], [numbers.here])
            values = numbers.floor, numbers.upper, numbers.lower
            for line, level in zip(self._levels, values, strict=True):
                line.set_ydata([level, level])
            if self._simulated is not None:
                self._simulated.remove()
                self._simulated = None
            if simulated is not None:
                self._simulated = _error_bars(left, simulated)
            top = np.nanmax(numbers.curve) if np.isfinite(numbers.curve).any() else 1.0
            left.set_ylim(0, 1.35 * max(top, numbers.floor))
            left.legend(loc="upper right", ncols=2)

            self._target.set_data(T, numbers.target)
            self._learned.set_data(T, numbers.learned)
            right.relim()
            right.autoscale_view(scalex=False)

            density = numbers.density
            self._density.set_data(X, density)
            filled = np.nan_to_num(density)
            self._area.set_xy(np.column_stack([np.r_[X, X[::-1]], np.r_[filled, 0 * filled]]))
            last.set_ylim(0, 1.05 * filled.max() if filled.max() > 0 else 1)

            buffer = io.BytesIO()
            canvas: Any = self._canvas
            canvas.print_png(buffer, pil_kwargs={"compress_level": 1})
        return buffer.getvalue()


def _error_bars(ax: Any, simulated: xr.Dataset) -> Any:
    values = simulated.test_error.values[:, 0]
    return ax.errorbar(
        ALPHA_SIMULATED,
        values.mean(-1),
        yerr=values.std(-1, ddof=1) / np.sqrt(values.shape[-1]),
        fmt="s",
        color=COLOURS[1],
        label=f"simulation, d = {SIZE['d']}, standard error",
    )


# --- serving ------------------------------------------------------------------------------------


def serve(host: str = "127.0.0.1", port: int = 2718, *, browser: bool = True) -> None:
    """Serve the page until interrupted.

    Parameters
    ----------
    host : str
        Interface; only this machine can reach the default.
    port : int
        Port, 1 to 65535.
    browser : bool
        Whether to open the page in a browser.

    Raises
    ------
    ImportError
        The extra ``app`` is not installed.
    OSError
        The port is in use, or the host is not an address of this machine.
    """
    try:
        import marimo
        import matplotlib  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise ImportError(EXTRA) from error
    check_port(host, port)
    page = Path(__file__).with_name("app.py")
    server = marimo.create_asgi_app(quiet=True, include_code=False)
    application: Any = server.with_app(path="", root=str(page)).build()
    url = f"http://{'[' + host + ']' if ':' in host else host}:{port}"
    print(f"srfx: explore at {url} (Ctrl-C ends)", flush=True)
    # What the first view needs is loaded while the browser starts.
    threading.Thread(target=_first_view, daemon=True).start()
    if browser:
        threading.Timer(1.0, webbrowser.open, [url]).start()
    uvicorn.run(application, host=host, port=port, log_level="error")


def _first_view() -> None:
    with _LOCK:
        Picture().png(View().compute())


def check_port(host: str, port: int) -> None:
    """Say plainly that a port cannot be had, before anything is started.

    Parameters
    ----------
    host : str
        Interface.
    port : int
        Port.

    Raises
    ------
    OSError
        It is in use, or not ours to take.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise OSError(
            f"port {port} of {host} is in use or not available ({error.strerror or error}): "
            f"give another one, as in srfx explore --port {port % 65535 + 1}"
        ) from None
