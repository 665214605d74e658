"""What tells two environments apart, and who asks: warm starts, resumption, thresholds, compiled programs."""

import copy
import functools
import json
import subprocess
import sys
import warnings
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import TimeLimit, TransformReward

from ecpolicy import EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy
from ecpolicy.environments import resolve
from ecpolicy.identity import description, known_different, same, told
from ecpolicy.networks import RSNN, RealRSNN
from ecpolicy.rollout.seconds import SHARES
from probes import DeviceMatch, Match

PPO = {"network": RealRSNN(6, step_ms=2.0), "n_envs": 2, "n_steps": 20, "max_env_steps": 80, "n_epochs": 1,
       "eval_every": 1, "random_state": 0}  # fmt: skip


class Name(gym.Env):
    """Ten steps; reward 1 for naming the sign that is seen, or with ``invert`` the other one."""

    observation_space, action_space = spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2)
    inverted = False  # of the class

    def __init__(self, invert=False, right=(0, 1)):
        self.invert, self.right = invert, right

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._see(), {}

    def step(self, action):
        named = self.right[int(action)] == (self.sign > 0)
        self.t += 1
        return self._see(), float(named != (self.invert or type(self).inverted)), self.t >= 10, False, {}

    def _see(self):
        self.sign = self.np_random.choice([-1, 1])
        return np.array([self.sign], np.float32)


class Doubled(gym.Wrapper):
    """A wrapper of one's own."""

    def __init__(self, env, times=2):
        super().__init__(env)
        self.times = times

    def step(self, action):
        observation, reward, *rest = self.env.step(action)
        return observation, self.times * reward, *rest


class Colour(Enum):
    RED = 1


@dataclass
class Settings:
    gain: float
    names: tuple


class Slotted:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


def adds(n):
    return lambda reward: reward + n


def identity(environment):
    return resolve(environment).identities


BOUNDS = np.arange(1, 2000, dtype=np.float32)
VALUES = [
    None, True, 1, 1.0, "a", b"a", (1, 2), [1, 2], {1, 2}, {"a": 1}, {"a": [1]}, np.arange(3), np.arange(3.0),
    np.array([None, 1]), np.float32(1), Colour.RED, Settings(1.0, ("a",)), Settings(1.0, ("b",)), Slotted(1),
    Slotted(2), Name, Match, adds(1), adds(2), adds, np.tanh, len, functools.partial(adds, 1),
    functools.partial(adds, n=1), "a".join, "b".join, Path("a"), np.random.default_rng(1), np.random.default_rng(2),
    spaces.Discrete(2), spaces.Discrete(3), spaces.Box(0, BOUNDS), spaces.Box(0, BOUNDS[::-1]), range(3),
]  # fmt: skip


def test_values_are_told_apart():
    told_apart = [description(value) for value in VALUES]
    assert len(set(told_apart)) == len(VALUES)
    assert "?" not in told_apart


@pytest.mark.parametrize(
    "make",
    [lambda: adds(1), lambda: Settings(1.0, ("a",)), lambda: {"b": 1, "a": 2}, lambda: Slotted(1),
     lambda: functools.partial(adds, np.arange(3)), lambda: spaces.Dict(a=spaces.Discrete(2)), lambda: Name(right=[1])],
)  # fmt: skip
def test_equal_values_are_described_alike(make):
    assert description(make()) == description(make())
    assert description({"a": make(), "b": 1}) == description({"b": 1, "a": make()})


@pytest.mark.parametrize("value", [object(), object().__str__, (i for i in range(2)), [object()], {1: iter([])}])
def test_what_cannot_be_looked_into_is_unknown(value):
    assert description(value) == "?"


class Touchy:
    def __getattr__(self, name):
        raise RuntimeError("hands off")


def test_what_raises_when_it_is_looked_at_is_unknown():
    assert description(Touchy()) == "?"
    assert identity(lambda: Doubled(Match(), Touchy()))[0].endswith("#?")


