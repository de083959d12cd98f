"""The plot: throughput of the engine as a share of its floor. A PNG where matplotlib is installed, else text."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, util
from pathlib import Path

from benchmarks.figures import Figures

BAR = 50


def draw(figures: Sequence[Figures], beside: Path) -> Path:
    """Write the plot beside the JSON file; returns its path."""
    if util.find_spec("matplotlib") is None:
        path = beside.with_suffix(".txt")
        path.write_text(text(figures) + "\n", encoding="utf-8")
        return path
    path = beside.with_suffix(".png")
    _picture(figures, path)
    return path


def text(figures: Sequence[Figures]) -> str:
    """A bar for each line of the table: full is the floor's own speed."""
    lines = ["workflows a second, as a share of the floor's"]
    for one in figures:
        share = one.throughput_ratio.median
        bar = ("#" * max(1, round(min(share, 1.0) * BAR))).ljust(BAR)
        lines.append(f"{one.workload} {one.store:<13} |{bar}| {share:.1%}")
    return "\n".join(lines)


def _picture(figures: Sequence[Figures], path: Path) -> None:
    names = [f"{one.workload} {one.store}" for one in figures]
    shares = [one.throughput_ratio.median for one in figures]
    below = [one.throughput_ratio.median - one.throughput_ratio.least for one in figures]
    above = [one.throughput_ratio.most - one.throughput_ratio.median for one in figures]
    picture = import_module("matplotlib.figure").Figure(
        figsize=(8, 0.6 * len(figures) + 1.5), layout="constrained"
    )
    axes = picture.add_subplot()
    axes.barh(names, shares, xerr=(below, above), color="#4477aa", capsize=3)
    axes.axvline(1.0, color="#cc6677", label="floor")
    axes.invert_yaxis()
    axes.set_xlabel("workflows a second, as a share of the floor's (median and spread of the rounds)")
    axes.legend()
    picture.savefig(path, dpi=120)
