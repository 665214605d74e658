"""A policy's NIR graph in other frameworks: how many spikes differ, and what it earns in the environment.

Spikes are compared while both see the observations of the policy's own episodes; returns are those of the imported
network acting by itself, from the policy's initial potentials and from zero, as importers have it that know nothing of
them. Each framework has an environment of its own; SpikingJelly wants torchvision, which its importer does not use:

    pip install -c constraints.txt ".[nir]" snntorch==1.0.0 nirtorch==2.6
    pip install -c constraints.txt ".[nir]" norse==1.1.0 nirtorch==2.6
    pip install -c constraints.txt ".[nir]" torch && pip install --no-deps spikingjelly==2.0.0 nirtorch==2.6 loguru

    python benchmarks/studies/nir_importers.py snntorch PATH [--env CartPole-v1] [--episodes 10] [--dialect cuba-lif]
"""

import argparse
import tempfile
from pathlib import Path

import gymnasium as gym
import nir
import numpy as np
import torch

import ecpolicy
from ecpolicy.inspection import record_activity
from ecpolicy.registered import registered_ids


def snntorch(graph):
    from snntorch.import_nir import import_from_nir

    return import_from_nir(graph)


def norse(graph):
    from norse.torch import from_nir

    return from_nir(graph, dt=float(graph.metadata["dt"]))


def spikingjelly(graph):
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return import_from_nir(graph, dt=float(graph.metadata["dt"]))


IMPORTERS = {"snntorch": snntorch, "norse": norse, "spikingjelly": spikingjelly}


class Imported:
    """The graph as a framework runs it, with the input and output filters that the graph's metadata ask for."""

    def __init__(self, graph, importer, given_potentials=True):
        self._metadata, self._importer = graph.metadata, importer
        self._module = IMPORTERS[importer](graph)
        self._given, self._size = given_potentials, graph.nodes["action"].output_type["output"][0]
        self._spikes = None
        self._neurons = next(m for name, m in self._module.named_modules() if name.split(".")[-1] == "neurons")
        self._neurons.register_forward_hook(self._saw)

    def _saw(self, module, inputs, output):
        self._spikes = (output[0] if isinstance(output, tuple) else output)[0].numpy() > 0

    def start(self):
        width = self._metadata["observation_mean"].size
        potentials = torch.from_numpy(self._metadata["initial_potentials"])[None]
        if self._importer == "snntorch":  # which keeps potentials in the neurons
            self._neurons.mem = potentials.clone() if self._given else torch.zeros_like(potentials)
            self._neurons.syn = torch.zeros_like(potentials)
            self._state = None
        else:
            _, self._state = self._module(torch.zeros(1, width))  # nothing fires: a state of zeros
            if self._given:
                self._state = with_potentials(self._state, potentials)
        self._before, self._readout = np.zeros(width, np.float32), np.zeros(self._size, np.float32)

    def step(self, observation):
        """Spikes (substeps, neurons) and outputs (outputs,) of an environment step."""
        m = self._metadata
        scaled = (np.asarray(observation) - m["observation_mean"]) * m["observation_inverse_std"]
        x, spikes = np.clip(scaled, -m["observation_clip"], m["observation_clip"]).astype(np.float32), []
        for _ in range(int(m["substeps"])):
            fed = torch.from_numpy(x - np.float32(m["input_alpha"]) * self._before)[None]
            out, self._state = self._module(fed, self._state)
            self._before = x
            out = out[0].numpy()
            self._readout = out + np.float32(m["readout_decay"]) * (self._readout - out)
            spikes.append(self._spikes)
        return np.array(spikes), self._readout


def with_potentials(state, potentials, name=""):
    """A state of zeros whose neurons have these potentials: (v, current) in SpikingJelly, v of a LIF box in Norse."""
    if "LIF" in type(state).__name__:
        return state._replace(v=potentials.clone())
    if isinstance(state, dict):
        return {key: with_potentials(part, potentials, key) for key, part in state.items()}
    if name == "neurons" and isinstance(state, tuple) and all(isinstance(part, torch.Tensor) for part in state):
        return potentials.clone(), *state[1:]
    if isinstance(state, tuple):
        parts = [with_potentials(part, potentials) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    if hasattr(state, "state"):  # of nirtorch's executor
        state.state = with_potentials(state.state, potentials)
    return state


def episode(act, environment_id, seed):
    environment = gym.make(environment_id)
    observation, _ = environment.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = environment.step(act(observation))
        total, over = total + float(reward), terminated or truncated
    environment.close()
    return total


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("importer", choices=IMPORTERS)
    parser.add_argument("path", type=Path, help="a saved policy")
    parser.add_argument("--env", help="an environment id; by default what it was trained on")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dialect", choices=["cuba-lif", "cuba-lif-flat"], default="cuba-lif")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    policy = ecpolicy.load(arguments.path)
    environment_id = arguments.env or registered_ids(policy.environments_)[0]
    with tempfile.TemporaryDirectory() as folder:
        nir.write(Path(folder) / "policy.nir", policy.to_nir(dialect=arguments.dialect))
        graph = nir.read(Path(folder) / "policy.nir")
    seeds = range(arguments.seed, arguments.seed + arguments.episodes)

    different, compared, firsts, worst = 0, 0, [], 0.0
    imported = Imported(graph, arguments.importer)
    for seed in seeds:
        activity = record_activity(policy, environment_id, seed=seed)
        imported.start()
        played = [imported.step(raw) for raw in activity.observations]
        wrong = np.array([spikes for spikes, _ in played]) != activity.spikes
        different, compared = different + int(wrong.sum()), compared + int(activity.spikes.sum())
        steps = np.flatnonzero(wrong.any(axis=(1, 2)))
        firsts.append(int(steps[0]) if steps.size else len(wrong))
        decoded = policy._deployed.decode(np.array([output for _, output in played]))
        worst = max(worst, float(np.abs(decoded.astype(float) - activity.actions).max()))
    print(
        f"{environment_id}, {arguments.episodes} episodes: {different:,} of {compared:,} spikes differ, the first at "
        f"step {min(firsts)} (median {np.median(firsts):.0f}); actions by at most {worst:.2g}"
    )

    own = policy.episode_returns(environment_id, n_episodes=arguments.episodes, seed=arguments.seed)
    print(f"return of predict: {own.mean():.1f} ± {own.std():.1f}")
    for given, what in ((True, "from the policy's potentials"), (False, "from potentials of zero")):
        imported = Imported(graph, arguments.importer, given)

        def act(observation, imported=imported):
            return policy._deployed.decode(imported.step(observation)[1][None])[0]

        returns = []
        for seed in seeds:
            imported.start()
            returns.append(episode(act, environment_id, seed))
        print(f"return in {arguments.importer}, {what}: {np.mean(returns):.1f} ± {np.std(returns):.1f}")


if __name__ == "__main__":
    main()
