"""What a step takes with another integrator than the registered one: of the physics alone and of ``fit``, in turns.

Physics are stepped by MuJoCo with random controls, half of a robot's range, and begin anew every 50 steps. A fit has
the tuned settings, on the registered physics and on the other ones; its first generation, which compiles, is left out.
All times are of the processor. ``--substeps 0`` leaves their number as it is.
"""

import time
from functools import partial

import gymnasium as gym
import numpy as np

import runner
from ecpolicy import EvolvingConnectivityPolicy, tuned, with_integrator

OPTIONS = {
    "env": ["Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5"], "integrator": "Euler", "substeps": 0, "steps": 2_000,
    "generations": 4, "population": 64, "rounds": 3,
}  # fmt: skip
FALL = 50  # steps


def physics(spec, n_steps):
    """Microseconds of a step of the physics alone."""
    import mujoco

    inner = gym.make(spec).unwrapped
    model, data = inner.model, mujoco.MjData(inner.model)
    controls = np.random.default_rng(0).uniform(-0.5, 0.5, (n_steps, model.nu)) * model.actuator_ctrlrange[:, 1]
    began = time.process_time()
    for step, control in enumerate(controls):
        if step % FALL == 0:
            mujoco.mj_resetData(model, data)
        data.ctrl = control
        mujoco.mj_step(model, data, inner.frame_skip)
    return 1e6 * (time.process_time() - began) / n_steps


def fit(spec, parameters, options):
    """Microseconds of a step of a fit, those of the deployed network counted."""
    parameters = {**parameters, "population_size": options.population, "random_state": 0, "n_jobs": 1}
    policy = EvolvingConnectivityPolicy(**parameters, n_generations=1, warm_start=True).fit(spec)
    before = policy.n_env_steps_ + policy.history_[-1]["n_evaluation_steps"]
    policy.set_params(n_generations=options.generations)
    began = time.process_time()
    policy.fit(spec)
    taken = time.process_time() - began
    return 1e6 * taken / (policy.n_env_steps_ + policy.history_[-1]["n_evaluation_steps"] - before)


def rows(options):
    for name in options.env:
        found = tuned(name)
        other = with_integrator(found.environment, options.integrator, substeps=options.substeps or None)
        for what, measure in {
            "physics": partial(physics, n_steps=options.steps),
            "fit": partial(fit, parameters=found.parameters, options=options),
        }.items():
            sides = {"registered": partial(measure, found.environment), "other": partial(measure, other)}
            taken = runner.in_turns(sides, options.rounds)
            yield {
                "env": name,
                "of": what,
                "registered, us": taken["registered"],
                f"{options.integrator}, us": taken["other"],
                "ratio": taken["other"] / taken["registered"],
            }
