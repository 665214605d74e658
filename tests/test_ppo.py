"""SurrogateGradientPPOPolicy and the policy class that it trains."""

import io
import random
import signal
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from sklearn.base import clone

from ecpolicy.files.archive import ModelFileError
from ecpolicy.networks import RealRSNN
from ecpolicy.rollout.outcome import EpisodeError
from probes import Broken, DeviceMatch, Match, Spaces

torch = pytest.importorskip("torch")
pytest.importorskip("sb3_contrib")

from stable_baselines3.common.evaluation import evaluate_policy  # noqa: E402

from ecpolicy.callbacks import Checkpoint, Progress  # noqa: E402
from ecpolicy.environments import resolve  # noqa: E402
from ecpolicy.files import archive, policies  # noqa: E402
from ecpolicy.policies.parameters import CRITICS  # noqa: E402
from ecpolicy.policies.ppo import SurrogateGradientPPOPolicy  # noqa: E402
from ecpolicy.ppo.environment import training_environment  # noqa: E402
from ecpolicy.ppo.training import Setting, parameter_shapes  # noqa: E402
from ecpolicy.random import key_from_seed  # noqa: E402
from ecpolicy.spaces import action_outputs  # noqa: E402
from learnt import fingerprint, learnt  # noqa: E402

SMALL = {
    "network": RealRSNN(32, step_ms=12, dt=1.0, gain_in=1.0),
    "n_envs": 8,
    "n_epochs": 4,
    "learning_rate": 1e-2,
    "gamma": 0.0,  # the reward of Match depends on the step alone
    "max_env_steps": 2000,
    "random_state": 0,
}
TINY = {
    **SMALL,
    "network": SMALL["network"].set_params(n_neurons=9),
    "n_envs": 3,
    "n_steps": 6,
    "max_env_steps": 36,
    "eval_every": 1,
    "eval_episodes": 2,
}


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other make small products slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def fitted():
    """A policy fitted on Match; tests must not change it."""
    return SurrogateGradientPPOPolicy(**SMALL).fit(Match)


def equal(first, second):
    return all(np.array_equal(first.weights_[name], second.weights_[name]) for name in first.weights_)


def held(policy, group):
    """The arrays of a policy's training whose names begin so."""
    return {name.removeprefix(group): part for name, part in learnt(policy).items() if name.startswith(group)}


def first_outputs(policy, observation):
    """What the deployed network puts out in the first step of an episode."""
    network, found = policy.network, learnt(policy, training_state=False)
    mean, inverse_std, clip = (found[f"standardizer/{name}"] for name in ("mean", "inverse_std", "clip"))
    x = np.clip((observation - mean) * inverse_std, -clip, clip).astype(np.float32)[None]
    weights = {name: w[None] for name, w in policy.weights_.items()}
    output, zero = np.zeros((1, weights["output"].shape[2]), np.float32), np.zeros(1, np.int64)
    state = network.initial_state(key_from_seed(0)[None], output.shape[1])
    network.step(weights, state, x, output, owners=zero, rows=zero)
    return output[0].astype(float)


