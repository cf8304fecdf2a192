"""What the page of ``srfx explore`` shows, in numbers and in code."""

from __future__ import annotations

import dataclasses
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from srfx import _core, _validation
from srfx.losses import Loss
from srfx.models import (
    AnyTarget,
    FloatArray,
    MultiStep,
    OneStep,
    as_target,
    compiled,
    quiet,
)
from srfx.simulation import simulate
from srfx.spectrum import spectra
from srfx.targets import Target
from srfx.theory import Bounds, bounds, learned_function, linear_floor, solve
from srfx.weights import own_bulk

if TYPE_CHECKING:
    import xarray as xr

#: Where the learning curve is drawn, and where it is simulated.
ALPHA = np.linspace(0.1, 5, 50)
ALPHA_THREE = np.linspace(0.1, 5, 25)  # of three values in the actual step
ALPHA_SIMULATED = (0.25, 0.5, 1.0, 2.0, 4.0)
#: Size of the page's simulation: a few seconds.
SIZE: dict[str, Any] = {"d": 200, "replicates": 8}
T = np.linspace(-3, 3, 121)
#: Where the function learned of two directions is drawn: along each, and all points.
EDGE = np.linspace(-2.25, 2.25, 31)
PLANE = np.stack(np.meshgrid(EDGE, EDGE, indexing="ij"), axis=-1)
#: Where the spectrum of the features is looked for; fewer points for the slower several groups.
X = np.geomspace(1e-6, 1e6, 1201)
X_GROUPS = np.geomspace(1e-6, 1e6, 361)
#: Where fewer of them than this lie in the support, it gets points of its own: three times these.
POINTS = 40

#: So many readout values are solved for in the actual step: of more, a curve takes too long here.
GROUPS = 3

#: What the panel of the spectrum says where there is none.
_UNKNOWN = "not known for several readout values after several steps"

#: What solving for a view may say, to be shown in its place.
PROBLEMS = (ValueError, NotImplementedError, RuntimeError, ArithmeticError)
#: What waiting for a view may say: another was asked for before this one was begun.
PASSED = CancelledError

