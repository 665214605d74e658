"""An episode as one page of HTML: the video beside spikes, actions, rewards and wiring, all in step."""

import base64
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

import ecpolicy
from ecpolicy.cleanup import clean_up
from ecpolicy.constraints import Integer
from ecpolicy.inspection.activity import Activity, one_environment, played, spiking_network
from ecpolicy.inspection.video import OnFrame, filmed, frames_per_second
from ecpolicy.optional import require
from ecpolicy.policies.policy import BasePolicy
from ecpolicy.untyped import Env, Kwargs

MATRICES = ("input", "recurrent", "output")
TEMPLATE = Path(__file__).with_name("page.html")


def record_page(
    policy: BasePolicy,
    environment: object,
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    max_episode_steps: int = 1000,
    video: bool = True,
    on_frame: OnFrame = None,
) -> Path:
    """Play an episode with the deployed network and write it as a page that a browser plays, without a server.

    The page holds the video, every spike, the actions, the rewards and the connections; all of it moves with one
    slider. An episode of 1,000 steps with 256 neurons takes about 2 MB, and its video as much again.

    Parameters
    ----------
    policy : fitted policy
        With a spiking network of this library.
    environment : environment
        What :func:`record_video` takes; without a video, what :func:`record_activity` takes.
    path : path-like
        The file, ending in ".html".
    seed : int
        The episode starts from ``env.reset(seed=seed)``.
    max_episode_steps : int
        The episode is cut after so many steps.
    video : bool
        False leaves the video out, for environments that cannot be rendered.
    on_frame : callable (frames), optional
        Called after every frame of the video with how many there are so far.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    NotFittedError
    ImportError
        Where moviepy is missing: ``pip install "ecpolicy[video]"``.
    TypeError, ValueError
        As of :func:`record_activity` and :func:`record_video`; where the path does not end in ".html".
    OSError
        Where the file cannot be written.

    What the environment raises comes out as it is. No file is left of an episode that failed.
    """
    check_is_fitted(policy, "_deployed")
    Integer(0)("seed", seed)
    Integer(1)("max_episode_steps", max_episode_steps)
    spiking_network(policy)
    path = Path(path)
    if path.suffix != ".html":
        raise ValueError(f'The page is HTML: give a path that ends in ".html", got {str(path)!r}.')
    if video:
        require("moviepy", "record_page", extra="video")
    episode = _episode(policy, environment, seed, max_episode_steps, video, on_frame)
    text = json.dumps(episode).replace("<", "\\u003c")
    page = TEMPLATE.read_text(encoding="utf-8").replace("EPISODE", text)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}-{os.getpid()}.html")
    try:
        draft.write_text(page, encoding="utf-8")
        draft.replace(path)
    except BaseException as error:
        clean_up(lambda: draft.unlink(missing_ok=True), error=error)
        raise
    return path


def _episode(
    policy: BasePolicy, environment: object, seed: int, max_episode_steps: int, video: bool, on_frame: OnFrame
) -> Kwargs:
    """What the page shows."""
    with TemporaryDirectory() as folder:
        film = Path(folder) / "episode.mp4"
        with filmed(policy, environment, film, on_frame) if video else one_environment(policy, environment) as made:
            activity = played(policy, made, seed, max_episode_steps)
            shown = _described(policy, made, activity, seed)
        seen = f"data:video/mp4;base64,{_text(film.read_bytes())}" if video else None
    return shown | {"video": seen}


def _described(policy: BasePolicy, environment: Env, activity: Activity, seed: int) -> Kwargs:
    """An episode but for its video."""
    steps, substeps, neurons = activity.spikes.shape
    name = environment.spec.id if environment.spec else type(environment.unwrapped).__name__
    actions = np.asarray(activity.actions, np.float64).reshape(steps, -1).T
    excitatory = None if activity.excitatory is None else int(activity.excitatory.sum())
    return {
        "title": f"{name}: a return of {activity.rewards.sum():,.1f} in {steps} steps",
        "about": (
            f"{type(policy).__name__}, {neurons} spiking neurons, {activity.step_ms:g} ms of network time a step, "
            f"seed {seed}, ecpolicy {ecpolicy.__version__}"
        ),
        "fps": frames_per_second(environment),
        "steps": steps,
        "substeps": substeps,
        "step_ms": activity.step_ms,
        "neurons": neurons,
        "excitatory": excitatory,
        "actions": [[round(float(value), 4) for value in part] for part in actions],
        "rewards": [round(float(reward), 4) for reward in activity.rewards],
        "spikes": _text(np.packbits(activity.spikes).tobytes()),
        "wiring": {name: _wiring(policy._deployed.parameters[name], excitatory, name) for name in MATRICES},
    }


def _wiring(parameters: NDArray[np.float32], excitatory: int | None, name: str) -> Kwargs:
    """A matrix for the page: int8, 0 where nothing is connected; the sign is the connection's or its neuron's."""
    if excitatory is None:
        values = np.rint(parameters * (127 / max(float(np.abs(parameters).max()), 1e-12)))
    else:
        sign = 1 if name == "input" else np.where(np.arange(len(parameters)) < excitatory, 1, -1)[:, None]
        values = 127 * sign * (parameters > 0.5)
    return {"values": _text(values.astype(np.int8).tobytes()), "shape": list(parameters.shape)}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
