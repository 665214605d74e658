"""What the studies in benchmarks/ compute: statistics with known answers, and the rules that were tried."""

import argparse
import tomllib

import linear_ars
import numpy as np
import priors
import pytest
import reproduce
import signal_share
import tables
import update_rules
from reproduce_figures import COLORS, CURVES, GOALS, interquartile_mean, interval, pooled_share, print_finals, reaches

from ecpolicy.distributions import Bernoulli, Gaussian
from ecpolicy.fitness_shaping import centered_ranks, log_ranks
from ecpolicy.networks import Shape
from ecpolicy.random import fold_in, key_from_seed
from ecpolicy.rollout.episodes import Table

SHAPES = {"input": Shape(8, 20, 1), "output": Shape(20, 6, 0)}


def test_interquartile_mean():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(8, 5))
    np.testing.assert_allclose(interquartile_mean(values), np.sort(values, axis=0)[2:6].mean(axis=0))
    assert interquartile_mean(np.array([9.0, 0.0, 3.0])) == pytest.approx((0 + 4 * 3 + 9) / 6)
    middle, low, high = interval([np.full(3, 2.0), np.full(5, 2.0)])
    assert (middle, low, high) == pytest.approx((2, 2, 2))
    middle, low, high = interval([generator.normal(7, 1, 400)])
    assert low < 7 < high
    assert high - low < 0.5


def test_rows_that_are_there_are_not_made_again(tmp_path):
    keys, asked = [("b", "x", 1), ("a", "x", 0)], []

    def make(*key):
        asked.append(key)
        return dict(zip(("env", "settings", "seed"), key, strict=True))

    assert len(list(tables.completed(tmp_path / "rows.csv", keys[:1], make))) == 1
    assert list(tables.completed(tmp_path / "rows.csv", keys, make)) == [{"env": "a", "settings": "x", "seed": 0}]
    assert asked == keys
    assert [row["env"] for row in tables.read(tmp_path / "rows.csv")] == ["a", "b"]


def test_steps_to_a_goal():
    run = {"curve": [{"n_env_steps": 10, "return_mean": 1.0}, {"n_env_steps": 20, "return_mean": 3.0}]}
    assert (reaches(run, 1.0), reaches(run, 2.0), reaches(run, 4.0)) == (10, 20, np.inf)


def test_table_of_what_is_earned_in_the_end(capsys):
    ends = [
        {"return_mean": earned, "x_velocity": earned / 1000, "n_env_steps": 2000} for earned in (4000.0, 1000.0, 2000.0)
    ]
    print_finals({("Hopper-v5", "EC"): ends})
    row = capsys.readouterr().out.splitlines()[-1]
    # Three values weigh 1 : 4 : 1 from the smallest up.
    assert row == "| Hopper-v5 | EC | 2,167 [1,000, 4,000] | 4,000, 1,000, 2,000 | 2.17 | 2,000 |"


def test_steps_to_a_score_over_all_tasks():
    def run(task, at):  # a score that jumps from 0 to 1 after so many of 100 steps
        points = [{"n_env_steps": n, "return_mean": GOALS[task] * (n >= at)} for n in range(1, 101)]
        return {"curve": points}

    jumps = {"Hopper-v5": (20, 30, 40), "Walker2d-v5": (30, 30, 30)}
    runs = {(task, "new"): [run(task, at) for at in group] for task, group in jumps.items()}
    runs |= {(task, "old"): [run(task, 100)] * 3 for task in jumps}
    # The middle half of six: all of the third and fourth, half of the second and fifth; all have jumped after 30 steps.
    assert pooled_share(runs, "new", "old") == ("1.00", "1.00", "0.30 [0.30, 0.40]")
    assert pooled_share(runs, "old", "old") == ("1.00", "1.00", "1.00 [1.00, 1.00]")
    runs |= {(task, "slow"): [run(task, at) for at in (20, 20, 101)] for task in jumps}  # a third of which never jumps
    assert pooled_share(runs, "slow", "old")[2].endswith(", never]")