#: Seconds that a redraw waits for curves and spectrum; what takes more is drawn later.
PATIENCE = 0.1


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
    steps: int = 1  # all alike
    labels: str = "real"
    loss: Loss = "square"

    @property
    def quantity(self) -> str:
        """The error that is drawn."""
        return "test_error" if self.labels == "real" else "classification_error"

    @property
    def name(self) -> str:
        """What that error is called."""
        return self.quantity.replace("_", " ")

    @property
    def plain(self) -> bool:
        """Whether floor and bounds speak of what is drawn: of ridge regression on real labels."""
        return self.labels == "real" and self.loss == "square"

    @property
    def model(self) -> OneStep | MultiStep:
        """The network."""
        common: dict[str, Any] = {"beta": self.beta, "noise": self.noise, "readout": self.readout}
        common["labels"] = self.labels
        functions = self.activation, self.target
        if self.steps == 1:
            return OneStep(*functions, eta=self.eta, alpha0=self.alpha0, **common)
        eta, alpha0 = (self.eta,) * self.steps, (self.alpha0,) * self.steps
        return MultiStep(*functions, eta=eta, alpha0=alpha0, **common)

    @property
    def several(self) -> bool:
        """Whether the target has two directions."""
        return isinstance(as_target("target", self.target), Target)

    @property
    def bulk(self) -> str:
        """The bulk of the actual steps, for as many readout values as it is quick and known for."""
        if len(self.readout) > GROUPS:
            return "isotropic"
        return own_bulk(self.model)

    @property
    def alphas(self) -> FloatArray:
        """Where the curves are drawn."""
        slow = self.bulk != "isotropic" and len(self.readout) == GROUPS
        return ALPHA_THREE if slow else ALPHA

    @property
    def spectral_bulk(self) -> str:
        """The bulk of the spectrum: of several values, steps or directions the isotropic one."""
        single = len(self.readout) == self.steps == 1 and not self.several
        return "one_step" if single else "isotropic"

    @property
    def spectral(self) -> bool:
        """Whether the spectrum is known: not where several steps lead groups several ways."""
        return self.steps == 1 or len(self.readout) == 1

    @property
    def experiment(self) -> View:
        """The view without what a simulation of the curve does not depend on."""
        return dataclasses.replace(self, alpha=1.0)

    @property
    def features(self) -> View:
        """The view without what the features do not depend on."""
        return dataclasses.replace(self, lam=1.0, loss="square")

    def code(self, numbers: Numbers | None = None) -> str:
        """Python that reproduces the view, with the spectrum where it was drawn."""
        spectrum = None if numbers is None else numbers.spectrum
        x = X if spectrum is None or not spectrum.x.size else spectrum.x
        given = f"bulk={self.bulk!r}"
        if numbers is not None and numbers.unsolved:
            given += ', errors="record"'
        kind = "OneStep" if self.steps == 1 else "MultiStep"
        fields = [f"{self.activation!r}", f"{self.target!r}"]
        for name in ("eta", "alpha0"):
            value = f"{getattr(self, name):g}"
            fields.append(f"{name}={value if self.steps == 1 else f'({value},) * {self.steps}'}")
        fields.append(f"beta={self.beta:g}")
        if self.noise:
            fields.append(f"noise={self.noise:g}")
        if self.readout != (1.0,):
            fields.append(f"readout=({', '.join(f'{a!r}' for a in self.readout)},)")
        if self.labels != "real":
            fields.append(f"labels={self.labels!r}")
        fit = ""
        if self.loss != "square":
            fit = f", loss={'' if isinstance(self.loss, str) else 'srfx.'}{self.loss!r}"
        shown = ["srfx.bounds(model)", "srfx.linear_floor(model)"] if self.plain else []
        if _spike(self.model) is not None:
            shown.append("model.equivalent()")
        quantity = "" if self.labels == "real" else f", quantity={self.quantity!r}"
        t = "np.linspace(-3, 3, 121)"
        if self.several:
            edge = f"np.linspace({EDGE[0]:g}, {EDGE[-1]:g}, {EDGE.size})"
            t = f"np.stack(np.meshgrid(*2 * [{edge}], indexing='ij'), axis=-1)"
        of_features = f"""
x = np.geomspace({x[0]:.6g}, {x[-1]:.6g}, {x.size})
spectrum = srfx.feature_spectrum(model, alpha={self.alpha:g}, x=x, bulk={self.spectral_bulk!r})
print(spectrum.mass_at_zero.item(), spectrum.edges.values)
"""
        return f"""import numpy as np, srfx

model = srfx.{kind}({", ".join(fields)})
alpha, lam, d = np.linspace(0.1, 5, {self.alphas.size}), {self.lam:g}, {SIZE["d"]}
sol = srfx.solve(model, alpha=alpha, lam=lam, {given}{fit})  # d = infinity
sol_d = srfx.solve(model, alpha=alpha, lam=lam, {given}{fit}, d=d)
ax = srfx.plot.learning_curve(sol{quantity})
ax.plot(alpha, sol_d.{self.quantity}, "--", label=f"{self.name}, theory at d = {{d}}")

t = {t}
f = srfx.learned_function(model, alpha={self.alpha:g}, lam=lam, t=t, bulk={self.bulk!r}{fit})
print({", ".join(shown)})
{of_features if self.spectral else ""}
alphas = {list(ALPHA_SIMULATED)}
ds = srfx.simulate(model, alpha=alphas, lam=lam, d=d, replicates={SIZE["replicates"]}{fit})
error = ds.{self.quantity}.squeeze("lam")
bars = error.std("replicate", ddof=1) / {SIZE["replicates"]}**0.5  # standard error of the mean
ax.errorbar(alphas, error.mean("replicate"), bars, fmt="s", label=f"networks at d = {{d}}")
ax.legend()
"""

    def compute(self) -> Numbers:
        """Solve for all that is shown."""
        return dataclasses.replace(self.compute_curves(), spectrum=self.compute_spectrum())

    def compute_curves(self) -> Numbers:
        """Solve for all but the spectrum; panels say what bulk they show."""
        with quiet():
            return self._compute_curves()

    def _compute_curves(self) -> Numbers:
        model = self.model
        options: dict[str, Any] = {"bulk": self.bulk, "loss": self.loss}
        recorded = options | {"errors": "record"}
        # The last one is where the slider of alpha is.
        alphas = np.append(self.alphas, self.alpha)
        solution = solve(model, alphas, self.lam, **recorded)
        finite = solve(model, self.alphas, self.lam, d=SIZE["d"], **recorded)
        curve = np.asarray(getattr(solution, self.quantity))
        limits = bounds(model) if self.plain else Bounds(np.nan, np.nan)
        return Numbers(
            view=self,
            curve=curve[:-1],
            finite=np.asarray(getattr(finite, self.quantity)),
            train=np.asarray(solution.train_error)[:-1],
            here=float(curve[-1]),
            loss=float(np.asarray(solution.test_loss)[-1]),
            squares=float(np.asarray(solution.test_error)[-1]),
            floor=linear_floor(model) if self.plain else np.nan,
            lower=float(limits.lower),
            upper=float(limits.upper),
            learned=learned_function(
                model, self.alpha, self.lam, PLANE if self.several else T, **options
            ),
            target=_values(model.target),
            spike=_spike(model),
        )

    def compute_spectrum(self) -> Spectrum:
        """Find the spectrum of the features, on its own support."""

        def spectrum(x: FloatArray) -> Any:
            # Not by feature_spectrum, whose labelled answer would load xarray: half a second.
            threads = _validation.thread_count(None)
            with quiet():
                return spectra(self.model, self.spectral_bulk, self.alpha, (), x, threads)[0]

        if not self.spectral:
            empty = np.zeros(0)
            return Spectrum(empty, empty, empty, empty, 0.0, 1.0, 0.0, _UNKNOWN)
        x = X if self.spectral_bulk == "one_step" else X_GROUPS
        raw = spectrum(x)
        low, high = _extent(x, raw)
        inside = (x >= low) & (x <= high)
        if high > x[-1] or inside.sum() < POINTS:
            x = np.geomspace(low, high, 3 * POINTS + 1)
            raw = spectrum(x)
            inside = np.ones(x.size, dtype=bool)
        return Spectrum(
            x=x[inside],
            density=np.asarray(raw["density"] * x)[inside],
            edges=np.asarray(raw["edges"]),
            outliers=np.asarray(raw["outliers"]),
            mass_at_zero=float(raw["zero_mass"]),
            mass=float(raw["mass"]),
            outlier_over_d=float(raw["outlier_rate"]),
            note="bulk isotropic" if self.spectral_bulk != self.bulk else "",
        )

    def simulate(self) -> xr.Dataset:
        """Run the small simulation of the curve."""
        return simulate(
            self.model, ALPHA_SIMULATED, self.lam, loss=self.loss, progress=False, **SIZE
        )


