"""What the holdout says of a study's promotions, as JSON can hold it and in words. Pure."""

from typing import TypedDict

from cluster.state.state import StudyState
from eval.holdout import Look, gap, stall
from eval.metric import Goal, Metric
from infra.facts.plain_text import number


class HoldoutFacts(TypedDict):
    """Validation beside the holdout, at the latest promotion of which both are known."""

    experiment: str
    validation: float | None
    """Of the trial that was scored by both."""
    score: float | None
    """What is told of the holdout: the best so far, in steps."""
    gap: float | None
    """By how much validation says more; positive: the holdout is worse."""
    step: float
    """What is better by no more than this is not told."""
    promotions: int
    """How many were scored, the baseline included."""
    stalled: int
    """Promotions since the holdout last got better."""
    warning: str
    """Why the search may fit the validation labels, in words; empty if nothing says so."""
    problem: str
    """Why the latest promotion could not be scored; empty if it was."""


def holdout_facts(state: StudyState) -> HoldoutFacts | None:
    """Return how the holdout compares; None where nothing was scored by it."""
    if not state.holdouts:
        return None
    metric = Metric(name=state.metric, goal=Goal(state.goal), pattern="")
    scored = [event for event in state.holdouts if event.reported is not None]
    looks = [
        Look(validation=event.validation, holdout=event.reported, step=event.step)
        for event in scored
        if event.reported is not None
    ]
    found, last = stall(looks, metric), looks[-1] if looks else None
    warning = (
        f"validation got better by {found.gained:.3g} over the last {found.promotions} promotions, "
        "and the holdout did not: the search may fit the validation labels"
    )
    return {
        "experiment": scored[-1].experiment if scored else "",
        "validation": last.validation if last else None,
        "score": last.holdout if last else None,
        "gap": gap(last, metric) if last else None,
        "step": last.step if last else 0.0,
        "promotions": len(looks),
        "stalled": found.promotions,
        "warning": warning if found.is_suspicious else "",
        "problem": state.holdouts[-1].problem,
    }


def holdout_words(facts: HoldoutFacts | None) -> str:
    """Return the line of a status; empty where there is no holdout."""
    if facts is None:
        return ""
    problem = facts["problem"]
    if facts["score"] is None or facts["gap"] is None:
        return problem
    told = f"{number(facts['score'])}, validation {number(facts['validation'])}"
    within = f" within {facts['step']:.2g}" if facts["step"] else ""
    return f"{told}: a gap of {facts['gap']:.3g}{within}" + (f"; {problem}" if problem else "")
