"""What of Incumbent is on this machine: its studies, and those of others that it works for."""

from typing import TypedDict

from cluster.ledger.ledger import LedgerAway
from cluster.state.state import StudyState
from infra.local.controller_process import find_controller
from infra.local.home import StudyHome, studies
from infra.local.node_home import NodeHome, memberships
from infra.local.settings import settings_if_any
from infra.local.study import opened


class StudyOverview(TypedDict):
    """A study of this machine; what only a server knows is told of those that run."""

    study: str
    id: str
    """What `--study` may name where several have one name."""
    repository: str
    directory: str
    state: str
    """running, paused, or stopped."""
    reach: str
    """Where machines join it; empty if none can."""
    slots: int | None
    nodes: list[str]
    """Machines that are part of it, the head among them."""
    judged: int | None
    metric: str
    best: float | None


class MembershipOverview(TypedDict):
    """A study of another machine that this one gives its slots to."""

    head: str
    node: str
    state: str
    reason: str


class Overview(TypedDict):
    """All there is."""

    studies: list[StudyOverview]
    joined: list[MembershipOverview]


def overview() -> Overview:
    """Look at all studies of this machine and at all that it has joined; starts nothing."""
    return {
        "studies": [_study(home) for home in studies()],
        "joined": [found for home in memberships() if (found := _membership(home)) is not None],
    }


def _study(home: StudyHome) -> StudyOverview:
    config = settings_if_any(home)
    facts: StudyOverview = {
        "study": home.name,
        "id": home.id,
        "repository": str(home.repository),
        "directory": str(home.directory),
        "state": "stopped",
        "reach": config.cluster.listen if config else "",
        "slots": None,
        "nodes": [],
        "judged": None,
        "metric": config.metric.name if config else "",
        "best": None,
    }
    if find_controller(home) is None:
        return facts
    facts["state"] = "running"
    try:
        with opened(home) as study:
            return _with_state(facts, study.state())
    except LedgerAway:  # it does not answer now; that it runs is true all the same
        return facts


def _with_state(facts: StudyOverview, state: StudyState) -> StudyOverview:
    score = state.incumbent.score if state.incumbent else None
    return {
        **facts,
        "state": "paused" if state.is_paused else "running",
        "slots": state.open_slots,
        "nodes": sorted({state.head, *(s.node for s in state.slots.values() if s.is_open)} - {""}),
        "judged": state.judged,
        "best": score.mean if score else None,
    }


def _membership(home: NodeHome) -> MembershipOverview | None:
    """Return how it is with a node whose process lives; None of one that has left."""
    status = home.status()
    if status is None:
        return None
    return {
        "head": home.head,
        "node": status.node,
        "state": status.standing.value,
        "reason": status.text,
    }
