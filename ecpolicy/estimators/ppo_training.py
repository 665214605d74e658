"""Training by PPO: Stable-Baselines3's side, and the state that continues a fit."""

import functools
import inspect
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.cleanup import cleaning_up
from ecpolicy.distributions import Parameters
from ecpolicy.estimators.judging import DEPLOYED_MEASURES
from ecpolicy.estimators.ppo_environment import TrainingEnv
from ecpolicy.estimators.training import Record
from ecpolicy.networks import RealRSNN
from ecpolicy.normalization import Moments, Standardizer
from ecpolicy.random import Stream, environment_seed, fold_in, key_from_seed
from ecpolicy.rollout.outcome import EpisodeError, mean_and_std
from ecpolicy.rollout.time_limit import TimeLimitError, time_limit

CRITICS = ("feedforward", "spiking", "shared")
VARIANCE_FLOOR = 1e-8  # VecNormalize's epsilon

# Arguments of RecurrentPPO that the policy's own parameters give, or that make no sense here.
OWN_ARGUMENTS = {
    "self", "policy", "env", "learning_rate", "n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "clip_range",
    "ent_coef", "vf_coef", "max_grad_norm", "policy_kwargs", "seed", "verbose", "tensorboard_log", "use_sde",
    "sde_sample_freq", "_init_setup_model",
}  # fmt: skip


class Statistics(NamedTuple):
    """Running mean and variance, as VecNormalize keeps them."""

    mean: NDArray[np.float64]
    var: NDArray[np.float64]
    n: float  # observations, and VecNormalize's small start value


class Learnt(NamedTuple):
    """A network worth deploying and what goes with it."""

    weights: Parameters  # "input", "recurrent", "output": (pre, post)
    log_std: NDArray[np.float32]  # (outputs,) of continuous actions, else (0,)
    observations: Statistics
    score: float  # what it was kept for
    update: int


class Setting(NamedTuple):
    """What a deployed network's score depends on, apart from the network and the observation statistics."""

    network: RealRSNN
    critic: str
    normalize_observations: bool
    observation_clip: float
    environments: tuple[str, ...]

    @property
    def environment_clip(self) -> float:
        """Where environments clip observations; VecNormalize clips those that it standardises."""
        return np.inf if self.normalize_observations else self.observation_clip

    def standardizer(self, observations: Statistics) -> Standardizer:
        """How observations entered the network in training."""
        if not self.normalize_observations:
            mean = np.zeros_like(observations.mean)
            return Standardizer(mean, np.ones_like(mean), self.observation_clip)
        inverse_std = 1 / np.sqrt(observations.var + VARIANCE_FLOOR)
        return Standardizer(observations.mean.copy(), inverse_std, self.observation_clip)


class Training(NamedTuple):
    """All that continues a fit, in plain arrays: nothing here needs PyTorch."""

    setting: Setting
    policy: Parameters  # of the actor, the critic and the action distribution, by PyTorch's names
    first: Parameters  # Adam's moments of each of these
    second: Parameters
    gradient_steps: int
    observations: Statistics
    returns: Statistics  # of discounted returns, which scale the rewards
    update: int = 0
    n_env_steps: int = 0
    n_evaluation_steps: int = 0
    best: Learnt | None = None
    solved_at: float | None = None  # the score threshold that the best network reached

    def current(self, score: float = np.nan) -> Learnt:
        """The network as it is now."""
        weights = {
            "input": self.policy["lstm_actor.input"],
            "recurrent": self.policy["lstm_actor.recurrent"],
            "output": self.policy["action_net.weight"],
        }
        log_std = self.policy.get("log_std", np.zeros(0, np.float32))
        return Learnt(weights, log_std, self.observations, score, self.update)


