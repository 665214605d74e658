"""A plain interpreter of NIR graphs: forward Euler in single precision, one time step at a time.

Spikes that come back to their neurons do so in the next time step; all else happens within one. Sums run in the order
of the inputs, so that zeros and ones give the same rounding as adding up what is connected.
"""

from graphlib import TopologicalSorter

import nir
import numpy as np

SPIKING = nir.LIF | nir.CubaLIF


class Interpreter:
    """Runs a graph with one input; its state are the potentials, by node."""

    def __init__(self, graph, dt):
        self.nodes, self.dt = graph.nodes, dt
        self.state = {
            name: np.zeros(node.v_leak.shape, np.float32)
            for name, node in self.nodes.items()
            if isinstance(node, SPIKING | nir.LI)
        }
        self.current = {name: np.zeros_like(v) for name, v in self.state.items()}  # of CubaLIF
        self.targets = {name: [b for a, b in graph.edges if a == name] for name in self.nodes}
        self.sources = {name: [a for a, b in graph.edges if b == name] for name in self.nodes}
        late = {(a, b) for a, b in graph.edges if isinstance(self.nodes[a], SPIKING) and self._leads(b, a)}
        self.order = list(
            TopologicalSorter(
                {b: [a for a in self.sources[b] if (a, b) not in late] for b in self.nodes}
            ).static_order()
        )
        self.values = {a: np.zeros(self.state[a].size, np.float32) for a, _ in late}

    def _leads(self, start, goal):
        """Whether there is a path from one node to another."""
        found, todo = {start}, [start]
        while todo:
            for target in set(self.targets[todo.pop()]) - found:
                found.add(target)
                todo.append(target)
        return goal in found

    def step(self, observation):
        """The values of every node after one time step."""
        values = dict(self.values)
        for name in self.order:
            node = self.nodes[name]
            if isinstance(node, nir.Input):
                values[name] = np.asarray(observation, np.float32)
            else:
                values[name] = self._node(name, node, sum(values[source] for source in self.sources[name]))
        self.values = values
        return values

    def _node(self, name, node, x):
        if isinstance(node, nir.Output):
            return x
        if isinstance(node, nir.Scale):
            return x * node.scale.astype(np.float32)
        if isinstance(node, nir.Linear):
            total = np.zeros(node.weight.shape[0], np.float32)
            for column in np.flatnonzero(x):
                total = total + node.weight[:, column].astype(np.float32) * x[column]
            return total
        if isinstance(node, nir.LI):
            keep = (1 - self.dt / node.tau).astype(np.float32)
            gain = (self.dt / node.tau * node.r).astype(np.float32)
            self.state[name] = keep * self.state[name] + gain * x
            return self.state[name]
        v = self.state[name]
        if isinstance(node, nir.LIF):
            keep = (1 - self.dt / node.tau).astype(np.float32)
            drive = x * node.r.astype(np.float32)
            v = drive + keep * (v - drive)
        else:
            assert isinstance(node, nir.CubaLIF)
            keep = (1 - self.dt / node.tau_syn).astype(np.float32)
            gain = (self.dt / node.tau_syn * node.w_in).astype(np.float32)
            self.current[name] = keep * self.current[name] + gain * x
            v = (1 - self.dt / node.tau_mem).astype(np.float32) * v + (
                (self.dt / node.tau_mem * node.r).astype(np.float32) * self.current[name]
            )
        spikes = v > node.v_threshold
        self.state[name] = np.where(spikes, node.v_reset, v).astype(np.float32)
        return spikes.astype(np.float32)