def same_arrays(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_match_is_solved(fitted):
    assert fitted.score(Match, n_episodes=50) > 9.5
    assert evaluate_policy(fitted, Match(), n_eval_episodes=20, warn=False)[0] > 9.5
    assert fitted.stop_reason_ == "max_env_steps"
    assert fitted.n_env_steps_ == 2048
    assert fitted.n_updates_ == len(fitted.history_) == 16
    assert {name: w.shape for name, w in fitted.weights_.items()} == {
        "input": (1, 32), "recurrent": (32, 32), "output": (32, 2)
    }  # fmt: skip
    record = fitted.history_[-1]
    assert record["return_mean"] > fitted.history_[0]["return_mean"]
    assert record["n_episodes"] * 10 in range(128 - 80, 128 + 80)
    evaluated = [r["generation"] for r in fitted.history_ if r["deployed_return"] is not None]
    assert evaluated == [5, 10, 15, 16]
    assert fitted.deployed_update_ in evaluated


OWN = {"tau_m": np.linspace(5, 20, 65), "tau_syn": np.linspace(9, 3, 65), "threshold": np.linspace(0.5, 1.2, 65),
       "t_ref": [0.0, 2.0, 5.0, 0.0, 1.0] * 13}  # fmt: skip


@pytest.mark.parametrize("settings", [{}, OWN], ids=["alike", "own"])
def test_predicts_what_pytorch_does(settings, tmp_path):
    """Weights and observations on a grid make sums exact, so spikes and actions are the same."""
    from ecpolicy.ppo.sb3_policy import RSNNPolicy

    space = spaces.Box(-1, 1, (2,), np.float32)
    policy = SurrogateGradientPPOPolicy(**TINY).set_params(normalize_observations=False)
    policy.set_params(network=policy.network.set_params(n_neurons=65, **settings))
    policy.fit(lambda: Spaces(spaces.Box(-4, 4, (3,), np.float32), space))
    on_grid = {name: np.round(w * 2**8).astype(np.float32) / 2**8 for name, w in policy.weights_.items()}
    trained = held(policy, "policy/")
    policy.save(tmp_path / "p.ecp")
    document, arrays = archive.read(tmp_path / "p.ecp")
    arrays |= {f"best/weights/{name}": w for name, w in on_grid.items()}
    content = {name: part for name, part in document.items() if name not in ("format", "version", "arrays")}
    archive.write(tmp_path / "p.ecp", content, arrays)
    policy = SurrogateGradientPPOPolicy.load(tmp_path / "p.ecp")
    actor = RSNNPolicy(
        spaces.Box(-np.inf, np.inf, (3,)), space, lambda _: 0.0, network=policy.network,
        enable_critic_lstm=False,
    )  # fmt: skip
    state = {name: torch.tensor(value) for name, value in trained.items()}
    state["lstm_actor.input"], state["lstm_actor.recurrent"] = map(
        torch.tensor, (on_grid["input"], on_grid["recurrent"])
    )
    state["action_net.weight"] = torch.tensor(on_grid["output"])
    actor.load_state_dict(state)
    rng = np.random.default_rng(0)
    ours, theirs, start = None, None, np.ones(4, bool)
    seen = []
    for step in range(60):
        observation = np.round(rng.normal(size=(4, 3)) * 2**6).astype(np.float32) / 2**6
        mine, ours = policy.predict(observation, ours, start)
        wanted, theirs = actor.predict(observation, theirs, start, deterministic=True)
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-5)
        assert np.array_equal(ours.network.spikes, theirs[1][0, :, 65:] > 0)
        seen.append(mine)
        start = rng.random(4) < 0.05 * (step > 5)
    assert np.std(seen) > 0.01


@pytest.mark.parametrize(
    "action_space",
    [
        spaces.Box(np.array([[-2.0, 0.0]], np.float32), np.array([[3.0, np.inf]], np.float32)),
        spaces.Box(0, 5, (2,), np.int64),
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([[2, 3]], start=[[1, -1]]),
        spaces.MultiBinary((2, 2)),
    ],
    ids=str,
)
def test_action_spaces(action_space, tmp_path):
    """Every action that is taken, in training and after, is of the space; a file keeps them all."""
    observation_space = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(3)})
    policy = SurrogateGradientPPOPolicy(**TINY).fit(lambda: Spaces(observation_space, action_space))
    assert policy.n_features_in_ == 5
    observation_space.seed(0)
    observation = observation_space.sample()
    sampled = [policy.predict(observation, deterministic=False)[0] for _ in range(40)]
    assert all(action_space.contains(action) for action in sampled)
    assert len({str(action) for action in sampled}) > 1
    continuous = isinstance(action_space, spaces.Box)
    setting = Setting(policy.network, policy.critic, True, 10.0, ())
    shapes = parameter_shapes(setting, 5, action_outputs(action_space), continuous=continuous)
    assert shapes == {name: value.shape for name, value in held(policy, "policy/").items()}
    policy.save(tmp_path / "p.ecp")
    loaded = SurrogateGradientPPOPolicy.load(tmp_path / "p.ecp")
    assert np.array_equal(loaded.log_std_, policy.log_std_)
    assert np.array_equal(loaded.predict(observation)[0], policy.predict(observation)[0])


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_sampled_actions_have_the_probabilities_of_the_policy(sign):
    policy = SurrogateGradientPPOPolicy(**TINY).fit(Match)
    odds = np.exp(first_outputs(policy, np.array([sign])))
    actions, _ = policy.predict(np.full((20_000, 1), sign), deterministic=False)
    wanted = odds[1] / odds.sum()
    assert 0.05 < wanted < 0.95
    assert abs(actions.mean() - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / 20_000)
    again, _ = policy.predict(np.full((20_000, 1), sign), deterministic=False)
    assert not np.array_equal(actions, again)


