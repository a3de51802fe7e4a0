"""What a controller is put together from. Knows ports and records, and does nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cluster.controller.curve_book import CurveBook
from cluster.controller.performer import Performer
from cluster.controller.ports import ContextSource, Fleet, Observer
from cluster.git.mirror import Mirror
from cluster.ledger.ledger import Ledger
from cluster.policy.study_plan import StudyPlan
from cluster.queue.trial_queue import TrialQueue
from cluster.state.state import StudyState
from proposer.proposal import Proposer


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a controller is put together from."""

    ledger: Ledger
    waiting_ledger: Ledger
    """A second connection, for the waker's blocking reads."""
    queue: TrialQueue
    performer: Performer
    mirror: Mirror
    fleet: Fleet
    proposers: Sequence[Proposer]
    observers: Sequence[Observer]
    plan: StudyPlan
    contexts: ContextSource
    epoch: int
    clock: Callable[[], datetime]
    notify: Callable[[str], None]
    """Shows people a standing notice in place of the last; "" takes it away."""
    revive: Callable[[], None]
    """Brings an embedded server back that has died; raises if it cannot."""
    lease_s: float = 30.0
    """For how long a lease is good after a heartbeat."""
    note: Callable[[str, str], None] = lambda _author, _text: None
    """Writes what a proposer noted onto the scratchpad."""
    curves: CurveBook | None = None
    """What looks at curves; one of the observers. None where no trial is given up for its curve."""
    finish: Callable[[Callable[[], StudyState]], None] = lambda _look: None
    """Waits at the end for what still needs the workers; is handed what tells the latest state."""