class PPOTrainer:
    """RecurrentPPO on copies of the environments, one update at a time; everything of Stable-Baselines3 is in here."""

    def __init__(
        self,
        parameters: Any,
        further: Mapping[str, Any],
        setting: Setting,
        environments: Sequence[TrainingEnv],
        seed: int,
        earlier: Training | None,
        moments: Moments,
    ) -> None:
        from sb3_contrib import RecurrentPPO
        from stable_baselines3.common.logger import Logger
        from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

        from ecpolicy.networks.recurrent_policy import RSNNPolicy

        p = parameters
        self._setting, self._resumed = setting, earlier
        self._env: Any = VecNormalize(
            VecMonitor(DummyVecEnv([functools.partial(_itself, environment) for environment in environments])),
            norm_obs=bool(p.normalize_observations),
            norm_reward=bool(p.normalize_rewards),
            clip_obs=float(p.observation_clip),
            gamma=float(p.gamma),
            epsilon=VARIANCE_FLOOR,
        )
        # Every fit has a stream of its own: a warm start must not repeat the episodes and draws of the first one.
        stream = fold_in(fold_in(key_from_seed(seed), 0 if earlier is None else earlier.update), Stream.ENVIRONMENT)
        settings = {
            "learning_rate": float(p.learning_rate),
            "n_steps": int(p.n_steps),
            "batch_size": None if p.batch_size is None else int(p.batch_size),
            "n_epochs": int(p.n_epochs),
            "gamma": float(p.gamma),
            "gae_lambda": float(p.gae_lambda),
            "clip_range": float(p.clip_range),
            "ent_coef": float(p.ent_coef),
            "vf_coef": float(p.vf_coef),
            "max_grad_norm": float(p.max_grad_norm),
            "policy_kwargs": {
                "network": setting.network,
                "surrogate": p.surrogate,
                "beta": float(p.beta),
                "shared_lstm": p.critic == "shared",
                "enable_critic_lstm": p.critic == "spiking",
            },
            "seed": int(environment_seed(stream)) >> 1,  # environment i is seeded with it + i, below 2**31
            "device": "cpu",
        }
        try:
            self._model: Any = RecurrentPPO(RSNNPolicy, self._env, **{**settings, **further})
        except Exception as error:
            if not further:
                raise
            raise ValueError(f"RecurrentPPO does not take ppo_kwargs={further}: {error}") from error
        self._model.set_logger(Logger(folder=None, output_formats=[]))
        if self._env.norm_obs:  # no observations yet: a first one of zero would widen those that are far from it
            seen: Any = self._env.obs_rms
            seen.count = 0.0
        self._timeout = None if p.timeout is None else float(p.timeout)
        if earlier is not None:
            self._load(earlier)
        elif moments.n and self._env.norm_obs:
            running: Any = self._env.obs_rms
            running.mean, running.var, running.count = moments.mean, moments.squares / moments.n, float(moments.n)

    def _load(self, earlier: Training) -> None:
        """Go on from earlier weights, optimiser and statistics."""
        import torch

        policy, env = self._model.policy, self._env
        policy.load_state_dict({name: torch.tensor(value) for name, value in earlier.policy.items()})
        if earlier.gradient_steps:
            state = policy.optimizer.state
            for name, parameter in policy.named_parameters():
                state[parameter] = {
                    "step": torch.tensor(float(earlier.gradient_steps)),
                    "exp_avg": torch.tensor(earlier.first[name]).to(parameter.device),
                    "exp_avg_sq": torch.tensor(earlier.second[name]).to(parameter.device),
                }
        if env.norm_obs:
            env.obs_rms.mean, env.obs_rms.var = earlier.observations.mean.copy(), earlier.observations.var.copy()
            env.obs_rms.count = earlier.observations.n
        env.ret_rms.mean, env.ret_rms.var, env.ret_rms.count = earlier.returns
        self._model.num_timesteps = earlier.n_env_steps

    def training(self) -> Training:
        """Everything as it is now; what evaluations found stays as it was in the earlier training."""
        policy, env = self._model.policy, self._env
        state = policy.optimizer.state
        arrays = {name: _to_array(value) for name, value in policy.state_dict().items()}
        first, second, steps = {}, {}, [0]
        for name, parameter in policy.named_parameters():
            moments = state.get(parameter, {})
            first[name] = _to_array(moments["exp_avg"]) if moments else np.zeros_like(arrays[name])
            second[name] = _to_array(moments["exp_avg_sq"]) if moments else np.zeros_like(arrays[name])
            steps.append(int(moments["step"]) if moments else 0)
        size = policy.lstm_actor.input_size
        observations = _statistics(env.obs_rms) if env.norm_obs else Statistics(np.zeros(size), np.ones(size), 0.0)
        new = Training(self._setting, arrays, first, second, max(steps), observations, _statistics(env.ret_rms))
        earlier = self._resumed
        if earlier is None:
            return new
        return new._replace(
            update=earlier.update,
            n_env_steps=earlier.n_env_steps,
            n_evaluation_steps=earlier.n_evaluation_steps,
            best=earlier.best,
            solved_at=earlier.solved_at,
        )

    def advance(self, before: Training) -> tuple[Training, Record]:
        """One rollout and the update that learns from it."""
        from stable_baselines3.common.callbacks import BaseCallback

        class Finished(BaseCallback):
            """Collects the episodes that end."""

            def __init__(self) -> None:
                super().__init__()
                self.episodes: list[Mapping[str, float]] = []

            def _on_step(self) -> bool:
                self.episodes += [info["episode"] for info in self.locals["infos"] if "episode" in info]
                return True

        model, finished = self._model, Finished()
        diverged: ValueError | None = None
        try:
            with time_limit(self._timeout):
                model.learn(
                    model.n_steps * model.n_envs, callback=finished, log_interval=None, reset_num_timesteps=False
                )
        except TimeLimitError as error:
            raise EpisodeError(f"An update took longer than timeout={self._timeout} s.") from error
        except ValueError as error:  # PyTorch's distributions refuse NaN
            diverged = error
        logged = model.logger.name_to_value
        after = self.training()._replace(
            update=before.update + 1,
            n_env_steps=int(model.num_timesteps),
            n_evaluation_steps=before.n_evaluation_steps,
            best=before.best,
            solved_at=before.solved_at,
        )
        bad = [name for name, value in after.policy.items() if not np.isfinite(value).all()]
        if bad:
            raise FloatingPointError(
                f"Update {after.update} made {bad} infinite or NaN; the policy is that of the update before. Give a "
                "smaller learning_rate or max_grad_norm."
            ) from diverged
        if diverged is not None:
            raise diverged
        returns = [float(episode["r"]) for episode in finished.episodes]
        lengths = [float(episode["l"]) for episode in finished.episodes]
        record = {
            "generation": after.update,
            "n_episodes": len(returns),
            "return_mean": mean_and_std(np.array(returns))[0] if returns else None,
            "episode_length": float(np.mean(lengths)) if lengths else None,
            **dict.fromkeys(DEPLOYED_MEASURES),
            "best_deployed_return": None,
            "n_env_steps": after.n_env_steps,
            "n_evaluation_steps": after.n_evaluation_steps,
            "policy_loss": _logged(logged, "policy_gradient_loss"),
            "value_loss": _logged(logged, "value_loss"),
            "entropy_loss": _logged(logged, "entropy_loss"),
            "approx_kl": _logged(logged, "approx_kl"),
            "clip_fraction": _logged(logged, "clip_fraction"),
            "explained_variance": _logged(logged, "explained_variance"),
            "seconds": 0.0,
        }
        return after, record


