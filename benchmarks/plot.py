"""What was found, as bars: docs/benchmarks.svg."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402 - after its backend is chosen

from benchmarks.contenders import BARE, OURS  # noqa: E402
from benchmarks.report import Results  # noqa: E402
from benchmarks.rounds import Rates  # noqa: E402

COLOURS = {OURS.name: "#1f6feb", BARE.name: "#57606a"}
OTHERS = "#b6bec8"


def draw(results: Results, path: Path) -> None:
    """A chart of each measure: the medians, and how far the quartiles are apart."""
    # Equal results give an equal file; its text stays text.
    pyplot.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 10})
    bars = [len(one.series) for one in results.rates]
    figure, axes = pyplot.subplots(
        len(bars), figsize=(8, 1.4 * len(bars) + 0.34 * sum(bars)),
        gridspec_kw={"height_ratios": bars}, squeeze=False,
    )  # fmt: skip
    for axis, rates in zip(axes[:, 0], results.rates, strict=True):
        _bars(axis, rates)
    figure.suptitle("frappe_jobs, bare Celery and their peers", fontsize=12)
    figure.text(
        0.5, 0.005, f"{results.facts['processor']} · {results.facts['Python']} · "
        "medians, lines: quartiles",
        ha="center", color="#57606a", fontsize=8,
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0.02, 1, 0.99))
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _bars(axis: pyplot.Axes, rates: Rates) -> None:
    names = list(rates.series)
    medians = [one.median for one in rates.series.values()]
    errors = [one.median * one.spread / 2 for one in rates.series.values()]
    colours = [COLOURS.get(name.partition(", enqueue_many")[0], OTHERS) for name in names]
    axis.barh(names, medians, xerr=errors, color=colours, height=0.7, ecolor="#24292f")
    for number, name in enumerate(names):
        label = f" {medians[number]:,.0f}  (×{rates.ratio(name):.2f})"
        axis.text(medians[number] + errors[number], number, label, va="center", fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(0, max(medians) * 1.25)
    axis.set_title(f"{rates.title} (a second; × {rates.base})", loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
