"""GO and NOGO: a robot that runs while one signal is on and stands still while the other is, and what its neurons do.

The signals are two numbers appended to the observation; they change at random every 50 steps. On GO the reward is the
task's own, on NOGO it is what the robot moves, negative. After training, an episode is recorded, and the firing of
every neuron under GO and under NOGO is compared.

    python examples/go_nogo.py [--env HalfCheetah-v5] [--steps 4000000] [--population 256] [--n-jobs 2]
        [--output go_nogo.ecp] [--figure go_nogo.png]
"""

import argparse
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.callbacks import Checkpoint
from ecpolicy.inspection import record_activity
from ecpolicy.networks import RSNN

PERIOD = 50  # steps between changes of the signal
PENALTY = 2.0  # per m/s on NOGO


class GoNogo(gym.Wrapper[Any, Any, Any, Any]):
    """Append [1, 0] (GO) or [0, 1] (NOGO) to the observation, and reward what it says."""

    def __init__(self, environment: gym.Env[Any, Any]) -> None:
        super().__init__(environment)
        space = environment.observation_space
        assert isinstance(space, gym.spaces.Box)
        low, high = np.append(space.low, [0, 0]), np.append(space.high, [1, 1])
        self.observation_space = gym.spaces.Box(low, high, dtype=np.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        observation, info = self.env.reset(seed=seed, options=options)
        self._generator = np.random.default_rng(seed)
        self._left = 0
        return self._signalled(observation), info

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if not self._go:
            reward = -PENALTY * abs(info["x_velocity"])
        return self._signalled(observation), reward, terminated, truncated, info

    def _signalled(self, observation: Any) -> Any:
        if self._left == 0:
            self._go, self._left = bool(self._generator.integers(2)), PERIOD
        self._left -= 1
        return np.append(observation, [self._go, not self._go])


def main() -> None:
    """Train, record, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--steps", type=int, default=4_000_000)
    parser.add_argument("--population", type=int, default=256)
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("go_nogo.ecp"))
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()

    def make() -> gym.Env[Any, Any]:
        return GoNogo(gym.make(arguments.env))

    policy = EvolvingConnectivityPolicy(
        network=RSNN(gain_in=0.3),  # recurrent, as the example is about its activity
        learning_rate=0.6,
        max_episode_steps=250,
        population_size=arguments.population,
        max_env_steps=arguments.steps,
        n_generations=10**6,
        n_jobs=arguments.n_jobs,
        random_state=0,
        verbose=5,
    )
    checkpoint = Checkpoint(arguments.output, every=None, seconds=60)
    policy.fit(make, callbacks=checkpoint, resume_from=checkpoint)

    activity = record_activity(policy, make, seed=1)
    go = activity.observations[:, -2] == 1
    settled = np.arange(go.size) % PERIOD >= PERIOD // 2  # the second half of each signal
    for name, steps in (("GO", go & settled), ("NOGO", ~go & settled)):
        moved = activity.rewards[steps] / (1 if name == "GO" else -PENALTY)
        print(f"{name}: {moved.mean():.2f} a step, {activity.spikes_per_step[steps].mean():.0f} spikes a step")
    counts = activity.spikes.sum(axis=1)  # (steps, neurons)
    rates = np.array([counts[steps].mean(axis=0) for steps in (go & settled, ~go & settled)]) * 1000 / activity.step_ms
    difference = rates[0] - rates[1]
    print(f"{(difference > 20).sum()} neurons fire more on GO, {(difference < -20).sum()} on NOGO, by 20 Hz and more")
    if arguments.figure:
        draw(activity, go, rates, arguments.figure)


def draw(activity: Any, go: Any, rates: Any, path: Path) -> None:
    """Spikes under both signals, and every neuron's rate on GO against that on NOGO."""
    from matplotlib import pyplot as plt

    from ecpolicy.inspection import SpikeRasterDisplay
    from ecpolicy.inspection.palette import palette

    figure = plt.figure(figsize=(7, 7), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.4, 1])
    changes = np.flatnonzero(np.diff(go.astype(int)))  # the last steps of a signal
    change = int(changes[0]) + 1 if changes.size else 0
    display = SpikeRasterDisplay.from_policy_run(activity, first_step=max(change - 30, 0), figure=upper)
    display.axes_[0].set_title("GO, then NOGO" if go[max(change - 1, 0)] else "NOGO, then GO")
    ax = lower.subplots()
    colors = palette(ax)
    limit = np.ceil(np.quantile(rates, 0.995) / 100) * 100  # rates beyond it are drawn at the edge
    shown, beyond = np.minimum(rates, limit), (rates > limit).any(axis=0)
    kinds = (("excitatory", activity.excitatory, "o"), ("inhibitory", ~activity.excitatory, "s"))
    for name, members, marker in kinds:
        look = {"color": getattr(colors, name), "linestyle": "", "markersize": 3, "clip_on": False}
        ax.plot(*shown[:, members & ~beyond], marker=marker, label=name, **look)
        ax.plot(*shown[:, members & beyond], marker="^", **look | {"markersize": 6})
    if beyond.any():
        ax.plot([], [], "^", color=colors.neutral, markersize=6, label=f"beyond {limit:.0f} Hz")
    ax.axline((0, 0), slope=1, color=colors.neutral, linewidth=0.8)
    ax.set(xlabel="Rate on GO (Hz)", ylabel="Rate on NOGO (Hz)", xlim=(0, limit), ylim=(0, limit), aspect="equal")
    for signal in display.axes_:
        signal.axvline(change, color=colors.neutral, linewidth=1)
    lower.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=200)


if __name__ == "__main__":
    main()