def test_results_are_of_the_settings_that_the_table_of_studies_has():
    arguments = argparse.Namespace(
        table=reproduce.HERE / "reproduce.toml", studies=None, methods=None, tasks=None, seeds=None, steps=None,
        population=256, engine="envpool", final_episodes=100,
    )  # fmt: skip
    recorded = tables.read_runs(reproduce.HERE / "results")
    asked = {run["run"]: run for run in reproduce.runs(arguments)}
    assert recorded.keys() <= asked.keys()
    for name, result in recorded.items():
        run = {**asked[name], "engine": result["engine"]}
        assert all(result.get(part) == value for part, value in reproduce.settings_of(run).items()), name


@pytest.mark.parametrize("study", CURVES)
def test_every_method_of_a_drawn_study_has_a_colour_of_its_own(study):
    methods = tomllib.loads((reproduce.HERE / "reproduce.toml").read_text())["studies"][study]["methods"]
    assert len({COLORS[method] for method in methods}) == len(methods)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_linear_share_of_a_fitness_whose_share_is_known(share):
    distribution, generator = Bernoulli(SHAPES), np.random.default_rng(1)
    rho = {name: generator.uniform(0.02, 0.98, p.shape).astype(np.float32) for name, p in distribution.init().items()}
    keys = fold_in(key_from_seed(3), np.arange(3000))
    drawn = distribution.sample(rho, keys)["output"]  # packed along "pre"
    theta = signal_share.unpack(drawn, 20).transpose(0, 2, 1)
    weights = generator.normal(size=theta.shape[1:])
    linear = ((theta - rho["output"]) * weights).sum(axis=(1, 2))
    noise = generator.normal(size=linear.size)
    fitness = np.sqrt(share) * linear / linear.std() + np.sqrt(1 - share) * noise
    shares = signal_share.linear_share(distribution, rho, keys, signal_share.standardized_ranks(fitness))
    assert shares["input"] == pytest.approx(0, abs=0.03)
    assert shares["output"] == pytest.approx(share * 3 / np.pi, abs=0.05)  # ranks of a normal variable: 3 / pi of it


def test_common_luck_whose_share_is_known():
    generator = np.random.default_rng(2)
    shape = 100, 200  # members, episodes
    member, episode, rest = (generator.normal(size=size) for size in ((100, 1), (1, 200), shape))
    rows = np.arange(100 * 200)
    task = Table(None, None, np.zeros((rows.size, 2), np.uint32), 0 * rows, rows, np.inf + 0 * rows, 200)

    def play(same):
        seeds = same.seeds.reshape(100, 200)
        assert (seeds == seeds[:1]).all()
        return 1.0 * member + 2.0 * episode + 3.0 * rest

    assert signal_share.share_of_common_luck(play, task) == pytest.approx(4 / 14, abs=0.06)


def rule(name, step):
    optimizer = update_rules.RULES[name](step)
    theta = {"a": np.full((30, 40), 0.5, np.float32)}
    return optimizer, optimizer.init(theta), theta


def gradients(count, deviation=0.009):
    generator = np.random.default_rng(4)
    return [{"a": generator.normal(0, deviation, (30, 40)).astype(np.float32)} for _ in range(count)]


def test_momentum_is_an_average_of_gradients():
    optimizer, state, theta = rule("momentum", 100.0)
    first, second = gradients(2)
    step, state = optimizer.update(first, state, theta)
    np.testing.assert_allclose(step["a"], 10 * first["a"], rtol=1e-5)
    step, state = optimizer.update(second, state, theta)
    np.testing.assert_allclose(step["a"], 9 * first["a"] + 10 * second["a"], rtol=1e-3, atol=1e-6)


def test_trust_region_moves_by_its_nats():
    optimizer, state, theta = rule("trust_region", 0.5)
    step, _ = optimizer.update(gradients(1)[0], state, theta)
    moved = theta["a"].astype(np.float64) + step["a"]
    assert signal_share.divergence(moved, theta["a"].astype(np.float64)) == pytest.approx(0.5, rel=0.02)


