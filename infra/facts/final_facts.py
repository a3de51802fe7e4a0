"""What final runs found, as JSON can hold it, as words for a terminal, and for a tag. Pure."""

import math
from typing import TypedDict

from cluster.policy.verdicts import noise
from cluster.state.experiment import Experiment
from cluster.state.final_runs import LOOKED, Final
from cluster.state.state import StudyState
from eval.score import Score
from infra.facts.plain_text import counted, number


class ValueFacts(TypedDict):
    """What several runs say together."""

    mean: float
    error: float | None
    """Standard error of the mean over runs; of a single run the noise of the study's runs, if that
    is known."""
    runs: int


class FinalFacts(TypedDict):
    """One final run, with what it is held against."""

    final: str
    """`final-1`."""
    experiment: str
    commit: str
    tag: str
    """Name of the annotated tag; empty while there is no report."""
    seeds: list[int]
    scored: int
    """How many of its trainings were scored."""
    reported: bool
    """All was scored; what follows is null before."""
    source: str
    """Where the validation values come from: printed or predictions."""
    baseline: ValueFacts | None
    """Of the unmodified start, in the search."""
    search: ValueFacts | None
    """Of the experiment, in the search."""
    baseline_holdout: float | None
    """What is told of the holdout (eval.holdout): the best until then."""
    search_holdout: float | None
    validation: ValueFacts | None
    """Of the full trainings, by what the search chose by."""
    holdout: ValueFacts | None
    test: ValueFacts | None
    looks: int
    """How often the test labels were looked at by then; 0 without labels."""
    problem: str
    """Why there is no value where there should be one."""


def final_facts(state: StudyState, final: Final) -> FinalFacts:
    """Return what is known of a final run."""
    begun, reported = final.begun, final.reported
    outcomes = final.scored()
    device_class = next((outcome.device_class for outcome in outcomes.values()), "")
    experiment = state.experiments.get(begun.experiment)

    def value(values: tuple[float, ...]) -> ValueFacts | None:
        score = Score(values=values, device_class=device_class) if values else None
        return _value(state, score)

    return {
        "final": final.name,
        "experiment": begun.experiment,
        "commit": begun.commit,
        "tag": f"incumbent/{state.study}/{final.name}" if reported else "",
        "seeds": list(begun.seeds),
        "scored": len(outcomes),
        "reported": reported is not None,
        "source": state.source,
        "baseline": _searched(state, state.baseline),
        "search": _searched(state, experiment),
        "baseline_holdout": _held_out(state, state.baseline),
        "search_holdout": _held_out(state, experiment),
        "validation": value(final.values()) if reported else None,
        "holdout": value(reported.holdout) if reported else None,
        "test": value(reported.test) if reported else None,
        "looks": reported.looks if reported else 0,
        "problem": reported.problem if reported else "",
    }


def _searched(state: StudyState, experiment: Experiment | None) -> ValueFacts | None:
    return _value(state, experiment.score if experiment else None)


def _held_out(state: StudyState, experiment: Experiment | None) -> float | None:
    looks = {look.experiment: look.reported for look in state.holdouts}
    return looks.get(experiment.id) if experiment else None


def _value(state: StudyState, score: Score | None) -> ValueFacts | None:
    if score is None:
        return None
    error: float | None = score.standard_error
    if score.n == 1:
        found = noise(state, score.device_class)
        error = found.sigma if found.dof else None
    is_known = error is not None and math.isfinite(error)
    return {"mean": score.mean, "error": error if is_known else None, "runs": score.n}


def final_lines(facts: FinalFacts, metric: str) -> list[str]:
    """Return a final run as a table, with what to know of it below."""
    rows = [
        ("", "validation", "holdout", "test"),
        ("baseline", _words(facts["baseline"]), number(facts["baseline_holdout"]), "-"),
        *_search_row(facts),
        (
            facts["final"],
            _words(facts["validation"]),
            _words(facts["holdout"]),
            _words(facts["test"]),
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    runs = counted(len(facts["seeds"]), "full run")
    return [f"{metric}, {runs}; in brackets, of how many runs", *table, *_notes(facts)]


def _search_row(facts: FinalFacts) -> list[tuple[str, str, str, str]]:
    """Return the row of the experiment, unless it is the baseline, which has one."""
    if facts["experiment"] == "e0":
        return []
    name = f"{facts['experiment']} in the search"
    return [(name, _words(facts["search"]), number(facts["search_holdout"]), "-")]


def _notes(facts: FinalFacts) -> list[str]:
    notes = [facts["problem"]] if facts["problem"] else []
    if facts["test"] is not None:
        again = "once, now" if facts["looks"] == 1 else f"{facts['looks']} times, now included"
        notes.append(f"{LOOKED} {again}")
    elif not facts["problem"]:
        what = "printed" if facts["source"] == "printed" else "left, by the validation labels,"
        notes.append(f"without [final] labels, what the runs {what} is all there is: no test score")
    return [*notes, f"tag {facts['tag']} at {facts['commit'][:7]}"]


def final_words(facts: FinalFacts) -> str:
    """Return one line of a status."""
    if not facts["reported"]:
        return f"{facts['scored']} of {len(facts['seeds'])} runs scored, not reported yet"
    if facts["validation"] is None:
        return facts["problem"]  # known from its tag alone
    if facts["test"] is None:
        return f"validation {_words(facts['validation'])}, no test score"
    looks = "once" if facts["looks"] == 1 else f"{facts['looks']} times by then"
    return f"test {_words(facts['test'])}, the labels looked at {looks}"


def tag_message(state: StudyState, final: Final) -> str:
    """Return what the annotated tag of a reported final run says."""
    facts = final_facts(state, final)
    subject = f"{final.name} of {final.begun.experiment}: {state.metric}"
    return "\n".join([subject, "", *final_lines(facts, state.metric)]) + "\n"


def _words(value: ValueFacts | None) -> str:
    if value is None:
        return "-"
    error = f" ± {value['error']:.2g}" if value["error"] is not None else ""
    return f"{number(value['mean'])}{error} ({value['runs']})"
