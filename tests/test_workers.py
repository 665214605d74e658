"""What workers get and keep: environments that the script defines, instances, and how many are made."""

import functools
import os
import subprocess
import sys
import textwrap
import threading
import types
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import TransformReward

from ecpolicy import EpisodeError, ESPolicy, EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy
from ecpolicy.callbacks import Evaluation
from ecpolicy.networks import RSNN, RealRSNN, Shape
from ecpolicy.rollout.exclusive import exclusively, shared
from probes import Match

ROOT = Path(__file__).parent.parent
PPO = {"network": RealRSNN(6, step_ms=2.0), "n_envs": 3, "n_steps": 4, "max_env_steps": 24, "n_epochs": 1}

SCRIPT = """
import functools
import gymnasium as gym
from probes import Match
from ecpolicy import EvolvingConnectivityPolicy

class Own(Match):
    def __init__(self, length=10):
        self.length = length

gym.register("Script/Own-v0", entry_point=Own, kwargs={"length": 7})
gym.register("Script/Named-v0", entry_point="__main__:Own", kwargs={"length": 5})

if __name__ == "__main__":
    from ecpolicy.networks import RSNN
    settings = dict(network=RSNN(8), population_size=34, n_generations=1, eval_episodes=2, random_state=0, n_jobs=2)
    for environment in (ENVIRONMENTS):
        policy = EvolvingConnectivityPolicy(**settings).fit(environment)
        print(policy.history_[0]["episode_length"], policy.history_[0]["deployed_length"])
"""


def test_ids_that_a_script_registers_are_known_to_workers(tmp_path):
    environments = """
        "Script/Own-v0", gym.spec("Script/Own-v0"), functools.partial(gym.make, "Script/Own-v0"),
        lambda: gym.make("Script/Own-v0"), "Script/Named-v0", functools.partial(gym.make, "Script/Named-v0"),
        lambda: gym.make("Script/Named-v0", length=3), "__main__:Script/Named-v0", Own,
    """
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.replace("ENVIRONMENTS", textwrap.dedent(environments)))
    result = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, check=False,
        env={
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path),
            "NUMBA_CACHE_DIR": os.environ["NUMBA_CACHE_DIR"],
        },
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lengths = [7, 7, 7, 7, 5, 5, 3, 5, 10]
    assert result.stdout.splitlines()[-9:] == [f"{length:.1f} {length:.1f}" for length in lengths]


def test_what_a_worker_does_not_know_is_named(small):
    name = f"hidden_{uuid.uuid4().hex}"
    module = types.ModuleType(name)
    module.Match = Match
    sys.modules[name] = module

    def make():
        return __import__(name).Match()

    with pytest.raises(
        EpisodeError, match=r"could not make an environment: it raised ModuleNotFoundError.*worker process"
    ):
        EvolvingConnectivityPolicy(**small, n_jobs=2).fit(make)

    class Hidden(Match):
        pass

    Hidden.__module__ = name
    module.Hidden = Hidden
    Hidden.__qualname__ = "Hidden"
    with pytest.raises(EpisodeError, match="A worker cannot load the environments or the network: ModuleNotFoundError"):
        EvolvingConnectivityPolicy(**small, n_jobs=2).fit(Hidden)
    del sys.modules[name]


class Made(Match):
    """Leaves a file for every instance."""

    def __init__(self, folder):
        (Path(folder) / uuid.uuid4().hex).touch()


def test_a_list_with_a_vector_environment_makes_few_instances_of_the_others(small, tmp_path):
    policy = EvolvingConnectivityPolicy(**{**small, "population_size": 200, "n_generations": 1})
    policy.fit([SyncVectorEnv([Match] * 2), functools.partial(Made, tmp_path)])
    assert len(list(tmp_path.iterdir())) <= 17  # one to look at, and those that play


def test_an_evaluation_in_a_callback_leaves_the_environments_of_workers_open(small, tmp_path):
    made = {}
    for name, callbacks in (("without", []), ("with", [Evaluation(Match, every=1, n_episodes=6)] * 2)):
        folder = tmp_path / name
        folder.mkdir()
        policy = EvolvingConnectivityPolicy(**{**small, "n_generations": 5, "n_jobs": 2})
        policy.fit(functools.partial(Made, folder), callbacks=callbacks)
        made[name] = len(list(folder.iterdir()))
    assert made["with"] <= 1 + 2 * 16
    assert made["with"] <= made["without"] + 16  # which worker plays what differs


# One environment, one thread


class Exclusive(Match):
    """Raises where it is stepped by two threads at once."""

    def __init__(self):
        self.playing = threading.Lock()

    def step(self, action):
        assert self.playing.acquire(blocking=False)
        answer = super().step(action)
        threading.Event().wait(1e-4)
        self.playing.release()
        return answer


