"""Training on cheaper physics: what is played, how far it is from the registered task, and what is refused."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from mujoco_engine import difference, play

from ecpolicy import EvolvingConnectivityPolicy, tuned, with_integrator
from ecpolicy.environments import resolve
from ecpolicy.integrators import INTEGRATORS
from ecpolicy.rollout.mujoco.recognised import recognised

mujoco = pytest.importorskip("mujoco", minversion="4")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MuJoCo leaves its log


def test_the_names_are_mujocos():
    kinds = {kind: getattr(mujoco.mjtIntegrator, f"mjINT_{kind.upper()}") for kind in INTEGRATORS}
    assert {kind: int(number) for kind, number in kinds.items()} == INTEGRATORS


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5"])
def test_these_robots_are_integrated_by_runge_kutta(env_id):
    assert gym.make(env_id).unwrapped.model.opt.integrator == INTEGRATORS["RK4"]


@pytest.mark.parametrize(
    ("env_id", "integrator", "substeps"),
    [("Walker2d-v5", "Euler", None), ("Humanoid-v5", "implicitfast", None), ("Humanoid-v5", "Euler", 2)],
)
def test_the_native_engine_plays_what_gymnasium_plays(env_id, integrator, substeps):
    environment = gym.make(with_integrator(env_id, integrator, substeps=substeps))
    robot = recognised(environment)
    assert difference(robot, play(environment, 40, 2)) is None
    assert difference(robot, play(gym.make(env_id), 40, 2)) is not None


@pytest.mark.parametrize(("env_id", "substeps"), [("Hopper-v5", 2), ("Humanoid-v5", 2), ("HalfCheetah-v5", 7)])
def test_a_step_lasts_as_long_with_other_substeps(env_id, substeps):
    registered, other = gym.make(env_id), gym.make(with_integrator(env_id, "Euler", substeps=substeps))
    for environment in (registered, other):
        environment.reset(seed=0)
        environment.step(0 * environment.action_space.sample())
    assert other.unwrapped.frame_skip == substeps
    assert other.unwrapped.dt == pytest.approx(registered.unwrapped.dt)
    assert other.unwrapped.data.time == pytest.approx(registered.unwrapped.data.time)


def places(environment, actions):
    environment.reset(seed=3)
    for action in actions:
        environment.step(action)
    return environment.unwrapped.data.qpos.copy()


@pytest.mark.parametrize(("substeps", "off"), [(None, 0.2), (2, 0.3)])
@pytest.mark.parametrize("env_id", ["Hopper-v5", "Walker2d-v5", "Humanoid-v5"])  # the Ant's legs snap at the start
def test_robots_move_nearly_as_registered(env_id, substeps, off):
    registered = gym.make(env_id)
    draws = np.random.default_rng(0).uniform(-0.2, 0.2, (10, *registered.action_space.shape))
    actions = draws.astype(registered.action_space.dtype)
    exact, cheap, still = (
        places(registered, actions), places(gym.make(with_integrator(env_id, "Euler", substeps=substeps)), actions),
        places(registered, 0 * actions),
    )  # fmt: skip
    assert 0 < np.abs(cheap - exact).max() < off * np.abs(still - exact).max()


def test_it_is_another_task_which_the_policy_names():
    spec = with_integrator("Hopper-v5", "Euler", healthy_reward=0.5)
    copied = pickle.loads(pickle.dumps(spec))
    assert (spec.reward_threshold, copied.kwargs) == (None, {"healthy_reward": 0.5, "integrator": "Euler"})
    found = resolve(copied)
    assert found.notes == ()
    assert found.identities != resolve("Hopper-v5").identities
    policy = EvolvingConnectivityPolicy(population_size=4, n_generations=2, random_state=0, n_jobs=2).fit(spec)
    assert policy.engine_ == "mujoco"
    assert "healthy_reward=0.5, integrator='Euler'" in policy.environments_[0]
    assert policy.score("Hopper-v5", n_episodes=2, seed=5) != policy.score(spec, n_episodes=2, seed=5)


def test_the_registered_environment_stays_as_it_is():
    before = gym.spec("Hopper-v5").kwargs.copy()
    gym.make(with_integrator("Hopper-v5", "Euler"))
    assert gym.spec("Hopper-v5").kwargs == before
    assert gym.make("Hopper-v5").unwrapped.model.opt.integrator == INTEGRATORS["RK4"]


@pytest.mark.parametrize("integrator", ["euler", "", None, 0])
def test_another_integrator_is_refused(integrator):
    with pytest.raises(ValueError, match=r"integrator must be one of \['Euler', 'RK4', 'implicit', 'implicitfast'\]"):
        with_integrator("Hopper-v5", integrator)


@pytest.mark.parametrize(("substeps", "error"), [(0, ValueError), (-2, ValueError), (2.0, TypeError), ("2", TypeError)])
def test_another_number_of_substeps_is_refused(substeps, error):
    with pytest.raises(error, match=r"substeps must be an integer in \[1, inf\)"):
        with_integrator("Hopper-v5", "Euler", substeps=substeps)


def test_numbers_of_numpy_are_the_same_task():
    spec = with_integrator("Hopper-v5", "Euler", substeps=np.int64(2))
    assert resolve(spec).identities == resolve(with_integrator("Hopper-v5", "Euler", substeps=2)).identities
    assert type(spec.kwargs["substeps"]) is int


def test_a_spec_keeps_what_it_has():
    hopper = tuned("Hopper-v5")
    spec = with_integrator(hopper.environment, "Euler")
    same = with_integrator("Hopper-v5", "Euler", **hopper.environment_kwargs)
    assert resolve(spec).identities == resolve(same).identities
    again = with_integrator(spec, "RK4", substeps=2)
    assert again.kwargs == {**hopper.environment_kwargs, "integrator": "RK4", "substeps": 2}
    assert gym.make(again).unwrapped.model.opt.integrator == INTEGRATORS["RK4"]


def test_an_environment_that_is_made_is_refused():
    with pytest.raises(TypeError, match="An environment's id must be a string, such as 'Hopper-v5'; got <TimeLimit"):
        with_integrator(gym.make("Hopper-v5"), "Euler")


def test_an_environment_without_a_model_is_refused():
    with pytest.raises(ValueError, match="integrator='Euler' is for robots of MuJoCo, and CartPoleEnv is none"):
        resolve(with_integrator("CartPole-v1", "Euler"))
