"""One name each for what other packages leave untyped, with what is known of it."""

from typing import Any, TypeAlias

import gymnasium as gym

Space: TypeAlias = gym.Space[Any]  # of observations or actions
Env: TypeAlias = gym.Env[Any, Any]
VectorEnv: TypeAlias = gym.vector.VectorEnv[Any, Any, Any]
Kwargs: TypeAlias = dict[str, Any]  # by name: parameters of a constructor, arguments of a function of theirs
