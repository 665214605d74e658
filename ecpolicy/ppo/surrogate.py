"""A recurrent spiking layer with real weights that PyTorch can train: surrogate gradients through time.

This module is PyTorch through and through, and is itself imported where it is used.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ecpolicy.networks import layout
from ecpolicy.networks.cells import CellConstants
from ecpolicy.ppo.spikes import SURROGATES, Spike

if TYPE_CHECKING:
    from ecpolicy.networks import RealRSNN

State = tuple[Tensor, Tensor]

FLUSH = float(layout.FLUSH)


Constant = float | Tensor  # of all neurons, or (n,) of each


class Dynamics(NamedTuple):
    """The numbers of the substeps: what :meth:`ecpolicy.networks.RealRSNN.constants` gives."""

    decay_syn: Constant
    decay_m: Constant
    decay_out: float
    r_h: Constant
    per_dt: float  # 1/ms
    substeps: int
    surrogate: str
    beta: float
    threshold: Constant = 1.0
    refractory: Tensor | None = None  # (n,) substeps after a spike in which a neuron is held at 0; None for none

    def held(self, spike: Tensor) -> Tensor | None:
        """The substeps that are left of the refractory period, of a state's spikes (batch, n)."""
        return None if self.refractory is None else torch.where(spike > 0, self.refractory, -spike).detach()


def with_held(spike: Tensor, held: Tensor | None) -> Tensor:
    """Spikes as a state has them: of a neuron that did not fire, less what is left of its refractory period."""
    return spike if held is None else spike - held * (spike <= 0)


def without_held(spike: Tensor) -> Tensor:
    """The spikes, 0 or 1, of those that a state has."""
    return spike + spike.clamp(max=0).abs().detach()


