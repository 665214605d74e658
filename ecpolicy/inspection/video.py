"""Video of a policy at work; no screen is needed."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ecpolicy.cleanup import clean_up, cleaning_up
from ecpolicy.constraints import Integer
from ecpolicy.inspection.activity import one_environment
from ecpolicy.optional import require
from ecpolicy.policies.policy import BasePolicy
from ecpolicy.rollout.workers import close_all
from ecpolicy.untyped import Env

if TYPE_CHECKING:
    from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter


MODES = ("rgb_array", "rgb_array_list")  # render modes that give images
FPS = 30  # frames per second where an environment names none
SLOWEST = 0.01  # frames per second that can be written
OnFrame = Callable[[int], None] | None


def record_video(
    policy: BasePolicy,
    environment: object,
    path: str | os.PathLike[str],
    *,
    n_episodes: int = 1,
    seed: int = 0,
    max_episode_steps: int | None = 1000,
    on_frame: OnFrame = None,
) -> list[Path]:
    """Play episodes with the deployed network and write a video of each.

    A frame is what ``render`` returns: colours (height, width, 3), or grey (height, width), as uint8 or as floats from
    0 to 1. There are as many in a second as the environment's ``metadata["render_fps"]`` says, or 30. Sides of an odd
    number of pixels get one more, since players want even ones.

    Parameters
    ----------
    policy : fitted policy
    environment : environment
        An id, an ``EnvSpec``, a callable that takes ``render_mode`` or makes an environment that renders without being
        told so, or a ``gymnasium.Env`` made with ``render_mode="rgb_array"``.
    path : path-like
        The file, ending in ".mp4"; further episodes are numbered, as in "hopper-1.mp4".
    n_episodes : int
    seed : int
        Episode k starts from ``env.reset(seed=seed + k)``.
    max_episode_steps : int or None
        Cut episodes after so many steps.
    on_frame : callable (frames), optional
        Called after every frame with how many the episode's video has so far.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    NotFittedError
    ImportError
        Where moviepy is missing: ``pip install "ecpolicy[video]"``.
    TypeError
        Where the environment is not one Gymnasium environment.
    ValueError
        Where the environment cannot be rendered, it says why; where its spaces are not those of the training; where a
        number is out of range; where the path does not end in ".mp4".
    OSError
        Where the file cannot be written.

    What the environment raises in ``reset`` and ``step`` comes out as it is. No file is left of an episode that failed.
    """
    check_is_fitted(policy, "_deployed")
    Integer(1)("n_episodes", n_episodes)
    Integer(0)("seed", seed)
    if max_episode_steps is not None:
        Integer(1)("max_episode_steps", max_episode_steps)
    path = Path(path)
    if path.suffix != ".mp4":
        raise ValueError(f'The video is written as MP4: give a path that ends in ".mp4", got {str(path)!r}.')
    require("moviepy", "record_video", extra="video")
    files = []
    for episode in range(n_episodes):
        file = path if episode == 0 else path.with_name(f"{path.stem}-{episode}.mp4")
        _film(policy, environment, file, seed + episode, max_episode_steps, on_frame)
        files.append(file)
    return files


def _film(
    policy: BasePolicy, environment: object, path: Path, seed: int, max_episode_steps: int | None, on_frame: OnFrame
) -> None:
    with filmed(policy, environment, path, on_frame) as made:
        observation, _ = made.reset(seed=seed)
        state, steps, over = None, 0, False
        while not over:
            action, state = policy.predict(observation, state)
            observation, _, terminated, truncated, _ = made.step(action)
            steps += 1
            over = terminated or truncated or steps == max_episode_steps


@contextmanager
def filmed(policy: BasePolicy, environment: object, path: Path, on_frame: OnFrame = None) -> Iterator[Env]:
    """The environment, with a camera on it; the file is there after the context, unless something was raised."""
    with _without_a_screen(), one_environment(policy, environment, make=_made_to_render) as made:
        if made.render_mode not in MODES:
            raise _unfit(made, f"its render_mode is {made.render_mode!r}")
        follow(made)
        video = _Video(path, frames_per_second(made), on_frame)
        try:
            yield _Filmed(made, video)
            video.finish()
        except BaseException as error:
            clean_up(video.discard, error=error)
            raise


class _Filmed(gym.Wrapper[Any, Any, Any, Any]):
    """Adds a frame after every reset and step."""

    def __init__(self, environment: Env, video: "_Video") -> None:
        super().__init__(environment)
        self._video = video

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        found = self.env.reset(**arguments)
        self._video.add(_frame(self.env), self.env)
        return found

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        found = self.env.step(action)
        self._video.add(_frame(self.env), self.env)
        return found


def _made_to_render(factory: Callable[..., Env]) -> Env:
    """An environment in a mode that gives images, where there is one; it may need no argument for that."""
    try:
        with warnings.catch_warnings():  # Gymnasium warns of modes that metadata leave out; the frames will tell
            warnings.filterwarnings("ignore", message=".*is not in the possible render_modes")
            return factory(render_mode=MODES[0])
    except Exception as error:
        made = factory()
        if made.render_mode in MODES:
            return made
        with cleaning_up(lambda: close_all([made])):
            raise _unfit(made, f'made with render_mode="rgb_array" it raises {_described(error)}') from error


def follow(environment: Env) -> None:
    """Look through the first camera of a MuJoCo model that tracks a body, unless another one was chosen."""
    renderer = getattr(environment.unwrapped, "mujoco_renderer", None)
    if renderer is not None and getattr(renderer, "camera_id", 0) == -1:  # of none
        tracking = np.flatnonzero(renderer.model.cam_mode)  # 0 is a camera that stands still
        if tracking.size:
            renderer.camera_id = int(tracking[0])


def _frame(environment: Env) -> NDArray[np.uint8]:
    """What the environment looks like now, (height, width, 3)."""
    try:
        frame: object = environment.render()
    except Exception as error:
        raise _unfit(environment, f"its render() raised {_described(error)}") from error
    if environment.render_mode == MODES[1] and isinstance(frame, list) and frame:  # of the frames since the last step
        frame = frame[-1]
    try:
        return _image(frame)
    except Exception as error:
        raise _unfit(environment, f"its render() returned {error}") from error


def _image(frame: object) -> NDArray[np.uint8]:
    """A frame as colours in uint8, with even sides; raises ValueError with a description of what is none."""
    pixels = np.asarray(frame)
    if frame is None or pixels.dtype.kind not in "buif":
        raise ValueError(repr(frame) if frame is None else f"a {type(frame).__name__} of {pixels.dtype}")
    kind = f"an array of {pixels.dtype} of shape {pixels.shape}"
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or pixels.size == 0:
        raise ValueError(kind)
    pixels = pixels[:, :, :3]  # without opacity
    largest = 255 if pixels.dtype.kind in "ui" else 1
    if not ((pixels >= 0) & (pixels <= largest)).all():  # NaN as well
        raise ValueError(
            f"{kind} with numbers from {pixels.min()} to {pixels.max()}, of which 0 to {largest} are known"
        )
    if largest == 1:
        pixels = np.rint(pixels * 255.0)
    height, width, _ = pixels.shape
    colors = np.broadcast_to(pixels.astype(np.uint8), (height, width, 3))
    return np.pad(colors, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def frames_per_second(environment: Env) -> float:
    """Of its metadata, or 30 where they name none that can be written."""
    metadata: object = environment.metadata
    given = metadata.get("render_fps", "") if isinstance(metadata, Mapping) else ""
    try:
        fps = float(given)
    except (TypeError, ValueError):
        return FPS
    return fps if SLOWEST <= fps < float("inf") else FPS


def _unfit(environment: Env, reason: str) -> ValueError:
    return ValueError(
        f'{environment} cannot be filmed: {reason}. Wanted an environment whose render_mode is "rgb_array" and whose '
        "render() returns images (height, width, 3) of uint8. Give its id, a callable that takes render_mode, or an "
        'environment that was made with render_mode="rgb_array".'
    )


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class _Video:
    """Frames on their way to a file, which is there once it is whole."""

    def __init__(self, path: Path, fps: float, on_frame: OnFrame) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.stem}-{os.getpid()}.mp4")
        self._fps = fps
        self._shape: tuple[int, ...] = ()
        self._on_frame, self._frames = on_frame, 0
        self._writer: FFMPEG_VideoWriter | None = None

    def add(self, frame: NDArray[np.uint8], environment: Env) -> None:
        """Write a frame; the first one says how large they are."""
        if self._writer is None:
            from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter

            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._shape = frame.shape
            self._writer = FFMPEG_VideoWriter(str(self._draft), frame.shape[1::-1], self._fps)
        if frame.shape != self._shape:
            raise _unfit(environment, f"its frames had the shape {self._shape}, and now one has {frame.shape}")
        try:
            self._writer.write_frame(frame)
        except OSError as error:
            raise OSError(f"{self._path} could not be written: {' '.join(str(error).split())}") from error
        self._frames += 1
        if self._on_frame is not None:
            self._on_frame(self._frames)

    def finish(self) -> None:
        """Put the file where it was wanted."""
        assert self._writer is not None
        process = self._writer.proc
        self._writer.close()
        if process.returncode != 0:
            raise OSError(f"{self._path} could not be written: ffmpeg ended with status {process.returncode}.")
        self._draft.replace(self._path)

    def discard(self) -> None:
        """Leave nothing behind."""
        if self._writer is not None:
            clean_up(self._writer.close, lambda: self._draft.unlink(missing_ok=True))


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
