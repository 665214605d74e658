"""Draw learning curves from the histories that benchmarks/learning.py writes. Needs the ``plot`` extra.

python benchmarks/learning.py --tasks cartpole hopper --histories histories
python benchmarks/learning_curve.py histories docs/images/learning_curve.png
"""

import argparse
import json
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

TITLES = {"cartpole": ("CartPole-v1", 475), "hopper": ("Hopper-v5", 950)}
COLORS = ["#1b6ca8", "#d1495b", "#3a7d44"]


def draw(axes, task, histories):
    """One task: every seed's population mean (thin) and deployed network (thick, dots)."""
    title, threshold = TITLES[task]
    for color, (seed, history) in zip(COLORS, histories.items(), strict=False):
        steps = [record["n_env_steps"] / 1e6 for record in history]
        axes.plot(steps, [record["return_mean"] for record in history], color=color, linewidth=1, alpha=0.5)
        axes.plot(
            steps, [record["deployed_return"] for record in history], color=color, linewidth=2, marker="o",
            markersize=3, label=f"seed {seed}",
        )  # fmt: skip
    axes.axhline(threshold, color="0.4", linestyle="--", linewidth=1)
    axes.text(0.25, threshold, f"goal {threshold}", color="0.4", va="bottom", transform=axes.get_yaxis_transform())
    axes.set(title=title, xlabel="environment steps, millions", xlim=(0, None), ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("histories", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    mpl.rcParams.update({"font.size": 10})
    figure = Figure(figsize=(9.5, 3.9), layout="constrained")
    for axes, task in zip(figure.subplots(1, 2), TITLES, strict=True):
        files = sorted(arguments.histories.glob(f"{task}-*.json"))
        draw(axes, task, {path.stem.split("-")[-1]: json.loads(path.read_text()) for path in files})
    figure.axes[0].set_ylabel("return per episode")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=3, frameon=False,
        title="thick: deployed network, thin: population mean", title_fontsize=9, fontsize=9,
    )  # fmt: skip
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output, dpi=150)


if __name__ == "__main__":
    main()
