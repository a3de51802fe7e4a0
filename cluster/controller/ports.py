"""What the controller needs from outside, beside ledger, queue and git."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cluster.ledger.progress import Point
from cluster.policy.study_plan import StudyPlan
from cluster.state.events import Recorded
from cluster.state.state import StudyState
from proposer.proposal import Context
from trainer.trial import CommitId, TrialId


class Observer(Protocol):
    """Reads along: results.tsv, pictures, metrics. Must not fail, and must be quick."""

    def observe(self, recorded: Recorded, state: StudyState) -> None:
        """See one event and the state after it. After a restart, only new events are shown."""
        ...

    def resume(self, state: StudyState) -> None:
        """See the state from which a controller begins; called once, before any event."""
        ...

    def close(self) -> None:
        """Write what was held back."""
        ...


class ContextSource(Protocol):
    """Puts together what proposers are shown."""

    def context(
        self,
        state: StudyState,
        plan: StudyPlan,
        *,
        commit: CommitId,
        files: Mapping[str, str],
        now: datetime,
        with_patches: bool = True,
    ) -> Context:
        """Return the context of a question; results, advice and the task are the caller's.

        Args:
            state: of a study whose baseline exists.
            plan: its configuration.
            commit: what proposals will be patches on.
            files: text of every editable file there.
            now: the time, aware.
            with_patches: whether the history holds diffs, which have to be read from git.
        """
        ...


class CurveSource(Protocol):
    """Where the curves of running and of past trials are kept."""

    def curve(self, trial: TrialId, attempt: int) -> Sequence[Point]:
        """Return what one attempt at a trial printed, oldest first; raises LedgerAway."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetProblem:
    """What keeps workers from running."""

    text: str
    is_fatal: bool = False


class Fleet(Protocol):
    """The workers of a study, kept alive from outside the controller."""

    def start(self) -> None:
        """Begin to bring the workers up; those of an earlier controller are found again."""
        ...

    def check(self) -> Sequence[FleetProblem]:
        """Return what has gone wrong since the last call; restarts what has died."""
        ...

    def shutdown(self) -> None:
        """End all workers and everything that was started for them, and nothing else."""
        ...
