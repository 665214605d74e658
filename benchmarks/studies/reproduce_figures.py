"""Tables and figures from what benchmarks/studies/reproduce.py wrote. Figures need the ``plot`` extra.

Returns in brackets are interquartile means over seeds (over seeds and tasks where it says so) with a 95 % bootstrap
interval, 2,000 resamples of the seeds of every task (Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", NeurIPS 2021). With three seeds the interquartile mean is their mean weighted 1:4:1 from the
smallest up, and the interval is too narrow: on normal data it covers the truth in three of four cases, with five seeds
in nine of ten. A run that never reaches a goal counts as one that takes twice the steps.

The paper's figure 3 is methods.png; its figure 4, surrogates.png, is drawn from what ``surrogates.py --table
results/surrogates.csv`` writes, its figure 5, efficiency.png, from ``efficiency.py --table results/efficiency.csv``.

    python benchmarks/studies/reproduce_figures.py [--studies ...] [--images docs/images]
        [--results benchmarks/studies/results]
"""

import argparse
import tomllib
from collections import defaultdict
from pathlib import Path

import numpy as np
import tables

HERE = Path(__file__).parent
RESAMPLES = 2000
SHADES = ["#9ECAE1", "#4292C6", "#08519C"]
SEEDS = ["#0072B2", "#D55E00", "#009E73"]
GOALS = {"HalfCheetah-v5": 4500, "Hopper-v5": 3000, "Walker2d-v5": 3500}  # returns that count as a score of 1
THRESHOLDS = {"HalfCheetah-v5": 3430, "Hopper-v5": 3120, "Walker2d-v5": 4390}  # of Mania et al. (2018)
PARTS = ["#E69F00", "#009E73", "#0072B2", "#BBBBBB"]
COLORS = {  # Okabe and Ito's colours, told apart by the colour-blind
    "EC": "#0072B2",
    "EC-published": "#D55E00",
    "EC-published-step": "#CC79A7",
    "ES-RSNN": "#CC79A7",
    "ES-GRU": "#009E73",
    "ES-LSTM": "#56B4E9",
    "SG-PPO": "#D55E00",
    "sb3-PPO": "#000000",
    "sb3-SAC": "#CC79A7",
    "sb3-TD3": "#E69F00",
    "ARS": "#D55E00",
    "sb3-RecurrentPPO": "#E69F00",
    "EC, slow synapses": "#0072B2",
    "EC, evolved": "#56B4E9",
    "EC, fixed": "#009E73",
    "EC, empty": "#CC79A7",
}
LABELS = {  # beside the methods' own names
    "EC-published-step": "EC, published step",
    "EC-published": "EC, as published",
    **{f"sb3-{name}": f"Stable-Baselines3 {name}" for name in ("PPO", "SAC", "TD3")},
    "sb3-RecurrentPPO": "sb3-contrib RecurrentPPO",
    "ARS": "ARS, linear",
}


def interquartile_mean(values, axis=0):
    """The mean of the middle half; members at its borders count in part."""
    values = np.sort(values, axis=axis)
    n = values.shape[axis]
    edges = np.arange(n + 1) / n
    weights = np.diff(np.clip(edges, 0.25, 0.75)) * 2
    return np.tensordot(np.moveaxis(values, axis, -1), weights, axes=1)


def interval(groups, seed=0):
    """The interquartile mean over all groups' values (groups: arrays over seeds), and its 95 % bootstrap interval."""
    generator = np.random.default_rng(seed)
    resampled = [np.concatenate([generator.choice(group, group.size) for group in groups]) for _ in range(RESAMPLES)]
    low, high = np.percentile(interquartile_mean(np.array(resampled), axis=1), [2.5, 97.5])
    return float(interquartile_mean(np.concatenate(groups))), float(low), float(high)