def test_values_that_contain_themselves():
    loop = [1]
    loop.append(loop)
    assert description(loop) not in ("?", description([1, [1]]))
    deep = []
    for _ in range(1000):
        deep = [deep]
    assert description(deep) == "?"


DIFFERENT = [
    Name,
    functools.partial(Name, invert=True),
    functools.partial(Name, right=(1, 0)),
    functools.partial(Name, right=[1, 0]),
    functools.partial(Name, right=np.array([1, 0])),
    Match,
    lambda: TransformReward(Name(), lambda r: 1 - r),
    lambda: TransformReward(Name(), lambda r: 2 - r),
    lambda: TransformReward(Name(), adds(1)),
    lambda: TransformReward(Name(), adds(2)),
    lambda: Doubled(Name()),
    lambda: Doubled(Name(), 3),
    lambda: Doubled(Doubled(Name())),
    lambda: TimeLimit(Name(), 5),
    lambda: TimeLimit(Name(), 6),
    "CartPole-v1",
    functools.partial(gym.make, "CartPole-v1", max_episode_steps=9),
    functools.partial(gym.make, "CartPole-v1", sutton_barto_reward=True),
    lambda: TransformReward(gym.make("CartPole-v1"), lambda r: 10 * r),
    functools.partial(gym.make, "Hopper-v5", healthy_z_range=(0.7, 1.0)),
    functools.partial(gym.make, "Hopper-v5", healthy_z_range=(0.6, 1.0)),
    lambda: gym.wrappers.vector.TransformReward(SyncVectorEnv([Name] * 2), lambda r: 1 - r),
    lambda: SyncVectorEnv([Name, functools.partial(Name, invert=True)]),
    DeviceMatch(),
    DeviceMatch(4),
]


def test_environments_are_told_apart():
    found = [identity(environment)[0] for environment in DIFFERENT]
    assert len(set(found)) == len(DIFFERENT)
    assert all(same([one], [one]) for one in found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CartPole-v1", lambda: gym.make("CartPole-v1", render_mode="rgb_array")),
        ("CartPole-v1", gym.make("CartPole-v1")),
        ("CartPole-v1", gym.spec("CartPole-v1")),
        ("CartPole-v1", lambda: gym.wrappers.RecordEpisodeStatistics(gym.make("CartPole-v1"))),
        (Name, lambda: SyncVectorEnv([Name] * 3)),
        ("CartPole-v1", lambda: gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")),
        (lambda: TransformReward(Name(), adds(1)), lambda: TransformReward(Name(), adds(1))),
        (DeviceMatch(4), DeviceMatch(4)),
    ],
)
def test_the_same_environment_given_in_another_way(one, other):
    assert same(identity(one), identity(other))


def test_an_instance_changes_as_it_is_played():
    environment = Name()
    before = identity(environment)
    policy_of(n_generations=1).fit(environment)
    assert not known_different(*before, *identity(environment))
    assert not known_different(*before, *identity(Name))
    assert not same(before, identity(environment))  # it may have been changed from outside
    assert known_different(*before, *identity(Match()))
    assert known_different(*identity(lambda: Doubled(Name())), *identity(lambda: Doubled(Name(), 3)))


def test_unknown_environments_are_not_even_themselves():
    hidden = functools.partial(Name, right=object())
    assert identity(hidden) == identity(hidden)
    assert not same(identity(hidden), identity(hidden))
    assert not known_different(*identity(hidden), *identity(hidden))
    assert told(identity(hidden)[0]).endswith("test_identity.Name")


def test_identities_are_the_same_in_another_process():
    root = Path(__file__).parent.parent
    code = f"import sys, json; sys.path[:0] = ['.', 'tests']; import {__name__} as t; print(json.dumps(t.known()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert json.loads(result.stdout.splitlines()[-1]) == json.loads(json.dumps(known()))


def known():
    return [identity(environment)[0].partition("#")[2] for environment in DIFFERENT[:-2]]


