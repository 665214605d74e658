"""What a step of Gymnasium's robots is paid, over arrays; as for :mod:`ecpolicy.rollout.mujoco.parts`, bit for bit."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ecpolicy.rollout.mujoco.parts import contact_forces, to_target
from ecpolicy.rollout.mujoco.robot import Floats, Robot, Rows, Score


@dataclass(frozen=True)
class Locomotion:
    """The score of robots that are paid for going along x."""

    where: Callable[[Robot, Rows], Floats]
    healthy: Callable[[Robot, Rows], NDArray[np.bool_]] | None = None
    lenient: bool = False  # whether health is paid until the end, as in version 4
    controls: bool = False  # whether effort is what the actuators were given, not the action
    contact: Callable[[Robot, Rows], Floats | None] | None = None  # its cost
    reported: Callable[[Robot, Rows], Floats] | None = None  # where info says it is, unless there
    more: Callable[[Robot, Rows], dict[str, np.ndarray]] | None = None  # for info

    def __call__(self, robot: Robot, before: Floats, now: Rows, actions: np.ndarray) -> Score:
        """Of a step from where it was."""
        settings = robot.settings
        after = self.where(robot, now)
        velocity = (after - before) / robot.dt
        rewards = forward = settings.forward_reward_weight * velocity[:, 0]
        effort = costs = settings.ctrl_cost_weight * _sum_of_squares(now("ctrl") if self.controls else actions)
        parts = {"reward_forward": forward, "reward_ctrl": -effort, "x_velocity": velocity[:, 0]}
        terminated: NDArray[np.bool_] | bool = False
        if self.healthy:
            healthy = self.healthy(robot, now)
            ends = settings.terminate_when_unhealthy
            parts["reward_survive"] = (healthy | (self.lenient and ends)) * settings.healthy_reward
            rewards = rewards + parts["reward_survive"]
            terminated = ~healthy & ends
        contact = self.contact(robot, now) if self.contact else None
        if contact is not None:
            parts["reward_contact"] = -contact
            costs = costs + contact
        place = self.reported(robot, now) if self.reported else after
        parts["x_position"] = place[:, 0]
        if place.shape[1] > 1:
            parts |= {"y_position": place[:, 1], "y_velocity": velocity[:, 1], "distance_from_origin": _norm(place)}
        if self.more:
            parts |= self.more(robot, now)
        return Score(rewards - costs, terminated, parts)


def ant_contact_cost(robot: Robot, now: Rows) -> Floats:
    """What contact costs."""
    return _cost_of_forces(robot.settings.contact_cost_weight, now, partial(contact_forces, robot))


def ant_v4_contact_cost(robot: Robot, now: Rows) -> Floats | None:
    """What contact costs, where version 4 has it."""
    return ant_contact_cost(robot, now) if robot.settings.use_contact_forces else None


def ant_v4_effort(robot: Robot, now: Rows) -> dict[str, np.ndarray]:
    """Version 4 reports the cost of contacts, where it has one, under the name of the effort's."""
    contact = ant_v4_contact_cost(robot, now)
    return {} if contact is None else {"reward_ctrl": -contact}


def humanoid_contact_cost(robot: Robot, now: Rows) -> Floats:
    """What contact costs, clipped."""
    settings = robot.settings
    return np.asarray(np.clip(_cost_of_forces(settings.contact_cost_weight, now), *settings.contact_cost_range))


def height(robot: Robot, now: Rows, *, z: int) -> dict[str, np.ndarray]:
    """How far the root is above its start."""
    return {"z_distance_from_origin": now("qpos")[:, z] - robot.init_qpos[z]}


def tendons(robot: Robot, now: Rows) -> dict[str, np.ndarray]:
    """Lengths and velocities of the tendons."""
    return {"tendon_length": now("ten_length"), "tendon_velocity": now("ten_velocity")}


