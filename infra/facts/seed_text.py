"""What is told of seeds: that a patch changes one, and which were written into trials. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eval.seeds import Reseed, SeedHabit
from infra.facts.fact_records import ShowFacts
from infra.facts.plain_text import one_line

CHANGES_SEED = "changes the seed"
"""Stands beside the status of an experiment whose patch does."""
_MOST_NAMED = 3
_SINCE = {
    SeedHabit.TAKEN: "judged on other seeds than the first run's",
    SeedHabit.WRITTEN: "judged on other seeds than the first run's",
    SeedHabit.FREE: "no seed is set any more, so runs differ by themselves",
    SeedHabit.FIXED: "nothing can set another one for it",
}


def reseed_words(reseeds: Iterable[Reseed]) -> str:
    """Return which seeds were written into a trial's copy; empty if none was."""
    found = list(reseeds)
    told = [f"{one.old} -> {one.new} in {one.path}:{one.line}" for one in found[:_MOST_NAMED]]
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return f"seed {', '.join(told)}{more}" if told else ""


def seed_lines(facts: ShowFacts) -> Sequence[str]:
    """Return what there is to say of an experiment's seeds, a line each."""
    lines = []
    if (habit := facts["seeds"]) is not None:
        lines.append(f"its patch changes the seed: {_SINCE[SeedHabit(habit)]}")
    for trial in (*facts["trials"], *facts["controls"]):
        outcome: Mapping[str, Any] = trial["outcome"] or {}
        if words := reseed_words(Reseed(**one) for one in outcome.get("reseeds") or ()):
            lines.append(one_line(f"{trial['trial']}: {words}"))
    return lines
