"""Grows a study at a user's, over real git and a real server: all but the training is real."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.controller.performer import Performer
from cluster.git.mirror import Mirror, left_alone
from cluster.git.study_repository import StudyRepository
from cluster.ledger.ledger import load
from cluster.policy.decisions import decide
from cluster.policy.study_plan import Circumstances, StudyPlan
from cluster.state import events as ev
from eval.judge import GreedyJudge
from eval.metric import Goal, Metric
from infra.display.results_tsv import ResultsTsv
from infra.local.requests import request
from infra.local.study import OpenStudy, opened
from tests.infra.user import CONFIG, TRAIN, User
from tests.trainer.trials import cpu_slot
from trainer.trial import CommitId, CrashKind, Ending, TrialOutcome

METRIC = Metric(name="loss", goal=Goal.MINIMIZE, pattern=r"^loss: (\S+)")
SLOT = cpu_slot()
PLAN = StudyPlan(metric=METRIC, judge=GreedyJudge(metric=METRIC), proposers=(), slots=1)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    """Return somebody whose study has one submission, and has never run."""
    user = User.at(tmp_path)
    monkeypatch.setenv("HOME", user.variables["HOME"])
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": CONFIG})
    user.done("submit", "--set", "LR=0.3")
    return user


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class GrownStudy:
    """A study that is run by hand, one settled state after the other."""

    user: User
    epoch: int = 0
    counted: int = 0
    refuse: Collection[str] = ()
    """Trials that nobody takes."""
    instead: Mapping[str, TrialOutcome] = field(default_factory=dict)
    """How trials end that do not end as they would."""

    def more(self, count: int, *, lr: float = 0.0) -> None:
        """Hand in more candidates and see them through; each is better, unless `lr` is said."""
        with opened(self.user.home) as study:
            for _ in range(count):
                self.counted += 1
                value = lr or 0.05 / self.counted
                request(
                    study,
                    ev.SubmissionReceived(
                        submission=f"s{self.counted}",
                        hypothesis=f"LR to {value:.4f}",
                        settings={"LR": f"{value:.4f}"},
                    ),
                )
                self.settle(study)

    def settle(self, study: OpenStudy) -> None:
        """Decide, perform and run until nothing is left to do; then mirror it."""
        repository = StudyRepository.open(study.home.git, study=study.home.name)
        performer = self._performer(study, repository)
        for _ in range(100):
            state = load(study.ledger)
            commands = decide(state, PLAN, Circumstances(now=now(), asked=[], hopeless={}))
            for command in commands:
                performer.perform(command, load(study.ledger))
            while lease := study.queue.lease(SLOT, now=now(), ttl_s=30):
                trial = lease.spec.trial
                outcome = self.instead.get(trial) or self.outcome(repository, lease.spec.commit)
                if trial not in self.refuse:
                    study.queue.complete(SLOT, lease, outcome, now=now())
            if not commands and load(study.ledger).seq == state.seq:
                break
        ResultsTsv(study.home.results, METRIC).resume(load(study.ledger))
        Mirror(repository, self.user.folder).sync(lambda _tip: left_alone(repository.branch_ref))

    def outcome(self, repository: StudyRepository, commit: CommitId) -> TrialOutcome:
        """Return what a script says: it crashes where its LR is above 1."""
        text = repository.read_files(commit, ["train.py"])["train.py"]
        found = re.search(r"^LR = (\S+)$", text, re.MULTILINE)
        assert found is not None
        loss = 2 * float(found[1])
        if loss > 2:
            return TrialOutcome(ending=Ending.CRASHED, crash=CrashKind.NAN, reason="it diverged")
        return TrialOutcome(ending=Ending.SCORED, value=loss, device_class="cpu")

    def _performer(self, study: OpenStudy, repository: StudyRepository) -> Performer:
        self.epoch = self.epoch or self._begin(study)
        return Performer(
            ledger=study.ledger,
            queue=study.queue,
            repository=repository,
            source=self.user.folder,
            editable=("train.py",),
            metric=METRIC,
            budget_s=1.0,
            timeout_s=2.0,
            epoch=self.epoch,
            clock=now,
        )

    def _begin(self, study: OpenStudy) -> int:
        epoch = study.ledger.begin_epoch()
        started = ev.ControllerStarted(epoch=epoch, pid=1, node="here")
        study.ledger.append([ev.Draft(id=f"controller/{epoch}", at=now(), event=started)])
        study.queue.greet(SLOT, now=now())
        return epoch

    @property
    def git(self) -> Path:
        return self.user.home.git

    @property
    def head(self) -> CommitId:
        """Where the branch is."""
        repository = StudyRepository.open(self.git, study="mar5")
        return repository.resolve(repository.branch_ref)


def grow(user: User) -> GrownStudy:
    """Have a user's study, of one submission that is worse, go on with two that are better.

    e0 baseline, e1 discarded, e2 and e3 promoted, e4 crashed.
    """
    grown = GrownStudy(user)
    grown.more(2)
    grown.more(1, lr=9.0)
    with opened(user.home) as study:
        waiting = ev.SubmissionReceived(
            submission="later", hypothesis="later", settings={"LR": "0.7"}
        )
        request(study, waiting)
    return grown