# Warm starts and resumption


def policy_of(**changes):
    settings = {"n_generations": 15, "population_size": 64, "network": RSNN(16), "random_state": 0}
    return EvolvingConnectivityPolicy(**{**settings, **changes})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Name, functools.partial(Name, right=np.array([1, 0]))),
        (Name, lambda: TransformReward(Name(), lambda r: 1 - r)),
    ],
    ids=["argument", "wrapper"],
)
def test_the_network_kept_for_another_reward_is_measured_on_this_one(first, second):
    policy = policy_of().fit(first)
    assert policy.score(first) > 8
    kept = policy.deployed_generation_
    policy.set_params(warm_start=True, n_generations=60).fit(second)
    assert policy.deployed_generation_ > kept
    assert policy.score(second) > 8
    assert policy.history_[15]["best_deployed_return"] < 5


def test_what_changes_unseen_is_measured_as_well(monkeypatch):
    """An instance's attribute, a class's attribute, a global: whatever it is, scores are of now."""
    environment = Name()
    policy = policy_of(warm_start=True).fit(environment)
    environment.invert = True
    policy.set_params(n_generations=16).fit(environment)
    assert policy.history_[-1]["best_deployed_return"] < 5
    policy = policy_of(warm_start=True).fit(Name)
    monkeypatch.setattr(Name, "inverted", True)
    policy.set_params(n_generations=16).fit(Name)
    assert policy.history_[-1]["best_deployed_return"] < 5
    policy.set_params(n_generations=60).fit(Name)
    assert policy.score(Name) > 8


def test_partial_fit_on_another_task():
    policy = policy_of().fit(Name).partial_fit(functools.partial(Name, invert=True))
    assert policy.history_[-1]["best_deployed_return"] < 5


def test_measuring_again_on_the_same_task_changes_nothing(tmp_path):
    whole = policy_of(n_generations=20).fit(Name)
    policy = policy_of(n_generations=10).fit(Name)
    policy.save(tmp_path / "half.ecp")
    resumed = policy_of(n_generations=20).fit(Name, resume_from=tmp_path / "half.ecp")
    continued = policy.set_params(warm_start=True, n_generations=20).fit(Name)
    timed = dict.fromkeys(["seconds", *SHARES], 0)
    for other in (resumed, continued):
        assert [record | timed for record in other.history_] == [record | timed for record in whole.history_]


def test_ppo_measures_its_best_network_again():
    policy = SurrogateGradientPPOPolicy(**PPO).fit(Name)
    best = policy.history_[-1]["best_deployed_return"]
    policy.set_params(warm_start=True, max_env_steps=120).fit(lambda: TransformReward(Name(), lambda r: r - 100))
    assert policy.history_[-1]["best_deployed_return"] < best - 500
    policy.partial_fit(lambda: TransformReward(Name(), lambda r: r - 1000))
    assert policy.history_[-1]["best_deployed_return"] < -5000


@pytest.fixture
def registered():
    gym.register("Probe/Name-v0", entry_point=Name, max_episode_steps=10, reward_threshold=9.0)
    yield "Probe/Name-v0"
    del gym.registry["Probe/Name-v0"]


def test_a_task_is_not_solved_as_another_was(registered):
    policy = policy_of(n_generations=100).fit(registered)
    assert policy.stop_reason_ == "score_threshold"
    before = policy.n_generations_
    second = functools.partial(gym.make, registered, right=(1, 0))
    policy.set_params(warm_start=True, n_generations=before + 40).fit(second)
    assert policy.n_generations_ == before + 40
    assert policy.score(second) > 8
    again = policy.n_generations_
    policy.fit(registered)  # neither is the first one solved any more
    assert policy.n_generations_ > again or policy.stop_reason_ == "n_generations"


def test_a_task_that_was_solved_stays_solved(registered):
    policy = policy_of(n_generations=100, warm_start=True).fit(registered)
    before = policy.n_generations_
    assert policy.fit(registered).n_generations_ == before
    assert policy.stop_reason_ == "score_threshold"


