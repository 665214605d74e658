"""Signals are everybody's: Ctrl-C that is ignored stays so, and another one's alarm rings when it is due."""

import os
import signal
import subprocess
import sys
import threading
import time

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium import spaces

from ecpolicy import EpisodeError, EvolvingConnectivityPolicy
from ecpolicy.networks import RSNN
from ecpolicy.rollout.time_limit import TimeLimitError, can_limit, time_limit
from probes import Hangs, Match


class Slow(gym.Env):
    """An episode is one step of 0.1 s."""

    observation_space, action_space = spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        time.sleep(0.1)
        return np.zeros(1, np.float32), 1.0, True, False, {}


SLOW = {"n_generations": 2, "population_size": 8, "network": RSNN(8), "eval_episodes": 1, "confirm_episodes": 1}


@pytest.fixture
def alarm():
    """Sets the alarm and gives the list of times, after that, at which it rang; all is undone in the end."""
    handler, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    rang = []

    def start(first, interval=0.0, handler=None):
        began = time.monotonic()
        given = (lambda *_: rang.append(time.monotonic() - began)) if handler is None else handler
        signal.signal(signal.SIGALRM, given)
        signal.setitimer(signal.ITIMER_REAL, first, interval)
        return rang

    yield start
    signal.setitimer(signal.ITIMER_REAL, *timer)
    signal.signal(signal.SIGALRM, handler)


@pytest.fixture
def sigint():
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def left():
    return signal.getitimer(signal.ITIMER_REAL)


# Ctrl-C


def test_an_ignored_interrupt_stays_ignored(small, sigint):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    seen = []

    def press(view):
        seen.append(signal.getsignal(signal.SIGINT))
        signal.raise_signal(signal.SIGINT)

    policy = EvolvingConnectivityPolicy(**small).fit(Match, callbacks=press)
    assert policy.stop_reason_ == "n_generations"
    assert set(seen) == {signal.SIG_IGN}
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_ctrl_c_is_answered_at_once(small, sigint, capsys):
    said = []

    def press(view):
        signal.raise_signal(signal.SIGINT)
        said.append(capsys.readouterr().err)

    with pytest.warns(UserWarning, match="Interrupted"):
        EvolvingConnectivityPolicy(**small).fit(Match, callbacks=press)
    assert said == [
        "Ctrl-C: fit ends after the generation under way. Ctrl-C again ends it at once, without this generation.\n"
    ]


def not_from_python(monkeypatch, number):
    """Make Python see a handler of this signal that was not set from Python."""
    known, change = signal.getsignal, signal.signal

    def refuse(given, handler):
        if given == number:
            if handler is None or not (callable(handler) or handler in (signal.SIG_IGN, signal.SIG_DFL)):
                raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")
            return None
        return change(given, handler)

    monkeypatch.setattr(signal, "getsignal", lambda given: None if given == number else known(given))
    monkeypatch.setattr(signal, "signal", refuse)


def test_a_handler_of_ctrl_c_that_is_not_pythons_is_left_alone(small, monkeypatch):
    not_from_python(monkeypatch, signal.SIGINT)
    policy = EvolvingConnectivityPolicy(**small).fit(Match)
    assert policy.stop_reason_ == "n_generations"


# Alarms


def test_an_alarm_rings_in_the_middle_of_a_fit(alarm):
    rang = alarm(0.45)
    began = time.monotonic()
    EvolvingConnectivityPolicy(**SLOW, timeout=60).fit(Slow)
    assert time.monotonic() - began > 1
    assert rang == [pytest.approx(0.45, abs=0.1)]
    assert left() == (0.0, 0.0)


@pytest.mark.parametrize("seconds", [5.0, None])
def test_alarms_with_an_interval_keep_it(alarm, seconds):
    rang = alarm(0.1, 0.2)
    with time_limit(seconds):
        time.sleep(0.45)
    assert rang == pytest.approx([0.1, 0.3], abs=0.08)
    remaining, interval = left()
    assert interval == pytest.approx(0.2)
    assert 0 < remaining < 0.1
    time.sleep(0.2)
    assert rang == pytest.approx([0.1, 0.3, 0.5], abs=0.08)


def test_what_is_left_of_an_alarm_is_less_by_what_has_passed(alarm):
    rang = alarm(10.0, 3.0)
    with time_limit(5.0):
        time.sleep(0.2)
    assert left() == (pytest.approx(9.8, abs=0.1), pytest.approx(3.0))
    assert rang == []


def test_a_limit_holds_also_after_another_alarm_and_leaves_it_running(alarm):
    rang = alarm(0.1, 0.15)
    began = time.monotonic()
    with pytest.raises(TimeLimitError, match=r"timeout=0\.3 s"), time_limit(0.3):
        time.sleep(5)
    assert time.monotonic() - began == pytest.approx(0.3, abs=0.1)
    time.sleep(0.2)
    assert rang == pytest.approx([0.1, 0.25, 0.4], abs=0.08)


def test_a_limit_alone_leaves_no_alarm(alarm):
    rang = alarm(0.0)
    handler = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeLimitError), time_limit(0.05):
        time.sleep(5)
    with time_limit(5.0):
        pass
    assert left() == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is handler
    assert rang == []


