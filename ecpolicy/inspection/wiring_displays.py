"""Pictures of a network's wiring, as wide as a paper's column: blocks, degrees, motifs, distances, seeds, lesions."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecpolicy.across_seeds import Stability
from ecpolicy.constraints import Choice
from ecpolicy.inspection.lesions import Lesions
from ecpolicy.inspection.palette import palette
from ecpolicy.policies.ec import EvolvingConnectivityPolicy
from ecpolicy.triads import TriadCensus, triad_edges
from ecpolicy.wiring import Blocks, Degrees, DistanceProfile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.4  # inches
MOST_BARS = 40  # lesions that have a bar and a name each


def column_axes(ax: "Axes | None", height: float) -> "Axes":
    """These axes, or those of a new figure of a column's width."""
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.figure(figsize=(COLUMN, height), layout="constrained").subplots()


class BlockDisplay:
    """Density of the connections between every two groups, as a matrix with numbers in it.

    Parameters
    ----------
    blocks : Blocks
        As ``connectome.by_block()`` returns them.

    Attributes
    ----------
    ax_, figure_
    """

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    @classmethod
    def from_estimator(cls, policy: EvolvingConnectivityPolicy, *, ax: "Axes | None" = None) -> Self:
        """Draw a fitted policy's; neurons are grouped by their types."""
        return cls(policy.connectome_.by_block()).plot(ax=ax)

    def plot(self, *, value: str = "density", ax: "Axes | None" = None) -> Self:
        """Draw.

        Parameters
        ----------
        value : {"density", "mean_probability"}
        ax : matplotlib axes, optional
        """
        Choice(("density", "mean_probability"))("value", value)
        blocks = self.blocks
        pre, post = ([*dict.fromkeys(ends)] for ends in (blocks.pre, blocks.post))
        ax = column_axes(ax, 0.9 + 0.3 * len(pre))
        matrix = np.full((len(pre), len(post)), np.nan)
        for source, target, number in zip(blocks.pre, blocks.post, getattr(blocks, value), strict=True):
            matrix[pre.index(source), post.index(target)] = number
        image = ax.imshow(matrix, vmin=0, vmax=1, cmap=palette(ax).sequential, aspect="auto")
        for (row, column), number in np.ndenumerate(matrix):
            if np.isfinite(number):
                ink = "black" if number > 0.5 else "white"
                ax.text(column, row, f"{number:.2f}", ha="center", va="center", color=ink, fontsize="small")
        ax.set_xticks(range(len(post)), post)
        ax.set_yticks(range(len(pre)), pre)
        ax.tick_params(length=0, labelsize="small")
        ax.set(xlabel="Postsynaptic", ylabel="Presynaptic")
        ax.figure.colorbar(image, ax=ax, label=value.replace("_", " ").capitalize(), pad=0.02)
        self.ax_, self.figure_ = ax, ax.figure
        return self


class DegreeDisplay:
    """Distribution of incoming and outgoing recurrent connections, excitatory and inhibitory neurons apart.

    Parameters
    ----------
    degrees : Degrees
    excitatory : ndarray of bool, shape (neurons,)

    Attributes
    ----------
    axes_ : ndarray of matplotlib axes, shape (2,)
    figure_
    """

    def __init__(self, degrees: Degrees, excitatory: NDArray[np.bool_]) -> None:
        self.degrees = degrees
        self.excitatory = excitatory

    @classmethod
    def from_estimator(cls, policy: EvolvingConnectivityPolicy, *, figure: "Figure | None" = None) -> Self:
        """Draw a fitted policy's."""
        wiring = policy.connectome_
        return cls(wiring.degrees(), wiring.excitatory).plot(figure=figure)

    def plot(self, *, bins: int = 15, figure: "Figure | None" = None) -> Self:
        """Draw, in an empty figure or a new one."""
        from matplotlib import pyplot as plt

        figure = plt.figure(figsize=(COLUMN, 1.9), layout="constrained") if figure is None else figure
        axes = figure.subplots(1, 2, sharey=True)
        colors = palette(axes[0])
        kinds = (("E", self.excitatory, colors.excitatory, "-"), ("I", ~self.excitatory, colors.inhibitory, "--"))
        for ax, way in zip(axes, ("incoming", "outgoing"), strict=True):
            numbers = getattr(self.degrees, way)
            edges = np.linspace(numbers.min(), max(numbers.max(), numbers.min() + 1), bins + 1)
            for name, members, color, style in kinds:
                if members.any():
                    ax.hist(numbers[members], edges, histtype="step", color=color, linestyle=style, label=name)
            ax.set_xlabel(f"{way.capitalize()} connections", fontsize="small")
            ax.tick_params(labelsize="small")
        axes[0].set_ylabel("Neurons", fontsize="small")
        axes[1].legend(frameon=False, fontsize="small", title="Neuron", title_fontsize="small")
        self.axes_, self.figure_ = axes, figure
        return self


