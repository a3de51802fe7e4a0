"""Draws the progress of a study: every experiment a dot, the best so far a staircase.

The only edge to matplotlib; runs in a process of its own (infra.display.picture). After the
progress chart of karpathy/autoresearch, with what that leaves out: crashes, and experiments too bad
for the scale. Where labels go is infra.display.labels' to say. The same points give the same bytes.
"""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import quantiles
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from cluster.ledger.codec import from_json
from cluster.state.experiment import Kind
from eval.metric import Goal, Metric
from infra.display.labels import Area, Label, Placed, place
from infra.display.picture import Order, Point
from infra.facts.fates import Fate
from infra.facts.plain_text import counted, one_line

INK, FAINT, GRID = "#1f2328", "#8c959f", "#eaeef2"
KEPT, DISCARDED, CRASHED = "#1a7f37", "#b1bac4", "#cf222e"
SIZE_IN, DPI = (10.0, 5.0), 160
LABEL_PT, TILT, GAP_PT = 8.0, 30.0, 8.0
MOST_LABELS = 24
"""Labels for so many of the largest improvements; more would be a thicket."""

STYLE: Mapping[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a hypothesis may hold dollar signs
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "incumbent",
}


def main() -> int:
    """Draw what standard input asks for."""
    os.nice(10)
    order = from_json(Order, sys.stdin.buffer.read())
    draw(order.points, order.metric, Path(order.png), Path(order.svg))
    return 0


