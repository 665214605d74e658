"""Colours that colour-blind readers can tell apart (Okabe and Ito, 2008), on light and on dark backgrounds."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.inspection.activity import Activity

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Palette(NamedTuple):
    """What the displays draw with."""

    excitatory: str
    inhibitory: str
    neutral: str
    series: tuple[str, ...]  # for curves, in turn
    sequential: str  # colour map for magnitudes


LIGHT = Palette(
    "#D55E00", "#0072B2", "#595959", ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D00", "#000000"), "cividis"
)
DARK = Palette(
    "#E69F00", "#56B4E9", "#BFBFBF", ("#56B4E9", "#E69F00", "#2FCFA3", "#E8A5CA", "#F0E442", "#FFFFFF"), "cividis"
)


def palette(ax: "Axes | None" = None) -> Palette:
    """The colours for the background of these axes, or of those that would be made now."""
    import matplotlib as mpl
    from matplotlib.colors import to_rgb

    background = ax.get_facecolor() if ax is not None else mpl.rcParams["axes.facecolor"]
    red, green, blue = to_rgb(background)
    return DARK if 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.5 else LIGHT


def groups_of(activity: Activity, colors: Palette, *, alone: str) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """Name, colour and members (neurons,) of each group; all neurons are ``alone`` where they have no sign."""
    if activity.excitatory is None:
        return [(alone, colors.neutral, np.ones(activity.fan_out.size, np.bool_))]
    return [
        ("excitatory", colors.excitatory, activity.excitatory),
        ("inhibitory", colors.inhibitory, ~activity.excitatory),
    ]
