"""People's requests to a study, as events. They need no controller: it reads them when it runs."""

import uuid
from datetime import UTC, datetime

from cluster.ledger.ledger import LOST_DATA, Emptied
from cluster.state.events import Draft, Event, StopRequested
from cluster.state.state import StudyState
from infra.local.study import OpenStudy


def request(study: OpenStudy, event: Event) -> str:
    """Append a request; return its id.

    Raises Emptied where there is no event yet: a request would be taken for a ledger.
    """
    if not study.ledger.read(0, limit=1):
        raise Emptied(LOST_DATA)
    name = f"user/{uuid.uuid4().hex}"
    study.ledger.append([Draft(id=name, at=datetime.now(UTC), event=event)])
    return name


def request_stop(study: OpenStudy, state: StudyState, *, now: bool) -> bool:
    """Ask for a stop unless `state` says that somebody has; say whether it was asked.

    To be called again until the controller is gone, with the state as of then: a controller that
    is only just starting forgets what was asked before its start is recorded.
    """
    if state.stopping == "now" or (state.stopping and not now):
        return False
    request(study, StopRequested(now=now))
    return True
