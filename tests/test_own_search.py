"""Optimizers and search distributions of one's own: what they keep is used by a fit, saved, loaded and gone on from."""

from dataclasses import dataclass
from typing import NamedTuple

import gymnasium as gym
import jax
import numpy as np
import pytest
import update_rules

import ecpolicy
from ecpolicy import ESPolicy, EvolvingConnectivityPolicy, ModelFileError
from ecpolicy.distributions import Gaussian, Limits
from ecpolicy.distributions.gaussian import WeightSampler
from ecpolicy.files import archive
from ecpolicy.fitness_shaping import FITNESS_SHAPINGS, Utility
from ecpolicy.networks import GRU, RealRSNN
from ecpolicy.optimizers import OPTIMIZERS, Optimizer, sgd
from golden_fits import fingerprints
from learnt import learnt, records
from probes import DeviceMatch, Match


class Region(NamedTuple):
    """The width of a trust region, and how often it was wide enough."""

    width: np.float32
    counts: tuple[int, int]
    within: np.ndarray

    def is_sound(self):
        return self.width > 0


def trust(learning_rate):
    """Momentum, no longer than a width that grows where the step is within it."""

    def init(theta):
        return {
            "momentum": {name: np.zeros_like(p) for name, p in theta.items()},
            "region": Region(np.float32(learning_rate), (0, 0), np.zeros((), bool)),
        }

    def update(gradient, state, theta):
        region = state["region"]
        momentum = {name: np.float32(0.9) * m + gradient[name] for name, m in state["momentum"].items()}
        length = np.sqrt(sum(float(np.sum(np.square(m, dtype=np.float64))) for m in momentum.values()))
        within = length * learning_rate < region.width
        scale = np.float32(learning_rate if within else region.width / length)
        grown = np.float32(region.width * np.float32(1.25 if within else 0.9))
        after = Region(grown, (region.counts[0] + 1, region.counts[1] + int(within)), np.array(within))
        return {name: scale * m for name, m in momentum.items()}, {"momentum": momentum, "region": after}

    return Optimizer(init, update)


@pytest.fixture
def registered(monkeypatch):
    """The rules of this file and of the benchmark of update rules, made known as users make theirs known."""
    rules = {"trust": trust, **update_rules.RULES}
    for name, rule in rules.items():
        monkeypatch.setitem(OPTIMIZERS, name, rule)


SETTINGS = {"trust": 0.5, "momentum": 3.0, "trust_region": 5.0, "signal_trust_region": 5.0, "flips": 0.02,
            "falling_step": 0.3, "adam": 0.3, "sgd": 30.0}  # fmt: skip


def settings(small, name, n_generations):
    return {**small, "optimizer": name, "learning_rate": SETTINGS[name], "n_generations": n_generations}


def equal(one, other):
    return one.keys() == other.keys() and all(
        type(part) is type(other[name]) and np.array_equal(part, other[name]) for name, part in one.items()
    )


def resumed_from_file(whole, half, path):
    """Both policies end with the same state, one of them by way of a file."""
    half.fit(Match).save(path)
    loaded = type(half).load(path)
    assert equal(learnt(loaded), learnt(half))
    loaded.save(path.with_name("again.ecp"))
    assert path.with_name("again.ecp").read_bytes() == path.read_bytes()
    resumed = loaded.set_params(warm_start=True, n_generations=whole.n_generations).fit(Match)
    whole.fit(Match)
    assert equal(learnt(resumed), learnt(whole))
    assert any(name.startswith("search/optimizer/") for name in learnt(whole))
    assert records(resumed) == records(whole)
    return resumed


@pytest.mark.parametrize("name", list(SETTINGS))
def test_an_optimizer_goes_on_from_its_file_bit_for_bit(registered, small, tmp_path, name):
    whole, half = (EvolvingConnectivityPolicy(**settings(small, name, n)) for n in (6, 3))
    resumed = resumed_from_file(whole, half, tmp_path / "p.ecp")
    assert ecpolicy.load(tmp_path / "p.ecp").optimizer == name
    if name == "trust":
        assert learnt(resumed)["search/optimizer/region/counts/0"] == 6


def winner(fitness):
    """The best member alone counts."""
    weights = np.full(fitness.size, -1, np.int32)
    weights[np.argmax(fitness)] = fitness.size - 1
    return Utility(weights, float(fitness.size))


@pytest.mark.parametrize("name", ["log_ranks", "winner"])
def test_a_fitness_shaping_goes_on_from_its_file_bit_for_bit(monkeypatch, small, tmp_path, name):
    monkeypatch.setitem(FITNESS_SHAPINGS, "winner", winner)
    whole, half = (EvolvingConnectivityPolicy(**{**small, "fitness_shaping": name, "n_generations": n}) for n in (6, 3))
    resumed = resumed_from_file(whole, half, tmp_path / "p.ecp")
    assert ecpolicy.load(tmp_path / "p.ecp").fitness_shaping == name
    ranks = EvolvingConnectivityPolicy(**{**small, "n_generations": 6}).fit(Match)
    assert not equal(learnt(resumed), learnt(ranks))


