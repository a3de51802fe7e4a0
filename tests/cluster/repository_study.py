"""A study over a real git repository, whose controller a test runs by hand.

Decisions, the performer and git are the real ones; ledger and queue are in memory.
"""

from datetime import UTC, datetime
from pathlib import Path

from cluster.controller.performer import Performer
from cluster.git.study_repository import StudyRepository
from cluster.ledger.ledger import InMemoryLedger, catch_up, load
from cluster.policy.study_plan import StudyPlan
from cluster.queue.trial_queue import InMemoryTrialQueue
from cluster.state import events as ev
from cluster.state.state import StudyState
from tests.cluster.world import METRIC
from trainer.git_command import GitCommand
from trainer.preflight import Preflight
from trainer.trial import CommitId

EDITABLE = ("train.py",)


class RepositoryStudy:
    """What a controller has, from the first event to any restart."""

    ledger: InMemoryLedger
    queue: InMemoryTrialQueue
    repository: StudyRepository

    def create(
        self, home: Path, train: str, plan: StudyPlan, kind: type[StudyRepository] = StudyRepository
    ) -> None:
        """Begin a study of a new repository that holds a train.py, in an empty folder."""
        self.source = home / "research"
        self.source.mkdir()
        (self.source / "train.py").write_text(train)
        git = GitCommand(self.source)
        for args in (("init", "-q"), ("add", "."), ("commit", "-qm", "Begin")):
            git.run("-c", "user.name=a", "-c", "user.email=a@example.org", *args)
        self.repository = kind.create(
            home / "study.git", study="s", source=self.source, base="HEAD"
        )
        self.plan = plan
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        self.state = StudyState()
        base = CommitId(git.text("rev-parse", "HEAD").strip())
        self.happen(ev.StudyStarted(study="s", base_commit=base, metric="loss", goal="minimize"))

    def preflight(self) -> Preflight | None:
        """Return what a new controller looks at candidates with."""
        return None

    def happen(self, event: ev.Event) -> None:
        """Append what somebody else than the controller tells."""
        name = f"test/{self.state.seq}"
        self.ledger.append([ev.Draft(id=name, at=self.now, event=event)])
        self.state = catch_up(self.ledger, self.state)

    def restart(self) -> None:
        """Begin with a controller that knows what the ledger tells."""
        epoch = self.ledger.begin_epoch()
        self.state = load(self.ledger)
        self.happen(ev.ControllerStarted(epoch=epoch, pid=1, node="n"))
        self.performer = Performer(
            ledger=self.ledger,
            queue=self.queue,
            repository=self.repository,
            source=self.source,
            editable=EDITABLE,
            metric=METRIC,
            budget_s=1,
            timeout_s=2,
            epoch=epoch,
            clock=lambda: self.now,
            preflight=self.preflight(),
        )
        self.performer.resume(self.state)
