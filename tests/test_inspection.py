"""Pictures, recorded episodes and video: what they show, on light and dark, and what they refuse."""

import gymnasium as gym
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from sklearn.base import clone

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy
from ecpolicy.callbacks import Checkpoint, ProbabilityHistogram
from ecpolicy.estimators.judging import deployment_key
from ecpolicy.inspection import (
    ConnectionProbabilityDisplay,
    FiringRateDisplay,
    LearningCurveDisplay,
    SpikeRasterDisplay,
    palette,
    record_activity,
    record_video,
)
from ecpolicy.kernels import reference
from ecpolicy.networks import RSNN

SMALL = {"n_generations": 3, "population_size": 16, "max_episode_steps": 40, "n_neurons": 30, "random_state": 0}


@pytest.fixture(scope="module")
def histogram():
    return ProbabilityHistogram(bins=20)


@pytest.fixture(scope="module")
def policy(histogram):
    return EvolvingConnectivityPolicy(**SMALL).fit("CartPole-v1", callbacks=histogram)


@pytest.fixture(scope="module")
def activity(policy):
    return record_activity(policy, "CartPole-v1", seed=3)


@pytest.fixture(autouse=True)
def _closed_figures():
    mpl.use("Agg")
    yield
    plt.close("all")


def played(policy, environment_id, seed):
    """Actions and rewards of an episode through predict."""
    environment = gym.make(environment_id)
    observation, _ = environment.reset(seed=seed)
    state, actions, rewards, over = None, [], [], False
    while not over:
        action, state = policy.predict(observation, state)
        observation, reward, terminated, truncated, _ = environment.step(action)
        actions.append(action)
        rewards.append(reward)
        over = terminated or truncated
    environment.close()
    return np.array(actions), np.array(rewards)


def test_a_recorded_episode_is_that_of_predict(policy, activity):
    actions, rewards = played(policy, "CartPole-v1", 3)
    np.testing.assert_array_equal(activity.actions, actions)
    np.testing.assert_array_equal(activity.rewards, rewards)


def test_recorded_spikes_are_the_references(policy, activity):
    network, deployed = RSNN(n_neurons=30), policy._deployed
    present = policy.connectivity_
    v = network.initial_state(deployment_key(deployed.seed)[None], 2).v[0, :30]
    zeros = np.zeros(30, np.float32)
    state = reference.State(v, zeros, zeros.astype(bool), zeros, np.zeros(2, np.float32))
    mean, inverse_std, clip = deployed.standardizer
    for step, raw in enumerate(activity.observations):
        x = np.clip((raw - mean) * inverse_std, -clip, clip).astype(np.float32)
        raster = []
        state, _, _ = reference.rsnn_step(
            present["input"], present["recurrent"], present["output"], state, x, n_excitatory=15, substeps=33,
            constants=network.constants(4), raster=raster,
        )  # fmt: skip
        np.testing.assert_array_equal(activity.spikes[step], raster)


def test_rates_and_operations_count_spikes(policy, activity):
    spikes = activity.spikes.astype(int)
    steps = len(spikes)
    seconds = steps * activity.step_ms / 1000
    np.testing.assert_allclose(activity.rates, spikes.sum((0, 1)) / seconds)
    np.testing.assert_array_equal(activity.spikes_per_step, spikes.sum((1, 2)))
    present = policy.connectivity_
    each = np.hstack([present["recurrent"], present["output"]]).sum(axis=1)
    wanted = [int((spikes[step].sum(axis=0) * each).sum() + present["input"].sum()) for step in range(steps)]
    np.testing.assert_array_equal(activity.synaptic_operations, wanted)


@pytest.mark.parametrize(
    "other",
    [
        ESPolicy(n_generations=2, population_size=8, n_neurons=16, max_episode_steps=30, random_state=1),
        SurrogateGradientPPOPolicy(n_neurons=16, max_env_steps=256, n_steps=64, n_envs=2, random_state=1),
    ],
    ids=["es", "ppo"],
)
def test_real_weights_are_recorded_too(other):
    policy = clone(other).fit("CartPole-v1")
    activity = record_activity(policy, "CartPole-v1", seed=5)
    actions = played(policy, "CartPole-v1", 5)[0]
    np.testing.assert_array_equal(activity.actions, actions)
    assert activity.excitatory is None
    assert activity.spikes.any()
    display = SpikeRasterDisplay.from_policy_run(activity)
    assert [label.get_text() for label in display.axes_[0].get_yticklabels()] == ["Neuron"]
    FiringRateDisplay.from_policy_run(activity)


