"""Run the studies of reproduce.toml: methods x tasks x seeds, each run in a process and on a core of its own.

A run that was interrupted goes on from its checkpoint, and one that has its row in the results' runs.csv is not run
again. The row holds the settings, seed, versions, machine class and the last score; curves.csv has environment steps of
training, seconds of training, and return, length, x-velocity and distance of the deployed network over fresh full
episodes of the registered environment, which training never saw. Draw and tabulate with reproduce_figures.py.

Physics run in EnvPool where it is installed (pip install envpool; the same tasks in C++), else in Gymnasium; scores
are always Gymnasium's. Stable-Baselines3's PPO and SG-PPO step Gymnasium's environments.

    python benchmarks/studies/reproduce.py [--studies returns ...] [--methods ...] [--tasks ...] [--seeds ...]
        [--jobs 2] [--engine envpool | gymnasium] [--results benchmarks/studies/results] [--checkpoints FOLDER]
"""

import argparse
import functools
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import tomllib
import zlib
from collections import ChainMap
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import gymnasium as gym
import linear_ars
import numpy as np
import tables
import update_rules

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy, best_start, tuned
from ecpolicy.callbacks import Checkpoint
from ecpolicy.networks import GRU, LSTM

HERE = Path(__file__).parent
UNSEEN = 1_000_000  # first environment seed of the curve's episodes
FINAL = 2_000_000  # of the episodes after training
POINTS = 40  # of a curve, and as many of its beginning
DENSE = 4_000_000  # environment steps that count as the beginning, in which studies are compared
EPISODES = 10  # of each point
FINAL_EPISODES = 100
PACKAGES = ["ecpolicy", "numpy", "numba", "gymnasium", "mujoco", "envpool", "torch", "stable_baselines3"]
sys.path.append(str(HERE.parent.parent / "examples"))
from hidden_velocities import positions_only, time_constants  # noqa: E402

ESTIMATORS = {
    "ec": EvolvingConnectivityPolicy,
    "ec-mirrored": update_rules.MirroredPolicy,
    "es": ESPolicy,
    "ars": linear_ars.ars,
    "sg-ppo": SurrogateGradientPPOPolicy,
}
NETWORKS = {"rsnn": None, "gru": GRU(), "lstm": LSTM()}


class Recorder:
    """A callback: the curve of a run, saved beside its checkpoint; ends the fit at the study's limits."""

    def __init__(self, path, run):
        self._path, self._run = path, run
        self.points = json.loads(path.read_text()) if path.exists() else []

    def begin(self, view):
        done = getattr(view, "n_env_steps_", 0) if view.continues else 0
        self.points = [point for point in self.points if point["n_env_steps"] <= done]

    def __call__(self, view):
        n_env_steps, seconds = view.n_env_steps_, trained_for(view)
        last = self.points[-1]["n_env_steps"] if self.points else 0
        over = n_env_steps >= self._run["steps"] or seconds >= self._run["seconds"]
        until = min(self._run["steps"], DENSE) if n_env_steps <= DENSE else self._run["steps"]
        if n_env_steps - last >= until / POINTS or over:
            self.measure(view)
        return over or reached(self.points, self._run["until"])

    @property
    def seed(self):
        """The first environment seed of the next point, so that every point is measured on episodes of its own."""
        return UNSEEN + EPISODES * len(self.points)

    def measure(self, policy):
        episodes = policy.evaluate(scored_on(self._run), n_episodes=EPISODES, seed=self.seed)
        self.add(policy.n_env_steps_, trained_for(policy), episodes)

    def add(self, n_env_steps, seconds, episodes):
        self.points.append({"n_env_steps": n_env_steps, "seconds": round(seconds, 1), **summary(episodes)})
        write(self._path, self.points)


def reached(points, until):
    """Whether the last three points are above the return that a run is for, if it is for one."""
    returns = [point["return_mean"] for point in points[-3:]]
    return until is not None and len(returns) == 3 and min(returns) >= until


def trained_for(policy):
    """Seconds of training so far."""
    return sum(record["seconds"] for record in policy.history_)


def summary(episodes):
    means = (np.mean(part) for part in (episodes.lengths, episodes.x_velocities, episodes.x_positions))
    names = ("length", "x_velocity", "x_position")
    rounded = {name: round(float(mean), 3) for name, mean in zip(names, means, strict=True)}
    deviation = float(np.std(episodes.returns))
    return {"return_mean": round(float(np.mean(episodes.returns)), 2), "return_std": round(deviation, 2), **rounded}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    part.replace(path)


