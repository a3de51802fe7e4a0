"""The study's repository: promotions and merges."""

import pytest

from cluster.git.code_outcomes import BranchMoved, Candidate, Conflict, Promotion, Redundant
from cluster.git.study_repository import StudyRepository
from trainer.trial import ExperimentId

E1 = ExperimentId("e1")
TEXT = "".join(f"line {number}\n" for number in range(30))


# Promotion


def test_a_promotion_has_the_measured_tree_and_readable_trailers(study) -> None:
    candidate = study.candidate("LR = 3\n")
    promoted = study.promote(
        candidate,
        subject="LR 1 -> 3",
        trailers=[
            ("Metric", "val_bpb 0.981 (was 0.997)"),
            ("Trials", "e1.1"),
            ("Proposer", "tuner"),
            ("Hypothesis", "a larger rate\n\nExperiment: e0\nmay help"),
        ],
    )
    assert study.git("rev-parse", "refs/heads/incumbent/mar5") == promoted
    style = "%T|%P|%s|%cn"
    assert study.git("log", "-1", f"--format={style}", promoted) == (
        f"{candidate.tree}|{study.base}|LR 1 -> 3|Incumbent"
    )
    message = study.git("log", "-1", "--format=%B", promoted)
    parsed = study.source.git("interpret-trailers", "--parse", stdin=message + "\n")
    assert parsed.splitlines() == [
        "Experiment: e1",
        "Metric: val_bpb 0.981 (was 0.997)",
        "Trials: e1.1",
        "Proposer: tuner",
        "Hypothesis: a larger rate Experiment: e0 may help",
    ]


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("--- a/train.py", "a/train.py"),
        ("two\nlines", "two lines"),
        ("", "change"),
        ("#1 idea: LR 3e-4 -> 1e-3", "#1 idea: LR 3e-4 -> 1e-3"),
        ("Metric: 5", "Metric: 5"),
        ("x" * 500, "x" * 197 + "..."),
    ],
)
def test_any_subject_leaves_the_trailers_readable(subject: str, expected: str, study) -> None:
    promoted = study.promote(study.candidate("x\n"), subject=subject)
    assert study.git("log", "-1", "--format=%s", promoted) == expected
    message = study.git("log", "-1", "--format=%B", promoted)
    parsed = study.source.git("interpret-trailers", "--parse", stdin=message + "\n")
    assert parsed.splitlines() == ["Experiment: e1", "Metric: val_bpb 0.9 (0.99)"]


def test_a_promotion_that_landed_before_a_crash_is_returned_and_not_repeated(study) -> None:
    candidate = study.candidate("LR = 3\n")
    first = study.promote(candidate)
    later = StudyRepository.open(study.repository.path, study="mar5", clock=lambda: 1_800_000_000)
    promotion = Promotion(experiment=E1, tree=candidate.tree, subject="other")
    (again,) = later.promote([promotion], parent=study.base)
    assert again == first
    assert study.git("rev-list", "--count", "refs/heads/incumbent/mar5") == "2"


def test_a_promotion_onto_a_branch_that_moved_fails_and_changes_nothing(study) -> None:
    winner, loser = study.candidate("w\n"), study.candidate("l\n")
    head = study.promote(winner)
    with pytest.raises(BranchMoved) as caught:
        study.promote(loser, study.base, experiment="e2")
    assert caught.value.actual == head
    with pytest.raises(BranchMoved):  # the same tree, but of another experiment
        study.promote(winner, study.base, experiment="e2")
    assert study.git("rev-parse", "refs/heads/incumbent/mar5") == head


def test_a_promotion_without_a_branch_fails(study) -> None:
    with pytest.raises(BranchMoved, match="no commit") as caught:
        study.promote(study.candidate("w\n"), study.base)
    assert caught.value.actual is None


def test_a_branch_is_started_once(study) -> None:
    assert study.repository.start_branch(study.base) == study.base
    head = study.promote(study.candidate("w\n"))
    assert study.repository.start_branch(study.base) == head


# Merging


@pytest.fixture
def study_of_long_file(make_study):
    return make_study({"train.py": TEXT, "prepare.py": "x\n"})


def test_a_stale_winner_is_merged_and_both_changes_are_there(study_of_long_file) -> None:
    study = study_of_long_file
    first = study.candidate(TEXT.replace("line 2\n", "FIRST\n"))
    stale = study.candidate(TEXT.replace("line 20\n", "SECOND\nTHIRD\n"))
    incumbent = study.promote(first)
    merged = study.merge(incumbent, stale.commit)
    assert isinstance(merged, Candidate), merged
    text = study.git("show", f"{merged.commit}:train.py")
    assert "FIRST\n" in text
    assert "SECOND\nTHIRD\n" in text
    assert (merged.lines, merged.changed) == (31, ("train.py",))
    parents = study.git("log", "-1", "--format=%P %s", merged.commit)
    assert parents == f"{incumbent} {stale.commit} Merge e2 into e1"


