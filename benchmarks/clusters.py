"""Throughput of a fit on Dask and on Ray beside loky's, two workers each on this machine.

All engines run the same fit (equal seeds, hence equal episodes), each in a thread of its own, and take turns:
generation k is played on one engine, then on the next, then on the third, in an order that rotates, so that both sides
of every ratio are measured within seconds of each other. The first generation, which starts workers and imports, is
left out. ``--horizon 1`` plays episodes of one step each, and so shows what a generation takes beyond its episodes.
"""

import threading
from functools import partial

import numpy as np

import runner
from ecpolicy import EvolvingConnectivityPolicy
from faults import engine

OPTIONS = {"env": "Hopper-v5", "populations": [256, 1024], "generations": 10, "horizon": 1000,
           "engines": ["loky", "dask", "ray"]}  # fmt: skip


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


def play(options, population, turns, seconds, name):
    policy = EvolvingConnectivityPolicy(
        population_size=population, n_generations=options.generations, learning_rate=0.05, score_threshold=None,
        max_episode_steps=options.horizon, keep_best=False, random_state=0,
    )  # fmt: skip
    with engine(name):
        policy.fit(options.env, callbacks=turns.of(name))
    seconds[name] = np.array([record["seconds"] for record in policy.history_[1:]])
    seconds["steps"] = np.diff([record["n_env_steps"] + record["n_evaluation_steps"] for record in policy.history_])


def rows(options):
    names = list(dict.fromkeys(["loky", *options.engines]))
    for population in options.populations:
        turns, seconds = Turns(names, options.generations), {}
        runner.threaded(partial(play, options, population, turns, seconds), names)
        steps = seconds.pop("steps")
        for name in names:
            own, lokys = seconds[name], seconds["loky"]
            yield {"population": population, "steps a generation": steps, "engine": name, "s a generation": own,
                   "steps/s": steps / own, "of loky's": lokys / own, "ms more": 1000 * (own - lokys)}  # fmt: skip
