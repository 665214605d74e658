"""ONNX models act as the policies that they were made of, in onnxruntime, over whole episodes."""

import gymnasium as gym
import numpy as np
import onnxruntime
import pytest

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy
from ecpolicy.networks import LSTM, RSNN, IntegerRSNN, RealRSNN
from probes import ACTION_SPACES, Anything

SMALL = {"n_generations": 2, "population_size": 8, "max_episode_steps": 60, "random_state": 0}
STATE = ("v", "i_syn", "spikes", "readout")


def trained(environment, network):
    estimator = ESPolicy if isinstance(network, RealRSNN) else EvolvingConnectivityPolicy
    return estimator(network=network, **SMALL).fit(environment)


class Session:
    """A model in onnxruntime, with predict's state."""

    def __init__(self, policy):
        self._session = onnxruntime.InferenceSession(
            policy.to_onnx().SerializeToString(), providers=["CPUExecutionProvider"]
        )

    def act(self, observation, state):
        given = {"observation": np.reshape(observation, (1, -1)).astype(np.float64), **(state or {})}
        action, *parts = self._session.run(None, given)
        return action[0], dict(zip(STATE, parts, strict=True))


def largest_difference(policy, environment, episodes, most=10_000):
    """Between the actions of both, given the same observations; and the steps that were compared."""
    session, steps, worst = Session(policy), 0, 0.0
    for seed in range(episodes):
        observation, _ = environment.reset(seed=seed)
        state, theirs, over, left = None, None, False, most
        while not over and left:
            action, state = policy.predict(observation, state)
            other, theirs = session.act(observation, theirs)
            worst = max(
                worst, float(np.abs(np.asarray(action, float).reshape(-1) - np.asarray(other, float).reshape(-1)).max())
            )
            observation, _, terminated, truncated, _ = environment.step(action)
            over, steps, left = terminated or truncated, steps + 1, left - 1
    environment.close()
    return worst, steps


@pytest.mark.parametrize("network", [RSNN(65, gain_in=0.5), IntegerRSNN(65, gain_in=0.5)], ids=str)
@pytest.mark.parametrize(("environment", "least"), [("CartPole-v1", 90), ("Pendulum-v1", 2000), ("Hopper-v5", 90)])
def test_bits_act_like_predict_over_ten_whole_episodes(environment, least, network):
    worst, steps = largest_difference(trained(environment, network), gym.make(environment), 10)
    assert worst < 1e-6
    assert steps >= least


def test_real_weights_act_like_predict():
    """Sums of real weights round in another order, so a spike may differ late in an episode."""
    worst, steps = largest_difference(trained("Pendulum-v1", RealRSNN(40)), gym.make("Pendulum-v1"), 2, most=20)
    assert worst < 1e-4
    assert steps == 40


@pytest.mark.parametrize("space", [*ACTION_SPACES, gym.spaces.Box(-5, 100, (3,), np.int16)], ids=str)
def test_every_action_space(space):
    policy = trained(lambda: Anything(space), RSNN(33, gain_in=1.0))
    assert largest_difference(policy, Anything(space), 2)[0] < 1e-6


def test_a_batch_is_its_rows():
    policy = trained("Pendulum-v1", RSNN(33, gain_in=1.0))
    session = onnxruntime.InferenceSession(policy.to_onnx().SerializeToString())
    seen = np.random.default_rng(0).normal(size=(5, 3))
    together = session.run(None, {"observation": seen})
    for row in range(5):
        alone = session.run(None, {"observation": seen[row : row + 1]})
        np.testing.assert_array_equal(together[0][row], alone[0][0])
        np.testing.assert_array_equal(together[1][row], alone[1][0])


def test_gated_networks_are_refused():
    with pytest.raises(TypeError, match="LSTM cannot be exported in this form; wanted RSNN or IntegerRSNN or RealRSNN"):
        ESPolicy(network=LSTM(8), **SMALL).fit("CartPole-v1").to_onnx()
