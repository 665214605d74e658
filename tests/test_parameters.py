"""The tables of parameters and what they drive; networks as values that searches reach into."""

import inspect
import re
from dataclasses import FrozenInstanceError, dataclass

import pytest
from scipy.stats import uniform
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy
from ecpolicy.networks import GRU, LSTM, NETWORKS, RSNN, RealRSNN, Settings
from learnt import fingerprint
from probes import Linear, Match

ESTIMATORS = [EvolvingConnectivityPolicy, ESPolicy, SurrogateGradientPPOPolicy]
MOST = {EvolvingConnectivityPolicy: 27, ESPolicy: 24, SurrogateGradientPPOPolicy: 28}


@pytest.fixture(params=[*ESTIMATORS, *NETWORKS.values()], ids=lambda kind: kind.__name__)
def kind(request):
    """A class with a table of parameters."""
    return request.param


# Tables


def test_the_table_is_the_signature(kind):
    signature = inspect.signature(kind).parameters
    assert list(kind.table) == list(signature)
    assert {name: p.default for name, p in kind.table.items()} == {name: p.default for name, p in signature.items()}
    assert all(name == parameter.name for name, parameter in kind.table.items())


def test_the_docstring_has_every_parameter_with_its_type_and_default(kind):
    section = kind.__doc__.split("Parameters\n----------\n")[1].split("\n\n")[0]
    entries = re.findall(r"^(\w+) : (.*), default (.*)\n((?: {4}.*\n?)+)", section, flags=re.MULTILINE)
    assert [name for name, *_ in entries] == list(kind.table)
    for name, accepts, default, about in entries:
        parameter = kind.table[name]
        assert (accepts, default.strip('"')) == (str(parameter.accepts), str(parameter.default))
        assert " ".join(about.split()).startswith(parameter.about)


def test_every_entry_is_a_sentence_and_takes_its_default(kind):
    for parameter in kind.table.values():
        parameter.check(parameter.default)
        assert parameter.about.endswith(".")
        assert parameter.sentence


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_constructors_are_short(estimator):
    assert len(estimator.table) <= MOST[estimator]


# Networks as values


