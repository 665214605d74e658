"""The search: gradients against enumeration and closed forms, optimizers and moments against other libraries."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecpolicy.distributions import Bernoulli
from ecpolicy.evolution import State, generation
from ecpolicy.fitness_shaping import FITNESS_SHAPINGS, Utility, centered_ranks, log_ranks
from ecpolicy.networks import Shape
from ecpolicy.networks.layout import unpack
from ecpolicy.normalization import Moments, Standardizer
from ecpolicy.optimizers import OPTIMIZERS, adam, sgd
from ecpolicy.random import fold_in, key_from_seed
from ecpolicy.rollout.outcome import Outcome
from probes import SEED

SHAPES = {"a": Shape(2, 3, packed_axis=1), "b": Shape(4, 1, packed_axis=0)}  # ten connections, both packings


def flatten(theta):
    """Connections or gradients by name as vectors over the last axis."""
    return np.concatenate([np.asarray(part).reshape(*np.shape(part)[:-2], -1) for part in theta.values()], axis=-1)


def dense(packed):
    """Sampled connections as booleans (members, pre, post)."""
    a = unpack(packed["a"], 3)
    b = unpack(packed["b"], 4).swapaxes(1, 2)
    return {"a": a, "b": b}


def ten_connections():
    generator = np.random.default_rng(SEED)
    rho = {name: generator.uniform(0.05, 0.95, shape[:2]).astype(np.float32) for name, shape in SHAPES.items()}
    reward = generator.integers(-50, 50, 2**10)  # of every network: any function at all
    return rho, reward


def reward_of(theta, reward):
    return reward[flatten(theta) @ (2 ** np.arange(10))]


def exact_gradient(rho, reward):
    """rho (1 - rho) dJ/drho, with J = sum over all 2**10 networks of P(theta) R(theta): the natural gradient."""
    p = flatten(rho).astype(np.float64)
    networks = np.array(list(itertools.product([0, 1], repeat=10)))
    probability = np.prod(np.where(networks, p, 1 - p), axis=1)
    value = probability * reward[networks @ (2 ** np.arange(10))]
    return value @ (networks - p)


def test_gradient_is_the_derivative_of_the_expected_return():
    rho, reward = ten_connections()
    p = flatten(rho).astype(np.float64)
    networks = np.array(list(itertools.product([0, 1], repeat=10)))

    def objective(p):
        return np.prod(np.where(networks, p, 1 - p), axis=1) @ reward[networks @ (2 ** np.arange(10))]

    step = 1e-6 * np.eye(10)
    numerical = np.array([(objective(p + h) - objective(p - h)) / 2e-6 for h in step])
    np.testing.assert_allclose(exact_gradient(rho, reward), p * (1 - p) * numerical, rtol=1e-6)


def test_gradient_estimate_is_unbiased():
    """Mean of 400 independent estimates against full enumeration, in units of their standard error."""
    rho, reward = ten_connections()
    distribution = Bernoulli(SHAPES)
    exact = exact_gradient(rho, reward)
    estimates = []
    for run in range(400):
        keys = fold_in(fold_in(key_from_seed(SEED + 1), run), np.arange(100))
        returns = reward_of(dense(distribution.sample(rho, keys)), reward)
        estimates.append(flatten(distribution.gradient(rho, keys, Utility(returns.astype(np.int32), 1.0))))
    error = np.std(estimates, axis=0) / np.sqrt(len(estimates))
    z = (np.mean(estimates, axis=0) - exact) / error
    assert np.all(np.abs(z) < 4), z
    assert np.any(np.abs(exact) > 20 * error)  # the test could tell a wrong sign or scale


def test_gradient_is_the_plain_sum_over_the_population():
    rho, reward = ten_connections()
    distribution = Bernoulli(SHAPES)
    keys = fold_in(key_from_seed(SEED), np.arange(150))
    theta = dense(distribution.sample(rho, keys))
    utility = centered_ranks(reward_of(theta, reward).astype(float))
    expected = np.mean((utility.weights / utility.scale)[:, None] * (flatten(theta) - flatten(rho)), axis=0)
    np.testing.assert_allclose(flatten(distribution.gradient(rho, keys, utility)), expected, atol=1e-8)


def test_integer_sums_are_equal_in_any_order():
    rho, reward = ten_connections()
    distribution = Bernoulli(SHAPES)
    keys = fold_in(key_from_seed(SEED), np.arange(200))
    utility = centered_ranks(reward_of(dense(distribution.sample(rho, keys)), reward).astype(float))
    expected = distribution.gradient(rho, keys, utility)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(200)
        shuffled = distribution.gradient(rho, keys[order], utility._replace(weights=utility.weights[order]))
        assert all(np.array_equal(shuffled[name], expected[name]) for name in SHAPES)


def test_gradient_refuses_weights_that_could_overflow():
    with pytest.raises(OverflowError, match="2\\*\\*25"):
        Bernoulli(SHAPES).gradient(
            ten_connections()[0],
            fold_in(key_from_seed(SEED), np.arange(2)),
            Utility(np.array([2**30, 0], np.int32), 1.0),
        )


def test_matrices_and_members_are_independent():
    distribution = Bernoulli({"a": Shape(8, 8, 1), "b": Shape(8, 8, 1)})
    drawn = distribution.sample(distribution.init(), fold_in(key_from_seed(SEED), np.arange(500)))
    bits = np.concatenate([unpack(part, 8).reshape(500, -1) for part in drawn.values()], axis=1).astype(float)
    correlation = np.corrcoef(bits.T)[~np.eye(128, dtype=bool)]
    assert np.abs(correlation).max() < 5.5 / np.sqrt(500)


def test_mode_and_projection():
    distribution = Bernoulli(SHAPES, eps=0.1)
    rho = {"a": np.array([[0.5, 0.6, 0.0], [1.0, 0.4, 0.51]], np.float32), "b": np.full((4, 1), 0.7, np.float32)}
    mode = dense(distribution.mode(rho))
    np.testing.assert_array_equal(mode["a"][0], [[0, 1, 0], [1, 0, 1]])
    assert mode["b"].all()
    projected = distribution.project(rho)
    np.testing.assert_array_equal(projected["a"], np.float32([[0.5, 0.6, 0.1], [0.9, 0.4, 0.51]]))


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60))
def test_centered_ranks(fitness):
    fitness = np.array(fitness)
    weights, scale = centered_ranks(fitness)
    utility = weights / scale
    assert weights.dtype == np.int32
    assert weights.sum() == 0
    assert np.all(np.abs(utility) <= 0.5)
    above = np.array([np.sum(fitness < f) for f in fitness])
    equal = np.array([np.sum(fitness == f) for f in fitness])
    np.testing.assert_allclose(utility, (above + (equal - 1) / 2) / (fitness.size - 1) - 0.5, atol=1e-12)


def test_centered_ranks_of_a_known_generation():
    weights, scale = centered_ranks(np.array([3.0, 1.0, 2.0, 2.0, 9.0]))
    np.testing.assert_allclose(weights / scale, [0.25, -0.5, -0.125, -0.125, 0.5])


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60))
def test_log_ranks(fitness):
    fitness = np.array(fitness)
    weights, scale = log_ranks(fitness)
    n, quarter = fitness.size, max(fitness.size // 4, 1)
    place = {i: k for k, i in enumerate(sorted(range(n), key=lambda i: -fitness[i]))}  # from the best one, 0
    alone = np.array([max(0.0, np.log(quarter + 0.5) - np.log(place[i] + 1)) for i in range(n)])
    shared = np.array([alone[fitness == f].mean() for f in fitness])
    wanted = (shared - shared.mean()) / (np.sqrt(12) * alone.std())
    assert weights.dtype == np.int32
    assert weights.sum() == 0
    np.testing.assert_allclose(weights / scale, wanted, atol=(n + 1) / scale)


def test_log_ranks_are_cma_es_s_weights_of_the_best_quarter():
    weights, scale = log_ranks(np.arange(256.0))
    assert (weights / scale).std() == pytest.approx(1 / np.sqrt(12), rel=1e-3)
    best = weights[192:] - weights[1]
    np.testing.assert_allclose(best[[-2, 0]] / best[-1], np.log(64.5 / np.array([2, 64])) / np.log(64.5), atol=1e-4)
    assert (np.diff(weights[192:]) > 0).all()
    assert np.ptp(weights[1:192]) == 0


@pytest.mark.parametrize("shaping", FITNESS_SHAPINGS.values())
@pytest.mark.parametrize("size", [2, 3, 5, 256])
def test_equal_returns_tell_nothing(shaping, size):
    assert not shaping(np.full(size, 7.0)).weights.any()


def test_adam_equals_torch():
    generator = np.random.default_rng(SEED)
    theta = {"a": generator.normal(size=(3, 4)).astype(np.float32)}
    parameter = torch.nn.Parameter(torch.tensor(theta["a"]))
    theirs = torch.optim.Adam([parameter], lr=0.15, maximize=True)
    ours = adam(0.15)
    state = ours.init(theta)
    for _ in range(50):
        gradient = {"a": generator.normal(size=(3, 4)).astype(np.float32)}
        step, state = ours.update(gradient, state, theta)
        theta = {"a": theta["a"] + step["a"]}
        parameter.grad = torch.tensor(gradient["a"])
        theirs.step()
    np.testing.assert_allclose(theta["a"], parameter.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_sgd_is_equation_14():
    """rho + eta/N sum_i R_i (theta_i - rho), clipped."""
    rho, reward = ten_connections()
    distribution = Bernoulli(SHAPES)
    key = key_from_seed(SEED + 4)

    def evaluate(rho, moments, keys):
        returns = reward_of(dense(distribution.sample(rho, keys)), reward).astype(float)[:, None]
        lengths = np.ones_like(returns, dtype=np.int64)
        return Outcome(returns, lengths, Moments.empty(1), np.full((*returns.shape, 2), np.nan))

    def raw_returns(fitness):
        return Utility(fitness.astype(np.int32), 1.0)

    optimizer = sgd(0.01)
    before = State(3, rho, optimizer.init(rho), Moments.empty(1))
    after, outcome = generation(
        before, key=key, population_size=64, evaluate=evaluate, distribution=distribution,
        fitness_shaping=raw_returns, optimizer=optimizer,
    )  # fmt: skip
    theta = dense(distribution.sample(rho, fold_in(fold_in(key, 3), np.arange(64))))
    p = flatten(rho)
    expected = p + 0.01 / 64 * (outcome.fitness @ (flatten(theta) - p))
    np.testing.assert_allclose(flatten(after.parameters), np.clip(expected, 1e-3, 1 - 1e-3), atol=1e-6)
    assert after.generation == 4


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_generations_find_a_known_optimum(name, seed):
    """OneMax with a twist: the return counts the connections that equal a hidden pattern; its best is 48."""
    shapes = {"a": Shape(6, 8, 1)}
    distribution = Bernoulli(shapes)
    pattern = np.random.default_rng(seed).random((6, 8)) < 0.5

    def evaluate(rho, moments, keys):
        theta = unpack(distribution.sample(rho, keys)["a"], 8)
        returns = np.sum(theta == pattern, axis=(1, 2)).astype(float)[:, None]
        lengths = np.ones_like(returns, dtype=np.int64)
        return Outcome(returns, lengths, Moments.empty(1), np.full((*returns.shape, 2), np.nan))

    optimizer = OPTIMIZERS[name]({"adam": 0.05, "sgd": 2.0}[name])
    state = State(0, distribution.init(), optimizer.init(distribution.init()), Moments.empty(1))
    for _ in range(60):
        state, _ = generation(
            state, key=key_from_seed(seed), population_size=128, evaluate=evaluate, distribution=distribution,
            fitness_shaping=centered_ranks, optimizer=optimizer,
        )  # fmt: skip
    np.testing.assert_array_equal(state.parameters["a"] > 0.5, pattern)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 1000))
def test_moments_merge_to_those_of_the_whole(sizes, seed):
    generator = np.random.default_rng(seed)
    parts = [generator.normal(5, 3, (size, 2)) for size in sizes]
    moments = Moments.empty(2)
    for part in parts:
        deviation = part - moments.mean
        chunk = Moments.from_sums(len(part), moments.mean, deviation.sum(0), (deviation**2).sum(0))
        moments = moments.merge(chunk)
    whole = np.concatenate(parts)
    assert moments.n == len(whole)
    np.testing.assert_allclose(moments.mean, whole.mean(0))
    np.testing.assert_allclose(moments.squares / moments.n, whole.var(0), atol=1e-9)


def test_standardizer():
    moments = Moments(100, np.array([1.0, 2.0]), np.array([400.0, 0.0]))
    standard = Standardizer.of(moments, enabled=True, clip=5)
    np.testing.assert_allclose(standard.mean, [1, 2])
    np.testing.assert_allclose(standard.inverse_std, [0.5, 1e6])
    off = Standardizer.of(moments, enabled=False, clip=5)
    np.testing.assert_array_equal(off.inverse_std, [1, 1])
    np.testing.assert_array_equal(off.mean, [0, 0])
