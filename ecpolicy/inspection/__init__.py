"""Look at policies: pictures in scikit-learn's Display convention, episodes with every spike, and video.

Matplotlib comes with ``pip install "ecpolicy[plot]"``, what writes video with ``pip install "ecpolicy[video]"``.
"""

from ecpolicy.inspection.activity import Activity, record_activity
from ecpolicy.inspection.connection_probabilities import ConnectionProbabilityDisplay
from ecpolicy.inspection.firing_rates import FiringRateDisplay
from ecpolicy.inspection.learning_curve import LearningCurveDisplay
from ecpolicy.inspection.lesions import Lesions, lesion_returns, lesioned
from ecpolicy.inspection.network_display import NetworkDisplay
from ecpolicy.inspection.page import record_page
from ecpolicy.inspection.recorded_episodes import Episode, RecordedEpisodes, record_episodes
from ecpolicy.inspection.spike_raster import SpikeRasterDisplay
from ecpolicy.inspection.video import record_video
from ecpolicy.inspection.wiring_displays import (
    BlockDisplay,
    DegreeDisplay,
    DistanceDisplay,
    LesionDisplay,
    MotifDisplay,
    StabilityDisplay,
)

__all__ = [
    "Activity",
    "BlockDisplay",
    "ConnectionProbabilityDisplay",
    "DegreeDisplay",
    "DistanceDisplay",
    "Episode",
    "FiringRateDisplay",
    "LearningCurveDisplay",
    "LesionDisplay",
    "Lesions",
    "MotifDisplay",
    "NetworkDisplay",
    "RecordedEpisodes",
    "SpikeRasterDisplay",
    "StabilityDisplay",
    "lesion_returns",
    "lesioned",
    "record_activity",
    "record_episodes",
    "record_page",
    "record_video",
]