class Desk:
    """Computes views beside the page, the last one asked for next; keeps some spectra.

    What another view has overtaken before it was begun is cancelled: waiting for it raises
    `PASSED`. Curves and spectra do not wait for each other.
    """

    def __init__(self) -> None:
        self._curves = ThreadPoolExecutor(1, "curves")
        self._spectra = ThreadPoolExecutor(1, "spectrum")
        self._last: Future[Numbers] | None = None
        self._known: dict[View, Future[Spectrum]] = {}

    def of(self, view: View) -> Pending:
        """Ask for a view."""
        if self._last is not None:
            self._last.cancel()
        self._last = self._curves.submit(view.compute_curves)
        return Pending(self._last, self._spectrum(view.features))

    def _spectrum(self, view: View) -> Future[Spectrum]:  # which does not depend on lam
        known = self._known
        for other in [other for other in known if other != view and known[other].cancel()]:
            del known[other]
        if view not in known:
            while len(known) >= 64:
                del known[next(iter(known))]
            known[view] = self._spectra.submit(view.compute_spectrum)
        return known[view]


@dataclasses.dataclass(frozen=True)
class Pending:
    """A view that is being computed."""

    curves: Future[Numbers]
    spectrum: Future[Spectrum]

    def now(self) -> Numbers | None:
        """Wait for little: all, or all but a slow spectrum, or None if the curves take longer."""
        until = time.monotonic() + PATIENCE
        try:
            numbers = self.curves.result(PATIENCE)
        except TimeoutError:
            return None
        try:
            return self.complete(numbers, max(0.0, until - time.monotonic()))
        except TimeoutError:
            return numbers

    def complete(self, numbers: Numbers, seconds: float | None = None) -> Numbers:
        """Add the spectrum."""
        return dataclasses.replace(numbers, spectrum=self.spectrum.result(seconds))


