"""Gymnasium's MuJoCo tasks over arrays: how an episode starts, what is observed of it and what is paid for it.

A row is a simulation, and each number is bit for bit the one that the task's class computes. So operations keep their
order and their dtype (actions are float32). Where NumPy rounds an array otherwise than a scalar, the scalar decides.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.identity import UNKNOWN, description

Floats = NDArray[np.float64]
Rows = Callable[[str], NDArray[Any]]  # the simulations' rows of a field of MjData


@dataclass(frozen=True, eq=False)
class Robot:
    """A task with the model and the settings of an environment: what simulations are made of."""

    task: str  #: one of ``TASKS``
    model: Any  #: mujoco.MjModel
    frame_skip: int  #: substeps
    dt: float  #: seconds of a step
    init_qpos: Floats
    init_qvel: Floats
    settings: SimpleNamespace  #: what the environment's constructor took, and what the task's version fixes
    bodies: tuple[int, ...]  #: those that the task looks at

    def __eq__(self, other: object) -> bool:
        """Whether both are known to be the same, by content."""
        return isinstance(other, Robot) and UNKNOWN != description(vars(self)) == description(vars(other))


class Score(NamedTuple):
    """What a step brought; arrays over simulations."""

    rewards: NDArray[Any]
    terminated: NDArray[np.bool_] | bool
    parts: dict[str, NDArray[Any]]  # of the reward, and where the robot is: what ``info`` chooses from


class Task(NamedTuple):
    """A task in one version."""

    start: Callable[[Robot, np.random.Generator], tuple[Floats, Floats]]  # qpos, qvel
    observe: Callable[[Robot, Rows], Sequence[NDArray[Any]]]  # parts, to be joined
    score: Callable[[Robot, Any, Rows, NDArray[Any]], Score]  # from where it was, what is now, and the actions
    where: Callable[[Robot, Rows], Any]  # what the score compares with what it was before the step
    fields: Callable[[Any], Sequence[str]]  # that are derived from the state, for these settings
    settings: Sequence[str]  # attributes of the environment, without their underscore
    fixed: Mapping[str, Any]  # settings that are numbers in the code of this version
    bodies: Sequence[str]  # names, or the setting that holds one
    info: Mapping[str, str]  # names in info, and what they are among the parts of the score


# Starts


def _uniform_start(robot: Robot, random: np.random.Generator) -> tuple[Floats, Floats]:
    noise = robot.settings.reset_noise_scale
    qpos = robot.init_qpos + random.uniform(low=-noise, high=noise, size=robot.init_qpos.size)
    return qpos, robot.init_qvel + random.uniform(low=-noise, high=noise, size=robot.init_qvel.size)


def _normal_start(robot: Robot, random: np.random.Generator) -> tuple[Floats, Floats]:
    noise = robot.settings.reset_noise_scale
    qpos = robot.init_qpos + random.uniform(low=-noise, high=noise, size=robot.init_qpos.size)
    return qpos, robot.init_qvel + noise * random.standard_normal(robot.init_qvel.size)


def _reacher_start(robot: Robot, random: np.random.Generator) -> tuple[Floats, Floats]:
    qpos = robot.init_qpos + random.uniform(low=-0.1, high=0.1, size=robot.init_qpos.size)
    goal = random.uniform(low=-0.2, high=0.2, size=2)
    while not np.linalg.norm(goal) < 0.2:
        goal = random.uniform(low=-0.2, high=0.2, size=2)
    qpos[-2:] = goal
    return qpos, _still(robot, random, 2)


def _pusher_start(robot: Robot, random: np.random.Generator) -> tuple[Floats, Floats]:
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


def _observe_body(
    robot: Robot,
    now: Rows,
    *,
    hidden: int,
    limit: float | None = None,
    more: Callable[..., list[NDArray[Any]]] | None = None,
) -> list[NDArray[Any]]:
    qpos, qvel = now("qpos"), now("qvel")
    if robot.settings.exclude_current_positions_from_observation:
        qpos = qpos[:, hidden:]
    if limit is not None:
        qvel = np.clip(qvel, -limit, limit)
    return [qpos, qvel, *(more(robot, now) if more else ())]


def _observe_contacts(robot: Robot, now: Rows, *, switch: str, first: int) -> list[NDArray[Any]]:
    return [_contact_forces(robot, now)[:, first:]] if vars(robot.settings)[switch] else []


def _observe_forces(robot: Robot, now: Rows, *, first: Mapping[str, int]) -> list[NDArray[Any]]:
    included = vars(robot.settings)
    return [now(field)[:, n:] for field, n in first.items() if included[f"include_{field}_in_observation"]]


def _observe_all(robot: Robot, now: Rows) -> list[NDArray[Any]]:
    return [now("qpos"), now("qvel")]


def _observe_double_pendulum(robot: Robot, now: Rows, *, n_forces: int | None) -> list[NDArray[Any]]:
    qpos = now("qpos")
    angles = np.ascontiguousarray(qpos[:, 1:])
    forces = np.clip(now("qfrc_constraint"), -10, 10)[:, :n_forces]
    return [qpos[:, :1], np.sin(angles), np.cos(angles), np.clip(now("qvel"), -10, 10), forces]


def _observe_reacher(robot: Robot, now: Rows, *, axes: int) -> list[NDArray[Any]]:
    qpos = now("qpos")
    theta = np.ascontiguousarray(qpos[:, :2])
    return [np.cos(theta), np.sin(theta), qpos[:, 2:], now("qvel")[:, :2], _to_target(robot, now)[:, :axes]]


def _observe_pusher(robot: Robot, now: Rows) -> list[NDArray[Any]]:
    xpos = now("xpos")
    return [now("qpos")[:, :7], now("qvel")[:, :7], *(xpos[:, body] for body in robot.bodies)]


def _contact_forces(robot: Robot, now: Rows) -> Floats:
    return np.asarray(np.clip(now("cfrc_ext"), *robot.settings.contact_force_range))


# Where a robot is


def _nowhere(robot: Robot, now: Rows) -> None:
    return None


def _x(robot: Robot, now: Rows) -> Floats:
    return now("qpos")[:, :1]


def _xy(robot: Robot, now: Rows) -> Floats:
    return now("qpos")[:, :2]


def _xy_of_body(robot: Robot, now: Rows) -> Floats:
    return now("xpos")[:, robot.bodies[0], :2]


def _mass_center(robot: Robot, now: Rows) -> Floats:
    mass = robot.model.body_mass
    return np.asarray(np.einsum("b,kbj->kj", mass, now("xipos")) / mass.sum())[:, :2]


def _to_target(robot: Robot, now: Rows) -> Floats:
    xpos = now("xpos")
    fingertip, target = robot.bodies
    return np.asarray(xpos[:, fingertip] - xpos[:, target])


# Whether it is healthy


def _hopper_is_healthy(robot: Robot, now: Rows) -> NDArray[np.bool_]:
    state = np.concatenate((now("qpos")[:, 2:], now("qvel")), axis=1)
    return _within(state, robot.settings.healthy_state_range).all(axis=1) & _walker_is_healthy(robot, now)


def _walker_is_healthy(robot: Robot, now: Rows) -> NDArray[np.bool_]:
    qpos, settings = now("qpos"), robot.settings
    upright = _within(qpos[:, 1], settings.healthy_z_range)
    return np.asarray(upright & _within(qpos[:, 2], settings.healthy_angle_range))


def _humanoid_is_healthy(robot: Robot, now: Rows) -> NDArray[np.bool_]:
    return _within(now("qpos")[:, 2], robot.settings.healthy_z_range)


def _ant_is_healthy(robot: Robot, now: Rows) -> NDArray[np.bool_]:
    qpos, (low, high) = now("qpos"), robot.settings.healthy_z_range
    finite = np.isfinite(qpos).all(axis=1) & np.isfinite(now("qvel")).all(axis=1)
    return np.asarray(finite & (low <= qpos[:, 2]) & (qpos[:, 2] <= high))


def _within(values: Floats, limits: tuple[float, float]) -> NDArray[np.bool_]:
    return np.asarray((limits[0] < values) & (values < limits[1]))


# Scores


@dataclass(frozen=True)
class _Locomotion:
    """The score of robots that are paid for going along x."""

    where: Callable[[Robot, Rows], Floats]
    healthy: Callable[[Robot, Rows], NDArray[np.bool_]] | None = None
    lenient: bool = False  # whether health is paid until the end, as in version 4
    controls: bool = False  # whether effort is what the actuators were given, not the action
    contact: Callable[[Robot, Rows], Floats | None] | None = None  # its cost
    reported: Callable[[Robot, Rows], Floats] | None = None  # where info says it is, unless there
    more: Callable[[Robot, Rows], dict[str, NDArray[Any]]] | None = None  # for info

    def __call__(self, robot: Robot, before: Floats, now: Rows, actions: NDArray[Any]) -> Score:
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


def _ant_contact_cost(robot: Robot, now: Rows) -> Floats:
    return np.asarray(robot.settings.contact_cost_weight * _sum_of_squares(_contact_forces(robot, now)))


def _ant_v4_contact_cost(robot: Robot, now: Rows) -> Floats | None:
    return _ant_contact_cost(robot, now) if robot.settings.use_contact_forces else None


def _ant_v4_effort(robot: Robot, now: Rows) -> dict[str, NDArray[Any]]:
    """Version 4 reports the cost of contacts, where it has one, under the name of the effort's."""
    contact = _ant_v4_contact_cost(robot, now)
    return {} if contact is None else {"reward_ctrl": -contact}


