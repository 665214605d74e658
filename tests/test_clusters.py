"""Dask and Ray clusters, started for real: equal results, lost workers, tasks that cannot be finished."""

import logging
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from joblib import parallel_config
from joblib.pool import PicklingPool
from sklearn.model_selection import GridSearchCV

from ecpolicy import EpisodeError, EvolvingConnectivityPolicy
from ecpolicy.networks import RSNN
from ecpolicy.rollout import engines
from ecpolicy.rollout.episodes import Networks
from faults import KillsWorkers
from learnt import fingerprint
from probes import Board, Broken, Dies, Hangs, Lengths, Match, NotesItsProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
SMALL = {"network": RSNN(32), "population_size": 80, "n_generations": 3, "confirm_episodes": 4, "random_state": 0}


@pytest.fixture(scope="module")
def dask_cluster():
    """Two worker processes of one thread each."""
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    settings = {
        "distributed.scheduler.allowed-failures": 1,
        "distributed.comm.timeouts.connect": "10s",
        "distributed.deploy.lost-worker-timeout": "1h",  # one that is starting when it is looked for is closed for good
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def ray_cluster():
    """Two worker processes, which find the tests' modules as this process does."""
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    register_ray()
    bases = PicklingPool.__bases__  # Ray's backend puts its own pool there, for all later pools of multiprocessing
    tests = Path(__file__).parent
    with pytest.MonkeyPatch.context() as patch:  # in a runtime_env, workers that Ray starts beforehand are of no use
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tests), str(tests.parent / "benchmarks")]))
        patch.setenv("RAY_worker_niceness", "0")  # it is 15: whatever else is running would have the cores
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()
    PicklingPool.__bases__ = bases


@pytest.fixture(params=["dask", "ray"])
def cluster(request):
    """The name of a joblib backend whose cluster is running."""
    request.getfixturevalue(f"{request.param}_cluster")
    return request.param


@pytest.fixture(scope="module")
def expected():
    return fingerprint(EvolvingConnectivityPolicy(**SMALL).fit([Lengths, Match]))


def test_a_cluster_does_not_change_the_result(cluster, expected):
    policy = EvolvingConnectivityPolicy(**SMALL)
    with parallel_config(backend=cluster, n_jobs=-1):
        assert fingerprint(policy.fit([Lengths, Match])) == expected
        on_cluster = played(policy)
    for ours, theirs in zip(on_cluster, played(policy), strict=True):
        np.testing.assert_array_equal(ours.returns, theirs.returns)
        np.testing.assert_array_equal(ours.lengths, theirs.lengths)


def played(policy):
    """Episodes of a callable and of an instance, whole and cut."""
    return [
        policy.evaluate(environment, n_episodes=9, max_episode_steps=limit)
        for environment in (Lengths, Lengths())
        for limit in (None, 4)
    ]


@pytest.mark.parametrize("environment", [Board(np.zeros(4)), partial(Board, np.zeros(4))], ids=["instance", "partial"])
def test_arrays_of_environments_can_be_written_to(cluster, environment, expected_of_match):
    policy = EvolvingConnectivityPolicy(**SMALL)
    with parallel_config(backend=cluster):
        assert fingerprint(policy.set_params(n_jobs=2).fit(environment)) == expected_of_match


@pytest.fixture(scope="module")
def expected_of_match():
    return fingerprint(EvolvingConnectivityPolicy(**SMALL).fit(Match))


def test_episodes_are_played_on_the_cluster(cluster, tmp_path):
    with parallel_config(backend=cluster, n_jobs=-1):
        EvolvingConnectivityPolicy(**SMALL).fit(lambda: NotesItsProcess(tmp_path))
    processes = {int(path.name) for path in tmp_path.iterdir()}
    assert os.getpid() not in processes
    assert len(processes) == 2


def test_one_job_stays_at_home(cluster, tmp_path):
    with parallel_config(backend=cluster, n_jobs=-1):
        EvolvingConnectivityPolicy(**SMALL, n_jobs=1).fit(lambda: NotesItsProcess(tmp_path))
    assert {int(path.name) for path in tmp_path.iterdir()} == {os.getpid()}


