"""The history as a table and as TensorBoard's curves, while it grows."""

import csv
import os
from pathlib import Path
from typing import Any

from ecpolicy.optional import require

# Names under which Stable-Baselines3 logs the same quantities, so that its curves and ours fall into one chart.
TAGS = {
    "return_mean": "rollout/ep_rew_mean",
    "episode_length": "rollout/ep_len_mean",
    "deployed_return": "eval/mean_reward",
}


class CSVLog:
    """Write ``history_`` to a CSV file, a row a generation. The file always holds the history, no more and no less.

    Parameters
    ----------
    path : path-like
        Written anew when a fit begins, with the generations that are there already where it is a continued one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def begin(self, view: Any) -> None:
        """Write the generations before this fit."""
        self._write(list(getattr(view, "history_", [])) if view.continues else [], "w")

    def __call__(self, view: Any) -> None:
        """Add a row."""
        self._write([view.history_[-1]], "a")

    def _write(self, records: list[Any], mode: str) -> None:
        with self._path.open(mode, newline="") as stream:
            writer = csv.writer(stream)
            for record in records:
                if stream.tell() == 0:
                    writer.writerow(record)
                writer.writerow(record.values())


class TensorBoardLog:
    """Log ``history_`` for TensorBoard, over environment steps. Needs ``pip install "ecpolicy[tensorboard]"``.

    Returns, episode lengths and the deployed network's score have the names that Stable-Baselines3 gives them; the rest
    is under ``ecpolicy/``.

    Parameters
    ----------
    folder : path-like
        Made where it is missing.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = str(folder)
        self._writer: Any = None
        self._done = 0
        require("tensorboardX", "TensorBoardLog", extra="tensorboard")

    def begin(self, view: Any) -> None:
        """Note where the fit begins."""
        self._writer, self._done = None, view.history_[-1]["n_env_steps"] if view.continues else 0

    def __call__(self, view: Any) -> None:
        """Log one generation; what an interrupted fit logged beyond its last checkpoint is marked as obsolete."""
        if self._writer is None:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(self._folder, purge_step=self._done + 1 if self._done else None)
        record = view.history_[-1]
        for name, value in record.items():
            if value is not None and name != "n_env_steps":
                self._writer.add_scalar(TAGS.get(name, f"ecpolicy/{name}"), value, record["n_env_steps"])
        self._writer.flush()

    def finish(self, view: Any) -> None:
        """Close the log."""
        self._writer.close()