def draw(points: Sequence[Point], metric: Metric, png: Path, svg: Path) -> None:
    """Draw the points, in order of their fates, into two files; each is replaced as a whole."""
    with mpl.rc_context(), warnings.catch_warnings():
        # Hypotheses may hold letters that the font lacks; it draws boxes instead, and says so.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=SIZE_IN, dpi=DPI, facecolor="white", layout="constrained")
        _Chart(points, metric, figure).draw()
        save(figure, png)
        save(figure, svg)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG or SVG, by its name, that is the same whenever it is drawn of the same."""
    metadata = {"Software": None} if path.suffix == ".png" else _NO_METADATA
    # Written aside and put in place: a reader sees the old picture or the new.
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format=path.suffix[1:], metadata=metadata)
    partial.replace(path)


_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


class _Chart:
    """One figure with its data in drawable form."""

    def __init__(self, points: Sequence[Point], metric: Metric, figure: Figure) -> None:
        self._points = points
        self._metric = metric
        self._figure = figure
        self._axes: Axes = figure.add_subplot()
        self._sign = 1.0 if metric.goal is Goal.MINIMIZE else -1.0
        """Turns "worse" into "larger"."""
        self._scored = [(x, p, p.value) for x, p in enumerate(points) if p.value is not None]
        self._kept = [(x, p, value) for x, p, value in self._scored if p.fate is Fate.KEEP]
        self._worst = self._limit()
        """Values beyond this are shown as arrows at the edge."""

    def draw(self) -> None:
        """Draw everything; labels last, because they go where there is room."""
        self._axes.set_title(self._title(), loc="left", fontweight="bold", fontsize=13, pad=12)
        self._axes.set_xlabel("experiment, in order of verdict", loc="left")
        self._axes.set_ylabel(f"{self._metric.name} ({_DIRECTIONS[self._metric.goal]})")
        self._axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        self._set_limits()
        self._draw_staircase()
        self._draw_dots()
        self._draw_edges()
        handles, names = self._axes.get_legend_handles_labels()
        self._axes.legend(
            handles,
            names,
            loc="upper right",
            bbox_to_anchor=(1.0, -0.05),
            ncols=6,
            frameon=False,
            fontsize=8.5,
            handletextpad=0.3,
            columnspacing=1.2,
            borderaxespad=0.0,
        )
        self._figure.draw_without_rendering()  # the layout settles, so that pixels can be compared
        self._figure.set_layout_engine("none")
        self._draw_labels()

    # --- the scale -------------------------------------------------------------------------------

    def _limit(self) -> float:
        """Return the worst value that the scale shows.

        Half as much again as the way from the baseline to the best; while that is nothing, what
        is no outlier by Tukey's rule (1.5 interquartile ranges beyond the upper quartile).
        """
        values = [self._sign * value for _, _, value in self._scored]
        kept = [self._sign * value for _, _, value in self._kept]
        if not values:
            return 1.0
        limit = max(values)
        if kept and max(kept) > min(kept):
            limit = max(kept) + 0.5 * (max(kept) - min(kept))
        elif len(values) > 3:
            low, _, high = quantiles(values, method="inclusive")
            limit = max([high + 1.5 * (high - low), *kept])
        return min(limit, max(values))

    def _set_limits(self) -> None:
        best = min((self._sign * value for _, _, value in self._scored), default=0.0)
        span = (self._worst - best) or abs(best) * 0.1 or 1.0
        room = 0.25 if len(self._kept) > 1 else 0.12  # below the staircase, for labels and crashes
        worse, better = self._worst + 0.1 * span, best - room * span
        low, high = sorted((self._sign * worse, self._sign * better))
        self._axes.set_ylim(low, high)
        last = max(len(self._points) - 1, 1)
        self._axes.set_xlim(-0.03 * last - 0.5, last * 1.03 + 0.5)

    # --- what is drawn ---------------------------------------------------------------------------

    def _shown(self, fate: Fate) -> tuple[list[int], list[float]]:
        found = [
            (x, value)
            for x, point, value in self._scored
            if point.fate is fate and self._sign * value <= self._worst
        ]
        return [x for x, _ in found], [value for _, value in found]

    def _draw_dots(self) -> None:
        size = 26.0 if len(self._points) < 300 else 12.0
        for fate, fill, edge in (
            (Fate.DISCARD, DISCARDED, DISCARDED),
            (Fate.MERGED, "white", KEPT),
        ):
            xs, ys = self._shown(fate)
            if xs:
                name = f"{len(xs)} {_NAMES[fate]}"
                self._axes.scatter(
                    xs, ys, s=size, facecolors=fill, edgecolors=edge, zorder=2.5, label=name
                )

    def _draw_staircase(self) -> None:
        if not self._kept:
            return
        xs = [x for x, _, _ in self._kept]
        ys = [value for _, _, value in self._kept]
        best = [self._sign * y for y in accumulate((self._sign * y for y in ys), min)]
        self._axes.step(
            [*xs, len(self._points) - 1],
            [*best, best[-1]],
            where="post",
            color=KEPT,
            linewidth=1.8,
            alpha=0.75,
            label="best so far",
        )
        self._axes.scatter(
            xs,
            ys,
            s=52,
            color=KEPT,
            edgecolors="white",
            linewidths=1.2,
            zorder=3,
            label=f"{len(xs) - 1} kept" if len(xs) > 1 else None,
        )

    def _draw_edges(self) -> None:
        """Mark at the edges what has no place on the scale."""
        edge = self._axes.get_xaxis_transform()
        off = [x for x, _, value in self._scored if self._sign * value > self._worst]
        is_up = self._sign > 0
        if off:
            self._axes.scatter(
                off,
                [0.985 if is_up else 0.05] * len(off),
                s=24,
                marker="^" if is_up else "v",
                color=FAINT,
                linewidths=0,
                transform=edge,
                label=f"{len(off)} off the scale",
            )
        crashed = [x for x, point in enumerate(self._points) if point.value is None]
        if crashed:
            self._axes.scatter(
                crashed,
                [0.012] * len(crashed),
                s=50,
                marker="|",
                color=CRASHED,
                linewidths=1.6,
                transform=edge,
                label=f"{len(crashed)} crashed",
            )

    # --- words -----------------------------------------------------------------------------------

    def _title(self) -> str:
        proposals = sum(point.kind is Kind.PROPOSAL for point in self._points)
        merges = sum(point.kind is Kind.MERGE for point in self._points)
        counts = counted(proposals, "experiment")
        if merges:
            counts += f" and {counted(merges, 'merge')}"
        kept = [value for _, _, value in self._kept]
        if not kept:
            return counts
        scores = _shortest(kept[0], self._sign * min(self._sign * value for value in kept))
        words = " → ".join(dict.fromkeys(scores))
        return f"{counts}, {len(kept) - 1} kept: {self._metric.name} {words}"

    def _draw_labels(self) -> None:
        points = self._labelled()
        labels = [self._measured(x, point, value) for x, point, value in points]
        for (x, point, value), found in zip(points, self._placed(labels), strict=True):
            if found is not None:
                self._write(point, (x, value), found)

    def _labelled(self) -> list[tuple[int, Point, float]]:
        """Return the kept points with the largest improvements, the largest first."""
        steps = [(self._sign * (old[2] - new[2]), new) for old, new in pairwise(self._kept)]
        steps.sort(key=lambda step: (-step[0], step[1][0]))
        return [*(point for _, point in steps[:MOST_LABELS]), *self._kept[:1]]

    def _measured(self, x: int, point: Point, value: float) -> Label:
        left, middle = self._axes.transData.transform((x, value))
        widths = []
        for form in _forms(point):
            text = self._axes.text(x, value, form, fontsize=LABEL_PT)
            extent = text.get_window_extent()
            widths.append(extent.width)
            text.remove()
        height = 1.6 * LABEL_PT * self._figure.dpi / 72
        return Label(x=left, y=middle, widths=tuple(widths), height=height)

    def _write(self, point: Point, at: tuple[float, float], found: Placed) -> None:
        """Write a label at its place; a line leads back to its point if that is far."""
        points = 72 / self._figure.dpi
        # The corner of the tilted text's box that is nearest to the point.
        corner = (0.0 if found.is_ahead else 1.0, 0.0 if found.dy > 0 else 1.0)
        leader = {
            "arrowstyle": "-",
            "color": KEPT,
            "alpha": 0.4,
            "linewidth": 0.8,
            "relpos": corner,
            "shrinkA": 0,
            "shrinkB": 4,
        }
        self._axes.annotate(
            _forms(point)[found.form],
            at,
            gid=f"label-{point.experiment}",
            xytext=(found.dx * points, found.dy * points),
            textcoords="offset points",
            ha="left" if found.is_ahead else "right",
            va="center",
            rotation=self._sign * TILT,
            rotation_mode="anchor",
            fontsize=LABEL_PT,
            color=KEPT,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            arrowprops=leader if found.steps > 1 else None,
            zorder=4,
        )

    def _placed(self, labels: list[Label]) -> list[Placed | None]:
        shown = [(x, value) for x, _, value in self._scored if self._sign * value <= self._worst]
        dots = [(float(x), float(y)) for x, y in self._axes.transData.transform(shown)]
        box = self._axes.get_window_extent()
        floor = 0.03 * box.height  # crashes are marked there
        area = Area(left=box.x0, bottom=box.y0 + floor, right=box.x1, top=box.y1)
        gap = GAP_PT * self._figure.dpi / 72
        return place(labels, dots=dots, area=area, tilt=self._sign * TILT, gap=gap)


_NAMES = {Fate.DISCARD: "discarded", Fate.MERGED: "merged"}
_DIRECTIONS = {Goal.MINIMIZE: "lower is better", Goal.MAXIMIZE: "higher is better"}


def _forms(point: Point) -> list[str]:
    """Return a label and shorter forms of it, the longest first."""
    return list(dict.fromkeys([point.label, one_line(point.label, 24), one_line(point.label, 12)]))


def _shortest(first: float, last: float) -> tuple[str, str]:
    """Return two numbers with the fewest digits, from three on, that tell them apart well."""
    for digits in range(3, 10):
        words = f"{first:.{digits}g}", f"{last:.{digits}g}"
        # Two digits of the difference must survive the rounding.
        if abs((float(words[0]) - float(words[1])) - (first - last)) <= 0.02 * abs(first - last):
            return words
    return words
