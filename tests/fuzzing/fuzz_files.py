"""Load thousands of damaged and hostile model files: each is refused by ModelFileError, or gives a policy that acts.

python tests/fuzzing/fuzz_files.py [--files 10000] [--seed 0] [--keep folder]

Small policies of all three estimators are saved, with and without their training state, and mutated in the ways of
``mutations.py``, as are files of earlier versions. While a mutant is loaded, Python's audit events tell whether code is
run, a module imported, a process started, a file written or a connection opened: all that is allowed is to open the
file itself. Also found are all exceptions but ModelFileError, warnings, loads that take long or much memory, and
policies that load but neither act nor say why not in a ValueError. The exit status is 1 if anything was found; the
mutants concerned are kept. A crash of the interpreter leaves its mutant too.
"""

import argparse
import faulthandler
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces

import ecpolicy
from ecpolicy import ESPolicy, EvolvingConnectivityPolicy, ModelFileError, SurrogateGradientPPOPolicy
from ecpolicy.networks import GRU, LSTM, RSNN, RealRSNN
from forging import Case
from mutations import mutated

OLD_FILES = Path(__file__).parent.parent / "data" / "files"
SECONDS, MEBIBYTES = 5.0, 512  # that a load or an action may take

SMALL = {"random_state": 0, "eval_episodes": 1}
SEARCH = {**SMALL, "network": RSNN(8, step_ms=2.0), "population_size": 4, "n_generations": 2, "confirm_episodes": 1}
WEIGHTS = RealRSNN(8, step_ms=2.0)
PPO = {**SMALL, "network": WEIGHTS, "n_envs": 2, "n_steps": 4, "n_epochs": 1, "max_env_steps": 16, "eval_every": 1}
VECTOR, IMAGE = spaces.Box(-1, 1, (3,), np.float32), spaces.Box(0, 255, (2, 2, 3), np.uint8)
MIXED = spaces.Dict(
    a=spaces.Discrete(3, start=-1),
    b=spaces.Tuple([VECTOR, spaces.MultiBinary([2, 2])]),
    c=spaces.Text(4, charset="abc"),
    d=spaces.OneOf([spaces.Discrete(2), spaces.MultiDiscrete([2, 3])]),
)
FORCE = spaces.Box(np.float32([-2, 0]), np.float32([2, np.inf]))
POLICIES = [
    (EvolvingConnectivityPolicy(**SEARCH), VECTOR, spaces.Discrete(2)),
    (EvolvingConnectivityPolicy(**{**SEARCH, "network": RSNN(65, step_ms=2.0)}, optimizer="sgd"), MIXED, FORCE),
    (EvolvingConnectivityPolicy(**SEARCH), IMAGE, spaces.MultiDiscrete([2, 3], start=[1, -1])),
    (ESPolicy(**SEARCH | {"network": WEIGHTS}), IMAGE, spaces.MultiBinary(2)),
    (ESPolicy(**SEARCH | {"network": GRU(8)}), MIXED, FORCE),
    (ESPolicy(**SEARCH | {"network": LSTM(8)}), VECTOR, spaces.Discrete(3, start=2)),
    (SurrogateGradientPPOPolicy(**PPO), VECTOR, FORCE),
    (SurrogateGradientPPOPolicy(**PPO, critic="spiking"), MIXED, spaces.Discrete(2)),
    (SurrogateGradientPPOPolicy(**PPO, critic="shared"), IMAGE, spaces.MultiBinary([2, 1])),
]


class Random(gym.Env):
    """Four steps of observations and rewards that mean nothing."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t += 1
        return self.observation_space.sample(), float(self.np_random.random()), self.t >= 4, False, {}


class TooLong(BaseException):
    """A load or an action takes longer than it may; not an Exception, which the reader could take for damage."""


class Audit:
    """Python's audit events while it is listening, apart from those of loading a plain file."""

    def __init__(self):
        self.path, self.events = None, []  # the file that may be opened
        sys.addaudithook(self._hear)

    def _hear(self, event, arguments):
        if self.path is None or event in ("builtins.id", "object.__getattr__"):  # scikit-learn reads a signature
            return
        if event == "open" and arguments[:2] == (self.path, "r"):
            return
        self.events.append(f"{event}{arguments}"[:300])

    @contextmanager
    def listening(self, path):
        self.path, self.events = str(path), []
        try:
            yield
        finally:
            self.path = None


class Trial(NamedTuple):
    """What came of a file."""

    outcome: str
    findings: list[str]  # what must not happen
    seconds: float = 0.0


@contextmanager
def limited():
    """Raise TooLong where something takes too long, and MemoryError where it wants too much memory (on Linux)."""

    def late(number, frame):
        raise TooLong(f"more than {SECONDS} s")

    statm, unlimited = Path("/proc/self/statm"), resource.getrlimit(resource.RLIMIT_AS)
    previous = signal.signal(signal.SIGALRM, late)
    try:
        if statm.exists():
            in_use = int(statm.read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (in_use + (MEBIBYTES << 20), unlimited[1]))
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, unlimited)
        signal.signal(signal.SIGALRM, previous)


def attempted(call, expected, context=nullcontext()):  # noqa: B008
    """What a call returns, the error that it raised, and what was found wrong with it."""
    result = raised = None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            with limited(), context:
                result = call()
        except (Exception, TooLong) as error:
            raised = error
    findings = [f"warned: {warning.category.__name__}: {warning.message}" for warning in warned]
    if raised is not None and not isinstance(raised, expected):
        findings.append("".join(traceback.format_exception(raised)))
    return result, raised, findings


