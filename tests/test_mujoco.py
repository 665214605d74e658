"""The native engine for Gymnasium's MuJoCo tasks: the numbers of ``gym.Env``, bit for bit."""

import pickle
import subprocess
import sys
import threading
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.mujoco import MujocoEnv, hopper_v5, humanoid_v5
from mujoco_engine import IDS, difference, play

from ecpolicy.rollout.mujoco.recognised import recognised
from ecpolicy.rollout.mujoco.robot import Robot
from ecpolicy.rollout.mujoco.simulations import Simulations
from ecpolicy.rollout.outcome import EpisodeError

mujoco = pytest.importorskip("mujoco", minversion="4")
ASSETS = Path(hopper_v5.__file__).parent / "assets"

WALK = {"forward_reward_weight": 1.7, "ctrl_cost_weight": 0.3, "reset_noise_scale": 0.2}
SEEN = {"exclude_current_positions_from_observation": False}
ILL = {"healthy_reward": 2, "terminate_when_unhealthy": False}
BENT = {"healthy_z_range": (1.1, 1.5), "healthy_angle_range": (-0.1, 0.1), "reset_noise_scale": 0.02}
UNSEEN = {f"include_{field}_in_observation": False for field in ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")}
FREE = {"Humanoid-v5": "contact_cost_weight", "HumanoidStandup-v5": "impact_cost_weight"}
KWARGS = [
    *[(f"HalfCheetah-{version}", WALK | SEEN) for version in ("v4", "v5")],
    ("HalfCheetah-v5", {"frame_skip": 2, "forward_reward_weight": np.float64(0.3), "ctrl_cost_weight": 1}),
    *[(f"Swimmer-{version}", WALK | SEEN) for version in ("v4", "v5")],
    ("Swimmer-v5", {"frame_skip": 1}),
    *[(f"Hopper-{version}", WALK | SEEN | ILL | BENT) for version in ("v4", "v5")],
    *[(f"Hopper-{version}", {"healthy_state_range": (-1.5, 1.5)}) for version in ("v4", "v5")],
    ("Hopper-v5", {"frame_skip": 7}),
    *[(f"Walker2d-{version}", WALK | SEEN | ILL | BENT) for version in ("v4", "v5")],
    ("Walker2d-v5", {"frame_skip": 3, "xml_file": "walker2d.xml"}),
    ("Ant-v4", {"use_contact_forces": True, "contact_cost_weight": 0.1, "contact_force_range": (-0.4, 2)}),
    ("Ant-v4", {"ctrl_cost_weight": 0.1, "reset_noise_scale": 0.3, "healthy_z_range": (0.5, 0.9), **ILL, **SEEN}),
    ("Ant-v5", {**WALK, **SEEN, **ILL, "healthy_z_range": [0.5, 0.9], "contact_cost_weight": 0.1}),
    ("Ant-v5", {"xml_file": "hopper.xml"}),
    ("Ant-v5", {"main_body": 4, "frame_skip": 2, "contact_force_range": (-0.3, 0.2)}),
    ("Ant-v5", {"main_body": "front_left_leg", "include_cfrc_ext_in_observation": False}),
    ("Ant-v5", {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0.0}),
    ("Humanoid-v4", {**WALK, **SEEN, **ILL, "healthy_z_range": (1.38, 1.42)}),
    ("Humanoid-v5", {**WALK, **SEEN, **ILL, "healthy_z_range": (1.38, 1.42), "contact_cost_weight": 0.01}),
    ("Humanoid-v5", {**UNSEEN, "contact_cost_weight": 1, "contact_cost_range": (0.1, 0.3)}),
    *[("Humanoid-v5", {name: False, "frame_skip": 2}) for name in UNSEEN],
    *[(env_id, {**UNSEEN, cost: 0.0}) for env_id, cost in FREE.items()],
    *[(env_id, {cost: 0}) for env_id, cost in FREE.items()],
    ("HumanoidStandup-v5", {**SEEN, "uph_cost_weight": 3, "ctrl_cost_weight": 1, "impact_cost_weight": 0.1}),
    ("HumanoidStandup-v5", {**UNSEEN, "impact_cost_range": (2, 3), "reset_noise_scale": 0.2, "frame_skip": 2}),
    ("InvertedPendulum-v5", {"reset_noise_scale": 0.1, "frame_skip": 1}),
    ("InvertedDoublePendulum-v5", {"reset_noise_scale": 0.3, "frame_skip": 2, "healthy_reward": 3.5}),
    ("Reacher-v5", {"reward_dist_weight": 0.3, "reward_control_weight": 2, "frame_skip": 4}),
    ("Pusher-v5", {"reward_near_weight": 0.3, "reward_dist_weight": 2.5, "reward_control_weight": 3, "frame_skip": 2}),
]

BALL_AND_WHEEL = """<mujoco><option><flag constraint="disable"/></option><worldbody>
<body name="torso"><joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/><joint type="slide"/>
<geom size=".1"/></body>
<body pos="9 0 0"><joint name="wheel"/><geom size=".1" pos=".3 0 0"/></body>
</worldbody><actuator><motor joint="wheel" ctrlrange="-1 1"/></actuator></mujoco>"""  # only the wheel overflows


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MuJoCo leaves its log


def robot_of(environment):
    robot = recognised(environment)
    assert isinstance(robot, Robot), robot
    return robot


def assert_equal_to_gymnasium(environment, steps=40, lanes=3):
    assert difference(robot_of(environment), play(environment, steps, lanes)) is None


@pytest.mark.parametrize("env_id", IDS)
def test_every_task_has_gymnasiums_numbers(env_id):
    assert_equal_to_gymnasium(gym.make(env_id), 80)


@pytest.mark.parametrize(("env_id", "kwargs"), KWARGS)
def test_every_setting_has_gymnasiums_numbers(env_id, kwargs):
    assert_equal_to_gymnasium(gym.make(env_id, **kwargs))


def test_a_difference_is_found():
    played = play(gym.make("Hopper-v5"), 30, 2)
    for other in (gym.make("Hopper-v5", reset_noise_scale=0.1), gym.make("Hopper-v5", healthy_reward=1 + 1e-15)):
        assert difference(robot_of(other), played) is not None
    assert "names in info" in difference(robot_of(gym.make("Hopper-v4")), played)


def test_another_model_is_played(tmp_path):
    file = tmp_path / "slow.xml"
    file.write_text(
        (ASSETS / "hopper.xml").read_text().replace('timestep="0.002"', 'timestep="0.003" gravity="0 0 -5"')
    )
    environment = gym.make("Hopper-v5", xml_file=str(file))
    assert environment.unwrapped.model.opt.timestep == 0.003
    assert_equal_to_gymnasium(environment)


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Ant-v5"])
def test_what_was_changed_in_place_is_played(env_id):
    environment = gym.make(env_id)
    played = play(environment, 30, 2)
    inner = environment.unwrapped
    inner.frame_skip = 3
    inner._ctrl_cost_weight = 2.0
    inner.init_qpos[2] += 0.1
    inner.model.opt.timestep *= 0.5
    inner.model.body_mass[:] *= 1.5
    inner.action_space = gym.spaces.Box(-0.3, 0.3, inner.action_space.shape, np.float64)
    assert_equal_to_gymnasium(environment)
    assert difference(robot_of(environment), played) is not None


def test_a_robot_is_a_snapshot():
    environment = gym.make("Hopper-v5")
    robot, played = robot_of(environment), play(environment, 20, 2)
    environment.unwrapped.model.body_mass[:] *= 2
    environment.unwrapped.init_qpos[:] += 1
    assert difference(robot, played) is None


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Humanoid-v5"])
def test_a_robot_travels(env_id):
    environment = gym.make(env_id)
    robot = robot_of(environment)
    copy = pickle.loads(pickle.dumps(robot))
    assert copy == robot == robot_of(gym.make(env_id))
    assert difference(copy, play(environment, 20, 2)) is None


def test_robots_are_equal_by_content():
    robot = robot_of(gym.make("Hopper-v5"))
    heavy = gym.make("Hopper-v5")
    heavy.unwrapped.model.body_mass[1] += 1e-9
    others = [heavy, gym.make("Hopper-v4"), gym.make("Hopper-v5", ctrl_cost_weight=0.1)]
    assert all(robot != robot_of(other) for other in others)
    assert robot != "robot"


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Ant-v5", "Humanoid-v5", "HumanoidStandup-v4"])
def test_an_unstable_simulation_starts_over_as_in_gymnasium(env_id):
    environment = gym.make(env_id)
    environment.unwrapped.model.actuator_gear[:, 0] *= 1e5
    played = play(environment, 30, 2)
    assert environment.unwrapped.data.time < 29 * environment.unwrapped.dt  # MuJoCo did reset it
    assert difference(robot_of(environment), played) is None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("env_id", ["Ant-v5", "InvertedPendulum-v4", "InvertedPendulum-v5"])
def test_what_is_not_finite_ends_an_episode_as_in_gymnasium(env_id, tmp_path):
    (tmp_path / "wheel.xml").write_text(BALL_AND_WHEEL)
    ant = {"xml_file": str(tmp_path / "wheel.xml"), "healthy_z_range": (-np.inf, np.inf)}
    environment = gym.make(env_id, **(ant if env_id == "Ant-v5" else {}))
    model = environment.unwrapped.model
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    model.actuator_gear[:, 0] = 1e300
    played = play(environment, 10, 2)
    ends = [observation for lanes in played.answers for observation, _, over, _ in lanes if over]
    assert any(not np.isfinite(observation).all() for observation in ends)
    assert difference(robot_of(environment), played) is None


@pytest.mark.parametrize("env_id", ["Hopper-v4", "Walker2d-v5", "Humanoid-v5", "Ant-v5"])
@pytest.mark.parametrize("side", [0, 1])
def test_exactly_at_a_limit_health_is_gymnasiums(env_id, side):
    environment = gym.make(env_id, terminate_when_unhealthy=False, exclude_current_positions_from_observation=False)
    inner = environment.unwrapped
    z = play(environment, 6, 1).answers[5][0][0][1 if env_id in ("Hopper-v4", "Walker2d-v5") else 2]
    inner._healthy_z_range = (z, np.inf) if side == 0 else (-np.inf, z)
    assert_equal_to_gymnasium(environment, 6, 1)


def test_a_hard_impact_costs_what_it_does_in_gymnasium():
    environment = gym.make("HumanoidStandup-v4")
    environment.unwrapped.model.body_mass[:] *= 100
    played = play(environment, 20, 2)
    assert -10 in [info["reward_impact"] for lanes in played.answers for *_, info in lanes]
    assert difference(robot_of(environment), played) is None


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Ant-v5"])
def test_an_error_of_mujoco_names_the_episode(env_id):
    environment = gym.make(env_id)
    environment.unwrapped.model.opt.integrator = 99
    simulations = Simulations(robot_of(environment), 3)
    simulations.reset([0, 1, 2], [7, 8, 9])
    with pytest.raises(EpisodeError, match=r"reset\(seed=8\).*integrator"):
        simulations.step([1, 2], np.zeros((2, *environment.action_space.shape), np.float32))


def test_only_the_simulations_that_are_named_move():
    environment = gym.make("Ant-v5")
    simulations = Simulations(robot_of(environment), 3)
    simulations.reset([2, 0, 1], [2, 0, 1])
    first = simulations.observations.copy()
    assert [np.array_equal(first[seed], environment.reset(seed=seed)[0]) for seed in range(3)] == [True] * 3
    simulations.step([], np.zeros((0, 8), np.float32))
    simulations.reset([], [])
    np.testing.assert_array_equal(simulations.observations, first)
    simulations.step([1], np.full((1, 8), 0.5, np.float32))
    assert (simulations.observations != first).any(axis=1).tolist() == [False, True, False]
    assert (simulations.rewards != 0).tolist() == [False, True, False]


def test_threads_do_not_disturb_each_other():
    made = [gym.make(env_id) for env_id in ("HalfCheetah-v5", "Humanoid-v5", "Humanoid-v5", "Hopper-v4")]
    jobs = [(robot_of(environment), play(environment, 60, 2)) for environment in made]
    found = [""] * len(jobs)

    def work(index):
        found[index] = difference(*jobs[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [None] * len(jobs)


class Own(hopper_v5.HopperEnv):
    pass


def with_attribute(name, value):
    environment = gym.make("Hopper-v5")
    setattr(environment.unwrapped, name, value)
    return environment


class Hidden(gym.Env):
    """Wraps an environment, but is no gym.Wrapper."""

    def __init__(self, inner):
        self._inner = inner

    @property
    def unwrapped(self):
        return self._inner


def shadowed_wrapper():
    environment = gym.make("Hopper-v5")
    environment.step = lambda action: None
    return environment


NOT_PLAYED = [
    (lambda: gym.make("CartPole-v1"), "CartPoleEnv is not one of Gymnasium's MuJoCo tasks"),
    (Own, "Own is not one of Gymnasium's MuJoCo tasks"),
    (lambda: Hidden(hopper_v5.HopperEnv()), "Hidden is not one of Gymnasium's MuJoCo tasks"),
    (lambda: gym.make_vec("Hopper-v5", 2, vectorization_mode="sync"), "SyncVectorEnv is not one of"),
    (lambda: gym.wrappers.ClipAction(gym.make("Hopper-v5")), "it is wrapped in ClipAction"),
    (
        lambda: gym.wrappers.TimeLimit(gym.wrappers.ClipReward(gym.make("Hopper-v5"), 0), 5),
        "it is wrapped in ClipReward",
    ),
    (lambda: gym.make("Hopper-v5", render_mode="rgb_array"), "it renders (render_mode='rgb_array')"),
    (shadowed_wrapper, "its step was replaced"),
    (lambda: with_attribute("_get_obs", lambda: None), "its _get_obs was replaced"),
    (lambda: with_attribute("frame_skip", 0), "its frame_skip is 0"),
    (lambda: with_attribute("frame_skip", 2.0), "its frame_skip is 2.0"),
    (lambda: with_attribute("_healthy_z_range", 1), "its healthy_z_range is 1"),
    (lambda: with_attribute("_healthy_reward", np.ones(3)), "its healthy_reward is array"),
    (lambda: with_attribute("_terminate_when_unhealthy", 1), "its terminate_when_unhealthy is 1"),
    (lambda: with_attribute("init_qpos", np.zeros(3)), "its init_qpos or init_qvel do not fit"),
    (lambda: with_attribute("observation_space", gym.spaces.Box(-1, 1, (11,), np.float64)), "its observation space is"),
    (lambda: with_attribute("action_space", gym.spaces.Discrete(3)), "its action space does not have the shape (3,)"),
    (lambda: gym.make("InvertedDoublePendulum-v5", xml_file="hopper.xml"), "its observation space is not Box"),
    (lambda: gym.make("Reacher-v5", xml_file="hopper.xml"), "its model lacks a body"),
]


@pytest.mark.parametrize(("make", "reason"), NOT_PLAYED)
def test_what_is_not_gymnasiums_own_is_not_recognised(make, reason):
    answer = recognised(make())
    assert isinstance(answer, str)
    assert answer.startswith(reason)


@pytest.mark.parametrize(
    ("owner", "name", "value", "reason"),
    [
        (hopper_v5.HopperEnv, "_get_rew", lambda self, x, action: (0.0, {}), "HopperEnv._get_rew was replaced"),
        (hopper_v5.HopperEnv, "is_healthy", property(lambda self: True), "HopperEnv.is_healthy was replaced"),
        (hopper_v5.HopperEnv, "extra", print, "HopperEnv.extra was replaced"),
        (MujocoEnv, "do_simulation", lambda self, ctrl, n: None, "MujocoEnv.do_simulation was replaced"),
        (gym.Wrapper, "step", lambda self, action: None, "Wrapper.step was replaced"),
        (hopper_v5, "HopperEnv", Own, "its HopperEnv is not the one"),
        (mujoco, "mj_step", lambda *given: None, "mujoco.mj_step was replaced"),
        (mujoco, "__version__", "3.3.7", "MuJoCo is 3.3.7"),
        (gym, "__version__", "1.2.3", "it is of Gymnasium 1.2.3"),
    ],
)
def test_replaced_code_is_noticed(monkeypatch, owner, name, value, reason):
    environment = gym.make("Hopper-v5")
    robot_of(environment)
    monkeypatch.setattr(owner, name, value, raising=False)
    assert recognised(environment).startswith(reason)


def test_a_replaced_helper_is_noticed(monkeypatch):
    environment = gym.make("Humanoid-v5")
    monkeypatch.setattr(humanoid_v5, "mass_center", lambda model, data: np.zeros(2))
    assert recognised(environment) == "gymnasium.envs.mujoco.humanoid_v5.mass_center was replaced"


def test_callbacks_and_a_missing_batch_are_noticed(monkeypatch):
    environment = gym.make("Hopper-v5")
    mujoco.set_mjcb_passive(lambda model, data: None)
    try:
        assert recognised(environment) == "MuJoCo's callback mjcb_passive is set"
    finally:
        mujoco.set_mjcb_passive(None)
    monkeypatch.setitem(sys.modules, "mujoco.batch", None)
    assert recognised(environment) == "MuJoCo has no mujoco.batch"


def test_importing_does_not_load_mujoco():
    probe = "import sys; from ecpolicy.rollout.mujoco import recognised as m; m.recognised(0); "
    code = f"{probe}sys.exit('mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
