"""The plot: throughput of the engine as a share of its floor. An SVG where matplotlib is installed, else text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module, util
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures
from benchmarks.names import store_and_loop

BAR = 50
FULL, EIGHTHS = "█", " ▏▎▍▌▋▊▉"
COLOURS = {"memory": "#999999", "sqlite": "#4477aa", "postgres": "#228833", "mysql": "#ccbb44"}


def draw(figures: Sequence[Figures], beside: Path) -> Path:
    """Write the plot beside the JSON file; returns its path."""
    if util.find_spec("matplotlib") is None:
        path = beside.with_suffix(".txt")
        path.write_text(text(figures) + "\n", encoding="utf-8")
        return path
    path = beside.with_suffix(".svg")
    _picture(figures, path)
    return path


def text(figures: Sequence[Figures]) -> str:
    """A bar for each line of the table: full is the floor's own speed."""
    names = [_name(one) for one in figures]
    width = max(map(len, names))
    lines = ["workflows a second, as a share of the floor's"]
    for one, name in zip(figures, names, strict=True):
        share = one.throughput_ratio.median
        lines.append(f"{name:<{width}} |{_bar(min(share, 1.0))}| {share:.1%}")
    return "\n".join(lines)


def draw_ratios(title: str, ratios: Mapping[str, Mapping[str, float]], beside: Path) -> Path | None:
    """Bars of how many times something is something else, by name; ``None`` without matplotlib, or without bars."""
    if util.find_spec("matplotlib") is None or not ratios:
        return None
    picture = import_module("matplotlib.figure").Figure(
        figsize=(8, 0.24 * len(ratios) + 1.0), layout="constrained"
    )
    axes = picture.add_subplot()
    medians = [ratio["median"] for ratio in ratios.values()]
    below = [ratio["median"] - ratio["least"] for ratio in ratios.values()]
    above = [ratio["most"] - ratio["median"] for ratio in ratios.values()]
    colours = [COLOURS.get(name.rpartition("/")[2].split(",")[0], "#aa3377") for name in ratios]
    axes.barh(
        list(ratios), medians, xerr=(below, above), color=colours, capsize=2, error_kw={"linewidth": 0.8}
    )
    axes.axvline(1.0, color="#cc6677", linewidth=1.0)
    axes.set_xscale("log")
    axes.set_xlim(left=min(0.8, *medians) * 0.9)  # else the bar of the smallest has no length
    _light(axes, title)
    axes.invert_yaxis()
    path = beside.with_suffix(".svg")
    picture.savefig(path)
    return path


def _light(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _name(one: Figures) -> str:
    return f"{one.workload} {store_and_loop(one.store, one.loop)}" + (" *" if one.conditions.busy else "")


def _bar(share: float) -> str:
    eighths = max(1, round(share * BAR * 8))
    return (FULL * (eighths // 8) + EIGHTHS[eighths % 8].strip()).ljust(BAR)


def _picture(figures: Sequence[Figures], path: Path) -> None:
    """Three columns: the share of the floor, the rate, the CPU time. A bar is the median, a whisker all rounds."""
    names = [_name(one) for one in figures]
    colours = [COLOURS.get(one.store.partition("/")[0], "#aa3377") for one in figures]
    picture = import_module("matplotlib.figure").Figure(
        figsize=(12, 0.28 * len(figures) + 1.2), layout="constrained"
    )
    columns = (
        ("share of the floor's throughput", [one.throughput_ratio for one in figures], False),
        ("workflows a second", [one.engine.workflows_per_second for one in figures], True),
        ("µs of CPU a workflow", [one.engine.cpu_us_per_workflow for one in figures], True),
    )
    for axes, (title, values, logarithmic) in zip(picture.subplots(1, 3, sharey=True), columns, strict=True):
        medians = [value.median for value in values]
        below = [value.median - value.least for value in values]
        above = [value.most - value.median for value in values]
        axes.barh(names, medians, xerr=(below, above), color=colours, capsize=2, error_kw={"linewidth": 0.8})
        _light(axes, title)
        if logarithmic:
            axes.set_xscale("log")
        else:
            axes.axvline(0.5, color="#cc6677", linewidth=1.0)  # what is aimed at
    axes.invert_yaxis()
    picture.savefig(path)
