"""A prompt is bounded, its first part stands still, and no candidate can speak out of its fence."""

import re
import time
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from proposer.history_text import history_text, near_misses
from proposer.plain import CLOSE, OPEN, fenced
from proposer.prompt import CHARS_PER_TOKEN, render
from proposer.proposal import Pending, Remaining
from tests.proposer.study import TRAIN, context, past
from trainer.trial import ExperimentId


def long_history(count: int):
    patch = "--- a/train.py\n+++ b/train.py\n" + "-LR = 0.1\n+LR = 0.2\n" * 20
    return [
        past(
            number,
            status="kept" if number % 97 == 0 else ("crashed" if number % 7 == 0 else "discarded"),
            category=f"category {number % 50}",
            effect=-0.001 * (number % 13),
            hypothesis="change this and that, for a reason that takes a line " * 3,
            reason="Traceback ... " * 40 + f"NameError: name 'x{number}'",
            patch=patch if count - number < 200 else "",
        )
        for number in range(1, count + 1)
    ]


def test_the_first_part_is_the_same_byte_for_byte_until_the_incumbent_changes() -> None:
    first = context(frozen={"prepare.py": "DATA = 1\n"}, instructions="be bold")
    later = replace(
        first,
        incumbent_value=0.7,
        history=long_history(30),
        pending=[
            Pending(experiment=ExperimentId("e9"), proposer="t", hypothesis="h", status="queued")
        ],
        scratchpad="notes",
        notes=["try depth"],
        advice=["LR matters most"],
        remaining=Remaining(usd=3.0),
    )
    one, two = render(first, tokens=20_000, count=1), render(later, tokens=20_000, count=4)
    assert one.static == two.static
    assert one.dynamic != two.dynamic
    moved = replace(later, incumbent=ExperimentId("e3"), files={"train.py": TRAIN + "\n"})
    assert render(moved, tokens=20_000, count=4).static != one.static


def test_instructions_for_an_agent_in_a_loop_are_put_right_before_they_are_read() -> None:
    loop = "LOOP FOREVER: git commit, uv run train.py, write results.tsv, git reset"
    static = render(context(instructions=loop), tokens=20_000, count=1).static
    before, found, _ = static.partition(loop)
    assert found
    assert "The study trains, commits, records, and goes on by itself" in before


def test_everything_that_is_known_is_in_it() -> None:
    shown = render(
        context(
            instructions="be bold",
            frozen={"prepare.py": "DATA = 1\n"},
            guards=["peak_vram_mb at most 20000"],
            budget_s=300.0,
            history=[past(1, status="kept", effect=0.2, reason="", patch="+LR = 0.3\n")],
            pending=[
                Pending(experiment=ExperimentId("e9"), proposer="t", hypothesis="hh", status="held")
            ],
            scratchpad="a note",
            notes=["prefer simple"],
            advice=["LR matters most"],
            remaining=Remaining(experiments=7, gpu_hours=2.0, usd=1.5, tokens=9000),
        ),
        tokens=8000,
        count=3,
    )
    for text in ("be bold", "DATA = 1", "peak_vram_mb at most 20000", "300 seconds", TRAIN):
        assert text in shown.static
    for text in (
        "e1 on e0 (claude, optimizer): idea 1 -> kept +0.2 +- 0.02",
        "    +LR = 0.3",
        "e9 (t, held): hh",
        "a note",
        "prefer simple",
        "LR matters most",
        "7 experiments, 2.0 GPU-hours, 1.50 dollars, 9,000 tokens",
        "up to 3 experiments",
    ):
        assert text in shown.dynamic, text


def test_thousands_of_experiments_fit_and_every_fence_is_closed() -> None:
    known = context(history=long_history(5000), instructions="x" * 9000)
    for tokens in (4000, 20_000, 60_000):
        shown = render(known, tokens=tokens, count=4)
        assert len(shown.static) + len(shown.dynamic) <= tokens * CHARS_PER_TOKEN
        assert shown.dynamic.count(OPEN) == shown.dynamic.count(CLOSE) == 2
        assert "4850 more" in shown.dynamic or " more, by category" in shown.dynamic
    assert "NameError: name 'x4998'" in shown.dynamic, "the end of a traceback is what tells"


def test_winners_and_near_misses_are_told_however_old_they_are() -> None:
    history = long_history(3000)
    history[4] = past(5, status="kept", hypothesis="the old winner")
    history[5] = past(6, effect=0.5, effect_sd=0.1, hypothesis="the near miss")
    text = history_text(history, context().metric, 30_000)
    assert "the old winner" in text
    assert "the near miss" in text
    assert near_misses(history)[0].experiment == "e6"


@given(text=st.text(st.sampled_from("<>DAT \n\x1b[31m\x00e"), max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_text_leaves_its_fence(text: str) -> None:
    inside = fenced(text).removeprefix(f"{OPEN}\n").removesuffix(f"\n{CLOSE}")
    assert OPEN not in inside
    assert CLOSE not in inside
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", inside)


def test_rendering_stays_quick_in_a_long_study() -> None:
    """Not a timing: that is a line of `make bench`; this holds that nothing is quadratic."""
    known = [context(history=long_history(count)) for count in (2500, 5000)]
    for each in known:
        render(each, tokens=60_000, count=4)
    seconds = []
    for each in known:
        start = time.process_time()
        for _ in range(3):
            render(each, tokens=60_000, count=4)
        seconds.append(time.process_time() - start)
    assert seconds[1] < 5 * seconds[0]
