"""People's requests to a study, as events. They need no controller: it reads them when it runs."""

import uuid
from datetime import UTC, datetime

from cluster.events import Draft, Event
from infra.study import OpenStudy


def request(study: OpenStudy, event: Event) -> str:
    """Append a request; return its id."""
    name = f"user/{uuid.uuid4().hex}"
    study.ledger.append([Draft(id=name, at=datetime.now(UTC), event=event)])
    return name