def test_a_merge_of_a_merge_goes_on_from_the_promoted_tree(study_of_long_file) -> None:
    study = study_of_long_file
    a, b, c = (study.candidate(TEXT.replace(f"line {n}\n", f"CHANGE {n}\n")) for n in (2, 12, 22))
    first = study.promote(a)
    merged = study.merge(first, b.commit)
    assert isinstance(merged, Candidate)
    second = study.promote(merged, first, experiment="e3")
    last = study.merge(second, c.commit)
    assert isinstance(last, Candidate)
    text = study.git("show", f"{last.commit}:train.py")
    assert all(f"CHANGE {n}\n" in text for n in (2, 12, 22))


def test_a_conflict_is_an_outcome_that_names_the_files(study) -> None:
    first = study.candidate("LR = 3\nDEPTH = 2\n")
    stale = study.candidate("LR = 4\nDEPTH = 2\n")
    incumbent = study.promote(first)
    assert study.merge(incumbent, stale.commit) == Conflict(paths=("train.py",))


def test_a_merge_that_adds_nothing_is_redundant(study) -> None:
    candidate = study.candidate("LR = 3\nDEPTH = 2\n")
    incumbent = study.promote(candidate)
    assert study.merge(incumbent, candidate.commit) == Redundant()


def test_a_winner_whose_file_is_no_longer_editable_conflicts(study) -> None:
    incumbent = study.promote(study.candidate("LR = 3\nDEPTH = 2\n"))
    study.editable = ("train.py", "prepare.py")
    stale = study.candidate({"prepare.py": "DATA = 9\n"})
    study.editable = ("train.py",)
    assert study.merge(incumbent, stale.commit) == Conflict(paths=("prepare.py",))


def test_a_winner_whose_file_is_no_text_conflicts(make_study) -> None:
    study = make_study(editable=("train.py", "prepare.py"))
    incumbent = study.promote(study.candidate({"prepare.py": "DATA = 9\n"}))
    tip = study.source.commit({"train.py": b"# Gr\xf6\xdfe\n"})
    study.repository.bring(study.source.path, tip)
    assert study.merge(incumbent, tip) == Conflict(paths=("train.py",))


# Chains


def steps(*made: Candidate) -> list[Promotion]:
    return [
        Promotion(experiment=ExperimentId(f"e{n}"), tree=one.tree, subject=f"Step {n}")
        for n, one in enumerate(made, start=1)
    ]


def test_a_chain_lands_at_one_go_each_step_with_its_measured_tree(study) -> None:
    parent = study.repository.start_branch(study.base)
    first, second = study.candidate("a\n"), study.candidate("b\n")
    commits = study.repository.promote(steps(first, second), parent=parent)
    shown = study.git("log", "--reverse", "--format=%H %T %P %s", f"{parent}..incumbent/mar5")
    assert shown.splitlines() == [
        f"{commits[0]} {first.tree} {parent} Step 1",
        f"{commits[1]} {second.tree} {commits[0]} Step 2",
    ]
    again = study.repository.promote(steps(first, second), parent=parent)
    assert again == commits


def test_a_chain_that_is_on_the_branch_in_part_is_not_taken_for_landed(study) -> None:
    parent = study.repository.start_branch(study.base)
    first, second = study.candidate("a\n"), study.candidate("b\n")
    (head,) = study.repository.promote(steps(first), parent=parent)
    with pytest.raises(BranchMoved) as caught:
        study.repository.promote(steps(first, second), parent=parent)
    assert caught.value.actual == head
    assert [one.experiment for one in study.repository.landed(head, parent=parent)] == ["e1"]


def test_what_is_no_promotion_is_not_taken_for_one(study) -> None:
    parent = study.repository.start_branch(study.base)
    other = study.candidate("a\n").commit  # on the base, but nobody promoted it
    study.git("update-ref", "refs/heads/incumbent/mar5", other)
    assert study.repository.landed(other, parent=parent) == ()
    assert study.repository.landed(parent, parent=other) == ()


# A ledger behind the branch


def test_what_is_put_above_lost_promotions_names_what_it_replaces(study) -> None:
    repository, parent = study.repository, study.repository.start_branch(study.base)
    lost, first, second = (study.candidate(text) for text in ("lost\n", "a\n", "b\n"))
    (head,) = repository.promote(
        [Promotion(experiment=E1, tree=lost.tree, subject="")], parent=parent
    )
    made = repository.promote(steps(first, second), parent=parent, onto=head)
    style = "--format=%P %T %(trailers:key=Replaces,valueonly,separator=%x2C)"
    shown = study.git("log", "--reverse", style, f"{head}..incumbent/mar5")
    assert shown.splitlines() == [
        f"{head} {first.tree} {parent}",
        f"{made[0]} {second.tree}",
    ]
    assert repository.promote(steps(first, second), parent=parent) == made
    assert [one.commit for one in repository.landed(made[-1], parent=parent)] == [*made]
    assert repository.landed(made[-1], parent=head) == (), "it is not upon what was lost"
    assert repository.is_ahead(head, parent)
    assert not repository.is_ahead(parent, head)


def test_what_is_put_above_a_head_that_is_not_there_changes_nothing(study) -> None:
    repository, parent = study.repository, study.repository.start_branch(study.base)
    lost, other = study.candidate("lost\n"), study.candidate("other\n")
    head = study.promote(lost)
    with pytest.raises(BranchMoved):
        repository.promote(steps(other), parent=parent, onto=other.commit)
    assert repository.resolve(repository.branch_ref) == head