class MotifDisplay:
    """z-scores of the 13 triads that hold together, each drawn below its bar.

    Parameters
    ----------
    census : TriadCensus
        As ``connectome.triads()`` returns it, with random graphs.

    Attributes
    ----------
    ax_, figure_
    """

    def __init__(self, census: TriadCensus) -> None:
        self.census = census

    @classmethod
    def from_estimator(
        cls,
        policy: EvolvingConnectivityPolicy,
        *,
        n_random: int = 100,
        seed: int = 0,
        keep: str = "block_densities",
        ax: "Axes | None" = None,
    ) -> Self:
        """Draw a fitted policy's; the parameters are those of ``Connectome.triads``."""
        return cls(policy.connectome_.triads(n_random=n_random, seed=seed, keep=keep)).plot(ax=ax)

    def plot(self, *, ax: "Axes | None" = None) -> Self:
        """Draw; a triad that the random graphs never vary in has no bar."""
        ax = column_axes(ax, 2.3)
        colors, census = palette(ax), self.census
        shown = [i for i, name in enumerate(census.names) if len({e for edge in triad_edges(name) for e in edge}) == 3]
        scores = census.z_scores[shown]
        ax.bar(np.arange(len(shown)), np.nan_to_num(scores), color=colors.series[0], width=0.7)
        ax.axhspan(-2, 2, color=colors.neutral, alpha=0.15, linewidth=0)
        ax.axhline(0, color=colors.neutral, linewidth=0.6)
        ax.set_xticks([])
        ax.set_xlim(-0.6, len(shown) - 0.4)
        ax.set_ylabel(f"z-score against {census.n_random}\nrandom graphs of the\nsame {census.kept}", fontsize="small")
        ax.tick_params(labelsize="small")
        below = ax.inset_axes((0, -0.34, 1, 0.3))
        for place, index in enumerate(shown):
            self._draw(below, place, census.names[index], colors.neutral)
        below.set(xlim=ax.get_xlim(), ylim=(-0.75, 0.75))
        below.axis("off")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw(self, ax: "Axes", place: int, name: str, color: str) -> None:
        corners, edges = np.array([[place, 0.55], [place - 0.3, -0.15], [place + 0.3, -0.15]]), triad_edges(name)
        for i, j in edges:
            if i < j or (j, i) not in edges:
                ends = "<|-|>" if (j, i) in edges else "-|>"
                arrow = {"arrowstyle": f"{ends},head_width=0.1,head_length=0.15", "color": color, "linewidth": 0.5}
                arrow |= {"shrinkA": 1.2, "shrinkB": 1.2}
                ax.annotate("", corners[j], corners[i], arrowprops=arrow, annotation_clip=False)
        x, y = corners.T
        ax.plot(x, y, "o", color=color, markersize=1.8, clip_on=False)
        ax.text(place, -0.4, name, ha="center", va="top", fontsize=5, color=color)


