"""Lockstep rollouts on Gymnasium environments: one network call for all live episodes, then one step of each."""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecpolicy.networks import Network
from ecpolicy.networks.numba import bits as kernels
from ecpolicy.normalization import Moments, Standardizer
from ecpolicy.rollout import answers
from ecpolicy.rollout.outcome import (
    MEND,
    EpisodeError,
    Episodes,
    Outcome,
    Travel,
    bad_observation,
    bad_return,
    network_failed,
    started_with,
)
from ecpolicy.rollout.seconds import Seconds, Stopwatch
from ecpolicy.rollout.time_limit import TimeLimitError, failure
from ecpolicy.spaces import Decode, Encode
from ecpolicy.untyped import Env

NOT_YET: object = object()  # what an environment answered that has not
NUMBERS = {float, int, np.float64, np.float32, np.int64}  # classes of rewards that need no closer look
FLAGS = {bool, np.bool_}  # and of what says that an episode is over


class Batch:
    """The networks of a batch of episodes, from raw observations to outputs; state lives in arrays over episodes."""

    def __init__(
        self,
        network: Network,
        connections: Mapping[str, np.ndarray],
        episodes: Episodes,
        standardizer: Standardizer,
        n_outputs: int,
    ) -> None:
        n, obs_size = episodes.owners.size, standardizer.mean.size
        self.raw = np.zeros((n, obs_size))
        self.output = np.zeros((n, n_outputs), dtype=np.float32)
        self._network, self._connections, self._episodes = network, connections, episodes
        self._standardizer = standardizer
        self._state = network.initial_state(episodes.membrane_keys, n_outputs)
        self._x = np.zeros((n, obs_size), dtype=np.float32)
        # Sums are taken of deviations from the first observation: far from zero, those of the observations themselves
        # would lose their variance to rounding.
        self._begun = False
        self._shift, self._sums, self._squares = np.zeros((3, n, obs_size))
        self.travel = Travel(n)
        self.seeded = True  # episodes start from their seeds
        self.in_environments, self.in_networks = Stopwatch(), Stopwatch()  # of whoever plays the episodes

    def step(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Outputs (rows, n_outputs) for the raw observations of these episodes."""
        if not self._begun:
            self._begun, self._shift[:] = True, self.raw[rows[0]]
        bad = kernels.accumulate(self.raw, rows, self._shift, self._sums, self._squares)
        if bad >= 0:
            raise EpisodeError(f"{bad_observation(self.raw[bad])} in {self._episode(bad)}. {MEND}")
        kernels.standardize(self.raw, rows, *self._standardizer, self._x)
        try:
            self._network.step(
                self._connections, self._state, self._x, self.output, owners=self._episodes.owners, rows=rows
            )
        except TimeLimitError:
            raise
        except Exception as error:  # of a network of the user's own
            raise network_failed(self._network, error) from error
        return self.output[rows]

    def _episode(self, episode: int | np.integer) -> str:
        if not self.seeded:
            return "an episode of a vector environment that seeds itself"
        return started_with(self._episodes.seeds[episode])

    def outcome(self, returns: Sequence[float], lengths: Sequence[int]) -> Outcome:
        """The outcome of the episodes, one column."""
        total = np.array(returns, dtype=np.float64)
        for episode in np.flatnonzero(~np.isfinite(total)):
            raise EpisodeError(bad_return(total[episode], self._episode(episode)))
        moments = Moments.from_sums(
            int(np.sum(lengths)), self._shift[0], self._sums.sum(axis=0), self._squares.sum(axis=0)
        )
        played = np.array(lengths, dtype=np.int64)
        seconds = Seconds(0.0, self.in_environments.total, self.in_networks.total)
        return Outcome(total[:, None], played[:, None], moments, self.travel.of(played)[:, None], seconds)


def play(
    environments: Sequence[Env],
    batch: Batch,
    episodes: Episodes,
    *,
    encode: Encode,
    decode: Decode,
    check: Callable[[Env], None],
) -> Outcome:
    """Play episodes on a set of equal environments; each environment takes the next episode when it is done.

    An episode depends on its seed and its network alone, not on the environment that plays it. ``check`` looks at an
    environment whenever it has been reset.
    """
    n = episodes.owners.size
    returns, lengths = [0.0] * n, [0] * n
    raw, horizon, travel = batch.raw, episodes.horizon, batch.travel
    waiting = iter(range(n))
    live: list[tuple[int, Env, Callable[[Any], Any]]] = []
    episode, answer = 0, NOT_YET
    reset = batch.in_environments.timed(answers.begin)
    in_environments = in_networks = 0.0

    def begin(environment: Env) -> None:
        nonlocal episode
        following = next(waiting, None)
        if following is not None:
            episode = following
            observation, _ = reset(environment, int(episodes.seeds[episode]))
            check(environment)
            raw[episode] = encode(observation)
            live.append((episode, environment, environment.step))

    try:
        for environment in environments:
            begin(environment)
        while live:
            rows = np.array([episode for episode, _, _ in live])
            idle: list[Env] = []
            stepped = perf_counter()
            while not idle:
                actions = decode(batch.step(rows))
                acted = perf_counter()
                in_networks += acted - stepped
                for (episode, environment, step), action in zip(live, actions, strict=True):
                    answer = NOT_YET
                    answer = step(action)
                    observation, reward, terminated, truncated, info = answer
                    if reward.__class__ not in NUMBERS:
                        reward = answers.number(reward)
                    if terminated.__class__ not in FLAGS or truncated.__class__ not in FLAGS:
                        terminated, truncated = answers.flag(terminated), answers.flag(truncated)
                    returns[episode] += float(reward)
                    lengths[episode] += 1
                    if info:
                        travel.add(episode, info)
                    if terminated or truncated or lengths[episode] >= horizon:
                        lengths[episode] = -lengths[episode]  # marked as over
                        idle.append(environment)
                    else:
                        raw[episode] = encode(observation)
                stepped = perf_counter()
                in_environments += stepped - acted
            live[:] = [each for each in live if lengths[each[0]] >= 0]
            for environment in idle:
                begin(environment)
    except EpisodeError:
        raise
    except Exception as error:
        wrong = None if answer is NOT_YET else answers.wrong_step(answer)
        raise EpisodeError(
            f"{wrong or f'The environment {failure(error)}'} at step {abs(lengths[episode])} of "
            f"{started_with(episodes.seeds[episode])}."
        ) from error
    batch.in_environments.total += in_environments
    batch.in_networks.total += in_networks
    return batch.outcome(returns, [abs(length) for length in lengths])