def _humanoid_contact_cost(robot: Robot, now: Rows) -> Floats:
    settings = robot.settings
    cost = settings.contact_cost_weight * _sum_of_squares(now("cfrc_ext"))
    return np.asarray(np.clip(cost, *settings.contact_cost_range))


def _height(robot: Robot, now: Rows, *, z: int) -> dict[str, NDArray[Any]]:
    return {"z_distance_from_origin": now("qpos")[:, z] - robot.init_qpos[z]}


def _tendons(robot: Robot, now: Rows) -> dict[str, NDArray[Any]]:
    return {"tendon_length": now("ten_length"), "tendon_velocity": now("ten_velocity")}


def _standup_score(robot: Robot, before: None, now: Rows, actions: NDArray[Any]) -> Score:
    settings, qpos = robot.settings, now("qpos")
    up = (qpos[:, 2] - 0) / robot.model.opt.timestep
    effort = settings.ctrl_cost_weight * _sum_of_squares(now("ctrl"))
    impact = np.clip(settings.impact_cost_weight * _sum_of_squares(now("cfrc_ext")), *settings.impact_cost_range)
    parts = {"reward_linup": up, "reward_quadctrl": -effort, "reward_impact": -impact}
    parts |= {"x_position": qpos[:, 0], "y_position": qpos[:, 1]} | _height(robot, now, z=2) | _tendons(robot, now)
    return Score(up - effort - impact + 1, False, parts)


