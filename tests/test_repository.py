"""The repository's own promises: lint, types, import order, lazy imports, commands and examples that work."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import newcomer_hour
import numpy as np
import pytest
import tables

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.networks import RSNN
from probes import usual_promotion
from run import NAMES

ROOT = Path(__file__).parent.parent
GYMNASIUM = ["--engine", "gymnasium"]
TINY = "--env brax/inverted_pendulum --population 4 --neurons 16"
OPTIONAL = [
    "jax", "torch", "stable_baselines3", "brax", "ray", "dask", "distributed", "tensorboardX", "optuna", "matplotlib",
    "networkx", "moviepy", "nir",
    "mujoco",
]  # fmt: skip


def run(*command, cwd=ROOT):
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["lint-imports"],
        ["codespell", "ecpolicy", "tests", "tools", "docs", "examples", "benchmarks", "README.md", "CHANGELOG.md"],
    ],
    ids=lambda command: command[0],
)
def test_checks(command):
    run(str(Path(sys.executable).parent / command[0]), *command[1:])


def test_import_is_lazy():
    code = f"import sys; from ecpolicy import *; print([name for name in {OPTIONAL} if name in sys.modules])"
    assert run(sys.executable, "-c", code).strip() == "[]"


def test_workers_import_no_estimators():
    code = (
        "import sys, ecpolicy.rollout.workers, ecpolicy.distributions, ecpolicy.networks; "
        "print([name for name in ('sklearn', 'scipy.stats', 'ecpolicy.policies') if name in sys.modules])"
    )
    assert run(sys.executable, "-c", code).strip() == "[]"


def test_a_fit_needs_no_optional_package(tmp_path):
    """Training, saving, loading and predicting with every optional package missing."""
    code = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OPTIONAL[:-1]}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.networks import RSNN
policy = EvolvingConnectivityPolicy(network=RSNN(16), population_size=8, n_generations=1, random_state=0, n_jobs=2)
policy.fit("CartPole-v1").save("p.ecp")
print(EvolvingConnectivityPolicy.load("p.ecp").score("CartPole-v1", n_episodes=2) > 0)
"""
    assert run(sys.executable, "-c", code, cwd=tmp_path).strip() == "True"


def test_ci_runs_the_test_command_of_the_readme():
    readme = (ROOT / "README.md").read_text()
    command = (ROOT / ".ci" / "run").read_text().splitlines()[-1].replace("install -q", "install")
    assert command in readme
    assert "examples/cartpole.py" in readme


def test_example_trains_scores_and_saves(tmp_path):
    arguments = ["--generations", "1", "--population", "8", "--output", str(tmp_path / "p.ecp")]
    output = run(sys.executable, str(ROOT / "examples" / "cartpole.py"), *arguments)
    assert re.search(r"generation +1/1 \| return", output)
    assert re.search(r"mean return \d+\.\d over 100 fresh episodes", output)
    assert EvolvingConnectivityPolicy.load(tmp_path / "p.ecp").n_generations_ == 1


def test_example_is_evaluated_with_the_tools_of_stable_baselines3(tmp_path):
    path = tmp_path / "p.ecp"
    EvolvingConnectivityPolicy(network=RSNN(16), population_size=8, n_generations=1).fit("CartPole-v1").save(path)
    arguments = [str(path), "--env", "CartPole-v1", "--n-episodes", "3", "--n-envs", "2", "--stochastic"]
    output = run(sys.executable, str(ROOT / "examples" / "evaluate.py"), *arguments)
    assert re.search(r"Mean return \d+\.\d+ ± \d+\.\d+, mean length \d+\.\d, 3 episodes", output)


def test_example_goes_on_where_it_was(tmp_path):
    arguments = ["--env", "CartPole-v1", "--population", "8", "--checkpoint", str(tmp_path / "c.ecp"), "--n-jobs", "1"]
    for generations in ("1", "2"):
        output = run(sys.executable, str(ROOT / "examples" / "resume.py"), "--generations", generations, *arguments)
        assert f"after {generations} generations" in output
    assert output.count("generation    2/2") == 1
    assert "generation    1/" not in output  # the second run trained the second generation alone


