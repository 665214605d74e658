"""The command line: what it does, prints and returns."""

import csv
import json
import shlex
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import gymnasium as gym
import nir
import numpy as np
import pytest

import ecpolicy
from ecpolicy.cli import main
from ecpolicy.cli.parsing import Parser
from ecpolicy.cli.settings import METHODS, spoken
from ecpolicy.cli.training import add_train
from ecpolicy.networks import RSNN
from probes import usual_promotion

ROOT = Path(__file__).parent.parent
TINY = ["--n-generations", "2", "--population-size", "16", "--network-n-neurons", "20", "--max-episode-steps", "30"]
QUICK = [*TINY, "--eval-episodes", "1", "--confirm-episodes", "1", "--score-episodes", "2"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trained(folder, capsys):
    assert main(["train", "CartPole-v1", "--seed", "3", *QUICK, "--every", "0"]) == 0
    capsys.readouterr()
    return folder / "CartPole-v1.ecp"


def test_train_saves_what_fit_would_and_reports_on_the_streams(folder, capsys):
    assert main(["train", "CartPole-v1", "--seed", "3", *QUICK]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("generation ") == 2
    assert "steps" in printed.err
    assert "return mean: " in printed.out
    policy = ecpolicy.load("CartPole-v1.ecp")
    again = ecpolicy.EvolvingConnectivityPolicy(
        n_generations=2, population_size=16, network=RSNN(20), max_episode_steps=30, eval_episodes=1,
        confirm_episodes=1, random_state=3,
    ).fit("CartPole-v1")  # fmt: skip
    for name, p in again.connection_probabilities_.items():
        np.testing.assert_array_equal(policy.connection_probabilities_[name], p)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["Hopper-v5"], "Hopper-v5 | ec, tuned settings (see ecpolicy tuned Hopper-v5) | trained with "
         "healthy_reward=0.0, scored in the end as registered | --not-tuned leaves tuned settings out | engine mujoco"),
        (["Hopper-v5", "--not-tuned"], "Hopper-v5 | ec, default settings | reward as registered | engine mujoco"),
        (["Hopper-v5", "--method", "es", "--engine", "gymnasium"], "Hopper-v5 | es, default settings | trained with "
         "healthy_reward=0.0, scored in the end as registered | --not-tuned leaves tuned settings out | "
         "engine gymnasium"),
        (["CartPole-v1"], "CartPole-v1 | ec, default settings | reward as registered | engine gymnasium"),
    ],
)  # fmt: skip
def test_the_first_line_says_settings_reward_and_engine(folder, capsys, arguments, line):
    assert main(["train", *arguments, *QUICK, "--n-generations", "1", "--score-episodes", "0", "--every", "0"]) == 0
    assert capsys.readouterr().err.splitlines()[0] == line


def test_json_lines_are_the_history_and_the_score(folder, capsys):
    arguments = ["train", "CartPole-v1", "--seed", "3", *QUICK, "--json", "--out", "a.ecp", "--csv", "a.csv"]
    assert main(arguments) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    policy = ecpolicy.load("a.ecp")
    assert [line["event"] for line in lines] == ["generation", "generation", "end"]
    assert lines[1] == {"event": "generation", **policy.history_[1]}
    returns = policy.episode_returns("CartPole-v1", n_episodes=2)
    assert lines[2]["returns"] == returns[:, 0].tolist()
    assert lines[2]["return_mean"] == returns.mean()
    assert [float(row["return_mean"]) for row in csv.DictReader((folder / "a.csv").open())] == [
        record["return_mean"] for record in policy.history_
    ]


def test_resume_goes_on_and_an_existing_file_is_not_overwritten_by_accident(trained, capsys):
    before = trained.read_bytes()
    arguments = ["train", "CartPole-v1", "--seed", "3", *QUICK, "--every", "0"]
    assert main(arguments) == 2
    assert "--resume" in capsys.readouterr().err
    assert trained.read_bytes() == before
    further = [*arguments, "--n-generations", "4"]
    assert main([*further, "--resume"]) == 0
    resumed = ecpolicy.load(trained)
    assert main([*further, "--overwrite"]) == 0
    anew = ecpolicy.load(trained)
    assert len(resumed.history_) == len(anew.history_) == 4
    for name, p in anew.search_probabilities_.items():
        np.testing.assert_array_equal(resumed.search_probabilities_[name], p)


