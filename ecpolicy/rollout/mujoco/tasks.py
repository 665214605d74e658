"""Gymnasium's MuJoCo tasks: how an episode starts, what is observed of it and what is paid for it."""

from collections.abc import Iterable
from functools import partial
from types import SimpleNamespace

import numpy as np

from ecpolicy.rollout.mujoco.parts import (
    ant_is_healthy,
    hopper_is_healthy,
    humanoid_is_healthy,
    mass_center,
    normal_start,
    nowhere,
    observe_all,
    observe_body,
    observe_contacts,
    observe_double_pendulum,
    observe_forces,
    observe_pusher,
    observe_reacher,
    pusher_start,
    reacher_start,
    to_target,
    uniform_start,
    walker_is_healthy,
    x_place,
    xy_of_body,
    xy_place,
)
from ecpolicy.rollout.mujoco.robot import Task
from ecpolicy.rollout.mujoco.scores import (
    Locomotion,
    ant_contact_cost,
    ant_v4_contact_cost,
    ant_v4_effort,
    double_pendulum_score,
    height,
    humanoid_contact_cost,
    pendulum_score,
    pusher_score,
    reacher_score,
    standup_score,
    tendons,
)


def _same(*names: str, **others: str) -> dict[str, str]:
    return {name: name for name in names} | others


def _of_state(settings: object) -> tuple[str, ...]:
    return ()


HUMANOID_FIELDS = {"cinert": 1, "cvel": 1, "qfrc_actuator": 6, "cfrc_ext": 1}  # the first row that is observed


def _observed(settings: SimpleNamespace, cost: str, names: Iterable[str] = HUMANOID_FIELDS) -> list[str]:
    """The fields among these that a robot observes, and contact forces where they cost something."""
    asked = {name: vars(settings)[f"include_{name}_in_observation"] for name in names}
    return [name for name, included in asked.items() if included or (name == "cfrc_ext" and vars(settings)[cost])]


HEALTH = "healthy_reward", "terminate_when_unhealthy", "healthy_z_range"
WALK = "forward_reward_weight", "ctrl_cost_weight", "reset_noise_scale", "exclude_current_positions_from_observation"
PLACE = "x_position", "y_position", "distance_from_origin", "x_velocity", "y_velocity"
REWARDS = "reward_forward", "reward_ctrl"

ALL_FIELDS = dict.fromkeys(HUMANOID_FIELDS, 0)  # in version 4
INCLUDED = tuple(f"include_{field}_in_observation" for field in HUMANOID_FIELDS)
OBSERVE_HUMANOID = partial(observe_body, hidden=2, more=partial(observe_forces, first=HUMANOID_FIELDS))
OBSERVE_HUMANOID_V4 = partial(observe_body, hidden=2, more=partial(observe_forces, first=ALL_FIELDS))

