"""ConnectionProbabilityDisplay: the probability of every connection, and how their distribution changes."""

from typing import TYPE_CHECKING, Self

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


class ConnectionProbabilityDisplay:
    """Matrices of connection probabilities and, below, their histogram or its course over the training.

    Parameters
    ----------
    probabilities : dict of str to ndarray, shape (pre, post)
    n_excitatory : int or None
        Neurons that are excitatory; they come first.
    history : ProbabilityHistogram, optional
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
        history: ProbabilityHistogram | None = None,
    ) -> None:
        self.probabilities = probabilities
        self.n_excitatory = n_excitatory
        self.history = history

    @classmethod
    def from_estimator(cls, policy: BasePolicy, *, figure: "Figure | None" = None) -> Self:
        """Draw a fitted policy's probabilities and their histogram."""
        return cls.from_policy_run(policy, None, figure=figure)

    @classmethod
    def from_policy_run(
        cls, policy: BasePolicy, history: ProbabilityHistogram | None, *, figure: "Figure | None" = None
    ) -> Self:
        """Draw a fitted policy's probabilities, and the course of their histogram over its training.

        Parameters
        ----------
        policy : fitted EvolvingConnectivityPolicy
        history : ProbabilityHistogram or None
            The callback that ``fit`` was given.
        figure : matplotlib figure, optional
            An empty one to draw in.

        Raises
        ------
        NotFittedError
        TypeError
            Where the policy has weights.
        ValueError
            Where it was saved without its training state, and so without probabilities; where the history has no
            generation yet.
        """
        check_is_fitted(policy, "_deployed")
        check_resumable(policy, "There are no probabilities to draw", " Take the file that the training saved.")
        if not hasattr(policy, "connection_probabilities_"):
            raise TypeError(f"{type(policy).__name__} has no connection probabilities; EvolvingConnectivityPolicy has.")
        excitatory = getattr(policy, "excitatory_", None)
        count = None if excitatory is None else int(excitatory.sum())
        return cls(policy.connection_probabilities_, n_excitatory=count, history=history).plot(figure=figure)

    def plot(self, *, figure: "Figure | None" = None) -> Self:
        """Draw, in an empty figure or a new one."""
        from matplotlib import pyplot as plt

        figure = plt.figure(figsize=(7, 4.6), layout="constrained") if figure is None else figure
        upper, lower = np.asarray(figure.subfigures(2, 1, height_ratios=[1.5, 1]))
        widths = [max(p.shape[1], 40) for p in self.probabilities.values()]
        axes = np.atleast_1d(upper.subplots(1, len(self.probabilities), width_ratios=widths))
        colors, image = palette(axes[0]), None
        for ax, (name, p) in zip(axes, self.probabilities.items(), strict=True):
            image = ax.imshow(p, vmin=0, vmax=1, cmap=colors.sequential, aspect="auto", interpolation="nearest")
            ax.set(title=name.capitalize(), xlabel="Postsynaptic")
            if name == "recurrent" and self.n_excitatory not in (None, 0, p.shape[0]):
                for line in (ax.axhline, ax.axvline):
                    line(self.n_excitatory - 0.5, color="white", linewidth=0.6)
        axes[0].set_ylabel("Presynaptic")
        upper.colorbar(image, ax=axes, label="Probability", pad=0.01)
        below = lower.subplots()
        if self.history is None:
            values = np.concatenate([p.ravel() for p in self.probabilities.values()])
            below.hist(values, np.linspace(0, 1, BINS + 1), color=colors.series[0])
            below.set(xlabel="Connection probability", ylabel="Connections", yscale="log", xlim=(0, 1))
        else:
            self._plot_course(below, self.history, colors.sequential)
        self.axes_, self.figure_ = np.array([*axes, below]), figure
        return self

    def _plot_course(self, ax: "Axes", history: ProbabilityHistogram, cmap: str) -> None:
        from matplotlib.colors import LogNorm

        if not history.counts:
            raise ValueError("The histogram has no generation yet: give it to fit as a callback first.")
        counts = np.array(history.counts, dtype=np.float64).T  # (bins, generations)
        shares = counts / counts.sum(axis=0)
        generations = np.array(history.generations, dtype=np.float64)
        edges = np.concatenate([generations - 0.5, generations[-1:] + 0.5])
        norm = LogNorm(vmin=1e-5, vmax=1, clip=True)
        mesh = ax.pcolormesh(edges, np.linspace(0, 1, len(counts) + 1), shares, norm=norm, cmap=cmap, rasterized=True)
        ax.set(xlabel="Generation", ylabel="Connection probability")
        ax.figure.colorbar(mesh, ax=ax, label="Share of connections", pad=0.01)