@pytest.mark.parametrize("policy", [policy_of(n_generations=2), SurrogateGradientPPOPolicy(**PPO)])
def test_a_checkpoint_of_another_task_is_named(policy, tmp_path):
    policy.fit(Name).save(tmp_path / "p.ecp")
    further = type(policy)(**policy.get_params(deep=False)).set_params(random_state=None)
    if "n_generations" in policy.get_params():
        further.set_params(n_generations=3)
    else:
        further.set_params(max_env_steps=120)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        further.fit(Name, resume_from=tmp_path / "p.ecp")
    with pytest.warns(UserWarning, match=r"training on \S*Name; the environment is now probes.Match\."):
        further.fit(Match, resume_from=tmp_path / "p.ecp")
    with pytest.warns(UserWarning, match=r"now \S*Name \(of the same name, but with other settings or code\)"):
        further.fit(functools.partial(Name, invert=True), resume_from=tmp_path / "p.ecp")


# Registered thresholds


def with_attribute(environment, **attributes):
    vars(environment.unwrapped).update(attributes)
    return environment


def of_another_id(name):
    spec = copy.deepcopy(gym.spec(name))
    spec.id = "Unregistered-v0"
    return spec


def played(environment):
    environment.reset(seed=3)
    while not any(environment.step(1)[2:4]):
        pass
    return environment


@pytest.mark.parametrize(
    "environment",
    [
        "CartPole-v1",
        gym.spec("CartPole-v1"),
        lambda: gym.make("CartPole-v1"),
        gym.make("CartPole-v1"),
        played(gym.make("CartPole-v1")),
        of_another_id("CartPole-v1"),
        lambda: gym.wrappers.RecordEpisodeStatistics(gym.make("CartPole-v1", render_mode="rgb_array")),
        lambda: gym.make_vec("CartPole-v1", num_envs=2),
        lambda: gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"),
    ],
)
def test_a_registered_threshold_is_of_the_environment_as_registered(environment):
    known = resolve(environment)
    assert (known.reward_threshold, known.notes) == (475, ())


@pytest.mark.parametrize(
    "environment",
    [
        lambda: TransformReward(gym.make("CartPole-v1"), lambda r: 10 * r),
        lambda: gym.make("CartPole-v1", sutton_barto_reward=True),
        lambda: gym.make("CartPole-v1", max_episode_steps=100),
        lambda: Doubled(gym.make("CartPole-v1")),
        lambda: gym.wrappers.NormalizeReward(gym.make("CartPole-v1")),
        lambda: TimeLimit(gym.make("CartPole-v1"), 50),
        lambda: gym.make("CartPole-v1").unwrapped,
        lambda: with_attribute(gym.make("CartPole-v1"), theta_threshold_radians=1e9),
        lambda: with_attribute(gym.make("CartPole-v1"), step=lambda action: None),
        with_attribute(gym.make("CartPole-v1"), gravity=1.0),
        lambda: SyncVectorEnv([lambda: with_attribute(gym.make("CartPole-v1"), force_mag=1.0)]),
        lambda: Doubled(gym.make(of_another_id("CartPole-v1"))),
        lambda: gym.wrappers.vector.TransformReward(gym.make_vec("CartPole-v1", num_envs=2), lambda r: 10 * r),
        lambda: SyncVectorEnv([lambda: TransformReward(gym.make("CartPole-v1"), lambda r: 10 * r)]),
        ["CartPole-v1", lambda: Doubled(gym.make("CartPole-v1"))],
    ],
)
def test_a_registered_threshold_does_not_count_elsewhere(environment):
    known = resolve(environment)
    assert known.reward_threshold is None
    assert "The registered reward threshold of 475" in known.notes[0]


class Sized(Name):
    def __init__(self, size):
        super().__init__()
        self.size = size


