"""Ids of environments are read as ``gymnasium.make`` reads them."""

import gymnasium as gym
import pytest

from ecpolicy import pretrained, tuned
from ecpolicy.ids import registered_id, registered_spec, without_module

KNOWN = ["CartPole-v1", "CartPole", "gymnasium:CartPole-v1", "gymnasium.envs.mujoco:Hopper"]


@pytest.mark.filterwarnings("ignore:.*Using the latest versioned environment")
@pytest.mark.parametrize("name", KNOWN)
def test_the_spec_is_that_of_make(name):
    made = gym.make(name)
    assert registered_spec(name).id == registered_id(name) == made.spec.id
    made.close()


@pytest.mark.parametrize("function", [registered_spec, registered_id, tuned, pretrained])
@pytest.mark.parametrize("given", [None, 5, gym.spec("Hopper-v5")], ids=["None", "int", "spec"])
def test_what_is_no_id_is_named(function, given):
    with pytest.raises(TypeError, match="An environment's id must be a string"):
        function(given)


@pytest.mark.parametrize("name", ["Nope-v0", "Nope", "CartPole-v99", "nothing/Nope-v0", "gymnasium:Nope-v0", "a b", ""])
def test_what_is_not_registered_is_an_error_of_gymnasium(name):
    with pytest.raises(gym.error.Error):
        registered_spec(name)
    assert registered_id(name) == without_module(name)


@pytest.mark.parametrize("name", ["no_such_module:CartPole-v1", "gymnasium.no_such_module:CartPole-v1"])
def test_a_module_that_is_missing_is_named(name):
    with pytest.raises(ModuleNotFoundError, match=rf"'{name}' names the module .*cannot be found.*PYTHONPATH"):
        registered_spec(name)


def test_what_a_module_misses_is_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "module_that_misses_something.py").write_text("import no_such_module_either\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'no_such_module_either'$"):
        registered_spec("module_that_misses_something:CartPole-v1")


@pytest.mark.parametrize(
    ("name", "rest"), [("a.b:ns/X-v0", "ns/X-v0"), ("ns/X-v0", "ns/X-v0"), ("a:b:X-v0", "b:X-v0"), (":X", ":X")]
)
def test_the_module_ends_at_the_first_colon(name, rest):
    assert without_module(name) == rest
