"""People have their say: over candidates that are held, and to all proposers."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.git.code_outcomes import Candidate
from cluster.git.study_repository import StudyRepository
from cluster.state import events as ev
from infra.local.study import opened
from tests.infra.user import CONFIG, PROGRAM, TRAIN, USAGE, User
from trainer.trial import CommitId, ExperimentId

PATCH = """\
--- a/train.py
+++ b/train.py
@@ -1,3 +1,3 @@
-LR = 0.1
+LR = 0.2
 DEPTH = 2
 print(f"loss: {LR * DEPTH}")
"""


@pytest.fixture
def user(tmp_path: Path) -> User:
    """Somebody whose study holds a baseline, e0, and a candidate that waits for approval, e1."""
    user = User.at(tmp_path)
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": CONFIG})
    user.done("submit", "--set", "LR=0.3")
    repository = StudyRepository.open(user.home.git, study="mar5")
    with opened(user.home) as study:
        base = study.state().base_commit
        made = repository.commit_patch(
            base=base, patch=PATCH, editable=["train.py"], message="LR 0.1 -> 0.2", author="claude"
        )
        assert isinstance(made, Candidate)
        for number, (kind, at) in enumerate([("baseline", base), ("proposal", made.commit)]):
            study.ledger.append([held(number, kind, base, at)])
    return user


def held(number: int, kind: str, base: CommitId, commit: CommitId) -> ev.Draft:
    event = ev.ExperimentProposed(
        experiment=ExperimentId(f"e{number}"),
        kind=kind,
        commit=commit,
        tree=f"tree {number}",
        base=ExperimentId("e0"),
        base_commit=base,
        lines=3,
        proposer="claude",
        hypothesis="LR 0.1 -> 0.2",
        is_held=number > 0,
    )
    return ev.Draft(id=f"proposed/{number}", at=datetime.now(UTC), event=event)


def status(user: User) -> str:
    with opened(user.home) as study:
        return study.state().experiments[ExperimentId("e1")].status.value


def test_a_held_candidate_is_shown_and_then_runs(user: User) -> None:
    assert "`incumbent approve e1` lets it run" in user.done("show", "e1")
    shown = user.done("approve", "e1")
    assert "-LR = 0.1" in shown
    assert "+LR = 0.2" in shown
    assert status(user) == "proposed"
    assert "e1 is proposed: there is nothing to approve; no experiment is held" in user.refused(
        USAGE, "approve", "e1"
    )


def test_a_held_candidate_that_nobody_wants_is_rejected_with_the_reason(user: User) -> None:
    facts = json.loads(user.done("reject", "e1", "--reason", "tried in May", "--json"))
    assert (facts["experiment"], facts["requested"]) == ("e1", "reject")
    assert "+LR = 0.2" in facts["patch"]
    assert status(user) == "rejected"
    row = json.loads(user.done("log", "--json"))[1]
    assert row["reason"] == "rejected by hand: tried in May"


def test_what_is_not_held_is_named_with_what_is(user: User) -> None:
    assert "there is no experiment e9" in user.refused(USAGE, "reject", "e9")
    assert "there is nothing to approve; held are e1" in user.refused(USAGE, "approve", "e0")


def test_notes_are_told_once_and_listed_in_order(user: User) -> None:
    done = user.run(PROGRAM, "tell")
    assert (done.stdout, done.stderr) == ("", "nobody told the proposers anything yet\n")
    assert user.done("tell", "leave the seed alone").startswith("told")
    user.done("tell", "think of the optimizer")
    listed = user.done("tell")
    assert listed == "1. leave the seed alone\n2. think of the optimizer\n"
    assert json.loads(user.done("tell", "--json")) == {
        "notes": ["leave the seed alone", "think of the optimizer"]
    }
    assert "an empty note" in user.refused(USAGE, "tell", " ")
    assert "of at most 4000" in user.refused(USAGE, "tell", "x" * 4001)


def test_the_scratchpad_is_printed_with_its_place(user: User) -> None:
    assert user.done("scratchpad") == ""
    user.home.scratchpad.write_text("warmup helps\n")
    assert user.done("scratchpad") == "warmup helps\n"
    facts = json.loads(user.done("scratchpad", "--json"))
    assert facts == {"path": str(user.home.scratchpad), "text": "warmup helps\n"}


def test_proposals_are_written_one_a_line_with_their_patches(user: User) -> None:
    (line,) = user.done("log", "--proposals").splitlines()
    found = json.loads(line)
    assert found["hypothesis"] == "LR 0.1 -> 0.2"
    assert "+LR = 0.2" in found["patch"]
