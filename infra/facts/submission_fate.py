"""What became of submissions: which experiments they are, and how those ended."""

from collections.abc import Sequence

from cluster.ledger.ledger import Ledger
from cluster.state import events as ev
from cluster.state.experiment import Status
from cluster.state.state import StudyState
from cluster.state.transitions import apply
from trainer.trial import ExperimentId


class SubmissionFates:
    """Follows a few submissions through the ledger.

    `state` is that before they were handed in: what follows is all that is read.
    """

    def __init__(self, submissions: Sequence[str], state: StudyState) -> None:
        self._waiting = set(submissions)
        self._experiments: dict[str, ExperimentId] = {}
        self._rejected: dict[str, str] = {}
        self.state = state
        """As of the last event that was read."""

    def read(self, ledger: Ledger) -> None:
        """Read what is new."""
        while events := ledger.read(self.state.seq):
            for recorded in events:
                self.state = apply(self.state, recorded)
                self._note(recorded.event)

    def _note(self, event: ev.Event) -> None:
        if isinstance(event, ev.ExperimentProposed) and event.submission in self._waiting:
            self._experiments[event.submission] = event.experiment
        elif isinstance(event, ev.ProposalRejected) and event.submission in self._waiting:
            self._rejected[event.submission] = event.reason

    def are_known(self) -> bool:
        """Say whether all of them have come to an end."""
        for submission in self._waiting - self._rejected.keys():
            experiment = self._experiments.get(submission)
            if experiment is None:
                return False
            status = self.state.experiments[experiment].status
            if not status.is_terminal and status is not Status.MERGING:
                return False
        return True

    def facts(self) -> dict[str, dict[str, object]]:
        """Return what became of each, by submission."""
        found: dict[str, dict[str, object]] = {
            name: {"status": "rejected", "reason": reason}
            for name, reason in self._rejected.items()
        }
        for name, experiment in self._experiments.items():
            record = self.state.experiments[experiment]
            score = None if record.status.is_failure else record.score
            found[name] = {
                "experiment": experiment,
                "status": record.status.value,
                "reason": record.reason,
                "score": score.mean if score else None,
                "delta": record.delta,
            }
        return found