def test_a_file_of_a_fitness_shaping_that_there_is_not_is_refused(monkeypatch, small, tmp_path):
    monkeypatch.setitem(FITNESS_SHAPINGS, "winner", winner)
    EvolvingConnectivityPolicy(**{**small, "fitness_shaping": "winner"}).fit(Match).save(tmp_path / "p.ecp")
    monkeypatch.delitem(FITNESS_SHAPINGS, "winner")
    with pytest.raises(ModelFileError, match="fitness_shaping must be one of"):
        ecpolicy.load(tmp_path / "p.ecp")


def damaged(path, change):
    document, arrays = archive.read(path)
    held = {name: part for name, part in document.items() if name not in ("format", "version", "arrays")}
    change(held["training"]["search"]["optimizer"], arrays)
    archive.write(path, held, arrays)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state, arrays: state["region"].update(width=-1.0), "search/optimizer/region has parts that do not go"),
        (lambda state, arrays: state["region"].update(width=1e39), "its search/optimizer/region/width is 1e\\+39"),
        (lambda state, arrays: state["region"].update(width="1"), "its search/optimizer/region/width is '1'"),
        (lambda state, arrays: state["region"]["counts"].update({"0": -1}), "region/counts/0 is -1"),
        (lambda state, arrays: state["region"]["counts"].update({"0": True}), "region/counts/0 is True"),
        (lambda state, arrays: state["region"]["counts"].pop("1"), "region/counts/1 is missing"),
        (lambda state, arrays: state.update(more=1), "search/optimizer has the unknown entries \\['more'\\]"),
        (lambda state, arrays: arrays.pop("search/optimizer/momentum/input"), "momentum/input' is missing; wanted <f4"),
        (lambda state, arrays: arrays["search/optimizer/momentum/input"].fill(np.inf), "has values outside"),
        (lambda state, arrays: arrays.update({"search/optimizer/region/within": np.zeros(1, bool)}), "wanted |b1 ()"),
    ],
)
def test_a_state_that_is_not_the_optimizers_is_named(registered, small, tmp_path, change, message):
    EvolvingConnectivityPolicy(**settings(small, "trust", 1)).fit(Match).save(tmp_path / "p.ecp")
    damaged(tmp_path / "p.ecp", change)
    with pytest.raises(ModelFileError, match=message):
        ecpolicy.load(tmp_path / "p.ecp")


