"""Episodes as plain arrays: those of evaluate, to files and tables and back."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import ecpolicy
from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.cli import main
from ecpolicy.inspection import Episode, RecordedEpisodes, record_episodes
from ecpolicy.networks import RSNN

TINY = {"network": RSNN(8), "population_size": 8, "n_generations": 1, "eval_episodes": 1, "confirm_episodes": 1,
        "max_episode_steps": 20, "random_state": 0}  # fmt: skip


@pytest.fixture(scope="module")
def hopper():
    return EvolvingConnectivityPolicy(**TINY).fit("Hopper-v5")


class Parts(gym.Env):
    """Observations in parts, the same objects every time; ends after as many steps as its seed says."""

    observation_space = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(-1, 1, (2,), np.float32)})
    action_space = spaces.MultiBinary(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seen, self.left = {"a": 1, "b": np.zeros(2, np.float32)}, seed + 1
        return self.seen, {}

    def step(self, action):
        self.left -= 1
        self.seen["b"] += np.float32(0.25)
        return self.seen, 0.5, self.left == 0, False, {}


@pytest.fixture(scope="module")
def of_parts():
    return EvolvingConnectivityPolicy(**{**TINY, "max_episode_steps": 5}).fit(
        lambda: gym.wrappers.TimeLimit(Parts(), 9)
    )


@pytest.mark.parametrize("numbers", [{"seed": 3}, {}, {"seed": 0, "max_episode_steps": 7}])
def test_they_are_the_episodes_of_evaluate(hopper, numbers):
    found = record_episodes(hopper, "Hopper-v5", n_episodes=4, **numbers)
    evaluated = hopper.evaluate("Hopper-v5", n_episodes=4, **numbers)
    assert found.returns.tolist() == evaluated.returns[:, 0].tolist()
    assert found.lengths.tolist() == evaluated.lengths[:, 0].tolist()


def test_an_episode_holds_what_came_and_how_it_ended(hopper):
    cut, whole = record_episodes(hopper, "Hopper-v5", n_episodes=2, seed=5, max_episode_steps=3), gym.make("Hopper-v5")
    for episode, seed in zip(cut.episodes, (5, 6), strict=True):
        assert episode.seed == seed
        assert episode.observations.shape == (4, 11)
        assert episode.actions.shape == (3, 3)
        observation, _ = whole.reset(seed=seed)
        assert np.array_equal(observation, episode.observations[0])
        for t, action in enumerate(episode.actions):
            observation, reward, *_ = whole.step(action)
            assert np.array_equal(observation, episode.observations[t + 1])
            assert reward == episode.rewards[t]
        assert episode.terminations.tolist() == [False] * 3
        assert episode.truncations.tolist() == [False, False, True]
    assert repr(cut).startswith("RecordedEpisodes(2 episodes, 6 steps, return ")


def test_observations_in_parts_are_flat_and_kept_as_they_were(of_parts):
    found = record_episodes(of_parts, Parts(), n_episodes=3, seed=0)
    assert found.lengths.tolist() == [1, 2, 3]
    last = found.episodes[-1]
    assert last.observations.tolist() == [
        [0, 1, 0, 0, 0],
        [0, 1, 0, 0.25, 0.25],
        [0, 1, 0, 0.5, 0.5],
        [0, 1, 0, 0.75, 0.75],
    ]
    assert last.terminations.tolist() == [False, False, True]
    assert not last.truncations.any()
    assert last.actions.shape == (3, 2)


def test_a_file_holds_them_and_gives_them_back(of_parts, tmp_path):
    found = record_episodes(of_parts, Parts(), n_episodes=3, seed=2)
    again = RecordedEpisodes.from_npz(found.to_npz(tmp_path / "parts.npz"))
    for one, other in zip(found.episodes, again.episodes, strict=True):
        assert one.seed == other.seed
        for part, read in zip(one[1:], other[1:], strict=True):
            assert part.dtype == read.dtype
            assert np.array_equal(part, read)
    with np.load(tmp_path / "parts.npz") as held:
        assert held["lengths"].tolist() == [3, 4, 5]
        assert held["observations"].shape == (15, 5)
        assert held["rewards"].tolist() == [0.5] * 12
        assert held["seeds"].tolist() == [2, 3, 4]


def test_a_table_has_a_row_a_step(of_parts):
    table = record_episodes(of_parts, Parts(), n_episodes=2, seed=0).to_pandas()
    assert list(table) == [
        "episode", "seed", "step", *(f"observation_{i}" for i in range(5)), "action_0", "action_1", "reward",
        "termination", "truncation",
    ]  # fmt: skip
    assert table[["episode", "step"]].to_numpy().tolist() == [[0, 0], [1, 0], [1, 1]]
    assert table["observation_3"].tolist() == [0, 0, 0.25]
    assert table["termination"].tolist() == [True, False, True]


def test_names_are_those_of_minari():
    assert Episode._fields == ("seed", "observations", "actions", "rewards", "terminations", "truncations")


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"n_episodes": 0}, ValueError, "n_episodes must be an integer in"),
        ({"seed": -1}, ValueError, "seed must be an integer in"),
        ({"max_episode_steps": 0}, ValueError, "max_episode_steps must be"),
        ({"environment": ["Hopper-v5", "Hopper-v5"]}, TypeError, "Wanted one Gymnasium environment"),
        ({"environment": "CartPole-v1"}, ValueError, "space"),
    ],
)
def test_what_is_refused(hopper, given, error, said):
    with pytest.raises(error, match=said):
        record_episodes(hopper, **{"environment": "Hopper-v5", **given})


def test_a_path_of_another_kind_is_refused(hopper, tmp_path):
    with pytest.raises(ValueError, match=r'ends in "\.npz"'):
        record_episodes(hopper, "Hopper-v5", n_episodes=1, max_episode_steps=1).to_npz(tmp_path / "a.csv")


def test_the_command(hopper, tmp_path, capsys):
    hopper.save(tmp_path / "hopper.ecp")
    file = tmp_path / "data" / "hopper.npz"
    assert main(["record", str(tmp_path / "hopper.ecp"), str(file), "--episodes", "3", "--seed", "1"]) == 0
    assert capsys.readouterr().out == f"{file}\n"
    evaluated = ecpolicy.load(tmp_path / "hopper.ecp").evaluate("Hopper-v5", n_episodes=3, seed=1)
    assert RecordedEpisodes.from_npz(file).returns.tolist() == evaluated.returns[:, 0].tolist()