def test_the_signals_trust_region_stands_still_without_a_signal():
    optimizer, state, theta = rule("signal_trust_region", 1000.0)
    noise = 0.5 / np.sqrt(12 * 256)
    still, _ = optimizer.update(gradients(1, 0.9 * noise)[0], state, theta)
    moved, _ = optimizer.update(gradients(1, 1.1 * noise)[0], state, theta)
    assert not still["a"].any()
    assert moved["a"].any()


def test_flips_change_their_share_of_connections_and_those_with_the_most_evidence():
    optimizer, state, theta = rule("flips", 0.015)
    step, state = optimizer.update(gradients(1)[0], state, theta)
    network = {"a": theta["a"] + step["a"]}
    np.testing.assert_allclose(np.unique(network["a"].round(3)), [0.01, 0.99], rtol=1e-5)
    evidence = {"a": np.where(network["a"] > 0.5, -1, 1) * np.linspace(0, 1, 1200).reshape(30, 40).astype(np.float32)}
    step, _ = optimizer.update(evidence, state | {"evidence": {"a": np.zeros((30, 40), np.float32)}}, network)
    np.testing.assert_array_equal(np.flatnonzero(np.abs(step["a"]) > 0.5), np.arange(1200 - 18, 1200))


def test_the_falling_step_falls():
    optimizer, state, theta = rule("falling_step", 0.6)
    largest = []
    for gradient in gradients(25):
        step, state = optimizer.update({"a": np.abs(gradient["a"]) * 0 + np.float32(0.01)}, state, theta)
        largest.append(float(step["a"].max()))
    np.testing.assert_allclose(largest[::8], 0.6 / np.sqrt(1 + np.arange(25)[::8] / 8), rtol=1e-5)


def antithetic(members):
    distribution, generator = update_rules.Mirrored(SHAPES), np.random.default_rng(5)
    rho = {name: generator.uniform(0.1, 0.9, p.shape).astype(np.float32) for name, p in distribution.init().items()}
    keys = fold_in(key_from_seed(6), np.arange(members))
    drawn = distribution.sample(rho, keys)
    unpacked = {
        "input": signal_share.unpack(drawn["input"], 20),
        "output": signal_share.unpack(drawn["output"], 20).transpose(0, 2, 1),
    }
    return distribution, rho, keys, drawn, unpacked


def test_antithetic_pairs_have_their_probabilities_and_their_correlation():
    _, rho, _, _, theta = antithetic(20_000)
    for name, p in rho.items():
        first, second = theta[name][::2], theta[name][1::2]
        np.testing.assert_allclose(first.mean(axis=0), p, atol=0.025)
        np.testing.assert_allclose(second.mean(axis=0), p, atol=0.025)
        both = np.maximum(0, 2 * p.astype(np.float64) - 1)  # either is absent with 1 - p, and never both are
        np.testing.assert_allclose((first & second).mean(axis=0), both, atol=0.025)


def test_the_gradient_of_antithetic_pairs_is_that_of_their_members():
    distribution, rho, keys, drawn, theta = antithetic(31)
    utility = log_ranks(np.random.default_rng(7).normal(size=31))
    gradient = distribution.gradient(rho, keys, utility)
    for name, p in rho.items():
        wanted = np.tensordot(utility.weights / utility.scale, theta[name] - p, axes=1) / 31
        np.testing.assert_allclose(gradient[name], wanted, atol=1e-6)
        lanes = np.bitwise_count(drawn[name]).sum()
        assert lanes == theta[name].sum()  # nothing in the padding


def test_a_result_that_is_short_or_of_other_settings_is_run_again(tmp_path):
    run = {
        "study": "small_populations", "method": "EC", "task": "Humanoid-v5", "seed": 1,
        "definition": {"estimator": "ec", "tuned": "all"}, "population": 256, "engine": "gymnasium", "steps": 100,
        "seconds": 60, "until": 50,
    }  # fmt: skip
    run["run"] = "small_populations/EC_Humanoid-v5_1"
    arguments = type("Arguments", (), {"checkpoints": tmp_path})

    def recorded():
        return tables.read_runs(tmp_path).get(run["run"])

    def ended(n_env_steps, seconds, last):
        curve = [{"return_mean": value} for value in (60, 60, last)]
        final = {"run": run["run"], "n_env_steps": n_env_steps, "seconds": seconds, "curve": curve}
        tables.write_runs(tmp_path, {run["run"]: {**reproduce.settings_of(run), **final}})
        return reproduce.done(recorded(), run)

    assert not reproduce.done(recorded(), run)
    assert not ended(99, 59, 49)
    assert ended(99, 60, 49)
    assert ended(99, 59, 50)
    assert ended(100, 59, 49)
    for change in ({"steps": 101}, {"population": 64}, {"definition": {"estimator": "ec"}}):
        assert not reproduce.done(recorded(), {**run, **change}), change
    assert reproduce.checkpoint_of(arguments, run) != reproduce.checkpoint_of(arguments, {**run, "population": 64})