def integrate_plainly(
    i_in: Tensor, v: Tensor, i_syn: Tensor, rate: Tensor, spike: Tensor, w_h: Tensor, dynamics: Dynamics
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The substeps of a sequence in differentiable operations: the twin that :class:`Integrate` is tested against.

    Parameters
    ----------
    i_in : Tensor, shape (time, batch, n)
        Input current of every environment step.
    v, i_syn, rate, spike : Tensor, shape (batch, n)
        State before the sequence. ``spike`` is 1 of neurons that fired in the last substep; of others it is 0, or minus
        the substeps that are left of their refractory period.
    w_h : Tensor, shape (n, n), presynaptic by postsynaptic
    dynamics : Dynamics

    Returns
    -------
    (rates, v, i_syn, rate, spike)
        Rates at the end of every environment step, (time, batch, n), in spikes per ms; the state after the sequence.
    """
    d = dynamics
    rates, held, spike = [], d.held(spike), without_held(spike)
    for current in i_in:
        v, i_syn, rate = _flushed(v), _flushed(i_syn), _flushed(rate)
        for _ in range(d.substeps):
            i_syn = d.decay_syn * i_syn + d.r_h * (spike @ w_h)
            u = i_syn + current
            v = u + d.decay_m * (v - u)
            v = v if held is None else torch.where(held > 0, 0, v)
            spike = Spike.apply(v - d.threshold, d.surrogate, d.beta)  # type: ignore[no-untyped-call]
            v = v * (1 - spike)
            held = _waiting(spike, held, d)
            signal = spike * d.per_dt
            rate = signal + d.decay_out * (rate - signal)
        rates.append(rate)
    return torch.stack(rates), v, i_syn, rate, with_held(spike, held)


def _waiting(spike: Tensor, held: Tensor | None, dynamics: Dynamics) -> Tensor | None:
    """The substeps that are left after this one."""
    if held is None or dynamics.refractory is None:
        return None
    return torch.where(spike > 0, dynamics.refractory, (held - 1).clamp_(min=0))


def _flushed(x: Tensor) -> Tensor:
    """``x`` with tiny values set to zero; the gradient passes."""
    return x + (nn.functional.hardshrink(x, FLUSH) - x).detach()


class Integrate(torch.autograd.Function):
    """:func:`integrate_plainly` with its backward pass written out.

    It keeps one number per neuron and substep, the potential before the reset, from which everything else follows
    (138 MB for 16 steps of a batch of 256 with 256 neurons and 33 substeps); and forms the gradient of the recurrent
    weights by one product per environment step instead of one per substep.
    """

    @staticmethod
    def forward(
        ctx: Any, i_in: Tensor, v: Tensor, i_syn: Tensor, rate: Tensor, spike: Tensor, w_h: Tensor, dynamics: Dynamics
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The same operations, in the same order and rounding, as those of the twin, in place."""
        d, held = dynamics, dynamics.held(spike)
        first_spike = spike = without_held(spike)
        steps = i_in.shape[0]
        keep = any(ctx.needs_input_grad)
        potentials = i_in.new_empty((steps if keep else 1, d.substeps, *v.shape))
        waits = None if held is None else potentials.new_empty(potentials.shape, dtype=torch.bool)
        spike = spike.clone()
        rates, u, signal, silent = torch.empty_like(i_in), torch.empty_like(v), torch.empty_like(v), torch.empty_like(v)
        for t in range(steps):
            v, i_syn, rate = (nn.functional.hardshrink(x, FLUSH) for x in (v, i_syn, rate))
            for k, potential in enumerate(potentials[t if keep else 0]):
                torch.mm(spike, w_h, out=u)
                i_syn.mul_(d.decay_syn).add_(u.mul_(d.r_h))
                torch.add(i_syn, i_in[t], out=u)
                torch.add(v.sub_(u).mul_(d.decay_m), u, out=potential)
                if held is not None and waits is not None:
                    potential.masked_fill_(torch.gt(held, 0, out=waits[t if keep else 0, k]), 0)
                torch.gt(potential, d.threshold, out=spike)
                torch.le(potential, d.threshold, out=silent)
                torch.mul(potential, silent, out=v)
                torch.mul(spike, d.per_dt, out=signal)
                rate.sub_(signal).mul_(d.decay_out).add_(signal)
                held = _waiting(spike, held, d)
            rates[t] = rate
        ctx.save_for_backward(potentials if keep else None, waits if keep else None, first_spike, w_h)
        ctx.dynamics = d
        return rates, v, i_syn, rate, with_held(spike, held)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Adjoints of the substeps, from the last to the first.

        With D the surrogate derivative at ``v' - threshold`` and a bar for the derivative of the loss::

            e        = spike_bar + (1 - decay_out)/dt rate_bar
            v'_bar   = v_bar ((1 - s) - v' D) + e D
            i_bar   <- decay_syn i_bar + (1 - decay_m) v'_bar
            v_bar   <- decay_m v'_bar
            spike_bar <- R_h i_bar W_h^T          of the substep before

        Where a neuron is held at 0, ``v'`` hangs on nothing: ``v'_bar = 0``.
        """
        potentials, waits, first_spike, w_h = ctx.saved_tensors
        d: Dynamics = ctx.dynamics
        rates_bar, v_bar, i_bar, rate_bar, spike_bar = gradients
        steps, substeps = potentials.shape[:2]
        derivative = SURROGATES[d.surrogate].derivative
        v_bar, rate_bar, spike_bar = v_bar.clone(), rate_bar.clone(), spike_bar.clone()
        last = i_bar / d.decay_syn  # the substeps multiply it by decay_syn, as they do what comes from their successor
        back = (w_h * d.r_h).T.contiguous()
        i_in_bar, w_bar = torch.empty_like(rates_bar), torch.zeros_like(w_h)
        currents, drive = torch.empty_like(potentials[0]), torch.empty_like(v_bar)
        for t in reversed(range(steps)):
            potential = potentials[t]
            slope = nn.functional.hardshrink(derivative(potential - d.threshold, d.beta), FLUSH)
            spikes = (potential > d.threshold).to(potential.dtype)
            through = (1 - spikes).addcmul_(potential, slope, value=-1)
            if waits is not None:
                slope.masked_fill_(waits[t], 0)
                through.masked_fill_(waits[t], 0)
            rate_bar += rates_bar[t]
            first = last
            per_spike = (1 - d.decay_out) * d.per_dt
            for k in reversed(range(substeps)):
                torch.add(spike_bar, rate_bar, alpha=per_spike, out=drive)
                v_bar.mul_(through[k]).addcmul_(drive, slope[k])
                torch.mul(last, d.decay_syn, out=currents[k])
                last = _add_times(currents[k], v_bar, 1 - d.decay_m)
                v_bar.mul_(d.decay_m)
                torch.mm(last, back, out=spike_bar)
                per_spike *= d.decay_out
            rate_bar *= d.decay_out**substeps
            # v' of every substep has the input current as it has i_syn: take the part that i_syn inherits away.
            total = currents.sum(0)
            i_in_bar[t] = total - d.decay_syn * (total - currents[0] + first)
            before = potentials[t - 1, -1:] > d.threshold if t else first_spike[None] > 0
            spikes = torch.cat([before.to(spikes.dtype), spikes[:-1]])
            w_bar.addmm_(spikes.flatten(0, 1).T, currents.flatten(0, 1))
            last = last.clone()  # currents is written over
        return i_in_bar, v_bar, last * d.decay_syn, rate_bar, spike_bar, w_bar * d.r_h, None


def _add_times(total: Tensor, x: Tensor, factor: Constant) -> Tensor:
    """``total += factor x``, in place."""
    return total.addcmul_(x, factor) if isinstance(factor, Tensor) else total.add_(x, alpha=factor)


class SpikingLayer(nn.Module):
    """The spiking network without its readout, in the shape of ``torch.nn.LSTM``, for sb3-contrib's recurrent policies.

    Equations and constants are those of :class:`ecpolicy.networks.RealRSNN`. The two states that an LSTM has hold four
    here: ``h`` the membrane potentials and synaptic currents, ``c`` the rates and spikes, (1, batch, 2 n) each. Zeros
    start an episode. Of a neuron that did not fire, ``c`` has in place of its spike minus the substeps that are left of
    its refractory period.

    Parameters
    ----------
    input_size : int
        Numbers in an observation.
    network : RealRSNN
        Size, times and gains.
    surrogate : str
        A name in ``SURROGATES``.
    beta : float
        Its steepness.
    """

    num_layers = 1
    r_in: Constant
    r_out: float

    def __init__(
        self, input_size: int, network: "RealRSNN", *, surrogate: str = "superspike", beta: float = 10.0
    ) -> None:
        super().__init__()
        if surrogate not in SURROGATES:
            raise ValueError(f"surrogate must be one of {sorted(SURROGATES)}; got {surrogate!r}.")
        if not beta > 0:
            raise ValueError(f"beta must be positive; got {beta!r}.")
        self.input_size, self.hidden_size = input_size, 2 * network.n_neurons
        self.substeps, self.surrogate, self.beta = network.substeps, surrogate, float(beta)
        numbers: dict[str, Any] = {"threshold": 1.0, "refractory": None}
        numbers |= zip(CellConstants._fields, network.constants(input_size), strict=False)
        if not np.any(numbers["refractory"]):
            numbers["refractory"] = None
        for name, number in numbers.items():
            if np.ndim(number):  # of each neuron: follows the module to its device and precision, and is not saved
                self.register_buffer(name, torch.tensor(number, dtype=torch.get_default_dtype()), persistent=False)
            else:
                setattr(self, name, number if number is None else float(number))
        self.input = nn.Parameter(torch.randn(input_size, network.n_neurons))
        self.recurrent = nn.Parameter(torch.randn(network.n_neurons, network.n_neurons))

    @property
    def dynamics(self) -> Dynamics:
        """The numbers of the substeps."""
        return Dynamics(*(getattr(self, name) for name in Dynamics._fields))

    def forward(self, sequence: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance by the environment steps of a sequence.

        Parameters
        ----------
        sequence : Tensor, shape (time, batch, input_size)
        state : pair of Tensor, shape (1, batch, 2 n)

        Returns
        -------
        (rates, state)
            Firing rates at the end of every step, (time, batch, n), in spikes per ms; the state after the last.
        """
        (v, i_syn), (rate, spike) = (part[0].chunk(2, dim=-1) for part in state)
        i_in = self.r_in * (sequence @ self.input)
        before = i_in, v, i_syn, rate, spike
        rates, *after = Integrate.apply(*before, self.recurrent, self.dynamics)  # type: ignore[no-untyped-call]
        v, i_syn, rate, spike = after
        return rates, (torch.cat([v, i_syn], -1)[None], torch.cat([rate, spike], -1)[None])
