"""SpikeRasterDisplay: an episode's spikes, with actions and rewards below."""

from typing import TYPE_CHECKING, Self

import numpy as np

from ecpolicy.inspection.activity import Activity, record_activity
from ecpolicy.inspection.palette import groups_of, palette
from ecpolicy.policies.policy import BasePolicy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class SpikeRasterDisplay:
    """Spikes of an episode over time, excitatory and inhibitory neurons apart, actions and rewards below.

    Parameters
    ----------
    activity : Activity

    Attributes
    ----------
    axes_ : ndarray of matplotlib axes, shape (3,)
        Raster, actions, rewards.
    figure_
    """

    def __init__(self, activity: Activity) -> None:
        self.activity = activity

    @classmethod
    def from_estimator(
        cls,
        policy: BasePolicy,
        environment: object,
        *,
        seed: int = 0,
        max_episode_steps: int = 1000,
        first_step: int = 0,
        n_steps: int | None = 60,
        figure: "Figure | None" = None,
    ) -> Self:
        """Play an episode and draw it; the parameters are those of :func:`record_activity` and :meth:`plot`."""
        activity = record_activity(policy, environment, seed=seed, max_episode_steps=max_episode_steps)
        return cls.from_policy_run(activity, first_step=first_step, n_steps=n_steps, figure=figure)

    @classmethod
    def from_policy_run(
        cls, activity: Activity, *, first_step: int = 0, n_steps: int | None = 60, figure: "Figure | None" = None
    ) -> Self:
        """Draw an episode that was recorded with :func:`record_activity`; the others are as for :meth:`plot`."""
        return cls(activity).plot(first_step=first_step, n_steps=n_steps, figure=figure)

    def plot(self, *, first_step: int = 0, n_steps: int | None = 60, figure: "Figure | None" = None) -> Self:
        """Draw.

        Parameters
        ----------
        first_step : int
            Environment step at which the picture begins.
        n_steps : int or None
            Environment steps in it; None for all that follow.
        figure : matplotlib figure, optional
            An empty one to draw in.

        Raises
        ------
        TypeError
            Where a number is not whole.
        ValueError
            Where the episode is over before ``first_step``, or another number is below 1.
        """
        from matplotlib import pyplot as plt
        from matplotlib.ticker import MaxNLocator

        activity = self.activity
        _, substeps, neurons = activity.spikes.shape
        part = activity.window(first_step, n_steps)
        figure = plt.figure(figsize=(7, 4.5), layout="constrained") if figure is None else figure
        raster, actions, rewards = figure.subplots(3, sharex=True, height_ratios=[4, 1.2, 1])

        time, neuron = np.nonzero(activity.spikes[part].reshape(-1, neurons))
        time = first_step + time / substeps
        colors = palette(raster)
        groups = groups_of(activity, colors, alone="neuron")
        for _, color, members in groups:
            chosen = members[neuron]
            raster.plot(
                time[chosen], neuron[chosen], "|", color=color, markersize=2, markeredgewidth=0.6, rasterized=True
            )
        edges = [np.flatnonzero(members) for _, _, members in groups if members.any()]
        names = [name.capitalize() for name, _, members in groups if members.any()]
        raster.set(ylim=(-0.5, neurons - 0.5), ylabel="Neuron")
        raster.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        if len(edges) == 2:
            raster.axhline(edges[1][0] - 0.5, color=colors.neutral, linewidth=0.5)
        if activity.excitatory is not None:
            beside = raster.secondary_yaxis("right")
            beside.set_yticks([float(members.mean()) for members in edges], names, rotation=270, va="center")
            beside.tick_params(length=0)

        self._draw_actions(actions, part)
        bounds = np.arange(part.start, part.stop + 1)
        rewards.stairs(activity.rewards[part], bounds, baseline=None, color=colors.neutral, linewidth=0.9)
        rewards.set_ylabel("Reward")
        rewards.set_xlabel(f"Environment step ({activity.step_ms:g} ms of network time each)")
        rewards.set_xlim(part.start, part.stop)
        rewards.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.align_ylabels([raster, actions, rewards])
        self.axes_, self.figure_ = np.array([raster, actions, rewards]), figure
        return self

    def _draw_actions(self, ax: "Axes", part: slice) -> None:
        """The numbers of the actions as lines, or where there are more than colours as rows of a picture."""
        bounds = np.arange(part.start, part.stop + 1)
        shown = np.asarray(self.activity.actions[part], dtype=np.float64).reshape(bounds.size - 1, -1)
        colors, n = palette(ax), shown.shape[1]
        names = self.activity.action_names or tuple(map(str, range(n)))
        if n > len(colors.series):
            mesh = ax.pcolormesh(bounds, np.arange(n + 1) - 0.5, shown.T, cmap=colors.sequential, rasterized=True)
            ax.figure.colorbar(mesh, cax=ax.inset_axes((1.01, 0, 0.015, 1)))
            ax.set_yticks(range(0, n, -(-n // 8)), names[:: -(-n // 8)], fontsize=5)
        else:
            for column, color, name in zip(shown.T, colors.series, names, strict=False):
                ax.stairs(column, bounds, baseline=None, color=color, linewidth=0.9, label=name)
        if 1 < n <= len(colors.series):
            ax.legend(frameon=False, fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5), borderaxespad=0.3)
        ax.set_ylabel("Action")
