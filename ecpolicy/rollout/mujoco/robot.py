"""What simulations of a robot are made of, and what a task says of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.identity import UNKNOWN, description

if TYPE_CHECKING:
    import mujoco


Floats = NDArray[np.float64]
Rows = Callable[[str], np.ndarray]  # the simulations' rows of a field of MjData


@dataclass(frozen=True, eq=False)
class Robot:
    """A task with the model and the settings of an environment: what simulations are made of."""

    task: str  #: one of ``TASKS``
    model: "mujoco.MjModel"
    frame_skip: int  #: substeps
    dt: float  #: seconds of a step
    init_qpos: Floats
    init_qvel: Floats
    settings: SimpleNamespace  #: what the environment's constructor took, and what the task's version fixes
    bodies: tuple[int, ...]  #: those that the task looks at

    def __eq__(self, other: object) -> bool:
        """Whether both are known to be the same, by content."""
        return isinstance(other, Robot) and UNKNOWN != description(vars(self)) == description(vars(other))


class Score(NamedTuple):
    """What a step brought; arrays over simulations."""

    rewards: np.ndarray
    terminated: NDArray[np.bool_] | bool
    parts: dict[str, np.ndarray]  # of the reward, and where the robot is: what ``info`` chooses from


class Task(NamedTuple):
    """A task in one version."""

    start: Callable[[Robot, np.random.Generator], tuple[Floats, Floats]]  # qpos, qvel
    observe: Callable[[Robot, Rows], Sequence[np.ndarray]]  # parts, to be joined
    score: Callable[[Robot, Any, Rows, np.ndarray], Score]  # from where it was, what is now, and the actions
    where: Callable[[Robot, Rows], object]  # what the score compares with what it was before the step
    fields: Callable[[SimpleNamespace], Sequence[str]]  # that are derived from the state, for these settings
    settings: Sequence[str]  # attributes of the environment, without their underscore
    fixed: Mapping[str, object]  # settings that are numbers in the code of this version
    bodies: Sequence[str]  # names, or the setting that holds one
    info: Mapping[str, str]  # names in info, and what they are among the parts of the score
