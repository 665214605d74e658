"""Search hyperparameters with Optuna, ending unpromising trials early.

python examples/optuna_search.py [--trials 20] [--generations 30]
"""

import argparse

import optuna

from ecpolicy import EvolvingConnectivityPolicy


def main() -> None:
    """Search on CartPole-v1 and print the best settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--generations", type=int, default=30)
    parser.add_argument("--population", type=int, default=64)
    arguments = parser.parse_args()

    def objective(trial: optuna.Trial) -> float:
        policy = EvolvingConnectivityPolicy(
            learning_rate=trial.suggest_float("learning_rate", 0.02, 0.5, log=True),
            eps=trial.suggest_float("eps", 1e-3, 5e-2, log=True),
            population_size=arguments.population,
            n_generations=arguments.generations,
            random_state=trial.number,
        )

        def prune(view: EvolvingConnectivityPolicy) -> bool:
            trial.report(view.history_[-1]["return_mean"], view.n_generations_)
            return trial.should_prune()

        return policy.fit("CartPole-v1", callbacks=prune).score("CartPole-v1")

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=arguments.trials)
    settings = ", ".join(f"{name} {value:.3g}" for name, value in study.best_params.items())
    print(f"Mean return {study.best_value:.1f} with the best {settings} of {len(study.trials)} trials.")


if __name__ == "__main__":
    main()
