"""Draws simulations: what is true and what is claimed, against wall-clock and time on slots.

An edge to matplotlib, in the style of infra.display.drawing.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cluster.simulation.setup import Step
from cluster.simulation.summary import curve
from infra.display.drawing import DPI, SIZE_IN, STYLE, save
from infra.facts.plain_text import counted
from infra.simulations.simulations import Answer, Question

POINTS = 240
"""How finely curves are drawn."""
_COLOURS = {"greedy": "#cf222e", "bayes": "#1a7f37", "sequential": "#0969da"}


def draw_simulation(question: Question, answers: Sequence[Answer], path: Path) -> None:
    """Draw the mean curves into a file, PNG or SVG by its name."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=SIZE_IN, dpi=DPI, facecolor="white", layout="constrained")
        clock, spent = figure.subplots(1, 2, sharey=True)
        most = question.hours * 3600 * max(question.slots)
        for answer in answers:
            _lines(clock, answer, question.hours * 3600, lambda step: step.at_s)
            _lines(spent, answer, most, lambda step: step.slot_seconds)
        clock.set_xlabel("hours", loc="left")
        clock.set_ylabel("improvement over the baseline")
        spent.set_xlabel("hours on slots", loc="left")
        clock.set_title(
            f"{question.name}, noise {question.landscape.runs.noise:g}: "
            f"mean of {len(question.seeds)} (line: true, dots: claimed)",
            loc="left",
            fontsize=11,
            fontweight="bold",
        )
        clock.legend(frameon=False, fontsize=8.5)
        save(figure, path)


def _lines(axes: Axes, answer: Answer, most: float, along: Callable[[Step], float]) -> None:
    """Draw one policy as far as it went."""
    reached = max((along(course.steps[-1]) for course in answer.courses if course.steps), default=0)
    end = min(most, reached)
    at = [end * point / POINTS for point in range(POINTS + 1)]
    cell = answer.cell
    width = 0.6 + 0.4 * cell.slots.bit_length()  # wider with every doubling
    label = f"{cell.judge}, {cell.reducer}, {counted(cell.slots, 'slot')}"
    label += f", rungs {cell.ladder}" if cell.ladder else ""
    for value, style, name in ((_true, "-", label), (_claimed, ":", None)):
        means = [estimate.mean for estimate in curve(answer.courses, at, value, along)]
        axes.plot(
            [moment / 3600 for moment in at],
            means,
            style,
            color=_COLOURS[cell.judge],
            linewidth=width,
            alpha=0.9,
            label=name,
        )


def _true(step: Step) -> float:
    return step.true


def _claimed(step: Step) -> float:
    return step.claimed
