"""The parameters of the estimators: one table each, and the few rules that tie parameters together."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecpolicy.anatomy import OPEN
from ecpolicy.constraints import (
    POSITIVE,
    Choice,
    Custom,
    Either,
    Flag,
    Integer,
    Number,
    Parameter,
    Schedule,
    optional,
    table,
)
from ecpolicy.edges import dense
from ecpolicy.fitness_shaping import FITNESS_SHAPINGS
from ecpolicy.networks import Shape
from ecpolicy.networks.accepted import with_bits, with_gradients, with_weights
from ecpolicy.optimizers import OPTIMIZERS

BACKENDS = ("auto", "numpy", "jax")
ENGINES = ("auto", "mujoco", "gymnasium")
SURROGATES = ("superspike", "piecewise_linear", "sigmoid")
CRITICS = ("feedforward", "spiking", "shared")

APPENDIX = "paper, appendix A"
PPO_PAPER = "Schulman et al., 2017"
VEC_NORMALIZE = "Stable-Baselines3, VecNormalize"


def _workers(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if Integer()(name, value) == 0:
        raise ValueError(f"{name} must be None or a number of workers as in joblib, not 0.")
    return int(value)


def _threshold(name: str, value: object) -> float | str | None:
    if value is None or (isinstance(value, str) and value == "auto"):
        return value
    if isinstance(value, str):
        raise ValueError(f'{name} must be "auto", a number or None; got {value!r}.')
    return float(Number()(name, value))


def _arguments(name: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict | None):
        raise TypeError(f"{name} must be a dict or None; got {value!r}.")
    for key, part in (value or {}).items():
        if not isinstance(part, int | float | str | None):
            raise TypeError(f"{name}[{key!r}] must be a number, a string, a bool or None; got {part!r}.")
    return dict(value or {})


SEED = Either(
    (np.random.Generator, np.random.RandomState, type(None)),
    Integer(0, 2**64 - 1),
    "int, numpy Generator or RandomState, or None",
)
PRIOR = Either(
    (Mapping,), Number(0, 1), "float in [0, 1], or dict of str to float, array or sparse array of shape (pre, post)"
)

PLAYING = table(
    Parameter("backend", "auto", Choice(BACKENDS),
        '"numpy" runs Numba kernels on the CPU; "jax" runs XLA\'s on whatever device JAX has, and is what '
        'environments of Brax and MuJoCo Playground need. "auto" takes what the environment suits. Policies are the '
        "same."),
    Parameter("engine", "auto", Choice(ENGINES),
        'What plays Gymnasium environments. "mujoco" plays Gymnasium\'s robots natively, by the batch engine of '
        'MuJoCo 4 in ``n_jobs`` threads; it raises where it does not know an environment, and says why. "gymnasium" '
        'steps the environments themselves. "auto" plays natively what can be. Results do not depend on it.'),
    Parameter("chunk_size", None, optional(Integer(1)),
        "Episodes that a device plays at once, on environments of Brax and MuJoCo Playground; None for 2048 (on a "
        "CPU, 8, and others are rounded up to multiples of 8). Fewer take less memory; results may change by "
        "rounding."),
    Parameter("n_jobs", None, Custom("int or None", _workers),
        "joblib workers for the episodes on Gymnasium environments. ``joblib.parallel_config`` chooses what they "
        "are, up to a cluster. None is one, unless ``parallel_config`` says otherwise. Results do not depend on it."),
    Parameter("timeout", None, optional(POSITIVE),
        "Seconds that the episodes of 16 members, or two of the deployed network, may take before ``fit`` and "
        "``score`` give up with an EpisodeError, for environments that may hang; with a vector environment, those of "
        "the whole population, or all of the deployed network. Without workers it needs the main thread. Where one "
        "hangs in compiled code that never comes back to Python, only ``n_jobs`` of at least 2 can end it. Not for "
        "environments in JAX."),
)  # fmt: skip
OBSERVING = table(
    Parameter("normalize_observations", True, Flag(),
        "Standardise observations by the mean and variance of all observations acted upon so far.", VEC_NORMALIZE),
    Parameter("observation_clip", 10.0, POSITIVE,
        "(Standardised) observations are clipped to plus and minus this.", VEC_NORMALIZE),
)  # fmt: skip
ENDING = table(
    Parameter("score_threshold", "auto", Custom('"auto", float or None', _threshold),
        'Fit ends when the deployed network reaches this mean return, confirmed on 100 fresh episodes. "auto" is the '
        "environment's registered ``reward_threshold``, if it has one; None turns this off."),
)  # fmt: skip
FITTING = table(
    Parameter("warm_start", False, Flag(), "Continue the last fit, with its random numbers, instead of starting anew."),
    Parameter("random_state", None, SEED, "An int makes fits repeat bit for bit."),
    Parameter("verbose", 0, Either((bool,), Integer(0), "int"),
        "Generations between progress lines; 0 prints nothing."),
)  # fmt: skip
SIZES = table(
    Parameter("population_size", 256, Integer(2, 2**23),
        "Networks per generation (paper: 10240). Evaluations of the deployed network come on top.", APPENDIX),
    Parameter("n_generations", 100, Integer(1),
        "Generations in all (paper: 1000); with ``warm_start`` those of earlier fits count.", APPENDIX),
)  # fmt: skip
POPULATION = table(
    Parameter("episodes_per_member", 1, Integer(1),
        "Episodes over which a member's return is averaged, on each environment."),
    Parameter("common_episodes", False, Flag(),
        "All members of a generation play episodes of the same seeds, so that they differ in their networks alone. "
        "Every generation has others. Vector environments that seed themselves take no seeds."),
    Parameter("max_episode_steps", 1000, optional(Schedule(Integer(1, 2**63))),
        "Training horizon: episodes of the population are cut after so many steps. A list is a schedule by "
        "environment steps taken, such as ``[(0, 200), (3_000_000, 1000)]``. The deployed network's score is always "
        "over full episodes (of an environment without a time limit: over the last horizon).", APPENDIX),
    *OBSERVING.values(),
    Parameter("max_env_steps", None, optional(Integer(1)),
        "Fit ends after the generation in which the population has taken this many environment steps."),
    *ENDING.values(),
    Parameter("eval_episodes", 4, Integer(1), "Episodes of the deployed network after every generation."),
    Parameter("confirm_episodes", 20, Integer(1), "Further episodes on which a new best deployed network must hold."),
    Parameter("keep_best", True, Flag(),
        "Deploy the best network found so far, as measured on ``confirm_episodes``; False deploys the last one."),
    *PLAYING.values(),
    *FITTING.values(),
)  # fmt: skip

EC = table(
    Parameter("network", None, Custom("Network or None", with_bits),
        "The spiking network, such as ``RSNN(n_neurons=128, gain_in=0.3)``: see :class:`ecpolicy.networks.RSNN`, "
        "whose defaults None stands for; the one of integers, :class:`ecpolicy.networks.IntegerRSNN`; or one of your "
        "own: any object with the methods of :class:`ecpolicy.networks.Network` on packed connections. Searches reach "
        "its settings as ``network__gain_in``."),
    *SIZES.values(),
    Parameter("learning_rate", 0.3, Schedule(POSITIVE),
        "Step size; for Adam in units of probability (paper: 0.15). A list is a schedule by environment steps taken, "
        "such as ``[(0, 0.3), (8_000_000, 0.05)]``.", APPENDIX),
    Parameter("optimizer", "adam", Choice(OPTIMIZERS),
        '"sgd" is plain ascent; "adam" is what the paper\'s released code does.', "paper, equation 14"),
    Parameter("fitness_shaping", "centered_ranks", Choice(FITNESS_SHAPINGS),
        '"centered_ranks" counts every member by its rank, from -0.5 to 0.5; "log_ranks" counts the best quarter, '
        "with the weights of CMA-ES.", APPENDIX),
    Parameter("initial_probability", 0.5, PRIOR,
        'Connection probabilities before the first generation, everywhere or by matrix ("input", "recurrent", '
        '"output"; 0.5 for those not named): an anatomical prior, see :mod:`ecpolicy.anatomy`. In a dict, '
        "connections with a probability of exactly 0 or 1 stay absent or present for good.", APPENDIX),
    Parameter("keep_density", False, Flag(),
        "Keep the prior: in the matrices that ``initial_probability`` names (all, if it is a number), connections "
        "between two groups (E, I, observations, their negatives, outputs) that start with the same probability keep "
        "it on average, so that the search decides which of them there are and not how many. Of more than 16 "
        "probabilities between two groups, classes of similar ones keep theirs. Without it the search leaves a prior "
        "within some ten generations."),
    Parameter("eps", 0.01, Schedule(Number(0, 0.5)),
        "Other probabilities stay in [eps, 1 - eps] (paper: 1e-3). A list is a schedule, as for ``learning_rate``.",
        "paper, section 4"),
    *POPULATION.values(),
)  # fmt: skip

ES = table(
    Parameter("network", None, Custom("Network or None", with_weights),
        "A spiking network with real weights (:class:`ecpolicy.networks.RealRSNN`, whose defaults None stands for), "
        "a gated one (:class:`ecpolicy.networks.GRU`, :class:`ecpolicy.networks.LSTM`), or one of your own: any "
        "object with the methods of :class:`ecpolicy.networks.Network` on float32 matrices and "
        "``initial_scales(obs_size, n_outputs)``, the standard deviations of the initial weights by name."),
    *SIZES.values(),
    Parameter("sigma", None, optional(POSITIVE),
        "Standard deviation of the weights; None for the paper's: 0.3 for a RealRSNN, else 0.02.", APPENDIX),
    Parameter("learning_rate", None, optional(Schedule(POSITIVE)),
        "Adam's step, or a schedule of it by environment steps; None for the paper's: 0.15 for a RealRSNN, else 0.01.",
        APPENDIX),
    Parameter("weight_decay", 0.1, Number(0),
        "Each step takes ``learning_rate * weight_decay`` of the weights away.", APPENDIX),
    *POPULATION.values(),
)  # fmt: skip

PPO = table(
    Parameter("network", None, Custom("RealRSNN or None", with_gradients),
        "The spiking network: see :class:`ecpolicy.networks.RealRSNN`, whose defaults None stands for. Potentials "
        "are zero when an episode starts, whatever its ``random_start`` says."),
    Parameter("surrogate", "superspike", Choice(SURROGATES),
        "What stands in for the derivative of a spike in the backward pass.",
        "Zenke and Ganguli, 2018; Esser et al., 2016"),
    Parameter("beta", 10.0, POSITIVE, "Steepness of the surrogate.", APPENDIX),
    Parameter("critic", "feedforward", Choice(CRITICS),
        "What estimates values during training: two tanh layers of the observation (fast; blind to what only memory "
        "could tell), a spiking network of its own, or a linear readout of the actor's rates. It is not deployed."),
    Parameter("n_envs", 16, Integer(1),
        "Environments that are stepped together (paper: 2048). A list of environments takes turns in filling them.",
        APPENDIX),
    Parameter("n_steps", 16, Integer(1),
        "Environment steps of each per update, over which gradients go back in time.", APPENDIX),
    Parameter("learning_rate", 3e-4, POSITIVE, "Adam's step.", APPENDIX),
    Parameter("gamma", 0.99, Number(0, 1), "Discount factor of rewards.", APPENDIX),
    Parameter("gae_lambda", 0.95, Number(0, 1), "Discount factor of advantages beyond that of rewards.", APPENDIX),
    Parameter("clip_range", 0.2, POSITIVE, "How far the ratio of action probabilities may leave 1.", APPENDIX),
    Parameter("vf_coef", 1.0, Number(0), "Weight of the value loss.", APPENDIX),
    Parameter("ent_coef", 1e-3, Number(0), "Weight of the entropy.", APPENDIX),
    Parameter("n_epochs", 10, Integer(1), "Passes over the steps of an update.", PPO_PAPER),
    Parameter("batch_size", None, optional(Integer(2)), "Environment steps per gradient; None for all of the update."),
    Parameter("ppo_kwargs", None, Custom("dict or None", _arguments),
        'Further arguments of ``sb3_contrib.RecurrentPPO``, such as ``{"max_grad_norm": 1.0, "target_kl": 0.02, '
        '"device": "cuda"}``. The device is the CPU by default.'),
    *OBSERVING.values(),
    Parameter("normalize_rewards", True, Flag(),
        "Divide rewards by the standard deviation of the discounted return. With steps of fixed size, a critic takes "
        "long to reach the returns of tasks such as CartPole-v1, of the order of 100."),
    Parameter("max_env_steps", 1_000_000, Integer(1),
        "Training ends after the update in which it has taken this many environment steps; with ``warm_start`` those "
        "of earlier fits count."),
    *ENDING.values(),
    Parameter("eval_every", 5, Integer(1),
        "Updates between evaluations of the deployed network; the best one is deployed, as measured on fresh "
        "episodes."),
    Parameter("eval_episodes", 4, Integer(1), "Episodes of an evaluation."),
    PLAYING["engine"]._replace(about=
        'What plays the episodes of evaluations and of ``score``. "mujoco" is MuJoCo\'s batch engine, for '
        'Gymnasium\'s robots; "gymnasium" steps the environments themselves; "auto" plays natively what can be.'),
    PLAYING["n_jobs"]._replace(about=
        "joblib workers for the episodes of evaluations and of ``score``. Results do not depend on it."),
    PLAYING["timeout"]._replace(about=
        "Seconds that an update, or two episodes of an evaluation, may take before ``fit`` and ``score`` give up "
        "with an EpisodeError, for environments that may hang; in the main thread."),
    FITTING["warm_start"]._replace(about=
        "Continue the last fit instead of starting anew. Weights, optimiser, statistics and history go on; "
        "environments start new episodes, so the result is not that of an uninterrupted fit."),
    FITTING["random_state"]._replace(about="An int makes training reproducible on the same machine, bit for bit."),
    FITTING["verbose"]._replace(about=
        "Print a line every so many evaluations, see :class:`ecpolicy.callbacks.Progress`."),
)  # fmt: skip


def check_pairs(**numbers: int | None) -> None:
    """Raise where members of a population, which come in pairs, are an odd number."""
    for name, value in numbers.items():
        if value is not None and value % 2:
            raise ValueError(f"{name} must be even, as members come in pairs; got {value}.")


def check_batches(n_envs: int, n_steps: int, batch_size: int | None) -> None:
    """Raise where PPO would standardise advantages over a single step."""
    steps = n_envs * n_steps
    if steps < 2:
        raise ValueError("n_envs * n_steps must be at least 2, as advantages are standardised over them.")
    if batch_size is not None and steps % batch_size == 1:
        raise ValueError(
            f"batch_size={batch_size} leaves one of the {steps} steps of an update (n_envs * n_steps) for a batch of "
            "its own, over which advantages cannot be standardised. Give a divisor of these."
        )


def check_initial_probability(value: Any, shapes: Mapping[str, Shape]) -> float | dict[str, NDArray[np.float32]]:
    """The probabilities to start from: a number, or arrays (pre, post) by matrix, checked against these shapes."""
    if not isinstance(value, Mapping):
        return float(value)
    unknown = set(value) - set(shapes)
    if unknown:
        raise ValueError(f"initial_probability names the matrices {sorted(unknown)}; there are {list(shapes)}.")
    checked = {}
    for name, given in value.items():
        p, shape = dense(given), (shapes[name].pre, shapes[name].post)
        if p.dtype.kind not in "fiub" or p.shape not in ((), shape):
            raise ValueError(
                f"initial_probability[{name!r}] must be a number, or an array of numbers of shape {shape}, presynaptic "
                f"by postsynaptic; got {p.dtype} of shape {p.shape}."
            )
        if not ((p >= 0) & (p <= 1)).all():  # NaN as well
            raise ValueError(f"initial_probability[{name!r}] must lie in [0, 1]; got {p.min()} to {p.max()}.")
        checked[name] = p.astype(np.float32)
    return checked


Start: TypeAlias = float | dict[str, NDArray[np.float32]]  # initial probabilities, checked


def without(absent: Mapping[str, NDArray[np.bool_]], start: Start, shapes: Mapping[str, Shape]) -> Start:
    """Initial probabilities that are 0, for good, where a network has no connections (pre, post)."""
    if not absent:
        return start
    number = 0.5 if isinstance(start, dict) else float(np.clip(start, *OPEN))  # fixes nothing, not even as 0 or 1
    priors: dict[str, Any] = dict(start) if isinstance(start, dict) else dict.fromkeys(shapes, number)
    masked = {name: np.where(mask, 0, priors.get(name, number)) for name, mask in absent.items()}
    return {name: np.asarray(p, np.float32) for name, p in (priors | masked).items()}


def check_horizon(value: Any) -> list[tuple[int, float]]:
    """``max_episode_steps`` as a schedule; None is no horizon."""
    return POPULATION["max_episode_steps"].check(value) or [(0, np.inf)]


def scheduled(schedule: Sequence[tuple[int, float]], n_env_steps: int) -> float:
    """The value that a schedule has after so many environment steps."""
    return next(value for start, value in reversed(schedule) if start <= n_env_steps)
