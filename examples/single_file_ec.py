"""Evolving Connectivity in one file of NumPy: the paper's algorithm from top to bottom, balancing a pole.

Nothing is imported from the library, and nothing is fast: connections are whole numbers, and members play in lockstep.
What the library does beyond this changes none of the numbers: the tests compare ``ecpolicy.evolution.generation``.

Wang et al., "Evolving Connectivity for Recurrent Spiking Neural Networks", NeurIPS 2023. Equations are the paper's.

    python examples/single_file_ec.py [generations [population [seed]]]
"""

import sys

import numpy as np

f32, u32 = np.float32, np.uint32
NEURONS, OBSERVATIONS, ACTIONS, STEPS = 64, 4, 2, 500
SHAPES = {"input": (2 * OBSERVATIONS, NEURONS), "recurrent": (NEURONS, NEURONS), "output": (NEURONS, ACTIONS)}
LEARNING_RATE, EPS = 0.3, 0.01

# The neurons (appendix A): times in ms, gains normalised for connections of which half are present.
SUBSTEPS, DT, TAU_SYN, TAU_M = 33, 0.5, 5.0, 10.0
DECAY_SYN, DECAY_M, DECAY_OUT = (f32(np.exp(-DT / tau)) for tau in (TAU_SYN, TAU_M, 10.0))
R_IN = f32(0.1 * TAU_M * np.sqrt(2 / (0.5 * OBSERVATIONS)))
R_H = f32(1.0 * TAU_M / TAU_SYN * np.sqrt(2 / (0.5 * NEURONS)))
R_OUT = f32(5.0 * np.sqrt(1 / (0.5 * NEURONS)))
SIGN = np.where(np.arange(NEURONS) < NEURONS // 2, 1, -1).astype(f32)  # excitatory neurons come first
SCALE = np.array([2.0, 1.0, 10.0, 1.0])  # of the observations, whose deviation the library measures


# Random numbers: Threefry-2x32, a pure function of key and counter. A member of the population is its key.
def threefry(key, low, high):
    """64 random bits as two words of 32, for a key (..., 2) and a counter of two words."""
    keys = [key[..., 0], key[..., 1], key[..., 0] ^ key[..., 1] ^ u32(0x1BD11BDA)]
    x, y = u32(low) + keys[0], u32(high) + keys[1]
    for block in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[block % 2]:
            x = x + y
            y = ((y << u32(turn)) | (y >> u32(32 - turn))) ^ x
        x, y = x + keys[(block + 1) % 3], y + keys[(block + 2) % 3] + u32(block + 1)
    return x, y


def fold_in(key, number):
    """Another key, for each number."""
    return np.stack(threefry(key, np.asarray(number, u32), 0xFFFFFFFF), axis=-1)


def uniform(keys, size):
    """Numbers in [0, 1) of 24 bits, (keys, size)."""
    return (threefry(keys[:, None, :], np.arange(size, dtype=u32), 0)[0] >> u32(8)).astype(f32) * f32(2**-24)


def bernoulli(keys, rho):
    """Connections theta ~ Bernoulli(rho) of each member, (keys, rows, columns); equation 8, to 24 bits."""
    counter = np.arange(rho.shape[0] * -(-rho.shape[1] // 64), dtype=u32).reshape(rho.shape[0], -1)  # words of 64
    drawn = np.int32(0)
    for plane in range(24):
        low, high = threefry(keys[:, None, None, :], counter, plane)
        word = low.astype("<u8") | high.astype("<u8") << np.uint64(32)
        drawn = 2 * drawn + np.unpackbits(word.view(np.uint8), axis=-1, bitorder="little")
    p = rho.astype(np.float64)
    return (drawn[:, :, : rho.shape[1]] < np.rint(np.minimum(p, 1 - p) * 2**24)) ^ (p > 0.5)


def population(keys, rho):
    """All matrices of all members; the output matrix is drawn by outputs, as its rows are these."""
    streams = {name: fold_in(fold_in(keys, 0), index) for index, name in enumerate(SHAPES)}
    drawn = {name: bernoulli(streams[name], p.T if name == "output" else p) for name, p in rho.items()}
    return {**drawn, "output": drawn["output"].swapaxes(1, 2)}


# The network: recurrent leaky integrate-and-fire neurons, equations 3 to 7; one environment step is 33 substeps.
def network_step(theta, state, x):
    """The outputs (members, actions) for scaled observations x, and the next state."""
    v, current, spikes, rate = (np.where(np.abs(part) < f32(1e-12), f32(0), part) for part in state)
    drive = np.zeros_like(v)
    for index in range(OBSERVATIONS):
        drive = drive + theta["input"][:, index] * x[:, index, None]
        drive = drive + theta["input"][:, OBSERVATIONS + index] * -x[:, index, None]
    for _ in range(SUBSTEPS):
        arriving = ((SIGN * spikes)[:, None, :] @ theta["recurrent"])[:, 0]
        current = DECAY_SYN * current + R_H * arriving
        u = current + R_IN * drive
        v = u + DECAY_M * (v - u)
        spikes = (v > 1).astype(f32)
        v = np.where(v > 1, f32(0), v)
        count = ((SIGN * spikes)[:, None, :] @ theta["output"])[:, 0] * f32(1 / DT)
        rate = count + DECAY_OUT * (rate - count)
    return R_OUT * rate, (v, current, spikes, rate)


def cartpole_step(state, push):
    """Barto, Sutton and Anderson's pole on a cart: (members, 4) and forces in N, by Euler's method."""
    _, speed, angle, turning = state.T
    thrust = (push + 0.05 * turning**2 * np.sin(angle)) / 1.1
    twist = (9.8 * np.sin(angle) - np.cos(angle) * thrust) / (0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1))
    return state + 0.02 * np.stack([speed, thrust - 0.05 * twist * np.cos(angle) / 1.1, turning, twist], axis=1)


def play(theta, keys):
    """Returns of one episode of each member: a point for every step until the pole falls or the cart leaves."""
    members = len(keys)
    poles = 0.1 * uniform(fold_in(keys, 2), 4).astype(np.float64) - 0.05
    state = uniform(fold_in(keys, 1), NEURONS), *np.zeros((2, members, NEURONS), f32), np.zeros((members, ACTIONS), f32)
    up, returns = np.ones(members, bool), np.zeros(members)
    while up.any() and returns.max() < STEPS:
        output, state = network_step(theta, state, (poles * SCALE).astype(f32))
        poles = np.where(up[:, None], cartpole_step(poles, np.where(output.argmax(axis=1) == 1, 10.0, -10.0)), poles)
        returns += up
        up &= (np.abs(poles[:, 0]) < 2.4) & (np.abs(poles[:, 2]) < 0.2095)
    return returns


# The search: a natural evolution strategy on the connection probabilities, equations 9 to 14, with Adam.
def centered_ranks(returns):
    """Ranks times four, so that they are integers that add up to zero; equal returns share a rank."""
    return 2 * ((returns[:, None] > returns).sum(axis=1) - (returns[:, None] < returns).sum(axis=1))


def generation(number, rho, adam, seed, size):
    """Draw a population, play, climb: the next probabilities and Adam's state, and the members' returns."""
    keys = fold_in(fold_in(np.array([[seed, 0]], u32), number), np.arange(size))
    theta, (first, second) = population(keys, rho), adam
    returns = play({name: part.astype(f32) for name, part in theta.items()}, keys)
    for name, p in rho.items():
        total = np.tensordot(centered_ranks(returns), theta[name].astype(np.int64), axes=1)  # of integers: exact
        gradient = (total / (size * 4.0 * (size - 1))).astype(f32)
        first[name] = f32(0.9) * first[name] + f32(1 - 0.9) * gradient
        second[name] = f32(0.999) * second[name] + f32(1 - 0.999) * gradient * gradient
        step = f32(LEARNING_RATE / (1 - 0.9 ** (number + 1))) * first[name]
        step = step / (np.sqrt(second[name] * f32(1 / (1 - 0.999 ** (number + 1)))) + f32(1e-8))
        rho[name] = np.clip(p + step, f32(EPS), f32(1 - EPS))
    return rho, (first, second), returns


def main(generations=20, size=128, seed=0):
    """Print how long the members balance the pole, of at most 500 steps; the probabilities after that."""
    rho = {name: np.full(shape, 0.5, f32) for name, shape in SHAPES.items()}
    adam = tuple({name: np.zeros_like(p) for name, p in rho.items()} for _ in range(2))
    for number in range(generations):
        rho, adam, returns = generation(number, rho, adam, seed, size)
        print(
            f"generation {number + 1:3} | return {returns.mean():6.1f} ± {returns.std():.1f}, max {returns.max():.0f}"
        )
    return rho


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
