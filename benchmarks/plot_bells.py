"""Plot the sweeps of centre and width: docs/images/bells.png.

    .venv/bin/python benchmarks/plot_bells.py runs/sweep-bpe runs/sweep-bytes docs/images/bells.png

One panel a comparison, named after its tokenizer: final NELBO against the bell's centre, one line
a width, on the half of the validation blocks that chose nothing (the odd ones); ``standard`` and
``flat`` as level lines.
"""

import argparse
from pathlib import Path

from unmask.base.files import write_whole
from unmask.compare.records import load_comparison
from unmask.plot.style import MARKERS, as_png, colour, figure, settings
from unmask.recipe.parse import parse_recipe

Finals = dict[str, dict[float, float]]


def finals(folder: Path) -> tuple[Finals, dict[str, float]]:
    """Final NELBO of the bells by width and centre, and of the other recipes by name."""
    bells: Finals = {}
    others = {}
    for arm in load_comparison(folder, blocks="odd").arms:
        value = arm.run(0).evals[-1]["nelbo"]
        time = parse_recipe(arm.spec).main.time
        if arm.spec.startswith("bell:"):
            bells.setdefault(f"width {time.std:g}", {})[time.mean] = value  # type: ignore[attr-defined]
        else:
            others[arm.name] = value
    return bells, others


def main() -> None:
    """Draw and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("comparisons", type=Path, nargs="+")
    parser.add_argument("png", type=Path)
    args = parser.parse_args()
    with settings():
        drawing = figure(3.3)
        panels = drawing.subplots(1, len(args.comparisons), squeeze=False)[0]
        found = [finals(folder) for folder in args.comparisons]
        widths = sorted({width for bells, _ in found for width in bells})
        for axes, folder, (bells, others) in zip(panels, args.comparisons, found, strict=True):
            for width, line in sorted(bells.items()):
                number, means = widths.index(width), sorted(line)
                axes.plot(
                    means,
                    [line[m] for m in means],
                    marker=MARKERS[number],
                    color=colour(number),
                    label=width,
                )
            for name, value in others.items():
                axes.axhline(value, color="0.45", linestyle=(0, (1.5, 1.2)), linewidth=1)
                axes.annotate(name, (1, value), xycoords=("axes fraction", "data"), ha="right",
                              va="bottom", color="0.35")  # fmt: skip
            axes.set(title=folder.name, xlabel="centre of the bell (mask rate)")
            axes.set_ylabel("final NELBO (nats per token)")
        panels[0].legend(loc="upper left", bbox_to_anchor=(0, 0.92))
        write_whole(args.png, as_png(drawing))


if __name__ == "__main__":
    main()
