"""Starts, observations, places and health of Gymnasium's robots, over arrays.

A row is a simulation, and each number is bit for bit the one that the task's class computes. So operations keep their
order and their dtype (actions are float32). Where NumPy rounds an array otherwise than a scalar, the scalar decides.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ecpolicy.rollout.mujoco.robot import Floats, Robot, Rows

# Starts


def uniform_start(robot: Robot, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Uniform noise on positions, uniform noise on velocities."""
    noise = robot.settings.reset_noise_scale
    qpos = robot.init_qpos + random.uniform(low=-noise, high=noise, size=robot.init_qpos.size)
    return qpos, robot.init_qvel + random.uniform(low=-noise, high=noise, size=robot.init_qvel.size)


def normal_start(robot: Robot, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Uniform noise on positions, normal noise on velocities."""
    noise = robot.settings.reset_noise_scale
    qpos = robot.init_qpos + random.uniform(low=-noise, high=noise, size=robot.init_qpos.size)
    return qpos, robot.init_qvel + noise * random.standard_normal(robot.init_qvel.size)


def reacher_start(robot: Robot, random: np.random.Generator) -> tuple[Floats, Floats]:
    """A goal within reach, and an arm about straight."""
    qpos = robot.init_qpos + random.uniform(low=-0.1, high=0.1, size=robot.init_qpos.size)
    goal = random.uniform(low=-0.2, high=0.2, size=2)
    while not np.linalg.norm(goal) < 0.2:
        goal = random.uniform(low=-0.2, high=0.2, size=2)
    qpos[-2:] = goal
    return qpos, _still(robot, random, 2)


def pusher_start(robot: Robot, random: np.random.Generator) -> tuple[Floats, Floats]:
    """A cylinder beside the goal."""
    cylinder = np.zeros(2)
    while not np.linalg.norm(cylinder) > 0.17:
        cylinder = np.array([random.uniform(low=-0.3, high=0), random.uniform(low=-0.2, high=0.2)])
    qpos = robot.init_qpos.copy()
    qpos[-4:] = *cylinder, 0, 0
    return qpos, _still(robot, random, 4)


def _still(robot: Robot, random: np.random.Generator, n: int) -> Floats:
    """Velocities of which the last n, those of things, are zero."""
    qvel = robot.init_qvel + random.uniform(low=-0.005, high=0.005, size=robot.init_qvel.size)
    qvel[-n:] = 0
    return qvel


# Observations


def observe_body(
    robot: Robot,
    now: Rows,
    *,
    hidden: int,
    limit: float | None = None,
    more: Callable[..., list[np.ndarray]] | None = None,
) -> list[np.ndarray]:
    """Positions but for those that are hidden, velocities within a limit, and more."""
    qpos, qvel = now("qpos"), now("qvel")
    if robot.settings.exclude_current_positions_from_observation:
        qpos = qpos[:, hidden:]
    if limit is not None:
        qvel = np.clip(qvel, -limit, limit)
    return [qpos, qvel, *(more(robot, now) if more else ())]


def observe_contacts(robot: Robot, now: Rows, *, switch: str, first: int) -> list[np.ndarray]:
    """Contact forces, where the setting ``switch`` says so."""
    return [contact_forces(robot, now)[:, first:]] if vars(robot.settings)[switch] else []


def observe_forces(robot: Robot, now: Rows, *, first: Mapping[str, int]) -> list[np.ndarray]:
    """The Humanoid's fields that are included, from a row on."""
    included = vars(robot.settings)
    return [now(field)[:, n:] for field, n in first.items() if included[f"include_{field}_in_observation"]]


def observe_all(robot: Robot, now: Rows) -> list[np.ndarray]:
    """Positions and velocities."""
    return [now("qpos"), now("qvel")]


def observe_double_pendulum(robot: Robot, now: Rows, *, n_forces: int | None) -> list[np.ndarray]:
    """Sines and cosines of the angles, velocities, forces."""
    qpos = now("qpos")
    angles = np.ascontiguousarray(qpos[:, 1:])
    forces = np.clip(now("qfrc_constraint"), -10, 10)[:, :n_forces]
    return [qpos[:, :1], np.sin(angles), np.cos(angles), np.clip(now("qvel"), -10, 10), forces]


def observe_reacher(robot: Robot, now: Rows, *, axes: int) -> list[np.ndarray]:
    """Angles, goal, velocities, and the way to the goal."""
    qpos = now("qpos")
    theta = np.ascontiguousarray(qpos[:, :2])
    return [np.cos(theta), np.sin(theta), qpos[:, 2:], now("qvel")[:, :2], to_target(robot, now)[:, :axes]]


def observe_pusher(robot: Robot, now: Rows) -> list[np.ndarray]:
    """Joints, and where tip, thing and goal are."""
    xpos = now("xpos")
    return [now("qpos")[:, :7], now("qvel")[:, :7], *(xpos[:, body] for body in robot.bodies)]


def contact_forces(robot: Robot, now: Rows) -> Floats:
    """Contact forces, clipped."""
    return np.asarray(np.clip(now("cfrc_ext"), *robot.settings.contact_force_range))


# Where a robot is


def nowhere(robot: Robot, now: Rows) -> None:
    """Nothing that the score compares."""
    return


def x_place(robot: Robot, now: Rows) -> Floats:
    """The root's x."""
    return now("qpos")[:, :1]


def xy_place(robot: Robot, now: Rows) -> Floats:
    """The root's x and y."""
    return now("qpos")[:, :2]


def xy_of_body(robot: Robot, now: Rows) -> Floats:
    """A body's x and y."""
    return now("xpos")[:, robot.bodies[0], :2]


def mass_center(robot: Robot, now: Rows) -> Floats:
    """The x and y of the centre of mass."""
    mass = robot.model.body_mass
    return np.asarray(np.einsum("b,kbj->kj", mass, now("xipos")) / mass.sum())[:, :2]


def to_target(robot: Robot, now: Rows) -> Floats:
    """From the fingertip to the goal."""
    xpos = now("xpos")
    fingertip, target = robot.bodies
    return np.asarray(xpos[:, fingertip] - xpos[:, target])


# Whether it is healthy


def hopper_is_healthy(robot: Robot, now: Rows) -> NDArray[np.bool_]:
    """Whether state, height and angle are within bounds."""
    state = np.concatenate((now("qpos")[:, 2:], now("qvel")), axis=1)
    return _within(state, robot.settings.healthy_state_range).all(axis=1) & walker_is_healthy(robot, now)


def walker_is_healthy(robot: Robot, now: Rows) -> NDArray[np.bool_]:
    """Whether height and angle are within bounds."""
    qpos, settings = now("qpos"), robot.settings
    upright = _within(qpos[:, 1], settings.healthy_z_range)
    return np.asarray(upright & _within(qpos[:, 2], settings.healthy_angle_range))


def humanoid_is_healthy(robot: Robot, now: Rows) -> NDArray[np.bool_]:
    """Whether the height is within bounds."""
    return _within(now("qpos")[:, 2], robot.settings.healthy_z_range)


def ant_is_healthy(robot: Robot, now: Rows) -> NDArray[np.bool_]:
    """Whether the state is finite and the height within bounds."""
    qpos, (low, high) = now("qpos"), robot.settings.healthy_z_range
    finite = np.isfinite(qpos).all(axis=1) & np.isfinite(now("qvel")).all(axis=1)
    return np.asarray(finite & (low <= qpos[:, 2]) & (qpos[:, 2] <= high))


def _within(values: Floats, limits: tuple[float, float]) -> NDArray[np.bool_]:
    return np.asarray((limits[0] < values) & (values < limits[1]))