class DistanceDisplay:
    """Density of recurrent connections, and their mean probability, over the distance of the neurons.

    Parameters
    ----------
    profile : DistanceProfile
        As ``connectome.by_distance(positions)`` returns it.

    Attributes
    ----------
    ax_, figure_
    """

    def __init__(self, profile: DistanceProfile) -> None:
        self.profile = profile

    @classmethod
    def from_estimator(
        cls, policy: EvolvingConnectivityPolicy, positions: ArrayLike, *, bins: int = 10, ax: "Axes | None" = None
    ) -> Self:
        """Draw a fitted policy's; the parameters are those of ``Connectome.by_distance``."""
        return cls(policy.connectome_.by_distance(positions, bins=bins)).plot(ax=ax)

    def plot(self, *, ax: "Axes | None" = None) -> Self:
        """Draw."""
        ax = column_axes(ax, 2.1)
        colors, profile = palette(ax), self.profile
        middle = (profile.edges[:-1] + profile.edges[1:]) / 2
        ax.plot(middle, profile.density, "o-", color=colors.series[0], markersize=3, label="present")
        ax.plot(
            middle, profile.mean_probability, "s--", color=colors.series[1], markersize=3, mfc="none",
            label="mean probability",
        )  # fmt: skip
        ax.set(xlabel="Distance", ylabel="Share of pairs", xlim=(0, profile.edges[-1]), ylim=(0, None))
        ax.legend(frameon=False, fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self


class StabilityDisplay:
    """Connections by the number of trainings that they are present in, against chance.

    Parameters
    ----------
    stability : Stability
        As :func:`ecpolicy.across_seeds.stability` returns it.

    Attributes
    ----------
    ax_, figure_
    """

    def __init__(self, stability: Stability) -> None:
        self.stability = stability

    def plot(self, *, ax: "Axes | None" = None) -> Self:
        """Draw."""
        ax = column_axes(ax, 2.1)
        colors, found = palette(ax), self.stability
        runs = np.arange(found.connections.size)
        ax.bar(runs, found.connections, color=colors.series[0], alpha=0.6, label="trainings", width=0.8)
        shown = found.by_chance >= 0.5  # of a connection
        ax.plot(
            runs[shown],
            found.by_chance[shown],
            "o--",
            color=colors.neutral,
            markersize=3,
            linewidth=0.9,
            label="chance",
        )
        highest = max(found.connections.max(), found.by_chance.max())
        ax.set(xlabel="Trainings with the connection", ylabel="Connections", yscale="log", ylim=(0.5, 8 * highest))
        ax.legend(frameon=False, fontsize="small", loc="upper center", ncols=2)  # in the room above the bars
        self.ax_, self.figure_ = ax, ax.figure
        return self


class LesionDisplay:
    """Mean return after each lesion: bars with names, or of many lesions the returns in order.

    Parameters
    ----------
    lesions : Lesions
        As :func:`ecpolicy.inspection.lesion_returns` returns them.

    Attributes
    ----------
    ax_, figure_
    """

    def __init__(self, lesions: Lesions) -> None:
        self.lesions = lesions

    def plot(self, *, ax: "Axes | None" = None) -> Self:
        """Draw; lines are standard deviations over episodes, the dashed one is the return without a lesion."""
        found = self.lesions
        means, deviations = found.returns.mean(axis=1), found.returns.std(axis=1)
        few = means.size - 1 <= MOST_BARS
        ax = column_axes(ax, 0.7 + 0.17 * means.size if few else 2.1)
        colors = palette(ax)
        style: dict[str, Any] = {"color": colors.neutral, "linestyle": "--", "linewidth": 0.8}
        if few:
            place = np.arange(means.size - 1)
            error = {"elinewidth": 0.8, "ecolor": colors.neutral}
            ax.barh(
                place, means[1:], xerr=deviations[1:], color=colors.series[0], alpha=0.6, error_kw=error, height=0.7
            )
            ax.axvline(means[0], **style)
            points = ax.get_window_extent().height / ax.figure.dpi * 72 / place.size  # that a name has
            ax.set_yticks(place, found.names[1:], fontsize=float(np.clip(0.9 * points, 4, 8)))
            ax.invert_yaxis()
            ax.set_xlabel("Return without it")
        else:
            ax.plot(np.sort(means[1:]), ".", color=colors.series[0], markersize=3)
            ax.axhline(means[0], **style)
            ax.set(xlabel="Lesions, the costliest first", ylabel="Mean return")
        self.ax_, self.figure_ = ax, ax.figure
        return self
