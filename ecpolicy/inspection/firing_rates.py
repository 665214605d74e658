"""FiringRateDisplay: how often neurons fire, and when."""

from typing import TYPE_CHECKING, Self

import numpy as np

from ecpolicy.constraints import Integer
from ecpolicy.inspection.activity import Activity, record_activity
from ecpolicy.inspection.palette import groups_of, palette
from ecpolicy.policies.policy import BasePolicy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class FiringRateDisplay:
    """Distribution of the neurons' mean rates over the episode, and the groups' rates along a part of it.

    Parameters
    ----------
    activity : Activity

    Attributes
    ----------
    axes_ : ndarray of matplotlib axes, shape (2,)
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
        bins: int = 30,
        figure: "Figure | None" = None,
    ) -> Self:
        """Play an episode and draw it; the parameters are those of :func:`record_activity` and :meth:`plot`."""
        activity = record_activity(policy, environment, seed=seed, max_episode_steps=max_episode_steps)
        return cls.from_policy_run(activity, first_step=first_step, n_steps=n_steps, bins=bins, figure=figure)

    @classmethod
    def from_policy_run(
        cls,
        activity: Activity,
        *,
        first_step: int = 0,
        n_steps: int | None = 60,
        bins: int = 30,
        figure: "Figure | None" = None,
    ) -> Self:
        """Draw an episode that was recorded with :func:`record_activity`; the others are as for :meth:`plot`."""
        return cls(activity).plot(first_step=first_step, n_steps=n_steps, bins=bins, figure=figure)

    def plot(
        self, *, first_step: int = 0, n_steps: int | None = 60, bins: int = 30, figure: "Figure | None" = None
    ) -> Self:
        """Draw.

        Parameters
        ----------
        first_step : int
            Environment step at which the groups' rates begin.
        n_steps : int or None
            Environment steps of them; None for all that follow.
        bins : int
            Of the distribution, from 0 to the highest rate.
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
        Integer(1)("bins", bins)
        shown = activity.window(first_step, n_steps)
        figure = plt.figure(figsize=(7, 2.6), layout="constrained") if figure is None else figure
        across, along = figure.subplots(1, 2)
        colors, rates = palette(across), activity.rates
        groups = groups_of(activity, colors, alone="all neurons")
        edges = np.linspace(0, max(float(rates.max()), 1.0), bins + 1)
        for name, color, members in groups:
            if not members.any():
                continue
            label = f"{name}, mean {rates[members].mean():.0f} Hz"
            across.hist(rates[members], edges, histtype="step", color=color, linewidth=1.2)
            mean = activity.spikes[shown][:, :, members].mean(axis=(1, 2)) * 1000 / activity.dt
            along.plot(np.arange(shown.start, shown.stop), mean, color=color, linewidth=0.9, label=label)
        across.set(xlabel="Mean rate (Hz)", ylabel="Neurons")
        across.yaxis.set_major_locator(MaxNLocator(integer=True))
        xlabel = f"Environment step ({activity.step_ms:g} ms each)"
        along.set(xlabel=xlabel, ylabel="Rate of the group (Hz)", ylim=(0, None))
        along.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(*along.get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=len(groups))
        self.axes_, self.figure_ = np.array([across, along]), figure
        return self