@pytest.mark.parametrize("wrap", [lambda env: env, lambda env: TransformReward(env, lambda r: r),
                                  lambda env: SyncVectorEnv([lambda: env])])  # fmt: skip
def test_two_fits_at_once_take_turns(small, wrap):
    environment, settings = Exclusive(), {**small, "n_generations": 2, "population_size": 20}

    def fit(_):
        return EvolvingConnectivityPolicy(**settings).fit(wrap(environment)).history_[-1]["return_mean"]

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(fit, range(3)))
    assert len(set(found)) == 1


def test_a_copy_for_ppo_is_made_between_episodes():
    environment = Exclusive()
    environment.playing = None  # can be copied
    assert SurrogateGradientPPOPolicy(**PPO).fit(Match()).n_env_steps_ == 24


@pytest.mark.parametrize(
    "policy",
    [
        EvolvingConnectivityPolicy(population_size=4, n_generations=1, network=RSNN(8)),
        SurrogateGradientPPOPolicy(**PPO),
    ],
)
@pytest.mark.parametrize("wrap", [lambda env: env, lambda env: TransformReward(env, lambda r: r)])
def test_a_callable_must_not_give_one_environment_twice(policy, wrap):
    only = Match()
    with pytest.raises(ValueError, match="returned the same environment twice"):
        policy.fit(lambda: wrap(only))


def test_locks_are_given_back():
    one, other = Match(), Match()
    with exclusively([one, other]), exclusively([other, TransformReward(one, abs)]):
        done = threading.Event()
        thread = threading.Thread(target=lambda: (exclusively([one]).__enter__(), done.set()), daemon=True)
        thread.start()
        assert not done.wait(0.1)
    assert done.wait(10)
    assert shared(one, [TransformReward(one, abs)])
    assert shared(SyncVectorEnv([lambda: one]), [one])
    assert not shared(one, [other])
    from ecpolicy.rollout import exclusive

    assert len(exclusive._locks) <= 1  # that of the thread


# Words


class Says(Match):
    """Answers as it is told."""

    def __init__(self, reward=float, reset=lambda observation: (observation, {}), step=lambda answer: answer):
        self.reward, self.to_reset, self.to_step = reward, reset, step

    def reset(self, **kwargs):
        return self.to_reset(super().reset(**kwargs)[0])

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return self.to_step((observation, self.reward(reward), *rest))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            Says(reward=lambda r: np.array([r])),
            r"reward is array\(\[[01]\.\]\), an array of shape \(1,\); wanted a number",
        ),
        (Says(reward=lambda r: None), "reward is None; wanted a number"),
        (Says(reward=lambda r: {"a": r}), r"reward is {'a': [01]\.0}; wanted a number"),
        (Says(reward=lambda r: "much"), "reward is 'much'; wanted a number"),
        (Says(reward=lambda r: 1j), "reward is 1j; wanted a number"),
        (Says(reward=lambda r: "1.0"), "reward is '1.0'; wanted a number"),
        (Says(reward=lambda r: np.ma.masked), "reward is masked, an array of shape"),
        (Says(step=lambda a: (*a[:2], None, *a[3:])), "terminated or truncated is None; wanted a bool"),
        (Says(step=lambda a: (*a[:3], "no", a[4])), "terminated or truncated is 'no'; wanted a bool"),
        (Says(step=lambda a: (*a[:2], np.nan, *a[3:])), "terminated or truncated is nan; wanted a bool"),
        (Says(step=lambda a: (*a[:3], np.zeros(2, bool), a[4])), r"shape \(2,\); wanted a bool"),
        (Says(step=lambda a: (a[0].astype(str), *a[1:])), "observation of dtype <U32; wanted numbers"),
        (Says(step=lambda a: (a[0] + 1j, *a[1:])), "observation of dtype complex64; wanted numbers"),
        (Says(step=lambda answer: answer[:4]), r"step returned 4 values; wanted \(observation, reward, terminated"),
        (Says(step=lambda answer: None), "step returned None; wanted"),
        (
            Says(reset=lambda observation: observation),
            r"reset returned array.* of shape \(1,\); wanted \(observation, info",
        ),
        (Says(reset=lambda observation: (observation,)), "reset returned 1 value; wanted"),
        (Says(reset=lambda observation: None), "reset returned None; wanted"),
    ],
)
@pytest.mark.parametrize(
    "policy",
    [
        EvolvingConnectivityPolicy(population_size=4, n_generations=1, network=RSNN(8)),
        SurrogateGradientPPOPolicy(**PPO),
    ],
    ids=["ec", "ppo"],
)
def test_wrong_answers_are_named(policy, environment, message):
    with pytest.raises(EpisodeError, match=message):
        policy.fit(environment)