def load(runs, study):
    """The study's runs of today's table by (task, method), each a list over seeds."""
    settings = tomllib.loads((HERE / "reproduce.toml").read_text())["studies"][study]
    found = defaultdict(list)
    for run in runs.values():
        asked = (run["method"], "methods"), (run["task"], "tasks"), (run["seed"], "seeds")
        if run["study"] == study and all(value in settings[name] for value, name in asked):
            found[run["task"], run["method"]].append(run)
    ordered = [
        (task, method) for task in settings["tasks"] for method in settings["methods"] if (task, method) in found
    ]
    return {key: sorted(found[key], key=lambda run: run["seed"]) for key in ordered}


def by_task(runs):
    """Every task with its runs by method."""
    for task in dict.fromkeys(task for task, _ in runs):
        yield task, {method: group for (other, method), group in runs.items() if other == task}


def at(run, by, limit, slack=1.02, what="return_mean"):
    """The curve's last return before ``limit`` environment steps or seconds."""
    passed = [point[what] for point in run["curve"] if point[by] <= limit * slack]
    return passed[-1] if passed else np.nan


def with_interval(values):
    middle, low, high = interval([np.array(values)])
    return f"{middle:,.0f} [{low:,.0f}, {high:,.0f}]"


def cell(runs, by, limit):
    return with_interval([at(run, by, limit) for run in runs])


def finals(group):
    """Cells of a table: the return of the last episodes with its interval, and the x-velocity."""
    speed = interquartile_mean(np.array([run["x_velocity"] for run in group]))
    return with_interval([run["return_mean"] for run in group]), f"{speed:.2f}"