def machine():
    """The class of the machine, not its name."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, one used by each run"


def versions():
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        if importlib.util.find_spec(name):
            found[name] = importlib.metadata.version(name)
    return found


def scored_on(run, **kwargs):
    """What makes the environment of a run, as it is registered or with these arguments."""
    return functools.partial(positions_only if run.get("hidden_velocities") else gym.make, run["task"], **kwargs)


def environment_of(run, task, kwargs, engine, size, seed):
    if run.get("hidden_velocities"):
        return scored_on(run, **kwargs)
    if engine == "gymnasium":
        return task.environment if kwargs else task.environment_id
    import envpool

    return functools.partial(
        envpool.make_gymnasium, task.environment_id, num_envs=size, num_threads=1, seed=seed, **kwargs
    )


def task_of(run):
    """The task with its tuned settings: today's, or those that the study was made with."""
    task = tuned(run["task"])
    settings = run.get("settings")
    return task if settings is None else task._replace(parameters=settings)


def settings_of(run):
    """Everything that a run's result depends on, apart from versions and how long it lasts."""
    task, definition = task_of(run), run["definition"]
    takes = definition.get("tuned")
    parameters, engine = {}, "gymnasium" if run.get("hidden_velocities") else run["engine"]
    if definition["estimator"] in ("ec", "ec-mirrored", "es", "ars"):
        parameters = {"n_generations": 10**6, "backend": "numpy"}
        if definition["estimator"] != "ars":  # which counts directions
            parameters["population_size"] = run["population"]
        if takes:
            parameters["max_episode_steps"] = task.parameters.get("max_episode_steps", 1000)
    else:
        engine = "gymnasium"
    found = dict(task.parameters)
    if definition["estimator"] in ESTIMATORS:
        parameters |= {"random_state": run["seed"], "score_threshold": None}
    parameters |= run.get("rival", {})
    found |= found.pop("network").given() if "network" in found else {}
    parameters |= (found if takes == "all" else {}) | definition.get("parameters", {})
    starts = task.starts if takes == "all" and not run.get("one_start") else {}
    return {
        "parameters": parameters,
        "environment": task.environment_kwargs if takes else {},
        "engine": engine,
        **({"starts": starts} if starts else {}),
    }


def policy_of(run, parameters):
    """The policy of a run. A study has the name and the settings of the network among the parameters."""
    estimator, given = ESTIMATORS[run["definition"]["estimator"]], dict(parameters)
    if run["definition"]["estimator"] == "ars":
        return estimator(**given, max_env_steps=run["steps"])
    if given.get("initial_probability") == "fixed":  # random recurrent connections, which are not searched for
        n = given.get("n_neurons", 256)
        fixed = np.random.default_rng(run["seed"]).integers(0, 2, (n, n))
        given["initial_probability"] = {"recurrent": fixed.astype(np.float32)}
    if isinstance(given.get("tau_syn"), str):  # such as "5 to 100": one for every neuron, at random
        bounds = map(float, given["tau_syn"].split(" to "))
        given["tau_syn"] = time_constants(*bounds, given.get("n_neurons", 256), run["seed"])
    policy = estimator(network=NETWORKS[given.pop("network", "rsnn")], max_env_steps=run["steps"])
    settings = policy.get_params()
    return policy.set_params(**{f"network__{n}" if n not in settings else n: value for n, value in given.items()})


def train(run, checkpoint):
    """Train one of our policies to the end of its run; what is worth noting of it, its curve and its last episodes."""
    task, settings = task_of(run), settings_of(run)
    parameters, kwargs, engine = (settings[name] for name in ("parameters", "environment", "engine"))
    policy = policy_of(run, parameters)
    recorder = Recorder(checkpoint.with_suffix(".curve.json"), run)
    environment = environment_of(run, task, kwargs, engine, parameters.get("population_size"), run["seed"])
    saves, diverged = Checkpoint(checkpoint, every=None, seconds=60), False
    fit = functools.partial(best_start, policy, **settings["starts"]) if "starts" in settings else policy.fit
    try:
        fit(environment, callbacks=[recorder, saves], resume_from=saves)
    except FloatingPointError:  # the policy is that of the update before
        diverged = True
        recorder.measure(policy)
    final = policy.evaluate(scored_on(run), n_episodes=run["final_episodes"], seed=FINAL)
    noted = {"evaluation_steps": policy.history_[-1]["n_evaluation_steps"], "diverged": diverged}
    return noted, recorder.points, final


