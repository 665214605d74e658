"""The deployed network for other tools: NIR, C, Verilog, ONNX and SONATA."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from ecpolicy.constraints import Integer
from ecpolicy.fitting.deployed import DeployedPolicy
from ecpolicy.networks import RSNN, BooleanRSNN, IntegerRSNN, RealRSNN
from ecpolicy.untyped import Space

if TYPE_CHECKING:
    from nir import NIRGraph
    from onnx import ModelProto


class Exporting:
    """What writes the deployed network in the forms that neuromorphic tools and microcontrollers take."""

    action_space_: Space
    n_features_in_: int
    _deployed: DeployedPolicy

    def to_nir(self, *, dialect: str = "cuba-lif") -> "NIRGraph":
        """The deployed spiking network as a graph of NIR, the format that neuromorphic tools exchange.

        Save it with ``nir.write("policy.nir", graph)``. One step of the environment is ``metadata["substeps"]`` time
        steps of ``metadata["dt"]`` seconds with the same input: the standardised observation ``clip((observation -
        observation_mean) * observation_inverse_std, -observation_clip, observation_clip)``. The neurons' potentials
        start at ``metadata["initial_potentials"]``.

        Current-based neurons must be fed ``x[t] - input_alpha x[t-1]``, and what comes out are weighted spikes s, to be
        filtered by ``r[t] = s + readout_decay (r[t-1] - s)``; the last r of a step is the raw action.

        Parameters
        ----------
        dialect : {"cuba-lif", "cuba-lif-flat", "lif"}
            "cuba-lif": current-based neurons and their recurrent weights in a nested graph, dt = 0.1 ms.
            "cuba-lif-flat": the same without the nesting. "lif": leaky integrate-and-fire neurons with leaky
            integrators as synapses and readout, in the policy's dt; connections are matrices of -1, 0 and 1, gains
            stand apart, and the last output of a step is the raw action. The page on deployment says who reads what.

        Returns
        -------
        nir.NIRGraph

        Raises
        ------
        NotFittedError
        ImportError
            Where nir is missing: ``pip install "ecpolicy[nir]"``.
        TypeError
            Where the network is not a spiking one of real numbers: NIR has neither the integers and shifts of an
            :class:`ecpolicy.networks.IntegerRSNN` nor gates, and other neurons would have other spikes.
        ValueError
            Where ``dialect`` is none of these.
        """
        from ecpolicy.export.nir_graph import nir_graph

        network = self._spiking(RSNN, RealRSNN, why="NIR's neurons are differential equations in real numbers")
        weights = self._present() if isinstance(network, RSNN) else self._deployed.parameters
        return nir_graph(
            network, weights, self._deployed.standardizer, self._initial_potentials(network), dialect=dialect
        )

    def to_c(self, name: str = "policy", *, real: str = "double") -> str:
        """The deployed network as one self-contained C99 header: packed connections, sums by bits, no allocation.

        It defines ``<name>_state``, ``<name>_reset`` and ``<name>_step``, which gives the actions of ``predict`` bit
        for bit; its first lines say how to call them and how many bytes it takes. C++ compiles it from 2011 on.

        The header of an :class:`ecpolicy.networks.IntegerRSNN` has no floating point: ``<name>_step`` takes whole
        numbers, the standardised observation times a power of two, and gives whole numbers. With ``<NAME>_FLOAT``
        defined, ``<name>_observe`` makes these of observations, and ``<name>_act`` acts like ``predict`` bit for bit.

        Parameters
        ----------
        name : str
            A C identifier, the prefix of what is defined.
        real : {"double", "float"}
            The type of observations, in which they are standardised and real actions formed. Only "double" keeps
            the bits of ``predict``; microcontrollers often have "float" alone in hardware.

        Raises
        ------
        NotFittedError
        TypeError
            Where the network is not one of 1-bit connections of this library, or C has no type for the actions.
        ValueError
            Where ``name`` is not a C identifier, or ``real`` neither of these.
        """
        from ecpolicy.export.c99 import c_header
        from ecpolicy.export.c_integers import integer_c_header

        network = self._spiking(RSNN, IntegerRSNN)
        if real not in ("double", "float"):
            raise ValueError(f"real must be 'double' or 'float'; got {real!r}.")
        header = integer_c_header if isinstance(network, IntegerRSNN) else c_header
        text: str = header(
            network, self._present(), self._deployed.standardizer, self._initial_potentials(network),
            self.action_space_, name=name, real=real,
        )  # fmt: skip
        return text

    def to_onnx(self) -> "ModelProto":
        """The deployed spiking network as an ONNX model: an observation and a state in, an action and a state out.

        Save it with ``onnx.save(model, "policy.onnx")``. Inputs are ``observation`` (batch, obs_size) in double
        precision, as the environment gives it, flattened, and the state ``v``, ``i_syn``, ``spikes``, ``readout``.
        Where the state is left out, it is that at the start of an episode. Outputs are ``action``, flattened, as the
        environment takes it, and ``next_v``, ``next_i_syn``, ``next_spikes``, ``next_readout`` for the next step.

        Returns
        -------
        onnx.ModelProto

        Raises
        ------
        NotFittedError
        ImportError
            Where onnx is missing: ``pip install "ecpolicy[onnx]"``.
        TypeError
            Where the network is not a spiking one of this library.
        """
        from ecpolicy.export.onnx_model import onnx_model

        network = self._spiking(RSNN, IntegerRSNN, RealRSNN)
        weights = self._deployed.parameters if isinstance(network, RealRSNN) else self._present()
        model: ModelProto = onnx_model(
            network, weights, self._deployed.standardizer, self._initial_potentials(network), self.action_space_
        )
        return model

    def to_verilog(
        self,
        folder: str | Path,
        *,
        lanes: int = 1,
        steps: int = 100,
        episodes: Sequence[NDArray[np.float64]] | None = None,
    ) -> None:
        """Write the deployed network of integers as Verilog-2005 for synthesis, and a test bench.

        The folder gets ``policy.v``, the connections as ``*.hex`` for its block RAM, and ``policy_tb.v``, which
        compares every spike, readout and action of recorded steps with those of the library. The comments at the top
        of ``policy.v`` describe its ports, and how many clock cycles an action takes.

        Parameters
        ----------
        folder : str or Path
            Made where it is missing.
        lanes : int
            Neurons that are updated in a clock cycle.
        steps : int
            Environment steps of the test bench, in two episodes of observations that are drawn: standard normal, as
            standardised ones are, some at the limits.
        episodes : sequence of ndarray (steps, obs_size), optional
            Observations of episodes that the test bench plays instead, as ``record_activity(...).observations`` has
            them.

        Raises
        ------
        NotFittedError
        TypeError
            Where the network is no :class:`ecpolicy.networks.IntegerRSNN`.
        ValueError
            Where ``lanes`` or ``steps`` is no positive whole number, or ``episodes`` are no observations.
        """
        from ecpolicy.export.verilog import verilog
        from ecpolicy.export.verilog_bench import drawn, record

        why = "Verilog is written for sums and shifts of integers, the same for all neurons"
        network = self._spiking(IntegerRSNN, why=why)
        Integer(1, network.n_neurons)("lanes", lanes)
        Integer(2)("steps", steps)
        if episodes is None:
            seen = drawn(network, self.n_features_in_, steps)
        else:
            seen = [self._standardized(number, episode) for number, episode in enumerate(episodes)]
        if not any(map(len, seen)):
            raise ValueError("episodes must have a step; got none.")
        recorded = record(network, self._deployed.connections, self._deployed.start, self.action_space_, seen)
        files = verilog(
            network, self._present(), self._initial_potentials(network), self.action_space_, recorded, lanes=lanes
        )
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (Path(folder) / name).write_text(text)

    def to_sonata(self, folder: str | Path, *, positions: ArrayLike | None = None) -> None:
        """Write the deployed network as a SONATA circuit, the format of the Allen Institute and the Blue Brain Project.

        The folder gets ``circuit_config.json``, ``nodes.h5``, ``edges.h5``, ``node_types.csv`` and ``edge_types.csv``.
        Populations of nodes are "observation" (each number, then its negative), "neurons" and "output"; of edges,
        "observation_to_neurons", "neurons_to_neurons" and "neurons_to_output". There is an edge for each present
        connection, with its "probability" and a "syn_weight": its sign times R_in, R_h or R_out. Neurons have their
        constants as NEST's iaf_psc_exp names them, in ms, and mV for a potential of 1, which is the threshold of most.
        In another simulator they obey the same differential equations; its time steps and spikes are its own.

        Parameters
        ----------
        folder : str or Path
            Made where it is missing; files of these names are replaced.
        positions : array, shape (neurons, 2) or (neurons, 3), optional
            Where the neurons are: x, y and z.

        Raises
        ------
        NotFittedError
        ImportError
            Where h5py is missing: ``pip install "ecpolicy[connectome]"``.
        TypeError
            Where the network is no :class:`ecpolicy.networks.RSNN`.
        ValueError
            Where ``positions`` are none.
        """
        from ecpolicy.connectome import Connectome
        from ecpolicy.export.sonata import write_sonata

        network = self._spiking(RSNN, why="SONATA's point neurons are differential equations, their synapses signed")
        excitatory = np.arange(network.n_neurons) < network.n_excitatory
        wiring = Connectome(self._deployed.parameters, excitatory, network.types)
        write_sonata(Path(folder), network, wiring, self._initial_potentials(network), positions)

    def _present(self) -> dict[str, NDArray[np.bool_]]:
        """The deployed connections by name, (pre, post)."""
        return {name: p > 0.5 for name, p in self._deployed.parameters.items()}

    def _standardized(self, number: int, episode: NDArray[np.float64]) -> NDArray[np.float32]:
        """The observations of an episode as the network takes them, (steps, obs_size)."""
        from ecpolicy.networks.numba.bits import standardize

        seen = np.ascontiguousarray(episode, np.float64)
        x, rows = np.empty(seen.shape, np.float32), np.arange(len(seen))
        known = seen.ndim == 2 and seen.shape[1] == self.n_features_in_
        if not known or standardize(seen, rows, *self._deployed.standardizer, x) >= 0:
            raise ValueError(
                f"episodes[{number}] must be finite observations (steps, {self.n_features_in_}); got an array of shape "
                f"{seen.shape}."
            )
        return x

    def _spiking(self, *kinds: type, why: str = "") -> Any:
        check_is_fitted(self, "_deployed")
        network = self._deployed.network
        if not isinstance(network, kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(
                f"A {type(network).__name__} cannot be exported in this form; wanted {wanted}, so train with "
                f"network={kinds[0].__name__}()." + (f" {why}." if why else "")
            )
        return network

    def _initial_potentials(self, network: BooleanRSNN | RealRSNN) -> np.ndarray:
        """Those at the start of the deployed network's episodes, (neurons,)."""
        start: Any = self._deployed.start
        return np.asarray(start.v[0, : network.n_neurons])