def test_sampled_box_actions_are_normal():
    policy = SurrogateGradientPPOPolicy(**TINY).fit(
        lambda: Spaces(spaces.Box(-1, 1, (1,)), spaces.Box(-np.inf, np.inf, (1,)))
    )
    policy.log_std_ = np.log(np.array([0.5], np.float32))
    actions, _ = policy.predict(np.full((20_000, 1), 0.5), deterministic=False)
    assert abs(actions.mean() - first_outputs(policy, np.array([0.5]))[0]) < 5 * 0.5 / np.sqrt(20_000)
    assert abs(actions.std() - 0.5) < 0.02


@pytest.mark.parametrize("critic", CRITICS)
def test_critics(critic, tmp_path):
    policy = SurrogateGradientPPOPolicy(**TINY, critic=critic).fit(Match)
    shapes = parameter_shapes(Setting(policy.network, critic, True, 10.0, ()), 1, 2, continuous=False)
    assert shapes == {name: value.shape for name, value in held(policy, "policy/").items()}
    assert any(value.any() for value in held(policy, "second/").values())
    policy.save(tmp_path / "p.ecp")
    assert equal(SurrogateGradientPPOPolicy.load(tmp_path / "p.ecp"), policy)


def test_same_seed_same_weights():
    first, second = (SurrogateGradientPPOPolicy(**TINY).fit(Match) for _ in range(2))
    assert fingerprint(first) == fingerprint(second)
    other = SurrogateGradientPPOPolicy(**{**TINY, "random_state": 1}).fit(Match)
    assert not equal(first, other)


def test_global_states_are_left_alone():
    random.seed(1)
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(3)
    torch.set_num_threads(2)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state(), torch.get_num_threads()  # noqa: NPY002
    SurrogateGradientPPOPolicy(**TINY).fit(Match)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert torch.get_num_threads() == states[3]


@pytest.mark.parametrize("settings", [{}, {"t_ref": [0, 3] * 4 + [5], "tau_m": [5.0] * 9}], ids=["alike", "own"])
def test_save_load_and_warm_start(settings, tmp_path):
    policy = SurrogateGradientPPOPolicy(**TINY, warm_start=True, ppo_kwargs={"target_kl": 0.5})
    policy.set_params(network=policy.network.set_params(**settings)).fit(Match)
    policy.save(tmp_path / "p.ecp")
    loaded = SurrogateGradientPPOPolicy.load(tmp_path / "p.ecp")
    assert loaded.get_params() == policy.get_params()
    assert equal(loaded, policy)
    assert loaded.score(Match, n_episodes=5) == policy.score(Match, n_episodes=5)
    assert fingerprint(loaded) == fingerprint(policy)
    for continued in (policy, loaded):
        before, history = learnt(continued), continued.history_
        continued.set_params(max_env_steps=72).fit(Match)
        after = learnt(continued)
        assert continued.history_[:2] == history
        assert continued.n_updates_ == len(continued.history_) == 4
        assert after["n_env_steps"] == 72
        assert after["gradient_steps"] > before["gradient_steps"] == 8
        assert after["observations/n"] > before["observations/n"] > 36
        moved = np.abs(after["policy/lstm_actor.recurrent"] - before["policy/lstm_actor.recurrent"]).max()
        assert 0 < moved < 10 * 8 * SMALL["learning_rate"]
    assert same_arrays(held(policy, "policy/"), held(loaded, "policy/"))


def test_warm_start_with_nothing_left_to_do_changes_nothing():
    policy = SurrogateGradientPPOPolicy(**TINY, warm_start=True).fit(Match)
    before = fingerprint(policy)
    policy.fit(Match)
    assert fingerprint(policy) == before


