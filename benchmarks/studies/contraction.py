"""Count the spikes that a compiler's fused multiply-add would flip.

XLA contracts ``a * b + c`` into one operation with one rounding where the processor has one; NumPy and the host's
kernel round twice. :func:`ecpolicy.networks.xla.bits.rounded` keeps both roundings. Here the kernel runs with and
without it, beside the host's, on the same population and observations, and counts what differs.

    python benchmarks/studies/contraction.py [--neurons 64 256] [--population 1024] [--steps 100]
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ecpolicy.networks import RSNN
from ecpolicy.networks.layout import pack
from ecpolicy.networks.xla import bits as device
from ecpolicy.random import fold_in, key_from_seed

OBS_SIZE, OUTPUTS = 11, 3


def compare(neurons, members, steps):
    network = RSNN(n_neurons=neurons)
    generator = np.random.default_rng(0)
    shapes = network.shapes(OBS_SIZE, OUTPUTS).values()
    k_in, k_h, k_out = (generator.random((members, s.pre, s.post), dtype=np.float32) < 0.5 for s in shapes)
    packed = {"input": pack(k_in), "recurrent": pack(k_h), "output": pack(np.ascontiguousarray(k_out.swapaxes(1, 2)))}
    halves = {name: jnp.asarray(device.halves(words)) for name, words in packed.items()}
    recurrent = jax.jit(device.transpose_bits, static_argnums=1)(halves["recurrent"], neurons)
    connections = halves["input"], recurrent, halves["output"]
    observations = generator.standard_normal((steps, members, OBS_SIZE)).astype(np.float32)
    everyone = np.arange(members)
    settings = {
        "n_excitatory": network.n_excitatory,
        "substeps": network.substeps,
        "constants": network.constants(OBS_SIZE),
    }
    for name, rounded in {"rounded twice": device.rounded, "contracted": lambda product, zero: product}.items():
        host = network.initial_state(fold_in(key_from_seed(0), everyone), OUTPUTS)
        output = np.zeros((members, OUTPUTS), np.float32)
        state = device.State(
            jnp.asarray(host.v[:, :neurons]),
            jnp.asarray(host.i_syn[:, :neurons]),
            jnp.asarray(device.halves(host.spikes)),
            jnp.asarray(host.readout),
        )
        kept, device.rounded = device.rounded, rounded
        step = jax.jit(partial(device.rsnn_step, **settings))
        first = np.full(members, steps)
        potentials = 0.0
        for t, x in enumerate(observations):
            network.step(packed, host, x, output, owners=everyone, rows=everyone)
            state, _ = step(connections, state, x, np.uint32(0))
            differs = np.any(device.halves(host.spikes) != np.asarray(state.spikes), axis=1)
            first = np.where(differs, np.minimum(first, t), first)
            if t == 0:
                potentials = np.mean(host.v[:, :neurons] != np.asarray(state.v))
        device.rounded = kept
        apart = first < steps
        substeps = np.minimum(first + 1, steps).sum() * network.substeps * neurons
        print(
            f"{neurons:5} neurons, {name:13}: {potentials:6.1%} of potentials differ after one step; spikes of "
            f"{apart.mean():6.1%} of {members} members differ within {steps} steps"
            + (f", one flip in {substeps / apart.sum():.1e} neuron-substeps" if apart.any() else "")
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neurons", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--population", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    for neurons in arguments.neurons:
        compare(neurons, arguments.population, arguments.steps)


if __name__ == "__main__":
    main()
