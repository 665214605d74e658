"""One episode of a deployed spiking network, with every spike."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ecpolicy.cleanup import cleaning_up
from ecpolicy.constraints import Integer, Number
from ecpolicy.environments import check_trained_for, resolve
from ecpolicy.fitting.deployed import deployment_key
from ecpolicy.networks import BooleanRSNN, RealRSNN
from ecpolicy.networks.layout import unpack
from ecpolicy.networks.numba import bits as host
from ecpolicy.policies.policy import BasePolicy
from ecpolicy.rollout.exclusive import exclusively
from ecpolicy.rollout.workers import close_all
from ecpolicy.spaces import action_outputs, observation_encoder
from ecpolicy.untyped import Env
from ecpolicy.wiring import frame

ADDITION = 0.9e-12  # joules, of 32-bit floats in 45 nm


class Activity(NamedTuple):
    """An episode of a spiking policy, as :func:`record_activity` returns it."""

    observations: NDArray[np.float64]  #: (steps, obs_size) as the environment gave them
    actions: np.ndarray  #: ``(steps, *action_space.shape)``
    rewards: NDArray[np.float64]  #: (steps,)
    spikes: NDArray[np.bool_]  #: (steps, substeps, neurons)
    excitatory: NDArray[np.bool_] | None  #: (neurons,), None where weights have either sign
    fan_out: NDArray[np.int64]  #: (neurons,) connections to neurons and outputs
    fan_in: int  #: connections from the observation, each used once a step
    dt: float  #: ms, of a substep
    action_names: tuple[str, ...] = ()  #: of the numbers of an action: the joints that a robot's motors turn, or none

    def __repr__(self) -> str:
        return (
            f"Activity({len(self.rewards)} steps, return {self.rewards.sum():.2f}, {self.fan_out.size} neurons at "
            f"{self.rates.mean():.1f} Hz, {self.spikes.sum():,} spikes, {self.synaptic_operations.sum():,} synaptic "
            f"operations, about {self.energy() * 1e6:.3g} µJ)"
        )

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for every neuron: its sign, spikes, rate in Hz, and connections."""
        sign = {} if self.excitatory is None else {"sign": np.where(self.excitatory, 1, -1)}
        columns = {"spikes": self.spikes.sum(axis=(0, 1)), "rate": self.rates, "fan_out": self.fan_out}
        return frame({**sign, **columns}, "Activity.to_pandas")

    @property
    def step_ms(self) -> float:
        """Milliseconds of network time in an environment step."""
        return float(self.spikes.shape[1] * self.dt)

    @property
    def rates(self) -> NDArray[np.float64]:
        """Mean firing rate of every neuron, in Hz of network time."""
        steps, substeps = self.spikes.shape[:2]
        return np.asarray(self.spikes.sum(axis=(0, 1)) * 1000 / (steps * substeps * self.dt))

    def window(self, first_step: int, n_steps: int | None) -> slice:
        """The environment steps from ``first_step`` on, at most ``n_steps`` of them; None is all that follow.

        Raises
        ------
        TypeError
            Where a number of steps is not whole.
        ValueError
            Where the episode is over before ``first_step``, or ``n_steps`` is below 1.
        """
        length = len(self.spikes)
        Integer()("first_step", first_step)
        if not 0 <= first_step < length:
            raise ValueError(f"first_step must be in [0, {length}), the steps of the episode; got {first_step}.")
        if n_steps is not None:
            Integer(1)("n_steps", n_steps)
        return slice(first_step, length if n_steps is None else min(first_step + n_steps, length))

    @property
    def spikes_per_step(self) -> NDArray[np.int64]:
        """Spikes in every environment step, (steps,)."""
        return np.asarray(self.spikes.sum(axis=(1, 2)))

    @property
    def synaptic_operations(self) -> NDArray[np.int64]:
        """Additions in every environment step, (steps,): each spike once for every connection that it travels along.

        A measure of what an event-driven chip spends. The observation enters by ``fan_in`` further additions of real
        numbers a step, which are counted too.
        """
        return np.asarray(self.spikes.sum(axis=1) @ self.fan_out + self.fan_in)

    def energy(self, joules_per_operation: float = ADDITION) -> float:
        """Estimate what the synaptic operations of the episode would take, in joules.

        It leaves out what often takes more: memory (an 8 KB cache 10 pJ for 64 bits, in the same source), the neurons'
        own updates, the routing of spikes, and leakage.

        Parameters
        ----------
        joules_per_operation : float
            By default 0.9 pJ, an addition of 32-bit floats in 45 nm at 0.9 V, which is what estimates for spiking
            networks usually take; one of 32-bit integers is 0.1 pJ. Source: Horowitz, Computing's energy problem, ISSCC
            2014, figure 1.1.9.
        """
        Number(0)("joules_per_operation", joules_per_operation)
        return float(self.synaptic_operations.sum() * joules_per_operation)