def _pendulum_score(robot: Robot, before: None, now: Rows, actions: NDArray[Any], *, lenient: bool) -> Score:
    qpos = now("qpos")
    finite = np.isfinite(qpos).all(axis=1) & np.isfinite(now("qvel")).all(axis=1)
    terminated = ~finite | (np.abs(qpos[:, 1]) > 0.2)
    rewards = (~terminated | lenient).astype(np.float64)
    return Score(rewards, terminated, {"reward_survive": rewards})


def _double_pendulum_score(robot: Robot, before: None, now: Rows, actions: NDArray[Any], *, lenient: bool) -> Score:
    site, qvel = now("site_xpos")[:, 0], now("qvel")
    terminated = site[:, 2] <= 1
    survive = robot.settings.healthy_reward * (~terminated | lenient)
    distance = 0.01 * _scalar_square(site[:, 0]) + _scalar_square(site[:, 2] - 2)
    velocity = 0.001 * _scalar_square(qvel[:, 1]) + 0.005 * _scalar_square(qvel[:, 2])
    parts = {"reward_survive": survive, "distance_penalty": -distance, "velocity_penalty": -velocity}
    return Score(survive - distance - velocity, terminated, parts)


def _reacher_score(robot: Robot, before: Floats, now: Rows, actions: NDArray[Any], *, late: bool) -> Score:
    """Version 4 is late: it pays for where the fingertip was before the step."""
    settings = robot.settings
    distance = -_norm(before if late else _to_target(robot, now)) * settings.reward_dist_weight
    effort = -_sum_of_squares(actions) * settings.reward_control_weight
    return Score(distance + effort, False, {"reward_dist": distance, "reward_ctrl": effort})