def test_what_cannot_be_recorded_is_named(policy):
    gated = ESPolicy(network="gru", n_generations=1, population_size=4, max_episode_steps=5, n_neurons=8)
    with pytest.raises(TypeError, match="GRU has no spikes"):
        record_activity(gated.fit("CartPole-v1"), "CartPole-v1")
    with pytest.raises(ValueError, match="trained for the observation_space"):
        record_activity(policy, "Acrobot-v1")
    with pytest.raises(TypeError, match="one Gymnasium environment"):
        record_activity(policy, ["CartPole-v1"] * 2)
    with pytest.raises(ValueError, match=r"not fitted yet"):
        record_activity(EvolvingConnectivityPolicy(), "CartPole-v1")


def test_an_environment_of_the_callers_stays_open(policy):
    environment = gym.make("CartPole-v1")
    record_activity(policy, environment)
    environment.reset(seed=0)
    environment.close()


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_the_raster_shows_every_spike_in_its_group(activity, style, tmp_path):
    with plt.style.context(style):
        display = SpikeRasterDisplay.from_policy_run(activity, first_step=2, n_steps=5)
        raster, actions, rewards = display.axes_
        colors = palette.DARK if style == "dark_background" else palette.LIGHT
        window = activity.spikes[2:7].reshape(-1, 30)
        for line, color, members in zip(
            raster.lines, (colors.excitatory, colors.inhibitory), (slice(0, 15), slice(15, 30)), strict=False
        ):
            time, neuron = np.nonzero(window[:, members])
            np.testing.assert_allclose(np.sort(line.get_xdata()), np.sort(2 + time / 33))
            np.testing.assert_array_equal(np.sort(line.get_ydata()), np.sort(neuron + members.start))
            assert line.get_color() == color
        np.testing.assert_array_equal(actions.lines[0].get_ydata(), activity.actions[2:7])
        np.testing.assert_array_equal(rewards.lines[0].get_ydata(), activity.rewards[2:7])
        assert "16.5 ms" in rewards.get_xlabel()
        drawn(display.figure_, tmp_path)
    with pytest.raises(ValueError, match="first_step must be in"):
        SpikeRasterDisplay.from_policy_run(activity, first_step=len(activity.rewards))
    with pytest.raises(ValueError, match="first_step must be in"):
        FiringRateDisplay.from_policy_run(activity, first_step=len(activity.rewards))


def drawn(figure, folder):
    """Save at the size of a page; whether something was drawn beside the background."""
    figure.savefig(folder / "figure.png", dpi=100)
    pixels = plt.imread(folder / "figure.png")
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 10
    figure.savefig(folder / "figure.pdf")


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_firing_rates_of_both_groups(activity, style, tmp_path):
    with plt.style.context(style):
        display = FiringRateDisplay.from_policy_run(activity, n_steps=None, bins=10)
        across, along = display.axes_
        rates = activity.rates
        labels = [text.get_text() for text in across.get_legend().get_texts()]
        assert labels == [
            f"excitatory, mean {rates[:15].mean():.0f} Hz",
            f"inhibitory, mean {rates[15:].mean():.0f} Hz",
        ]
        np.testing.assert_allclose(along.lines[0].get_ydata().mean(), rates[:15].mean())
        part = FiringRateDisplay.from_policy_run(activity, first_step=2, n_steps=3).axes_[1].lines[0]
        np.testing.assert_array_equal(part.get_xdata(), [2, 3, 4])
        np.testing.assert_array_equal(part.get_ydata(), along.lines[0].get_ydata()[2:5])
        drawn(display.figure_, tmp_path)


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_probabilities_and_their_course(policy, histogram, style, tmp_path):
    with plt.style.context(style):
        display = ConnectionProbabilityDisplay.from_policy_run(policy, histogram)
        images = [ax.images[0].get_array() for ax in display.axes_[:3]]
        for image, p in zip(images, policy.connection_probabilities_.values(), strict=True):
            np.testing.assert_array_equal(image, p)
        course = display.axes_[3].collections[0].get_array()
        assert course.shape == (20, 3)
        np.testing.assert_allclose(course.sum(axis=0), 1)
        drawn(display.figure_, tmp_path)
        drawn(ConnectionProbabilityDisplay.from_estimator(policy).figure_, tmp_path)
    with pytest.raises(ValueError, match="no generation yet"):
        ConnectionProbabilityDisplay.from_policy_run(policy, ProbabilityHistogram())


