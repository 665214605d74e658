"""Scores on episodes of their own, and ends that depend on returns."""

import os
from typing import NamedTuple

from ecpolicy.callbacks.protocol import check_count
from ecpolicy.callbacks.view import TrainingView
from ecpolicy.callbacks.writing import is_alarm, warn
from ecpolicy.files.archive import as_path, check_writable, is_there
from ecpolicy.history import Record
from ecpolicy.rollout.outcome import mean_and_std


class Evaluated(NamedTuple):
    """One evaluation of the deployed network."""

    generation: int
    n_env_steps: int
    mean: float  # return
    std: float  # of the returns of single episodes


class Evaluation:
    """Score the deployed network every few generations on an environment of your own, and save the best.

    Parameters
    ----------
    environments : environment, or list of environments
        What ``score`` accepts; it may differ from what is trained on.
    every : int
        Generations between evaluations.
    n_episodes : int
        Episodes on each environment, with the same seeds each time, so that networks are compared on equal terms. The
        best of many such means is optimistic: report a score on other episodes.
    seed : int or None
        Episode k starts from ``env.reset(seed=seed + k)``; None takes seeds from the policy's, apart from training's.
    max_episode_steps : int or None
        Cut episodes after so many steps, as ``score`` does; None for the environment's own limit.
    path : path-like or None
        Where to save the policy whenever it scores higher than the one there. A save that fails is a warning; the next
        one is tried at the next such score.
    stop_at : float or None
        End the fit where the score reaches this.

    Attributes
    ----------
    results : list of (generation, n_env_steps, mean, std)
    best : (generation, n_env_steps, mean, std) or None
    """

    def __init__(
        self,
        environments: object,
        *,
        every: int = 10,
        n_episodes: int = 20,
        seed: int | None = None,
        max_episode_steps: int | None = None,
        path: str | os.PathLike[str] | None = None,
        stop_at: float | None = None,
    ) -> None:
        check_count("every", every, "generations")
        check_count("n_episodes", n_episodes, "episodes")
        if max_episode_steps is not None:
            check_count("max_episode_steps", max_episode_steps, "steps")
        self._environments, self._every, self._n_episodes, self._seed = environments, every, n_episodes, seed
        self._max_episode_steps = max_episode_steps
        self._path = None if path is None else as_path(path)
        self._stop_at = stop_at
        self.results: list[Evaluated] = []
        self.best: Evaluated | None = None
        self._saved_mean = -float("inf")  # score of the policy in the file

    def begin(self, view: TrainingView) -> None:
        """Forget what this fit does not go on from; raise OSError where the best policy could not be saved."""
        if self._path is not None:
            check_writable(self._path)
        done = view.history_[-1]["generation"] if view.continues else 0
        self.results = [result for result in self.results if result.generation <= done]
        self.best = max(self.results, key=lambda result: result.mean, default=None)
        if view.continues and self.best is None and self._path is not None and is_there(self._path):
            self.best = self._saved(view)
        if self.best is None:
            self._saved_mean = -float("inf")
        else:  # what could not be saved in a fit before is not in the file
            self._saved_mean = min(self.best.mean, self._saved_mean if self.results else self.best.mean)

    def __call__(self, view: TrainingView) -> bool:
        """Score where it is due; whether ``stop_at`` was reached."""
        record = view.history_[-1]
        if record["generation"] % self._every:
            return False
        result = self._result(view, record)
        self.results.append(result)
        if self.best is None or result.mean > self.best.mean:
            self.best = result
        if self._path is not None and result.mean > self._saved_mean:
            try:
                view.save(self._path)
                self._saved_mean = result.mean
            except (OSError, ValueError) as error:  # no room, or more than a file may hold
                if is_alarm(error):
                    raise
                warn(f"{error} Training goes on.")
        return self._stop_at is not None and result.mean >= self._stop_at

    def _result(self, view: TrainingView, record: Record) -> Evaluated:
        returns = view.episode_returns(
            self._environments,
            n_episodes=self._n_episodes,
            seed=self._seed,
            max_episode_steps=self._max_episode_steps,
        )
        return Evaluated(record["generation"], record["n_env_steps"], *mean_and_std(returns))

    def _saved(self, view: TrainingView) -> Evaluated:
        """The best policy that an earlier process saved, scored on the same episodes."""
        policy = view.load(self._path, network=view.network)
        return self._result(policy, policy.history_[-1])


class StopOnReturn:
    """End the fit where a return of the history reaches a threshold.

    Unlike the policy's own ``score_threshold`` it takes the number as it stands, without confirming it.

    Parameters
    ----------
    threshold : float
    of : str
        Which entry of ``history_``: "best_deployed_return", "deployed_return", "return_mean", "return_max", ...
    """

    def __init__(self, threshold: float, *, of: str = "best_deployed_return") -> None:
        self._threshold, self._of = threshold, of

    def __call__(self, view: TrainingView) -> bool:
        """Whether the threshold was reached."""
        record = view.history_[-1]
        if self._of not in record:
            raise ValueError(f"of must be an entry of history_, one of {sorted(record)}; got {self._of!r}.")
        value = record[self._of]
        return value is not None and value >= self._threshold
