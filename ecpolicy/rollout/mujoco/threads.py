"""Players of native simulations in threads."""

import threading
from functools import reduce
from queue import Empty, SimpleQueue
from typing import Any

from ecpolicy.rollout.mujoco.feed import Feed
from ecpolicy.rollout.mujoco.player import NOBODY, Player
from ecpolicy.rollout.outcome import (
    Outcome,
)
from ecpolicy.rollout.schedule import Schedule
from ecpolicy.rollout.seconds import Seconds

LOOK = 0.1  # seconds between two looks at whether episodes are still wanted


class Threads:
    """Chunks in threads of this process, each with simulations of its own.

    Parameters
    ----------
    players : list of Player
        One for each thread.
    """

    def __init__(self, players: list[Player]) -> None:
        self._players = players

    def play(self, schedule: Schedule[Any]) -> None:
        """Play until the schedule is finished."""
        results: SimpleQueue[tuple[int, Outcome | BaseException]] = SimpleQueue()
        feed = Feed(schedule, self._players[0].obs_size, lambda number, outcome: results.put((number, outcome)))

        def work(player: Player) -> None:
            try:
                player.play(feed)
            except BaseException as error:
                results.put((NOBODY, error))

        threads = [threading.Thread(target=work, args=(player,), daemon=True) for player in self._players]
        for thread in threads:
            thread.start()
        try:
            while not schedule.finished:
                try:
                    number, outcome = results.get(timeout=LOOK)
                except Empty:
                    schedule.look()
                    continue
                if isinstance(outcome, BaseException):
                    raise outcome
                schedule.deliver(number, outcome)
                feed.wake()
        finally:
            feed.close()
            for thread in threads:
                thread.join()

    @property
    def seconds(self) -> Seconds:
        """That all threads have played so far."""
        return reduce(Seconds.plus, (player.seconds for player in self._players))

    def close(self, error: BaseException | None) -> None:
        """There is nothing to close."""
