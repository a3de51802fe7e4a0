"""One patch brought onto another commit: what is merged by value, and what stays a conflict."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from cluster.controller.merging import Merging
from cluster.git.code_outcomes import Candidate, Conflict, Redundant
from cluster.state.experiment import Experiment, Kind, Status
from tests.cluster.conftest import MakeStudy, Study
from trainer.trial import ExperimentId

TEXT = "LR = 1\nDEPTH = 2\nprint(LR)\n"
FILES = {"train.py": TEXT, "prepare.py": "DATA = 3\n"}


@pytest.fixture
def study(make_study: MakeStudy) -> Study:
    return make_study(FILES)


def experiment(study: Study, made: Candidate, **changes: Any) -> Experiment:
    """Return a candidate on the study's base as the ledger has it."""
    fields: dict[str, Any] = {
        "id": ExperimentId("e2"),
        "kind": Kind.PROPOSAL,
        "status": Status.WINNER,
        "commit": made.commit,
        "tree": made.tree,
        "base": ExperimentId("e0"),
        "base_commit": study.base,
        "lines": made.lines,
        "proposer": "test",
        "hypothesis": "try",
        "proposed_at": datetime(2026, 3, 1, tzinfo=UTC),
    }
    return Experiment(**fields | changes)


def merged(
    study: Study, ours: str | Mapping[str, str], theirs: str | Mapping[str, str], **changes: Any
) -> Candidate | Conflict | Redundant:
    """Merge one change of the base onto another; what is asked for a conflict says the same."""
    onto = study.promote(study.candidate(ours))
    patch = experiment(study, study.candidate(theirs), **changes)
    merging = Merging(repository=study.repository, editable=study.editable)
    made = merging.merge(patch, onto=onto, message="Merge e2\n\nonto e1")
    assert merging.merges(patch, onto) is not isinstance(made, Conflict)
    return made


def replaced(*changes: tuple[str, str]) -> str:
    text = TEXT
    for old, new in changes:
        text = text.replace(old, new)
    return text


LR, DEPTH, CODE = ("LR = 1", "LR = 5"), ("DEPTH = 2", "DEPTH = 7"), ("print(", "print(0, ")


@pytest.mark.parametrize(("ours", "theirs"), [(LR, DEPTH), (DEPTH, CODE), (CODE, DEPTH)])
def test_what_git_takes_for_a_conflict_is_merged_and_committed_like_any_merge(
    study: Study, ours: tuple[str, str], theirs: tuple[str, str]
) -> None:
    made = merged(study, replaced(ours), replaced(theirs))
    assert isinstance(made, Candidate)
    assert study.read(made.commit).decode() == replaced(ours, theirs)
    assert (made.lines, made.changed) == (3, ("train.py",))
    head = study.git("rev-parse", study.repository.branch_ref)
    winner = study.candidate(replaced(theirs)).commit  # the same clock makes the same commit
    assert study.git("log", "-1", "--format=%T|%P|%an|%s", made.commit) == (
        f"{made.tree}|{head} {winner}|Incumbent|Merge e2 onto e1"
    )


def test_several_files_are_merged_at_once_and_those_alone_that_changed_are_told(
    study: Study,
) -> None:
    study.editable = ("train.py", "prepare.py")
    theirs = {"train.py": replaced(DEPTH), "prepare.py": "DATA = 4\n"}
    made = merged(study, replaced(LR), theirs)
    assert isinstance(made, Candidate)
    assert (made.lines, made.changed) == (4, ("prepare.py", "train.py"))
    assert study.read(made.commit).decode() == replaced(LR, DEPTH)
    assert study.read(made.commit, "prepare.py") == b"DATA = 4\n"


def test_what_is_there_already_is_redundant(study: Study) -> None:
    assert merged(study, replaced(LR, DEPTH), replaced(DEPTH)) == Redundant()


@pytest.mark.parametrize(
    "theirs", [replaced(("LR = 1", "LR = 6")), replaced(CODE, DEPTH), replaced(("LR = 1\n", ""))]
)
def test_a_conflict_names_the_files_as_ever(study: Study, theirs: str) -> None:
    assert merged(study, replaced(LR, CODE), theirs) == Conflict(paths=("train.py",))


@pytest.mark.parametrize("changes", [{"chain": ExperimentId("e1")}, {"reverts": "e1"}])
def test_a_commit_that_brings_more_than_a_patch_is_not_merged_by_value(
    study: Study, changes: dict[str, Any]
) -> None:
    assert merged(study, replaced(LR), replaced(DEPTH), **changes) == Conflict(paths=("train.py",))


def test_the_first_link_of_a_chain_brings_its_patch_alone(study: Study) -> None:
    made = merged(study, replaced(LR), replaced(DEPTH), chain=ExperimentId("e2"))
    assert isinstance(made, Candidate)


def test_nothing_is_left_out_of_a_patch_of_files_that_are_editable_no_more(study: Study) -> None:
    study.editable = ("train.py", "prepare.py")
    onto = study.promote(study.candidate(replaced(LR)))
    theirs = study.candidate({"train.py": replaced(DEPTH), "prepare.py": "DATA = 4\n"})
    merging = Merging(repository=study.repository, editable=("train.py",))
    made = merging.merge(experiment(study, theirs), onto=onto, message="Merge")
    assert made == Conflict(paths=("train.py",))


@pytest.mark.parametrize("path", ["gone.py", "data", "latin.py"])
def test_files_that_are_not_there_or_no_text_make_a_conflict(
    make_study: MakeStudy, path: str
) -> None:
    study = make_study({**FILES, "data/x.py": "X = 1\n", "latin.py": b"# \xe9\n"})
    study.editable = ("train.py", path)
    assert merged(study, replaced(LR), replaced(DEPTH)) == Conflict(paths=("train.py",))