def print_returns(runs):
    columns = "task", "method", "seed", "return over 100 episodes", "x-velocity, m/s", "length", "steps"
    print(f"| {' | '.join(columns)} | evaluation steps | hours |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for (task, method), group in runs.items():
        for run in group:
            print(
                f"| {task} | {method} | {run['seed']} | {run['return_mean']:,.0f} ± {run['return_std']:,.0f} | "
                f"{run['x_velocity']:.2f} | {run['length']:.0f} | {run['n_env_steps']:,} | "
                f"{run['evaluation_steps']:,} | {run['seconds'] / 3600:.2f} |"
            )


def print_finals(runs):
    """What the networks of the end earn over their last episodes, every seed, and the interquartile mean."""
    print("| task | method | return | every seed | x-velocity, m/s | steps |\n| --- | --- | --- | --- | --- | --- |")
    for (task, method), group in runs.items():
        each = ", ".join(f"{run['return_mean']:,.0f}" for run in group)
        steps = interquartile_mean(np.array([run["n_env_steps"] for run in group]))
        earned, speed = finals(group)
        print(f"| {task} | {LABELS.get(method, method)} | {earned} | {each} | {speed} | {steps:,.0f} |")


def print_headline(runs):
    """After two minutes and at the end; when each seed's curve passed what ARS's paper counts episodes to."""
    print("| task | method | after 120 s | steps then | at the end | x-velocity, m/s | ARS's threshold, passed after |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (task, method), group in runs.items():
        steps = interquartile_mean(np.array([at(run, "seconds", 120, what="n_env_steps") for run in group]))
        passed = [first(run, THRESHOLDS[task]) for run in group]
        when = ", ".join(
            f"{point['n_env_steps'] / 1e6:.2f}M ({point['seconds']:.0f} s)" if point else "never" for point in passed
        )
        print(
            f"| {task} | {method} | {cell(group, 'seconds', 120)} | {steps:,.0f} | {' | '.join(finals(group))} | "
            f"{THRESHOLDS[task]:,}: {when} |"
        )


def first(run, goal):
    """The first point of the curve at or above a return, or None."""
    return next((point for point in run["curve"] if point["return_mean"] >= goal), None)


def print_methods(runs):
    """Return at the fewest steps that an evolving run took, and after the fewest seconds.

    "Own episodes" are those of the deployed network during training, as a share of the population's steps.
    """
    for task, groups in by_task(runs):
        ends = {
            by: min(run["curve"][-1][by] for method, group in groups.items() if "PPO" not in method for run in group)
            for by in ("n_env_steps", "seconds")
        }
        seconds = ends["seconds"]
        heads = f"at {ends['n_env_steps'] / 1e6:.1f} million steps", f"after {seconds:.0f} s", "x-velocity then, m/s"
        print(f"\n| {task} | {' | '.join(heads)} | steps then | own episodes |")
        print("| --- | --- | --- | --- | --- | --- |")
        for method, group in groups.items():
            columns = [cell(group, by, limit) for by, limit in ends.items()]
            if max(run["curve"][-1]["n_env_steps"] for run in group) < ends["n_env_steps"]:
                columns[0] = "fewer steps"
            speed, steps = (
                interquartile_mean(np.array([at(run, "seconds", seconds, what=what) for run in group]))
                for what in ("x_velocity", "n_env_steps")
            )
            own = [run["evaluation_steps"] / run["n_env_steps"] for run in group if "evaluation_steps" in run]
            share = f"{np.mean(own):.0%}" if own else "none"
            columns += [f"{speed:.2f}", f"{steps:,.0f}", share]
            print(f"| {method} | {' | '.join(columns)} |".replace("-0 [", "0 [").replace("-0.00", "0.00"))


def print_small_populations(runs):
    """Against the published step on the task as it was tuned, and as it is registered."""
    for published in ("EC-published-step", "EC-published"):
        if any(method == published for _, method in runs):
            print_shares(runs, published)


def print_shares(runs, published):
    """The share of the published setting's steps in which another setting reaches the published one's final return."""
    print(f"\nAgainst {published}:")
    shares = defaultdict(list)
    for task, groups in by_task(runs):
        if published not in groups:
            continue
        finals = np.array([run["curve"][-1]["return_mean"] for run in groups[published]])
        steps = np.mean([run["curve"][-1]["n_env_steps"] for run in groups[published]])
        goal = float(interquartile_mean(finals))
        print(f"\n{task}: the published setting ends at {goal:,.0f}, after {steps:,.0f} steps")
        for method, group in groups.items():
            took = [reaches(run, goal) / steps for run in group]
            shares[method].append(np.array(took))
            scoring = np.mean([run["evaluation_steps"] / run["n_env_steps"] for run in group])
            print(
                f"  {method}: final {cell(group, 'n_env_steps', np.inf)}, reaches it in "
                f"{', '.join('never' if np.isinf(share) else f'{share:.2f}' for share in took)} of the steps; "
                f"deployed network's own episodes: {scoring:.2f} of the steps on top"
            )
    for method, groups in shares.items():
        if method != published:
            capped = [np.minimum(group, 2.0) for group in groups]  # never: as bad as twice the steps
            middle, low, high = interval(capped)
            print(
                f"{method}, run by run: {middle:.2f} [{low:.2f}, {high:.2f}] of the steps, {sum(map(len, groups))} runs"
            )
            last, goal, share = pooled_share(runs, method, published)
            print(f"{method}, score over all tasks: {last} at the end, {goal} after {share} of the steps")


def pooled_share(runs, method, published, resamples=RESAMPLES, seed=0):
    """The share of the steps after which a method's interquartile mean over all tasks is the published one's last.

    Before it, the two last scores; all as text. The interval is over resamples of both methods' seeds. Scores are
    returns over :data:`GOALS`; before a run's first point they are 0.
    """
    generator, tasks = np.random.default_rng(seed), [task for task, other in runs if other == published]
    tasks = [task for task in tasks if (task, method) in runs]
    steps = {task: np.mean([run["curve"][-1]["n_env_steps"] for run in runs[task, published]]) for task in tasks}
    shares = np.arange(1, 101) / 100

    def scores(task, which):  # (seeds, shares)
        limits = shares * steps[task]
        returns = [[at(run, "n_env_steps", limit, slack=1.0) for limit in limits] for run in runs[task, which]]
        return np.nan_to_num(np.array(returns) / GOALS[task])

    curves = {which: [scores(task, which) for task in tasks] for which in (method, published)}

    def first(groups):
        goal = interquartile_mean(np.concatenate(groups[published])[:, -1])
        above = interquartile_mean(np.concatenate(groups[method])) >= goal
        return shares[above.argmax()] if above.any() else 2.0, goal

    def resampled(groups):
        return [group[generator.integers(len(group), size=len(group))] for group in groups]

    share, goal = first(curves)
    drawn = [first({which: resampled(groups) for which, groups in curves.items()})[0] for _ in range(resamples)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    last = interquartile_mean(np.concatenate(curves[method])[:, -1])
    return f"{last:.2f}", f"{goal:.2f}", f"{share:.2f} [{low:.2f}, {'never' if high > 1 else f'{high:.2f}'}]"


def reaches(run, goal):
    """Environment steps after which the curve has reached the goal."""
    point = first(run, goal)
    return point["n_env_steps"] if point else np.inf


def draw(runs, path, by="n_env_steps"):
    """Learning curves: interquartile mean over seeds, and the range that 95 % of the bootstrap falls into."""
    from matplotlib.figure import Figure

    tasks = dict(by_task(runs))
    unit, label = (1e6, "environment steps, millions") if by == "n_env_steps" else (60, "minutes on one core")
    figure = Figure(figsize=(max(5.0, 3.6 * len(tasks)), 3.4), layout="constrained")
    for axes, (task, groups) in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks.items(), strict=True):
        for method, group in groups.items():
            grid = np.linspace(0, max(run["curve"][-1][by] for run in group), 60)[1:]
            values = np.array([[at(run, by, x) for x in grid] for run in group])
            spread = np.array([interval([column])[1:] for column in values.T])
            middle = interquartile_mean(values)
            axes.plot(grid / unit, middle, color=COLORS[method], label=LABELS.get(method, method), linewidth=1.8)
            axes.plot(grid[-1] / unit, middle[-1], "o", color=COLORS[method], markersize=4)
            axes.fill_between(grid / unit, *spread.T, color=COLORS[method], alpha=0.2, linewidth=0)
        axes.set(title=task, xlim=(0, None), xlabel=label)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("return of the deployed network")
    handles = {}
    for axes in figure.axes:
        handles.update(dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True)))
    n_columns = min(len(handles), 2 * len(tasks))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=n_columns, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def draw_seeds(runs, path):
    """Every seed's learning curve, and at its end the return over the last, fresh episodes of the network it kept.

    A dotted line is where the learning rate falls.
    """
    from matplotlib.figure import Figure

    tasks = dict(by_task(runs))
    figure = Figure(figsize=(3.6 * len(tasks), 3.4), layout="constrained")
    for axes, (task, groups) in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks.items(), strict=True):
        group = next(iter(groups.values()))
        rate = group[0]["parameters"].get("learning_rate")
        for fall, _ in rate[1:] if isinstance(rate, list) else ():
            axes.axvline(fall / 1e6, color="0.6", linestyle=":", linewidth=1)
        for run in group:
            points, color = run["curve"], SEEDS[run["seed"] % len(SEEDS)]
            steps = [point["n_env_steps"] / 1e6 for point in points]
            returns = [point["return_mean"] for point in points]
            axes.plot(steps, returns, color=color, linewidth=1.5, label=f"seed {run['seed']}")
            axes.plot(run["n_env_steps"] / 1e6, run["return_mean"], "o", color=color)
        axes.set(title=task, xlim=(0, None), ylim=(min(0, *axes.get_ylim()), None))
        axes.set_xlabel("environment steps, millions")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower right")
    figure.axes[0].set_ylabel("return of the deployed network")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def draw_surrogates(rows, path):
    """The paper's figure 4: the deployed network's return by surrogate and beta, a dot for every seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(row["surrogate"] for row in rows))
    betas = sorted({row["beta"] for row in rows})
    for row in rows:
        place = names.index(row["surrogate"]) + (betas.index(row["beta"]) - (len(betas) - 1) / 2) * 0.26
        color = SHADES[betas.index(row["beta"]) % len(SHADES)]
        if row["returns"]:
            axes.bar(place, interquartile_mean(np.array(row["returns"])), 0.24, color=color)
            axes.plot([place] * len(row["returns"]), row["returns"], "o", color="0.15", markersize=3)
        if row["diverged"]:
            above = max(row["returns"], default=0)
            axes.annotate(f"{row['diverged']} diverged", (place, above), (0, 5), textcoords="offset points", fontsize=7,
                          rotation=90, ha="center", va="bottom")  # fmt: skip
    for shade, beta in zip(SHADES, betas, strict=False):
        axes.bar(0, 0, color=shade, label=f"beta {beta:g}")
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set(xlim=(-0.6, len(names) - 0.4), ylabel="return of the deployed network")
    axes.set_title(f"{rows[0]['env']}, SG-PPO")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def draw_efficiency(rows, path):
    """The paper's figure 5: where the seconds of a generation go."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.subplots()
    names, left = [row["method"] for row in rows], np.zeros(len(rows))
    for part, color in zip(("sampling", "update", "network", "physics"), PARTS, strict=True):
        seconds = np.array([row[part] for row in rows])
        if part in ("sampling", "update"):  # a generation's; the others are for 1,000 environment steps
            seconds = seconds / np.array([row["steps"] for row in rows]) * 1000
        axes.barh(names, seconds * 1000, left=left, color=color, label=part)
        left += seconds * 1000
    axes.invert_yaxis()
    axes.set(xlabel="microseconds per environment step", title=f"{rows[0]['env']}, {rows[0]['neurons']} neurons")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.25))
    figure.savefig(path, dpi=150)


