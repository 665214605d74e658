"""Spikes that PyTorch can differentiate: a step function forward, the derivative of a smooth one backward.

A spike is a step function of the membrane potential, whose derivative is zero almost everywhere. Backpropagation takes
the derivative of a steep but smooth function in its place, the surrogate; the forward pass keeps the step. This module
is PyTorch through and through, and is itself imported where it is used.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


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
