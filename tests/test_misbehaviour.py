"""Environments that hang, leak, change or do not close; what raises or returns NaN is in the other files."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from joblib import parallel_config
from joblib.externals.loky import get_reusable_executor

from ecpolicy import EpisodeError, EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy
from ecpolicy.networks import RSNN, RealRSNN, Shape
from ecpolicy.rollout import engines
from learnt import fingerprint
from probes import Broken, ChangesSpaces, Counts, Hangs, HangsDeaf, Match, NotesItsProcess

PPO = {"network": RealRSNN(8, step_ms=2.0), "n_envs": 4, "n_steps": 8, "max_env_steps": 320, "random_state": 0}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_hanging_environment_is_interrupted_and_named(small, n_jobs):
    policy = EvolvingConnectivityPolicy(**small, timeout=1, n_jobs=n_jobs)
    began = time.perf_counter()
    with pytest.raises(EpisodeError, match=r"environment hangs: .* timeout=1(\.0)? s at step 3 of the episode started"):
        policy.fit(Hangs)
    assert time.perf_counter() - began < 20
    assert policy.fit(Match).n_generations_ == 4
    with pytest.raises(EpisodeError, match="hangs"):
        policy.score(Hangs)


def test_a_worker_that_cannot_be_interrupted_is_given_up(small, monkeypatch):
    monkeypatch.setattr(engines, "GRACE", (1.0, 1.0))
    policy = EvolvingConnectivityPolicy(**small, timeout=1, n_jobs=2)
    with pytest.raises(EpisodeError, match=r"No worker finished its episodes within timeout=1(\.0)? s: .*reset\(seed="):
        policy.fit(HangsDeaf)
    policy.set_params(timeout=100)  # new workers may be slow to start on a busy machine
    assert fingerprint(policy.fit(Match)) == fingerprint(EvolvingConnectivityPolicy(**small).fit(Match))


def test_a_hanging_vector_environment_and_a_hanging_update(small):
    with pytest.raises(EpisodeError, match="vector environment hangs"):
        EvolvingConnectivityPolicy(**small, timeout=1).fit(SyncVectorEnv([Hangs] * 2))
    with pytest.raises(EpisodeError, match="An update took longer than timeout=1"):
        SurrogateGradientPPOPolicy(**PPO, timeout=1).fit(Hangs)


def test_a_limit_that_is_kept_changes_nothing(small):
    limited = EvolvingConnectivityPolicy(**small, timeout=100).fit(Match)
    assert fingerprint(limited) == fingerprint(EvolvingConnectivityPolicy(**small).fit(Match))
    for bad in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="timeout must be a number in"):
            EvolvingConnectivityPolicy(**small, timeout=bad).fit(Match)


def test_workers_that_grow_are_replaced(small, tmp_path):
    """loky replaces a process that has grown by 300 MB, where psutil is there to tell."""
    settings = {**small, "population_size": 160, "n_generations": 1}
    expected = fingerprint(EvolvingConnectivityPolicy(**settings).fit(Match))
    policy = EvolvingConnectivityPolicy(**settings, n_jobs=2)
    policy.fit(lambda: NotesItsProcess(tmp_path, seconds_per_step=0.008, bytes_leaked=40_000_000))
    assert fingerprint(policy) == expected
    assert len(list(tmp_path.iterdir())) > 2


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="POSIX shared memory is not a folder on this system")
def test_nothing_piles_up_in_shared_memory(small):
    """Probabilities of more than 1 MB, which joblib would put there and keep until the workers end."""

    def size():
        return sum(path.stat().st_size for path in Path("/dev/shm").rglob("*") if path.is_file())

    before, seen = size(), []
    settings = {**small, "network": RSNN(600), "population_size": 32}
    EvolvingConnectivityPolicy(**settings, n_jobs=2).fit(Match, callbacks=lambda view: seen.append(size()))
    assert len(seen) == 4
    assert max(seen) - before < 2**20


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("how", ["instance", "episode"])
def test_an_environment_that_changes_its_spaces_is_named(small, n_jobs, how):
    ChangesSpaces.made = 0
    policy = EvolvingConnectivityPolicy(**small, n_jobs=n_jobs)
    name = "action_space" if how == "instance" else "observation_space"
    with pytest.raises(EpisodeError, match=f"The {name} of .*ChangesSpaces.* was .* and has become"):
        policy.fit(lambda: ChangesSpaces(how))


def test_a_vector_environment_and_ppo_notice_as_well(small):
    vectorized = SyncVectorEnv([Match] * 2)
    policy = EvolvingConnectivityPolicy(**small).fit(vectorized)
    change = lambda view: setattr(vectorized, "single_action_space", gym.spaces.Discrete(5))  # noqa: E731
    with pytest.raises(EpisodeError, match=r"action_space of .* was Discrete\(2\) and has become Discrete\(5\)"):
        policy.fit(vectorized, callbacks=change)
    with pytest.raises(EpisodeError, match=r"observation_space of .* has become"):
        SurrogateGradientPPOPolicy(**PPO).fit(lambda: ChangesSpaces("episode"))


def test_equal_spaces_may_be_other_objects(small):
    class Remakes(Match):
        @property
        def observation_space(self):
            return gym.spaces.Box(-1, 1, (1,), np.float32)

    assert EvolvingConnectivityPolicy(**small).fit(Remakes).n_generations_ == 4


@pytest.mark.parametrize("backend", ["here", "threading", "loky"])
def test_environments_are_closed(small, tmp_path, backend):
    n_jobs = 1 if backend == "here" else 2
    open_then = []
    with parallel_config("loky" if backend == "here" else backend):
        policy = EvolvingConnectivityPolicy(**small, n_jobs=n_jobs)
        for make in (partial(Counts, tmp_path), lambda: Counts(tmp_path)):
            policy.fit(make, callbacks=lambda view: open_then.append(len(list(tmp_path.iterdir()))))
    assert min(open_then) > 2
    if backend == "loky":  # its processes keep them for the next fit
        get_reusable_executor().shutdown(wait=True)
    assert list(tmp_path.iterdir()) == []


def test_environments_of_ppo_are_closed_whatever_happens(tmp_path):
    made = []

    def fails_later():
        made.append(Counts(tmp_path) if len(made) < 3 else 1 / 0)
        return made[-1]

    with pytest.raises(EpisodeError, match="could not make an environment: it raised ZeroDivisionError"):
        SurrogateGradientPPOPolicy(**PPO).fit(fails_later)
    with pytest.raises(ValueError, match=r"RecurrentPPO does not take ppo_kwargs=.*nonsense.*: "):
        SurrogateGradientPPOPolicy(**PPO, ppo_kwargs={"device": "nonsense"}).fit(lambda: Counts(tmp_path))
    SurrogateGradientPPOPolicy(**PPO).fit(lambda: Counts(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_closed_keeps_nothing_open_and_no_training_from_its_end(small, tmp_path):
    policy = EvolvingConnectivityPolicy(**small)
    with pytest.warns(RuntimeWarning, match="could not be closed: it raised OSError: the plug is stuck") as caught:
        policy.fit(lambda: Counts(tmp_path, fails=True))
    assert len(caught) > 10
    assert policy.stop_reason_ == "n_generations"
    assert list(tmp_path.iterdir()) == []


def test_a_limit_that_cannot_be_kept_is_a_warning(small):
    def fit():
        with pytest.warns(RuntimeWarning, match="timeout=100.* has no effect"):
            EvolvingConnectivityPolicy(**small, timeout=100).fit(Match)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(fit).result()


@dataclass(frozen=True)
class Stumbles:
    """A network that raises."""

    def shapes(self, obs_size, n_outputs):
        return {"output": Shape(obs_size, n_outputs)}

    def initial_state(self, keys, n_outputs):
        return ()

    def step(self, connections, state, x, output, *, owners, rows):
        raise ZeroDivisionError("a neuron of no size")


@pytest.mark.parametrize("environment", [Match, lambda: SyncVectorEnv([Match] * 2)])
def test_a_network_that_raises_is_named_and_not_the_environment(environment):
    policy = EvolvingConnectivityPolicy(network=Stumbles(), population_size=4, n_generations=1, random_state=0)
    with pytest.raises(EpisodeError, match=r"^Stumbles\(\) raised ZeroDivisionError: a neuron of no size in its step"):
        policy.fit(environment)


def test_what_cannot_be_sent_to_workers_is_named(small):
    class Locked(Match):
        def __init__(self):
            self.lock = threading.Lock()

    with pytest.raises(ValueError, match=r"cannot be sent to worker processes: .*lock.* or n_jobs=1"):
        EvolvingConnectivityPolicy(**small, n_jobs=2).fit(Locked())


def test_a_seed_that_a_vector_environment_did_not_use_is_not_named(small):
    with pytest.raises(EpisodeError, match="in an episode of a vector environment that seeds itself"):
        EvolvingConnectivityPolicy(**small).fit(SyncVectorEnv([lambda: Broken("nan observation")] * 2))


class Wide(Match):
    """Actions and observations of another precision, checked."""

    def __init__(self, dtype):
        self.observation_space = gym.spaces.Box(-1, 1, (1,), dtype)
        self.action_space = gym.spaces.Box(-2, 2, (1,), dtype)

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        return self._observe(), float(action[0]), self.t >= self.length, False, {}


@pytest.mark.parametrize("order", [(np.float32, np.float64), (np.float64, np.float32)])
def test_environments_may_differ_in_precision(small, order):
    """EnvPool's tasks have float64 actions where Gymnasium's have float32."""
    factories = [partial(Wide, dtype) for dtype in order]
    policy = EvolvingConnectivityPolicy(**small).fit(factories)
    assert policy.evaluate(factories, n_episodes=2).returns.shape == (2, 2)