def test_limits_within_limits(alarm):
    rang = alarm(0.1, 0.1)
    began = time.monotonic()
    with pytest.raises(TimeLimitError, match=r"timeout=0\.45 s"), time_limit(0.45):  # noqa: PT012
        with pytest.raises(TimeLimitError, match=r"timeout=0\.15 s"), time_limit(0.15):
            time.sleep(5)
        assert time.monotonic() - began == pytest.approx(0.15, abs=0.08)
        with time_limit(None), time_limit(9.0):
            time.sleep(5)
    assert time.monotonic() - began == pytest.approx(0.45, abs=0.08)
    assert rang == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.08)
    assert left() == (pytest.approx(0.05, abs=0.05), pytest.approx(0.1))


def test_an_alarm_that_is_ignored_stays_ignored(alarm):
    alarm(0.05, 0.3, handler=signal.SIG_IGN)
    with pytest.raises(TimeLimitError), time_limit(0.2):
        time.sleep(5)
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_IGN
    assert left() == (pytest.approx(0.15, abs=0.08), pytest.approx(0.3))


@pytest.mark.parametrize(("first", "limit", "said"), [(0.2, 9.0, ""), (0.6, 0.2, "too long\nwent on\n")])
def test_an_alarm_without_a_handler_ends_the_process_when_it_is_due(first, limit, said):
    program = f"""
import signal, time
from ecpolicy.rollout.time_limit import TimeLimitError, time_limit
signal.setitimer(signal.ITIMER_REAL, {first})
try:
    with time_limit({limit}):
        time.sleep(5)
except TimeLimitError:
    print("too long", flush=True)
print("went on", flush=True)
time.sleep(5)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (-signal.SIGALRM, said)


def test_an_alarm_sent_by_someone_rings_at_once(alarm):
    rang = alarm(0.0)
    with time_limit(5.0):
        signal.raise_signal(signal.SIGALRM)
        assert len(rang) == 1
    assert left() == (0.0, 0.0)


def test_a_watchdog_that_is_put_off_inside_rings_later(alarm):
    rang = alarm(0.3)
    with time_limit(5.0):
        for _ in range(4):
            time.sleep(0.1)
            signal.setitimer(signal.ITIMER_REAL, 0.3)
    assert rang == []
    time.sleep(0.4)
    assert rang == [pytest.approx(0.7, abs=0.1)]


def test_a_handler_may_set_the_alarm_and_itself_anew(alarm):
    rang = []

    def second(number, frame):
        rang.append("second")

    def first(number, frame):
        rang.append("first")
        signal.signal(signal.SIGALRM, second)
        signal.setitimer(signal.ITIMER_REAL, 0.1)

    alarm(0.1, handler=first)
    with pytest.raises(TimeLimitError), time_limit(0.4):
        time.sleep(5)
    assert rang == ["first", "second"]
    assert signal.getsignal(signal.SIGALRM) is second


def test_a_handler_that_is_not_pythons_is_left_alone(small, monkeypatch):
    assert can_limit()
    not_from_python(monkeypatch, signal.SIGALRM)
    assert not can_limit()
    with time_limit(0.01):
        time.sleep(0.05)
    with time_limit(None):
        pass


def test_there_is_no_limit_in_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(can_limit()))
    thread.start()
    thread.join()
    assert found == [False]


class RangError(Exception):
    pass


@pytest.mark.parametrize("kind", [RangError, TimeoutError, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("timeout", [60, None])
def test_what_an_alarm_raises_is_not_the_environments_error(alarm, kind, timeout):
    error = kind("the watchdog barked")

    def bark(number, frame):
        raise error

    alarm(0.25, handler=bark)
    with pytest.raises(kind) as caught:
        EvolvingConnectivityPolicy(**SLOW, timeout=timeout).fit(Slow)
    assert caught.value is error
    assert signal.getsignal(signal.SIGALRM) is bark


def test_an_environment_that_hangs_is_named_also_under_a_watchdog(alarm):
    rang = alarm(0.1, 0.1)
    with pytest.raises(EpisodeError, match=r"The environment hangs: .* timeout=0\.3 s at step 3"):
        EvolvingConnectivityPolicy(**SLOW, timeout=0.3).fit(Hangs)
    assert len(rang) >= 2


# Ctrl-C twice, at a terminal


def workers(pid):
    children = psutil.Process(pid).children(recursive=True)
    return [child for child in children if any("popen_loky" in word for word in child.cmdline())]


@pytest.mark.parametrize("command", ["CartPole-v1", "Hopper-v5 --engine mujoco"], ids=["processes", "threads"])
def test_a_second_ctrl_c_ends_it_without_a_traceback(tmp_path, command):
    endless = ["--n-jobs", "2", "--population-size", "100_000", "--max-env-steps", "1e9"]
    arguments = [sys.executable, "-m", "ecpolicy", "train", *command.split(), *endless]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    with subprocess.Popen(arguments, start_new_session=True, **piped) as process:
        assert "engine" in process.stderr.readline()  # the first generation is about to begin
        if command == "CartPole-v1":
            while len(workers(process.pid)) < 2:
                time.sleep(0.01)
            time.sleep(0.3)  # they import
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr.readline().startswith("Ctrl-C: fit ends after the generation under way.")
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")


def test_after_one_ctrl_c_the_command_that_goes_on_is_printed(tmp_path):
    command = ["train", "CartPole-v1", "--population-size", "64", "--score-threshold", "none", "--max-env-steps", "1e9"]
    arguments = [sys.executable, "-m", "ecpolicy", *command, "--overwrite"]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    with subprocess.Popen(arguments, **piped) as process:
        assert "engine" in process.stderr.readline()
        assert process.stderr.readline().startswith("generation")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith(f"next:\n  ecpolicy {' '.join(command)} --resume\n")
