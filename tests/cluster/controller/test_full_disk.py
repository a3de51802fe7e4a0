"""The disk of the study's repository is full while a controller works: it waits, and goes on."""

import logging
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from cluster.git import room
from cluster.git.room import NoRoom
from cluster.git.study_repository import StudyRepository
from cluster.ledger.ledger import load
from cluster.state import events as ev
from cluster.state.experiment import Kind
from cluster.state.state import StudyState
from tests.cluster.bench import Bench, Script, ThreadFleet, bench, edited
from tests.cluster.small_disk import SmallDisk, disk
from trainer.trial import ExperimentId

__all__ = ["bench", "disk"]  # fixtures
PATCH = "--- a/train.py\n+++ b/train.py\n@@ -1,3 +1,3 @@\n-A = 1\n+A = 3\n \n \n"


@dataclass
class Trouble:
    """A disk that is filled at the worst moment, and freed while the controller waits."""

    bench: Bench
    disk: SmallDisk
    monkeypatch: pytest.MonkeyPatch
    meanwhile: list[StudyState] = field(default_factory=list)
    """What the ledger told while there was no room."""

    def wait(self, _seconds: float) -> None:
        self.meanwhile.append(load(self.bench.ledger))
        self.disk.free()

    def before(self, method: str, about: str) -> None:
        """Fill the disk when the repository is first asked for something that names `about`."""
        original, calls = getattr(StudyRepository, method), []

        def call(repository: StudyRepository, *args: object, **named: object) -> object:
            if f"'{about}'" in f"{args} {named}" and not calls:
                calls.append(about)
                self.disk.fill()
            return original(repository, *args, **named)

        self.monkeypatch.setattr(StudyRepository, method, call)

    def rejections(self) -> list[ev.ProposalRejected]:
        events = [recorded.event for recorded in self.bench.ledger.read(0)]
        return [event for event in events if isinstance(event, ev.ProposalRejected)]


@pytest.fixture
def trouble(disk: SmallDisk, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Trouble:
    made = Trouble(bench, disk, monkeypatch)
    monkeypatch.setattr(room, "time", SimpleNamespace(sleep=made.wait))
    return made


@pytest.mark.parametrize(
    ("method", "about", "what"),
    [
        ("commit_patch", "one", {"patch": PATCH}),
        ("commit_edits", "one", {"settings": {"A": "3"}}),
        ("keep_ref", "e1", {"patch": PATCH}),
    ],
)
def test_a_submission_waits_for_room(
    trouble: Trouble, method: str, about: str, what: dict, caplog: pytest.LogCaptureFixture
) -> None:
    bench = trouble.bench
    bench.ask(ev.SubmissionReceived(submission="one", hypothesis="one", **what))
    trouble.before(method, about)
    controller = bench.controller(lambda b: ThreadFleet(b, 1), Script())
    with caplog.at_level(logging.WARNING, "incumbent"):
        controller.run()
    (told,) = caplog.records
    assert "there is no room on the disk" in told.message
    (then,) = trouble.meanwhile
    assert ([one.submission for one in then.submissions], set(then.experiments)) == (
        ["one"],
        {"e0"},
    )
    assert set(controller.state.experiments) == {"e0", "e1"}
    assert trouble.rejections() == []
    assert "A = 3" in bench.head_text()


def test_an_answer_goes_on_where_the_disk_was_full(trouble: Trouble) -> None:
    trouble.before("keep_ref", "e2")
    script = Script([edited(A=2), edited(B=2)])
    controller = trouble.bench.controller(lambda b: ThreadFleet(b, 2), script, experiments=2)
    controller.run()
    (then,) = trouble.meanwhile
    assert set(then.experiments) == {"e0", "e1"}
    assert trouble.rejections() == []
    experiments = controller.state.experiments.values()
    assert len([e for e in experiments if e.kind is Kind.PROPOSAL]) == 2


def test_a_promotion_waits_for_room_and_is_made_once(trouble: Trouble) -> None:
    trouble.before("promote", "e1")
    controller = trouble.bench.controller(lambda b: ThreadFleet(b, 1), Script([edited(A=3)]))
    controller.run()
    (then,) = trouble.meanwhile
    assert then.promotions == 0
    assert controller.state.lineage == ("e0", "e1")
    assert len(trouble.bench.branch()) == 2


def test_refs_that_could_not_move_are_moved_when_there_is_room(trouble: Trouble) -> None:
    controller = trouble.bench.controller(lambda b: ThreadFleet(b, 0), Script())
    controller.step()
    baseline = controller.state.experiments[ExperimentId("e0")]
    repository = trouble.bench.repository
    repository.move_refs({baseline.id: repository.undo(baseline.commit, baseline.commit)})
    trouble.disk.fill()
    full = [NoRoom("full")]

    def step() -> None:
        if full:
            raise full.pop()
        controller.step()

    controller._patiently(step)
    assert repository.resolve("refs/incumbent/s/e0") == baseline.commit
