"""Pages that play an episode: what they hold, and that a browser plays it."""

import base64
import json
import re
import shutil
import subprocess

import gymnasium as gym
import numpy as np
import pytest

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy, pretrained
from ecpolicy.cli import main
from ecpolicy.inspection import record_activity, record_page
from ecpolicy.networks import GRU, RSNN, RealRSNN

STEPS = 30
SMALL = {"population_size": 2, "n_generations": 1, "random_state": 0}


def episode_of(page):
    found = re.search(r'<script type="application/json" id="episode">(.*?)</script>', page.read_text(encoding="utf-8"))
    return json.loads(found[1])


def bits(text, shape):
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=int(np.prod(shape))).reshape(shape)


def in_browser(page, fragment, milliseconds=1500):
    """Attributes of the page's body after so much of its own time."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--virtual-time-budget={milliseconds}"]
    shown = subprocess.run(
        [*command, "--dump-dom", f"{page.as_uri()}#{fragment}"], capture_output=True, text=True, timeout=120, check=True
    )
    return dict(re.findall(r'data-(\w+)="([^"]*)"', re.search(r"<body[^>]*>", shown.stdout)[0]))


browser = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("pages") / "new" / "cartpole.html"
    assert record_page(pretrained("CartPole-v1"), "CartPole-v1", path, seed=3, max_episode_steps=STEPS) == path
    return path


@pytest.fixture(scope="module")
def activity():
    return record_activity(pretrained("CartPole-v1"), "CartPole-v1", seed=3, max_episode_steps=STEPS)


def test_page_holds_the_episode(page, activity):
    found = episode_of(page)
    np.testing.assert_array_equal(bits(found["spikes"], activity.spikes.shape), activity.spikes)
    np.testing.assert_array_equal(found["actions"], [activity.actions])
    np.testing.assert_array_equal(found["rewards"], activity.rewards)
    assert found["title"] == f"CartPole-v1: a return of {STEPS}.0 in {STEPS} steps"
    assert found["fps"] == gym.make("CartPole-v1").metadata["render_fps"]
    assert base64.b64decode(found["video"].removeprefix("data:video/mp4;base64,"))[4:8] == b"ftyp"
    policy = pretrained("CartPole-v1")
    for name, present in policy.connectivity_.items():
        values = np.frombuffer(base64.b64decode(found["wiring"][name]["values"]), np.int8).reshape(present.shape)
        np.testing.assert_array_equal(values != 0, present)
        if name != "input":
            np.testing.assert_array_equal(values > 0, present & policy.excitatory_[:, None])
    assert [file.name for file in page.parent.iterdir()] == [page.name]


@browser
def test_browser_shows_the_spikes_of_a_step(page, activity):
    assert in_browser(page, "step=7") == {"step": "7", "spikes": str(activity.spikes[7].sum())}
    assert in_browser(page, "step=1000")["step"] == str(STEPS - 1)


@browser
def test_browser_plays(page, activity):
    found = in_browser(page, "play", milliseconds=5000)
    assert int(found["step"]) > 0
    assert int(found["spikes"]) == activity.spikes[int(found["step"])].sum()


@browser
def test_page_of_real_weights_and_of_more_actions_than_colors(tmp_path):
    policy = ESPolicy(network=RealRSNN(9, dt=4.0), **SMALL)

    def many():
        pendulum, box = gym.make("Pendulum-v1"), gym.spaces.Box(-2, 2, (9,), np.float32)
        return gym.wrappers.TransformAction(pendulum, lambda action: action[:1], box)

    path = record_page(policy.fit(many), many, tmp_path / "page.html", max_episode_steps=5, video=False)
    found = episode_of(path)
    assert (found["excitatory"], found["video"], len(found["actions"])) == (None, None, 9)
    shape = (5, policy.network.substeps, 9)
    assert in_browser(path, "step=4")["spikes"] == str(bits(found["spikes"], shape)[4].sum())


def test_wrong_pages(tmp_path):
    policy = EvolvingConnectivityPolicy(network=RSNN(8), **SMALL).fit("CartPole-v1")
    with pytest.raises(ValueError, match=r'ends in "\.html", got .*page\.htm'):
        record_page(policy, "CartPole-v1", tmp_path / "page.htm")
    with pytest.raises(ValueError, match="max_episode_steps"):
        record_page(policy, "CartPole-v1", tmp_path / "page.html", max_episode_steps=0)
    with pytest.raises(ValueError, match="cannot be filmed"):
        record_page(policy, gym.make("CartPole-v1"), tmp_path / "page.html")
    with pytest.raises(TypeError, match="GRU has no spikes"):
        record_page(ESPolicy(network=GRU(4), **SMALL).fit("CartPole-v1"), "CartPole-v1", tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["view", "pretrained:CartPole-v1", "--max-steps", "3", "--no-video"]) == 0
    assert capsys.readouterr().out == "CartPole-v1.html\n"
    assert episode_of(tmp_path / "CartPole-v1.html")["steps"] == 3