def check_ppo_kwargs(given: Mapping[str, Any]) -> None:
    """Raise ValueError where RecurrentPPO does not take a further argument."""
    from sb3_contrib import RecurrentPPO

    known = set(inspect.signature(RecurrentPPO.__init__).parameters) - OWN_ARGUMENTS
    if not set(given) <= known:
        raise ValueError(
            f"ppo_kwargs may hold {sorted(known)}; got {sorted(set(given) - known)}. What is a parameter of "
            "SurrogateGradientPPOPolicy is to be given as such."
        )


@contextmanager
def globals_kept(device: str) -> Iterator[None]:
    """Give back the global states of random numbers and threads, which Stable-Baselines3 sets; train on one thread.

    The layer's matrices are small: a second thread costs more than it gains, and changes the rounding.
    """
    import torch

    threads = torch.get_num_threads()
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    devices = [] if device == "cpu" else list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.set_num_threads(1)
        with cleaning_up(
            functools.partial(torch.set_num_threads, threads),
            functools.partial(setattr, torch.backends.cudnn, "deterministic", cudnn[0]),
            functools.partial(setattr, torch.backends.cudnn, "benchmark", cudnn[1]),
            functools.partial(random.setstate, python),
            functools.partial(np.random.set_state, numpy),
        ):
            yield


def _itself(environment: TrainingEnv) -> TrainingEnv:
    return environment


def _statistics(running: Any) -> Statistics:
    return Statistics(np.array(running.mean, np.float64), np.array(running.var, np.float64), float(running.count))


def _to_array(tensor: Any) -> NDArray[np.float32]:
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float32)


def _logged(logged: Mapping[str, Any], name: str) -> float | None:
    value = logged.get(f"train/{name}")
    return None if value is None or not np.isfinite(value) else float(value)
