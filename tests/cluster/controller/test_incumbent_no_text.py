"""A study whose best, promoted by an earlier version, has an editable file that is no text."""

from datetime import timedelta
from pathlib import Path

import pytest

from cluster.controller.submissions import materialise
from cluster.git.code_outcomes import Candidate, Rejected
from cluster.git.study_repository import StudyRepository
from cluster.policy.proposal_planning import FIRST_WAIT_S
from cluster.policy.study_plan import Seat
from cluster.state.events import SubmissionReceived
from cluster.state.state import StudyState
from tests.cluster.office import Office, PaperRepository
from trainer.trial import CommitId

LATIN = b"# -*- coding: latin-1 -*-\n# caf\xe9\nLR = 1\n"


def refuse(*_: object) -> dict[str, str]:
    raise ValueError("train.py is not UTF-8 text")


def test_proposers_are_left_alone_and_asked_again_once_it_is_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Office(Seat(name="tuner"), folder=tmp_path, usd=0.0, experiments=10)
    with monkeypatch.context() as patch:
        patch.setattr(PaperRepository, "read_files", refuse)
        office.baseline()
        office.settle()
        assert not office.asked
        (trouble,) = office.failures("tuner")
        assert "train.py is not UTF-8 text: proposers need text" in trouble.reason
        assert "`incumbent submit --branch`" in trouble.reason
    office.now += timedelta(seconds=FIRST_WAIT_S)
    office.settle()
    assert office.asked


@pytest.mark.parametrize("is_mended", [True, False])
def test_what_people_submit_needs_no_text_but_where_it_sets_constants(
    tmp_path: Path, make_repository, *, is_mended: bool
) -> None:
    source = make_repository({"train.py": LATIN})
    base = CommitId(source.git("rev-parse", "HEAD"))
    source.git("checkout", "--quiet", "-b", "mended")
    source.commit({"train.py": "LR = 1\n"})
    repository = StudyRepository.create(
        tmp_path / "study.git", study="s", source=source.path, base=base
    )
    submission = SubmissionReceived(
        submission="s-1",
        hypothesis="h",
        branch="mended" if is_mended else "",
        settings={} if is_mended else {"LR": "2"},
    )
    made, _ = materialise(
        submission,
        state=StudyState(incumbent_commit=base),
        repository=repository,
        source=source.path,
        editable=["train.py"],
    )
    if is_mended:
        assert isinstance(made, Candidate)
    else:
        assert made == Rejected(reason="train.py is not UTF-8 text")
