"""Global states of random numbers and threads, which Stable-Baselines3 sets."""

import functools
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ecpolicy.cleanup import cleaning_up


@contextmanager
def globals_kept(device: str) -> Iterator[None]:
    """Give back the global states of random numbers and threads, which Stable-Baselines3 sets; train on one thread.

    The layer's matrices are small: a second thread costs more than it gains, and changes the rounding.
    """
    import torch

    threads = torch.get_num_threads()
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    devices = [] if device == "cpu" else list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.set_num_threads(1)
        with cleaning_up(
            functools.partial(torch.set_num_threads, threads),
            functools.partial(setattr, torch.backends.cudnn, "deterministic", cudnn[0]),
            functools.partial(setattr, torch.backends.cudnn, "benchmark", cudnn[1]),
            functools.partial(random.setstate, python),
            functools.partial(np.random.set_state, numpy),
        ):
            yield
