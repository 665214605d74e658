"""ProbabilityHistogram: how connection probabilities are distributed, generation by generation."""

import numpy as np
from numpy.typing import NDArray

from ecpolicy.callbacks.view import TrainingView


class ProbabilityHistogram:
    """Count connections by their probability after every generation.

    Draw it with :class:`ecpolicy.inspection.ConnectionProbabilityDisplay`. A fit that is resumed goes on counting.

    Parameters
    ----------
    bins : int
        Equal bins of [0, 1].

    Attributes
    ----------
    generations : list of int
    n_env_steps : list of int
    counts : list of ndarray, shape (bins,)
        One a generation.
    """

    def __init__(self, bins: int = 50) -> None:
        if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
            raise ValueError(f"bins must be an int of at least 1, got {bins!r}.")
        self.bins = bins
        self.generations: list[int] = []
        self.n_env_steps: list[int] = []
        self.counts: list[NDArray[np.int64]] = []

    def begin(self, view: TrainingView) -> None:
        """Forget what a training that starts anew, or from an earlier generation, has not done yet."""
        if "initial_probability" not in view.get_params(deep=False):
            raise TypeError(
                "ProbabilityHistogram counts connection probabilities: EvolvingConnectivityPolicy has them."
            )
        done = view.history_[-1]["generation"] if view.continues else 0
        kept = sum(generation <= done for generation in self.generations)
        for counted in (self.generations, self.n_env_steps, self.counts):
            del counted[kept:]

    def __call__(self, view: TrainingView) -> None:
        """Count the probabilities of this generation."""
        probabilities = np.concatenate([p.ravel() for p in view.search_probabilities_.values()])
        counts, _ = np.histogram(probabilities, self.bins, (0, 1))
        self.generations.append(view.history_[-1]["generation"])
        self.n_env_steps.append(view.n_env_steps_)
        self.counts.append(counts)
