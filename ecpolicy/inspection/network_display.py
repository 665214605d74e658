"""NetworkDisplay: the network itself, nodes and connections."""

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecpolicy.connectome import Connectome
from ecpolicy.inspection.palette import palette
from ecpolicy.inspection.wiring_displays import COLUMN, column_axes
from ecpolicy.policies.ec import EvolvingConnectivityPolicy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = 250  # connections that are drawn in full; of more, each is as much lighter
MOST = 1500  # connections that are drawn: more are a surface


class NetworkDisplay:
    """Observations at the left, neurons in the middle, outputs at the right, and the connections between them.

    Neurons are on a ring, group by group, or at positions of your own. Connections have the colour of their sign; the
    more there are, the lighter each is. Of more than 1,500, as many are drawn, picked at random, and the picture says
    so.

    Parameters
    ----------
    connectome : Connectome
    positions : array, shape (neurons, 2), optional

    Attributes
    ----------
    ax_, figure_
    """

    def __init__(self, connectome: Connectome, *, positions: ArrayLike | None = None) -> None:
        self.connectome = connectome
        self.positions = positions

    @classmethod
    def from_estimator(
        cls,
        policy: EvolvingConnectivityPolicy,
        *,
        positions: ArrayLike | None = None,
        ax: "Axes | None" = None,
    ) -> Self:
        """Draw a fitted policy's; neurons are grouped by their types."""
        return cls(policy.connectome_, positions=positions).plot(ax=ax)

    def plot(self, *, ax: "Axes | None" = None) -> Self:
        """Draw."""
        from matplotlib.collections import LineCollection

        ax = column_axes(ax, 0.62 * COLUMN)
        colors, wiring = palette(ax), self.connectome
        places, signs = self._places(), wiring.signs
        ends = np.stack(wiring.to_sparse().nonzero())  # (2, connections)
        if (total := ends.shape[1]) > MOST:
            ends = ends[:, np.random.default_rng(0).choice(total, MOST, replace=False)]
            note = f"{MOST:,} of {total:,} connections"
            ax.text(0, -1.3, note, ha="center", va="top", fontsize="x-small", color=colors.neutral)
        pre, post = ends
        for sign, color, style in ((1, colors.excitatory, "-"), (-1, colors.inhibitory, (0, (2, 1)))):
            chosen = signs[pre] == sign
            lines = np.stack([places[pre[chosen]], places[post[chosen]]], axis=1)
            alpha = float(np.clip(INK / max(len(lines), 1), 0.01, 0.8))
            ax.add_collection(
                LineCollection(lines, colors=color, linewidths=0.4, linestyles=style, alpha=alpha, rasterized=True)  # type: ignore[arg-type]
            )
        looks = {1: ("o", colors.excitatory), -1: ("s", colors.inhibitory), 0: ("D", colors.neutral)}
        size = float(np.clip(120 / np.sqrt(signs.size), 2, 20))
        for sign, (marker, color) in looks.items():
            chosen = signs == sign
            x, y = places[chosen].T
            ax.scatter(x, y, s=size, marker=marker, color=color, linewidths=0, zorder=3)
        self._name(ax, places, colors.neutral)
        ax.set_aspect("equal")
        ax.axis("off")
        ax.autoscale_view()
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _places(self) -> NDArray[np.float64]:
        """The place of every node, (nodes, 2)."""
        wiring = self.connectome
        n, inputs = wiring.excitatory.size, wiring.probabilities["input"].shape[0]
        outputs = wiring.probabilities["output"].shape[1]
        if self.positions is None:
            angle = np.pi / 2 - 2 * np.pi * (np.arange(n) + 0.5) / n
            neurons = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        else:
            given = np.asarray(self.positions, dtype=np.float64)
            if given.shape != (n, 2):
                raise ValueError(f"positions must have the shape ({n}, 2), got {given.shape}.")
            low, high = given.min(axis=0), given.max(axis=0)
            neurons = (2 * given - low - high) / max(float((high - low).max()), 1e-12)
        left, right = (
            np.stack([np.full(count, x), np.linspace(0.9, -0.9, count) if count > 1 else np.zeros(count)], axis=1)
            for x, count in ((-1.7, inputs), (1.7, outputs))
        )
        return np.concatenate([left, neurons, right])

    def _name(self, ax: "Axes", places: NDArray[np.float64], color: str) -> None:
        groups = self.connectome.groups
        for x, name, way in ((-1.75, "Observation\nand negative", "right"), (1.75, "Output", "left")):
            ax.text(x, 0, name, ha=way, va="center", fontsize="small", color=color, rotation=90)
        if self.positions is not None:
            return
        for group in dict.fromkeys(groups[np.abs(places[:, 0]) < 1.5].tolist()):
            middle = places[groups == group].mean(axis=0)
            along = middle / max(float(np.linalg.norm(middle)), 1e-9)
            x, y = 1.2 * along
            box = {"facecolor": ax.get_facecolor(), "alpha": 0.8, "linewidth": 0, "pad": 0.5}
            ax.text(x, y, str(group), ha="center", va="center", fontsize="small", color=color, bbox=box)
