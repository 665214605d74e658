"""Tasks that are not control: a sequence of inputs, and a right answer at its end.

An episode is one trial, and its return is 1 for the right answer and else 0: ``policy.score`` is the share of right
answers. A task is a function that draws a trial: the rates of its input lines, step by step, and the answer.

- memory: delayed match to sample. Two stimuli with a pause between them: were they the same?
- evidence: two lines fire for 100 ms. Which of them at the higher rate?
- nogo: GO and NOGO after a delay. A cue, a pause, and a signal, upon which GO is answered by 1 and NOGO by 0.
- digits: pictures of digits from scikit-learn, row by row; scored on pictures that were not trained on.

What is observed are the spikes of Poisson processes in a step of 10 ms. Synaptic currents last 50 ms, so that
recurrent connections can hold what was seen. There are two controls: ``--recurrence fixed`` has random ones that are
not searched for, ``--recurrence none`` has none. With ``--common-episodes``, all members of a generation get the same
trials. With ``--graded``, training pays the logarithm of the probability of the right answer, which helps on digits:

    python examples/sequence_tasks.py {memory,evidence,nogo,digits} [--recurrence {evolved,fixed,none}]
        [--graded] [--common-episodes] [--generations 20] [--population 256] [--trials 16] [--neurons 128]
        [--gain-in 0.1] [--seed 0]
    python examples/sequence_tasks.py digits --graded --common-episodes --generations 60 --population 128 --trials 64
        --neurons 64 --gain-in 0.3
"""

import argparse
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.networks import RSNN

STEP_MS = 10.0
ON, HIGH, LOW, REST = 300.0, 100.0, 60.0, 20.0  # Hz, of a line: the spikes of a group of neurons
HELD_OUT = 450  # digits to score on; 1,347 are trained on
Trial = tuple[NDArray[np.float64], int]  # rates (steps, lines) in Hz, and the answer


@lru_cache(4096)  # which common episodes ask for once for every member
def trial(draw: Callable[[np.random.Generator], Trial], seed: int) -> Trial:
    """The trial of a seed, with spikes in the place of rates."""
    generator = np.random.default_rng(seed)
    rates, answer = draw(generator)
    return generator.poisson(rates * STEP_MS / 1000).astype(np.float64), answer


