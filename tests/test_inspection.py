"""Pictures, recorded episodes and video: what they show, on light and dark, and what they refuse."""

import itertools

import gymnasium as gym
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from sklearn.base import clone

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy
from ecpolicy.callbacks import Checkpoint, ProbabilityHistogram
from ecpolicy.fitting.deployed import deployment_key
from ecpolicy.inspection import (
    ConnectionProbabilityDisplay,
    FiringRateDisplay,
    LearningCurveDisplay,
    SpikeRasterDisplay,
    palette,
    record_activity,
    record_video,
)
from ecpolicy.inspection.video import follow
from ecpolicy.networks import GRU, RSNN, RealRSNN, reference
from learnt import learnt

SMALL = {"n_generations": 3, "population_size": 16, "max_episode_steps": 40, "network": RSNN(30), "random_state": 0}


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
    network, deployed = RSNN(n_neurons=30), learnt(policy, training_state=False)
    present = policy.connectivity_
    v = network.initial_state(deployment_key(policy.seed_)[None], 2).v[0, :30]
    zeros = np.zeros(30, np.float32)
    state = reference.State(v, zeros, zeros.astype(bool), zeros, np.zeros(2, np.float32))
    mean, inverse_std, clip = (deployed[f"standardizer/{name}"] for name in ("mean", "inverse_std", "clip"))
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


def test_what_is_returned_prints_as_one_line(policy, activity):
    steps, spikes = len(activity.rewards), int(activity.spikes.sum())
    assert repr(activity) == (
        f"Activity({steps} steps, return {steps:.2f}, 30 neurons at {activity.rates.mean():.1f} Hz, {spikes:,} spikes, "
        f"{activity.synaptic_operations.sum():,} synaptic operations, about {activity.energy() * 1e6:.3g} µJ)"
    )
    episodes = policy.evaluate("CartPole-v1", n_episodes=3, seed=0)
    mean, std = episodes.returns.mean(), episodes.returns.std()
    assert repr(episodes) == f"EvaluatedEpisodes(3 episodes, return {mean:.2f} ± {std:.2f}, length {mean:.1f})"
    both = policy.evaluate(["CartPole-v1"] * 2, n_episodes=1)
    assert repr(both).startswith("EvaluatedEpisodes(1 episode on each of 2 environments, return ")
    moving = both._replace(x_velocities=np.full((1, 2), 1.25))
    assert repr(moving).endswith(", 1.25 m/s)")
    one, several = np.zeros(4, np.float32), np.zeros((3, 4), np.float32)
    assert repr(policy.predict(one)[1]) == "PolicyState(1 environment, the deployed network)"
    state = policy.predict(several, deterministic=False)[1]
    assert repr(state) == "PolicyState(3 environments, networks sampled for each)"
    present = {name: (int(p.sum()), p.size) for name, p in policy.connectivity_.items()}
    wanted = ", ".join(f"{name} {count:,} of {size:,}" for name, (count, size) in present.items())
    assert str(policy.connectome_) == f"Connectome(30 neurons, 15 excitatory; {wanted})"


