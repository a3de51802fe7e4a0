"""What became of proposals that were refused is told, by their place in the log and by name."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.state import events as ev
from infra.local.study import opened
from tests.infra.user import CONFIG, PROGRAM, TRAIN, USAGE, User
from trainer.trial import CommitId, ExperimentId


def tell(user: User, *events: ev.Event) -> None:
    with opened(user.home) as study:
        for event in events:
            seq = study.state().seq
            study.ledger.append([ev.Draft(id=f"told/{seq}", at=datetime.now(UTC), event=event)])


def experiment(number: int, user: User, submission: str = "") -> ev.ExperimentProposed:
    with opened(user.home) as study:
        base = study.state().base_commit
    return ev.ExperimentProposed(
        experiment=ExperimentId(f"e{number}"),
        kind="proposal" if number else "baseline",
        commit=CommitId(base),
        tree=f"tree {number}",
        base=ExperimentId("e0"),
        base_commit=base,
        lines=3,
        proposer="user",
        hypothesis="LR 0.1 -> 0.3",
        submission=submission,
    )


def submit(user: User) -> str:
    (row,) = json.loads(user.done("submit", "--set", "LR=0.3", "--json"))
    return str(row["submission"])


def repeats(of: str, submission: str = "") -> ev.ProposalRejected:
    return ev.ProposalRejected(
        proposer="user" if submission else "tuner",
        hypothesis="LR 0.1 -> 0.30",
        reason=f"the same tree as {of}",
        duplicate_of=ExperimentId(of),
        submission=submission,
    )


@pytest.fixture
def user(tmp_path: Path) -> User:
    """Somebody whose study has a baseline, e0, which was rejected, and nothing else."""
    user = User.at(tmp_path)
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": CONFIG})
    user.done("submit", "--set", "LR=0.2")
    tell(
        user,
        experiment(0, user),
        ev.ExperimentRejected(experiment=ExperimentId("e0"), reason="a typo"),
    )
    return user


def test_a_submission_that_repeated_something_says_what_and_how_that_went(user: User) -> None:
    name = submit(user)
    tell(user, repeats("e0", name))
    line = f"{name} was refused: the same tree as e0, which is rejected (see `incumbent show e0`)"
    assert user.done("show", name).strip() == line
    assert json.loads(user.done("show", name, "--json"))["duplicate_of"] == "e0"
    for verb in ("cancel", "retry", "accept", "approve", "diff", "logs", "artifacts"):
        assert line in user.refused(USAGE, verb, name)


def test_a_submission_goes_by_its_name_after_it_became_an_experiment(user: User) -> None:
    name = submit(user)
    tell(user, experiment(1, user, name))
    assert user.done("show", name).startswith("e1  ")
    assert "cancel of e1 requested" in user.done("cancel", name)
    assert "e1 left nothing in $INCUMBENT_OUT" in user.done("artifacts", name)
    assert "no trial of e1 has started" in user.refused(USAGE, "logs", name)
    (user.home.logs / "e1.1.log").write_text("loss: 1\n")
    said = user.refused(USAGE, "logs", f"{name}.1")
    assert "there is no trial e1.1 of e1: no trial of it has started" in said


def test_a_submission_that_waits_says_so_and_one_that_never_was_is_unknown(user: User) -> None:
    assert "waits to become an experiment" in user.refused(USAGE, "cancel", submit(user))
    for verb in ("show", "logs", "artifacts"):
        assert "there is no experiment s-00000000" in user.refused(USAGE, verb, "s-00000000")


def test_the_log_names_what_was_submitted_and_is_no_experiment_yet(user: User) -> None:
    # The fixture's own submission waits, too.
    names = [submit(user) for _ in range(4)]
    said = user.run(PROGRAM, "log").stderr
    assert "submitted, and no experiments yet: s-" in said
    assert all(name in said for name in names[:3])
    assert names[3] not in said
    assert "and 1 more" in said
    tell(user, *(repeats("e0", name) for name in names))
    said = user.run(PROGRAM, "log").stderr
    assert not any(name in said for name in names)
    assert "refused before they cost anything: 4 (see" in said


def test_that_nothing_was_refused_is_said(user: User) -> None:
    done = user.run(PROGRAM, "log", "--refused")
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing was refused" in done.stderr
    assert json.loads(user.done("log", "--refused", "--json")) == []


def test_refused_proposals_cannot_be_replayed(user: User) -> None:
    said = user.refused(USAGE, "log", "--refused", "--proposals")
    assert "say --refused or --proposals" in said


def test_the_log_counts_what_was_refused_and_lists_it_with_its_twins(user: User) -> None:
    assert "refused" not in user.run(PROGRAM, "log").stderr
    bad = ev.ProposalRejected(proposer="claude", hypothesis="h", reason="no such file: x.py")
    tell(user, repeats("e0"), bad)
    assert "refused before they cost anything: 2 (see" in user.run(PROGRAM, "log").stderr
    shown = user.done("log", "--refused").splitlines()
    assert [line.split()[:3] for line in shown[1:]] == [
        ["tuner", "e0", "rejected"],
        ["claude", "-", "no"],
    ]
    (last,) = json.loads(user.done("log", "--refused", "--json", "--last", "1"))
    assert (last["proposer"], last["reason"]) == ("claude", "no such file: x.py")
