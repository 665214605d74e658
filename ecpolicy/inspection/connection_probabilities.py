"""ConnectionProbabilityDisplay: the probability of every connection, and how their distribution changes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ecpolicy.callbacks.histogram import ProbabilityHistogram
from ecpolicy.fitting.resumption import check_resumable
from ecpolicy.inspection.palette import palette
from ecpolicy.policies.policy import BasePolicy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


BINS = 50
ORDERS = ("degree", "cluster")
NARROW = 5.0  # inches: in a figure that is less wide, matrices that share neurons share axes
Order = str | Sequence[float] | NDArray[np.floating] | None


class ConnectionProbabilityDisplay:
    """Matrices of connection probabilities and, below, their histogram or its course over the training.

    Parameters
    ----------
    probabilities : dict of str to ndarray, shape (pre, post)
    n_excitatory : int or None
        Neurons that are excitatory; they come first. The rows of the input are then the observation's numbers and
        these again with their sign changed.
    histogram : ProbabilityHistogram, optional
        What a callback of this kind counted during the training.

    Attributes
    ----------
    axes_ : ndarray of matplotlib axes
        One a matrix, then that of the histogram.
    figure_
    """

    def __init__(
        self,
        probabilities: dict[str, NDArray[np.float32]],
        *,
        n_excitatory: int | None = None,
        histogram: ProbabilityHistogram | None = None,
    ) -> None:
        self.probabilities = probabilities
        self.n_excitatory = n_excitatory
        self.histogram = histogram

    @classmethod
    def from_estimator(cls, policy: BasePolicy, *, order: Order = None, figure: "Figure | None" = None) -> Self:
        """Draw a fitted policy's probabilities and their histogram; the parameters are those of :meth:`plot`."""
        return cls.from_policy_run(policy, order=order, figure=figure)

    @classmethod
    def from_policy_run(
        cls,
        policy: BasePolicy,
        histogram: ProbabilityHistogram | None = None,
        *,
        order: Order = None,
        figure: "Figure | None" = None,
    ) -> Self:
        """Draw a fitted policy's probabilities, and the course of their histogram over its training.

        Parameters
        ----------
        policy : fitted EvolvingConnectivityPolicy
        histogram : ProbabilityHistogram, optional
            The callback that ``fit`` was given.
        order, figure
            As for :meth:`plot`.

        Raises
        ------
        NotFittedError
        TypeError
            Where the policy has weights.
        ValueError
            Where it was saved without its training state, and so without probabilities; where the histogram has no
            generation yet; where there is no such order.
        """
        check_is_fitted(policy, "_deployed")
        check_resumable(policy, "There are no probabilities to draw", " Take the file that the training saved.")
        if not hasattr(policy, "connection_probabilities_"):
            raise TypeError(f"{type(policy).__name__} has no connection probabilities; EvolvingConnectivityPolicy has.")
        excitatory = getattr(policy, "excitatory_", None)
        count = None if excitatory is None else int(excitatory.sum())
        made = cls(policy.connection_probabilities_, n_excitatory=count, histogram=histogram)
        return made.plot(order=order, figure=figure)

    def plot(self, *, order: Order = None, figure: "Figure | None" = None) -> Self:
        """Draw.

        Parameters
        ----------
        order : {"degree", "cluster"} or array of numbers, shape (neurons,), optional
            How the neurons of each group are sorted: by the expected number of their connections, the largest first;
            so that neurons with like connections stand together (Ward's clustering); or by falling numbers of your own,
            such as an activity's ``rates``. As they are in the network by default.
        figure : matplotlib figure, optional
            An empty one to draw in. Where it is less wide than 5 inches, as a paper's column is, the input's matrix
            stands above that of the recurrent connections, and the output's at its right.
        """
        from matplotlib import pyplot as plt

        matrices = self.probabilities if order is None else self._sorted(order)
        by = "" if order is None else f", by {order}" if isinstance(order, str) else ", sorted"
        figure = plt.figure(figsize=(7, 4.6), layout="constrained") if figure is None else figure
        narrow = figure.get_figwidth() < NARROW and [*matrices] == ["input", "recurrent", "output"]
        upper, lower = np.asarray(figure.subfigures(2, 1, height_ratios=[2.2 if narrow else 1.5, 1]))
        widths = [max(p.shape[1], 40) for p in matrices.values()]
        axes = (
            _joined(upper, matrices) if narrow else np.atleast_1d(upper.subplots(1, len(matrices), width_ratios=widths))
        )
        colors, image, font = palette(axes[0]), None, "small" if narrow else None
        for ax, (name, p) in zip(axes, matrices.items(), strict=True):
            image = ax.imshow(p, vmin=0, vmax=1, cmap=colors.sequential, aspect="auto", interpolation="nearest")
            ax.set_title(f"{name.capitalize()}{by if name == 'recurrent' else ''}", fontsize=font)
            for axis, line, which in ((ax.yaxis, ax.axhline, 0), (ax.xaxis, ax.axvline, 1)):
                self._name_groups(axis, line, name, p.shape, which, narrow)
            if not narrow or name == "recurrent":
                ax.set_xlabel("Postsynaptic", fontsize=font)
        axes[1 if narrow else 0].set_ylabel("Presynaptic", fontsize=font)
        bar = upper.colorbar(image, ax=axes, pad=0.01)
        bar.set_label("Probability", fontsize=font)
        if narrow:
            bar.ax.tick_params(labelsize=font)
        below = lower.subplots()
        if self.histogram is None:
            values = np.concatenate([p.ravel() for p in self.probabilities.values()])
            below.hist(values, np.linspace(0, 1, BINS + 1), color=colors.series[0])
            below.set(xlabel="Connection probability", ylabel="Connections", yscale="log", xlim=(0, 1))
        else:
            self._plot_course(below, self.histogram, colors.sequential)
        self.axes_, self.figure_ = np.array([*axes, below]), figure
        return self

    def _sorted(self, order: Any) -> dict[str, NDArray[np.float32]]:
        """The matrices with the neurons of each group in this order."""
        if not {"input", "recurrent", "output"} <= set(self.probabilities):
            raise ValueError(f"There is an order for input, recurrent and output; got {list(self.probabilities)}.")
        into, between, out = (self.probabilities[name] for name in ("input", "recurrent", "output"))
        n = between.shape[0]
        if isinstance(order, str) and order not in ORDERS:
            raise ValueError(f"order must be one of {', '.join(ORDERS)}, an array of numbers or None; got {order!r}.")
        profiles = np.concatenate([into.T, between, between.T, out], axis=1)  # (neurons, partners)
        keys = profiles.sum(axis=1) if isinstance(order, str) else np.asarray(order, np.float64)
        if keys.shape != (n,) or not np.isfinite(keys).all():
            raise ValueError(f"order must have a finite number for each of the {n} neurons; got shape {keys.shape}.")
        groups = np.split(np.arange(n), [] if self.n_excitatory is None else [self.n_excitatory])
        by_cluster = isinstance(order, str) and order == "cluster"
        places = [_clusters(profiles[group]) if by_cluster else np.argsort(-keys[group]) for group in groups]
        new = np.concatenate([group[place] for group, place in zip(groups, places, strict=True)])
        ordered = {"input": into[:, new], "recurrent": between[np.ix_(new, new)], "output": out[new]}
        return {**self.probabilities, **ordered}

    def _name_groups(self, axis: Any, line: Any, name: str, shape: tuple[int, ...], which: int, narrow: bool) -> None:
        """Mark where groups begin along an axis of a matrix, 0 for presynaptic, and name them at their middle."""
        if narrow:
            axis.set_tick_params(which="both", labelsize="small")
        from matplotlib.ticker import MaxNLocator

        size, first, names = shape[which], 0, ("E", "I")
        if self.n_excitatory is not None and (name, which) == ("input", 0):
            kind = "obs." if narrow else "observation"
            first, names = size // 2, (kind, f"\N{MINUS SIGN}{kind}")
        elif self.n_excitatory is not None and (name, which) != ("output", 1):
            first = self.n_excitatory
        if not 0 < first < size:  # of one group
            axis.set_major_locator(MaxNLocator(4, integer=True))
            return
        line(first - 0.5, color="white", linewidth=0.6)
        axis.set_ticks([0, first, size - 1] if names[0] == "E" else [])
        middles = [first / 2 - 0.5, (first + size) / 2 - 0.5]
        axis.set_ticks(middles, names, minor=True)
        if which == 0:
            for text in axis.get_ticklabels(minor=True):
                text.set(va="center", rotation=0 if names[0] == "E" or narrow else 90)
        axis.set_tick_params(which="minor", length=0, pad=7)

    def _plot_course(self, ax: "Axes", histogram: ProbabilityHistogram, cmap: str) -> None:
        from matplotlib.colors import LogNorm

        if not histogram.counts:
            raise ValueError("The histogram has no generation yet: give it to fit as a callback first.")
        counts = np.array(histogram.counts, dtype=np.float64).T  # (bins, generations)
        shares = counts / counts.sum(axis=0)
        generations = np.array(histogram.generations, dtype=np.float64)
        edges = np.concatenate([generations - 0.5, generations[-1:] + 0.5])
        norm = LogNorm(vmin=1e-5, vmax=1, clip=True)
        mesh = ax.pcolormesh(edges, np.linspace(0, 1, len(counts) + 1), shares, norm=norm, cmap=cmap, rasterized=True)
        ax.set(xlabel="Generation", ylabel="Connection probability")
        ax.figure.colorbar(mesh, ax=ax, label="Share of connections", pad=0.01)


def _joined(figure: Any, matrices: dict[str, NDArray[np.float32]]) -> NDArray[Any]:
    """Axes of the input above those of the recurrent connections, and the output at their right."""
    n, thin = len(matrices["recurrent"]), 0.25
    rows, columns = (max(matrices[name].shape[axis] / n, thin) for name, axis in (("input", 0), ("output", 1)))
    grid = figure.subplots(2, 2, sharex="col", sharey="row", width_ratios=[1, columns], height_ratios=[rows, 1])
    grid[0, 1].remove()
    for ax in grid.ravel():
        ax.label_outer()
    return np.array([grid[0, 0], grid[1, 0], grid[1, 1]])


def _clusters(profiles: NDArray[np.float32]) -> NDArray[np.intp]:
    """An order (neurons,) in which neurons with like connections stand together: the leaves of Ward's tree."""
    from scipy.cluster.hierarchy import leaves_list, ward

    return np.asarray(leaves_list(ward(profiles)) if len(profiles) > 1 else range(len(profiles)), np.intp)