@pytest.mark.parametrize(
    "other",
    [
        ESPolicy(n_generations=2, population_size=8, network=RealRSNN(16), max_episode_steps=30, random_state=1),
        SurrogateGradientPPOPolicy(network=RealRSNN(16), max_env_steps=256, n_steps=64, n_envs=2, random_state=1),
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
    assert display.axes_[0].get_ylabel() == "Neuron"
    assert not display.axes_[0].child_axes  # no groups
    FiringRateDisplay.from_policy_run(activity)


def test_what_cannot_be_recorded_is_named(policy):
    gated = ESPolicy(network=GRU(8), n_generations=1, population_size=4, max_episode_steps=5)
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
        for ax, numbers in ((actions, activity.actions), (rewards, activity.rewards)):
            values, edges, _ = ax.patches[0].get_data()
            np.testing.assert_array_equal(values, numbers[2:7])
            np.testing.assert_array_equal(edges, range(2, 8))  # the last step, too, is as wide as a step
        assert actions.get_legend() is None
        [groups] = raster.child_axes
        assert [text.get_text() for text in groups.get_yticklabels()] == ["Excitatory", "Inhibitory"]
        np.testing.assert_array_equal(groups.get_yticks(), [7, 22])
        assert len(raster.get_yticks()) >= 3
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
        labels = [text.get_text() for text in display.figure_.legends[0].get_texts()]
        assert across.get_legend() is along.get_legend() is None  # where it would lie on bars
        assert "16.5 ms" in along.get_xlabel()
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
        display = ConnectionProbabilityDisplay.from_policy_run(policy, histogram=histogram)
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


def test_rows_of_the_input_and_groups_are_named(policy):
    into, between, out, _ = ConnectionProbabilityDisplay.from_policy_run(policy).axes_

    def named(axis):
        return [text.get_text() for text in axis.get_ticklabels(minor=True)]

    assert named(into.yaxis) == ["observation", "\N{MINUS SIGN}observation"]
    np.testing.assert_array_equal(into.yaxis.get_ticklocs(minor=True), [1.5, 5.5])  # the middle of four rows each
    for axis in (into.xaxis, between.xaxis, between.yaxis, out.yaxis):
        assert named(axis) == ["E", "I"]
        np.testing.assert_array_equal(axis.get_ticklocs(), [0, 15, 29])
    assert named(out.xaxis) == []


def test_matrices_fit_into_a_column(policy):
    figure = plt.figure(figsize=(85 / 25.4, 4.2), layout="constrained")
    axes = ConnectionProbabilityDisplay.from_estimator(policy, order="cluster", figure=figure).axes_
    wide = ConnectionProbabilityDisplay.from_estimator(policy, order="cluster").axes_
    for narrow, other in zip(axes[:3], wide[:3], strict=True):
        np.testing.assert_array_equal(narrow.images[0].get_array(), other.images[0].get_array())
        assert narrow.get_title() == other.get_title()
    figure.canvas.draw()
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_neurons_stand_in_the_order_that_was_chosen(policy, activity):
    p = policy.connection_probabilities_
    of_neurons = np.concatenate([p["input"].T, p["recurrent"], p["recurrent"].T, p["output"]], axis=1)
    for order, keys in (("degree", of_neurons.sum(axis=1)), (activity.rates, activity.rates), ("cluster", None)):
        axes = ConnectionProbabilityDisplay.from_estimator(policy, order=order).axes_
        into, between, out = (np.asarray(ax.images[0].get_array()) for ax in axes[:3])
        rows = [next(i for i in range(30) if (p["output"][i] == row).all() and (p["input"][:, i] == x).all())
                for row, x in zip(out, into.T, strict=True)]  # fmt: skip
        assert sorted(rows[:15]) == list(range(15))  # groups stay together
        assert sorted(rows) == list(range(30))
        np.testing.assert_array_equal(between, p["recurrent"][np.ix_(rows, rows)])
        if keys is not None:
            assert (np.diff(keys[rows][:15]) <= 0).all()
            assert (np.diff(keys[rows][15:]) <= 0).all()
        else:

            def apart(some):  # of neighbours in a group
                steps = np.linalg.norm(np.diff(of_neurons[some], axis=0), axis=1)
                return steps[np.arange(29) != 14].sum()

            assert apart(rows) < apart(list(range(30)))
    for wrong, words in (("size", "must be one of degree, cluster"), ([1.0], "each of the 30 neurons")):
        with pytest.raises(ValueError, match=words):
            ConnectionProbabilityDisplay.from_estimator(policy, order=wrong)


def test_actions_have_names_or_numbers_and_colours_of_their_own(activity):
    robot = EvolvingConnectivityPolicy(**{**SMALL, "n_generations": 1, "max_episode_steps": 5}).fit("HalfCheetah-v5")
    recorded = record_activity(robot, "HalfCheetah-v5", max_episode_steps=4)
    joints = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
    assert (recorded.action_names, activity.action_names) == (joints, ())
    actions = SpikeRasterDisplay.from_policy_run(recorded).axes_[1]
    assert [text.get_text() for text in actions.get_legend().get_texts()] == list(joints)
    assert len({line.get_edgecolor() for line in actions.patches}) == 6
    unnamed = SpikeRasterDisplay.from_policy_run(recorded._replace(action_names=())).axes_[1]
    assert [text.get_text() for text in unnamed.get_legend().get_texts()] == list("012345")
    many = recorded._replace(actions=np.tile(recorded.actions, (1, 2)), action_names=())
    actions = SpikeRasterDisplay.from_policy_run(many).axes_[1]  # more than there are colours: rows of a picture
    np.testing.assert_array_equal(actions.collections[0].get_array(), many.actions.T)
    assert not actions.patches


def test_energy_is_operations_times_a_cost(activity):
    operations = int(activity.synaptic_operations.sum())
    assert activity.energy() == pytest.approx(operations * 0.9e-12)
    assert activity.energy(1e-13) == pytest.approx(operations * 1e-13)
    with pytest.raises(ValueError, match="joules_per_operation must be a number in"):
        activity.energy(-1.0)


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
    named = {"range": "range", "quartiles": "quartiles", "std": "standard deviation"}[spread]
    for drawn, name in ((display, "two: "), (LearningCurveDisplay.from_policy_run(histories(), spread=spread), "")):
        [entry] = drawn.ax_.get_legend().get_texts()
        assert entry.get_text() == f"{name}mean and {named} of 2 trainings"


def test_steps_are_counted_in_thousands_and_millions():
    for most, words in ((400_000, "200k"), (4_000_000, "2M"), (400, "200")):
        history = [{"n_env_steps": steps, "return_mean": 1.0} for steps in (0, most)]
        display = LearningCurveDisplay.from_policy_run(history, y="return_mean")
        display.figure_.canvas.draw()
        assert words in [text.get_text() for text in display.ax_.get_xticklabels()]
        assert display.ax_.get_legend() is None


def test_unlike_trainings_are_not_averaged(policy):
    other = ESPolicy(n_generations=1, population_size=4, network=GRU(8), max_episode_steps=5).fit("CartPole-v1")
    one = clone(policy).set_params(n_generations=1)
    for unlike, words in (
        (other, "mean of EvolvingConnectivityPolicy on .*CartPole-v1.* and ESPolicy on"),
        (one.fit("Acrobot-v1"), "Acrobot-v1.* Draw each on its own"),
        (clone(one).fit(lambda: gym.make("CartPole-v1", sutton_barto_reward=True)), "sutton_barto_reward=True"),
    ):
        with pytest.raises(ValueError, match=words):
            LearningCurveDisplay.from_policy_run([policy, policy, unlike])
    LearningCurveDisplay.from_policy_run([policy, clone(one).set_params(random_state=1).fit("CartPole-v1")])


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
    for spread in ("all", []):
        with pytest.raises(ValueError, match="spread must be one of"):
            LearningCurveDisplay.from_policy_run(policy, spread=spread)
    for runs in (None, 3, "runs", [None], [3], [["history"]], {"return_mean": 1.0}):
        with pytest.raises(TypeError, match="Wanted fitted policies or their histories"):
            LearningCurveDisplay.from_policy_run(runs)
    with pytest.raises(ValueError, match="no number 'return_mean'"):
        LearningCurveDisplay.from_policy_run([{"return_mean": 1.0}], y="return_mean")


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


def test_the_camera_follows_a_robot_unless_another_one_was_chosen():
    for chosen, seen in (({}, "track"), ({"camera_id": 0}, "track"), ({"camera_id": 1}, "")):
        robot = gym.make("Humanoid-v5", render_mode="rgb_array", **chosen)
        follow(robot)
        assert robot.unwrapped.model.camera(robot.unwrapped.mujoco_renderer.camera_id).name == seen
        robot.close()
    for still in ("Reacher-v5", "CartPole-v1"):  # which have no such camera
        environment = gym.make(still, render_mode="rgb_array")
        follow(environment)
        environment.close()


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


HEIGHT, WIDTH = 48, 64


def picture(height=HEIGHT, width=WIDTH):
    """Colours that say where they are: red grows downwards, green to the right, the right half is blue."""
    y, x = np.mgrid[:height, :width]
    return np.stack([4 * y, 3 * x, 255 * (x >= width // 2)], axis=-1).astype(np.uint8)


class Filmed(gym.Env):
    """Five steps long; shows what it is told to."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (1,), np.float32), gym.spaces.Discrete(2)
    frame = staticmethod(picture)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), 1.0, self.steps >= 5, False, {}

    def render(self):
        return self.frame()


def showing(frame, **attributes):
    """The class of an environment with these frames: an array or a function of the step."""

    def render(self):
        return frame(self.steps) if callable(frame) else frame

    return type("Showing", (Filmed,), {"render": render, **attributes})


class NoArgument(Filmed):
    def __init__(self):
        super().__init__()


class Plain(Filmed):
    render = gym.Env.render


class HumanOnly(Filmed):
    metadata = {"render_modes": ["human"]}  # noqa: RUF012 -- as environments have it

    def __init__(self, render_mode=None):
        if render_mode not in (None, "human"):
            raise KeyError(render_mode)
        super().__init__(render_mode)


@pytest.fixture(scope="module")
def filmed():
    return EvolvingConnectivityPolicy(n_generations=1, population_size=4, network=RSNN(8)).fit(Filmed)


def frames_of(file):
    from moviepy.video.io.VideoFileClip import VideoFileClip

    with VideoFileClip(str(file)) as clip:
        return clip.fps, np.array(list(clip.iter_frames()))


def grey(image):
    return image.mean(axis=-1, keepdims=True).astype(np.uint8)


IMAGE = picture()
GREY = np.broadcast_to(grey(IMAGE), IMAGE.shape)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (Filmed, IMAGE),
        (lambda: Filmed("rgb_array"), IMAGE),
        (lambda **kwargs: Filmed("rgb_array", **kwargs), IMAGE),
        (Filmed("rgb_array"), IMAGE),
        (lambda: gym.wrappers.TimeLimit(Filmed("rgb_array"), 100), IMAGE),
        (gym.wrappers.RenderCollection(Filmed("rgb_array")), IMAGE),
        (showing(GREY[:, :, 0]), GREY),
        (showing(GREY[:, :, :1]), GREY),
        (showing(np.dstack([IMAGE, IMAGE[:, :, :1]])), IMAGE),
        (showing(IMAGE.astype(np.int64)), IMAGE),
        (showing(IMAGE / 255), IMAGE),
        (showing((IMAGE / 255).astype(np.float32)), IMAGE),
        (showing(IMAGE > 127), 255 * (IMAGE > 127)),
        (showing(IMAGE.tolist()), IMAGE),
        (showing(IMAGE[::-1, ::-1]), IMAGE[::-1, ::-1]),
        (showing(lambda step: IMAGE if step % 2 else GREY[:, :, 0]), GREY),
        (showing(picture(47, 63)), np.pad(picture(47, 63), ((0, 1), (0, 1), (0, 0)), mode="edge")),
        (showing(np.full((1, 1, 3), 200, np.uint8)), np.full((2, 2, 3), 200, np.uint8)),
    ],
    ids=[
        "class", "ready", "twice", "instance", "wrapped", "list", "grey", "one channel", "opacity", "int64", "float64",
        "float32", "bool", "nested lists", "reversed", "now and then grey", "odd", "a pixel",
    ],
)  # fmt: skip
def test_every_kind_of_frame_is_filmed(filmed, given, shown, tmp_path):
    [file] = record_video(filmed, given, tmp_path / "a.mp4")
    fps, frames = frames_of(file)
    assert fps == 30
    assert len(frames) == 6  # the first one is that of the reset
    assert frames[0].shape == shown.shape
    assert np.abs(frames[0].astype(int) - shown).mean() < 12  # colours of a video are coarser than the light
    assert [left.name for left in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("metadata", "fps"),
    [
        ({"render_fps": 12}, 12), ({"render_fps": 12.5}, 12.5), ({"render_fps": np.float32(50)}, 50), ({}, 30),
        ({"render_fps": None}, 30), ({"render_fps": 0}, 30), ({"render_fps": -5}, 30), ({"render_fps": "fast"}, 30),
        ({"render_fps": np.nan}, 30), ({"render_fps": np.inf}, 30), (None, 30),
    ],
    ids=str,
)  # fmt: skip
def test_a_video_without_a_speed_has_thirty_frames_a_second(filmed, metadata, fps, tmp_path):
    [file] = record_video(filmed, showing(IMAGE, metadata=metadata), tmp_path / "a.mp4")
    assert frames_of(file)[0] == fps


def breaking(error):
    def render(step):
        raise error

    return render


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Plain, r"<Plain instance> .* render\(\) raised NotImplementedError\."),
        (NoArgument, r"<NoArgument instance> .* raises TypeError: .*unexpected keyword argument 'render_mode'"),
        (lambda: Filmed(), r"<Filmed instance> .* raises TypeError: .*unexpected keyword argument 'render_mode'"),
        (lambda: Filmed("human"), r"<Filmed instance> .* raises TypeError"),
        (Filmed(), "<Filmed instance> .* its render_mode is None"),
        (Filmed("human"), "<Filmed instance> .* its render_mode is 'human'"),
        (lambda render_mode=None: Filmed(), "<Filmed instance> .* its render_mode is None"),
        (HumanOnly, r"<HumanOnly instance> .* raises KeyError: 'rgb_array'"),
        (showing(None), r"<Showing instance> .* render\(\) returned None\."),
        (showing("a map"), r"render\(\) returned a str of <U5"),
        (showing([]), r"render\(\) returned an array of float64 of shape \(0,\)"),
        (showing([[1, 2], [3]]), r"render\(\) returned .*inhomogeneous"),
        (showing(np.zeros((0, 64, 3), np.uint8)), r"an array of uint8 of shape \(0, 64, 3\)"),
        (showing(np.zeros((3, 48, 64), np.uint8)), r"an array of uint8 of shape \(3, 48, 64\)"),
        (showing(np.zeros((48, 64, 2), np.uint8)), r"an array of uint8 of shape \(48, 64, 2\)"),
        (showing(np.zeros((2, 48, 64, 3), np.uint8)), r"shape \(2, 48, 64, 3\)"),
        (showing(np.uint8(3)), r"shape \(\)"),
        (showing(np.full((48, 64, 3), 200.0)), "numbers from 200.0 to 200.0, of which 0 to 1 are known"),
        (showing(np.full((48, 64, 3), np.nan)), "numbers from nan to nan"),
        (showing(np.full((48, 64, 3), -1)), "numbers from -1 to -1, of which 0 to 255 are known"),
        (showing(np.full((48, 64, 3), 1j)), "complex128"),
        (showing(np.full((48, 64), None)), "object"),
        (showing(lambda step: picture(48, 64 + 2 * (step > 2))), r"had the shape \(48, 64, 3\), .* has \(48, 66, 3\)"),
        (showing(lambda step: picture() if step < 3 else None), r"render\(\) returned None"),
        (showing(breaking(RuntimeError("no screen"))), r"render\(\) raised RuntimeError: no screen"),
        (showing(breaking(OSError())), r"render\(\) raised OSError\."),
    ],
)  # fmt: skip
def test_an_environment_that_cannot_be_rendered_is_named(filmed, given, said, tmp_path):
    with pytest.raises(ValueError, match=said) as caught:
        record_video(filmed, given, tmp_path / "new" / "a.mp4", n_episodes=2)
    assert "cannot be filmed" in str(caught.value)
    assert 'render_mode="rgb_array"' in str(caught.value)
    assert not [left for left in tmp_path.rglob("*") if left.is_file()]


@pytest.mark.parametrize("kind", [NoArgument, HumanOnly, Plain])
def test_ids_that_cannot_be_rendered_are_named(filmed, kind, tmp_path):
    gym.register("Probe/Unseen-v0", kind)
    try:
        for given in ("Probe/Unseen-v0", gym.spec("Probe/Unseen-v0")):
            with pytest.raises(ValueError, match=r"Probe/Unseen-v0.* cannot be filmed"):
                record_video(filmed, given, tmp_path / "a.mp4")
    finally:
        gym.registry.pop("Probe/Unseen-v0")
    assert not list(tmp_path.iterdir())


def test_modes_that_metadata_leave_out_are_filmed(filmed, tmp_path):
    gym.register("Probe/Modest-v0", type("Modest", (Filmed,), {"metadata": {"render_modes": ["human"]}}))
    try:
        [file] = record_video(filmed, "Probe/Modest-v0", tmp_path / "a.mp4")
    finally:
        gym.registry.pop("Probe/Modest-v0")
    assert frames_of(file)[1].shape == (6, HEIGHT, WIDTH, 3)


class Fails(Filmed):
    """Raises where it is told to, and once more when it is closed."""

    where = ""

    def __getattribute__(self, name):
        if name == super().__getattribute__("where"):
            raise ZeroDivisionError(name)
        return super().__getattribute__(name)

    def close(self):
        raise OSError("cannot be closed")


@pytest.mark.filterwarnings("ignore:.*cannot be closed:RuntimeWarning")
@pytest.mark.parametrize("where", ["reset", "step"])
def test_errors_of_the_environment_come_out_as_they_are(filmed, where, tmp_path):
    failing = type("FailsThere", (Fails,), {"where": where})
    for act in (lambda: record_video(filmed, failing, tmp_path / "a.mp4"), lambda: record_activity(filmed, failing)):
        with pytest.raises(ZeroDivisionError, match=where):
            act()
    assert not list(tmp_path.iterdir())


def test_an_environment_that_cannot_be_closed_is_a_warning(filmed, tmp_path):
    with pytest.warns(RuntimeWarning, match="cannot be closed"):
        [file] = record_video(filmed, Fails, tmp_path / "a.mp4")
    assert len(frames_of(file)[1]) == 6
    with pytest.warns(RuntimeWarning, match="cannot be closed"):
        record_activity(filmed, Fails)


def test_a_video_that_cannot_be_written_leaves_nothing(filmed, tmp_path, monkeypatch):
    from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter

    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(IsADirectoryError):
        record_video(filmed, Filmed, tmp_path / "folder.mp4")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        record_video(filmed, Filmed, tmp_path / "file" / "a.mp4")

    def full(self, image):
        raise OSError("No space left on device")

    def unclosed(self):
        close(self)
        raise RuntimeError("cannot be closed")

    close = FFMPEG_VideoWriter.close
    monkeypatch.setattr(FFMPEG_VideoWriter, "write_frame", full)
    monkeypatch.setattr(FFMPEG_VideoWriter, "close", unclosed)
    with pytest.raises(OSError, match="No space left"):
        record_video(filmed, Filmed, tmp_path / "a.mp4")
    assert sorted(left.name for left in tmp_path.iterdir()) == ["file", "folder.mp4"]


def test_measures_that_are_not_taken_every_time_are_passed_over():
    history = [{"n_env_steps": 10 * k, "deployed_return": float(k) if k % 2 else None} for k in range(1, 6)]
    line = LearningCurveDisplay.from_policy_run([history], y="deployed_return").ax_.lines[0]
    np.testing.assert_allclose(line.get_ydata(), line.get_xdata() / 10)


def test_displays_of_probabilities_are_for_those_who_have_them():
    es = ESPolicy(n_generations=1, population_size=4, max_episode_steps=5, network=RealRSNN(8))
    with pytest.raises(TypeError, match="ProbabilityHistogram counts connection probabilities"):
        es.fit("CartPole-v1", callbacks=ProbabilityHistogram())
    with pytest.raises(TypeError, match="ESPolicy has no connection probabilities"):
        ConnectionProbabilityDisplay.from_estimator(es.fit("CartPole-v1"))


def test_wrong_numbers_of_steps_are_named(policy, activity, tmp_path):
    with pytest.raises(ValueError, match="n_steps must be an integer"):
        SpikeRasterDisplay.from_policy_run(activity, n_steps=0)
    for display in (SpikeRasterDisplay, FiringRateDisplay):
        for wrong in (1.5, "first", None):
            with pytest.raises(TypeError, match="first_step must be an integer"):
                display.from_policy_run(activity, first_step=wrong)
    for wrong, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (None, TypeError)):
        with pytest.raises(error, match="bins must be an integer"):
            FiringRateDisplay.from_policy_run(activity, bins=wrong)
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
