"""The golden set: fits whose every learnt bit is known, and the fingerprints of what they learn.

``tests/data/golden.json`` holds the fingerprints, part by part. A change of the code keeps them, or the change log says
which fits changed and why. Fits of SurrogateGradientPPOPolicy are not among them: PyTorch promises no equal bits from
one machine to the next.

    python tests/golden_fits.py          says which fits differ from the recorded ones
    python tests/golden_fits.py --write  records them
"""

import hashlib
import json
import sys
import tempfile
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy, best_start
from ecpolicy.anatomy import distance_probabilities, ring
from ecpolicy.callbacks import Checkpoint
from ecpolicy.networks import GRU, LSTM, RSNN, RealRSNN
from probes import DeviceMatch, Lengths, Match, Pool

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))  # which pytest does by its settings
from learnt import learnt, records

RECORDED = Path(__file__).parent / "data" / "golden.json"

SMALL = {"network": RSNN(33), "population_size": 40, "n_generations": 4, "eval_episodes": 2, "confirm_episodes": 4,
         "random_state": 7}  # fmt: skip


class Noisy(gym.Env):
    """Real-valued observations, rewards and actions, and episodes of 3 to 18 steps."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = spaces.Box(np.float32([-2, 0]), np.float32([2, 1]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.length = 0, int(self.np_random.integers(3, 19))
        return self._observe(), {}

    def step(self, action):
        reward = float(np.sign(action[0]) * self.sign + action[1])
        self.t += 1
        return self._observe(), reward, self.t >= self.length, False, {}

    def _observe(self):
        self.sign = 1.0 if self.np_random.random() < 0.5 else -1.0
        return np.array([self.sign, 5 + 3 * self.np_random.normal(), self.np_random.normal()])


def ec(**changes):
    return EvolvingConnectivityPolicy(**{**SMALL, **changes})


def es(network=GRU(9), **changes):  # noqa: B008
    return ESPolicy(**{**SMALL, "network": network, **changes})


def vector(mode, *makes, asynchronous=False):
    made = AsyncVectorEnv if asynchronous else SyncVectorEnv
    return made(list(makes), autoreset_mode=mode)


def plain(policy, environment):
    return policy.fit(environment())


def resumed(policy, environment):
    """Half of the generations, a file, the rest."""
    with tempfile.TemporaryDirectory() as folder:
        half = Path(folder) / "half.ecp"
        n_generations = policy.n_generations
        policy.set_params(n_generations=n_generations // 2).fit(environment()).save(half)
        again = type(policy)(**policy.get_params(deep=False)).set_params(n_generations=n_generations)
        return again.fit(environment(), resume_from=half)


def of_three_starts(policy, environment, **further):
    return best_start(policy, environment(), n_starts=3, env_steps=700, **further)


def resumed_between_starts(policy, environment):
    """Half of the generations, with checkpoints, then the rest."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "half.ecp")
        n_generations = policy.n_generations
        of_three_starts(policy.set_params(n_generations=n_generations // 2), environment, callbacks=checkpoint)
        again = type(policy)(**policy.get_params(deep=False)).set_params(n_generations=n_generations)
        return of_three_starts(again, environment, callbacks=checkpoint, resume_from=checkpoint)


def warm(policy, environment):
    """Further generations with other parameters."""
    policy.fit(environment())
    return policy.set_params(warm_start=True, n_generations=7, learning_rate=0.1, confirm_episodes=6).fit(environment())


def by_generations(policy, environment):
    for _ in range(3):
        policy.partial_fit(environment())
    return policy


PRIOR = {"recurrent": distance_probabilities(ring(33), length=0.2, peak=0.9), "output": 0.25}


def of(environment):
    """A function that gives this very environment, a class or what makes one, to fit."""
    return lambda: environment


NEXT, SAME, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
RISING = [(0, 6), (400, 15)]

# What is fitted, on what, and how.
FITS = {
    "ec, class": (ec(), of(Noisy), plain),
    "ec, instance": (ec(), Noisy, plain),
    "ec, id": (ec(max_episode_steps=60, n_generations=3), of("CartPole-v1"), plain),
    "ec, continuous id": (ec(max_episode_steps=20, n_generations=2), of("Pendulum-v1"), plain),
    "ec, spec": (ec(max_episode_steps=30, n_generations=2), lambda: gym.spec("Acrobot-v1"), plain),
    "ec, list": (ec(episodes_per_member=2), of([Match, Lengths, Lengths]), plain),
    "ec, two workers": (ec(n_jobs=2), of(Noisy), plain),
    "ec, next step": (ec(), lambda: vector(NEXT, *[Noisy] * 3), plain),
    "ec, same step": (ec(), lambda: vector(SAME, *[Noisy] * 3), plain),
    "ec, no autoreset": (ec(), lambda: vector(DISABLED, *[Noisy] * 3), plain),
    "ec, next step, cut": (ec(max_episode_steps=5), lambda: vector(NEXT, *[Noisy] * 3), plain),
    "ec, same step, cut": (ec(max_episode_steps=5), lambda: vector(SAME, *[Noisy] * 3), plain),
    "ec, other processes": (ec(n_generations=2), lambda: vector(SAME, Lengths, Lengths, asynchronous=True), plain),
    "ec, pool": (ec(), lambda: Pool(lambda: Seeding(Noisy()), 3), plain),
    "ec, list with a vector environment": (
        ec(n_generations=2), lambda: [vector(DISABLED, Lengths, Lengths), Lengths], plain,
    ),
    "ec, jax networks": (ec(backend="jax", n_generations=2), of(Noisy), plain),
    "ec, jax environment": (ec(), of(DeviceMatch(random_length=True)), plain),
    "ec, jax environments in chunks": (
        ec(chunk_size=16, n_generations=2), of([DeviceMatch(), DeviceMatch(random_length=True)]), plain,
    ),
    "ec, schedules": (
        ec(
            n_generations=6, learning_rate=[(0, 0.3), (500, 0.1)], eps=[(0, 0.01), (800, 0.05)],
            max_episode_steps=RISING,
        ),
        of(Noisy), plain,
    ),
    "ec, starts": (ec(n_generations=9), of(Noisy), of_three_starts),
    "ec, prior": (ec(initial_probability=PRIOR), of(Noisy), plain),
    "ec, plain ascent": (ec(optimizer="sgd", learning_rate=30.0), of(Noisy), plain),
    "ec, last network": (ec(keep_best=False), of(Noisy), plain),
    "ec, as observed": (ec(normalize_observations=False, observation_clip=3.0), of(Noisy), plain),
    "ec, solved": (ec(score_threshold=9.0, n_generations=40), of(Match), plain),
    "ec, limited steps": (ec(max_env_steps=1000, n_generations=99), of(Noisy), plain),
    "ec, resumed": (ec(), of(Noisy), resumed),
    "ec, resumed with workers": (ec(n_jobs=2), of(Noisy), resumed),
    "ec, resumed between starts": (ec(n_generations=9), of(Noisy), resumed_between_starts),
    "ec, starts, schedules": (
        ec(
            n_generations=13, learning_rate=[(0, 0.3), (500, 0.1), (2700, 0.05)],
            eps=[(0, 0.01), (400, 0.05), (2700, 0.02)], max_episode_steps=[*RISING, (2600, 9)],
        ),
        of(Noisy), of_three_starts,
    ),
    "ec, resumed, jax environment": (ec(), of(DeviceMatch(random_length=True)), resumed),
    "ec, warm start": (ec(), of(Noisy), warm),
    "ec, by generations": (ec(), of(Noisy), by_generations),
    "es, rsnn": (es(RealRSNN(33)), of(Noisy), plain),
    "es, gru": (es(), of(Noisy), plain),
    "es, lstm": (es(LSTM(9)), of(Noisy), plain),
    "es, id": (es(max_episode_steps=60, n_generations=3), of("CartPole-v1"), plain),
    "es, list": (es(episodes_per_member=2), of([Match, Lengths]), plain),
    "es, two workers": (es(n_jobs=2), of(Noisy), plain),
    "es, next step": (es(), lambda: vector(NEXT, *[Noisy] * 3), plain),
    "es, same step": (es(), lambda: vector(SAME, *[Noisy] * 3), plain),
    "es, no autoreset": (es(), lambda: vector(DISABLED, *[Noisy] * 3), plain),
    "es, pool": (es(), lambda: Pool(lambda: Seeding(Noisy()), 3), plain),
    "es, jax environment": (es(n_generations=2), of(DeviceMatch(random_length=True)), plain),
    "es, jax environment, rsnn": (es(RealRSNN(9), n_generations=2), of(DeviceMatch(random_length=True)), plain),
    "es, schedules": (es(learning_rate=[(0, 0.3), (500, 0.1)], max_episode_steps=RISING, sigma=0.1), of(Noisy), plain),
    "es, resumed": (es(), of(Noisy), resumed),
    "es, resumed, lstm": (es(LSTM(9)), of(Noisy), resumed),
    "es, warm start": (es(weight_decay=0.01), of(Noisy), warm),
    "es, by generations": (es(RealRSNN(9)), of(Noisy), by_generations),
}  # fmt: skip


class Seeding(gym.Wrapper):
    """Episodes that begin from seeds of the instance's own, as EnvPool's do: 1, 2, 3 and so on."""

    def __init__(self, env):
        super().__init__(env)
        self.episodes = 0

    def reset(self, *, seed=None, options=None):
        self.episodes += 1
        return self.env.reset(seed=self.episodes)


def digest(*parts):
    """A hash of arrays, and of whatever JSON can say."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype.str}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
        else:
            found.update(json.dumps(part).encode())
    return found.hexdigest()[:16]


def arrays_of(matrices):
    """The arrays of a mapping, by name."""
    return [part for name in sorted(matrices) for part in (name, np.asarray(matrices[name]))]


def fingerprints(policy):
    """What a policy has learnt, part by part."""
    found, deployed = learnt(policy), learnt(policy, training_state=False)
    shown = policy.connection_probabilities_ if hasattr(policy, "connection_probabilities_") else policy.weights_
    seen = np.random.default_rng(0).normal(size=(4, 5, *policy.observation_space_.shape))
    seen = seen.astype(policy.observation_space_.dtype)

    def of(group):
        return arrays_of({name.removeprefix(group): part for name, part in found.items() if name.startswith(group)})

    def acting(deterministic):
        state, actions = None, []
        for step, observations in enumerate(seen):
            starts = np.arange(5) == step  # episodes begin at different times
            action, state = policy.predict(observations, state, starts if step else None, deterministic)
            actions.append(np.asarray(action))
        return digest(*actions)

    return {
        "search": digest(*of("search/parameters/")),
        "optimizer": digest(found["search/optimizer/updates"], *of("search/optimizer/first/"),
                            *of("search/optimizer/second/")),
        "observations": digest(*(found[f"search/moments/{name}"] for name in ("n", "mean", "squares"))),
        "deployed": digest(policy.deployed_generation_, *arrays_of(shown), deployed["standardizer/mean"],
                           deployed["standardizer/inverse_std"]),
        "history": digest(records(policy), policy.n_env_steps_, policy.stop_reason_),
        "actions": acting(True),
        "sampled actions": acting(False),
    }  # fmt: skip


def run(name):
    """The fingerprints of a fit of the golden set."""
    policy, environment, how = FITS[name]
    made = type(policy)(**policy.get_params(deep=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fingerprints(how(made, environment))


def main():
    """Compare, or record."""
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    found = {}
    for name in FITS:
        found[name] = run(name)
        before = recorded.get(name, {})
        changed = [part for part, value in found[name].items() if before.get(part) != value]
        if changed:
            print(f"{name}: {', '.join(changed)}", flush=True)  # noqa: T201
    if "--write" in sys.argv:
        RECORDED.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
