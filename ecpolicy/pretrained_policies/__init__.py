"""Policies that were trained with the tuned settings and come with the package: a file and a card for each."""

import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ecpolicy.constraints import meant
from ecpolicy.files.load import load
from ecpolicy.ids import registered_id
from ecpolicy.policies.policy import BasePolicy

FOLDER = Path(__file__).parent


class Card(NamedTuple):
    """How a pretrained policy was made, and what it does on the environment as it is registered."""

    environment_id: str
    command: str  #: that trained it, with the same result wherever the versions are the same
    seed: int  #: the command's
    n_env_steps: int  #: of the population
    n_evaluation_steps: int  #: of the deployed network during the fit, on top
    seconds: int  #: of the fit, on one busy core
    episodes: int  #: after training, from ``reset(seed=2_000_000)`` on
    return_mean: float
    return_std: float  #: over episodes
    length_mean: float  #: steps of an episode
    x_velocity: float | None  #: m/s, where the environment reports it
    versions: dict[str, str]  #: of the packages that the result rests on


def pretrained(environment_id: str) -> BasePolicy:
    """Return a policy that was trained for this environment: the deployed network, ready to act.

    Parameters
    ----------
    environment_id : str
        Of a Gymnasium environment, such as "Hopper-v5". Without a version it is the latest, as for ``gymnasium.make``.

    Returns
    -------
    EvolvingConnectivityPolicy
        Its probabilities are 0 and 1, and it cannot be trained further: train your own with :func:`ecpolicy.tuned`.

    Raises
    ------
    TypeError
        Where the id is not a string.
    ValueError
        Where none comes with the package; it says which do.

    Examples
    --------
    >>> import ecpolicy
    >>> policy = ecpolicy.pretrained("CartPole-v1")
    >>> policy.score("CartPole-v1", n_episodes=5, seed=0)
    500.0
    """
    return load(pretrained_file(environment_id))


def pretrained_file(environment_id: str) -> Path:
    """Return where the pretrained policy for this environment is; see :func:`pretrained`."""
    return FOLDER / f"{pretrained_card(environment_id).environment_id}.ecp"


def pretrained_card(environment_id: str) -> Card:
    """Return how the pretrained policy for this environment was made and what it earns; see :func:`pretrained`."""
    cards, name = _cards(), registered_id(environment_id)
    if name not in cards:
        said = f"There is no pretrained policy for {environment_id!r}; there are for {', '.join(cards)}."
        raise ValueError(said + meant(environment_id, cards))
    return cards[name]


def pretrained_ids() -> list[str]:
    """The environments that a pretrained policy comes with the package for."""
    return list(_cards())


@cache
def _cards() -> dict[str, Card]:
    found = tomllib.loads((FOLDER / "cards.toml").read_text())
    return {name: Card(name, **{"x_velocity": None, **card}) for name, card in found.items()}
