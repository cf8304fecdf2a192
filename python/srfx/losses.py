"""The losses that a readout is fitted with: their names, their numbers, and what each allows."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from srfx import _validation as check

FloatArray: TypeAlias = NDArray[np.float64]


def _fraction(name: str, value: object) -> float | FloatArray:
    allowed = "between 0 and 1, neither included"
    return check.number_or_array(name, value, allowed, lambda x: (x > 0) & (x < 1))


@check.public
@dataclasses.dataclass(frozen=True)
class Huber:
    """Huber's loss: ``e^2`` up to ``|e| = delta``, beyond it ``2 delta |e| - delta^2``.

    Parameters
    ----------
    delta : float
        Where the parabola goes over into a line, > 0; e is the label minus the prediction.

    Raises
    ------
    TypeError, ValueError
        ``delta`` is not a positive number.

    References
    ----------
    THEORY section 19.

    Examples
    --------
    >>> import srfx
    >>> srfx.Huber(0.5)
    Huber(delta=0.5)
    """

    delta: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "delta", check.single("delta", self.delta, check.positive))


@check.public
@dataclasses.dataclass(frozen=True)
class Quantile:
    """The pinball loss: ``tau e`` for ``e > 0``, ``(tau - 1) e`` below.

    Its best prediction is the quantile tau of the label; tau = 1/2 is half the absolute loss.

    Parameters
    ----------
    tau : float
        Between 0 and 1, neither included; e is the label minus the prediction.

    Raises
    ------
    TypeError, ValueError
        ``tau`` is not a number between 0 and 1.

    References
    ----------
    THEORY section 19.

    Examples
    --------
    >>> import srfx
    >>> srfx.Quantile(0.9)
    Quantile(tau=0.9)
    """

    tau: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "tau", check.single("tau", self.tau, _fraction))


Loss: TypeAlias = str | Huber | Quantile

#: What labels may be: real numbers, or +1 and -1 by the sign of the noisy target or by a logit.
LABELS = ("real", "sign", "logit")


class Piece(NamedTuple):
    """max over lo <= g <= hi of 2 g e - kappa g^2: a piecewise quadratic loss (THEORY 19)."""

    kappa: float
    lo: float
    hi: float


_PIECES = {
    "square": Piece(1, -math.inf, math.inf),
    "absolute": Piece(0, -0.5, 0.5),
    "hinge": Piece(0, 0, 0.5),
    "squared_hinge": Piece(1, 0, math.inf),
    "max_margin": Piece(0, 0, math.inf),
}

#: Losses that have a name; the others are `Huber` and `Quantile`.
LOSS_NAMES = ("square", "logistic", "hinge", "squared_hinge", "absolute", "max_margin")

#: Losses of labels of +1 and -1 alone, which go on falling as y f grows.
CLASSIFICATION = ("logistic", "hinge", "squared_hinge", "max_margin")


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A checked loss as the core knows it.

    ``kind`` is "square", "logistic", "max_margin" or "piecewise"; all but the logistic have the
    numbers of `Piece`. With ``margin`` the loss is one of e = 1 - y f, else of e = y - f.
    """

    loss: Loss
    kind: str
    kappa: float
    lo: float
    hi: float
    margin: bool

    @property
    def label(self) -> str:
        """What titles and attributes call it."""
        return loss_name(self.loss)


def loss_name(loss: Loss) -> str:
    """Name a loss, for titles and attributes."""
    return loss if isinstance(loss, str) else repr(loss)


def as_loss(value: object) -> Loss:
    """Return a known name, a `Huber` or a `Quantile`."""
    if isinstance(value, (Huber, Quantile)):
        return value
    if not isinstance(value, str) or value.lower() in ("huber", "quantile"):
        names = ", ".join(repr(name) for name in LOSS_NAMES)
        raise (ValueError if isinstance(value, str) else TypeError)(
            f"loss must be one of {names}, an srfx.Huber(delta) or an srfx.Quantile(tau); "
            f"got {value!r}"
        )
    return check.one_of("loss", value, LOSS_NAMES)


def chosen(loss: object, labels: str, lam: object) -> Chosen:
    """Check a loss beside the labels and the penalties it is to be used with.

    Raises
    ------
    TypeError, ValueError
        The loss is unknown; it needs labels of +1 and -1 where those of the model are real, or has
        no meaning for them; lam holds 0 with another loss than the square.
    """
    loss = as_loss(loss)
    if loss in CLASSIFICATION and labels == "real":
        raise ValueError(
            f"loss={loss!r} needs labels of +1 and -1; got a model with labels='real': give the "
            "model labels='sign' or labels='logit', or take loss='square', 'absolute', "
            "srfx.Huber(delta) or srfx.Quantile(tau)"
        )
    if isinstance(loss, Quantile) and labels != "real":
        raise ValueError(
            f"loss must not be {loss!r} with labels={labels!r}: a quantile of +1 and -1 is one of "
            "the two; take labels='real', or a loss for labels such as 'logistic' or 'hinge'"
        )
    if loss != "square" and np.any(np.asarray(lam) == 0):
        raise ValueError(
            f"lam must be > 0 with loss={loss_name(loss)!r}; got 0: the ridgeless limit is known "
            "for loss='square' alone"
        )
    if isinstance(loss, Huber):
        # What bends beyond the range of doubles is the square.
        bend = loss.delta if loss.delta < 1e100 else math.inf
        piece = Piece(1, -bend, bend)
    elif isinstance(loss, Quantile):
        piece = Piece(0, -(1 - loss.tau) / 2, loss.tau / 2)
    else:
        piece = _PIECES.get(loss, Piece(math.nan, math.nan, math.nan))
    kind = loss if loss in ("square", "logistic", "max_margin") else "piecewise"
    return Chosen(loss, kind, *piece, margin=labels != "real")
