"""Training by PPO: Stable-Baselines3's RecurrentPPO, one update at a time."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecpolicy.distributions import Point
from ecpolicy.fitting.judge import DEPLOYED_MEASURES, deployed_measures
from ecpolicy.fitting.learner import Run
from ecpolicy.history import Record
from ecpolicy.normalization import Moments
from ecpolicy.ppo.environment import TrainingEnv
from ecpolicy.ppo.training import VARIANCE_FLOOR, Learnt, Setting, Statistics, Training
from ecpolicy.random import Stream, environment_seed, fold_in, key_from_seed
from ecpolicy.rollout.episodes import Networks
from ecpolicy.rollout.outcome import EpisodeError, Outcome, mean_and_std
from ecpolicy.rollout.seconds import Seconds, Stopwatch, shares
from ecpolicy.rollout.time_limit import TimeLimitError, time_limit

if TYPE_CHECKING:
    from stable_baselines3.common.running_mean_std import RunningMeanStd
    from torch import Tensor


# Arguments of RecurrentPPO that the policy's own parameters give, or that make no sense here.
OWN_ARGUMENTS = {
    "self", "policy", "env", "learning_rate", "n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "clip_range",
    "ent_coef", "vf_coef", "policy_kwargs", "seed", "verbose", "tensorboard_log", "use_sde",
    "sde_sample_freq", "_init_setup_model",
}  # fmt: skip


class PPOLearner:
    """RecurrentPPO on copies of the environments, one update at a time; everything of Stable-Baselines3 is in here."""

    def __init__(
        self,
        run: Run,
        setting: Setting,
        environments: Sequence[TrainingEnv],
        arguments: Mapping[str, Any],
        further: Mapping[str, object],
        *,
        normalize_rewards: bool,
        timeout: float | None,
        eval_every: int,
    ) -> None:
        from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

        self._run, self._setting, self._arguments, self._further = run, setting, arguments, further
        self._timeout, self._eval_every = timeout, eval_every
        self._clocks = [environment.clock for environment in environments]
        self._rollouts = Seconds()  # so far
        self._env: Any = VecNormalize(
            VecMonitor(DummyVecEnv([functools.partial(_itself, environment) for environment in environments])),
            norm_obs=setting.normalize_observations,
            norm_reward=normalize_rewards,
            clip_obs=setting.observation_clip,
            gamma=arguments["gamma"],
            epsilon=VARIANCE_FLOOR,
        )
        self._model: Any = None

    def start(self, moments: Moments) -> Training:
        """A new training, with the moments of observations made before it."""
        self._build(0)
        if moments.n and self._env.norm_obs:
            running = self._env.obs_rms
            running.mean, running.var, running.count = moments.mean, moments.squares / moments.n, float(moments.n)
        return self._training()

    def resume(self, training: Training) -> Training:
        """Go on from a training of the same sizes; environments start new episodes."""
        self._check_continuable(training.setting)
        self._build(training.update)
        self._load(training)
        return self._training()._replace(
            update=training.update,
            n_env_steps=training.n_env_steps,
            n_evaluation_steps=training.n_evaluation_steps,
            best=training.best,
            solved_at=training.solved_at,
        )

    def _check_continuable(self, trained: Setting) -> None:
        for name in ("critic", "normalize_observations"):
            if getattr(trained, name) != getattr(self._setting, name):
                raise ValueError(
                    f"Training so far had {name}={getattr(trained, name)!r}; it cannot go on with "
                    f"{getattr(self._setting, name)!r}. Fit without warm_start to start anew."
                )
        if trained.network.n_neurons != self._setting.network.n_neurons:
            raise ValueError(
                f"Training so far was of {trained.network.n_neurons} neurons; the network now has "
                f"{self._setting.network.n_neurons}. Fit without warm_start to start anew."
            )

    def _build(self, update: int) -> None:
        """Make the model. A fit that begins after some updates has a stream of its own: it must not repeat the first.

        Its environments' episodes and its draws are others.
        """
        from sb3_contrib import RecurrentPPO
        from stable_baselines3.common.logger import Logger

        from ecpolicy.ppo.sb3_policy import RSNNPolicy

        stream = fold_in(fold_in(key_from_seed(self._run.seed), update), Stream.ENVIRONMENT)
        arguments = {
            **self._arguments,
            "seed": int(environment_seed(stream)) >> 1,  # environment i is seeded with it + i, below 2**31
            "device": "cpu",
        }
        try:
            self._model = RecurrentPPO(RSNNPolicy, self._env, **{**arguments, **self._further})
        except Exception as error:
            if not self._further:
                raise
            raise ValueError(f"RecurrentPPO does not take ppo_kwargs={self._further}: {error}") from error
        self._model.policy.told = True  # n_envs is a parameter, and threads are taken care of
        self._model.set_logger(Logger(folder=None, output_formats=[]))
        if self._env.norm_obs:  # no observations yet: a first one of zero would widen those that are far from it
            self._env.obs_rms.count = 0.0

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

    def _training(self) -> Training:
        """All that the model has learnt."""
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
        return Training(self._setting, arrays, first, second, max(steps), observations, _statistics(env.ret_rms))

    def measure_again(self, training: Training) -> Training:
        """Measure the best network on what is trained on now: on the same task its score is the same, bit for bit."""
        best, judge = training.best, self._run.judge
        if best is None:
            return training._replace(solved_at=None)
        confirming = judge.confirm(_networks(training.setting, best), best.update)
        (score, _, solved, n_steps, _), _ = self._run.runner.run(confirming)
        return training._replace(
            best=best._replace(score=score),
            solved_at=judge.threshold if solved else None,
            n_evaluation_steps=training.n_evaluation_steps + (0 if score == best.score else n_steps),
        )

    def advance(self, training: Training, goes_on: Callable[[Training], bool]) -> tuple[Training, Record]:
        """One update, and the score of the network that it leads to, where that is due or there is no further one."""
        began, judging = perf_counter(), Stopwatch()
        before, rollouts = self._played(), self._rollouts
        training, record = self._update(training)
        if training.update % self._eval_every == 0 or not goes_on(training):
            training, deployed = judging.timed(self._assess)(training)
            record |= deployed_measures(deployed)
        record["best_deployed_return"] = training.best.score if training.best else None
        record["n_evaluation_steps"] = training.n_evaluation_steps
        record["seconds"] = elapsed = perf_counter() - began
        update = elapsed - judging.total - self._rollouts.minus(rollouts).playing
        return training, record | shares(self._played().minus(before), update)

    def _played(self) -> Seconds:
        """What playing has taken so far; of rollouts, whatever the environments do not take counts as the network's."""
        return self._rollouts.plus(self._run.runner.seconds or Seconds())

    def _in_environments(self) -> float:
        return sum(clock.total for clock in self._clocks)

    def _assess(self, training: Training) -> tuple[Training, Outcome]:
        """Score the network and keep it if it is the best; the episodes that tell how it does now."""
        network, best, judge = training.current(), training.best, self._run.judge
        score = -np.inf if best is None else best.score
        judging = judge.assess(_networks(training.setting, network), training.update, score)
        verdict, _ = self._run.runner.run(judging)
        assessed = training._replace(
            best=network._replace(score=verdict.confirmed.score) if verdict.beats(score) else best,
            n_evaluation_steps=training.n_evaluation_steps + verdict.n_steps,
            solved_at=judge.threshold if verdict.solved else training.solved_at,
        )
        return assessed, verdict.screening

    def _update(self, before: Training) -> tuple[Training, Record]:
        """One rollout and the update that learns from it."""
        from stable_baselines3.common.callbacks import BaseCallback

        class Finished(BaseCallback):
            """Collects the episodes that end, and the seconds of the rollout."""

            def __init__(self) -> None:
                super().__init__()
                self.episodes: list[Mapping[str, float]] = []
                self.began = self.before = 0.0

            def _on_step(self) -> bool:
                self.episodes += [info["episode"] for info in self.locals["infos"] if "episode" in info]
                return True

            def _on_rollout_start(self) -> None:
                self.began, self.before = perf_counter(), learner._in_environments()

            def _on_rollout_end(self) -> None:
                seconds, stepping = perf_counter() - self.began, learner._in_environments() - self.before
                learner._rollouts = learner._rollouts.plus(Seconds(seconds, stepping, seconds - stepping))

        learner, model, finished = self, self._model, Finished()
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
        after = self._training()._replace(
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
                "smaller learning_rate, or max_grad_norm in ppo_kwargs."
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


def _networks(setting: Setting, learnt: Learnt) -> Networks:
    """The one network that was learnt, as it observes."""
    return Networks(Point({}).sampler(learnt.weights), setting.standardizer(learnt.observations))


def check_ppo_kwargs(given: Mapping[str, object]) -> None:
    """Raise ValueError where RecurrentPPO does not take a further argument."""
    from sb3_contrib import RecurrentPPO

    known = set(inspect.signature(RecurrentPPO.__init__).parameters) - OWN_ARGUMENTS
    if not set(given) <= known:
        raise ValueError(
            f"ppo_kwargs may hold {sorted(known)}; got {sorted(set(given) - known)}. What is a parameter of "
            "SurrogateGradientPPOPolicy is to be given as such."
        )


def _itself(environment: TrainingEnv) -> TrainingEnv:
    return environment


def _statistics(running: "RunningMeanStd") -> Statistics:
    return Statistics(np.array(running.mean, np.float64), np.array(running.var, np.float64), float(running.count))


def _to_array(tensor: "Tensor") -> NDArray[np.float32]:
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float32)


def _logged(logged: Mapping[str, float], name: str) -> float | None:
    value = logged.get(f"train/{name}")
    return None if value is None or not np.isfinite(value) else float(value)
