"""Environments must keep the spaces that networks were made for."""

import gymnasium as gym

from ecpolicy.rollout.outcome import EpisodeError
from ecpolicy.spaces import interchangeable
from ecpolicy.untyped import Env, Space, VectorEnv


class SpacesKept:
    """Raises EpisodeError where an environment does not have, or no longer has, the spaces that are wanted.

    Comparing two spaces takes as long as an environment step, so equal ones are compared once and then known.
    """

    def __init__(self, observation_space: Space, action_space: Space) -> None:
        self._wanted = observation_space, action_space
        self._known: dict[int, tuple[Space, Space]] = {}  # by the id of an environment, which this keeps no hold of

    def __call__(self, environment: Env | VectorEnv) -> None:
        """Check an environment, or those in a VectorEnv."""
        if isinstance(environment, gym.vector.VectorEnv):
            now = environment.single_observation_space, environment.single_action_space
        else:
            now = environment.observation_space, environment.action_space
        known = self._known.get(id(environment), (None, None))
        if now[0] is known[0] and now[1] is known[1]:
            return
        for name, space, wanted in zip(("observation_space", "action_space"), now, self._wanted, strict=True):
            if not interchangeable(space, wanted):
                raise EpisodeError(
                    f"The {name} of {environment} was {wanted} and has become {space}. Make environments whose spaces "
                    "stay the same."
                )
        self._known[id(environment)] = now
