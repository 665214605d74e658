"""The spiking layer: its surrogates, its gradient through time, its spikes, its state."""

import numpy as np
import pytest

from ecpolicy.networks import RealRSNN, reference

torch = pytest.importorskip("torch")

from ecpolicy.ppo.spikes import SURROGATES  # noqa: E402
from ecpolicy.ppo.surrogate import Integrate, SpikingLayer, integrate_plainly  # noqa: E402

BETAS = [1.0, 10.0, 25.0]
TINY = {"n_neurons": 7, "gain_in": 0.7, "gain_recurrent": 2.0}


@pytest.fixture(autouse=True)
def fixed_draws():
    """The same weights in every run; one thread, as threads that wait for each other make small products slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_num_threads(threads)


def states(batch, n, dtype=torch.float32, **options):
    """v, i_syn, rate and spike, with some neurons that have just fired."""
    parts = [torch.rand(batch, n, dtype=dtype) for _ in range(3)]
    return [part.requires_grad_(**options) for part in (*parts, (torch.rand(batch, n) > 0.7).to(dtype))]


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("name", SURROGATES)
def test_derivative_is_that_of_the_primitive(name, beta):
    x = torch.linspace(-2, 2, 400, dtype=torch.float64) + 1e-3  # away from the kinks at 0 and at 1/beta
    step = 1e-6
    primitive = SURROGATES[name].primitive
    differences = (primitive(x + step, beta) - primitive(x - step, beta)) / (2 * step)
    smooth = (x.abs() > 2 * step) & ((x.abs() - 1 / beta).abs() > 2 * step)
    assert smooth.sum() >= 398
    found = SURROGATES[name].derivative(x, beta)
    torch.testing.assert_close(found[smooth], differences[smooth], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("name", "at_zero"), [("superspike", 1.0), ("piecewise_linear", 1.0), ("sigmoid", 2.5)])
def test_derivatives_at_the_threshold_and_far_from_it(name, at_zero):
    derivative = SURROGATES[name].derivative
    assert derivative(torch.zeros(1), 10.0).item() == at_zero
    far = derivative(torch.tensor([-1e4, 1e4]), 10.0)
    assert torch.isfinite(far).all()
    assert far.max() < 1e-9


def superspike(x, beta):
    return 1 / (1 + beta * np.abs(x)) ** 2


@pytest.mark.parametrize("substeps", [1, 2])
def test_gradient_of_two_steps_is_the_chain_rule(substeps):
    """Two environment steps of three neurons, every partial derivative written out in NumPy."""
    network = RealRSNN(n_neurons=3, step_ms=0.5 * substeps, gain_in=2.0, gain_recurrent=3.0, random_start=False)
    layer = SpikingLayer(2, network, beta=4.0).double()
    x = torch.randn(2, 1, 2, dtype=torch.float64)
    zero = torch.zeros(1, 1, 6, dtype=torch.float64)
    start = torch.tensor([[[0.9, 0.2, 1.3, 0.3, -0.4, 0.8]]], dtype=torch.float64)
    readout = torch.randn(2, 3, dtype=torch.float64)
    rates, _ = layer(x, (start, zero))
    (rates[:, 0] * readout).sum().backward()

    d_s, d_m, d_o, r_in, r_h, _, per_dt = (float(c) for c in network.constants(2))
    w_in, w_h = layer.input.detach().numpy(), layer.recurrent.detach().numpy()
    xs, c = x.numpy()[:, 0], readout.numpy()
    v, i, rate, s = start[0, 0, :3].numpy(), start[0, 0, 3:].numpy(), np.zeros(3), np.zeros(3)
    trace = []
    for t in range(2):
        for _ in range(substeps):
            before = s
            i = d_s * i + r_h * (s @ w_h)
            u = i + r_in * (xs[t] @ w_in)
            peak = u + d_m * (v - u)
            s = (peak > 1).astype(float)
            v = peak * (1 - s)
            rate = s * per_dt + d_o * (rate - s * per_dt)
            trace.append((t, before, peak, s))
    assert sum(s.sum() for *_, s in trace) >= 2
    assert any(before.any() for _, before, *_ in trace)

    grad_in, grad_h = np.zeros_like(w_in), np.zeros_like(w_h)
    dv, di, dr, ds = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3)
    for k, (t, before, peak, s) in reversed(list(enumerate(trace))):
        if (k + 1) % substeps == 0:
            dr = dr + c[t]
        ds = ds + dr * (1 - d_o) * per_dt  # rate
        dpeak = dv * (1 - s)  # reset, of the potential
        ds = ds - dv * peak  # reset, of the spike
        dpeak = dpeak + ds * superspike(peak - 1, 4.0)
        du = dpeak * (1 - d_m)
        dv, dr = dpeak * d_m, dr * d_o
        di = di + du
        grad_in += np.outer(xs[t], du) * r_in
        grad_h += np.outer(before, di) * r_h
        ds = w_h @ di * r_h
        di = di * d_s
    np.testing.assert_allclose(layer.input.grad.numpy(), grad_in, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(layer.recurrent.grad.numpy(), grad_h, rtol=1e-10, atol=1e-12)
    assert np.abs(grad_h).max() > 1e-3


def own(n, **settings):
    """A network of neurons that all differ, some of them without a refractory period."""
    rng = np.random.default_rng(n)
    given = {"tau_m": rng.uniform(3, 30, n), "tau_syn": rng.uniform(2, 20, n), "threshold": rng.uniform(0.3, 2, n),
             "t_ref": rng.choice([0.0, 0.5, 1.5, 7.0], n), "random_start": False}  # fmt: skip
    return RealRSNN(**{"n_neurons": n, "gain_in": 0.7, "gain_recurrent": 2.0, **given, **settings})


ALIKE_AND_OWN = [RealRSNN(step_ms=4, **TINY), own(7, step_ms=4), own(7, step_ms=4, t_ref=0.0)]


@pytest.mark.parametrize("network", ALIKE_AND_OWN, ids=["alike", "own", "without t_ref"])
@pytest.mark.parametrize("name", SURROGATES)
def test_gradient_equals_that_of_the_plain_twin(name, network):
    layer = SpikingLayer(3, network, surrogate=name, beta=5.0).double()
    sequence = torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True)
    before = states(5, 7, torch.float64)
    if layer.refractory is not None:
        before[3].data[0] -= 3 * (before[3].data[0] == 0)  # held for three more substeps
    before[0].data[0, :3] = 1e-20  # flushed, and the gradient passes
    factors = [torch.randn(shape, dtype=torch.float64) for shape in [(4, 5, 7), *[(5, 7)] * 4]]

    def gradients(integrate):
        after = integrate(layer.r_in * (sequence @ layer.input), *before, layer.recurrent, layer.dynamics)
        loss = sum((part * factor).sum() for part, factor in zip(after, factors, strict=True))
        return after, torch.autograd.grad(loss, [sequence, *before, *layer.parameters()])

    plain, plain_gradients = gradients(integrate_plainly)
    fast, fast_gradients = gradients(Integrate.apply)
    assert (plain[4] > 0).any()
    for wanted, found in zip(plain, fast, strict=True):
        assert torch.equal(wanted, found)
    for wanted, found in zip(plain_gradients, fast_gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("network", ALIKE_AND_OWN, ids=["alike", "own", "without t_ref"])
def test_gradient_goes_back_through_several_calls(network):
    """RecurrentPPO hands the state from one sequence to the next: the cut must not be felt."""
    layer = SpikingLayer(3, network).double()
    sequence = torch.randn(6, 2, 3, dtype=torch.float64)
    zero = torch.zeros(1, 2, 14, dtype=torch.float64)
    whole, end = layer(sequence, (zero, zero))
    wanted = torch.autograd.grad(whole.square().sum(), list(layer.parameters()))
    state, parts = (zero, zero), []
    for piece in sequence.split(2):
        rates, state = layer(piece, state)
        parts.append(rates)
    found = torch.autograd.grad(torch.cat(parts).square().sum(), list(layer.parameters()))
    assert torch.equal(torch.cat(parts), whole)
    assert all(torch.equal(a, b) for a, b in zip(state, end, strict=True))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_gradient_of_neurons_that_differ_is_that_of_differences():
    """Without a spike, and with a surrogate that is as steep as its step, potentials are smooth in the weights."""
    layer = SpikingLayer(2, own(5, step_ms=3, gain_in=0.05), beta=1e9).double()
    sequence = torch.randn(3, 1, 2, dtype=torch.float64)
    weights = layer.input.detach().clone()

    def end(change):
        layer.input.data = weights + change
        zero = torch.zeros(1, 1, 10, dtype=torch.float64)
        _, (h, c) = layer(sequence, (zero, zero))
        assert not c.any()  # neither spikes nor what is held
        return h[0, 0, :5] @ torch.arange(1.0, 6, dtype=torch.float64)

    end(torch.zeros_like(weights)).backward()
    for place in [(0, 0), (1, 4)]:
        step = torch.zeros_like(weights)
        step[place] = 1e-6
        with torch.no_grad():
            assert float((end(step) - end(-step)) / 2e-6) == pytest.approx(float(layer.input.grad[place]), rel=1e-6)


def on_grid(array):
    return np.round(np.asarray(array) * 2**8) / 2**8


@pytest.mark.parametrize("n", [7, 64, 65])
def test_spikes_equal_those_of_numpy(n):
    """100 environment steps, with weights on a grid so that sums are exact in any order."""
    rng = np.random.default_rng(0)
    network = RealRSNN(n_neurons=n, gain_in=0.3, random_start=False)
    layer = SpikingLayer(4, network)
    layer.input.data = torch.tensor(on_grid(layer.input.detach()), dtype=torch.float32)
    layer.recurrent.data = torch.tensor(on_grid(layer.recurrent.detach()), dtype=torch.float32)
    w_in, w_h = layer.input.detach().numpy(), layer.recurrent.detach().numpy()
    d_s, d_m, d_o, r_in, r_h, _, per_dt = network.constants(4)
    batch, f = 3, np.float32
    v, i, rate, s = (np.zeros((batch, n), f) for _ in range(4))
    state = (torch.zeros(1, batch, 2 * n), torch.zeros(1, batch, 2 * n))
    fired = 0
    for step in range(100):
        x = on_grid(rng.normal(size=(batch, 4)) * (step % 20 > 5)).astype(f)
        i_in = r_in * (x @ w_in)
        for part in (v, i, rate):
            part[np.abs(part) <= f(1e-12)] = 0
        for _ in range(network.substeps):
            i = d_s * i + r_h * (s @ w_h)
            u = i + i_in
            v = u + d_m * (v - u)
            s = (v > 1).astype(f)
            v = v * (1 - s)
            signal = s * per_dt
            rate = signal + d_o * (rate - signal)
            fired += int(s.sum())
        with torch.no_grad():
            rates, state = layer(torch.tensor(x)[None], state)
        assert np.array_equal(state[1][0, :, n:].numpy(), s)
        assert np.array_equal(state[0][0].numpy(), np.concatenate([v, i], axis=1))
        assert np.array_equal(rates[0].numpy(), rate)
    assert fired > 100 * n


@pytest.mark.parametrize("n", [7, 65])
def test_spikes_of_neurons_that_differ_equal_those_of_the_reference(n):
    """100 environment steps, with weights on a grid so that sums are exact in any order."""
    rng, network = np.random.default_rng(0), own(n, gain_in=0.3)
    layer = SpikingLayer(4, network)
    for weights in (layer.input, layer.recurrent):
        weights.data = torch.tensor(on_grid(weights.detach()), dtype=torch.float32)
    w_in, w_h = layer.input.detach().numpy(), layer.recurrent.detach().numpy()
    zero = np.zeros(n, np.float32)
    ours, held = reference.State(zero, zero, zero > 0, zero, np.zeros(1, np.float32), zero.astype(np.int32)), 0
    state = (torch.zeros(1, 1, 2 * n), torch.zeros(1, 1, 2 * n))
    fired = 0
    for step in range(100):
        x = on_grid(rng.normal(size=4) * (step % 20 > 5)).astype(np.float32)
        settings = {"substeps": network.substeps, "constants": network.constants(4)}
        ours, _ = reference.real_rsnn_step(w_in, w_h, np.zeros((n, 1), np.float32), ours, x, **settings)
        with torch.no_grad():
            _, state = layer(torch.tensor(x)[None, None], state)
        np.testing.assert_array_equal(state[0][0, 0].numpy(), np.concatenate([ours.v, ours.i_syn]))
        np.testing.assert_array_equal(state[1][0, 0, n:].numpy(), np.where(ours.spike, 1, -ours.held))
        fired, held = fired + ours.spike.sum(), held + (ours.held > 0).sum()
    assert fired > n
    assert held > n


def test_rows_of_a_batch_and_steps_of_a_sequence_are_independent():
    layer = SpikingLayer(3, RealRSNN(**TINY)).double()
    sequence = torch.randn(5, 4, 3, dtype=torch.float64)
    zero = torch.zeros(1, 4, 14, dtype=torch.float64)
    with torch.no_grad():
        together, _ = layer(sequence, (zero, zero))
        alone, _ = layer(sequence[:, 2:3], (zero[:, :1], zero[:, :1]))
    assert torch.equal(alone[:, 0], together[:, 2])


def test_the_given_state_is_left_alone():
    layer = SpikingLayer(3, RealRSNN(**TINY))
    h, c = torch.rand(1, 2, 14), torch.rand(1, 2, 14).round()
    kept = h.clone(), c.clone()
    layer(torch.randn(2, 2, 3), (h, c))[0].sum().backward()
    assert torch.equal(h, kept[0])
    assert torch.equal(c, kept[1])


def test_states_restart_where_episodes_do():
    pytest.importorskip("sb3_contrib")
    from ecpolicy.ppo.sb3_policy import RSNNPolicy

    layer = SpikingLayer(3, RealRSNN(**TINY))
    sequence = torch.randn(4, 2, 3)  # (time, n_seq, obs_size)
    states = (torch.rand(1, 2, 14), torch.rand(1, 2, 14).round())
    features = sequence.transpose(0, 1).flatten(0, 1)
    for starts in ([[0, 0, 0, 0], [0, 0, 0, 0]], [[1, 0, 0, 0], [0, 0, 0, 0]], [[0, 0, 1, 0], [1, 0, 0, 1]]):
        with torch.no_grad():
            rates, _ = RSNNPolicy._process_sequence(features, states, torch.tensor(starts).float().flatten(), layer)
            for row in range(2):
                state = tuple(part[:, row : row + 1] for part in states)
                for t in range(4):
                    if starts[row][t]:
                        state = tuple(torch.zeros_like(part) for part in state)
                    wanted, state = layer(sequence[t : t + 1, row : row + 1], state)
                    torch.testing.assert_close(rates.view(2, 4, 7)[row, t], wanted[0, 0], rtol=0, atol=1e-6)


def test_unknown_surrogate_and_beta():
    with pytest.raises(ValueError, match=r"surrogate must be one of .*got 'relu'"):
        SpikingLayer(3, RealRSNN(), surrogate="relu")
    with pytest.raises(ValueError, match="beta must be positive"):
        SpikingLayer(3, RealRSNN(), beta=0.0)