def train_sb3(run, checkpoint):
    """Train a rival of Stable-Baselines3 or sb3-contrib on one core. It is not resumed.

    Its settings are those of the method and, by task, of the table ``rivals``; "n_envs" and "normalize" (which of
    VecNormalize's two parts) are for its environments, "action_noise" is the deviation of normal noise.
    """
    import sb3_contrib
    import stable_baselines3
    import torch
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.noise import NormalActionNoise
    from stable_baselines3.common.vec_env import VecNormalize

    torch.set_num_threads(1)
    settings = settings_of(run)
    given = dict(settings["parameters"])
    normalized, n_envs, policy = given.pop("normalize", []), given.pop("n_envs", 1), given.pop("policy", "MlpPolicy")
    training = make_vec_env(scored_on(run, **settings["environment"]), n_envs, seed=run["seed"])
    parts = {"norm_obs": "obs" in normalized, "norm_reward": "reward" in normalized}
    training = VecNormalize(training, gamma=given.get("gamma", 0.99), **parts)
    if "action_noise" in given:
        zeros = np.zeros(training.action_space.shape)
        given["action_noise"] = NormalActionNoise(zeros, zeros + given["action_noise"])
    name = run["definition"]["estimator"].removeprefix("sb3-")
    rival = getattr(stable_baselines3, name, None) or getattr(sb3_contrib, name)
    model = rival(policy, training, seed=run["seed"], device="cpu", **given)
    recorder = Recorder(checkpoint.with_suffix(".curve.json"), run)
    recorder.points, seconds = [], 0.0
    while model.num_timesteps < run["steps"] and seconds < run["seconds"]:
        began, until = time.perf_counter(), min(run["steps"], model.num_timesteps + run["steps"] / POINTS)
        while model.num_timesteps < until and time.perf_counter() - began < run["seconds"] / POINTS:
            model.learn(2048, reset_num_timesteps=False)
        seconds += time.perf_counter() - began
        recorder.add(model.num_timesteps, seconds, play(model, training, scored_on(run), EPISODES, recorder.seed))
    final = play(model, training, scored_on(run), run["final_episodes"], FINAL)
    return {}, recorder.points, final


def play(model, normalize, make, n_episodes, seed):
    """Episodes of the registered environment with the mean action."""
    from ecpolicy.rollout.outcome import EvaluatedEpisodes

    environment = make()
    rows = []
    for episode in range(n_episodes):
        observation, _ = environment.reset(seed=seed + episode)
        total, velocities, over, state, first = 0.0, [], False, None, np.array([True])
        while not over:
            action, state = model.predict(normalize.normalize_obs(observation), state, first, deterministic=True)
            first = np.array([False])
            observation, reward, terminated, truncated, info = environment.step(action)
            total, over = total + float(reward), terminated or truncated
            velocities.append(info["x_velocity"])
        rows.append((total, len(velocities), np.mean(velocities), info["x_position"]))
    environment.close()
    return EvaluatedEpisodes(*(np.array(column)[:, None] for column in zip(*rows, strict=True)))


def finish(run, checkpoint):
    """Train and score; the run's row, with its curve."""
    update_rules.register()
    noted, points, final = (train if run["definition"]["estimator"] in ESTIMATORS else train_sb3)(run, checkpoint)
    return {
        **{name: run[name] for name in ("run", "study", "method", "task", "seed")},
        **settings_of(run),
        **noted,
        "versions": versions(),
        "machine": machine(),
        **summary(final),
        "n_env_steps": points[-1]["n_env_steps"],
        "seconds": points[-1]["seconds"],
        "final_returns": [round(float(value), 1) for value in final.returns[:, 0]],
        "curve": points,
    }