@pytest.mark.parametrize(("cluster", "n_jobs"), [("dask", None), ("dask", 1), ("ray", None)], indirect=["cluster"])
def test_searches_run_on_the_cluster(cluster, n_jobs):
    """With n_jobs=None the populations of the candidates do so too (on Dask; Ray's tasks keep theirs to themselves)."""
    policy = EvolvingConnectivityPolicy(**{**SMALL, "n_generations": 2}, n_jobs=n_jobs)
    grid = {"learning_rate": [0.05, 0.3]}
    expected = GridSearchCV(policy, grid, cv=2).fit([Lengths, Match]).cv_results_["mean_test_score"]
    with parallel_config(backend=cluster, n_jobs=2):
        search = GridSearchCV(policy, grid, cv=2).fit([Lengths, Match])
    assert search.cv_results_["mean_test_score"].tolist() == expected.tolist()


def test_rho_is_sent_once_a_generation(cluster, monkeypatch):
    """Everything that is sent with a task is small; parameters are shared once for all tasks of a generation."""
    import cloudpickle

    shared, sent = [], []
    for kind in (engines.DaskEngine, engines.RayEngine):
        share, run = kind.share, kind.run
        monkeypatch.setattr(kind, "share", lambda self, value, share=share: shared.append(value) or share(self, value))

        def watched(self, function, pull, run=run):
            def noted():
                call = pull()
                if call is not None:
                    *_, chunk = call[1]
                    sent.append(len(cloudpickle.dumps(chunk)))
                return call

            return run(self, function, noted)

        monkeypatch.setattr(kind, "run", watched)
    policy = EvolvingConnectivityPolicy(**{**SMALL, "network": RSNN(128), "n_generations": 2})
    with parallel_config(backend=cluster, n_jobs=2):
        policy.fit(Match)
    assert max(sent) < 3000
    assert len(sent) > 2 * 5 + 2  # the deployed network is played after every generation
    assert sum(isinstance(value, Networks) for value in shared) == 3  # at the start, and after each generation
    assert len([value for value in shared if not isinstance(value, Networks)]) == 1  # the plan, once a fit


@pytest.mark.parametrize(("engine", "kills"), [("loky", 2), ("dask", 1), ("ray", 1)])
def test_killed_workers_do_not_change_the_result(engine, kills, request, tmp_path):
    if engine != "loky":
        request.getfixturevalue(f"{engine}_cluster")
    settings = {**SMALL, "n_generations": 2}
    expected = fingerprint(EvolvingConnectivityPolicy(**settings).fit(Match))
    with KillsWorkers(tmp_path, kills=kills) as killer, parallel_config(backend=engine, n_jobs=2):
        policy = EvolvingConnectivityPolicy(**settings).fit(lambda: NotesItsProcess(tmp_path, seconds_per_step=0.005))
    assert len(killer.killed) == kills
    assert fingerprint(policy) == expected


def test_an_environment_that_always_kills_its_worker_is_named(cluster, monkeypatch):
    made = engines.ray._remote  # Ray would try each attempt four times itself, and every try starts a worker
    monkeypatch.setattr(engines.ray, "_remote", lambda function: made(function).options(max_retries=0))
    policy = EvolvingConnectivityPolicy(**{**SMALL, "population_size": 4})
    with parallel_config(backend=cluster, n_jobs=2), pytest.raises(EpisodeError, match="environment kills its process"):
        policy.fit(Dies)
    with parallel_config(backend=cluster, n_jobs=2):
        assert policy.fit(Match).n_generations_ == 3  # the cluster goes on


def test_a_misbehaving_environment_is_named(cluster):
    with parallel_config(backend=cluster, n_jobs=2), pytest.raises(EpisodeError, match="plant exploded at step 3"):
        EvolvingConnectivityPolicy(**SMALL).fit(lambda: Broken("raises"))


def test_a_hanging_environment_is_named(cluster, monkeypatch):
    monkeypatch.setattr(engines, "GRACE", (1.0, 1.0))
    policy = EvolvingConnectivityPolicy(**SMALL, timeout=2)
    with parallel_config(backend=cluster, n_jobs=2):
        with pytest.raises(EpisodeError, match=r"timeout=2(\.0)? s"):
            policy.fit(Hangs)
        policy.set_params(timeout=300)  # new workers may be slow to start on a busy machine
        assert policy.fit(Match).n_generations_ == 3


def test_a_dask_cluster_without_workers_is_named(monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(engines.dask, "ABANDONED", 1.0)
    monkeypatch.setattr(engines.dask, "PATIENCE", 0.2)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=None, silence_logs=logging.CRITICAL) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        client.as_current(),
        parallel_config(backend="dask", n_jobs=2),
        pytest.raises(RuntimeError, match="no worker for 1 s"),
    ):
        EvolvingConnectivityPolicy(**SMALL).fit(Match)
