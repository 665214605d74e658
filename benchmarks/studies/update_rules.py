"""Candidates for the update of the connection probabilities; ``register`` adds them to the library's tables.

``reproduce.py --studies update_rules`` runs them. What won is in the library; the others are here so that the
comparison in docs/explanation/bold_steps.md can be run again.
"""

import numpy as np

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.distributions import Bernoulli
from ecpolicy.optimizers import OPTIMIZERS, Optimizer, adam


def momentum(learning_rate, *, beta=0.9):
    """Equation 14 with momentum: ``m <- beta m + (1 - beta) g``, ``step = learning_rate m``."""

    def init(theta):
        return {name: np.zeros_like(p) for name, p in theta.items()}

    def update(gradient, state, theta):
        after = {name: np.float32(beta) * state[name] + np.float32(1 - beta) * g for name, g in gradient.items()}
        return {name: np.float32(learning_rate) * m for name, m in after.items()}, after

    return Optimizer(init, update)


def energy(step, theta):
    """``sum step**2 / (rho (1 - rho))``: twice the divergence of a small step, in nats."""
    return sum(
        float(np.sum(np.square(part, dtype=np.float64) / (theta[name] * (1 - theta[name]))))
        for name, part in step.items()
    )


def trust_region(learning_rate, *, beta=0.9):
    """Natural gradient with momentum, every step scaled to a Kullback-Leibler divergence of ``learning_rate`` nats.

    For small steps the divergence of independent connections is ``sum step**2 / (2 rho (1 - rho))``.
    """
    plain = momentum(1.0, beta=beta)

    def update(gradient, state, theta):
        direction, after = plain.update(gradient, state, theta)
        scale = np.float32(np.sqrt(learning_rate / max(energy(direction, theta) / 2, 1e-30)))
        return {name: scale * d for name, d in direction.items()}, after

    return Optimizer(plain.init, update)


def signal_trust_region(learning_rate, *, beta=0.9, members=256):
    """A trust region as wide as the estimated energy of the signal: ``learning_rate`` nats where it equals the noise's.

    ``E = sum g**2 / (rho (1 - rho))`` is D / (12 members) on average without a signal, ranks having the variance 1/12;
    what it exceeds that by, averaged over generations and never below zero, is the signal's.
    """
    plain = trust_region(1.0, beta=beta)

    def init(theta):
        return {"momentum": plain.init(theta), "excess": np.float32(0)}

    def update(gradient, state, theta):
        size = sum(g.size for g in gradient.values())
        excess = energy(gradient, theta) * 12 * members / size - 1
        smooth = beta * float(state["excess"]) + (1 - beta) * excess
        step, after = plain.update(gradient, state["momentum"], theta)
        scale = np.float32(np.sqrt(learning_rate * max(smooth, 0.0)))
        return {name: scale * s for name, s in step.items()}, {"momentum": after, "excess": np.float32(smooth)}

    return Optimizer(init, update)


def flips(learning_rate, *, beta=0.9, eps=0.01):
    """Change the ``learning_rate`` D connections for which the evidence, a decaying sum of gradients, is strongest.

    A trust region in bits: probabilities stay at eps or 1 - eps, and the deployed network moves by a fixed distance.
    """
    plain = momentum(1.0, beta=beta)

    def init(theta):
        return {"updates": 0, "evidence": plain.init(theta)}

    def update(gradient, state, theta):
        evidence, after = plain.update(gradient, state["evidence"], theta)
        present = {name: p > 0.5 for name, p in theta.items()}
        if state["updates"] == 0:  # from undecided probabilities to a network
            chosen = {name: (evidence[name] > 0) != now for name, now in present.items()}
        else:
            against = {name: np.where(now, -evidence[name], evidence[name]) for name, now in present.items()}
            everything = np.concatenate([part.ravel() for part in against.values()])
            count = max(int(learning_rate * everything.size), 1)
            bar = np.partition(everything, -count)[-count]
            chosen = {name: part >= bar for name, part in against.items()}
        low, high = np.float32(eps), np.float32(1 - eps)
        step = {
            name: np.where(now ^ chosen[name], high, low).astype(np.float32) - theta[name]
            for name, now in present.items()
        }
        left = {name: np.where(chosen[name], np.float32(0), m) for name, m in after.items()}
        return step, {"updates": state["updates"] + 1, "evidence": left}

    return Optimizer(init, update)


def falling_step(learning_rate, *, updates=8):
    """Adam whose step falls as ``learning_rate / sqrt(1 + t / updates)`` with the updates t, as for a growing sum."""
    plain = adam(1.0)

    def update(gradient, state, theta):
        scale = np.float32(learning_rate / np.sqrt(1 + state.updates / updates))
        step, after = plain.update(gradient, state, theta)
        return {name: scale * s for name, s in step.items()}, after

    return Optimizer(plain.init, update)


class Opposite(Bernoulli):
    """Draws with ``1 - u`` where Bernoulli draws with u, from the same key."""

    def slices(self, rho):
        """``1 - u < t`` is, but for ties, not ``u < 1 - t``: thresholds in two's complement, the result negated."""
        sliced = {}
        for name, (planes, flips) in super().slices(rho).items():
            opposite, carry = np.empty_like(planes), ~np.zeros_like(flips)
            for plane in reversed(range(len(planes))):
                opposite[plane] = ~planes[plane] ^ carry
                carry &= ~planes[plane]
            everywhere = self.mode({name: np.ones_like(rho[name])})[name][0]  # the padding stays zero
            sliced[name] = opposite, everywhere ^ flips
        return sliced


class Mirrored(Bernoulli):
    """Antithetic pairs: members 2i and 2i + 1 draw with ``u`` and ``1 - u``, both from the first one's key."""

    def halves(self):
        return [
            kind(self.shapes, self.initial_probability, self.eps, self.weighted_sum) for kind in (Bernoulli, Opposite)
        ]

    def sample(self, rho, keys):
        firsts, seconds = (half.sample(rho, keys[::2]) for half in self.halves())
        pairs = {name: np.stack([words, seconds[name]], axis=1) for name, words in firsts.items()}
        return {
            name: np.ascontiguousarray(both.reshape(-1, *both.shape[2:])[: len(keys)]) for name, both in pairs.items()
        }

    def gradient(self, rho, keys, utility):
        weights = np.pad(utility.weights, (0, len(keys) % 2)).reshape(-1, 2).T.copy()
        firsts, seconds = (
            half.gradient(rho, keys[::2], utility._replace(weights=part))
            for half, part in zip(self.halves(), weights, strict=True)
        )
        share = np.float32(len(keys[::2]) / len(keys))
        return {name: share * (firsts[name] + seconds[name]) for name in rho}


class MirroredPolicy(EvolvingConnectivityPolicy):
    """Draws its population in antithetic pairs."""

    def _search(self, network, obs_size, n_outputs, backend, n_env_steps=0):
        plain = super()._search(network, obs_size, n_outputs, backend, n_env_steps)
        return Mirrored(plain.shapes, plain.initial_probability, plain.eps, plain.weighted_sum)


RULES = {
    "momentum": momentum,
    "trust_region": trust_region,
    "signal_trust_region": signal_trust_region,
    "flips": flips,
    "falling_step": falling_step,
}


def register():
    """Make the candidates parameters of the estimators in this process."""
    OPTIMIZERS.update(RULES)
