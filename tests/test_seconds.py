"""Where the time of a training goes: shares of environments, networks and the update, in every history."""

import csv
import time
from dataclasses import dataclass

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from ecpolicy import EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy
from ecpolicy.callbacks import CSVLog
from ecpolicy.fitting import evolution_learner
from ecpolicy.history import History
from ecpolicy.networks import RSNN, RealRSNN
from ecpolicy.rollout.seconds import SHARES, Seconds, Stopwatch, shares
from learnt import fingerprint
from probes import DeviceMatch, Match, Pool

TINY = {"network": RSNN(8), "population_size": 8, "n_generations": 2, "eval_episodes": 1, "confirm_episodes": 1,
        "random_state": 0}  # fmt: skip
NAP = 0.002  # seconds


class Slow(Match):
    """Takes its time in every step."""

    def step(self, action):
        time.sleep(NAP)
        return super().step(action)


class SlowToReset(Match):
    """Takes its time to begin."""

    def reset(self, **settings):
        time.sleep(10 * NAP)
        return super().reset(**settings)


@dataclass(frozen=True)
class SlowNetwork(RSNN):
    """Takes its time in every step, for all episodes together."""

    def step(self, *args, **kwargs):
        time.sleep(5 * NAP)
        return super().step(*args, **kwargs)


def told(environment=Match, estimator=EvolvingConnectivityPolicy, **changes):
    """The shares of the last generation, with the rest."""
    policy = estimator(**{**TINY, **changes}).fit(environment)
    found = [policy.history_[-1][name] for name in SHARES]
    return [*found, 1 - sum(found)]


def slow_vector(mode):
    return SyncVectorEnv([Slow] * 4, autoreset_mode=mode)


@pytest.mark.parametrize(
    "environment",
    [
        Slow, SlowToReset, Pool(Slow, 4), slow_vector(AutoresetMode.DISABLED), slow_vector(AutoresetMode.SAME_STEP),
    ],
    ids=["steps", "resets", "pool", "vector", "vector that resets itself"],
)  # fmt: skip
def test_slow_environments_take_the_time(environment):
    environments, networks, update, rest = told(environment)
    assert 1 > environments > max(networks, update, rest)
    assert min(networks, update, rest) > 0


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_shares_are_of_all_workers_together(n_jobs):
    environments, networks, update, rest = told(Slow, n_jobs=n_jobs, n_generations=4)
    assert 1 > environments > max(networks, update, rest)
    assert min(networks, update, rest) > 0


def test_slow_networks_take_the_time():
    environments, networks, update, rest = told(network=SlowNetwork(8))
    assert 1 > networks > max(environments, update, rest)
    assert min(environments, update, rest) > 0


def test_a_slow_update_takes_the_time(monkeypatch):
    measures = evolution_learner.search_measures
    monkeypatch.setattr(evolution_learner, "search_measures", lambda *given: time.sleep(0.5) or measures(*given))
    environments, networks, update, rest = told()
    assert 1 > update > max(environments, networks, rest)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_robots_that_are_played_natively(n_jobs):
    found = told("Hopper-v5", max_episode_steps=20, engine="mujoco", n_jobs=n_jobs)
    assert all(0 < share < 1 for share in found)


def test_updates_by_gradients():
    changes = {"n_envs": 2, "n_steps": 16, "batch_size": 32, "n_epochs": 1, "max_env_steps": 64}
    policy = SurrogateGradientPPOPolicy(random_state=0, network=RealRSNN(8), eval_episodes=1, **changes).fit(Slow)
    found = [policy.history_[-1][name] for name in SHARES]
    assert found[0] > 2 * 16 * NAP / policy.history_[-1]["seconds"] / 2
    assert all(share > 0 for share in found)
    assert sum(found) < 1


def test_where_one_program_steps_all_there_are_none():
    policy = EvolvingConnectivityPolicy(**TINY).fit(DeviceMatch())
    assert not set(SHARES) & set(policy.history_[-1])


def test_a_training_without_them_goes_on(tmp_path):
    policy = EvolvingConnectivityPolicy(**TINY).fit(Match)
    policy.history_ = History(
        {name: value for name, value in record.items() if name not in SHARES} for record in policy.history_
    )
    policy.save(tmp_path / "old.ecp")
    on = EvolvingConnectivityPolicy(**{**TINY, "n_generations": 4})
    on.fit(Match, resume_from=tmp_path / "old.ecp", callbacks=CSVLog(tmp_path / "log.csv"))
    assert [record[SHARES[0]] is None for record in on.history_] == [True, True, False, False]
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["update_share"] == "" for row in rows] == [True, True, False, False]
    assert float(rows[-1]["update_share"]) == on.history_[-1]["update_share"]
    whole = EvolvingConnectivityPolicy(**{**TINY, "n_generations": 4}).fit(Match)
    assert fingerprint(on) == fingerprint(whole)


def test_arithmetic():
    assert Seconds(4, 2, 1).plus(Seconds(1, 1, 1)).minus(Seconds(2, 0, 1)) == (3, 3, 1)
    assert list(shares(Seconds(3.0, 1.0, 2.0), 1.0).values()) == [0.25, 0.5, 0.25]
    assert list(shares(Seconds(), 0.0).values()) == [0, 0, 0]
    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError):
        watch.timed(lambda: time.sleep(NAP) or 1 / 0)()
    assert NAP <= watch.total < 1
    assert watch.timed(np.square)(3) == 9
