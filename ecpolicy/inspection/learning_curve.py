"""LearningCurveDisplay: returns over environment steps, with the spread over seeds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from ecpolicy.fitting.resumption import check_resumable
from ecpolicy.identity import known_different, told
from ecpolicy.inspection.palette import palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import ColorType


POINTS = 200  # of the common grid
NAMES = {
    "return_mean": "Mean return of the population",
    "return_max": "Best return of the population",
    "deployed_return": "Return of the deployed network",
    "best_deployed_return": "Return of the best network so far",
    "deployed_x_velocity": "Speed of the deployed network (m/s)",
}
SPREADS: dict[str, Callable[[np.ndarray], Iterable[np.ndarray]]] = {  # values (trainings, points) to (lower, upper)
    "range": lambda values: (values.min(axis=0), values.max(axis=0)),
    "quartiles": lambda values: np.quantile(values, [0.25, 0.75], axis=0),
    "std": lambda values: values.mean(axis=0) + np.array([[-1], [1]]) * values.std(axis=0),
}
BANDS = {"range": "range", "quartiles": "quartiles", "std": "standard deviation"}  # in a legend


class LearningCurveDisplay:
    """Learning curves of several trainings: their mean and their spread.

    Made by :meth:`from_estimator`, which trains, or by :meth:`from_policy_run`, from trainings that were made.

    Parameters
    ----------
    n_env_steps : list of ndarray, shape (generations,)
        Environment steps after each generation, one array a training.
    values : list of ndarray, shape (generations,)
    name : str
        What the values are, for the axis.

    Attributes
    ----------
    ax_, figure_
        Matplotlib's axes and figure, after ``plot``.
    """

    def __init__(self, n_env_steps: list[np.ndarray], values: list[np.ndarray], *, name: str = "Return") -> None:
        self.n_env_steps = n_env_steps
        self.values = values
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: object,
        environments: object,
        *,
        random_states: Sequence[int] = (0, 1, 2),
        y: str = "best_deployed_return",
        ax: "Axes | None" = None,
        spread: str | None = "range",
        label: str | None = None,
        color: "ColorType | None" = None,
    ) -> Self:
        """Train a clone of the estimator with each random state, and draw.

        Parameters
        ----------
        estimator : policy
            It is not changed.
        environments : what ``fit`` accepts
        random_states : sequence of int
        y : str
            A number in ``history_``.
        ax, spread, label, color
            As for :meth:`plot`.
        """
        _check_spread(spread)
        clones = [clone(estimator).set_params(random_state=seed) for seed in random_states]
        trained = [policy.fit(environments) for policy in clones]
        return cls.from_policy_run(trained, y=y, ax=ax, spread=spread, label=label, color=color)

    @classmethod
    def from_policy_run(
        cls,
        runs: object,
        *,
        y: str = "best_deployed_return",
        ax: "Axes | None" = None,
        spread: str | None = "range",
        label: str | None = None,
        color: "ColorType | None" = None,
    ) -> Self:
        """Draw trainings that were made.

        Parameters
        ----------
        runs : fitted policy, history, or sequence of these
            A history is what a policy has in ``history_``.
        y : str
            A number in ``history_``. Generations in which it was not measured are passed over.
        ax, spread, label, color
            As for :meth:`plot`.

        Raises
        ------
        NotFittedError
        TypeError
            Where something is neither a policy nor a history.
        ValueError
            Where a history has no ``y``; it says what there is. Where a policy was saved without its training state,
            and so without its history. Where policies are of several classes, or were trained on different tasks: draw
            those one by one, in the same axes.
        """
        several = _several(runs)
        for run in several:
            if isinstance(run, BaseEstimator):
                check_is_fitted(run, "history_")
                check_resumable(run, "There is no history to draw", " Take the file that the training saved.")
        _check_alike([run for run in several if isinstance(run, BaseEstimator)])
        histories = [run if _is_sequence(run) else run.history_ for run in several]
        if not histories or not all(histories):
            raise ValueError("There is nothing to draw: a training without a generation.")
        if not all(isinstance(record, Mapping) for history in histories for record in history):
            raise TypeError(f"Wanted fitted policies or their histories, lists of dict; got {runs!r:.200}.")
        measured = [[record for record in history if _is_measured(record, y)] for history in histories]
        if not all(measured):
            known = [name for name, value in histories[0][-1].items() if isinstance(value, int | float)]
            raise ValueError(f"The history has no number {y!r}; it has {', '.join(known)}.")
        return cls(
            [np.array([record["n_env_steps"] for record in records]) for records in measured],
            [np.array([record[y] for record in records], dtype=np.float64) for records in measured],
            name=NAMES.get(y, y),
        ).plot(ax, spread=spread, label=label, color=color)

    def common(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Environment steps (points,) to the shortest training's end, and interpolated values (trainings, points)."""
        first = max(steps[0] for steps in self.n_env_steps)
        grid = np.linspace(first, max(first, min(steps[-1] for steps in self.n_env_steps)), POINTS)
        return grid, np.stack([np.interp(grid, *run) for run in zip(self.n_env_steps, self.values, strict=True)])

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        spread: str | None = "range",
        label: str | None = None,
        color: "ColorType | None" = None,
    ) -> Self:
        """Draw the mean over trainings, and their spread as a band.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Others are made where there are none. Several displays may share axes.
        spread : {"range", "quartiles", "std"} or None
        label : str, optional
            For the legend, which says as well what the band is.
        color : optional
            Otherwise the next colour that colour-blind readers can tell apart.
        """
        from matplotlib import pyplot as plt
        from matplotlib.ticker import EngFormatter

        _check_spread(spread)
        if ax is None:
            _, ax = plt.subplots(figsize=(4.5, 3), layout="constrained")
        series = palette(ax).series
        color = series[len(ax.lines) % len(series)] if color is None else color
        grid, values = self.common()
        if spread is not None and len(values) > 1:
            lower, upper = SPREADS[spread](values)
            ax.fill_between(grid, lower, upper, color=color, alpha=0.25, linewidth=0)
            drawn = f"mean and {BANDS[spread]} of {len(values)} trainings"
            label = drawn if label is None else f"{label}: {drawn}"
        ax.plot(grid, values.mean(axis=0), color=color, label=label)
        shared = ax.get_ylabel() not in ("", self.name)  # with a curve of something else
        ax.set(xlabel="Environment steps", ylabel="Return" if shared else self.name)
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k, 1.5M
        if label is not None:
            ax.legend(frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _is_measured(record: Mapping[str, object], y: str) -> bool:
    return all(isinstance(record.get(name), int | float) for name in (y, "n_env_steps"))


def _check_spread(spread: str | None) -> None:
    if spread is not None and spread not in list(SPREADS):
        raise ValueError(f"spread must be one of {', '.join(map(repr, SPREADS))} or None, got {spread!r}.")


def _check_alike(policies: Sequence[Any]) -> None:
    """Raise ValueError where the mean over these policies' trainings would be one of unlike things."""
    for other in policies[1:]:
        pair = policies[0], other
        kinds, tasks = [type(one).__name__ for one in pair], [getattr(one, "environments_", ()) for one in pair]
        alike = len(tasks[0]) == len(tasks[1]) and not any(map(known_different, *tasks))
        if kinds[0] != kinds[1] or not alike:
            trained = [f"{kind} on {', '.join(map(told, task))}" for kind, task in zip(kinds, tasks, strict=True)]
            said = f"One curve would be the mean of {' and '.join(trained)}."
            raise ValueError(f"{said} Draw each on its own; with ax=display.ax_ they share axes.")


def _several(runs: object) -> list[Any]:
    """A list of runs, where one may have been given."""
    if (
        isinstance(runs, BaseEstimator)
        or hasattr(runs, "history_")
        or (isinstance(runs, Sequence) and runs and isinstance(runs[0], Mapping))
    ):
        return [runs]
    if not isinstance(runs, Iterable):
        raise TypeError(f"Wanted fitted policies or their histories, got {runs!r}.")
    several = list(runs)
    if not all(isinstance(run, BaseEstimator) or hasattr(run, "history_") or _is_sequence(run) for run in several):
        raise TypeError(f"Wanted fitted policies or their histories, got {runs!r:.200}.")
    return several


def _is_sequence(run: object) -> bool:
    return isinstance(run, Sequence) and not isinstance(run, str)
