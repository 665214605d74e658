import numpy as np
import pytest

import ecpolicy
from ecpolicy.cli import main
from ecpolicy.pretrained_policies import FOLDER, pretrained_card, pretrained_ids

SIZE_BESIDE_THE_BITS = 4096
EPISODES = 3


@pytest.mark.parametrize("name", pretrained_ids())
def test_a_policy_earns_what_its_card_says(name):
    policy, card = ecpolicy.pretrained(name), pretrained_card(name)
    returns = policy.episode_returns(name, n_episodes=EPISODES, seed=7)
    spread = 4 * card.return_std / np.sqrt(EPISODES) + 0.01 * abs(card.return_mean)
    assert abs(returns.mean() - card.return_mean) < spread
    assert str(card.seed) in card.command.split()
    assert name in card.command.split()


@pytest.mark.parametrize("name", pretrained_ids())
def test_a_file_is_little_more_than_its_bits(name):
    connections = ecpolicy.pretrained(name).connectivity_
    bits = sum(matrix.size for matrix in connections.values())
    assert (FOLDER / f"{name}.ecp").stat().st_size <= bits / 8 + SIZE_BESIDE_THE_BITS + 3 * 8 * len(connections)


def test_every_file_has_a_card():
    assert {path.stem for path in FOLDER.glob("*.ecp")} == set(pretrained_ids())


def test_an_id_may_leave_out_the_version_and_unknown_ones_are_named():
    assert pretrained_card("CartPole").environment_id == "CartPole-v1"
    with pytest.raises(ValueError, match=r"no pretrained policy for 'Taxi-v3'; there are for .*CartPole-v1"):
        ecpolicy.pretrained("Taxi-v3")


def test_commands_take_it_as_a_file(tmp_path, capsys):
    assert main(["evaluate", "pretrained:CartPole-v1", "--episodes", "2", "--seed", "0"]) == 0
    assert "return mean: 500.00" in capsys.readouterr().out
    for out in ("rates.png", "rates.png"):  # the second time it replaces what is there
        assert main(["plot", "pretrained:CartPole-v1", "--kind", "rates", "--out", str(tmp_path / out)]) == 0
    for out in ("policy.h", "policy.h", "policy.ecp"):
        assert main(["export", "pretrained:CartPole-v1", str(tmp_path / out)]) == 0
    assert main(["info", "pretrained:CartPole-v1"]) == 0
    capsys.readouterr()
    assert main(["info", "pretrained:CartPole-v2"]) == 2
    assert "no pretrained policy for 'CartPole-v2'" in capsys.readouterr().err


def test_cards_are_shown(capsys):
    assert main(["pretrained"]) == 0
    assert "CartPole-v1: 500.0 ± 0.0, 269,451 steps" in capsys.readouterr().out
    assert main(["pretrained", "CartPole"]) == 0
    assert "command: ecpolicy train CartPole-v1 --seed 0" in capsys.readouterr().out
