"""What the policies that search a distribution of networks have in common."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np

from ecpolicy.distributions import Distribution, Parameters
from ecpolicy.files.archive import ModelFileError
from ecpolicy.files.codec import TINY, count, known, number, only
from ecpolicy.fitness_shaping import FitnessShaping, centered_ranks
from ecpolicy.fitting.deployed import Deployable
from ecpolicy.fitting.evolution_learner import LAST_GENERATION, EvolutionLearner, Setting, Training, schema
from ecpolicy.fitting.learner import Run
from ecpolicy.identity import with_length
from ecpolicy.networks import Network
from ecpolicy.optimizers import Optimizer
from ecpolicy.policies.parameters import check_horizon, scheduled
from ecpolicy.policies.policy import BasePolicy


class EvolvedPolicy(BasePolicy):
    """Base of the estimators that evolve; a subclass has a search distribution and an optimizer."""

    n_generations: int
    population_size: int
    episodes_per_member: int
    common_episodes: bool
    max_episode_steps: int | Sequence[tuple[int, int]] | None
    normalize_observations: bool
    observation_clip: float
    keep_best: bool

    def _search(
        self, network: Network, obs_size: int, n_outputs: int, backend: str = "numpy", n_env_steps: int = 0
    ) -> Distribution:
        """The search distribution over this network's matrices, after so many environment steps."""
        raise NotImplementedError

    def _rules(self) -> Mapping[str, Callable[[float], Optimizer]]:
        """The optimizers that there are, by name, of their learning rate."""
        raise NotImplementedError

    def _ascent(self) -> tuple[str, Callable[[int], Optimizer]]:
        """The name of the rule, and the optimizer after so many environment steps."""
        raise NotImplementedError

    def _shaping(self) -> FitnessShaping:
        """What turns the returns of a generation into utilities."""
        return centered_ranks

    def _shown(self, network: Network, parameters: Parameters) -> dict[str, object]:
        """The fitted attributes that show the deployed network."""
        raise NotImplementedError

    def _most_generations(self) -> float:
        return self.n_generations

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
        return EvolutionLearner(
            seed=run.seed,
            runner=run.runner,
            judge=run.judge,
            setting=Setting(
                run.network, bool(self.normalize_observations), float(self.observation_clip), identities, rule
            ),
            distribution=partial(self._search, run.network, *run.sizes, run.backend),
            optimizer=optimizer,
            fitness_shaping=self._shaping(),
            population_size=int(self.population_size),
            episodes_per_member=int(self.episodes_per_member),
            common_episodes=bool(self.common_episodes),
            horizons=lambda n_env_steps: resolved.horizons(scheduled(wanted, n_env_steps), otherwise=endless),
            keep_best=bool(self.keep_best),
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

    def _trained_network(self, network: Network) -> Network:
        """The network of a file, checked: one of the other kind of weights would be read beyond its arrays."""
        return type(self)(**{**self.get_params(deep=False), "network": network})._check()

    @classmethod
    def _setting_schema(cls, network: Network, environments: tuple[str, ...]) -> Setting:
        return Setting(known(network), only(bool), number(low=TINY), known(environments), only(str))

    def _training_schema(self, setting: Setting, obs_size: int, n_outputs: int) -> Training:
        rules, rule = self._rules(), setting.optimizer
        if rule not in rules:
            raise ModelFileError(f"it was trained by the optimizer {rule!r}; this program has {list(rules)}")
        return schema(setting, self._search(setting.network, obs_size, n_outputs), rules[rule](1.0), obs_size)

    def _shown_schema(self, n_outputs: int) -> dict[str, object]:
        generations = count(LAST_GENERATION)
        return {"n_generations_": generations, "deployed_generation_": generations, "n_env_steps_": count()}