def test_a_threshold_of_what_cannot_be_made_as_registered():
    gym.register("Probe/Sized-v0", entry_point=Sized, max_episode_steps=10, reward_threshold=9.0)
    known = resolve(lambda: gym.make("Probe/Sized-v0", size=3))
    assert (known.reward_threshold, known.limits) == (None, (10,))
    del gym.registry["Probe/Sized-v0"]


def test_the_log_says_that_a_threshold_does_not_count(small, capsys):
    scaled = functools.partial(TransformReward, gym.make("CartPole-v1"), lambda r: 10 * r)
    policy = EvolvingConnectivityPolicy(**{**small, "n_generations": 2}, verbose=1).fit(scaled())
    assert policy.stop_reason_ == "n_generations"
    assert policy.notes_[0] in capsys.readouterr().out.splitlines()[0]
    policy.set_params(score_threshold=900.0).fit(scaled())
    assert policy.notes_ == []


def test_thresholds_of_envpool(monkeypatch):
    """By its registry, as it has it: class of the spec and settings."""

    class Spec:
        gen_config = staticmethod(
            lambda **settings: SimpleNamespace(_asdict=lambda: {"reward_threshold": 475.0, **settings})
        )

        def __init__(self, **settings):
            self.config = self.gen_config(**settings)

    registry = SimpleNamespace(specs={"CartPole-v1": ("envpool.classic", "Spec", {"max_episode_steps": 500})})
    monkeypatch.setitem(sys.modules, "envpool.registration", SimpleNamespace(registry=registry))
    from ecpolicy.registered import is_as_registered

    assert is_as_registered([SimpleNamespace(spec=Spec(max_episode_steps=500, num_envs=4, seed=7))], "", True)
    assert not is_as_registered([SimpleNamespace(spec=Spec(max_episode_steps=100))], "", True)
    assert not is_as_registered([SimpleNamespace(spec=Spec(max_episode_steps=500, healthy_reward=0.0))], "", True)


# Compiled programs


def test_an_environment_in_jax_is_played_as_it_is_now():
    environment = DeviceMatch(40)
    policy = EvolvingConnectivityPolicy(n_generations=1, population_size=4, network=RSNN(8), random_state=0).fit(
        environment
    )
    assert (policy.evaluate(environment, n_episodes=3).lengths == 40).all()
    environment.length = 4
    assert (policy.evaluate(environment, n_episodes=3).lengths == 4).all()
    assert (policy.evaluate(environment, n_episodes=30).lengths == 4).all()  # other sizes are traced again
    environment.length = 40
    assert (policy.evaluate(environment, n_episodes=50).lengths == 40).all()
    assert (policy.evaluate([environment, DeviceMatch(4)], n_episodes=2).lengths == [40, 4]).all()


def test_what_a_class_holds_is_compiled_in(monkeypatch):
    class Fixed(DeviceMatch):
        steps = 12

        def __init__(self):
            super().__init__()
            del self.length

        length = property(lambda self: type(self).steps, lambda self, value: None, lambda self: None)

    policy = EvolvingConnectivityPolicy(n_generations=1, population_size=4, network=RSNN(8), random_state=0).fit(
        Fixed()
    )
    monkeypatch.setattr(Fixed, "steps", 5)
    assert (policy.evaluate(Fixed(), n_episodes=2).lengths == 5).all()


def test_what_a_class_counts_is_no_other_task():
    class Counts(Name):
        episodes = 0

        def reset(self, **kwargs):
            type(self).episodes += 1
            return super().reset(**kwargs)

    before = identity(Counts)
    policy_of(n_generations=1).fit(Counts)
    assert same(before, identity(Counts))


def test_an_environment_in_jax_with_hidden_content_is_compiled_anew():
    environment = DeviceMatch(7)
    environment.hidden = [object()]
    policy = EvolvingConnectivityPolicy(n_generations=1, population_size=4, network=RSNN(8), random_state=0).fit(
        environment
    )
    environment.length = 3
    assert (policy.evaluate(environment, n_episodes=2).lengths == 3).all()