def test_the_histogram_counts_the_search_and_goes_on_after_a_resume(policy, histogram, tmp_path):
    assert histogram.generations == [1, 2, 3]
    size = sum(p.size for p in policy.connection_probabilities_.values())
    assert {int(counts.sum()) for counts in histogram.counts} == {size}
    values = np.concatenate([p.ravel() for p in policy.search_probabilities_.values()])
    np.testing.assert_array_equal(histogram.counts[-1], np.histogram(values, 20, (0, 1))[0])

    resumed, saved = ProbabilityHistogram(bins=20), Checkpoint(tmp_path / "c.ecp", every=2)
    EvolvingConnectivityPolicy(**{**SMALL, "n_generations": 2}).fit("CartPole-v1", callbacks=[resumed, saved])
    EvolvingConnectivityPolicy(**SMALL).fit("CartPole-v1", callbacks=resumed, resume_from=tmp_path / "c.ecp")
    assert resumed.generations == histogram.generations
    np.testing.assert_array_equal(resumed.counts, histogram.counts)
    EvolvingConnectivityPolicy(**{**SMALL, "n_generations": 1}).fit("CartPole-v1", callbacks=resumed)
    assert resumed.generations == [1]
    with pytest.raises(ValueError, match="bins must be"):
        ProbabilityHistogram(bins=0)


def histories():
    return [
        [{"n_env_steps": 10 * k, "best_deployed_return": float(k + seed), "stop": None} for k in range(1, 5)]
        for seed in (0, 2)
    ]


@pytest.mark.parametrize(
    ("spread", "low", "high"), [("range", 0, 2), ("quartiles", 0.5, 1.5), ("std", 0, 2)], ids=lambda value: str(value)
)
def test_a_learning_curve_is_mean_and_spread(spread, low, high):
    display = LearningCurveDisplay.from_policy_run(histories(), spread=spread, label="two")
    line, band = display.ax_.lines[0], display.ax_.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(line.get_ydata(), line.get_xdata() / 10 + 1)
    at_end = band[band[:, 0] == 40.0][:, 1]
    assert (at_end.min(), at_end.max()) == pytest.approx((4 + low, 4 + high))
    assert display.ax_.get_legend().get_texts()[0].get_text() == "two"


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_curves_share_axes_in_colours_of_their_own(policy, style, tmp_path):
    with plt.style.context(style):
        display = LearningCurveDisplay.from_policy_run(policy, label="one")
        other = LearningCurveDisplay.from_policy_run([policy, policy], y="return_mean", ax=display.ax_, label="mean")
        assert other.figure_ is display.figure_
        assert display.ax_.lines[0].get_color() != display.ax_.lines[1].get_color()
        drawn(display.figure_, tmp_path)


def test_a_learning_curve_trains_clones(policy):
    estimator = EvolvingConnectivityPolicy(**SMALL)
    display = LearningCurveDisplay.from_estimator(estimator, "CartPole-v1", random_states=(0, 1), spread=None)
    assert len(display.values) == 2
    np.testing.assert_array_equal(display.values[0], [r["best_deployed_return"] for r in policy.history_])
    assert not hasattr(estimator, "history_")


def test_what_cannot_be_drawn_is_named(policy):
    with pytest.raises(ValueError, match=r"no number 'reward'; it has .*return_mean"):
        LearningCurveDisplay.from_policy_run(policy, y="reward")
    with pytest.raises(ValueError, match="nothing to draw"):
        LearningCurveDisplay.from_policy_run([[]])
    with pytest.raises(ValueError, match="spread must be one of"):
        LearningCurveDisplay.from_policy_run(policy, spread="all")


def contrast(one, other):
    """WCAG's contrast ratio of two colours."""
    from matplotlib.colors import to_rgb

    def luminance(color):
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
        return np.dot([0.2126, 0.7152, 0.0722], linear)

    high, low = sorted([luminance(one), luminance(other)], reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("colors", "background"), [(palette.LIGHT, "white"), (palette.DARK, "black")])
def test_colours_stand_out_from_their_background(colors, background):
    for color in (colors.excitatory, colors.inhibitory, colors.neutral, *colors.series):
        assert contrast(color, background) >= 3, color


