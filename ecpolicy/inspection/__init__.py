"""Look at policies: pictures in scikit-learn's Display convention, episodes with every spike, and video.

Matplotlib comes with ``pip install "ecpolicy[plot]"``, what writes video with ``pip install "ecpolicy[video]"``.
"""

from ecpolicy.inspection.activity import Activity, record_activity
from ecpolicy.inspection.connection_probabilities import ConnectionProbabilityDisplay
from ecpolicy.inspection.firing_rates import FiringRateDisplay
from ecpolicy.inspection.learning_curve import LearningCurveDisplay
from ecpolicy.inspection.page import record_page
from ecpolicy.inspection.spike_raster import SpikeRasterDisplay
from ecpolicy.inspection.video import record_video

__all__ = [
    "Activity",
    "ConnectionProbabilityDisplay",
    "FiringRateDisplay",
    "LearningCurveDisplay",
    "SpikeRasterDisplay",
    "record_activity",
    "record_page",
    "record_video",
]