def _extent(x: FloatArray, raw: Any) -> tuple[float, float]:
    """From where to where a spectrum is worth drawing: its support but for a long thin tail."""
    ends = np.concatenate([raw["edges"], raw["outliers"]])
    if ends.size == 0:
        return 1e-3, 30.0
    low, high = float(ends.min()), float(ends.max())
    if low < 1e-4 * high:
        height = np.nan_to_num(raw["density"] * x)
        seen = x[height > 5e-3 * height.max()]
        low = max(low, float(seen[0]) if seen.size else 1e-4 * high)
    return low / 1.25, high * 1.25


def _values(target: AnyTarget) -> FloatArray:
    if isinstance(target, Target):
        return target(PLANE[..., 0], PLANE[..., 1])
    values: FloatArray = _core.evaluate(compiled(target), T)
    return values


def _spike(model: OneStep | MultiStep) -> tuple[float, ...] | None:
    """R, c and the alignment with every direction of the equivalent features."""
    try:
        spiked = model.equivalent()
    except NotImplementedError:  # groups whose bulks are not those of one SpikedRF
        return None
    if spiked.spikes is not None:  # not of a single spike
        return None
    return (float(spiked.r), float(spiked.c), *np.ravel(spiked.gamma).tolist())


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What a view shows, in numbers."""

    view: View
    curve: FloatArray  # the view's quantity at d = infinity, as all but finite
    finite: FloatArray  # the same at the d of the simulation
    train: FloatArray
    here: float  # where the slider of alpha is, as are the loss and the mean square
    loss: float
    squares: float
    floor: float  # NaN, as both bounds, where they do not speak of what is drawn
    lower: float
    upper: float
    learned: FloatArray
    target: FloatArray
    spike: tuple[float, ...] | None  # r, c, gamma of the equivalent features
    spectrum: Spectrum | None = None  # None: yet to come

    @property
    def unsolved(self) -> int:
        """How many points of the curves did not converge."""
        return int(np.count_nonzero(~np.isfinite(np.concatenate([self.curve, self.finite]))))


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """The spectrum of the features."""

    x: FloatArray
    density: FloatArray  # of log x; NaN where unresolved
    edges: FloatArray
    outliers: FloatArray
    mass_at_zero: float
    mass: float  # by integration, including zero
    outlier_over_d: float
    note: str = ""

    def words(self) -> list[str]:
        """Say what the drawn line does not show."""
        said = [self.note] if self.note else []
        if self.mass_at_zero > 0:
            said.append(f"{100 * self.mass_at_zero:.3g} % of the eigenvalues are 0")
        if self.edges.size and self.edges[0] < self.x[0]:
            steps = np.diff(np.log(self.x)) * (self.density[1:] + self.density[:-1]) / 2
            below = self.mass - self.mass_at_zero - np.nansum(steps)
            share = f", {100 * below:.2g} % below {self.x[0]:.1g}" if below > 5e-3 else ""
            said.append(f"the support goes down to {self.edges[0]:.2g}{share}")
        if self.outliers.size:
            said.append(f"{self.outliers.size} beside the bulk (marked)")
        if self.outlier_over_d > 0:
            said.append(f"one more eigenvalue near {self.outlier_over_d:.3g} d")
        gaps = np.isnan(self.density)
        if gaps.any():
            said.append(f"gaps: not resolved at {gaps.sum()} of {gaps.size} points")
        if self.mass < 0.995:
            said.append(f"{100 * (1 - self.mass):.2g} % of them not resolved")
        return said


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
