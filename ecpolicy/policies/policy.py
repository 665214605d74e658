"""What every policy estimator shares: parameters, fit, score, save and load."""

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ecpolicy.callbacks import Callback
from ecpolicy.constraints import Flag, check
from ecpolicy.files import archive, policies
from ecpolicy.fitting import evaluation
from ecpolicy.fitting import fit as fitting
from ecpolicy.fitting.learner import Trainable
from ecpolicy.fitting.resumption import ResumeFrom, check_resumable
from ecpolicy.networks.network import Network
from ecpolicy.policies.acting import Acting
from ecpolicy.policies.exporting import Exporting
from ecpolicy.policies.parameterised import Parameterised
from ecpolicy.policies.parameters import PLAYING
from ecpolicy.rollout.outcome import EvaluatedEpisodes, mean_and_std


class BasePolicy(Acting, Exporting, Parameterised, Trainable[Any]):
    """Base of the estimators. A subclass has parameters, a learner, and what it makes of a training."""

    def fit(
        self,
        environments: object,
        y: None = None,
        *,
        callbacks: Callback | Sequence[Callback] | None = None,
        resume_from: ResumeFrom | None = None,
        observation_statistics: object = None,
    ) -> Self:
        """Train on an environment, or on the mean return over a list of environments.

        Ctrl-C ends training after the current generation (of PPO: update); a second one at once. Whatever happens, the
        policy stays usable with what the last finished generation learnt.

        Parameters
        ----------
        environments : environment, or list of environments
            An id, a ``gymnasium.Env``, a ``VectorEnv``, an ``EnvSpec``, a callable that makes one, or a list of these.
            "brax/hopper" and the like, and environment objects of Brax and MuJoCo Playground, are played in JAX.
        y : None
            Ignored; scikit-learn's place for labels.
        callbacks : callable or sequence of callables, optional
            Called with a read-only view of the policy after every generation; one that returns True ends training. See
            :mod:`ecpolicy.callbacks`.
        resume_from : path-like or Checkpoint, optional
            Go on from a saved training instead of starting anew: from this file, or from the newest file of this
            :class:`ecpolicy.callbacks.Checkpoint`, if there is one yet. The result is that of a fit which was never
            interrupted, bit for bit, where the parameters are the same; of PPO, whose environments start new episodes,
            it is not.
        observation_statistics : VecNormalize or (mean, variance, count), optional
            Of observations made before, which the normalisation of a new training starts from.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            Naming the parameter or environment, what was given and what is wanted.
        ImportError
            Where an optional package is missing; it says how to install it.
        FileNotFoundError, ModelFileError
            Where ``resume_from`` does not exist, or is damaged.
        EpisodeError
            Where an environment raises, hangs, returns NaN, changes its spaces or kills its worker.
        """
        fitting.fit(self, environments, callbacks, resume_from, observation_statistics)
        return self

    def partial_fit(self, environments: object, y: None = None) -> Self:
        """Train for one generation (of PPO: update), going on from where the last ``fit`` or ``partial_fit`` ended.

        Parameters
        ----------
        environments, y
            As for ``fit``. A vector environment is reset.

        Returns
        -------
        self
        """
        fitting.partial_fit(self, environments)
        return self

    def _check(self) -> Network:
        """Check the parameters; the network that they describe."""
        network: Network = check(self.table.values(), self)["network"]
        return network

    @property
    def environments_(self) -> tuple[str, ...]:
        """What the policy was trained on: a description of each environment, which tells it from others."""
        check_is_fitted(self, "_training")
        described: tuple[str, ...] = self._training.setting.environments
        return described

    def score(
        self,
        environments: object,
        y: None = None,
        *,
        n_episodes: int = 20,
        seed: int | None = None,
        max_episode_steps: int | None = None,
    ) -> float:
        """Mean return of the deployed network. Results do not depend on ``n_jobs``.

        Parameters
        ----------
        environments : environment, or list of environments
            What ``fit`` accepts. On a list, every environment is played and the mean is taken over all.
        y : None
            Ignored; scikit-learn's place for labels.
        n_episodes : int
            Episodes on each environment.
        seed : int or None
            Episode k starts from ``env.reset(seed=seed + k)``. None takes seeds from ``random_state``, apart from
            those of training. Vector environments that seed themselves, and pools, keep to their own.
        max_episode_steps : int or None
            Cut episodes after so many steps. None plays until the environment ends them; those of Brax and MuJoCo
            Playground, which have no time limit, for 1000 steps.

        Returns
        -------
        float
        """
        returns = self.episode_returns(
            environments, n_episodes=n_episodes, seed=seed, max_episode_steps=max_episode_steps
        )
        mean: float = mean_and_std(returns)[0]
        return mean

    def episode_returns(
        self,
        environments: object,
        *,
        n_episodes: int = 20,
        seed: int | None = None,
        max_episode_steps: int | None = None,
    ) -> NDArray[np.float64]:
        """Returns of the deployed network, (n_episodes, n_environments); the parameters are those of ``score``."""
        return self.evaluate(
            environments, n_episodes=n_episodes, seed=seed, max_episode_steps=max_episode_steps
        ).returns

    def evaluate(
        self,
        environments: object,
        *,
        n_episodes: int = 20,
        seed: int | None = None,
        max_episode_steps: int | None = None,
    ) -> EvaluatedEpisodes:
        """Play episodes of the deployed network; the parameters are those of ``score``.

        Returns
        -------
        EvaluatedEpisodes
            A named tuple of arrays (n_episodes, n_environments): ``returns``, ``lengths`` in steps and, where
            environments report them as Gymnasium's and Brax's locomotion tasks do, ``x_velocities`` in m/s and
            ``x_positions`` in m at the end of the episodes; NaN elsewhere.
        """
        check_is_fitted(self, "_deployed")
        check(PLAYING.values(), self)
        return evaluation.evaluate(self, environments, n_episodes, seed, max_episode_steps)

    def save(self, path: str | os.PathLike[str], *, training_state: bool = True) -> None:
        """Save the policy, atomically and free of executable content.

        A file says nothing about the machine: ``n_jobs``, ``timeout``, ``verbose``, ``backend``, ``engine`` and PPO's
        ``device`` have their defaults when it is loaded.

        Parameters
        ----------
        path : path-like
            The file, by convention ending in ``.ecp``; replaced if it exists, where a symbolic link leads.
        training_state : bool
            True saves all that acting and further training need. False saves the deployed network, how it observes and
            acts, the parameters and the last record of ``history_``: kilobytes. What is loaded from it acts, scores,
            exports and records as before; it cannot be resumed or sampled from, and of 1-bit connections the
            probabilities are 0 and 1.

        Raises
        ------
        NotFittedError
        OSError
            Where the file cannot be written; what was there before is unchanged.
        TypeError, ValueError
            Where what was given, or a part of the policy, cannot be saved; it says which.
        """
        check_is_fitted(self, "_deployed")
        path = archive.as_path(path)
        training_state = Flag()("training_state", training_state)
        if training_state:
            check_resumable(self, f"{path} was not saved, give training_state=False", "")
        archive.write(
            path,
            *policies.to_file(self, bool(training_state)),
            read_again=lambda document, arrays: policies.from_file(
                type(self), document, arrays, self._deployed.network
            ),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, network: Network | None = None) -> Self:
        """Load a policy saved by ``save``. No code from the file is run.

        Parameters
        ----------
        path : path-like
        network : Network, optional
            The network, where the policy was trained with one of your own; the file has its name alone.

        Raises
        ------
        OSError
            Where the file cannot be read now, or does not exist (FileNotFoundError).
        ModelFileError
            Where the file is damaged, truncated, pickled, foreign, or holds another kind of policy.
        """
        policy: Self = policies.load(path, {cls.__name__: cls}, network)
        return policy