def test_directions_of_ars_count_by_their_difference():
    utility = linear_ars.best_directions(np.array([1.0, 3.0, 10.0, 4.0, 2.0, 8.0]), 2)  # pairs; the best two
    deviation = np.std([10.0, 4.0, 2.0, 8.0])
    np.testing.assert_allclose(utility.weights / utility.scale, np.array([0, 0, 6, -6, -6, 6]) / deviation, atol=1e-4)


def test_a_step_of_ars_is_that_of_its_paper():
    """The ascent of the library, times its rate, is ``learning_rate / (n_top deviation) sum (r+ - r-) z``."""
    policy = linear_ars.ars(learning_rate=0.02, delta_std=0.03, n_delta=4, n_top=2, random_state=0)
    shapes, sigma = {"weights": Shape(3, 2)}, 0.03
    search = Gaussian(shapes, sigma, {"weights": 0.0})
    keys, zero = fold_in(key_from_seed(5), np.arange(8)), {"weights": np.zeros((3, 2), np.float32)}
    z = search.sample(zero, keys)["weights"][::2] / sigma
    returns = np.random.default_rng(0).normal(size=8)
    utility = linear_ars.best_directions(returns, 2)
    _, rule = policy._ascent()
    step, _ = rule(0).update(search.gradient(zero, keys, utility), rule(0).init(zero), zero)
    pairs = returns.reshape(-1, 2)
    best = np.argsort(-pairs.max(axis=1))[:2]
    wanted = sum((pairs[i, 0] - pairs[i, 1]) * z[i] for i in best) * 0.02 / (2 * pairs[best].std())
    np.testing.assert_allclose(step["weights"], wanted, rtol=1e-3, atol=1e-6)


def test_a_pull_is_the_natural_gradient_of_the_divergence():
    generator = np.random.default_rng(2)
    shapes = {"output": SHAPES["output"]}
    prior, rho = (np.float32(generator.uniform(0.05, 0.95, (20, 6))) for _ in range(2))
    keys = fold_in(key_from_seed(0), np.arange(8))
    utility = centered_ranks(generator.normal(size=8))
    plain, pulled = Bernoulli(shapes, {"output": prior}), priors.Pulled(shapes, {"output": prior}, strength=0.5)

    def divergence(p, p0):
        return p * np.log(p / p0) + (1 - p) * np.log((1 - p) / (1 - p0))

    p, p0, h = rho.astype(float), prior.astype(float), 1e-6
    slope = (divergence(p + h, p0) - divergence(p - h, p0)) / (2 * h)
    difference = (
        plain.gradient({"output": rho}, keys, utility)["output"]
        - pulled.gradient({"output": rho}, keys, utility)["output"]
    )
    np.testing.assert_allclose(difference, 0.5 * p * (1 - p) * slope, atol=1e-6)


def test_the_table_of_priors_has_all_seeds():
    rows = tables.read(priors.HERE / "results" / "priors.csv")
    for task in priors.TASKS:
        for setting in ("free", "keep_density"):
            found = [r for r in rows if (r["env"], r["settings"]) == (task, setting)]
            assert [r["seed"] for r in found] == [0, 1, 2, 3, 4]
    kept = [r for r in rows if r["settings"] == "keep_density"]
    for (pre, post), p in priors.BLOCKS.items():
        assert all(abs(r[f"{pre}{post} mean"] - p) < 1e-4 for r in kept)