def record_activity(
    policy: BasePolicy, environment: object, *, seed: int = 0, max_episode_steps: int = 1000
) -> Activity:
    """Play an episode with the deployed network and keep every spike.

    Parameters
    ----------
    policy : fitted policy
        With a spiking network of this library.
    environment : environment
        An id, a ``gymnasium.Env``, an ``EnvSpec`` or a callable that makes one.
    seed : int
        The episode starts from ``env.reset(seed=seed)``.
    max_episode_steps : int
        The episode is cut after so many steps.

    Returns
    -------
    Activity

    Raises
    ------
    NotFittedError
    TypeError
        Where the network has no spikes, or the environment is not a Gymnasium environment.
    ValueError
        Where the environment's spaces are not those of the training, an observation holds NaN or infinite values, or a
        number is out of range.

    What the environment raises comes out as it is.
    """
    check_is_fitted(policy, "_deployed")
    Integer(0)("seed", seed)
    Integer(1)("max_episode_steps", max_episode_steps)
    spiking_network(policy)
    with one_environment(policy, environment) as made:
        return played(policy, made, seed, max_episode_steps)


def spiking_network(policy: BasePolicy) -> BooleanRSNN | RealRSNN:
    """The network of a fitted policy; TypeError where it has no spikes."""
    network = policy._deployed.network
    if not isinstance(network, BooleanRSNN | RealRSNN):
        raise TypeError(f"{type(network).__name__} has no spikes to record; wanted RSNN, IntegerRSNN or RealRSNN.")
    return network


@contextmanager
def one_environment(
    policy: BasePolicy, environment: object, *, make: Callable[[Callable[..., Env]], Env] = lambda factory: factory()
) -> Iterator[Env]:
    """The Gymnasium environment that was meant, with the spaces that the policy was trained for.

    One that has to be made is made by ``make`` with its factory, and closed in the end; one that was given stays open.
    """
    resolved = resolve(environment)
    if len(resolved.environments) != 1 or resolved.on_device or resolved.vectorized:
        raise TypeError(f"Wanted one Gymnasium environment; got {environment!r}.")
    check_trained_for(policy, resolved)
    found: Any = resolved.environments[0]
    if isinstance(found, gym.Env):
        with exclusively([found]):
            yield found
        return
    made = make(found)
    with cleaning_up(lambda: close_all([made])):
        yield made


def played(policy: BasePolicy, environment: Env, seed: int, max_episode_steps: int) -> Activity:
    """One episode of this environment, with every spike."""
    deployed, network = policy._deployed, spiking_network(policy)
    connections, outputs = deployed.connections, action_outputs(policy.action_space_)
    substep: Any = network.one_substep()  # advances by one Euler step at a time
    state = network.initial_state(deployment_key(deployed.seed)[None], outputs)
    encode = observation_encoder(policy.observation_space_)
    first = np.zeros(1, np.int64)
    played: list[tuple[object, ...]] = []
    observation, _ = environment.reset(seed=seed)
    over = False
    while not over and len(played) < max_episode_steps:
        raw = np.array(encode(observation), dtype=np.float64)[None]
        x, output = np.empty(raw.shape, np.float32), np.empty((1, outputs), np.float32)
        mean, inverse_std, clip = deployed.standardizer
        if host.standardize(raw, first, mean, inverse_std, clip, x) >= 0:
            raise ValueError(f"The observation holds NaN or infinite values: {raw[0]}.")
        fired = []
        for _ in range(network.substeps):
            substep.step(connections, state, x, output, owners=first, rows=first)
            fired.append(_spikes(network, state))
        action = deployed.decode(output)[0]
        observation, reward, terminated, truncated, _ = environment.step(action)
        over = terminated or truncated
        played.append((raw[0], action, float(reward), np.array(fired)))
    fan_in, fan_out = _fans(policy, network)
    excitatory = np.arange(network.n_neurons) < network.n_excitatory if isinstance(network, BooleanRSNN) else None
    observations, actions, rewards, spikes = (np.array(part) for part in zip(*played, strict=True))
    names = _names_of_actions(environment, actions[0].size)
    return Activity(observations, actions, rewards, spikes, excitatory, fan_out, fan_in, network.dt, names)


def _names_of_actions(environment: Env, size: int) -> tuple[str, ...]:
    """The joints of the motors of a MuJoCo model, where each of them turns one."""
    model: Any = getattr(environment.unwrapped, "model", None)
    turned = [int(joint) for joint, _ in getattr(model, "actuator_trnid", ())]
    if len(turned) != size or any(model.actuator_trntype):  # 0 is a joint
        return ()
    names = tuple(model.joint(joint).name for joint in turned)
    return names if all(names) else ()


def _spikes(network: BooleanRSNN | RealRSNN, state: Any) -> NDArray[np.bool_]:
    """The spikes of the last substep, (neurons,)."""
    return unpack(state.spikes[0], network.n_neurons) if isinstance(network, BooleanRSNN) else state.spikes[0].copy()


def _fans(policy: BasePolicy, network: BooleanRSNN | RealRSNN) -> tuple[int, NDArray[np.int64]]:
    """Connections from the observation, and from each neuron to neurons and outputs."""
    parameters = policy._deployed.parameters
    present = {name: (p > 0.5) if isinstance(network, BooleanRSNN) else (p != 0) for name, p in parameters.items()}
    fan_out = present["recurrent"].sum(axis=1) + present["output"].sum(axis=1)
    return int(present["input"].sum()), fan_out.astype(np.int64)
