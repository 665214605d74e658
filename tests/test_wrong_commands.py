"""Wrong commands, values, files and environments: one line that says what to do, and the documented exit status."""

import shlex

import gymnasium as gym
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from ecpolicy.cli import main
from ecpolicy.cli.settings import METHODS

TINY = "--n-generations 1 --population-size 8 --network-n-neurons 8 --max-episode-steps 5 --eval-episodes 1 " \
       "--confirm-episodes 1 --score-episodes 0 --every 0"  # fmt: skip
FILES = {
    "bad.toml": "[parameters\n",
    "old.toml": "[parameters]\ngain_in = 0.3\ndt = 0.5\n",
    "other.toml": "[parameter]\na = 1\n",
    "verbose.toml": "[parameters]\nverbose = 1\n",
    "unknown.toml": "[parameters]\nlearning_rat = 1\n",
    "value.toml": "[parameters]\nlearning_rate = -1\n",
    "network.toml": "[network]\nn_neuron = 8\n",
    "text.ecp": "no policy\n",
}
GO_ON = "train CartPole-v1 --resume --out trained.ecp --network-n-neurons 8"
WRONG = [  # command, exit status, what the line says
    # commands and options
    ("trainn CartPole-v1", 2, "no command 'trainn'. Did you mean train? The commands are train, evaluate,"),
    ("train", 2, "required: environment. See ecpolicy train --help."),
    ("record trained.ecp", 2, "required: out"),
    ("train CartPole-v1 --learning-rat 0.1", 2, "no option --learning-rat. Did you mean --learning-rate? See"),
    ("train CartPole-v1 --popsize 64", 2, "no option --popsize. Did you mean --population-size? See"),
    ("train CartPole-v1 --generations 64", 2, "Did you mean --n-generations?"),
    ("train CartPole-v1 --neurons 64", 2, "Did you mean --network-n-neurons?"),
    ("train CartPole-v1 --steps 64", 2, "Did you mean --max-env-steps?"),
    ("eval trained.ecp", 2, "no command 'eval'. Did you mean evaluate?"),
    ("vid trained.ecp", 2, "no command 'vid'."),
    ("train CartPole-v1 --learning_rate 0.1", 2, "Did you mean --learning-rate?"),
    ("train CartPole-v1 --lr 0.1", 2, "It is --learning-rate here."),
    ("train CartPole-v1 --verbose 1", 2, "It is --every here."),
    ("train CartPole-v1 --beta 3", 2, "It is for another method: add --method ppo."),
    ("train CartPole-v1 --gain-in 3", 2, "It belongs to the network: give --network-gain-in."),
    ("train CartPole-v1 --network-gain-i 3", 2, "Did you mean --network-gain-in?"),
    ("train CartPole-v1 -n 3", 2, "no option -n"),
    ("train CartPole-v1 --resume --overwrite", 2, "not allowed with argument --resume"),
    ("train CartPole-v1 --learning-rate", 2, "--learning-rate: expected one argument"),
    ("evaluate trained.ecp trained.ecp", 2, "no place for trained.ecp"),
    # values
    ("train CartPole-v1 --learning-rate -1", 2, "--learning-rate must be a number in (0, inf); got -1."),
    ("train CartPole-v1 --learning-rate -1e-3", 2, "--learning-rate must be a number in (0, inf); got -0.001."),
    ("train CartPole-v1 --learning-rate fast", 2, "--learning-rate must be a number, or pairs"),
    ("train CartPole-v1 --n-generations 1.5", 2, "--n-generations must be an integer"),
    ("train CartPole-v1 --keep-best maybe", 2, "--keep-best must be True or False"),
    ("train CartPole-v1 --network-dt 0", 2, "--network-dt must be a number in (0, inf)"),
    ("train CartPole-v1 --network-dt 50", 2, "dt must give 1 to 100,000 substeps"),
    ("train CartPole-v1 --network mlp", 2, "--network must be one of ['integer-rsnn', 'rsnn']"),
    ("train CartPole-v1 --method ecc", 2, "--method: invalid choice: 'ecc' (choose from"),
    ("train CartPole-v1 --method es --population-size 7", 2, "--population-size must be even"),
    ("train CartPole-v1 --method es --network gru --network-dt 1", 2, "GRU has no dt; it has --network-n-neurons"),
    ("train CartPole-v1 --method ppo --n-starts 3", 2, "leave out --n-starts"),
    ("train CartPole-v1 --seed x", 2, "--seed must be an integer in [0, "),
    ("train CartPole-v1 --every -1", 2, "--every must be an integer in [0, inf); got -1."),
    ("train CartPole-v1 --score-episodes -1", 2, "--score-episodes must be an integer in [0, inf); got -1."),
    ("train CartPole-v1 --n-jobs 0", 2, "--n-jobs must be None or a number of workers"),
    ("train CartPole-v1 --n-starts two", 2, "--n-starts must be an integer"),
    ("train CartPole-v1 --engine mujoco", 2, 'give --engine="auto" to let Gymnasium play'),
    ("evaluate trained.ecp --episodes 0", 2, "--episodes must be an integer in [1, inf); got 0."),
    ("evaluate trained.ecp --max-steps many", 2, "--max-steps must be an integer in [1, inf); got 'many'."),
    ("record trained.ecp a.gif", 2, 'give a path that ends in ".mp4" or ".npz"'),
    ("view trained.ecp --out a.txt", 2, 'give a path that ends in ".html"'),
    ("plot trained.ecp --kind rastr", 2, "choose from 'learning-curve'"),
    ("plot trained.ecp --y reward", 2, "no number 'reward'; it has generation"),
    ("plot trained.ecp --dpi 0", 2, "--dpi must be an integer in [1, 2400]"),
    ("plot trained.ecp --out a.xyz", 2, "supported formats"),
    ("plot trained.ecp --kind raster --first-step 99", 2, "--first-step must be in [0, "),
    ("plot trained.ecp trained.ecp --kind raster", 2, "raster is drawn of one policy, got 2"),
    ("export trained.ecp a.txt", 2, "say which, --format nir, c, sonata, ecp or verilog"),
    ("export trained.ecp a.h --name 3a", 2, "--name must be a C identifier"),
    ("export trained.ecp verilog/", 2, "train with --network integer-rsnn"),
    ("export trained.ecp trained.ecp", 2, "give another name"),
    # configuration files
    ("train CartPole-v1 --config bad.tom", 2, "no file bad.tom. Did you mean bad.toml?"),
    ("train CartPole-v1 --config bad.toml", 2, "bad.toml is not TOML"),
    ("train CartPole-v1 --config other.toml", 2, "it has 'parameter'. Did you mean parameters?"),
    ("train CartPole-v1 --config unknown.toml", 2, "ec has no parameter learning_rat; it has network, "),
    ("train CartPole-v1 --config unknown.toml", 2, "Did you mean learning_rate?"),
    ("train CartPole-v1 --config value.toml", 2, "value.toml: learning_rate must be a number in (0, inf); got -1."),
    ("train CartPole-v1 --config network.toml", 2, "no setting of the network n_neuron; it has n_neurons, "),
    ("train CartPole-v1 --config verbose.toml", 2, "verbose is for the command line, --every"),
    ("train CartPole-v1 --config old.toml", 2, "dt, gain_in belong in a table [network], not in [parameters]"),
    # environments
    ("train CartPol-v1", 2, "Did you mean: `CartPole`?"),
    ("train CartPole-v9", 2, "It provides versioned environments: [ `v0`, `v1` ]"),
    ("train Nope-v0", 2, "could not make 'Nope-v0'"),
    ("train Nope-v0 --env-setting a=1", 2, "Nope"),
    ("train no_such_module:Cart-v0", 1, "the module 'no_such_module', which cannot be found"),
    ("train no_such_module:Cart-v0 --env-setting a=1", 1, "Install it, or add its folder to PYTHONPATH."),
    ("train CartPole-v1 --env-setting gravity", 2, "--env-setting takes NAME=VALUE"),
    ("train CartPole-v1 --env-setting sutton=1", 2, "no setting sutton; it has render_mode, sutton_barto_reward."),
    ("train Hopper-v5 --env-setting healthy_rewad=1", 2, "Did you mean healthy_reward?"),
    ("train Hopper-v5 --env-setting integrator=euler", 2, "integrator must be one of ['Euler', 'RK4', 'implicit', "),
    ("train Hopper-v5 --env-setting substeps=2", 2, "substeps is for another integrator: --env-setting integrator=Eul"),
    ("train Hopper-v5 --env-setting integrator=Euler --env-setting substeps=0", 2, "substeps must be an integer in "),
    ("train CartPole-v1 --env-setting integrator=Euler", 2, "is for robots of MuJoCo, and CartPoleEnv is none"),
    ("train brax/hopper --env-setting a=1", 2, "not for brax/hopper"),
    (f"train Breaks-v0 {TINY}", 1, "raised ValueError: the sensor is broken at step 0"),
    ("record trained.ecp a.mp4 --env Breaks-v0", 1, "the sensor is broken"),
    ("plot trained.ecp --kind raster --env Breaks-v0", 1, "the sensor is broken"),
    ("train Text-v0", 2, "wanted Box, Discrete"),
    ("evaluate trained.ecp --env Acrobot-v1", 2, "give one with it in the place of Box"),
    ("tuned Hoper-v5", 2, "Did you mean Hopper-v5?"),
    ("pretrained Hoper-v5", 2, "Did you mean Hopper-v5?"),
    # files
    ("evaluate trained.ec", 2, "no file trained.ec. Did you mean trained.ecp? ecpolicy train makes one"),
    ("evaluate pretrained:Hoper-v5", 2, "Did you mean Hopper-v5?"),
    ("info text.ecp", 2, "text.ecp is not a usable ecpolicy model file"),
    ("info .", 2, "Is a directory"),
    ("plot small.ecp", 2, "Take the file that the training saved."),
    ("train CartPole-v1 --out trained.ecp", 2, "go on with it by --resume, or start anew by --overwrite."),
    ("train CartPole-v1 --out .", 2, "it is a folder"),
    ("train CartPole-v1 --out text.ecp/a.ecp", 2, "text.ecp"),
    ("train CartPole-v1 --csv text.ecp/a.csv", 2, "text.ecp"),
    ("export trained.ecp text.ecp/a.nir", 2, "text.ecp"),
    ("record trained.ecp text.ecp/a.mp4", 2, "text.ecp"),
    (f"{GO_ON} --seed 4", 2, "--resume continues a training of --seed=3; --seed is now 4."),
    (f"{GO_ON} --seed 4", 2, "give --overwrite to start anew"),
    (f"{GO_ON} --network-n-neurons 9", 2, "Give --overwrite to start anew."),
    (f"{GO_ON} --method es", 2, "of the class 'EvolvingConnectivityPolicy'; wanted ESPolicy"),
    (f"{GO_ON} --optimizer sgd", 2, "Give --overwrite to start anew."),
    ("train Acrobot-v1 --resume --out trained.ecp", 2, "Give --overwrite to start anew."),
    ("train CartPole-v1 --resume --out small.ecp", 2, "Give --overwrite to start anew."),
]  # fmt: skip


