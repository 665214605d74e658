"""One task, every method: steps and seconds until the deployed network reaches the task's score threshold.

The library's estimators with default settings; beside them, on the same machine, Stable-Baselines3's PPO (its MLP
policy and default settings) and evosax's OpenAI-ES on the same GRU and the same rollouts as ours, with the paper's
settings for it. For all, "reaches" means: the mean over 100 fresh episodes clears the threshold by 1.645 standard
errors. Steps are training's own; those of the evaluations come on top. evosax is installed for this benchmark alone:
pip install evosax.

    python benchmarks/studies/comparison.py [--env CartPole-v1] [--seeds 0 1 2] [--methods EC ES-GRU ...]
"""

import argparse
import time

import gymnasium as gym
import numpy as np

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy
from ecpolicy.networks import GRU, LSTM
from ecpolicy.normalization import Moments, Standardizer
from ecpolicy.random import fold_in, key_from_seed
from ecpolicy.rollout import gymnasium as host
from ecpolicy.rollout.outcome import Episodes
from ecpolicy.spaces import action_decoder, action_outputs, observation_encoder, observation_size

UNSEEN = 1_000_000  # first environment seed of the reported episodes
OURS = {
    "EC": lambda seed: EvolvingConnectivityPolicy(random_state=seed),
    "ES-RSNN": lambda seed: ESPolicy(random_state=seed),
    "ES-GRU": lambda seed: ESPolicy(network=GRU(), random_state=seed),
    "ES-LSTM": lambda seed: ESPolicy(network=LSTM(), random_state=seed),
    "SG-PPO": lambda seed: SurrogateGradientPPOPolicy(random_state=seed),
}


def ours(make):
    """A function (environment id, seed) -> (returns of 100 fresh episodes, steps, seconds)."""

    def run(environment, seed):
        began = time.perf_counter()
        policy = make(seed).fit(environment)
        seconds = time.perf_counter() - began
        return policy.episode_returns(environment, n_episodes=100, seed=UNSEEN)[:, 0], policy.n_env_steps_, seconds

    return run


def solved(returns, threshold):
    return np.mean(returns) - 1.645 * np.std(returns) / np.sqrt(len(returns)) >= threshold


def sb3_ppo(environment, seed, most_steps=1_000_000):
    """Stable-Baselines3's PPO with an MLP, checked every 4,096 steps."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    threshold, judge = (
        gym.spec(environment).reward_threshold,
        Monitor(gym.make(environment)),
    )

    class Stop(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            if self.num_timesteps % 4096 == 0 and np.mean(self._play(4)) >= threshold:
                self.done = solved(self._play(100), threshold)

        def _play(self, episodes):
            return evaluate_policy(self.model, judge, episodes, return_episode_rewards=True)[0]

    stop = Stop()
    stop.done = False
    began = time.perf_counter()
    model = PPO("MlpPolicy", environment, seed=seed, device="cpu")
    while not stop.done and model.num_timesteps < most_steps:
        model.learn(4096, callback=stop, reset_num_timesteps=False)
    seconds = time.perf_counter() - began
    judge.reset(seed=UNSEEN)
    return np.array(stop._play(100)), model.num_timesteps, seconds


def evosax_es(environment, seed, population_size=256, most_generations=100):
    """OpenAI-ES of evosax on our GRU, our rollouts and observation statistics."""
    import jax
    import jax.numpy as jnp
    import optax
    from evosax.algorithms import Open_ES

    made = [gym.make(environment, disable_env_checker=True) for _ in range(population_size)]
    observation_space, action_space = made[0].observation_space, made[0].action_space
    obs_size, n_outputs = observation_size(observation_space), action_outputs(action_space)
    network, threshold = GRU(256), gym.spec(environment).reward_threshold
    shapes, scales = network.shapes(obs_size, n_outputs), network.initial_scales(obs_size, n_outputs)
    ends = np.cumsum([shape.pre * shape.post for shape in shapes.values()])
    moments = Moments.empty(obs_size)

    def play(flat, owners, seeds):
        parts = np.split(np.asarray(flat), ends[:-1], axis=1)
        weights = {
            name: np.ascontiguousarray(part).reshape(-1, shape.pre, shape.post)
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }
        keys = fold_in(key_from_seed(seed), np.asarray(seeds))
        episodes = Episodes(owners, keys, np.asarray(seeds), np.inf)
        batch = host.Batch(network, weights, episodes, Standardizer.of(moments, enabled=True, clip=10.0), n_outputs)
        return host.play(
            made, batch, episodes, encode=observation_encoder(observation_space), decode=action_decoder(action_space)
        )

    began = time.perf_counter()
    search = Open_ES(
        population_size=population_size,
        solution=jnp.zeros(ends[-1]),
        optimizer=optax.adamw(0.01, weight_decay=0.1),
        std_schedule=optax.constant_schedule(0.02),
    )
    settings, key = search.default_params, jax.random.key(seed)
    generator = np.random.default_rng(seed)
    start = np.concatenate([scales[n] * generator.normal(size=s.pre * s.post) for n, s in shapes.items()])
    state = search.init(key, jnp.asarray(start, jnp.float32), settings)
    steps = 0
    for _ in range(most_generations):
        key, ask, tell = jax.random.split(key, 3)
        population, state = search.ask(ask, state, settings)
        outcome = play(population, np.arange(population_size), generator.integers(2**31, size=population_size))
        state, _ = search.tell(tell, population, jnp.asarray(-outcome.fitness, jnp.float32), state, settings)
        steps += outcome.n_steps
        moments = moments.merge(outcome.moments)
        mean = np.asarray(state.mean)[None]
        alone = np.zeros(100, np.int64)
        if play(mean, alone[:4], generator.integers(2**31, size=4)).fitness.mean() >= threshold and solved(
            play(mean, alone, generator.integers(2**31, size=100)).fitness, threshold
        ):
            break
    seconds = time.perf_counter() - began
    return play(mean, alone, UNSEEN + np.arange(100)).fitness, steps, seconds


METHODS = {**{name: ours(make) for name, make in OURS.items()}, "sb3-PPO": sb3_ppo, "evosax-OpenES": evosax_es}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    arguments = parser.parse_args()
    for method in arguments.methods:
        for seed in arguments.seeds:
            returns, steps, seconds = METHODS[method](arguments.env, seed)
            print(
                f"{arguments.env} {method:>13} seed {seed}: {returns.mean():7.1f} ± {returns.std():5.1f} over 100 "
                f"episodes, {steps:9,} steps, {seconds:6.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
