"""What the spiking networks of 1-bit connections share, whatever numbers their neurons are made of."""

from collections.abc import Callable, Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ecpolicy.networks.layout import WORD, Words, words_per_row
from ecpolicy.networks.network import Settings, Shape
from ecpolicy.random import Key


class BooleanRSNN(Settings):
    """Base of :class:`ecpolicy.networks.RSNN` and :class:`ecpolicy.networks.IntegerRSNN`."""

    n_neurons: int
    excitatory_ratio: float

    def _kernel(self, words: int) -> Callable[..., None]:
        """The compiled step for rows of ``words`` words."""
        raise NotImplementedError

    @property
    def dt(self) -> float:
        """Milliseconds of a substep."""
        raise NotImplementedError

    @property
    def substeps(self) -> int:
        """Euler steps per environment step."""
        raise NotImplementedError

    @property
    def n_excitatory(self) -> int:
        """Number of excitatory neurons; they come first."""
        return round(self.excitatory_ratio * self.n_neurons)

    @property
    def n_read(self) -> int:
        """Neurons that outputs may read."""
        return self.n_neurons

    def absent(self, obs_size: int, n_outputs: int) -> dict[str, NDArray[np.bool_]]:
        """The connections (pre, post) that no network has, by the names of the matrices that lack some."""
        return {}

    @property
    def type_sizes(self) -> dict[str, int]:
        """Neurons of every cell type, in the order of the neurons."""
        return {"E": self.n_excitatory, "I": self.n_neurons - self.n_excitatory}

    @property
    def types(self) -> NDArray[np.str_]:
        """The cell type of every neuron, (neurons,)."""
        return np.repeat([*self.type_sizes], [*self.type_sizes.values()])

    def constants(self, obs_size: int) -> object:
        """What the kernel takes."""
        raise NotImplementedError

    def shapes(self, obs_size: int, n_outputs: int) -> dict[str, Shape]:
        """The connection matrices, presynaptic by postsynaptic, all packed along the neurons."""
        return {
            "input": Shape(2 * obs_size, self.n_neurons, packed_axis=1),
            "recurrent": Shape(self.n_neurons, self.n_neurons, packed_axis=1),
            "output": Shape(self.n_neurons, n_outputs, packed_axis=0),
        }

    def groups(self, obs_size: int, n_outputs: int) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """The groups of every matrix's rows and columns, numbered: observations, their negatives; types; outputs."""
        neurons = np.repeat(np.arange(len(self.type_sizes)), [*self.type_sizes.values()])
        observed, outputs = np.repeat(np.arange(2), obs_size), np.zeros(n_outputs, np.int64)
        return {"input": (observed, neurons), "recurrent": (neurons, neurons), "output": (neurons, outputs)}

    def one_substep(self) -> Self:
        """The same network, of which a step is one substep."""
        raise NotImplementedError

    def initial_state(self, keys: Key, n_outputs: int) -> tuple[np.ndarray, ...]:
        """States at the start of episodes with these keys (episodes, 2)."""
        raise NotImplementedError

    def _at_start(
        self, keys: Key, n_outputs: int, potentials: np.ndarray, readout: type[np.number]
    ) -> tuple[np.ndarray, np.ndarray, Words, np.ndarray]:
        """The parts of a state with these potentials (episodes, neurons), and nothing else yet."""
        episodes, words = keys.shape[0], words_per_row(self.n_neurons)
        v = np.zeros((episodes, words * WORD), potentials.dtype)
        v[:, : self.n_neurons] = potentials
        return v, np.zeros_like(v), np.zeros((episodes, words), np.uint64), np.zeros((episodes, n_outputs), readout)

    def step(
        self,
        connections: Mapping[str, Words],
        state: tuple[np.ndarray, ...],
        x: np.ndarray,
        output: np.ndarray,
        *,
        owners: np.ndarray,
        rows: np.ndarray,
    ) -> None:
        """Advance the episodes ``rows`` by one environment step, in place.

        Parameters
        ----------
        connections : packed matrices (networks, rows, words) by name
        state : updated in place
        x : ndarray of float32, shape (episodes, obs_size)
        output : ndarray of float32, shape (episodes, outputs), written
        owners : ndarray of int64, shape (episodes,)
            The network that drives each episode.
        rows : ndarray of int64
            The episodes to advance; the others are left alone.
        """
        parts, held = state[:4], state[4:]
        self._kernel(words_per_row(self.n_neurons))(
            connections["input"],
            connections["recurrent"],
            connections["output"],
            owners,
            rows,
            *parts,
            *(held or parts[:1]),
            x,
            output,
            self.n_excitatory,
            self.substeps,
            self.constants(x.shape[1]),
        )