def test_warm_start_elsewhere():
    policy = SurrogateGradientPPOPolicy(**TINY, warm_start=True).fit(Match)
    with pytest.raises(ValueError, match="Training so far was for the observation_space"):
        policy.fit("CartPole-v1")
    with pytest.raises(ValueError, match="Training so far was of 9 neurons"):
        policy.set_params(network__n_neurons=10).fit(Match)
    with pytest.raises(ValueError, match="critic='feedforward'"):
        policy.set_params(network__n_neurons=9, critic="shared").fit(Match)


def test_loading_and_acting_need_no_pytorch(fitted, tmp_path):
    fitted.save(tmp_path / "p.ecp")
    code = (
        "import sys; from ecpolicy.policies.ppo import SurrogateGradientPPOPolicy as P;"
        f"policy = P.load({str(tmp_path / 'p.ecp')!r}); print(policy.predict([1.0])[0]);"
        "assert not {'torch', 'stable_baselines3', 'sb3_contrib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == fitted.predict(np.ones(1, np.float32))[0]


@pytest.mark.parametrize("damage", ["shape", "missing", "document"])
def test_damaged_files(damage, tmp_path, fitted):
    document, arrays = policies.to_file(fitted, training_state=True)
    policies.from_file(SurrogateGradientPPOPolicy, document, arrays, None)  # without the damage
    if damage == "shape":
        arrays["policy/lstm_actor.recurrent"] = np.zeros((3, 3), np.float32)
    elif damage == "missing":
        del arrays["second/value_net.bias"]
    else:
        document["training"]["update"] = -1
    with pytest.raises(ModelFileError):
        policies.from_file(SurrogateGradientPPOPolicy, document, arrays, None)


def test_list_of_environments_takes_turns():
    made = []

    def maker(number):
        def make():
            made.append(number)
            return Match()

        return make

    policy = SurrogateGradientPPOPolicy(**{**TINY, "n_envs": 5}).fit([maker(0), maker(1)])
    assert [n for n in made if made.count(n)][2:7] == [0, 1, 0, 1, 0]
    assert policy.episode_returns([Match, Match], n_episodes=3).shape == (3, 2)


def test_an_instance_is_copied():
    environment = Match()
    policy = SurrogateGradientPPOPolicy(**TINY).fit(environment)
    assert policy.n_updates_ == 2


def test_score_threshold_ends_the_fit(tmp_path):
    policy = SurrogateGradientPPOPolicy(**{**SMALL, "score_threshold": 5.2, "eval_every": 1}).fit(Match)
    assert policy.stop_reason_ == "score_threshold"
    assert policy.n_env_steps_ < 2000
    assert policy.score(Match, n_episodes=50) > 5.2


def test_callbacks():
    seen = []
    policy = SurrogateGradientPPOPolicy(**TINY).fit(Match, callbacks=[lambda p: seen.append(p.n_updates_) or True])
    assert seen == [1]
    assert policy.stop_reason_ == "callback <lambda>"


def test_checkpoint_writes_a_loadable_file(tmp_path):
    path, updates = tmp_path / "p.ecp", []
    policy = SurrogateGradientPPOPolicy(**TINY)
    watch = lambda p: updates.append(SurrogateGradientPPOPolicy.load(path).n_updates_)  # noqa: E731
    policy.fit(Match, callbacks=[Checkpoint(path, every=1), watch])
    assert updates == [1, 2]
    loaded = SurrogateGradientPPOPolicy.load(path)
    assert equal(loaded, policy)
    assert loaded.history_ == policy.history_
    assert loaded.stop_reason_ == policy.stop_reason_ == "max_env_steps"


def test_progress_without_returns_or_evaluations():
    """Episodes of Match take ten steps: none has ended in the first update, and only the last one is evaluated."""
    stream = io.StringIO()
    parameters = {**TINY, "eval_every": 5, "max_env_steps": 54}
    policy = SurrogateGradientPPOPolicy(**parameters).fit(Match, callbacks=[Progress(2, stream), Progress(1, stream)])
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1", "2", "2", "3", "3"]
    assert "return      none | deployed      none, best none |" in lines[0]
    assert lines[0].endswith("left | engine gymnasium")
    last = policy.history_[-1]
    assert f"deployed {last['deployed_return']:9.2f}, best {last['best_deployed_return']:.2f} |" in lines[-1]
    assert lines[-1].endswith("done")


def test_verbose_prints_evaluations(capsys):
    SurrogateGradientPPOPolicy(**{**TINY, "max_env_steps": 90, "eval_every": 2}, verbose=1).fit(Match)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["2", "4", "5"]


def test_partial_fit_is_one_update_more():
    policy = SurrogateGradientPPOPolicy(**{**TINY, "max_env_steps": 18})
    assert policy.partial_fit(Match) is policy
    fit = clone(policy).fit(Match)
    assert same_arrays(held(policy, "policy/"), held(fit, "policy/"))
    for update in (2, 3):
        before = learnt(policy)
        policy.partial_fit(Match)
        assert policy.n_updates_ == len(policy.history_) == update
        assert policy.history_[-1]["generation"] == update
        assert policy.history_[-1]["deployed_return"] is not None
        assert policy.n_env_steps_ == 18 * update
        after = learnt(policy)
        assert after["gradient_steps"] == before["gradient_steps"] + 4
        moved = np.abs(after["policy/lstm_actor.recurrent"] - before["policy/lstm_actor.recurrent"]).max()
        assert 0 < moved < 10 * 4 * SMALL["learning_rate"]
    assert policy.stop_reason_ == "partial_fit"


def test_ctrl_c_ends_after_the_update():
    policy = SurrogateGradientPPOPolicy(**{**TINY, "max_env_steps": 1000, "eval_every": 1000})
    press = [lambda p: p.n_updates_ == 2 and signal.raise_signal(signal.SIGINT)]
    with pytest.warns(UserWarning, match="Interrupted: fit ended after generation 2"):
        policy.fit(Match, callbacks=press)
    assert policy.stop_reason_ == "interrupted"
    assert policy.predict(np.ones(1, np.float32))[0] in (0, 1)


def test_clipping_is_the_same_in_training_and_after():
    """Without standardisation too, observations are clipped, as in EvolvingConnectivityPolicy."""
    parameters = {**TINY, "normalize_observations": False, "observation_clip": 0.5}
    policy = SurrogateGradientPPOPolicy(**parameters).fit(Match)
    setting = Setting(policy.network, policy.critic, False, 0.5, ())
    made = training_environment(resolve(Match).environments, setting.environment_clip, 0)
    assert abs(made.reset(seed=0)[0]) == 0.5
    assert learnt(policy, training_state=False)["standardizer/clip"] == 0.5


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"surrogate": "relu"}, ValueError, "surrogate must be one of"),
        ({"critic": "none"}, ValueError, "critic must be one of"),
        ({"beta": 0}, ValueError, "beta must be a number in"),
        ({"n_envs": 0}, ValueError, "n_envs must be an integer in"),
        ({"gamma": 1.5}, ValueError, "gamma must be a number in"),
        ({"score_threshold": "high"}, ValueError, "score_threshold must be"),
        ({"ppo_kwargs": {"gama": 1}}, ValueError, r"ppo_kwargs may hold .*'target_kl'.*got \['gama'\]"),
        ({"ppo_kwargs": {"n_steps": 1}}, ValueError, r"got \['n_steps'\].*is to be given as such"),
        ({"ppo_kwargs": {"clip_range_vf": lambda _: 0.1}}, TypeError, "must be a number, a string"),
        ({"batch_size": 17}, ValueError, "leaves one of the 18 steps"),
        ({"ppo_kwargs": 3}, TypeError, "ppo_kwargs must be a dict or None"),
    ],
)
def test_wrong_parameters(parameters, error, message):
    with pytest.raises(error, match=message):
        SurrogateGradientPPOPolicy(**{**TINY, **parameters}).fit(Match)