class Trials(gym.Env[Any, Any]):
    """Trials that a function draws, their rates as Poisson spikes.

    An action is a number for each answer, and the largest of them the answer. If graded, their softmax is taken for
    probabilities, and the logarithm of that of the right answer is paid.
    """

    def __init__(
        self, draw: Callable[[np.random.Generator], Trial], lines: int, answers: int, graded: bool = False
    ) -> None:
        self.draw, self.blank, self.graded = draw, np.zeros(lines), graded
        self.observation_space = gym.spaces.Box(0.0, np.inf, (lines,), np.float64)
        self.action_space = gym.spaces.Box(-np.inf, np.inf, (answers,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        spikes, self.answer = trial(self.draw, int(self.np_random.integers(2**31)) if seed is None else seed)
        self.spikes = [*spikes, self.blank][::-1]
        return self.spikes.pop(), {}

    def step(self, action: Any) -> Any:
        observation, over = self.spikes.pop(), not self.spikes
        return observation, self.earned(action) if over else 0.0, over, False, {}

    def earned(self, outputs: NDArray[np.float32]) -> float:
        """What an answer is paid."""
        if self.graded:
            return float(outputs[self.answer] - np.logaddexp.reduce(outputs))
        return float(np.argmax(outputs) == self.answer)


def on(*line: int | None) -> NDArray[np.float64]:
    """Rates of four lines, of which one is on, or none, step by step.

    The others fire at rest. Without this noise, the largest output could be told from what is left of the readout
    after any pause, however small.
    """
    return np.array([[ON if k == which else REST for k in range(4)] for which in line])


def memory(generator: np.random.Generator) -> Trial:
    """Stimuli are on the first two lines, for 20 ms each; the pause lasts 10 or 20 ms."""
    sample, test = generator.integers(2, size=2)
    return on(*[sample] * 2, *[None] * generator.integers(1, 3), *[test] * 2), int(sample == test)


def evidence(generator: np.random.Generator) -> Trial:
    """Who counts all spikes is right in 84 % of the trials, who counts those of the last step in 62 %."""
    answer = int(generator.integers(2))
    return np.tile(np.where(np.arange(2) == answer, HIGH, LOW), (10, 1)), answer


def nogo(generator: np.random.Generator) -> Trial:
    """The cue is on one of the first two lines, for 20 ms, the signal on the third; the pause lasts 30 to 50 ms."""
    go = int(generator.integers(2))
    return on(*[go] * 2, *[None] * generator.integers(3, 6), 2), go


def digits(generator: np.random.Generator, part: slice = slice(-HELD_OUT)) -> Trial:
    """Eight rows of eight pixels, a row a step."""
    which = generator.integers(len(DIGITS.target[part]))
    return ON * DIGITS.images[part][which] / 16, int(DIGITS.target[part][which])


DIGITS = load_digits()


class Task(NamedTuple):
    """A task, and what it is scored on."""

    draw: Callable[[np.random.Generator], Trial]
    lines: int
    answers: int
    scored: Callable[[np.random.Generator], Trial]


TASKS = {
    "memory": Task(memory, 4, 2, memory),
    "evidence": Task(evidence, 2, 2, evidence),
    "nogo": Task(nogo, 4, 2, nogo),
    "digits": Task(digits, 8, 10, partial(digits, part=slice(-HELD_OUT, None))),
}


def recurrence_of(kind: str, neurons: int, seed: int) -> Any:
    """Where the search starts: connections that are 0 or 1 stay what they are."""
    fixed = np.random.default_rng(seed).integers(0, 2, (neurons, neurons)).astype(np.float32)
    return {"evolved": 0.5, "fixed": {"recurrent": fixed}, "none": {"recurrent": 0.0}}[kind]


def train(
    name: str, *, neurons: int = 128, gain_in: float = 0.1, recurrence: str = "evolved", graded: bool = False,
    random_state: int = 0, **settings: Any,
) -> tuple[Any, float]:  # fmt: skip
    """A policy, and its share of right answers in 2,000 trials that training never saw."""
    draw, lines, answers, scored = TASKS[name]
    policy = EvolvingConnectivityPolicy(
        network=RSNN(neurons, step_ms=STEP_MS, dt=1.0, tau_syn=50.0, gain_in=gain_in, gain_recurrent=2.0),
        initial_probability=recurrence_of(recurrence, neurons, random_state), learning_rate=0.5,
        normalize_observations=False, eval_episodes=32, confirm_episodes=256, random_state=random_state, **settings,
    )  # fmt: skip
    policy.fit(partial(Trials, draw, lines, answers, graded))
    return policy, policy.score(partial(Trials, scored, lines, answers), n_episodes=2000, seed=10**6)


def main() -> None:
    """Train, and compare with chance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--recurrence", choices=["evolved", "fixed", "none"], default="evolved")
    parser.add_argument("--graded", action="store_true")
    parser.add_argument("--common-episodes", action="store_true")
    parser.add_argument("--generations", type=int, default=20)
    parser.add_argument("--population", type=int, default=256)
    parser.add_argument("--trials", type=int, default=16, help="of each member in a generation")
    parser.add_argument("--neurons", type=int, default=128)
    parser.add_argument("--gain-in", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    _, right = train(
        arguments.task, neurons=arguments.neurons, gain_in=arguments.gain_in, recurrence=arguments.recurrence,
        graded=arguments.graded, common_episodes=arguments.common_episodes, population_size=arguments.population,
        n_generations=arguments.generations, episodes_per_member=arguments.trials, random_state=arguments.seed,
        verbose=5,
    )  # fmt: skip
    print(f"{arguments.task}: {100 * right:.1f} % right; by chance {100 / TASKS[arguments.task].answers:.0f} %")


if __name__ == "__main__":
    main()