def test_a_network_is_a_value():
    network = RSNN(n_neurons=8)
    other = network.set_params(gain_in=0.3)
    assert (network, other) == (RSNN(8), RSNN(8, gain_in=0.3))
    assert repr(other) == "RSNN(n_neurons=8, gain_in=0.3)"
    assert clone(other) == other
    assert hash(clone(other)) == hash(other)
    with pytest.raises(FrozenInstanceError):
        network.gain_in = 1.0
    with pytest.raises(ValueError, match="GRU has no gain_in; it has n_neurons"):
        GRU().set_params(gain_in=0.3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_settings_of_the_network_are_parameters(estimator):
    policy = estimator()
    assert policy.network is None
    assert policy.get_params()["network__gain_in"] == 0.1
    assert "network__gain_in" not in policy.get_params(deep=False)
    policy.set_params(network__gain_in=0.3, network__n_neurons=8)
    assert (policy.network.gain_in, policy.network.n_neurons) == (0.3, 8)
    assert (
        type(policy)(**policy.get_params(deep=False)).get_params() == policy.get_params() == clone(policy).get_params()
    )
    assert policy.set_params(network=RealRSNN(9), network__dt=1.0).network == RealRSNN(9, dt=1.0)


def test_setting_a_parameter_leaves_the_network_of_other_policies_alone():
    shared = RSNN(8)
    policy, other = EvolvingConnectivityPolicy(network=shared), EvolvingConnectivityPolicy(network=shared)
    policy.set_params(network__n_neurons=16)
    assert (policy.network, other.network, shared) == (RSNN(16), RSNN(8), RSNN(8))
    with pytest.raises(ValueError, match="RSNN has no size"):
        policy.set_params(n_generations=1, network__size=3)
    assert (policy.n_generations, policy.network) == (100, RSNN(16))


def test_searches_reach_into_the_network(small):
    made, folds = EvolvingConnectivityPolicy(**{**small, "n_generations": 1}), [([0], [0])]
    grid = GridSearchCV(made, {"network__gain_in": [0.1, 0.5]}, cv=folds).fit([Match])
    assert [tried["network__gain_in"] for tried in grid.cv_results_["params"]] == [0.1, 0.5]
    assert grid.best_estimator_.network == RSNN(32, gain_in=grid.best_params_["network__gain_in"])
    alike = clone(made).set_params(network=grid.best_estimator_.network).fit([Match])
    assert fingerprint(grid.best_estimator_) == fingerprint(alike)
    drawn = RandomizedSearchCV(
        made, {"network__gain_in": uniform(0.1, 0.5), "network__n_neurons": [8]}, n_iter=2, cv=folds, random_state=0
    ).fit([Match])
    assert drawn.best_estimator_.network == RSNN(8, gain_in=drawn.best_params_["network__gain_in"])
    assert made.network == RSNN(32)


@dataclass(frozen=True, repr=False)
class Searched(Linear, Settings):
    """A network of one's own with the base that searches need."""


def test_a_network_of_ones_own_is_searched_where_it_has_the_base():
    policy = ESPolicy(network=Searched())
    policy.set_params(network__bits=True)
    assert policy.network == Searched(bits=True)
    assert policy.get_params()["network__bits"] is True
    with pytest.raises(ValueError, match="Linear has no set_params, so that bits cannot be set: derive it from"):
        ESPolicy(network=Linear()).set_params(network__bits=True)


# The old spelling


@pytest.mark.parametrize(
    ("estimator", "given", "message"),
    [
        (EvolvingConnectivityPolicy, {"n_neurons": 128},
         "n_neurons belongs to the network: give network=RSNN(n_neurons=128)."),
        (EvolvingConnectivityPolicy, {"gain_in": 0.3, "eps": 0.1, "density": 0.2},
         "gain_in, density belong to the network: give network=RSNN(gain_in=0.3, density=0.2)."),
        (EvolvingConnectivityPolicy, {"network": RSNN(8), "dt": 1.0}, "give network=RSNN(dt=1.0)."),
        (ESPolicy, {"n_neurons": 9}, "n_neurons belongs to the network: give network=RealRSNN(n_neurons=9)."),
        (ESPolicy, {"network": "gru", "n_neurons": 9}, "give network=GRU(n_neurons=9)."),
        (ESPolicy, {"network": LSTM(), "n_neurons": 9}, "give network=LSTM(n_neurons=9)."),
        (SurrogateGradientPPOPolicy, {"step_ms": 4}, "give network=RealRSNN(step_ms=4)."),
        (SurrogateGradientPPOPolicy, {"max_grad_norm": 1.0, "ppo_kwargs": {"target_kl": 0.1}},
         "give ppo_kwargs={'target_kl': 0.1, 'max_grad_norm': 1.0}."),
        (ESPolicy, {"fitness_shaping": "centered_ranks"}, "fitness_shaping is no parameter any more"),
    ],
)  # fmt: skip
def test_the_constructor_prints_the_new_spelling(estimator, given, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        estimator(**given)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_set_params_prints_the_new_spelling(estimator):
    message = "n_neurons, gain_in belong to the network: give network__n_neurons=8, network__gain_in=0.3."
    with pytest.raises(ValueError, match=message):
        estimator().set_params(n_neurons=8, gain_in=0.3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        estimator(nonsense=1)


def test_a_parameter_that_there_is_not_is_answered_with_what_could_be_meant():
    with pytest.raises(TypeError, match=r"keyword argument 'popsize'\. Did you mean population_size\?"):
        EvolvingConnectivityPolicy(popsize=64)
    with pytest.raises(ValueError, match=r"Invalid parameter 'lr' for .* Did you mean learning_rate\? Valid"):
        EvolvingConnectivityPolicy().set_params(lr=0.1)


def test_a_subclass_may_have_parameters_of_these_names():
    class Sized(EvolvingConnectivityPolicy):
        def __init__(self, n_neurons=8):
            super().__init__(network=RSNN(n_neurons))
            self.n_neurons = n_neurons

    assert Sized(n_neurons=16).network == RSNN(16)
    assert clone(Sized(n_neurons=16)).set_params(n_neurons=4).get_params(deep=False) == {"n_neurons": 4}


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (EvolvingConnectivityPolicy(network="rsnn"), "such as network=RSNN(); got 'rsnn'"),
        (ESPolicy(network="lstm"), "such as network=LSTM(); got 'lstm'"),
        (EvolvingConnectivityPolicy(network=RealRSNN(8)), "must have 1-bit connections, or train it by ESPolicy"),
        (SurrogateGradientPPOPolicy(network=GRU(8)), "network must be a RealRSNN; got GRU(n_neurons=8)"),
    ],
)
def test_networks_that_do_not_suit_are_named_by_fit(policy, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        policy.fit(Match)
