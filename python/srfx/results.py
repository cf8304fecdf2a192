"""What srfx hands back: solutions with their status, as labelled arrays and tables."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from srfx._validation import public
from srfx.config import version
from srfx.losses import Loss
from srfx.models import (
    FloatArray,
    Model,
    Rebuilt,
    SpikedRF,
    floor_of,
    freeze,
    group_count,
    label,
    probabilities,
    structure,
)

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


class Status(enum.IntEnum):
    """How the solution of a point ended; `Solution.status` holds these as integers.

    Examples
    --------
    >>> import srfx
    >>> sol = srfx.solve(srfx.SpikedRF(), alpha=[0.5, 1.0], lam=0.0, errors="record")
    >>> [srfx.Status(s).name for s in sol.status]
    ['CONVERGED', 'DIVERGED']
    """

    CONVERGED = 0
    MAX_ITERATIONS = 1
    DIVERGED = 2
    NON_FINITE = 3


def status_flags() -> dict[str, Any]:
    """Attributes that say what the values of a status mean, as CF has them."""
    names = " ".join(s.name.lower() for s in Status)
    return {"flag_values": np.array(list(Status), dtype=np.int8), "flag_meanings": names}


#: What `Solution` holds for each point, with a line on each.
OBSERVABLES: dict[str, str] = {
    "test_error": "noise-free test error",
    "train_error": "training error, without the penalty",
    "m": "coefficient of the mean feature mu0",
    "theta": "coefficient of the feature k mu1",
    "psi": "overlap with the target's direction orthogonal to the spike",
    "q1": "q1, overlap of the readout in the bulk covariance",
    "q2": "q2 = |a|^2/p, squared norm of the readout",
    "v1": "V1 = <D/S>",
    "v2": "V2 = <1/S>",
    "residual": "relative residual of the undamped system of equations",
    "quadrature_error": "estimated relative quadrature error of the coefficients",
    "status": "0 converged, 1 max_iterations, 2 diverged, 3 non_finite",
    "iterations": "Newton steps",
}

#: What it holds too where the loss is not the square or the labels are +1 and -1 (THEORY 19).
LOSS_OBSERVABLES: dict[str, str] = {
    "train_loss": "training loss, without the penalty",
    "test_loss": "loss of a test label",
    "classification_error": "share of test labels whose sign is missed",
}

#: The two of them that are errors.
ERRORS = ("test_error", "train_error")

#: Axes that the order parameters may have behind those of the points. Each has those that the model
#: has more than one of: groups of neurons, spikes, directions of the target.
OWN_AXES: dict[str, tuple[str, ...]] = {
    "m": ("group",),
    "theta": ("group", "spike"),
    "psi": ("group", "direction"),
    "q2": ("group",),
    "v2": ("group",),
    "q1": ("group", "group_"),
    "v1": ("group", "group_"),
}


def describe(model: Model, bulk: object) -> dict[str, Any]:
    """Model and bulk in plain values: attributes of labelled results."""
    return {
        "model": type(model).__name__,
        "activation": label(model.activation),
        "target": label(model.target),
        **structure(model),
        "bulk": bulk if isinstance(bulk, str) else "empirical",
        "linear_floor": floor_of(model.target),
        "srfx_version": version(),
    }


def _structure(model: Model) -> dict[str, tuple[list[str], FloatArray]]:
    """Coordinates along the axes of the order parameters: what tells their entries apart."""
    given: dict[str, tuple[tuple[str, ...], Any]] = {}
    spiked = isinstance(model, SpikedRF) and model.spikes is not None
    if group_count(model) > 1:
        given["weight"] = ("group",), probabilities(model)
        given |= {} if spiked else {"readout": (("group",), model.readout)}
    if isinstance(model, SpikedRF) and spiked:
        given["spikes"] = ("group", "spike"), model.spikes
        given["alignment"] = ("direction", "spike"), model.alignment
        given |= {"variance": (("group",), model.variances)} if model.variances else {}
    elif isinstance(model, SpikedRF) and model.directions > 1:
        given["gamma"] = ("direction",), model.gamma
    out = {}
    for name, (dims, value) in given.items():
        values = np.asarray(value, dtype=np.float64)
        long = [dim for dim, n in zip(dims, values.shape, strict=True) if n > 1]
        out[name] = (long, values.squeeze())
    return out


def dimensions(
    arguments: Mapping[str, float | FloatArray], shape: tuple[int, ...]
) -> tuple[list[str], dict[str, tuple[list[str], FloatArray]]]:
    """Name of each axis, and the coordinates: name -> (its axes, its values along them).

    An axis along which exactly one input varies, and that input along no other, bears its name. Any
    other axis i is ``dim_i``, and the inputs that vary along it are coordinates on it.
    """
    ndim = len(shape)
    axes: dict[str, list[int]] = {}
    for name, value in arguments.items():
        own = np.shape(value)
        offset = ndim - len(own)
        axes[name] = [offset + i for i, n in enumerate(own) if n != 1 or shape[offset + i] == 1]
    dims = []
    for i in range(ndim):
        owners = [name for name in axes if i in axes[name]]
        alone = len(owners) == 1 and axes[owners[0]] == [i]
        dims.append(owners[0] if alone else f"dim_{i}")
    coordinates = {}
    for name, value in arguments.items():
        kept = [n for i, n in enumerate(shape) if i in axes[name]]
        values = np.asarray(value, dtype=np.float64).reshape(kept)
        coordinates[name] = ([dims[i] for i in axes[name]], values)
    return dims, coordinates


class Arguments(dict[str, Any]):
    """A read-only dict, which unlike a mapping proxy can be copied and pickled."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("the arguments of a Solution are read-only")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Solution(Rebuilt):
    """Solutions of the asymptotic equations, one for each point.

    Every array has the shape of the model's numeric fields, alpha, lam and d broadcast together;
    for scalar inputs the entries are plain floats. All quantities are dimensionless; order
    parameters follow the unit-bulk convention of THEORY section 3. Points that did not converge
    hold NaN and say why in `status`.

    With K > 1 groups of neurons, m, theta, psi, q2 and v2 have one more axis of length K, and q1
    and v1 two (THEORY section 7), in the order of ``model.readout`` or of the rows of
    ``model.spikes``. With several spikes theta has an axis of them last; with a target of several
    directions psi has one of these (THEORY section 13).

    Attributes
    ----------
    model : SpikedRF, OneStep or MultiStep
        The model solved.
    bulk : str
        How the bulk of the weights was treated: ``"isotropic"``, ``"one_step"`` or ``"empirical"``.
    arguments : mapping
        Numeric inputs by name, each at its own shape; `inputs` has them broadcast. ``d = inf``
        stands for the limit ``d=None``.
    test_error, train_error : float or array
        Noise-free test error ``E (sigma* - f)^2``; training error (with label noise, without the
        penalty).
    m, theta, psi, q1, q2, v1, v2 : float or array
        Order parameters of THEORY sections 3, 4 and 7; the sum of q2 over groups is ``|a|^2/p``. At
        ``lam = 0`` below the interpolation threshold ``v1 = v2 = inf``.
    residual : float or array
        Relative residual of the whole undamped system at the solution.
    quadrature_error : float or array
        Estimated relative error of the quadrature.
    status : Status or int8 array
        See `Status`.
    iterations : int or int32 array
        Newton steps taken.
    weights : EmpiricalBulk or None
        The given weights, if ``bulk`` is ``"empirical"``.
    loss : str, Huber or Quantile
        The loss that the readout was fitted with.
    losses : mapping
        By name, where the loss is not the square or labels are +1 and -1: `train_loss`, `test_loss`
        and, of such labels, `classification_error`.

    Notes
    -----
    With another loss than the square ``train_error`` and ``test_error`` are mean squared errors
    all the same. With labels of +1 and -1 both compare the output with the label.

    Examples
    --------
    >>> import srfx
    >>> sol = srfx.solve(srfx.SpikedRF(), alpha=[0.5, 1.5], lam=0.1)
    >>> sol.test_error.round(6)
    array([0.03787 , 0.034493])
    >>> sol
    <Solution of SpikedRF tanh -> sin, shape (2,): 2/2 converged, test_error 0.0344932 to 0.0378698>
    """

    model: Model
    bulk: str
    arguments: Mapping[str, float | FloatArray] = dataclasses.field(repr=False)
    test_error: Any
    train_error: Any
    m: Any
    theta: Any
    psi: Any
    q1: Any
    q2: Any
    v1: Any
    v2: Any
    residual: Any
    quadrature_error: Any
    status: Any
    iterations: Any
    weights: Any = dataclasses.field(default=None, repr=False)
    loss: Loss = "square"
    losses: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", Arguments(self.arguments))
        object.__setattr__(self, "losses", Arguments(self.losses))
        freeze(*self.arguments.values(), *self.losses.values())
        freeze(*(getattr(self, name) for name in OBSERVABLES))

    @property
    def observables(self) -> dict[str, str]:
        """What it holds for each point, with a line on each."""
        return OBSERVABLES | {name: LOSS_OBSERVABLES[name] for name in self.losses}

    @property
    def train_loss(self) -> Any:
        """Training loss, without the penalty; of ridge regression ``train_error``."""
        return self.losses.get("train_loss", self.train_error)

    @property
    def test_loss(self) -> Any:
        """Loss of a test label, its noise included; infinite for the maximum margin."""
        if "test_loss" in self.losses:
            return self.losses["test_loss"]
        return self.test_error + self.arguments["noise"]

    @property
    def classification_error(self) -> Any:
        """Share of test labels of +1 and -1 whose sign the output misses."""
        if "classification_error" in self.losses:
            return self.losses["classification_error"]
        raise AttributeError(
            "classification_error is known for labels of +1 and -1 alone; this is a solution of a "
            "model with labels='real': give the model labels='sign' or labels='logit'"
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of every result."""
        return np.shape(self.status)

    @property
    def size(self) -> int:
        """Number of points."""
        return int(np.size(self.status))

    @property
    def success(self) -> Any:
        """True where the point converged: bool, or a boolean array."""
        return self.status == Status.CONVERGED

    @property
    def inputs(self) -> dict[str, FloatArray]:
        """Numeric inputs by name, each a read-only view broadcast to `shape`."""
        return {name: np.broadcast_to(x, self.shape) for name, x in self.arguments.items()}

    @public
    def at(self, index: int) -> dict[str, float]:
        """Return the inputs of one point, by its position in C order."""
        where = np.unravel_index(index, self.shape)
        return {name: float(values[where]) for name, values in self.inputs.items()}

    def __repr__(self) -> str:
        model = self.model
        what = f"{type(model).__name__} {label(model.activation)} -> {label(model.target)}"
        if not self.shape:
            if not self.success:
                return f"<Solution of {what}: {Status(self.status).name.lower()}>"
            errors = f"test_error {self.test_error:.10g}, train_error {self.train_error:.10g}"
            for name, value in self.losses.items():
                errors += f", {name} {value:.10g}"
            return f"<Solution of {what}: {errors}, {Status(self.status).name.lower()}>"
        good = self.success
        text = f"<Solution of {what}, shape {self.shape}: {good.sum()}/{self.size} converged"
        if good.any():
            errors = self.test_error[good]
            text += f", test_error {errors.min():.6g} to {errors.max():.6g}"
        return text + ">"

    def _own_axes(self, name: str) -> dict[str, int]:
        """Axes of an observable behind those of the points, and their lengths."""
        lengths = np.shape(getattr(self, name))[len(self.shape) :]
        grouped = group_count(self.model) > 1
        axes = [axis for axis in OWN_AXES.get(name, ()) if grouped or "group" not in axis]
        return dict(zip(axes, lengths, strict=False))

    @public
    def gradient(
        self,
        name: str,
        *,
        of: str = "test_error",
        n_threads: int | None = None,
    ) -> Any:
        """Differentiate an error in a parameter.

        By implicit differentiation, exactly: the fixed-point equations are differentiated at the
        solution, and the coefficients under their integrals (docs/theory.md section 11). For a
        OneStep the map to the spiked model is differentiated too, so that ``"noise"`` counts what
        label noise does to the gradient step. What the equations are not differentiated in comes
        from differences of eighth order between solutions, to some 1e-9: the steps of a MultiStep
        and its noise; several readout values with ``bulk="one_step"``, or with a target of several
        directions in alpha0 and noise; other losses, and labels, but in lam and alpha.

        Parameters
        ----------
        name : str
            ``"lam"``, ``"alpha"`` or a numeric field of the model: for SpikedRF ``"r"``, ``"c"``,
            ``"gamma"``, ``"beta"``, ``"noise"``; for OneStep ``"eta"``, ``"alpha0"``, ``"beta"``,
            ``"noise"``; for MultiStep ``"eta1"``, ``"alpha0_1"`` and so on. The others are held
            fixed; alpha and beta are independent. With several readout values r, c, eta and alpha0
            move all groups together. Given weights (`EmpiricalBulk`) leave ``"lam"``, ``"alpha"``
            and ``"noise"``.
        of : {"test_error", "train_error"}
            What to differentiate. With another loss than the square, or labels of +1 and -1, one of
            "train_loss", "test_loss", "test_error" and, of such labels, "classification_error".
        n_threads : int, optional
            Threads, as in `solve`.

        Returns
        -------
        float or array
            Of shape `shape`; NaN where the point did not converge, and where the error jumps: with
            ``d=None``, an activation without mean and a target that a small spike helps to fit, at
            ``r = 0`` and ``eta = 0``. At ``|gamma| = 1`` and ``noise = 0``, ends of their ranges,
            the derivative from the inside.

        Raises
        ------
        ValueError
            An unknown name, ``alpha0 = 0`` for a derivative in alpha0, or with given weights a
            name that they supersede.
        NotImplementedError
            ``lam = 0`` below the interpolation threshold; a target with kinks for a derivative in
            gamma at ``|gamma| = 1``.

        Examples
        --------
        >>> import srfx
        >>> sol = srfx.solve(srfx.OneStep(eta=2), alpha=[0.5, 2], lam=0.1)
        >>> sol.gradient("eta").round(4).shape
        (2,)
        >>> bool((sol.gradient("alpha") < 0).all())
        True
        """
        from srfx.gradient import gradient

        return gradient(self, [name], [of], n_threads)[of, name]

    @public
    def to_xarray(self) -> xr.Dataset:
        """Everything as a labelled Dataset: results as variables, inputs as coordinates.

        An axis along which exactly one input varies is named after it; any other axis i is
        ``dim_i``, with the inputs varying along it as non-index coordinates. Scalar inputs are
        scalar coordinates; ``d = inf`` stands for the limit ``d=None``. Group axes are ``group``
        and ``group_``, with the coordinates ``readout`` and ``weight``; those of spikes and of
        directions ``spike`` and ``direction``, with ``spikes``, ``alignment`` and ``variance``, or
        ``gamma`` of one spike. Attributes describe the model, with the linear floor of its target.

        Returns
        -------
        xarray.Dataset
            It can be written by ``.to_netcdf`` and drawn by `srfx.plot`.

        Examples
        --------
        >>> import srfx
        >>> ds = srfx.solve(srfx.SpikedRF(), alpha=[1, 2], lam=[[0.01], [0.1], [1]]).to_xarray()
        >>> dict(ds.sizes)
        {'lam': 3, 'alpha': 2}
        >>> print(f"{ds.test_error.sel(alpha=2, lam=0.1).item():.6f}")
        0.033018
        """
        import xarray as xr

        dims, coordinates = dimensions(self.arguments, self.shape)
        coordinates |= _structure(self.model)
        variables = {}
        for name, meaning in self.observables.items():
            attrs: dict[str, Any] = {"long_name": meaning, "units": "1"}
            if name == "status":
                attrs |= status_flags()
            values = np.asarray(getattr(self, name), dtype=np.int8 if name == "status" else None)
            variables[name] = ([*dims, *self._own_axes(name)], values, attrs)
        return xr.Dataset(variables, coords=coordinates, attrs=self.describe())

    def describe(self) -> dict[str, Any]:
        """Return the model and the setting in plain values: the attributes of `to_xarray`."""
        loss = self.loss if isinstance(self.loss, str) else repr(self.loss)
        named = {} if loss == "square" else {"loss": loss}
        return describe(self.model, self.bulk) | named | {"units": "dimensionless"}

    @public
    def to_dataframe(self) -> pd.DataFrame:
        """Everything as a long table: one row for each point, in C order.

        Returns
        -------
        pandas.DataFrame
            Columns: the inputs, then the results. ``d = inf`` stands for the limit ``d=None``. Of
            several groups the order parameters are columns ``m_1``, ``m_2``, ..., ``q1_1_1``,
            ``q1_1_2``, ... (symmetric matrices once); theta of the second spike in the first group
            is ``theta_1_2``, with a single group ``theta_2``.

        Examples
        --------
        >>> import srfx
        >>> frame = srfx.solve(srfx.SpikedRF(), alpha=[1, 2], lam=[[0.01], [0.1]]).to_dataframe()
        >>> frame[["lam", "alpha", "test_error"]].round(6)
            lam  alpha  test_error
        0  0.01    1.0    0.083250
        1  0.01    2.0    0.043117
        2  0.10    1.0    0.036449
        3  0.10    2.0    0.033018
        """
        import pandas as pd

        columns: dict[str, NDArray[Any]] = {name: x.ravel() for name, x in self.inputs.items()}
        for name in self.observables:
            columns |= self.columns(name)
        return pd.DataFrame(columns)

    @public
    def columns(self, name: str) -> dict[str, NDArray[Any]]:
        """One observable as vectors over the points, by column name: one for each group."""
        axes = self._own_axes(name)
        flat = np.asarray(getattr(self, name)).reshape(self.size, math.prod(axes.values()))
        return {
            "_".join([name, *(str(i + 1) for i in index)]): flat[:, place]
            for place, index in enumerate(np.ndindex(*axes.values()))
            if "group_" not in axes or index[0] <= index[1]
        }


class ConvergenceError(RuntimeError):
    """At least one point did not converge.

    Attributes
    ----------
    solution : Solution
        Everything that was computed: converged points hold their values, the others NaN and their
        status.

    Examples
    --------
    >>> import srfx
    >>> try:
    ...     srfx.solve(srfx.SpikedRF(), alpha=[0.5, 1.0], lam=0.0)
    ... except srfx.ConvergenceError as error:
    ...     print(error.solution.success)
    [ True False]
    """

    def __init__(self, message: str, solution: Solution) -> None:
        super().__init__(message)
        self.solution = solution

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.solution), vars(self)  # notes among them