@pytest.mark.parametrize("kind", [int, np.int64, float, np.array, lambda over: np.array([over])])
def test_flags_may_be_of_other_classes(small, kind):
    given = Says(step=lambda a: (*a[:2], kind(a[2]), kind(a[3]), a[4]), reward=np.float32)
    record = EvolvingConnectivityPolicy(**{**small, "n_generations": 1}).fit(given).history_[0]
    assert record["episode_length"] == 10
    assert (
        record["return_mean"]
        == EvolvingConnectivityPolicy(**{**small, "n_generations": 1}).fit(Match).history_[0]["return_mean"]
    )


def test_answers_may_be_lists(small):
    settings = {**small, "n_generations": 1}
    listed = Says(reset=lambda observation: [observation, {}], step=list)
    record = EvolvingConnectivityPolicy(**settings).fit(listed).history_[0]
    assert record["return_mean"] == EvolvingConnectivityPolicy(**settings).fit(Match).history_[0]["return_mean"]
    assert SurrogateGradientPPOPolicy(**PPO).fit(listed).n_env_steps_ == 24


class Listed(Match):
    """Observes a tuple in the form of a list, as Tuple.contains allows."""

    observation_space = spaces.Tuple((spaces.Discrete(2), spaces.Box(-1, 1, (2,))))

    def _observe(self):
        observation = super()._observe()
        return [int(observation[0] > 0), np.zeros(2, np.float32)]


def test_tuples_may_be_lists(small):
    policy = EvolvingConnectivityPolicy(**{**small, "n_generations": 1}).fit(Listed)
    one = [1, np.zeros(2, np.float32)]
    assert policy.predict(one)[0] == policy.predict(tuple(one))[0]
    batch = [np.array([1, 0]), np.zeros((2, 2), np.float32)]
    np.testing.assert_array_equal(policy.predict(batch)[0], policy.predict(tuple(batch))[0])


@pytest.mark.parametrize("name", ["observation_space", "action_space"])
def test_an_environment_without_spaces_is_named(small, name):
    class Bare(gym.Env):
        observation_space, action_space = Match.observation_space, Match.action_space

    setattr(Bare, name, None)
    with pytest.raises(TypeError, match=f"Bare instance> has the {name} None; wanted a gymnasium.Space"):
        EvolvingConnectivityPolicy(**small).fit(Bare)
    with pytest.raises(TypeError, match="has the observation_space None"):
        EvolvingConnectivityPolicy(**small).fit(gym.Env)


# Networks of one's own in XLA


class Tensors(NamedTuple):
    """A state of any number of dimensions."""

    steps: Any  # (episodes,)
    planes: Any  # (episodes, 2, 3)


class Counting:
    """A network whose output is the sign of the input, and which counts its steps in odd places."""

    def shapes(self, obs_size, n_outputs):
        return {"output": Shape(obs_size, n_outputs)}

    def initial_scales(self, obs_size, n_outputs):
        return {"output": 1.0}

    def initial_state(self, keys, n_outputs):
        n = keys.shape[0]
        return Tensors(np.zeros(n, np.float32), np.zeros((n, 2, 3), np.float32))

    def step(self, connections, state, x, output, *, owners, rows):
        state.steps[rows] += 1
        state.planes[rows] += x[rows, :1, None]
        matrix = connections["output"][owners[rows]]
        drive = x[rows] + 0.01 * state.steps[rows, None] + 0.1 * state.planes[rows].mean(axis=(1, 2))[:, None]
        output[rows] = np.einsum("ri,rio->ro", drive, matrix)

    def on_device(self):
        return OnDevice()


class OnDevice:
    def prepare(self, drawn):
        return drawn["output"]

    def initial_state(self, keys, n_outputs):
        import jax.numpy as jnp

        n = keys.shape[0]
        return Tensors(jnp.zeros(n, jnp.float32), jnp.zeros((n, 2, 3), jnp.float32))

    def step(self, matrices, state, x, zero):
        import jax.numpy as jnp

        after = Tensors(state.steps + 1, state.planes + x[:, :1, None])
        drive = x + 0.01 * after.steps[:, None] + 0.1 * after.planes.mean(axis=(1, 2))[:, None]
        return after, jnp.einsum("mi,mij->mj", drive, matrices)


def test_a_network_of_ones_own_may_have_any_state_in_xla(small):
    settings = {name: small[name] for name in ("population_size", "eval_episodes", "confirm_episodes", "random_state")}
    made = [
        ESPolicy(network=Counting(), n_generations=2, backend=backend, **settings).fit(Match)
        for backend in ("numpy", "jax")
    ]
    assert [record["return_mean"] for record in made[0].history_] == [
        record["return_mean"] for record in made[1].history_
    ]