def _pusher_score(robot: Robot, before: None, now: Rows, actions: NDArray[Any]) -> Score:
    settings, xpos = robot.settings, now("xpos")
    tips, thing, goal = (xpos[:, body] for body in robot.bodies)
    near = -_norm(thing - tips) * settings.reward_near_weight
    distance = -_norm(thing - goal) * settings.reward_dist_weight
    effort = -_sum_of_squares(actions) * settings.reward_control_weight
    parts = {"reward_dist": distance, "reward_ctrl": effort, "reward_near": near}
    return Score(distance + effort + near, False, parts)


def _sum_of_squares(values: NDArray[Any]) -> NDArray[Any]:
    """The sum over all axes but the first: pairwise along contiguous rows, as of one row alone."""
    return np.asarray(np.square(np.ascontiguousarray(values)).reshape(len(values), -1).sum(axis=-1))


def _norm(vectors: Floats) -> Floats:
    """Euclidean norms: ``np.linalg.norm`` takes the dot product of one vector, and squares and sums of many."""
    return np.asarray(np.sqrt(np.vecdot(vectors, vectors)))


def _scalar_square(values: Floats) -> Floats:
    """Squares as scalars have them: ``x**2`` is the C library's pow of a scalar, and ``x * x`` of an array."""
    return np.array([x**2 for x in values])


# The tasks


def _same(*names: str, **others: str) -> dict[str, str]:
    return {name: name for name in names} | others


def _of_state(settings: Any) -> tuple[str, ...]:
    return ()


HEALTH = "healthy_reward", "terminate_when_unhealthy", "healthy_z_range"
WALK = "forward_reward_weight", "ctrl_cost_weight", "reset_noise_scale", "exclude_current_positions_from_observation"
PLACE = "x_position", "y_position", "distance_from_origin", "x_velocity", "y_velocity"
REWARDS = "reward_forward", "reward_ctrl"

HUMANOID_FIELDS = {"cinert": 1, "cvel": 1, "qfrc_actuator": 6, "cfrc_ext": 1}  # the first row that is observed
ALL_FIELDS = dict.fromkeys(HUMANOID_FIELDS, 0)  # in version 4
INCLUDED = tuple(f"include_{field}_in_observation" for field in HUMANOID_FIELDS)
OBSERVE_HUMANOID = partial(_observe_body, hidden=2, more=partial(_observe_forces, first=HUMANOID_FIELDS))
OBSERVE_HUMANOID_V4 = partial(_observe_body, hidden=2, more=partial(_observe_forces, first=ALL_FIELDS))

