"""Scores on episodes of their own, and ends that depend on returns."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from ecpolicy.callbacks.protocol import check_count
from ecpolicy.persistence import check_writable


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
    path : path-like or None
        Where to save the policy whenever it scores higher than before.
    stop_at : float or None
        End the fit where the score reaches this.

    Attributes
    ----------
    results : list of (generation, n_env_steps, mean, std)
    best : (generation, n_env_steps, mean, std) or None
    """

    def __init__(
        self,
        environments: Any,
        *,
        every: int = 10,
        n_episodes: int = 20,
        seed: int | None = None,
        path: str | os.PathLike[str] | None = None,
        stop_at: float | None = None,
    ) -> None:
        check_count("every", every, "generations")
        check_count("n_episodes", n_episodes, "episodes")
        self._environments, self._every, self._n_episodes, self._seed = environments, every, n_episodes, seed
        self._path = None if path is None else Path(path)
        self._stop_at = stop_at
        self.results: list[Evaluated] = []
        self.best: Evaluated | None = None

    def begin(self, view: Any) -> None:
        """Forget what this fit does not go on from; raise OSError where the best policy could not be saved."""
        if self._path is not None:
            check_writable(self._path)
        done = view.history_[-1]["generation"] if view.continues else 0
        self.results = [result for result in self.results if result.generation <= done]
        self.best = max(self.results, key=lambda result: result.mean, default=None)
        if view.continues and self.best is None and self._path is not None and self._path.exists():
            self.best = self._saved(view)

    def __call__(self, view: Any) -> bool:
        """Score where it is due; whether ``stop_at`` was reached."""
        record = view.history_[-1]
        if record["generation"] % self._every:
            return False
        result = self._result(view, record)
        self.results.append(result)
        if self.best is None or result.mean > self.best.mean:
            self.best = result
            if self._path is not None:
                view.save(self._path)
        return self._stop_at is not None and result.mean >= self._stop_at

    def _result(self, policy: Any, record: Any) -> Evaluated:
        returns = policy.episode_returns(self._environments, n_episodes=self._n_episodes, seed=self._seed)
        return Evaluated(record["generation"], record["n_env_steps"], float(returns.mean()), float(returns.std()))

    def _saved(self, view: Any) -> Evaluated:
        """The best policy that an earlier process saved, scored on the same episodes."""
        network = getattr(view, "network", None)
        policy = view.load(self._path, network=None if isinstance(network, str) else network)
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

    def __call__(self, view: Any) -> bool:
        """Whether the threshold was reached."""
        record = view.history_[-1]
        if self._of not in record:
            raise ValueError(f"of must be an entry of history_, one of {sorted(record)}; got {self._of!r}.")
        value = record[self._of]
        return value is not None and value >= self._threshold
