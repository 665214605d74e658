"""Stable-Baselines3's callbacks in our ``fit``."""

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

from ecpolicy.callbacks.view import TrainingView
from ecpolicy.callbacks.writing import Excuse, ExcusedStream
from ecpolicy.optional import require
from ecpolicy.untyped import Space

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.vec_env import VecEnv


class StableBaselines3:
    """Run callbacks of Stable-Baselines3: EvalCallback, CheckpointCallback, StopTrainingOnRewardThreshold and others.

    They are called once per generation (or update of PPO), so their ``eval_freq`` and ``save_freq`` count generations;
    ``num_timesteps`` counts environment steps. What they save are files of this library, ending in ``.ecp``, to be
    loaded with :func:`ecpolicy.load`. Callbacks that look at single steps of a training environment have none to look
    at: a generation's environments belong to its workers.

    Parameters
    ----------
    *callbacks : stable_baselines3.common.callbacks.BaseCallback
    logger : stable_baselines3.common.logger.Logger, optional
        Where they log, such as ``configure("folder", ["csv", "tensorboard"])`` makes; nowhere by default. What it
        cannot write, or they cannot print, does not end the training: the first time in a fit is a RuntimeWarning.
    """

    def __init__(self, *callbacks: "BaseCallback", logger: "Logger | None" = None) -> None:
        require("stable_baselines3", "The callback StableBaselines3", extra="sb3")
        from stable_baselines3.common.callbacks import BaseCallback, CallbackList
        from stable_baselines3.common.logger import Logger

        for callback in callbacks:
            if not isinstance(callback, BaseCallback):
                raise TypeError(f"Wanted callbacks of Stable-Baselines3, got {callback!r}.")
        self._callback = CallbackList(list(callbacks))
        self._logger = Logger(folder=None, output_formats=[]) if logger is None else logger
        self._started = False
        self._excuses = [Excuse("A log of Stable-Baselines3's logger") for _ in self._logger.output_formats]
        self._printing = Excuse("What a callback of Stable-Baselines3 prints")

    def begin(self, view: TrainingView) -> None:
        """Make ready for a new fit; its spaces are known after the first generation."""
        self._started = False
        self._printing.forget()
        self._excuses = [Excuse("A log of Stable-Baselines3's logger") for _ in self._logger.output_formats]

    def __call__(self, view: TrainingView) -> bool:
        """Call them; whether one of them ends training."""
        with self._excused():
            if not self._started:
                self._start(view)
            self._callback.on_rollout_start()
            self._callback.update_locals({"self": self._callback.model})
            goes_on = self._callback.on_step()
            self._callback.on_rollout_end()
        return not goes_on

    def finish(self, view: TrainingView) -> None:
        """Tell them that training has ended."""
        if self._started:
            with self._excused():
                self._callback.on_training_end()

    @contextmanager
    def _excused(self) -> Iterator[None]:
        """While they run: excuse what they cannot log or print, without their noticing."""
        with ExitStack() as stack:
            for output, excuse in zip(self._logger.output_formats, self._excuses, strict=False):
                for name in ("write", "write_sequence"):
                    if hasattr(output, name):
                        stack.enter_context(_method_excused(output, name, excuse))
            if threading.current_thread() is threading.main_thread():  # standard output is everybody's
                stack.enter_context(redirect_stdout(ExcusedStream(sys.stdout, self._printing)))
            yield

    def _start(self, view: TrainingView) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Training and eval env are not of the same type")
            self._callback.init_callback(cast("BaseAlgorithm", Model(view, self._logger)))
        self._callback.on_training_start({}, {})
        self._started = True


class Model:
    """What the callbacks of Stable-Baselines3 take for a model."""

    def __init__(self, view: TrainingView, logger: "Logger") -> None:
        self._view, self.logger = view, logger
        self.observation_space, self.action_space = view.observation_space_, view.action_space_
        self.predict = view.predict
        self._env = _spaces_alone(self.observation_space, self.action_space)

    @property
    def num_timesteps(self) -> int:
        """Environment steps so far."""
        steps: int = self._view.n_env_steps_
        return steps

    def get_env(self) -> "VecEnv":
        """A vector environment that has spaces and cannot be stepped."""
        return self._env

    def get_vec_normalize_env(self) -> None:
        """None: observations are normalised in the policy."""
        return

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the policy; the file's ending becomes ``.ecp``."""
        path = Path(path)
        self._view.save(path.with_name(path.name.removesuffix(".zip").removesuffix(".ecp") + ".ecp"))


@contextmanager
def _method_excused(output: object, name: str, excuse: Excuse) -> Iterator[None]:
    """Let a method of this object excuse its errors; the object stays what callbacks may look for in the logger."""
    method, own = getattr(output, name), vars(output)

    def excused(*args: object, **kwargs: object) -> None:
        with excuse.excused():
            method(*args, **kwargs)

    before = own.get(name)
    setattr(output, name, excused)
    try:
        yield
    finally:
        if before is None:
            delattr(output, name)
        else:
            setattr(output, name, before)


def _spaces_alone(observation_space: Space, action_space: Space) -> "VecEnv":
    from stable_baselines3.common.vec_env import VecEnv

    def refuse(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("A callback has no training environment to use: those of a generation are its workers'.")

    names = ["reset", "step_async", "step_wait", "get_attr", "set_attr", "env_method", "env_is_wrapped"]
    methods = {**dict.fromkeys(names, refuse), "close": lambda self: None}
    alone = type("SpacesAlone", (VecEnv,), methods)
    made: VecEnv = object.__new__(alone)  # VecEnv's __init__ asks the environments for their render modes
    made.num_envs, made.observation_space, made.action_space = 1, observation_space, action_space
    return made