_half_cheetah = Task(
    start=_normal_start,
    observe=partial(_observe_body, hidden=1),
    score=_Locomotion(_x),
    where=_x,
    fields=_of_state,
    settings=WALK,
    fixed={},
    bodies=(),
    info=_same("x_position", "x_velocity", *REWARDS),
)
_walker2d = _half_cheetah._replace(
    start=_uniform_start,
    observe=partial(_observe_body, hidden=1, limit=10),
    score=_Locomotion(_x, _walker_is_healthy, more=partial(_height, z=1)),
    settings=(*WALK, *HEALTH, "healthy_angle_range"),
    info=_same("x_position", "x_velocity", "z_distance_from_origin", *REWARDS, "reward_survive"),
)
_hopper = _walker2d._replace(
    score=_Locomotion(_x, _hopper_is_healthy, more=partial(_height, z=1)),
    settings=(*_walker2d.settings, "healthy_state_range"),
)
_swimmer = _half_cheetah._replace(
    start=_uniform_start,
    observe=partial(_observe_body, hidden=2),
    score=_Locomotion(_xy),
    where=_xy,
    info=_same(*PLACE, *REWARDS),
)
_ant = Task(
    start=_normal_start,
    observe=partial(_observe_body, hidden=2, more=partial(_observe_contacts, switch=INCLUDED[-1], first=1)),
    score=_Locomotion(_xy_of_body, _ant_is_healthy, contact=_ant_contact_cost, reported=_xy),
    where=_xy_of_body,
    fields=lambda settings: ("xpos", "cfrc_ext"),
    settings=(*WALK, *HEALTH, "contact_cost_weight", "contact_force_range", INCLUDED[-1]),
    fixed={},
    bodies=("main_body",),
    info=_same(*PLACE, *REWARDS, "reward_contact", "reward_survive"),
)
_humanoid = Task(
    start=_uniform_start,
    observe=OBSERVE_HUMANOID,
    score=_Locomotion(
        _mass_center, _humanoid_is_healthy, controls=True, contact=_humanoid_contact_cost, reported=_xy, more=_tendons
    ),
    where=_mass_center,
    fields=lambda settings: ("xipos", *HUMANOID_FIELDS, "ten_length", "ten_velocity"),
    settings=(*WALK, *HEALTH, "contact_cost_weight", "contact_cost_range", *INCLUDED),
    fixed={},
    bodies=(),
    info=_same(*PLACE, *REWARDS, "reward_contact", "reward_survive", "tendon_length", "tendon_velocity"),
)
_standup = Task(
    start=_uniform_start,
    observe=OBSERVE_HUMANOID,
    score=_standup_score,
    where=_nowhere,
    fields=lambda settings: (*HUMANOID_FIELDS, "ten_length", "ten_velocity"),
    settings=("ctrl_cost_weight", "impact_cost_weight", "impact_cost_range", "reset_noise_scale", WALK[3], *INCLUDED),
    fixed={},
    bodies=(),
    info=_same(
        "x_position", "y_position", "z_distance_from_origin", "tendon_length", "tendon_velocity",
        "reward_linup", "reward_quadctrl", "reward_impact",
    ),
)  # fmt: skip
_pendulum = Task(
    start=_uniform_start,
    observe=_observe_all,
    score=partial(_pendulum_score, lenient=False),
    where=_nowhere,
    fields=_of_state,
    settings=("reset_noise_scale",),
    fixed={},
    bodies=(),
    info=_same("reward_survive"),
)
_double_pendulum = Task(
    start=_normal_start,
    observe=partial(_observe_double_pendulum, n_forces=1),
    score=partial(_double_pendulum_score, lenient=False),
    where=_nowhere,
    fields=lambda settings: ("site_xpos", "qfrc_constraint"),
    settings=("healthy_reward", "reset_noise_scale"),
    fixed={},
    bodies=(),
    info=_same("reward_survive", "distance_penalty", "velocity_penalty"),
)
_reacher = Task(
    start=_reacher_start,
    observe=partial(_observe_reacher, axes=2),
    score=partial(_reacher_score, late=False),
    where=_nowhere,
    fields=lambda settings: ("xpos",),
    settings=("reward_dist_weight", "reward_control_weight"),
    fixed={},
    bodies=("fingertip", "target"),
    info=_same("reward_dist", "reward_ctrl"),
)
_pusher = _reacher._replace(
    start=_pusher_start,
    observe=_observe_pusher,
    score=_pusher_score,
    settings=("reward_dist_weight", "reward_control_weight", "reward_near_weight"),
    bodies=("tips_arm", "object", "goal"),
    info=_same("reward_dist", "reward_ctrl", "reward_near"),
)

