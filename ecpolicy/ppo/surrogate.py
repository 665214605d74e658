"""A recurrent spiking layer with real weights that PyTorch can train: surrogate gradients through time.

A spike is a step function of the membrane potential, whose derivative is zero almost everywhere. Backpropagation takes
the derivative of a steep but smooth function in its place, the surrogate; the forward pass keeps the step. This module
is PyTorch through and through, and is itself imported where it is used.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ecpolicy.networks import layout

if TYPE_CHECKING:
    from ecpolicy.networks import RealRSNN

State = tuple[Tensor, Tensor]

FLUSH = float(layout.FLUSH)


class Surrogate(NamedTuple):
    """What stands in for the derivative of the step function, and the smooth function whose derivative it is."""

    derivative: Callable[[Tensor, float], Tensor]
    primitive: Callable[[Tensor, float], Tensor]


def superspike(x: Tensor, beta: float) -> Tensor:
    """1 / (1 + beta |x|)^2 (Zenke and Ganguli, 2018)."""
    return (1 + beta * x.abs()).square_().reciprocal_()


def superspike_primitive(x: Tensor, beta: float) -> Tensor:
    """X / (1 + beta |x|), the fast sigmoid."""
    return x / (1 + beta * x.abs())


def piecewise_linear(x: Tensor, beta: float) -> Tensor:
    """max(0, 1 - beta |x|), a triangle (Esser et al., 2016)."""
    return (1 - beta * x.abs()).clamp_(min=0)


def piecewise_linear_primitive(x: Tensor, beta: float) -> Tensor:
    """X - beta x |x| / 2 within |x| <= 1/beta and constant, ±1 / (2 beta), outside."""
    inside = x.clamp(-1 / beta, 1 / beta)
    return inside - beta * inside * inside.abs() / 2


def sigmoid(x: Tensor, beta: float) -> Tensor:
    """Beta e^(-beta x) / (1 + e^(-beta x))^2, formed as beta p (1 - p) with p the logistic function: always finite."""
    p = torch.sigmoid(beta * x)
    return beta * p * torch.sigmoid(-beta * x)


def sigmoid_primitive(x: Tensor, beta: float) -> Tensor:
    """1 / (1 + e^(-beta x)), the logistic function."""
    return torch.sigmoid(beta * x)


SURROGATES = {
    "superspike": Surrogate(superspike, superspike_primitive),
    "piecewise_linear": Surrogate(piecewise_linear, piecewise_linear_primitive),
    "sigmoid": Surrogate(sigmoid, sigmoid_primitive),
}


class Spike(torch.autograd.Function):
    """1 where x > 0, else 0; backward the surrogate derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: str, beta: float) -> Tensor:
        """Spikes of potentials ``x`` above threshold."""
        ctx.save_for_backward(x)
        ctx.surrogate, ctx.beta = surrogate, beta
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The incoming gradient times the surrogate derivative."""
        (x,) = ctx.saved_tensors
        return gradients[0] * SURROGATES[ctx.surrogate].derivative(x, ctx.beta), None, None


class Dynamics(NamedTuple):
    """The numbers of the substeps: what :meth:`ecpolicy.networks.RealRSNN.constants` gives, as Python floats."""

    decay_syn: float
    decay_m: float
    decay_out: float
    r_h: float
    per_dt: float  # 1/ms
    substeps: int
    surrogate: str
    beta: float


def integrate_plainly(
    i_in: Tensor, v: Tensor, i_syn: Tensor, rate: Tensor, spike: Tensor, w_h: Tensor, dynamics: Dynamics
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The substeps of a sequence in differentiable operations: the twin that :class:`Integrate` is tested against.

    Parameters
    ----------
    i_in : Tensor, shape (time, batch, n)
        Input current of every environment step.
    v, i_syn, rate, spike : Tensor, shape (batch, n)
        State before the sequence.
    w_h : Tensor, shape (n, n), presynaptic by postsynaptic
    dynamics : Dynamics

    Returns
    -------
    (rates, v, i_syn, rate, spike)
        Rates at the end of every environment step, (time, batch, n), in spikes per ms; the state after the sequence.
    """
    d = dynamics
    rates = []
    for current in i_in:
        v, i_syn, rate = _flushed(v), _flushed(i_syn), _flushed(rate)
        for _ in range(d.substeps):
            i_syn = d.decay_syn * i_syn + d.r_h * (spike @ w_h)
            u = i_syn + current
            v = u + d.decay_m * (v - u)
            spike = Spike.apply(v - 1, d.surrogate, d.beta)  # type: ignore[no-untyped-call]
            v = v * (1 - spike)
            signal = spike * d.per_dt
            rate = signal + d.decay_out * (rate - signal)
        rates.append(rate)
    return torch.stack(rates), v, i_syn, rate, spike


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
        d = dynamics
        first_spike = spike
        steps = i_in.shape[0]
        keep = any(ctx.needs_input_grad)
        potentials = i_in.new_empty((steps if keep else 1, d.substeps, *v.shape))
        spike = spike.clone()
        rates, u, signal, silent = torch.empty_like(i_in), torch.empty_like(v), torch.empty_like(v), torch.empty_like(v)
        for t in range(steps):
            v, i_syn, rate = (nn.functional.hardshrink(x, FLUSH) for x in (v, i_syn, rate))
            for potential in potentials[t if keep else 0]:
                torch.mm(spike, w_h, out=u)
                i_syn.mul_(d.decay_syn).add_(u.mul_(d.r_h))
                torch.add(i_syn, i_in[t], out=u)
                torch.add(v.sub_(u).mul_(d.decay_m), u, out=potential)
                torch.gt(potential, 1, out=spike)
                torch.le(potential, 1, out=silent)
                torch.mul(potential, silent, out=v)
                torch.mul(spike, d.per_dt, out=signal)
                rate.sub_(signal).mul_(d.decay_out).add_(signal)
            rates[t] = rate
        ctx.save_for_backward(potentials if keep else None, first_spike, w_h)
        ctx.dynamics = d
        return rates, v, i_syn, rate, spike

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Adjoints of the substeps, from the last to the first.

        With D the surrogate derivative at ``v' - 1`` and a bar for the derivative of the loss::

            e        = spike_bar + (1 - decay_out)/dt rate_bar
            v'_bar   = v_bar ((1 - s) - v' D) + e D
            i_bar   <- decay_syn i_bar + (1 - decay_m) v'_bar
            v_bar   <- decay_m v'_bar
            spike_bar <- R_h i_bar W_h^T          of the substep before
        """
        potentials, first_spike, w_h = ctx.saved_tensors
        d: Dynamics = ctx.dynamics
        rates_bar, v_bar, i_bar, rate_bar, spike_bar = gradients
        steps, substeps = potentials.shape[:2]
        derivative = SURROGATES[d.surrogate].derivative
        v_bar, rate_bar, spike_bar = v_bar.clone(), rate_bar.clone(), spike_bar.clone()
        last = i_bar / d.decay_syn  # the substeps multiply it by decay_syn, as they do what comes from their successor
        back = d.r_h * w_h.T.contiguous()
        i_in_bar, w_bar = torch.empty_like(rates_bar), torch.zeros_like(w_h)
        currents, drive = torch.empty_like(potentials[0]), torch.empty_like(v_bar)
        for t in reversed(range(steps)):
            potential = potentials[t]
            slope = nn.functional.hardshrink(derivative(potential - 1, d.beta), FLUSH)
            spikes = (potential > 1).to(potential.dtype)
            through = (1 - spikes).addcmul_(potential, slope, value=-1)
            rate_bar += rates_bar[t]
            first = last
            per_spike = (1 - d.decay_out) * d.per_dt
            for k in reversed(range(substeps)):
                torch.add(spike_bar, rate_bar, alpha=per_spike, out=drive)
                v_bar.mul_(through[k]).addcmul_(drive, slope[k])
                torch.mul(last, d.decay_syn, out=currents[k])
                last = currents[k].add_(v_bar, alpha=1 - d.decay_m)
                v_bar.mul_(d.decay_m)
                torch.mm(last, back, out=spike_bar)
                per_spike *= d.decay_out
            rate_bar *= d.decay_out**substeps
            # v' of every substep has the input current as it has i_syn: take the part that i_syn inherits away.
            total = currents.sum(0)
            i_in_bar[t] = total - d.decay_syn * (total - currents[0] + first)
            before = potentials[t - 1, -1:] > 1 if t else first_spike[None] > 0
            spikes = torch.cat([before.to(spikes.dtype), spikes[:-1]])
            w_bar.addmm_(spikes.flatten(0, 1).T, currents.flatten(0, 1))
            last = last.clone()  # currents is written over
        return i_in_bar, v_bar, last * d.decay_syn, rate_bar, spike_bar, w_bar * d.r_h, None


class SpikingLayer(nn.Module):
    """The spiking network without its readout, in the shape of ``torch.nn.LSTM``, for sb3-contrib's recurrent policies.

    Equations and constants are those of :class:`ecpolicy.networks.RealRSNN`. The two states that an LSTM has hold four
    here: ``h`` the membrane potentials and synaptic currents, ``c`` the rates and spikes, (1, batch, 2 n) each. Zeros
    start an episode.

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

    def __init__(
        self, input_size: int, network: "RealRSNN", *, surrogate: str = "superspike", beta: float = 10.0
    ) -> None:
        super().__init__()
        if surrogate not in SURROGATES:
            raise ValueError(f"surrogate must be one of {sorted(SURROGATES)}; got {surrogate!r}.")
        if not beta > 0:
            raise ValueError(f"beta must be positive; got {beta!r}.")
        self.input_size, self.hidden_size = input_size, 2 * network.n_neurons
        decay_syn, decay_m, decay_out, r_in, r_h, r_out, per_dt = (float(c) for c in network.constants(input_size))
        self.r_in, self.r_out = r_in, r_out
        self.dynamics = Dynamics(decay_syn, decay_m, decay_out, r_h, per_dt, network.substeps, surrogate, float(beta))
        self.input = nn.Parameter(torch.randn(input_size, network.n_neurons))
        self.recurrent = nn.Parameter(torch.randn(network.n_neurons, network.n_neurons))

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