def standup_score(robot: Robot, before: None, now: Rows, actions: np.ndarray) -> Score:
    """Of a robot that is to stand up."""
    settings, qpos = robot.settings, now("qpos")
    up = (qpos[:, 2] - 0) / robot.model.opt.timestep
    effort = settings.ctrl_cost_weight * _sum_of_squares(now("ctrl"))
    impact = np.clip(_cost_of_forces(settings.impact_cost_weight, now), *settings.impact_cost_range)
    parts = {"reward_linup": up, "reward_quadctrl": -effort, "reward_impact": -impact}
    parts |= {"x_position": qpos[:, 0], "y_position": qpos[:, 1]} | height(robot, now, z=2) | tendons(robot, now)
    return Score(up - effort - impact + 1, False, parts)


def pendulum_score(robot: Robot, before: None, now: Rows, actions: np.ndarray, *, lenient: bool) -> Score:
    """Of a pole that is to stand."""
    qpos = now("qpos")
    finite = np.isfinite(qpos).all(axis=1) & np.isfinite(now("qvel")).all(axis=1)
    terminated = ~finite | (np.abs(qpos[:, 1]) > 0.2)
    rewards = (~terminated | lenient).astype(np.float64)
    return Score(rewards, terminated, {"reward_survive": rewards})


def double_pendulum_score(robot: Robot, before: None, now: Rows, actions: np.ndarray, *, lenient: bool) -> Score:
    """Of two poles that are to stand."""
    site, qvel = now("site_xpos")[:, 0], now("qvel")
    terminated = site[:, 2] <= 1
    survive = robot.settings.healthy_reward * (~terminated | lenient)
    distance = 0.01 * _scalar_square(site[:, 0]) + _scalar_square(site[:, 2] - 2)
    velocity = 0.001 * _scalar_square(qvel[:, 1]) + 0.005 * _scalar_square(qvel[:, 2])
    parts = {"reward_survive": survive, "distance_penalty": -distance, "velocity_penalty": -velocity}
    return Score(survive - distance - velocity, terminated, parts)


def reacher_score(robot: Robot, before: Floats, now: Rows, actions: np.ndarray, *, late: bool) -> Score:
    """Version 4 is late: it pays for where the fingertip was before the step."""
    settings = robot.settings
    distance = -_norm(before if late else to_target(robot, now)) * settings.reward_dist_weight
    effort = -_sum_of_squares(actions) * settings.reward_control_weight
    return Score(distance + effort, False, {"reward_dist": distance, "reward_ctrl": effort})


def pusher_score(robot: Robot, before: None, now: Rows, actions: np.ndarray) -> Score:
    """Of an arm that is to push a thing to a goal."""
    settings, xpos = robot.settings, now("xpos")
    tips, thing, goal = (xpos[:, body] for body in robot.bodies)
    near = -_norm(thing - tips) * settings.reward_near_weight
    distance = -_norm(thing - goal) * settings.reward_dist_weight
    effort = -_sum_of_squares(actions) * settings.reward_control_weight
    parts = {"reward_dist": distance, "reward_ctrl": effort, "reward_near": near}
    return Score(distance + effort + near, False, parts)


def _all_forces(now: Rows) -> Floats:
    return now("cfrc_ext")


def _cost_of_forces(weight: float, now: Rows, forces: Callable[[Rows], Floats] = _all_forces) -> np.ndarray:
    """What contact forces cost. Those that cost nothing are not asked for: a simulation may not have them."""
    if not weight:
        return np.zeros(len(now("qpos")))
    return np.asarray(weight * _sum_of_squares(forces(now)))


def _sum_of_squares(values: np.ndarray) -> np.ndarray:
    """The sum over all axes but the first: pairwise along contiguous rows, as of one row alone."""
    return np.asarray(np.square(np.ascontiguousarray(values)).reshape(len(values), -1).sum(axis=-1))


def _norm(vectors: Floats) -> Floats:
    """Euclidean norms: ``np.linalg.norm`` takes the dot product of one vector, and squares and sums of many."""
    return np.asarray(np.sqrt(np.vecdot(vectors, vectors)))


def _scalar_square(values: Floats) -> Floats:
    """Squares as scalars have them: ``x**2`` is the C library's pow of a scalar, and ``x * x`` of an array."""
    return np.array([x**2 for x in values])