def test_example_of_a_robot(tmp_path):
    arguments = ["--env", "HalfCheetah-v5", "--steps", "100", "--population", "2", "--n-jobs", "1"]
    output = run(
        sys.executable, str(ROOT / "examples" / "locomotion.py"), *arguments, "--output", str(tmp_path / "r.ecp")
    )
    assert re.search(r"generation +1 .* m/s", output)
    assert re.search(r"Return -?\d+ ± \d+ over 20 fresh episodes of 1000 steps: -?\d+\.\d+ m/s, -?\d+\.\d m\.", output)


def test_example_of_go_and_nogo(tmp_path):
    arguments = ["--steps", "2000", "--population", "8", "--n-jobs", "1", "--output", str(tmp_path / "g.ecp")]
    figure = tmp_path / "g.png"
    output = run(sys.executable, str(ROOT / "examples" / "go_nogo.py"), *arguments, "--figure", str(figure))
    assert re.search(r"GO: -?\d+\.\d+ a step, \d+ spikes a step\nNOGO: -?\d+\.\d+ a step, \d+ spikes a step", output)
    assert figure.stat().st_size > 10_000


def test_example_of_sequence_tasks():
    arguments = ["digits", "--generations", "1", "--population", "4", "--trials", "2", "--neurons", "8"]
    output = run(sys.executable, str(ROOT / "examples" / "sequence_tasks.py"), *arguments, "--common-episodes")
    assert re.search(r"digits: \d+\.\d % right; by chance 10 %", output)


@pytest.mark.parametrize(("recurrence", "values"), [("fixed", {0.0, 1.0}), ("none", {0.0})])
def test_controls_of_sequence_tasks_keep_their_recurrent_connections(monkeypatch, recurrence, values):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import sequence_tasks

    small = {"neurons": 8, "population_size": 4, "episodes_per_member": 2, "n_generations": 2, "random_state": 3}
    policy, _ = sequence_tasks.train("nogo", recurrence=recurrence, graded=True, **small)
    start = np.random.default_rng(3).integers(0, 2, (8, 8)) if recurrence == "fixed" else np.zeros((8, 8))
    assert set(np.unique(policy.connection_probabilities_["recurrent"])) == values
    np.testing.assert_array_equal(policy.connection_probabilities_["recurrent"], start)
    assert 0.0 < policy.connection_probabilities_["input"].min() < policy.connection_probabilities_["input"].max() < 1.0


