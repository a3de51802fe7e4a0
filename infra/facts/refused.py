"""Proposals that became no experiment: what they repeat, and what came of that."""

from collections.abc import Iterable, Iterator
from typing import TypedDict

from cluster.ledger.ledger import Ledger
from cluster.state import events as ev
from cluster.state.state import StudyState
from infra.facts.experiment_facts import score_of


class RefusedFacts(TypedDict):
    """One refused proposal; what is told of a twin is empty or null where there is none."""

    at: str
    submission: str
    """Empty for what a proposer came up with."""
    proposer: str
    hypothesis: str
    reason: str
    duplicate_of: str
    """The experiment that it repeats."""
    duplicate_status: str
    duplicate_score: float | None


def refused_count(state: StudyState) -> int:
    """Return how many proposals became no experiment, without a look at the events."""
    return sum(each.proposals for each in state.accounts.values()) - len(state.experiments)


def refused_facts(state: StudyState, events: Iterable[ev.Recorded]) -> Iterator[RefusedFacts]:
    """Yield the refused proposals among events, in their order."""
    for recorded in events:
        event = recorded.event
        if not isinstance(event, ev.ProposalRejected):
            continue
        twin = state.experiments.get(event.duplicate_of)
        yield {
            "at": recorded.at.isoformat(),
            "submission": event.submission,
            "proposer": event.proposer,
            "hypothesis": event.hypothesis,
            "reason": event.reason,
            "duplicate_of": event.duplicate_of,
            "duplicate_status": twin.status.value if twin else "",
            "duplicate_score": score_of(twin) if twin else None,
        }


def all_events(ledger: Ledger) -> Iterator[ev.Recorded]:
    """Yield every event of a ledger."""
    seq = 0
    while page := ledger.read(seq):
        yield from page
        seq = page[-1].seq


def submission_fate(
    state: StudyState, ledger: Ledger, submission: str
) -> str | RefusedFacts | None:
    """Return the experiment that a submission became, or how it was refused; None if neither."""
    for recorded in all_events(ledger):
        event = recorded.event
        if isinstance(event, ev.ExperimentProposed) and event.submission == submission:
            return event.experiment
        if isinstance(event, ev.ProposalRejected) and event.submission == submission:
            return next(refused_facts(state, [recorded]))
    return None