def print_update_rules(runs, published="step 0.15, eps 0.001"):
    """Final returns of the candidates by task; in how many of its steps they reach the published step's score."""
    tasks = dict(by_task(runs))
    rows = {}
    for method in dict.fromkeys(method for _, method in runs):
        groups = [groups.get(method) for groups in tasks.values()]
        cells = [cell(group, "n_env_steps", np.inf) if group else "" for group in groups]
        last, _, share = pooled_share(runs, method, published) if all(groups) else ("", "", "")
        rows[method] = [*cells, last, "1" if method == published else share]
    print(f"| candidate | {' | '.join(tasks)} | score | share of the steps |\n|{' --- |' * (len(tasks) + 3)}")
    for method, row in sorted(rows.items(), key=lambda item: item[1][-2], reverse=True):
        print(f"| {method} | {' | '.join(row)} |")
    print(f"\nseeds: {' or '.join(str(n) for n in sorted({len(group) for group in runs.values()}))}")


TABLES = {
    "returns": print_returns,
    "small_populations": print_small_populations,
    "methods": print_methods,
    "update_rules": print_update_rules,
    "headline": print_headline,
    "equal_time": print_finals,
    "hidden_velocities": print_finals,
    "recurrent": print_finals,
}


CURVES = {  # drawn of a study, by environment steps or by time
    "small_populations": ["n_env_steps"],
    "methods": ["n_env_steps", "seconds"],
    "headline": ["n_env_steps", "seconds"],
    "equal_time": ["seconds"],
    "hidden_velocities": ["n_env_steps"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--studies", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--images", type=Path, help="folder for the figures")
    arguments = parser.parse_args()
    recorded = tables.read_runs(arguments.results)
    for study in arguments.studies:
        runs = load(recorded, study)
        if not runs:
            print(f"{study}: no results yet")
            continue
        print(f"\n## {study}\n")
        TABLES[study](runs)
        if arguments.images and study == "returns":
            draw_seeds(
                {key: group for key, group in runs.items() if key[0] in GOALS}, arguments.images / f"{study}.png"
            )
        elif arguments.images:
            for by in CURVES.get(study, ()):
                draw(runs, arguments.images / f"{study}{'_seconds' if by == 'seconds' else ''}.png", by=by)
    for name, picture in (("surrogates", draw_surrogates), ("efficiency", draw_efficiency)):
        rows = tables.read(arguments.results / f"{name}.csv")
        if arguments.images and rows:
            arguments.images.mkdir(parents=True, exist_ok=True)
            picture(rows, arguments.images / f"{name}.png")


if __name__ == "__main__":
    main()
