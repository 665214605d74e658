"""What the policies that search a distribution of networks have in common."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Self

import numpy as np

from ecpolicy.distributions import Distribution, Parameters
from ecpolicy.estimators.base import BasePolicy
from ecpolicy.estimators.parameters import check_horizon, scheduled
from ecpolicy.fitness_shaping import FITNESS_SHAPINGS
from ecpolicy.fitting.deployed import Deployable
from ecpolicy.fitting.evolution_learner import EvolutionLearner, Setting, Training
from ecpolicy.fitting.learner import Run
from ecpolicy.identity import with_length
from ecpolicy.networks import Network
from ecpolicy.optimizers import Optimizer


class EvolvedPolicy(BasePolicy):
    """Base of the estimators that evolve; a subclass has a search distribution and an optimizer."""

    population_size: int
    episodes_per_member: int
    max_episode_steps: int | Sequence[tuple[int, int]] | None
    fitness_shaping: str
    normalize_observations: bool
    observation_clip: float
    keep_best: bool

    def fit(self, environments: Any, y: None = None, **further: Any) -> Self:  # noqa: D102 -- as BasePolicy's
        super().fit(environments, y, **further)
        starts, n_starts = self._training.starts, getattr(self, "n_starts", 1)
        if self.stop_reason_ == "n_generations" and (starts.ended < n_starts - 1 or starts.best is not None):
            warnings.warn(
                f"n_generations={self.n_generations} ended the fit before {n_starts} starts of "
                f"{getattr(self, 'start_env_steps', 1)} steps have ended, so that none was chosen. Go on with more "
                "generations.",
                stacklevel=2,
            )
        return self

    def _search(
        self, network: Any, obs_size: int, n_outputs: int, backend: str = "numpy", n_env_steps: int = 0
    ) -> Distribution:
        """The search distribution over this network's matrices, after so many environment steps."""
        raise NotImplementedError

    def _ascent(self) -> tuple[str, Callable[[int], Optimizer]]:
        """The name of the rule, and the optimizer after so many environment steps."""
        raise NotImplementedError

    def _shown(self, network: Network, parameters: Parameters) -> dict[str, Any]:
        """The fitted attributes that show the deployed network."""
        raise NotImplementedError

    def _endless_episode(self) -> float:
        """The last training horizon, if there is one."""
        last = check_horizon(self.max_episode_steps)[-1][1]
        return last if np.isfinite(last) else super()._endless_episode()

    def _learner(self, run: Run, closing: ExitStack) -> EvolutionLearner:
        wanted, resolved, endless = check_horizon(self.max_episode_steps), run.resolved, self._endless_episode()
        identities = tuple(
            identity if np.isfinite(limit) else with_length(identity, endless)
            for identity, limit in zip(resolved.identities, resolved.limits, strict=True)
        )
        rule, optimizer = self._ascent()
        n_starts, start_env_steps = int(getattr(self, "n_starts", 1)), int(getattr(self, "start_env_steps", 1))
        if n_starts > 1 and (self.max_env_steps or np.inf) <= n_starts * start_env_steps:
            warnings.warn(
                f"max_env_steps={self.max_env_steps} ends the fit before {n_starts} starts of {start_env_steps} steps "
                "have ended, so that none is chosen. Lower start_env_steps or n_starts.",
                stacklevel=7,  # the caller of fit
            )
        return EvolutionLearner(
            seed=run.seed,
            runner=run.runner,
            judge=run.judge,
            setting=Setting(run.network, bool(self.normalize_observations), float(self.observation_clip), identities),
            distribution=partial(self._search, run.network, *run.sizes, run.backend),
            rule=rule,
            optimizer=optimizer,
            fitness_shaping=FITNESS_SHAPINGS[self.fitness_shaping],
            population_size=int(self.population_size),
            episodes_per_member=int(self.episodes_per_member),
            horizons=lambda n_env_steps: resolved.horizons(scheduled(wanted, n_env_steps), otherwise=endless),
            keep_best=bool(self.keep_best),
            n_starts=n_starts,
            start_env_steps=start_env_steps,
        )

    def _deployable(self, training: Training, n_outputs: int) -> Deployable:
        search, setting = training.search, training.setting
        parameters, moments, generation = search.parameters, search.moments, search.generation
        if self.keep_best and training.best is not None:
            parameters, moments, _, generation, *_ = training.best
        standardizer = setting.standardizer(moments)
        shown = self._shown(setting.network, parameters)
        shown |= {"deployed_generation_": generation, "n_generations_": search.generation}
        distribution = self._search(setting.network, standardizer.mean.size, n_outputs)
        return Deployable(setting.network, distribution, parameters, standardizer, shown)