def test_environments_that_cannot_be_trained_on():
    with pytest.raises(ValueError, match=r"cannot train on a VectorEnv.*Give an id"):
        SurrogateGradientPPOPolicy(**TINY).fit(gym.make_vec("CartPole-v1", 2))
    with pytest.raises(ValueError, match="n_envs must be at least the number of environments given, 4"):
        SurrogateGradientPPOPolicy(**TINY).fit([Match] * 4)
    pytest.importorskip("jax")
    with pytest.raises(ValueError, match="cannot train on environments of Brax"):
        SurrogateGradientPPOPolicy(**TINY).fit(DeviceMatch())


def test_divergence_leaves_what_was_learnt():
    policy = SurrogateGradientPPOPolicy(**{**TINY, "max_env_steps": 1000})
    policy.fit(Match, callbacks=lambda view: view.n_updates_ == 2)
    kept = {name: weights.copy() for name, weights in policy.weights_.items()}
    with pytest.raises(FloatingPointError, match=r"Update 3 made .* infinite or NaN.*smaller learning_rate"):
        policy.set_params(warm_start=True, learning_rate=1e38).fit(Match)
    assert same_arrays(policy.weights_, kept)
    assert policy.stop_reason_ == "error"


class Informs(Match):
    """Ten steps of reward 1, with an info of its own."""

    def __init__(self, info):
        self.info = info

    def step(self, action):
        observation, _, *rest, _ = super().step(action)
        return observation, 1.0, *rest, dict(self.info)


