"""Put a trained policy into the package, with a card of what it earns over 100 episodes that training never saw.

    ecpolicy train Hopper-v5 --seed 0 --max-env-steps 8_000_000 --out hopper.ecp
    python benchmarks/studies/pretrain.py hopper.ecp "ecpolicy train Hopper-v5 --seed 0 --max-env-steps 8_000_000"

The file keeps the deployed network alone, without priors and the training's history.
"""

import argparse
import importlib.metadata
import json
import platform
import tomllib

import numpy as np

import ecpolicy
from ecpolicy.pretrained_policies import FOLDER
from ecpolicy.registered import registered_ids

CARDS = FOLDER / "cards.toml"
UNSEEN = 2_000_000  # first environment seed of the episodes
PACKAGES = ["ecpolicy", "numpy", "numba", "gymnasium", "mujoco"]


def measured(policy, environment_id, episodes):
    """What a card says of the deployed network's episodes."""
    found = policy.evaluate(environment_id, n_episodes=episodes, seed=UNSEEN)
    measures = {
        "episodes": episodes,
        "return_mean": round(float(found.returns.mean()), 1),
        "return_std": round(float(found.returns.std()), 1),
        "length_mean": round(float(found.lengths.mean()), 1),
    }
    if np.isfinite(found.x_velocities).all():
        measures["x_velocity"] = round(float(found.x_velocities.mean()), 2)
    return measures


def card(policy, environment_id, command, episodes):
    return {
        "command": command,
        "seed": policy.random_state,
        "n_env_steps": policy.n_env_steps_,
        "n_evaluation_steps": policy.history_[-1]["n_evaluation_steps"],
        "seconds": round(sum(record["seconds"] for record in policy.history_)),
        **measured(policy, environment_id, episodes),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def write(cards):
    """The cards as TOML: numbers and text are written in it as in JSON."""
    blocks = []
    for name, entries in sorted(cards.items()):
        plain = {key: value for key, value in entries.items() if not isinstance(value, dict)}
        lines = [f'["{name}"]', *(f"{key} = {json.dumps(value)}" for key, value in plain.items())]
        versions = ", ".join(f"{key} = {json.dumps(value)}" for key, value in entries["versions"].items())
        blocks.append("\n".join([*lines, f"versions = {{ {versions} }}"]) + "\n")
    CARDS.write_text("\n".join(blocks))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="the trained policy, with its training")
    parser.add_argument("command", help="that trained it")
    parser.add_argument("--episodes", type=int, default=100)
    arguments = parser.parse_args()
    policy = ecpolicy.load(arguments.path)
    (environment_id,) = registered_ids(policy.environments_)
    described = card(policy, environment_id, arguments.command, arguments.episodes)
    policy.set_params(initial_probability=0.5)  # a prior is the training's
    policy.save(FOLDER / f"{environment_id}.ecp", training_state=False)
    write(tomllib.loads(CARDS.read_text()) | {environment_id: described})
    print(json.dumps({environment_id: described}, indent=1))


if __name__ == "__main__":
    main()
