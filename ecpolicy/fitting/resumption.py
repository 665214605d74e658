"""Going on from an earlier training: the policy's own, or that of a checkpoint."""

import os
import warnings
from numbers import Integral
from typing import Any, Protocol, TypeVar

from ecpolicy.callbacks import Checkpoint
from ecpolicy.files.archive import ModelFileError, UnfitFileError
from ecpolicy.fitting.learner import Trainable

NOT_RESUMABLE = "it was saved without its training state (training_state=False), so it acts but cannot be resumed"

ResumeFrom = str | os.PathLike[str] | Checkpoint
P = TypeVar("P", bound=Trainable[Any])


class Trained(Protocol):
    """A fitted policy, as far as its training is concerned."""

    _training: object


class NoTraining:
    """Stands for the training of a policy that was saved without it, and says so whatever else it is asked for."""

    def __init__(self, setting: object) -> None:
        self.setting = setting

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # which copying and pickling ask for
            raise AttributeError(name)
        raise ValueError(f"The policy has no {name}: {NOT_RESUMABLE}.")


def is_resumable(policy: Trained) -> bool:
    """Whether a fitted policy holds its training, and was not saved without it."""
    return not isinstance(policy._training, NoTraining)


def check_resumable(
    policy: Trained, what: str = "The policy cannot go on", then: str = " Fit without warm_start to start anew."
) -> None:
    """Raise ValueError where a fitted policy was saved without its training state."""
    if not is_resumable(policy):
        raise ValueError(f"{what}: {NOT_RESUMABLE}.{then}")


def own_training(policy: P) -> P | None:
    """The policy itself where it has been trained, to go on from; None otherwise."""
    if not hasattr(policy, "_training"):
        return None
    check_resumable(policy)
    return policy


def earlier_training(
    policy: P, resume_from: ResumeFrom | P | None, observation_statistics: object
) -> tuple[P | None, object]:
    """The policy to go on from, itself, one that was loaded or None, and the statistics to start from.

    The same command may be run again: a training that a Checkpoint goes on with has started from its statistics.
    """
    earlier = _earlier(policy, resume_from)
    started = earlier is not None and isinstance(resume_from, Checkpoint)
    return earlier, None if started else observation_statistics


def _earlier(policy: P, resume_from: ResumeFrom | P | None) -> P | None:
    if resume_from is policy or (resume_from is None and policy.warm_start):
        return own_training(policy)
    if resume_from is None:
        return None
    if not isinstance(resume_from, str | os.PathLike | Checkpoint):
        raise TypeError(f"resume_from must be the path of a saved policy or a Checkpoint; got {resume_from!r}.")
    restored = _newest(policy, resume_from) if isinstance(resume_from, Checkpoint) else _load(policy, resume_from)
    if restored is not None:
        check_resumable(restored)
    if restored is not None and isinstance(policy.random_state, Integral) and policy.random_state != restored.seed_:
        raise ValueError(
            f"resume_from continues a training of random_state={restored.seed_}; random_state is now "
            f"{policy.random_state}. Give that one or none, or fit without resume_from to start anew."
        )
    return restored


def adopt(policy: P, earlier: P) -> None:
    """Take over what another policy has learnt; the parameters stay the policy's own."""
    if earlier is not policy:
        parameters = policy.get_params(deep=False)
        vars(policy).update({name: value for name, value in vars(earlier).items() if name not in parameters})


def _load(policy: P, path: str | os.PathLike[str]) -> P:
    return type(policy).load(path, network=policy.network)


def _newest(policy: P, checkpoint: Checkpoint) -> P | None:
    """The policy of the newest checkpoint that can be read; None where there is none at all."""
    damaged: ModelFileError | None = None
    for path in checkpoint.files():
        try:
            return _load(policy, path)
        except UnfitFileError:
            raise
        except ModelFileError as error:
            warnings.warn(f"{error} Trying the checkpoint before it.", RuntimeWarning, stacklevel=2)
            damaged = damaged or error
    if damaged is not None:
        raise damaged
    return None
