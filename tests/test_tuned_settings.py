import inspect

import gymnasium as gym
import pytest

from ecpolicy import EvolvingConnectivityPolicy, best_start, tuned
from ecpolicy.networks import RSNN
from ecpolicy.tuned_settings import _table


@pytest.mark.parametrize("name", list(_table()))
def test_every_entry_is_a_policy_and_an_environment(name):
    settings = tuned(name)
    assert set(_table()[name]) <= {"parameters", "network", "environment", "starts"}
    assert set(settings.starts) <= set(inspect.signature(best_start).parameters)
    policy = EvolvingConnectivityPolicy(**settings.parameters)
    for parameter in policy.table.values():
        parameter.check(getattr(policy, parameter.name))
    environment, plain = gym.make(settings.environment), gym.make(name)
    assert environment.observation_space == plain.observation_space
    assert environment.action_space == plain.action_space
    assert environment.spec.max_episode_steps == plain.spec.max_episode_steps


def test_training_can_have_another_reward_than_the_task():
    hopper = tuned("Hopper-v5")
    assert hopper.environment.reward_threshold is None
    assert gym.spec("Hopper-v5").reward_threshold == 3800
    assert gym.spec("Hopper-v5").kwargs == {}
    rewards = []
    for environment in (gym.make(hopper.environment), gym.make("Hopper-v5")):
        environment.reset(seed=0)
        rewards.append(environment.step(environment.action_space.low)[1])
    assert rewards[1] - rewards[0] == pytest.approx(1)


def test_what_is_returned_is_ones_own():
    tuned("Hopper-v5").parameters["population_size"] = 5
    assert tuned("Hopper-v5").parameters["population_size"] == 64


def test_an_id_may_name_its_module_and_leave_out_the_version():
    plain = tuned("Hopper-v5")
    for name in ("gymnasium.envs.mujoco:Hopper-v5", "gymnasium:Hopper-v5", "Hopper"):
        found = tuned(name)
        assert found.parameters == plain.parameters
        assert found.environment == plain.environment
    with pytest.raises(ValueError, match="no tuned settings for 'Hopper-v4'"):
        tuned("Hopper-v4")


def test_unknown_environments_are_named():
    with pytest.raises(ValueError, match="no tuned settings for 'Nothing-v0'; there are for CartPole-v1, "):
        tuned("Nothing-v0")


def test_the_best_network_of_another_reward_is_measured_for_this_one():
    hopper = tuned("Hopper-v5")
    policy = EvolvingConnectivityPolicy(
        network=RSNN(8), population_size=4, n_generations=1, eval_episodes=1, confirm_episodes=1, warm_start=True,
        random_state=0,
    ).fit("Hopper-v5")  # fmt: skip
    paid_for_standing = policy.history_[-1]["best_deployed_return"]
    policy.set_params(n_generations=2).fit(hopper.environment)
    assert policy.history_[-1]["best_deployed_return"] < paid_for_standing - 10
