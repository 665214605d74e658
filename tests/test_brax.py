"""Environments of Brax itself: made by name or given as objects, trained, saved and scored."""

import warnings

import jax
import numpy as np
import pytest

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.environments import resolve
from ecpolicy.networks import RSNN
from ecpolicy.rollout.device_environment import Snapshot
from probes import usual_promotion

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _usual_promotion():
    with usual_promotion():
        yield


@pytest.fixture(scope="module")
def fitted():
    return EvolvingConnectivityPolicy(
        network=RSNN(64), population_size=32, n_generations=5, max_episode_steps=40, eval_episodes=2,
        confirm_episodes=4, random_state=0,
    ).fit("brax/inverted_pendulum")  # fmt: skip


def test_brax_by_name(fitted):
    assert fitted.observation_space_.shape == (4,)
    assert fitted.action_space_.shape == (1,)
    first, last = fitted.history_[0], fitted.history_[-1]
    assert last["return_mean"] > first["return_mean"]
    assert all(record["return_max"] <= 40 for record in fitted.history_)
    assert first["n_env_steps"] == 32 * first["episode_length"]


def test_score_equals_episodes_played_with_predict(fitted, tmp_path):
    """The environment's own step under jit, actions from the host's kernels; rewards are one per step alive."""
    from brax import envs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Brax: its environments are no longer maintained
        environment = envs.get_environment("inverted_pendulum")
    fitted.save(tmp_path / "p.ecp")
    policy = EvolvingConnectivityPolicy.load(tmp_path / "p.ecp")
    returns = policy.episode_returns("brax/inverted_pendulum", n_episodes=3, seed=5, max_episode_steps=60)
    reset, step = jax.jit(environment.reset), jax.jit(environment.step)
    expected = []
    for seed in range(5, 8):
        state, memory, total = reset(jax.random.PRNGKey(seed)), None, 0.0
        for _ in range(60):
            action, memory = policy.predict(np.asarray(state.obs), memory)
            state = step(state, action)
            total += float(state.reward)
            if state.done:
                break
        expected.append(total)
    np.testing.assert_allclose(returns[:, 0], expected, atol=2)  # physics rounds differently in another program
    assert min(expected) > 5


def test_an_environment_of_brax_is_compiled_once():
    """Its copy, which programs keep, holds modules, which cannot be copied."""
    known = resolve("brax/inverted_pendulum")
    (environment,), (identity,) = known.environments, known.identities
    one, other = Snapshot(environment, identity), Snapshot(environment, identity)
    assert one == other
    assert hash(one) == hash(other)
    assert one.environment is not environment
