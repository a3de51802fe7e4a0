"""What a picture of simulations holds: true and claimed curves, along both axes."""

from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cluster.simulation.course import Course
from cluster.simulation.landscape import load_landscape
from cluster.simulation.setup import Step
from cluster.simulation.summary import summarise
from cluster.state.slot_time import SlotTime
from infra.simulations import simulation_drawing
from infra.simulations.simulations import Answer, Cell, Policy, Question

SLOTS, HOURS = 4, 2.0


def course(true: float, claimed: float) -> Course:
    """A study that is better by so much after an hour, when its slots have worked for four."""
    steps = (
        Step(at_s=0.0, slot_seconds=0.0, true=0.0, claimed=0.0),
        Step(at_s=3600.0, slot_seconds=3600.0 * SLOTS, true=true, claimed=claimed),
        Step(at_s=7200.0, slot_seconds=7200.0 * SLOTS, true=true, claimed=claimed),
    )
    time = SlotTime(search=7200.0 * SLOTS)
    return Course(steps=steps, experiments=9, passed_over=0, stopped=0, improving=1, time=time)


def answer(judge: Policy, *courses: Course) -> Answer:
    found = summarise(courses, courses, HOURS)
    return Answer(cell=Cell(slots=SLOTS, judge=judge), courses=courses, summary=found)


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The picture of two judges, two studies each."""
    drawn: list[Figure] = []
    monkeypatch.setattr(simulation_drawing, "save", lambda figure, _: drawn.append(figure))
    question = Question(
        name="published",
        landscape=load_landscape("published"),
        slots=(SLOTS,),
        judges=("greedy", "bayes"),
        hours=HOURS,
        seeds=(1, 2),
    )
    answers = [
        answer("greedy", course(1.0, 3.0), course(2.0, 5.0)),
        answer("bayes", course(3.0, 3.5), course(4.0, 3.5)),
    ]
    simulation_drawing.draw_simulation(question, answers, Path("curves.svg"))
    return drawn[0]


def ends(axes: Axes) -> list[tuple[str, float, float, float]]:
    """Return each line's style, where it ends, and its values before and after the first hour."""
    found = []
    for line in axes.get_lines():
        x, y = [float(v) for v in line.get_xdata()], [float(v) for v in line.get_ydata()]
        found.append((line.get_linestyle(), x[-1], y[len(y) // 2 - 1], y[-1]))
    return found


def test_what_is_true_and_what_is_claimed_are_drawn_along_the_clock_and_along_time_on_slots(
    figure: Figure,
) -> None:
    means = [("-", 0.0, 1.5), (":", 0.0, 4.0), ("-", 0.0, 3.5), (":", 0.0, 3.5)]
    clock, spent = figure.axes
    assert ends(clock) == [(style, HOURS, *values) for style, *values in means]
    assert ends(spent) == [(style, HOURS * SLOTS, *values) for style, *values in means]


def test_axes_and_lines_say_what_they_are(figure: Figure) -> None:
    clock, spent = figure.axes
    assert (clock.get_xlabel(), spent.get_xlabel()) == ("hours", "hours on slots")
    assert clock.get_ylabel() == "improvement over the baseline"
    assert clock.get_title(loc="left") == (
        "published, noise 0.00025: mean of 2 (line: true, dots: claimed)"
    )
    legend = clock.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "greedy, chain, 4 slots",
        "bayes, chain, 4 slots",
    ]
