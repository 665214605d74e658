"""What could be meant by a name that there is not."""

import pytest

from ecpolicy.constraints import meant
from ecpolicy.networks import GRU, RSNN, IntegerRSNN

OPTIONS = [
    "--optimizer", "--population-size", "--episodes-per-member", "--max-env-steps", "--max-episode-steps", "--eps",
    "--learning-rate", "--n-generations", "--network-n-neurons", "--network-gain-in", "--n-jobs", "--eval-episodes",
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("--popsize", "--population-size"),
        ("--pop-size", "--population-size"),
        ("--pop", "--population-size"),
        ("--populationsiz", "--population-size"),
        ("--Population_Size", "--population-size"),
        ("--ngen", "--n-generations"),
        ("--generations", "--n-generations"),
        ("--lr", "--learning-rate"),
        ("--l-rate", "--learning-rate"),
        ("--learning-raet", "--learning-rate"),
        ("--steps", "--max-env-steps"),
        ("--episode-steps", "--max-episode-steps"),
        ("--opt", "--optimizer"),
        ("--neurons", "--network-n-neurons"),
        ("--jobs", "--n-jobs"),
        ("--epps", "--eps"),
    ],
)
def test_what_was_mistyped_or_abbreviated_is_found(given, found):
    assert meant(given, OPTIONS) == f" Did you mean {found}?"


@pytest.mark.parametrize("given", ["--xyz", "--zebra", "--7", "--sizepop"])
def test_nothing_is_said_of_what_is_like_nothing(given):
    assert meant(given, OPTIONS) == ""


def test_a_typing_error_counts_before_an_abbreviation():
    assert meant("train", ["pretrained", "trains", "t-rain"]) == " Did you mean t-rain?"
    assert meant("Hoper-v5", ["Hopper-v4", "Hopper-v5"]) == " Did you mean Hopper-v5?"
    assert meant("a", []) == ""


@pytest.mark.parametrize(
    ("network", "settings", "said"),
    [
        (IntegerRSNN, {"t_ref": 2.0}, "IntegerRSNN has no setting 't_ref'; it has n_neurons, excitatory_ratio,"),
        (RSNN, {"n_neuron": 3}, "RSNN has no setting 'n_neuron'; it has .* Did you mean n_neurons?"),
        (GRU, {"units": 3}, "GRU has no setting 'units'; it has n_neurons."),
    ],
)
def test_networks_say_which_settings_they_have(network, settings, said):
    with pytest.raises(TypeError, match=said):
        network(**settings)