@pytest.mark.parametrize(
    "info",
    [{}, {"episode": {"r": 99.0, "l": 5}}, {"episode": 7}, {"terminal_observation": None}, {"is_success": "maybe"},
     {"TimeLimit.truncated": True, "final_info": {"episode": {"r": 1.0}}}],
)  # fmt: skip
def test_an_environments_own_info_is_not_a_wrappers(info):
    policy = SurrogateGradientPPOPolicy(
        network=RealRSNN(6, step_ms=2.0), n_envs=2, n_steps=16, max_env_steps=64, n_epochs=1, random_state=0
    ).fit(lambda: Informs(info))
    assert [record["return_mean"] for record in policy.history_] == [10] * len(policy.history_)
    assert {record["episode_length"] for record in policy.history_} == {10}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", "The environment raised ZeroDivisionError: the plant exploded"),
        ("nan observation", "An observation is NaN, infinite or beyond"),
        ("nan reward", "A reward is nan"),
        ("shape", "wanted shape"),
    ],
)
def test_misbehaving_environments_leave_what_was_learnt(how, message):
    policy = SurrogateGradientPPOPolicy(**{**TINY, "max_env_steps": 1000, "eval_every": 1000})
    with pytest.raises(EpisodeError, match=message):
        policy.fit(lambda: Broken(how, after=2))
    assert policy.stop_reason_ == "error"
    assert policy.n_updates_ >= 1
    assert policy.predict(np.ones(1, np.float32))[0] in (0, 1)


def test_policy_class_in_recurrent_ppo(tmp_path):
    from sb3_contrib import RecurrentPPO

    from ecpolicy.ppo.sb3_policy import RSNNPolicy

    settings = {"network": {"n_neurons": 8, "step_ms": 8, "gain_in": 2.0}, "surrogate": "sigmoid", "beta": 5.0}
    with torch.random.fork_rng():
        for kind, critic in ((RSNNPolicy, {}), ("RSNNPolicy", {"shared_lstm": True, "enable_critic_lstm": False})):
            model = RecurrentPPO(
                kind,
                "CartPole-v1",
                n_steps=16,
                batch_size=8,
                n_epochs=2,
                policy_kwargs={**settings, **critic},
                device="cpu",
            )
            before = {name: value.clone() for name, value in model.policy.state_dict().items()}
            with pytest.warns(UserWarning, match=r"one environment.* make_vec_env"):  # once
                model.learn(32)
            after = model.policy.state_dict()
            assert all(torch.isfinite(value).all() for value in after.values())
            assert all(not torch.equal(before[name], after[name]) for name in before)
            assert "action_net.bias" not in after
        model.save(tmp_path / "model.zip")
        loaded = RecurrentPPO.load(tmp_path / "model.zip", device="cpu")
    observation = np.array([0.1, 0.2, -0.1, 0.3], np.float32)
    assert loaded.predict(observation, deterministic=True)[0] == model.predict(observation, deterministic=True)[0]
    with pytest.raises(ValueError, match="use_sde"):
        RecurrentPPO(RSNNPolicy, "Pendulum-v1", use_sde=True)