class Breaks(CartPoleEnv):
    """Raises in the first step; its actions are text on demand."""

    def __init__(self, text=False, render_mode=None):
        super().__init__(render_mode=render_mode)
        if text:
            self.action_space = gym.spaces.Text(5)

    def step(self, action):
        raise ValueError("the sensor is broken")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        made = tmp_path_factory.mktemp("wrong")
        patch.chdir(made)
        for name, text in FILES.items():
            (made / name).write_text(text)
        tiny = TINY.split()
        assert main(["train", "CartPole-v1", "--seed", "3", "--out", "trained.ecp", *tiny]) == 0
        assert main(["export", "trained.ecp", "small.ecp"]) == 0
        gym.register("Breaks-v0", Breaks)
        gym.register("Text-v0", Breaks, kwargs={"text": True})
        yield made
        for name in ("Breaks-v0", "Text-v0"):
            gym.registry.pop(name)


def status(command):
    try:
        return main(shlex.split(command))
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize(("command", "wanted", "words"), WRONG)
def test_a_wrong_command_is_one_line_that_says_what_to_do(folder, capsys, command, wanted, words):
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    found = status(command)
    printed = capsys.readouterr()
    said = [line for line in printed.err.splitlines() if " | " not in line]  # nor progress
    assert (found, printed.out, len(said)) == (wanted, "", 1), printed.err
    assert said[0].startswith(f"ecpolicy{'' if words.startswith('no command') else ' ' + command.split()[0]}: error: ")
    assert words in said[0]
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_debug_shows_where_an_error_came_from(folder):
    with pytest.raises(FileNotFoundError, match=r"Did you mean trained.ecp"):
        main(["evaluate", "trained.ec", "--debug"])


def test_the_command_alone_says_what_to_do_first(capsys):
    assert main([]) == 0
    printed = capsys.readouterr()
    assert "begin here:\n  ecpolicy train CartPole-v1 --seed 0 " in printed.out
    assert printed.err == ""


@pytest.mark.parametrize("method", METHODS)
def test_every_option_has_a_sentence_without_python(method, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--method", method, "--help"])
    options = capsys.readouterr().out.partition("parameters of the method")[2].partition("examples:")[0]
    assert ":class:" not in options
    assert "``" not in options
    for name in METHODS[method].estimator.table:
        assert "_" not in name or f" {name} " not in " ".join(options.split())
