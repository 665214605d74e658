"""Video of a policy at work, through Gymnasium's RecordVideo; no screen is needed."""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
from sklearn.utils.validation import check_is_fitted

from ecpolicy.estimators.parameters import check_number
from ecpolicy.inspection.activity import one_environment
from ecpolicy.optional import require


def record_video(
    policy: Any,
    environment: Any,
    path: str | os.PathLike[str],
    *,
    n_episodes: int = 1,
    seed: int = 0,
    max_episode_steps: int | None = 1000,
) -> list[Path]:
    """Play episodes with the deployed network and write a video of each.

    Parameters
    ----------
    policy : fitted policy
    environment : environment
        An id, an ``EnvSpec``, a callable that takes ``render_mode``, or a ``gymnasium.Env`` made with
        ``render_mode="rgb_array"``.
    path : path-like
        The file, ending in ".mp4"; further episodes are numbered, as in "hopper-1.mp4".
    n_episodes : int
    seed : int
        Episode k starts from ``env.reset(seed=seed + k)``.
    max_episode_steps : int or None
        Cut episodes after so many steps.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ImportError
        Where moviepy is missing: ``pip install "ecpolicy[video]"``.
    ValueError
        Where the environment cannot be rendered, or the path does not end in ".mp4".
    """
    check_is_fitted(policy, "_deployed")
    check_number("n_episodes", n_episodes, low=1, integer=True)
    check_number("seed", seed, low=0, integer=True)
    if max_episode_steps is not None:
        check_number("max_episode_steps", max_episode_steps, low=1, integer=True)
    path = Path(path)
    if path.suffix != ".mp4":
        raise ValueError(f'The video is written as MP4: give a path that ends in ".mp4", got {str(path)!r}.')
    require("moviepy", "record_video", extra="video")
    path.parent.mkdir(parents=True, exist_ok=True)
    files = []
    with _without_a_screen():
        for episode in range(n_episodes):
            name = path.stem if episode == 0 else f"{path.stem}-{episode}"
            files.append(_film(policy, environment, path.parent, name, seed + episode, max_episode_steps))
    return files


def _film(policy: Any, environment: Any, folder: Path, name: str, seed: int, max_episode_steps: int | None) -> Path:
    written = folder / f".{name}-episode-0.mp4"
    with one_environment(policy, environment, render_mode="rgb_array") as made:
        if made.render_mode != "rgb_array":
            raise ValueError(f'Give an environment made with render_mode="rgb_array"; this has {made.render_mode!r}.')
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Overwriting existing videos.*")
            filmed = gym.wrappers.RecordVideo(
                made, str(folder), name_prefix=f".{name}", episode_trigger=lambda _: True, disable_logger=True
            )
        try:
            _act(policy, filmed, seed, max_episode_steps)
        except BaseException:
            if filmed.recording:
                filmed.stop_recording()
            written.unlink(missing_ok=True)
            raise
        filmed.stop_recording()
    return written.replace(folder / f"{name}.mp4")


def _act(policy: Any, environment: gym.Env[Any, Any], seed: int, max_episode_steps: int | None) -> None:
    observation, _ = environment.reset(seed=seed)
    state, steps, over = None, 0, False
    while not over:
        action, state = policy.predict(observation, state)
        observation, _, terminated, truncated, _ = environment.step(action)
        steps += 1
        over = terminated or truncated or steps == max_episode_steps


class _without_a_screen:  # noqa: N801 -- a context manager, used like a function
    """Choose an off-screen renderer for MuJoCo where there is no display; SDL's dummy for those of pygame."""

    def __enter__(self) -> None:
        self._before = dict(os.environ)
        if sys.platform == "linux" and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
            os.environ.setdefault("MUJOCO_GL", "egl")
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

    def __exit__(self, *_: object) -> None:
        for name in ("MUJOCO_GL", "SDL_VIDEODRIVER"):
            if name not in self._before:
                os.environ.pop(name, None)