def test_video_without_a_screen(policy, tmp_path, monkeypatch):
    from moviepy.video.io.VideoFileClip import VideoFileClip

    monkeypatch.delenv("DISPLAY", raising=False)
    files = record_video(policy, "CartPole-v1", tmp_path / "new" / "cart.mp4", n_episodes=2, seed=3)
    assert [file.name for file in files] == ["cart.mp4", "cart-1.mp4"]
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["cart-1.mp4", "cart.mp4"]
    steps = len(played(policy, "CartPole-v1", 3)[0])
    with VideoFileClip(str(files[0])) as clip:
        assert round(clip.duration * clip.fps) == steps + 1  # the first frame is that of the reset
        assert np.ptp(clip.get_frame(0)) > 100


def test_video_of_a_robot(tmp_path):
    robot = EvolvingConnectivityPolicy(**{**SMALL, "n_generations": 1, "max_episode_steps": 5}).fit("Hopper-v5")
    [file] = record_video(robot, "Hopper-v5", tmp_path / "hopper.mp4", max_episode_steps=5)
    assert file.stat().st_size > 1000


class BreaksAtReset(gym.Wrapper):
    def reset(self, **kwargs):
        raise ZeroDivisionError("no start")


def test_what_cannot_be_filmed_is_named(policy, tmp_path):
    with pytest.raises(ValueError, match="MP4"):
        record_video(policy, "CartPole-v1", tmp_path / "cart.gif")
    broken = BreaksAtReset(gym.make("CartPole-v1", render_mode="rgb_array"))
    with pytest.raises(ZeroDivisionError, match="no start"):
        record_video(policy, broken, tmp_path / "cart.mp4")
    with pytest.raises(ValueError, match="rgb_array"):
        record_video(policy, gym.make("CartPole-v1"), tmp_path / "cart.mp4")
    environment = gym.make("CartPole-v1", render_mode="rgb_array")
    record_video(policy, environment, tmp_path / "cart.mp4")
    environment.reset(seed=0)
    environment.close()


def test_measures_that_are_not_taken_every_time_are_passed_over():
    history = [{"n_env_steps": 10 * k, "deployed_return": float(k) if k % 2 else None} for k in range(1, 6)]
    line = LearningCurveDisplay.from_policy_run([history], y="deployed_return").ax_.lines[0]
    np.testing.assert_allclose(line.get_ydata(), line.get_xdata() / 10)


def test_displays_of_probabilities_are_for_those_who_have_them():
    es = ESPolicy(n_generations=1, population_size=4, max_episode_steps=5, n_neurons=8)
    with pytest.raises(TypeError, match="ProbabilityHistogram counts connection probabilities"):
        es.fit("CartPole-v1", callbacks=ProbabilityHistogram())
    with pytest.raises(TypeError, match="ESPolicy has no connection probabilities"):
        ConnectionProbabilityDisplay.from_estimator(es.fit("CartPole-v1"))


def test_wrong_numbers_of_steps_are_named(policy, activity, tmp_path):
    with pytest.raises(ValueError, match="n_steps must be an integer"):
        SpikeRasterDisplay.from_policy_run(activity, n_steps=0)
    with pytest.raises(ValueError, match="max_episode_steps must be an integer"):
        record_video(policy, "CartPole-v1", tmp_path / "a.mp4", max_episode_steps=0)
    with pytest.raises(ValueError, match="spread must be one of"):
        LearningCurveDisplay.from_estimator(None, "CartPole-v1", spread="all")


class Counted(gym.Wrapper):
    """Counts what is made and closed; may fail."""

    made = closed = 0

    def __init__(self, fails=False, **kwargs):
        super().__init__(gym.make("CartPole-v1", **kwargs))
        self._fails = fails
        Counted.made += 1

    def step(self, action):
        if self._fails:
            raise ZeroDivisionError
        return super().step(action)

    def close(self):
        Counted.closed += 1
        super().close()


@pytest.mark.parametrize("fails", [False, True])
def test_environments_that_were_made_are_closed(policy, fails, tmp_path):
    Counted.made = Counted.closed = 0

    def make(**kwargs):
        return Counted(fails, **kwargs)

    for act in (lambda: record_activity(policy, make), lambda: record_video(policy, make, tmp_path / "a.mp4")):
        if fails:
            with pytest.raises(ZeroDivisionError):
                act()
        else:
            act()
    assert Counted.made == Counted.closed
    assert [file.name for file in tmp_path.iterdir()] == ([] if fails else ["a.mp4"])
