"""Callbacks for ``fit``: callables that are shown the training after every generation and may stop it.

A callback is called as ``callback(view)`` with a :class:`TrainingView`, which has all the policy has and cannot be
used to change it; ``view.history_[-1]`` is the generation just finished. Returning True ends the fit. Two methods are
optional: ``begin(view)`` is called before the first generation, to raise where the callback cannot do its work, and
``finish(view)`` when the fit ends, however it ends, unless no generation was finished.
"""

from ecpolicy.callbacks.checkpoint import Checkpoint
from ecpolicy.callbacks.evaluation import Evaluation, StopOnReturn
from ecpolicy.callbacks.histogram import ProbabilityHistogram
from ecpolicy.callbacks.live import Live
from ecpolicy.callbacks.logs import CSVLog, TensorBoardLog
from ecpolicy.callbacks.progress import Progress
from ecpolicy.callbacks.protocol import Callback, Chain
from ecpolicy.callbacks.stable_baselines3 import StableBaselines3
from ecpolicy.callbacks.symptoms import StandingStill
from ecpolicy.callbacks.view import TrainingView

__all__ = [
    "CSVLog",
    "Callback",
    "Chain",
    "Checkpoint",
    "Evaluation",
    "Live",
    "ProbabilityHistogram",
    "Progress",
    "StableBaselines3",
    "StandingStill",
    "StopOnReturn",
    "TensorBoardLog",
    "TrainingView",
]