def runs(arguments):
    """The runs that are asked for, seed by seed, so that every method and task has some when time is short."""
    table = tomllib.loads(arguments.table.read_text())
    methods, studies = table["methods"], table["studies"]
    unknown = set(arguments.studies or []) - set(studies)
    if unknown:
        raise SystemExit(f"reproduce.toml has no study {', '.join(sorted(unknown))}; it has {', '.join(studies)}.")
    for name, study in studies.items():
        if arguments.studies and name not in arguments.studies:
            continue
        earlier = ChainMap(*(table["settings"][which] for which in study.get("settings", [])))
        for seed, (task, limits), method in itertools.product(study["seeds"], study["tasks"].items(), study["methods"]):
            wanted = (arguments.seeds, seed), (arguments.tasks, task), (arguments.methods, method)
            if method not in limits.get("except", []) and all(not among or value in among for among, value in wanted):
                stem = f"{method}_{task}_{seed}".replace(" ", "-").replace(",", "").replace("%", "percent")
                yield {
                    "run": f"{name}/{stem}",
                    "study": name,
                    "method": method,
                    "definition": methods[method],
                    "settings": earlier.get(task),
                    "rival": table.get("rivals", {}).get(method, {}).get(task, {}),
                    "task": task,
                    "seed": seed,
                    "steps": arguments.steps or limits["steps"],
                    "until": limits.get("until"),
                    "one_start": study.get("one_start", False),
                    "hidden_velocities": study.get("hidden_velocities", False),
                    "seconds": study.get("seconds", float("inf")),
                    "population": arguments.population,
                    "engine": arguments.engine,
                    "final_episodes": arguments.final_episodes,
                }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=HERE / "reproduce.toml")
    parser.add_argument("--studies", nargs="+")
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--tasks", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
    installed = "envpool" if importlib.util.find_spec("envpool") else "gymnasium"
    parser.add_argument("--engine", choices=["envpool", "gymnasium"], default=installed)
    parser.add_argument("--population", type=int, default=256)
    parser.add_argument("--steps", type=int, help="environment steps of each run instead of the study's")
    parser.add_argument("--final-episodes", type=int, default=FINAL_EPISODES)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--checkpoints", type=Path, default=Path(tempfile.gettempdir()) / "ecpolicy-reproduce")
    parser.add_argument("--run", help=argparse.SUPPRESS)  # the description of one run, in a process of its own
    arguments = parser.parse_args()
    if arguments.run:
        run = json.loads(arguments.run)
        print(json.dumps(finish(run, checkpoint_of(arguments, run))))
        return
    recorded = tables.read_runs(arguments.results)
    waiting = [run for run in runs(arguments) if not done(recorded.get(run["run"]), run)]
    print(f"{len(waiting)} runs to do", flush=True)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        futures = {pool.submit(spawn, arguments, run): run for run in waiting}
        failed = sum(not record(arguments, futures[future], future.result()) for future in as_completed(futures))
    if failed:
        raise SystemExit(f"{failed} runs failed.")


def done(result, run):
    """Whether the run has its row, with the settings of today, and came to its end."""
    if result is None:
        return False
    ended = (
        result["n_env_steps"] >= run["steps"]
        or result["seconds"] >= run["seconds"]
        or result.get("diverged")
        or reached(result["curve"], run["until"])
    )
    return bool(ended) and all(result.get(name) == value for name, value in settings_of(run).items())


def checkpoint_of(arguments, run):
    settings = zlib.crc32(json.dumps(settings_of(run)).encode())
    return arguments.checkpoints / f"{run['run'].replace('/', '_')}_{settings:08x}.ecp"


def spawn(arguments, run):
    """Run in a process with one thread, which prints its result."""
    arguments.checkpoints.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--run", json.dumps(run), "--checkpoints", str(arguments.checkpoints)]
    threads = dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return subprocess.run(command, env={**os.environ, **threads}, stdout=subprocess.PIPE, text=True, check=False)


def record(arguments, run, process):
    """Put the result into the tables, in place of the run's older one; whether there is a result."""
    label = f"{run['study']}: {run['method']} {run['task']} seed {run['seed']}"
    if process.returncode:
        print(f"{label} failed with exit code {process.returncode}", flush=True)
        return False
    result, checkpoint = json.loads(process.stdout.splitlines()[-1]), checkpoint_of(arguments, run)
    tables.write_runs(arguments.results, {**tables.read_runs(arguments.results), run["run"]: result})
    checkpoint.unlink(missing_ok=True)
    checkpoint.with_suffix(".curve.json").unlink(missing_ok=True)
    print(
        f"{label}: {result['return_mean']:.0f} ± {result['return_std']:.0f} at {result['x_velocity']:.2f} m/s over "
        f"{result['length']:.0f} steps, {result['n_env_steps']:,} steps, {result['seconds']:.0f} s",
        flush=True,
    )
    return True


if __name__ == "__main__":
    main()
