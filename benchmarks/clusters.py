"""Throughput of a fit on Dask and on Ray beside loky's, two workers each on this machine.

All engines run the same fit (equal seeds, hence equal episodes), each in a thread of its own, and take turns:
generation k is played on one engine, then on the next, then on the third, in an order that rotates, so that both sides
of every ratio are measured within seconds of each other. The first generation, which starts workers and imports, is
left out. ``--horizon 1`` plays episodes of one step each, and so shows what a generation takes beyond its episodes.

    python benchmarks/clusters.py [--env Hopper-v5] [--populations 256 1024] [--generations 10] [--horizon 1000]
"""

import threading
from functools import partial

import numpy as np

import runner
from ecpolicy import EvolvingConnectivityPolicy
from faults import engine

ENGINES = ("loky", "dask", "ray")


class Turns:
    """Lets fits in several threads play their generations in turn."""

    def __init__(self, names, generations):
        self._order = [(g, name) for g in range(1, generations + 1) for name in np.roll(names, g).tolist()]
        self._changed = threading.Condition()

    def of(self, name):
        """The callback that makes the fit of this engine wait."""
        return Turn(self, name)

    def wait(self, turn):
        with self._changed:
            self._changed.wait_for(lambda: not self._order or self._order[0] == turn)

    def end(self, turn):
        with self._changed:
            if turn in self._order:
                self._order.remove(turn)
            self._changed.notify_all()


class Turn:
    """A callback: ends this engine's turn and waits for the next."""

    def __init__(self, turns, name):
        self._turns, self._name = turns, name

    def begin(self, view):
        self._turns.wait((1, self._name))

    def __call__(self, view):
        generation = view.history_[-1]["generation"]
        self._turns.end((generation, self._name))
        if generation < view.n_generations:
            self._turns.wait((generation + 1, self._name))


def play(arguments, population, turns, seconds, name):
    policy = EvolvingConnectivityPolicy(
        population_size=population, n_generations=arguments.generations, learning_rate=0.05, score_threshold=None,
        max_episode_steps=arguments.horizon, keep_best=False, random_state=0,
    )  # fmt: skip
    with engine(name):
        policy.fit(arguments.env, callbacks=turns.of(name))
    seconds[name] = np.array([record["seconds"] for record in policy.history_[1:]])
    seconds["steps"] = np.diff([record["n_env_steps"] + record["n_evaluation_steps"] for record in policy.history_])


def main():
    parser = runner.parser(__doc__)
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--populations", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--generations", type=int, default=10)
    parser.add_argument("--horizon", type=int, default=1000)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    arguments = parser.parse_args()
    names = list(dict.fromkeys(["loky", *arguments.engines]))
    for population in arguments.populations:
        turns, seconds = Turns(names, arguments.generations), {}
        runner.threaded(partial(play, arguments, population, turns, seconds), names)
        steps = seconds.pop("steps")
        print(f"population {population}: steps per generation {steps.tolist()}")
        for name in names:
            print(
                f"population {population}, {name}: {np.median(seconds[name]):.3f} s a generation, "
                f"{np.median(steps / seconds[name]):,.0f} steps/s; "
                f"{runner.spread(seconds['loky'] / seconds[name])} of loky's throughput; "
                f"{1000 * np.median(seconds[name] - seconds['loky']):+.0f} ms a generation",
                flush=True,
            )


if __name__ == "__main__":
    main()
