"""Engines that run tasks on workers: joblib's pools, a Dask cluster, a Ray cluster. No scheduler of our own.

Which one is ``joblib.parallel_config``'s choice. Dask and Ray are used through their own interfaces and not through
joblib's: joblib waits for ever where Dask gives a task up, and deals Ray's tasks out in turn, whoever is free.
"""

from joblib import effective_n_jobs
from joblib.parallel import get_active_backend

from ecpolicy.rollout.engines.dask import DaskEngine
from ecpolicy.rollout.engines.engine import Engine, Unfinished, WorkersLost
from ecpolicy.rollout.engines.joblib import JoblibEngine
from ecpolicy.rollout.engines.ray import RayEngine

__all__ = ["Engine", "JoblibEngine", "Unfinished", "WorkersLost", "engine"]

# Factor and seconds on top of the limit: workers that can interrupt a hanging environment should do so first and say
# where it hangs, and those that are just being started need time for that.
GRACE = 1.5, 30.0


def engine(n_jobs: int | None, *, timeout: float | None, threads: bool) -> Engine | None:
    """The engine that joblib's active backend means, or None to run tasks here.

    Parameters
    ----------
    n_jobs : int or None
        Workers as in joblib. A cluster decides by itself how many tasks run at once.
    timeout : float or None
        Seconds that a task may take.
    threads : bool
        Whether tasks can be run by threads of this process.
    """
    backend, _ = get_active_backend()
    limit = None if timeout is None else GRACE[0] * timeout + GRACE[1]
    kind = type(backend).__name__
    if n_jobs == 1:
        return None
    if kind == "DaskDistributedBackend":
        return DaskEngine(backend.client, limit)
    if kind == "RayBackend":
        return RayEngine(limit)
    if effective_n_jobs(n_jobs) == 1:
        return None
    if getattr(backend, "supports_sharedmem", False) and (not threads or getattr(backend, "nesting_level", 0)):
        return None  # below another joblib call, whose workers have the cores already
    return JoblibEngine(n_jobs, limit)