def load(audit, read, path, marker):
    """Load a file with ``read`` and tell what happened; the policy, where there is one."""
    began = time.perf_counter()
    policy, refusal, findings = attempted(lambda: read(path), ModelFileError, audit.listening(path))
    seconds = time.perf_counter() - began
    findings += [f"code executed: {event}" for event in audit.events]
    if marker.exists():
        findings.append("code executed: the marker was created")
        marker.unlink()
    if seconds > SECONDS:  # of compiled code, which no signal interrupts
        findings.append(f"took {seconds:.1f} s")
    if "MemoryError" in str(refusal):
        findings.append(f"wanted more than {MEBIBYTES} MiB: {refusal}")
    if len(str(refusal)) > 2000 or not str(refusal).isprintable():
        findings.append(f"a message that no terminal should show, of {len(str(refusal))} characters")
    return policy, Trial("refused" if isinstance(refusal, ModelFileError) else "failed", findings, seconds)


def act(policy, seed):
    """Let a policy act on a sampled observation."""
    observation_space, action_space = policy.observation_space_, policy.action_space_
    try:
        with warnings.catch_warnings(action="ignore"), limited():
            observation_space.seed(seed)
            observation = observation_space.sample()
    except (Exception, TooLong):  # Gymnasium cannot sample bounds near the largest number
        return Trial("loaded, its observations cannot be sampled", [])
    findings, outcome = [], "loaded, acts"
    for deterministic in (True, False):
        call = lambda how=deterministic: policy.predict(observation, deterministic=how)[0]  # noqa: E731
        action, refusal, found = attempted(call, ValueError)
        findings += found
        if refusal:
            outcome = "loaded, ValueError"
        elif not found and not action_space.contains(action):
            findings.append(f"the action {action!r} is not in {action_space}")
    return Trial(outcome, findings)


def saved(folder):
    """Files of fitted policies, by class: of this version, whole and without training state, and of earlier ones."""
    paths = sorted(OLD_FILES.glob("*/*.ecp"))
    for i, (policy, observation_space, action_space) in enumerate(POLICIES):
        policy.fit(lambda o=observation_space, a=action_space: Random(o, a))
        for training_state in (True, False):
            paths.append(folder / f"original-{i}-{training_state}.ecp")
            policy.save(paths[-1], training_state=training_state)
    files = {}
    for path in paths:
        policy = ecpolicy.load(path)
        act(policy, 0)  # whatever is imported or compiled late has been by now
        files.setdefault(type(policy), []).append(path.read_bytes())
    return files


def complaint_of(read, path):
    """A function that says what a reader has against a file with this content."""

    def complaint(content):
        path.write_bytes(content)
        try:
            read(path)
        except ModelFileError as error:
            return str(error)
        return ""

    return complaint


def mutants(files, originals, seed, folder):
    """So many mutants of files of all classes: the class, the kind of mutation and the content of each."""
    everything = [content for contents in originals.values() for content in contents]
    for i in range(files):
        cls = list(originals)[i % len(originals)]
        rng = np.random.default_rng([seed, i])
        content = originals[cls][rng.integers(len(originals[cls]))]
        complaint = complaint_of(cls.load, folder / "asked.ecp")
        yield cls, *mutated(Case(rng, content, everything, str(folder / "marker"), complaint))


def run(files, seed, folder, keep):
    """Mutate, load and act: outcomes by kind of mutation, the slowest load, and how many were handled wrongly."""
    audit, path, outcomes, slowest, wrong = Audit(), keep / "mutant.ecp", {}, 0.0, 0
    for i, (cls, kind, content) in enumerate(mutants(files, saved(folder), seed, folder)):
        path.write_bytes(content)
        policy, trial = load(audit, ecpolicy.load if i % 4 == 0 else cls.load, path, folder / "marker")
        if policy is not None:
            acted = act(policy, i)
            trial = trial._replace(outcome=acted.outcome, findings=trial.findings + acted.findings)
        outcomes.setdefault(kind, Counter())[trial.outcome] += 1
        slowest = max(slowest, trial.seconds)
        if trial.findings:
            wrong += 1
            kept = path.replace(keep / f"{i}-{kind}-{cls.__name__}.ecp")
            print(f"{kept}:", *trial.findings, sep="\n    ", flush=True)
    path.unlink(missing_ok=True)
    return outcomes, slowest, wrong


def report(outcomes: dict[str, Counter[Any]]):
    names = sorted({outcome for counted in outcomes.values() for outcome in counted}, reverse=True)
    print(f"{'mutation':20} {'files':>6}", *(f"{name:>20}" for name in names))
    for kind, counted in [*sorted(outcomes.items()), ("all", sum(outcomes.values(), Counter()))]:
        print(f"{kind:20} {counted.total():>6}", *(f"{counted[name]:>{max(20, len(name))}}" for name in names))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the mutants that are handled wrongly; default: a new one")
    arguments = parser.parse_args()
    faulthandler.enable()
    keep = arguments.keep or Path(tempfile.mkdtemp(prefix="fuzz-files-"))
    keep.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        outcomes, slowest, wrong = run(arguments.files, arguments.seed, Path(folder), keep)
    report(outcomes)
    print(f"slowest load {slowest:.2f} s; {time.perf_counter() - began:.0f} s in all")
    print(f"{wrong} of {arguments.files} files were handled wrongly" + (f"; they are in {keep}" if wrong else ""))
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
