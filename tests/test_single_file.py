"""The algorithm in one file of NumPy is the library's, bit for bit."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from ecpolicy.distributions import Bernoulli
from ecpolicy.evolution import State, generation
from ecpolicy.fitness_shaping import centered_ranks
from ecpolicy.networks import RSNN
from ecpolicy.networks.layout import unpack
from ecpolicy.normalization import Moments
from ecpolicy.optimizers import adam
from ecpolicy.random import Stream, fold_in, key_from_seed
from ecpolicy.rollout.outcome import Outcome

PATH = Path(__file__).parent.parent / "examples" / "single_file_ec.py"
MEMBERS = 24


@pytest.fixture
def example(monkeypatch):
    spec = importlib.util.spec_from_file_location("single_file_ec", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "STEPS", 60)
    return module


def test_the_file_is_short_and_stands_alone():
    lines = PATH.read_text().splitlines()
    assert len(lines) <= 150
    assert {line.split()[1] for line in lines if line.startswith(("import ", "from "))} == {"sys", "numpy"}


@pytest.mark.parametrize("seed", [0, 7])
def test_generations_are_those_of_the_library(example, monkeypatch, seed):
    network = RSNN(n_neurons=example.NEURONS)
    shapes = network.shapes(example.OBSERVATIONS, example.ACTIONS)
    distribution, optimizer = Bernoulli(shapes, eps=example.EPS), adam(example.LEARNING_RATE)
    inputs = {}

    def library_step(theta, state, x):
        """The library's kernel on the packed connections, in place of the file's network."""
        if not isinstance(state, example_state):
            keys = fold_in(inputs["keys"], Stream.MEMBRANE)
            state = network.initial_state(keys, example.ACTIONS)
        output, rows = np.empty((len(x), example.ACTIONS), np.float32), np.arange(len(x))
        network.step(inputs["connections"], state, x, output, owners=rows, rows=rows)
        return output, state

    example_state = type(network.initial_state(np.zeros((1, 2), np.uint32), example.ACTIONS))

    def evaluate(rho, moments, keys):
        inputs.update(keys=keys, connections=distribution.sample(rho, keys))
        with monkeypatch.context() as patch:
            patch.setattr(example, "network_step", library_step)
            returns = example.play(None, keys)[:, None]
        return Outcome(returns, returns.astype(np.int64), moments, np.full((len(keys), 1, 2), np.nan))

    rho = {name: np.full(shape, 0.5, np.float32) for name, shape in example.SHAPES.items()}
    moments = {name: np.zeros_like(p) for name, p in rho.items()}, {name: np.zeros_like(p) for name, p in rho.items()}
    state = State(0, distribution.init(), optimizer.init(rho), Moments.empty(example.OBSERVATIONS))
    for number in range(3):
        state, outcome = generation(
            state, key=key_from_seed(seed), population_size=MEMBERS, evaluate=evaluate, distribution=distribution,
            fitness_shaping=centered_ranks, optimizer=optimizer,
        )  # fmt: skip
        rho, moments, returns = example.generation(number, rho, moments, seed, MEMBERS)
        np.testing.assert_array_equal(returns, outcome.fitness)
        assert np.ptp(returns) > 0
        for name, p in rho.items():
            np.testing.assert_array_equal(p, state.parameters[name], strict=True)


def test_members_are_drawn_as_the_library_draws_them(example):
    rng = np.random.default_rng(0)
    keys = fold_in(key_from_seed(3), np.arange(5))
    rho = {name: rng.random(shape).astype(np.float32) for name, shape in example.SHAPES.items()}
    rho["input"][0, :3] = 0, 1, 0.5
    shapes = RSNN(n_neurons=example.NEURONS).shapes(example.OBSERVATIONS, example.ACTIONS)
    drawn, packed = example.population(keys, rho), Bernoulli(shapes).sample(rho, keys)
    for name, shape in shapes.items():
        lanes = shape.post if shape.packed_axis == 1 else shape.pre
        wanted = unpack(packed[name], lanes)
        np.testing.assert_array_equal(drawn[name], wanted if shape.packed_axis == 1 else wanted.swapaxes(1, 2))


def test_it_learns(example, capsys):
    example.main(6, 48)
    lines = capsys.readouterr().out.splitlines()
    returns = [float(line.split("return")[1].split()[0]) for line in lines]
    assert len(returns) == 6
    assert returns[-1] > 1.5 * returns[0]