def test_settings_come_from_the_table_the_file_and_the_options_in_this_order(folder, capsys):
    (folder / "walker.toml").write_text(
        "[parameters]\neps = 0.02\nn_generations = 1\npopulation_size = 4\n"
        "max_episode_steps = [[0, 5], [100, 6]]\neval_episodes = 1\nconfirm_episodes = 1\n[network]\nn_neurons = 16\n"
        "[environment]\nctrl_cost_weight = 0.5\n"
    )
    arguments = ["train", "Walker2d-v5", "--config", "walker.toml", "--eps", "0.03", "--env-setting",
                 "forward_reward_weight=2", "--score-episodes", "1", "--every", "0"]  # fmt: skip
    assert main(arguments) == 0
    policy = ecpolicy.load("Walker2d-v5.ecp")
    table = ecpolicy.tuned("Walker2d-v5").parameters
    assert table["learning_rate"] != ecpolicy.EvolvingConnectivityPolicy().learning_rate
    assert policy.learning_rate == table["learning_rate"]
    assert (policy.eps, policy.max_episode_steps) == (0.03, [[0, 5], [100, 6]])
    [name] = policy.environments_
    for setting in ("healthy_reward=0.0", "ctrl_cost_weight=0.5", "forward_reward_weight=2"):
        assert setting in name
    assert main([*arguments, "--not-tuned", "--overwrite"]) == 0
    policy = ecpolicy.load("Walker2d-v5.ecp")
    assert policy.learning_rate == ecpolicy.EvolvingConnectivityPolicy().learning_rate
    assert "healthy_reward" not in policy.environments_[0]
    capsys.readouterr()
    assert main(["evaluate", "Walker2d-v5.ecp", "--episodes", "2", "--seed", "0", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    played = policy.evaluate("Walker2d-v5", n_episodes=2, seed=0)  # the registered task
    assert report["returns"] == played.returns[:, 0].tolist()
    assert report["x_velocity"] == played.x_velocities.mean()


def test_other_methods_have_parameters_of_their_own(folder, capsys):
    assert main(["train", "CartPole-v1", "--method", "es", "--network", "gru", "--sigma", "0.1", *QUICK]) == 0
    assert ecpolicy.load("CartPole-v1.ecp").sigma == 0.1
    with pytest.raises(SystemExit) as exit_:
        main(["train", "CartPole-v1", "--sigma", "0.1", *QUICK])
    assert exit_.value.code == 2
    arguments = [
        "--method",
        "ppo",
        "--network-n-neurons",
        "8",
        "--max-env-steps",
        "64",
        "--n-steps",
        "16",
        "--n-envs",
        "2",
    ]
    assert main(["train", "CartPole-v1", *arguments, "--score-episodes", "1", "--out", "ppo.ecp", "--every", "0"]) == 0
    capsys.readouterr()
    assert main(["info", "ppo.ecp", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["class"], report["environments"]) == ("SurrogateGradientPPOPolicy", ["CartPole-v1"])


def test_steps_limit_generations_only_where_those_are_not_given(folder):
    arguments = ["train", "CartPole-v1", *TINY[2:], "--max-env-steps", "1_000", "--score-episodes", "1", "--every", "0"]
    assert main(arguments) == 0
    policy = ecpolicy.load("CartPole-v1.ecp")
    assert policy.stop_reason_ == "max_env_steps"
    assert policy.n_env_steps_ >= 1000


def test_info_describes_the_policy(trained, capsys):
    assert main(["info", str(trained), "--json"]) == 0
    report, policy = json.loads(capsys.readouterr().out), ecpolicy.load(trained)
    assert report["connections"] == {name: int(p.sum()) for name, p in policy.connectivity_.items()}
    assert report["parameters"]["network"] == "RSNN(n_neurons=20)"
    assert report["deployed_bytes"] == (8 * 20 + 20 * 20 + 20 * 2) // 8
    assert report["file_bytes"] == trained.stat().st_size
    assert report["seconds"] == pytest.approx(sum(record["seconds"] for record in policy.history_), abs=1e-3)
    assert datetime.fromisoformat(report["saved"]) <= datetime.now()
    assert report["ecpolicy"] == ecpolicy.__version__
    assert "learning_rate" not in report["parameters"]  # the default
    assert main(["info", str(trained)]) == 0
    printed = capsys.readouterr().out
    assert "environments: CartPole-v1\n" in printed
    assert "time: 0 s\n" in printed


def test_export_writes_both_forms(trained, capsys):
    for arguments in (["a.nir"], ["b.nir", "--dialect", "lif"], ["my-net.h"], ["c.txt", "--format", "c"]):
        assert main(["export", str(trained), *arguments]) == 0
    assert capsys.readouterr().out.split() == ["a.nir", "b.nir", "my-net.h", "c.txt"]
    assert isinstance(nir.read("a.nir").nodes["layer"].nodes["neurons"], nir.CubaLIF)
    assert isinstance(nir.read("b.nir").nodes["neurons"], nir.LIF)
    policy = ecpolicy.load(trained)
    assert trained.with_name("my-net.h").read_text() == policy.to_c("my_net")


@pytest.mark.parametrize("kind", ["learning-curve", "raster", "rates", "probabilities"])
def test_plot_draws_every_kind(trained, capsys, kind):
    named = trained.with_name(f"CartPole-v1-{kind}.png")
    for out, file in (([], named), (["--out", "new/a.png"], trained.parent / "new" / "a.png")):
        assert main(["plot", str(trained), "--kind", kind, *out, "--dark", "--dpi", "60"]) == 0
        assert capsys.readouterr().out == f"{file.relative_to(trained.parent)}\n"
        assert file.read_bytes().startswith(b"\x89PNG")


def test_plot_takes_several_for_the_learning_curve_alone(trained, capsys):
    assert main(["plot", str(trained), str(trained), "--out", "a.svg"]) == 0


def test_record_writes_a_video_and_says_how_far_it_is(trained, capsys, monkeypatch):
    monkeypatch.setattr("ecpolicy.cli.pictures.perf_counter", iter([0.0, 0.5, 1.5, 2.5, 7.0, 7.5, 8.0, 8.5]).__next__)
    assert main(["record", str(trained), "new/a.mp4", "--max-steps", "5"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "new/a.mp4\n"
    assert printed.err.splitlines() == [
        "new/a.mp4: 2 frames | 1.3/s | at most 3 s left",
        "new/a.mp4: 4 frames | 0.6/s | at most 4 s left",
    ]
    assert (trained.parent / "new" / "a.mp4").stat().st_size > 500


def test_tuned_shows_the_table(capsys):
    assert main(["tuned", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["Hopper-v5"]["environment"] == {"healthy_reward": 0.0}
    assert main(["tuned", "InvertedPendulum-v5"]) == 0
    assert capsys.readouterr().out == "InvertedPendulum-v5: the defaults\n"
    assert main(["tuned", "Pendulum-v1"]) == 0
    assert capsys.readouterr().out == "Pendulum-v1: learning_rate = 0.15, eps = 0.001, network = RSNN(gain_in=0.3)\n"


def test_options_of_the_network_join_the_tuned_ones(folder):
    assert main(["train", "Pendulum-v1", *QUICK, "--network-gain-out", "4", "--every", "0"]) == 0
    assert ecpolicy.load("Pendulum-v1.ecp").network == RSNN(20, gain_in=0.3, gain_out=4)
    assert main(["train", "Pendulum-v1", *QUICK, "--not-tuned", "--overwrite", "--every", "0"]) == 0
    assert ecpolicy.load("Pendulum-v1.ecp").network == RSNN(20)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["train", "--method", "ppo", "--help"]])
def test_help_shows_examples(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    printed = capsys.readouterr().out
    assert exit_.value.code == 0
    assert "ecpolicy train CartPole-v1 --seed 0" in printed
    assert ("--clip-range" in printed) == ("ppo" in arguments)


@pytest.mark.parametrize("method", METHODS)
def test_help_describes_every_parameter(method):
    parser = Parser()
    add_train(parser, ["--method", method])
    text = " ".join(parser.format_help().split())
    for name in METHODS[method].estimator().get_params():
        option = f" --{name.replace('__', '-').replace('_', '-')} VALUE "
        assert (option in text) == (name not in ("random_state", "verbose", "warm_start"))
    assert "--n-neurons" not in text
    assert (
        "Fit ends when the deployed network reaches this mean return, confirmed on 100 fresh episodes (default" in text
    )


def test_the_commands_of_the_readme_lead_from_training_to_every_file(folder, capsys):
    lines = [line.split() for line in (ROOT / "README.md").read_text().splitlines() if ".venv/bin/ecpolicy " in line]
    commands = [line[1:] for line in lines]
    assert [command[0] for command in commands] == ["view", "train", "record", "plot", "export"]
    tiny = ["--max-env-steps", "100", *TINY[2:], "--eval-episodes", "1", "--confirm-episodes", "1", "--n-jobs", "1"]
    for command in commands:
        further = {"train": tiny, "view": ["--max-steps", "5"], "record": ["--max-steps", "5"]}.get(command[0], [])
        assert main([*command, *further]) == 0
    made = {file.name for file in folder.iterdir()} - {"MUJOCO_LOG.TXT"}  # of MuJoCo's compiler
    assert made == {"HalfCheetah-v5.html", "HalfCheetah-v5.ecp", "cheetah.mp4", "raster.png", "cheetah.nir"}


@pytest.mark.parametrize(
    ("method", "commands"),
    [
        ("", ["evaluate", "record", "view", "plot", "export", "export"]),
        ("--network integer-rsnn", ["evaluate", "record", "view", "plot", "export"]),
        ("--method es --network gru", ["evaluate", "record"]),
    ],
)
def test_commands_that_are_suggested_work_as_they_stand(folder, capsys, method, commands):
    tiny = [*TINY[2:], "--n-generations", "1", "--eval-episodes", "1", "--confirm-episodes", "1", "--every", "0"]
    assert main(["train", "CartPole-v1", "--out", "my policy.ecp", *tiny, *method.split()]) == 0
    _, lines = capsys.readouterr().err.split("next:\n")
    given = [shlex.split(line) for line in lines.splitlines()]
    assert [(name, command) for name, command, *_ in given] == [("ecpolicy", command) for command in commands]
    for _, *command in given:
        assert main([*command, *(["--max-steps", "5"] if command[0] in ("record", "view") else [])]) == 0
    made = {file.suffix for file in folder.iterdir() if file.stem.startswith("my policy")}
    assert made - {".ecp"} == {
        "": {".mp4", ".html", ".png", ".nir", ".h"}, "--network integer-rsnn": {".mp4", ".html", ".png", ".h"},
    }.get(method, {".mp4"})  # fmt: skip


@pytest.mark.parametrize(
    ("said", "spoken_of"),
    [
        ("differ more (network__gain_in=1.0); see", "differ more (--network-gain-in=1.0); see"),
        ("try network=RSNN(gain_in=1.0, gain_out=1.0); see", "try --network-gain-in 1.0 --network-gain-out 1.0; see"),
        ("(healthy_reward=0); or (max_episode_steps).", "(--env-setting healthy_reward=0); or (--max-episode-steps)."),
        ("(episodes_per_member=8)", "(--episodes-per-member=8)"),
        ("The network gains 0.5 a step.", "The network gains 0.5 a step."),
    ],
)
def test_advice_is_in_the_words_of_the_command_line(said, spoken_of):
    assert spoken(said) == spoken_of


@pytest.mark.filterwarnings("always:All returns")
def test_warnings_are_in_the_words_of_the_command_line(folder, capsys):
    sizes = ["--n-generations", "5", "--population-size", "4", "--network-n-neurons", "8", "--max-episode-steps", "3"]
    quick = ["--eval-episodes", "1", "--confirm-episodes", "1", "--score-episodes", "0", "--every", "0"]
    assert main(["train", "FrozenLake-v1", "--env-setting", "is_slippery=False", *sizes, *quick]) == 0
    assert "let networks differ more (--network-gain-in=1.0)" in capsys.readouterr().err


def test_what_comes_with_the_package_leads_on(folder, capsys):
    assert main(["pretrained"]) == 0
    _, lines = capsys.readouterr().err.split("next:\n")
    (_, *view), (_, *train) = (shlex.split(line) for line in lines.splitlines())
    assert main([*view, "--max-steps", "5", "--no-video"]) == 0
    assert main([*train, "--max-env-steps", "100", *TINY[2:], "--every", "0", "--score-episodes", "1"]) == 0


def test_ctrl_c_saves_and_is_status_130(folder):
    command = [
        sys.executable,
        "-m",
        "ecpolicy",
        "train",
        "CartPole-v1",
        "--n-generations",
        "10_000",
        *TINY[2:],
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert json.loads(process.stdout.readline())["event"] == "generation"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        lines = [json.loads(line) for line in process.stdout.read().splitlines()]
    assert process.returncode == 130
    assert lines[-1]["stop_reason"] == "interrupted"
    assert len(ecpolicy.load("CartPole-v1.ecp").history_) == len(
        lines
    )  # all but the last are generations, one was read


def test_words_of_python_and_none_are_what_they_say(folder):
    arguments = ["--keep-best", "False", "--score-threshold", "none", "--max-env-steps", "1e3", "--score-episodes", "0"]
    assert main(["train", "CartPole-v1", *TINY[2:], *arguments, "--every", "0"]) == 0
    policy = ecpolicy.load("CartPole-v1.ecp")
    assert (policy.keep_best, policy.score_threshold, policy.max_env_steps) == (False, None, 1000)
    (folder / "whole.toml").write_text("[parameters]\nmax_env_steps = 1e3\neps = [[0, 0.01], [1e2, 0.02]]\n")
    schedule = ["--learning-rate", "[[0, 0.3], [5e2, 1.0]]", "--config", "whole.toml", "--score-episodes", "0"]
    assert main(["train", "CartPole-v1", *TINY[2:], *schedule, "--every", "0", "--overwrite"]) == 0
    policy = ecpolicy.load("CartPole-v1.ecp")
    assert (policy.max_env_steps, policy.learning_rate) == (1000, [[0, 0.3], [500, 1.0]])
    assert policy.eps == [[0, 0.01], [100, 0.02]]


def test_an_episode_without_an_end_is_cut(folder, capsys):
    assert main(["train", "CliffWalking-v1", *QUICK, "--every", "0", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["length_mean"] == 30  # the training horizon
    assert main(["evaluate", "CliffWalking-v1.ecp", "--max-steps", "7", "--episodes", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["length_mean"] == 7


def test_settings_that_change_the_observation_are_refused_before_training(folder, capsys):
    setting = ["--env-setting", "exclude_current_positions_from_observation=false"]
    arguments = ["train", "Hopper-v5", *QUICK, "--every", "0", *setting]
    assert main(arguments) == 2
    assert "another observation space" in capsys.readouterr().err
    assert not (folder / "Hopper-v5.ecp").exists()
    assert main([*arguments, "--score-episodes", "0"]) == 0
    assert main(["evaluate", "Hopper-v5.ecp", "--episodes", "1"]) == 2
    assert main(["evaluate", "Hopper-v5.ecp", "--episodes", "1", *setting]) == 0


def test_a_policy_of_a_list_knows_its_environment(folder, capsys):
    policy = ecpolicy.EvolvingConnectivityPolicy(
        n_generations=1, population_size=4, network=RSNN(8), max_episode_steps=5
    )
    policy.fit(["CartPole-v1"] * 2).save("list.ecp")
    assert main(["evaluate", "list.ecp", "--episodes", "1"]) == 0
    assert "environment: CartPole-v1" in capsys.readouterr().out


@usual_promotion()
def test_brax_ids_are_known_and_keep_the_output_clean(folder, capfd):
    arguments = ["--n-generations", "1", "--population-size", "4", "--network-n-neurons", "8", "--max-episode-steps",
                 "5", "--eval-episodes", "1", "--confirm-episodes", "1", "--score-episodes", "0", "--json"]  # fmt: skip
    assert main(["train", "brax/inverted_pendulum", *arguments]) == 0
    assert [json.loads(line)["event"] for line in capfd.readouterr().out.splitlines()] == ["generation", "end"]
    assert main(["info", "brax-inverted_pendulum.ecp", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["environments"] == ["brax/inverted_pendulum"]


def test_a_prior_is_described_by_its_shape(folder, capsys):
    prior = {"recurrent": np.full((8, 8), 0.3), "input": 0.2}
    policy = ecpolicy.EvolvingConnectivityPolicy(
        n_generations=1, population_size=4, network=RSNN(8), max_episode_steps=5, initial_probability=prior
    )
    policy.fit("CartPole-v1").save("p.ecp")
    assert main(["info", "p.ecp", "--json"]) == 0
    given = json.loads(capsys.readouterr().out)["parameters"]["initial_probability"]
    assert given == {"recurrent": "array (8, 8)", "input": pytest.approx(0.2)}


MODULE = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class Cart(CartPoleEnv):
    def __init__(self, bonus=0.0, render_mode=None):
        super().__init__(render_mode=render_mode)
        self.bonus = bonus

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, reward + self.bonus, *rest

for name in ("Cart-v0", "Cart-v1", "its/Cart-v1"):
    gym.register(name, Cart, max_episode_steps=20)
"""


@pytest.fixture
def module(folder, monkeypatch):
    """The name of a module that registers environments, in a process that does not know them yet."""
    (folder / "its_carts.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)
    yield "its_carts"
    sys.modules.pop("its_carts", None)
    for name in ("Cart-v0", "Cart-v1", "its/Cart-v1"):
        gym.registry.pop(name, None)


@pytest.mark.filterwarnings("ignore:.*Using the latest versioned environment")
@pytest.mark.parametrize("name", ["Cart-v0", "Cart", "its/Cart-v1"])
def test_ids_of_a_module_take_settings(name, module, folder, capsys):
    environment, file = f"{module}:{name}", f"{name.replace('/', '-')}.ecp"
    assert main(["train", environment, *QUICK, "--env-setting", "bonus=1.5", "--every", "0", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["path"] == file
    assert lines[-1]["return_mean"] == lines[-1]["length_mean"]  # of the registered one, without the bonus
    [known] = ecpolicy.load(file).environments_
    assert "bonus=1.5" in known
    for given in (["--env", environment], []):
        score = ["evaluate", file, *given, "--env-setting", "bonus=1.5", "--episodes", "2", "--json"]
        assert main(score) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["return_mean"] == 2.5 * report["length_mean"]
    assert main(["record", file, "--env", environment, "--env-setting", "bonus=1", "a.mp4", "--max-steps", "3"]) == 0
    assert (
        main(["plot", file, "--env", environment, "--env-setting", "bonus=1", "--kind", "raster", "--out", "a.png"])
        == 0
    )


def test_the_module_is_imported_before_the_settings_are_used(module, folder, capsys):
    policy = ecpolicy.EvolvingConnectivityPolicy(
        n_generations=1, population_size=4, network=RSNN(8), max_episode_steps=5
    )
    policy.fit("CartPole-v1").save("p.ecp")
    assert "its/Cart-v1" not in gym.registry
    score = [
        "evaluate",
        "p.ecp",
        "--env",
        f"{module}:its/Cart-v1",
        "--env-setting",
        "bonus=1",
        "--episodes",
        "1",
        "--json",
    ]
    assert main(score) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["return_mean"] == 2 * report["length_mean"]


def test_tuned_settings_are_found_by_every_way_to_write_an_id(folder):
    arguments = [*QUICK, "--every", "0", "--score-episodes", "0", "--out", "p.ecp", "--overwrite"]
    for environment in ("Hopper-v5", "gymnasium.envs.mujoco:Hopper-v5"):
        assert main(["train", environment, *arguments]) == 0
        [name] = ecpolicy.load("p.ecp").environments_
        assert "healthy_reward=0.0" in name