def test_a_file_needs_the_optimizer_that_it_was_trained_with(small, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setitem(OPTIMIZERS, "trust", trust)
        EvolvingConnectivityPolicy(**settings(small, "trust", 1)).fit(Match).save(tmp_path / "p.ecp")
    with pytest.raises(ModelFileError, match="optimizer must be one of"):
        ecpolicy.load(tmp_path / "p.ecp")


def kept(name, start, after):
    """A rule that is plain ascent, and keeps one thing in its state at the start and another one afterwards."""

    def rule(learning_rate):
        plain = sgd(learning_rate)

        def update(gradient, state, theta):
            return plain.update(gradient, plain.init(theta), theta)[0], {name: after}

        return Optimizer(lambda theta: {name: start}, update)

    return rule


@pytest.mark.parametrize(
    ("start", "after", "message"),
    [
        (0.0, np.float64(1), "search/optimizer/mine is a float64, where there was a float at the start"),
        (np.zeros(2), np.zeros(3), "'search/optimizer/mine' is float64 \\(3,\\); wanted <f8 \\(2,\\)"),
        (np.zeros(2, np.float32), np.zeros(2), "is float64 \\(2,\\); wanted <f4"),
        ({}, {"a": 1.0}, "search/optimizer/mine is {'a': 1.0}; wanted \\[\\]"),
        ("a", "a", "mine may hold arrays, numbers, dicts and tuples; got 'a'"),
        (np.array("a"), np.array("a"), "cannot have the dtype <U1"),
        (0, -1, "its search/optimizer/mine is -1"),
    ],
    ids=str,
)
def test_what_a_file_cannot_keep_of_a_state_is_named(small, tmp_path, monkeypatch, start, after, message):
    monkeypatch.setitem(OPTIMIZERS, "mine", kept("mine", start, after))
    policy = EvolvingConnectivityPolicy(**{**small, "optimizer": "mine", "n_generations": 1}).fit(Match)
    with pytest.raises((TypeError, ValueError), match=message):
        policy.save(tmp_path / "p.ecp")
    policy.save(tmp_path / "p.ecp", training_state=False)
    assert list(tmp_path.iterdir()) == [tmp_path / "p.ecp"]


# A distribution


class Widths(Gaussian):
    """Normal weights whose standard deviations, one for each matrix, are searched for as well."""

    @property
    def limits(self):
        return super().limits | {f"{name}_log_sigma": Limits((1, 1), -10.0, 2.0) for name in self.shapes}

    def init(self, key):
        start = np.full((1, 1), np.log(self.sigma), np.float32)
        return super().init(key) | {f"{name}_log_sigma": start for name in self.shapes}

    def project(self, parameters):
        clipped = {name: np.clip(parameters[name], low, high) for name, (_, low, high) in self.limits.items()}
        return {name: part.astype(np.float32) for name, part in clipped.items()}

    def each(self, parameters):
        """A Gaussian of one matrix and its parameters, by name."""
        for name in self.shapes:
            sigma = float(np.exp(parameters[f"{name}_log_sigma"][0, 0]))
            yield name, Gaussian(self.shapes, sigma, self.initial_scales), {name: parameters[name]}

    def sampler(self, parameters):
        return WidthsSampler(self, parameters)

    def sample(self, parameters, keys):
        return {name: one.sample(mean, keys)[name] for name, one, mean in self.each(parameters)}

    def sample_independent(self, parameters, keys):
        return {name: one.sample_independent(mean, keys)[name] for name, one, mean in self.each(parameters)}

    def mode(self, parameters):
        return super().mode({name: parameters[name] for name in self.shapes})

    def gradient(self, parameters, keys, utility):
        found = {}
        for name, one, mean in self.each(parameters):
            z = (one.sample(mean, keys)[name] - mean[name]).astype(np.float64) / one.sigma
            weights = utility.weights / (len(keys) * utility.scale)
            found |= one.gradient(mean, keys, utility)
            found[f"{name}_log_sigma"] = np.float32(weights @ (z**2 - 1).mean(axis=(1, 2))).reshape(1, 1)
        return found


@dataclass(frozen=True)
class WidthsSampler(WeightSampler):
    """On a device, too, every matrix has a standard deviation of its own."""

    def for_device(self):
        each = self.distribution.each(self.parameters)
        return {name: (mean[name], np.float32(one.noise_unit)) for name, one, mean in each}


class WidthsPolicy(ESPolicy):
    """ESPolicy with this distribution."""

    def _search(self, network, *sizes, **further):
        plain = super()._search(network, *sizes, **further)
        return Widths(plain.shapes, plain.sigma, plain.initial_scales, plain.weighted_noise)


def test_a_distribution_goes_on_from_its_file_bit_for_bit(small, tmp_path):
    shared = {name: value for name, value in small.items() if name not in ("network", "learning_rate")}
    whole, half = (WidthsPolicy(**{**shared, "network": GRU(8), "n_generations": n}) for n in (6, 3))
    resumed = resumed_from_file(whole, half, tmp_path / "p.ecp")
    widths = learnt(resumed)["search/parameters/recurrent_log_sigma"]
    assert widths.shape == (1, 1)
    assert widths != np.float32(np.log(0.02))
    assert fingerprints(resumed)["sampled actions"] == fingerprints(whole)["sampled actions"]
    resumed.save(tmp_path / "p.ecp", training_state=False)
    alone = WidthsPolicy.load(tmp_path / "p.ecp")
    np.testing.assert_array_equal(alone.episode_returns(Match), resumed.episode_returns(Match))


def test_the_limits_of_a_distribution_are_those_of_its_file(small, tmp_path):
    shared = {name: value for name, value in small.items() if name not in ("network", "learning_rate")}
    WidthsPolicy(**{**shared, "network": GRU(8), "n_generations": 1}).fit(Match).save(tmp_path / "p.ecp")
    damaged(tmp_path / "p.ecp", lambda state, arrays: arrays["search/parameters/recurrent_log_sigma"].fill(3))
    with pytest.raises(ModelFileError, match=r"recurrent_log_sigma' has values outside \[-10.0, 2.0\]"):
        WidthsPolicy.load(tmp_path / "p.ecp")


class MatchOfDevice(gym.Env):
    """The episodes of DeviceMatch, stepped on the host."""

    observation_space, action_space = gym.spaces.Box(-np.inf, np.inf, (2,)), gym.spaces.Box(-1, 1, (1,))

    def __init__(self):
        environment = DeviceMatch(random_length=True)
        self.begin, self.advance = jax.jit(environment.reset), jax.jit(environment.step)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.begin(jax.random.PRNGKey(seed))
        return np.asarray(self.state.obs), {}

    def step(self, action):
        self.state = self.advance(self.state, action)
        return np.asarray(self.state.obs), float(self.state.reward), bool(self.state.done), False, {}


@pytest.mark.parametrize("network", [GRU(8), RealRSNN(16)], ids=lambda network: type(network).__name__)
def test_a_distribution_is_drawn_from_on_a_device(small, network):
    """Where a device draws the networks that the host draws, both learn the same from the same episodes."""
    settings = {name: value for name, value in small.items() if name != "learning_rate"}
    settings |= {"network": network, "sigma": 0.5, "normalize_observations": False}
    device, host = (WidthsPolicy(**settings).fit(made) for made in (DeviceMatch(random_length=True), MatchOfDevice()))
    assert records(device) == records(host)
    assert len({record["return_mean"] for record in records(host)}) > 1
    assert fingerprints(device)["search"] == fingerprints(host)["search"]