_half_cheetah = Task(
    start=normal_start,
    observe=partial(observe_body, hidden=1),
    score=Locomotion(x_place),
    where=x_place,
    fields=_of_state,
    settings=WALK,
    fixed={},
    bodies=(),
    info=_same("x_position", "x_velocity", *REWARDS),
)
_walker2d = _half_cheetah._replace(
    start=uniform_start,
    observe=partial(observe_body, hidden=1, limit=10),
    score=Locomotion(x_place, walker_is_healthy, more=partial(height, z=1)),
    settings=(*WALK, *HEALTH, "healthy_angle_range"),
    info=_same("x_position", "x_velocity", "z_distance_from_origin", *REWARDS, "reward_survive"),
)
_hopper = _walker2d._replace(
    score=Locomotion(x_place, hopper_is_healthy, more=partial(height, z=1)),
    settings=(*_walker2d.settings, "healthy_state_range"),
)
_swimmer = _half_cheetah._replace(
    start=uniform_start,
    observe=partial(observe_body, hidden=2),
    score=Locomotion(xy_place),
    where=xy_place,
    info=_same(*PLACE, *REWARDS),
)
_ant = Task(
    start=normal_start,
    observe=partial(observe_body, hidden=2, more=partial(observe_contacts, switch=INCLUDED[-1], first=1)),
    score=Locomotion(xy_of_body, ant_is_healthy, contact=ant_contact_cost, reported=xy_place),
    where=xy_of_body,
    fields=lambda settings: ("xpos", *_observed(settings, "contact_cost_weight", ["cfrc_ext"])),
    settings=(*WALK, *HEALTH, "contact_cost_weight", "contact_force_range", INCLUDED[-1]),
    fixed={},
    bodies=("main_body",),
    info=_same(*PLACE, *REWARDS, "reward_contact", "reward_survive"),
)
_humanoid = Task(
    start=uniform_start,
    observe=OBSERVE_HUMANOID,
    score=Locomotion(
        mass_center, humanoid_is_healthy, controls=True, contact=humanoid_contact_cost, reported=xy_place, more=tendons
    ),
    where=mass_center,
    fields=lambda settings: ("xipos", *_observed(settings, "contact_cost_weight"), "ten_length", "ten_velocity"),
    settings=(*WALK, *HEALTH, "contact_cost_weight", "contact_cost_range", *INCLUDED),
    fixed={},
    bodies=(),
    info=_same(*PLACE, *REWARDS, "reward_contact", "reward_survive", "tendon_length", "tendon_velocity"),
)
_standup = Task(
    start=uniform_start,
    observe=OBSERVE_HUMANOID,
    score=standup_score,
    where=nowhere,
    fields=lambda settings: (*_observed(settings, "impact_cost_weight"), "ten_length", "ten_velocity"),
    settings=("ctrl_cost_weight", "impact_cost_weight", "impact_cost_range", "reset_noise_scale", WALK[3], *INCLUDED),
    fixed={},
    bodies=(),
    info=_same(
        "x_position", "y_position", "z_distance_from_origin", "tendon_length", "tendon_velocity",
        "reward_linup", "reward_quadctrl", "reward_impact",
    ),
)  # fmt: skip
_pendulum = Task(
    start=uniform_start,
    observe=observe_all,
    score=partial(pendulum_score, lenient=False),
    where=nowhere,
    fields=_of_state,
    settings=("reset_noise_scale",),
    fixed={},
    bodies=(),
    info=_same("reward_survive"),
)
_double_pendulum = Task(
    start=normal_start,
    observe=partial(observe_double_pendulum, n_forces=1),
    score=partial(double_pendulum_score, lenient=False),
    where=nowhere,
    fields=lambda settings: ("site_xpos", "qfrc_constraint"),
    settings=("healthy_reward", "reset_noise_scale"),
    fixed={},
    bodies=(),
    info=_same("reward_survive", "distance_penalty", "velocity_penalty"),
)
_reacher = Task(
    start=reacher_start,
    observe=partial(observe_reacher, axes=2),
    score=partial(reacher_score, late=False),
    where=nowhere,
    fields=lambda settings: ("xpos",),
    settings=("reward_dist_weight", "reward_control_weight"),
    fixed={},
    bodies=("fingertip", "target"),
    info=_same("reward_dist", "reward_ctrl"),
)
_pusher = _reacher._replace(
    start=pusher_start,
    observe=observe_pusher,
    score=pusher_score,
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
        score=Locomotion(x_place, walker_is_healthy, lenient=True), info=_same("x_position", "x_velocity")
    ),
    "hopper_v5": _hopper,
    "hopper_v4": _hopper._replace(
        score=Locomotion(x_place, hopper_is_healthy, lenient=True), info=_same("x_position", "x_velocity")
    ),
    "swimmer_v5": _swimmer,
    "swimmer_v4": _swimmer._replace(
        info=_same(*PLACE, "reward_ctrl", reward_fwd="reward_forward", forward_reward="reward_forward"),
    ),
    "ant_v5": _ant,
    "ant_v4": _ant._replace(
        observe=partial(observe_body, hidden=2, more=partial(observe_contacts, switch="use_contact_forces", first=0)),
        score=Locomotion(
            xy_of_body, ant_is_healthy, lenient=True, contact=ant_v4_contact_cost, more=ant_v4_effort
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
        score=Locomotion(mass_center, humanoid_is_healthy, lenient=True, controls=True),
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
        score=partial(pendulum_score, lenient=True), settings=(), fixed={"reset_noise_scale": 0.01}, info={}
    ),
    "inverted_double_pendulum_v5": _double_pendulum,
    "inverted_double_pendulum_v4": _double_pendulum._replace(
        observe=partial(observe_double_pendulum, n_forces=None),
        score=partial(double_pendulum_score, lenient=True),
        settings=(),
        fixed={"healthy_reward": 10, "reset_noise_scale": 0.1},
        info={},
    ),
    "reacher_v5": _reacher,
    "reacher_v4": _reacher._replace(
        observe=partial(observe_reacher, axes=3),
        score=partial(reacher_score, late=True),
        where=to_target,
        settings=(),
        fixed={"reward_dist_weight": 1, "reward_control_weight": 1},
    ),
    "pusher_v5": _pusher,
}  # fmt: skip