TASKS = {  # by the name of Gymnasium's module
    "half_cheetah_v5": _half_cheetah,
    "half_cheetah_v4": _half_cheetah._replace(
        info=_same("x_position", "x_velocity", "reward_ctrl", reward_run="reward_forward"),
    ),
    "walker2d_v5": _walker2d,
    "walker2d_v4": _walker2d._replace(
        score=_Locomotion(_x, _walker_is_healthy, lenient=True), info=_same("x_position", "x_velocity")
    ),
    "hopper_v5": _hopper,
    "hopper_v4": _hopper._replace(
        score=_Locomotion(_x, _hopper_is_healthy, lenient=True), info=_same("x_position", "x_velocity")
    ),
    "swimmer_v5": _swimmer,
    "swimmer_v4": _swimmer._replace(
        info=_same(*PLACE, "reward_ctrl", reward_fwd="reward_forward", forward_reward="reward_forward"),
    ),
    "ant_v5": _ant,
    "ant_v4": _ant._replace(
        observe=partial(_observe_body, hidden=2, more=partial(_observe_contacts, switch="use_contact_forces", first=0)),
        score=_Locomotion(
            _xy_of_body, _ant_is_healthy, lenient=True, contact=_ant_v4_contact_cost, more=_ant_v4_effort
        ),
        fields=lambda settings: ("xpos", "cfrc_ext") if settings.use_contact_forces else ("xpos",),
        settings=(*WALK[1:], *HEALTH, "contact_cost_weight", "contact_force_range", "use_contact_forces"),
        fixed={"forward_reward_weight": 1},
        bodies=("torso",),
        info=_same(*PLACE, *REWARDS, "reward_survive", forward_reward="reward_forward"),
    ),
    "humanoid_v5": _humanoid,
    "humanoid_v4": _humanoid._replace(
        observe=OBSERVE_HUMANOID_V4,
        score=_Locomotion(_mass_center, _humanoid_is_healthy, lenient=True, controls=True),
        fields=lambda settings: ("xipos", *HUMANOID_FIELDS),
        settings=(*WALK, *HEALTH),
        fixed=dict.fromkeys(INCLUDED, True),
        info=_same(
            *PLACE, reward_linvel="reward_forward", forward_reward="reward_forward", reward_quadctrl="reward_ctrl",
            reward_alive="reward_survive",
        ),
    ),
    "humanoidstandup_v5": _standup,
    "humanoidstandup_v4": _standup._replace(
        observe=OBSERVE_HUMANOID_V4,
        settings=(),
        fixed={
            "ctrl_cost_weight": 0.1, "impact_cost_weight": 0.5e-6, "impact_cost_range": (-np.inf, 10),
            "reset_noise_scale": 0.01, WALK[3]: True, **dict.fromkeys(INCLUDED, True),
        },
        info=_same("reward_linup", "reward_quadctrl", "reward_impact"),
    ),
    "inverted_pendulum_v5": _pendulum,
    "inverted_pendulum_v4": _pendulum._replace(
        score=partial(_pendulum_score, lenient=True), settings=(), fixed={"reset_noise_scale": 0.01}, info={}
    ),
    "inverted_double_pendulum_v5": _double_pendulum,
    "inverted_double_pendulum_v4": _double_pendulum._replace(
        observe=partial(_observe_double_pendulum, n_forces=None),
        score=partial(_double_pendulum_score, lenient=True),
        settings=(),
        fixed={"healthy_reward": 10, "reset_noise_scale": 0.1},
        info={},
    ),
    "reacher_v5": _reacher,
    "reacher_v4": _reacher._replace(
        observe=partial(_observe_reacher, axes=3),
        score=partial(_reacher_score, late=True),
        where=_to_target,
        settings=(),
        fixed={"reward_dist_weight": 1, "reward_control_weight": 1},
    ),
    "pusher_v5": _pusher,
}  # fmt: skip