def test_trials_of_sequence_tasks_have_their_answers(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import sequence_tasks

    seen = {"memory": set(), "nogo": set(), "evidence": set()}
    for name, answers in seen.items():
        draw, lines, count, _ = sequence_tasks.TASKS[name]
        environment = sequence_tasks.Trials(draw, lines, count)
        for seed in range(20):
            environment.reset(seed=seed)
            rates, _ = draw(np.random.default_rng(seed))
            first, last = rates[0].argmax(), rates[-1].argmax()
            answers.add(answer := {"memory": int(first == last), "nogo": int(first), "evidence": int(first)}[name])
            rewards, over = [], False
            while not over:
                _, reward, over, _, _ = environment.step(np.eye(count, dtype=np.float32)[answer])
                rewards.append(reward)
            assert rewards == [0.0] * (len(rates) - 1) + [1.0]
    assert all(answers == {0, 1} for answers in seen.values())
    graded = sequence_tasks.Trials(draw, lines, count, graded=True)  # of the last task, evidence
    graded.answer = 1
    assert graded.earned(np.log(np.float32([6, 2]))) == pytest.approx(np.log(0.25))
    draw, lines, count, scored = sequence_tasks.TASKS["digits"]
    trained, held_out = (
        {part(np.random.default_rng(seed))[0].tobytes() for seed in range(300)} for part in (draw, scored)
    )
    assert len(trained) > 200
    assert len(held_out) > 150
    assert not trained & held_out


def test_example_of_an_own_network():
    arguments = ["--generations", "1", "--population", "8"]
    output = run(sys.executable, str(ROOT / "examples" / "own_network.py"), *arguments)
    assert re.search(r"mean return \d+\.\d over 100 fresh episodes", output)


def test_example_of_an_own_simulator():
    output = run(sys.executable, str(ROOT / "examples" / "own_simulator.py"), "8")
    distances = [float(line.split()[-1]) for line in output.splitlines()]
    assert len(distances) == 8
    assert distances[-1] < distances[0] / 2


SPEED = {
    "network_step": "--neurons 16 --rounds 1",
    "neurons_step": "--neurons 16 --population 4 --rounds 1",
    "throughput": "--env InvertedPendulum-v5 --population 16 --train-steps 50 --generations 1 --rounds 1",
    "mujoco_engine": "--env Hopper-v5 --steps 20 --episodes 2 --timed-steps 5 --rounds 1",
    "import_time": "--rounds 1",
    "integrators": "--rounds 1 --env Walker2d-v5 --steps 20 --generations 2 --population 4",
    "c_header": "--neurons 8 --env CartPole-v1 --rounds 1",
    "memory": "--generations 10 --env CartPole-v1 --large-env CartPole-v1 --population 64 --n-jobs 1 "
    "--checkpoint {tmp}/memory.ecp",
    "saving": "--generations 3 5 --env CartPole-v1",
    "search": "--generations 1 --population 4 --rounds 1",
    "clusters": "--env CartPole-v1 --populations 32 --generations 2 --engines dask",
    "cluster_model": "--env CartPole-v1 --population 64 --steps 20",
    "device_throughput": f"{TINY} --generations 2 --horizon 3 --steps 2",
}
SCRIPTS = {
    "faults": "--kills 0 --worker-kills 1 --engines loky",
    "studies/learning": "--tasks cartpole --seeds 0 --generations 1",
    "studies/efficiency": "--env CartPole-v1 --population 4 --neurons 16 --generations 1",
    "studies/comparison": "--methods ES-LSTM --seeds 0",
    "studies/surrogates": "--surrogates sigmoid --betas 10 --seeds 0 --steps 64 --episodes 2 "
    "--set network__n_neurons=16 network__step_ms=4",
    "studies/contraction": "--neurons 16 --population 4 --steps 2",
    "studies/gains": "--settings paper tuned --tasks CartPole-v1 --seeds 0 --steps 500 --results {tmp}",
    "studies/sequences": "--tasks nogo --settings recurrent --seeds 0 --generations 1 --results {tmp}",
    "studies/stability": "--settings free --runs 2 --generations 1 --policies {tmp} --results {tmp}",
    "studies/signal_share": "--at 1 --members 8 --population 4 --neurons 16 --horizon 2 --common-episodes 2 "
    "--engine gymnasium",
    "studies/drift": "--settings 0.3,0.01@2:0.05,0.001 --generations 1 4 --connections 64",
    "studies/brax_run": f"{TINY} --generations 1 --horizon 3 --checkpoint {{tmp}}/run.ecp",
}


def test_example_hidden_velocities():
    output = run(sys.executable, str(ROOT / "examples" / "hidden_velocities.py"), "--steps", "500", "--population", "4")
    assert "no recurrent connections: " in output
    assert "slow synapses: " in output
    assert output.count("Hopper-v5 without velocities") == 3


def test_every_benchmark_of_speed_is_run():
    elsewhere = {"microcontroller", "simulation", "synthesis"}  # they need QEMU, Verilator and yosys
    elsewhere |= {"tuned_trainings", "newcomer_hour"}  # these take minutes whatever their sizes
    assert set(SPEED) == set(NAMES) - elsewhere


def test_the_first_hour_is_what_was_printed(monkeypatch):
    first = "ecpolicy view a --max-steps 250"
    printed = {
        "pretrained": f"next:\n  {first}\n  ecpolicy train B --max-env-steps 5_000",
        "train": f"line\nnext:\n  ecpolicy record b.ecp b.mp4\n  ecpolicy info b.ecp\n  {first}\n",
    }
    ran = []

    def timed(command, place, scripts=None):
        ran.append(command)
        row = {"command": command, "s": 1.0}
        return row if scripts is None else {**row, "said": printed.get(command.split()[1], "")}

    monkeypatch.setattr(newcomer_hour, "timed", timed)
    rows = list(newcomer_hour.rows(SimpleNamespace(steps=100, max_steps=0, here=False)))
    assert [row["command"] for row in rows] == ran
    assert ran[0].startswith("git clone ")
    assert ran[1].endswith("examples/cartpole.py")
    assert ran[2].endswith('".[tools]"')
    assert ran[3:] == [
        "ecpolicy pretrained", "ecpolicy view a --max-steps 250", "ecpolicy train B --max-env-steps 100",
        "ecpolicy record b.ecp b.mp4", "ecpolicy info b.ecp",
    ]  # fmt: skip
    assert [row["printed by"] for row in rows] == [None, *["README"] * 3, *["pretrained"] * 2, *["train"] * 2]
    here = newcomer_hour.rows(SimpleNamespace(steps=100, max_steps=3, here=True))
    assert [row["command"] for row in here][:2] == ["ecpolicy pretrained", "ecpolicy view a --max-steps 3"]


@pytest.mark.parametrize("name", SPEED)
@usual_promotion()
def test_benchmarks_of_speed_give_rows(name, tmp_path):
    arguments = SPEED[name].format(tmp=tmp_path).split()
    rows = run(sys.executable, str(ROOT / "benchmarks" / "run.py"), name, *arguments, "--json").splitlines()
    assert {json.loads(row)["benchmark"] for row in rows} == {name}


def test_a_benchmark_is_shown_as_a_table():
    lines = run(sys.executable, str(ROOT / "benchmarks" / "run.py"), "import_time", "--rounds", "2").splitlines()
    assert lines[3].split() == ["statement", "s", "least"]
    assert re.search(r"import EvolvingConnectivityPolicy  +[\d.]+ \([\d.]+ to [\d.]+, n = 2\)  +[\d.]+$", lines[5])


@pytest.mark.parametrize("name", SCRIPTS)
@usual_promotion()
def test_scripts_of_benchmarks_run(name, tmp_path):
    arguments = SCRIPTS[name].format(tmp=tmp_path).split()
    assert run(sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *arguments)


def test_a_study_is_run_resumed_and_drawn(tmp_path):
    table = tmp_path / "table.toml"
    table.write_text(
        '[methods]\nEC = {estimator = "ec", tuned = "all"}\nSG-PPO = {estimator = "sg-ppo", tuned = "task"}\n'
        'ES-LSTM = {estimator = "es", tuned = "task", parameters = {network = "lstm"}}\n'
        'sb3-PPO = {estimator = "sb3-PPO", tuned = "task"}\n'
        '[studies.methods]\nmethods = ["EC", "ES-LSTM", "SG-PPO", "sb3-PPO"]\nseeds = [0]\nseconds = 1\n'
        '[studies.methods.tasks]\n"HalfCheetah-v5" = { steps = 100 }\n'
    )
    results = tmp_path / "results"
    sizes = ["--steps", "100", "--population", "2", "--final-episodes", "1", *GYMNASIUM]
    folders = ["--table", str(table), "--results", str(results), "--checkpoints", str(tmp_path)]
    reproduce = [sys.executable, str(ROOT / "benchmarks" / "studies" / "reproduce.py"), *sizes, *folders]
    assert "4 runs to do" in run(*reproduce)
    written = tables.read_runs(results)
    assert set(written) == {f"methods/{name}_HalfCheetah-v5_0" for name in ("EC", "ES-LSTM", "SG-PPO", "sb3-PPO")}
    for result in written.values():
        assert result["curve"][-1]["n_env_steps"] >= 100
        assert result["length"] == 1000
        assert len(result["final_returns"]) == 1
    lost = "methods/EC_HalfCheetah-v5_0"
    tables.write_runs(results, {name: result for name, result in written.items() if name != lost})
    assert "1 runs to do" in run(*reproduce)
    again = tables.read_runs(results)
    assert again.pop(lost)["final_returns"] == written.pop(lost)["final_returns"]
    assert again == written
    figures = [sys.executable, str(ROOT / "benchmarks" / "studies" / "reproduce_figures.py"), "--results", str(results)]
    output = run(*figures, "--studies", "methods", "--images", str(tmp_path / "images"))
    assert "\n| ES-LSTM |" in output
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"methods.png", "methods_seconds.png"}


def test_files_speak_of_the_project_alone():
    """No path of a developer's machine, and no host of a package registry."""
    tracked = run("git", "ls-files").split()
    texts = {name: (ROOT / name).read_text(errors="ignore") for name in tracked if not name.endswith(".png")}
    found = [name for name, text in texts.items() if re.search(r"/(root|home|work)/\w|/tmp/[a-z]", text)]
    assert found == []
