"""What people commit onto the mirrored branch: taken once, measured, kept, never overwritten."""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from cluster.git.mirror import Mirror, Standing
from cluster.ledger.ledger import catch_up
from cluster.state import events as ev
from cluster.state.experiment import Experiment, Status
from infra.facts.experiment_facts import relations
from infra.facts.facts import show_facts
from tests.cluster.by_hand import ByHand
from tests.cluster.controller.test_reducer_machine import OneAtATimeMachine
from tests.cluster.reducer_study import Killed
from trainer.git_command import GitCommand, GitError
from trainer.trial import CommitId, ExperimentId

BRANCH = "incumbent/s"
MAIN = "master-of-a-person"


class Person(ByHand):
    """Somebody with a checkout of the repository that a study mirrors into."""

    def __init__(self) -> None:
        super().__init__(OneAtATimeMachine())
        self.mirror = Mirror(self.machine.repository, self.machine.source)
        self.git("checkout", "-q", "-b", MAIN)
        assert self.sync() == ""

    def git(self, *args: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "core.editor=true")
        command = ["git", *who, *args]
        done = subprocess.run(
            command, cwd=self.machine.source, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def sync(self, *, has_news: bool = True) -> str:
        """Do what a controller does every few seconds; return the notice."""
        machine = self.machine
        machine.ledger.is_armed = True
        message = self.mirror.sync(
            lambda tip: machine.performer.standing(tip, machine.state), has_news=has_news
        ).message
        machine.ledger.is_armed = False
        machine.state = catch_up(machine.ledger, machine.state)
        machine.settle()
        return message

    def commit(self, files: Mapping[str, str], subject: str, *extra: str) -> str:
        for name, text in files.items():
            (self.machine.source / name).write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", subject, *extra)
        return self.git("rev-parse", "HEAD")

    def change(self, place: int, value: int, subject: str = "", *extra: str) -> str:
        """Commit another value for a line of the file that is checked out."""
        path = self.machine.source / "train.py"
        lines = path.read_text().split("\n")
        lines[4 * place] = f"A{place} = {value}"
        return self.commit({"train.py": "\n".join(lines)}, subject or f"Try {value}", *extra)

    def on_the_branch(self, place: int, value: int, subject: str = "") -> str:
        """Commit onto the branch, and go back to where one was."""
        self.git("checkout", "-q", BRANCH)
        tip = self.change(place, value, subject)
        self.git("checkout", "-q", MAIN)
        return tip

    def branch(self) -> str:
        return self.git("rev-parse", BRANCH)

    def head(self) -> str:
        """Return where the study's own branch is."""
        return str(self.machine.state.incumbent_commit)

    def kept(self) -> dict[str, str]:
        """Return what is kept of people's commits, by the last part of its name."""
        style = "--format=%(refname:lstrip=4) %(objectname)"
        lines = self.git("for-each-ref", style, "refs/incumbent/s/person").splitlines()
        return dict(line.split() for line in lines)

    def taken(self) -> list[ev.SubmissionReceived]:
        told = [recorded.event for recorded in self.machine.ledger.read(0)]
        return [event for event in told if isinstance(event, ev.SubmissionReceived)]

    def own(self, number: int = -1) -> Experiment:
        """Return the experiment that one of the commits became."""
        state = self.machine.state
        return state.experiments[state.person_commits[self.taken()[number].commit].experiment]


@pytest.fixture
def person() -> Iterator[Person]:
    made = Person()
    yield made
    made.machine.the_state_is_sound()
    made.machine.ledger_and_branch_agree()
    made.git("fsck", "--strict", "--no-dangling")
    made.machine.scratch.cleanup()


def test_a_commit_on_the_branch_becomes_an_urgent_experiment_and_the_branch_waits(person) -> None:
    person.keep(0, 0.9)
    person.sync()
    tip = person.on_the_branch(1, 7, "Seven is better")
    message = person.sync()
    assert f"has commits that are not the study's ({tip[:10]}), which become an exp" in message
    own = person.own()
    assert (own.hypothesis, own.proposer, own.base) == ("Seven is better", "user", "e1")
    assert own.priority > 1
    assert own.status is Status.QUEUED
    assert person.lines(own.id) == {0: 1, 1: 7}
    person.keep(2, 0.8)
    assert f"({tip[:10]}), measured as {own.id}: it stays there until that" in person.sync()
    assert person.branch() == tip
    assert person.kept() == {}


@pytest.mark.parametrize(("value", "status"), [(0.5, "kept"), (1.5, "discarded")])
def test_once_it_is_judged_it_is_kept_and_the_branch_goes_on(person, value, status) -> None:
    tip = person.on_the_branch(1, 7)
    person.sync()
    own = person.own().id
    assert person.score(own, value) == status
    message = person.sync()
    ref = f"refs/incumbent/s/person/{own}"
    assert message == f"commit {tip[:10]} of branch {BRANCH} is kept as {ref}: {own} is {status}"
    assert person.kept() == {own: tip}
    assert person.branch() == person.head()
    assert person.sync() == message  # for as long as the branch stays there
    person.keep(2, 0.4)
    assert person.sync() == ""
    assert person.branch() == person.head()
    assert len(person.taken()) == 1


def test_while_it_is_checked_out_a_commit_is_taken_and_the_branch_stays(person) -> None:
    person.git("checkout", "-q", BRANCH)
    tip = person.change(1, 7)
    assert "which become an experiment" in person.sync()
    person.score(person.own().id, 0.5)
    assert f"is checked out in {person.machine.source}, so it stays" in person.sync()
    assert (person.branch(), person.kept()) == (tip, {})
    further = person.change(2, 8)
    assert "which become an experiment" in person.sync()
    assert person.lines(person.own().id) == {1: 7, 2: 8}
    person.score(person.own().id, 0.4)
    person.git("checkout", "-q", MAIN)
    assert "is kept as" in person.sync()
    assert person.kept() == {person.own().id: further}
    assert person.branch() == person.head()


def test_an_amended_commit_is_a_new_one_and_the_branch_waits_for_the_last(person) -> None:
    first = person.on_the_branch(1, 7)
    person.sync()
    person.git("checkout", "-q", BRANCH)
    second = person.change(1, 8, "Eight", "--amend")
    person.git("checkout", "-q", MAIN)
    assert f"({second[:10]}), which become an experiment" in person.sync()
    assert [person.own(number).hypothesis for number in (0, 1)] == ["Try 7", "Eight"]
    person.score(person.own(0).id, 1.5)
    assert f"measured as {person.own(1).id}" in person.sync()
    assert person.branch() == second
    person.score(person.own(1).id, 1.5)
    person.sync()
    assert person.kept() == {person.own(1).id: second}
    assert person.machine.git("cat-file", "-t", first) == "commit"  # the study has it for good


def test_several_commits_and_merges_are_one_change_that_is_named_by_the_last(person) -> None:
    person.git("checkout", "-q", "-b", "aside", BRANCH)
    person.change(2, 5)
    person.git("checkout", "-q", BRANCH)
    person.change(1, 7)
    person.git("merge", "-q", "--no-ff", "-m", "Bring both together", "aside")
    person.git("checkout", "-q", MAIN)
    person.sync()
    assert person.own().hypothesis == "Bring both together (the last of 3 commits)"
    assert person.lines(person.own().id) == {1: 7, 2: 5}


def test_what_is_not_editable_is_not_taken_and_what_to_do_is_said(person) -> None:
    person.git("checkout", "-q", BRANCH)
    person.commit({"prepare {x}.py": "DATA = 2\n"}, "More data")
    tip = person.change(1, 7)
    person.git("checkout", "-q", MAIN)
    for _ in range(2):
        message = person.sync()
        assert "so it is left alone (prepare {x}.py is not editable): give them" in message
        assert f"git branch -m {BRANCH} NAME" in message
    assert person.taken() == []
    person.git("branch", "-m", BRANCH, "mine")
    assert person.sync() == ""
    assert (person.branch(), person.git("rev-parse", "mine")) == (person.head(), tip)


def test_commits_that_follow_nothing_of_the_study_are_left_alone(person) -> None:
    machine = person.machine
    begin = CommitId(person.change(5, 1))
    machine.repository.bring(machine.source, begin)
    person.git("checkout", "-q", "--detach", "HEAD~1")
    older = CommitId(person.change(1, 7))
    person.git("checkout", "-q", "--orphan", "island")
    island = CommitId(person.change(1, 8))
    # As if the study had begun above the commit that the person went back to.
    above = replace(machine.state, base_commit=begin)
    for tip, state in ((older, above), (island, machine.state)):
        standing = machine.performer.standing(tip, state)
        assert "left alone (they follow nothing that the study has had on it)" in standing.words
        assert standing.keep_as == ""
    assert person.taken() == []


def test_a_commit_of_no_change_or_of_a_known_tree_is_kept_and_the_branch_goes_on(person) -> None:
    person.keep(0, 0.9)
    person.sync()
    person.git("checkout", "-q", BRANCH)
    empty = person.commit({}, "Nothing")
    person.git("checkout", "-q", MAIN)
    person.sync()
    assert person.sync().endswith(f"person/{empty[:12]}: rejected: changes nothing")
    known = person.on_the_branch(0, 0, "Back to the start")
    person.sync()
    assert person.sync().endswith(f"person/{known[:12]}: rejected: the same tree as e0")
    assert person.kept() == {empty[:12]: empty, known[:12]: known}
    assert person.branch() == person.head()


def test_a_commit_that_conflicts_with_what_came_since_is_kept_and_told_so(person) -> None:
    tip = person.on_the_branch(0, 7)
    person.keep(0, 0.9)
    person.sync()
    said = person.sync()
    assert f"rejected: commit {tip[:10]} conflicts with {person.head()[:10]} in train.py" in said
    assert person.kept() == {tip[:12]: tip}


def test_a_branch_that_somebody_deleted_or_rewound_is_brought_up_to_date(person) -> None:
    start = person.branch()
    person.keep(0, 0.9)
    person.sync()
    person.git("branch", "-D", BRANCH)
    assert person.sync(has_news=False) == ""
    assert person.branch() == person.head()
    person.git("branch", "-f", BRANCH, start)
    assert person.sync(has_news=False) == ""
    assert person.branch() == person.head()
    assert person.taken() == []


def test_a_rebased_branch_is_taken_for_what_it_changes_beyond_the_studys(person) -> None:
    person.keep(0, 0.9)
    person.sync()
    person.git("checkout", "-q", "-B", "moved", f"{BRANCH}~1")
    person.change(3, 4, "Mine first")
    person.git("checkout", "-q", BRANCH)
    person.git("rebase", "-q", "moved")
    tip = person.git("rev-parse", "HEAD")
    person.git("checkout", "-q", MAIN)
    assert f"({tip[:10]}), which become an experiment" in person.sync()
    assert person.lines(person.own().id) == {0: 1, 3: 4}


@pytest.mark.parametrize("fuse", [0, 1])
def test_a_commit_is_taken_once_though_the_controller_dies_around_the_record(person, fuse) -> None:
    person.on_the_branch(1, 7)
    person.machine.ledger.fuse = fuse
    with pytest.raises(Killed):
        person.sync()
    person.machine.ledger.is_armed, person.machine.ledger.fuse = False, -1
    for _ in range(2):
        person.machine.restart()
        person.mirror = Mirror(person.machine.repository, person.machine.source)
        person.sync()
    assert len(person.taken()) == 1
    assert person.own().id == "e1"


def test_a_death_between_keeping_and_moving_loses_nothing(person, monkeypatch) -> None:
    tip = person.on_the_branch(1, 7)
    person.sync()
    person.score("e1", 1.5)
    real = Mirror._set_refs

    def die_before_moving(mirror, changes) -> None:
        if any(name.startswith("refs/heads/") for name, _, _ in changes):
            raise Killed
        real(mirror, changes)

    monkeypatch.setattr(Mirror, "_set_refs", die_before_moving)
    with pytest.raises(Killed):
        person.sync()
    monkeypatch.undo()
    assert (person.branch(), person.kept()) == (tip, {"e1": tip})
    person.mirror = Mirror(person.machine.repository, person.machine.source)
    assert "is kept as" in person.sync()
    assert (person.branch(), person.kept()) == (person.head(), {"e1": tip})


def test_what_an_earlier_study_of_that_name_kept_is_not_overwritten(person) -> None:
    earlier = person.git("rev-parse", "HEAD")
    person.git("update-ref", "refs/incumbent/s/person/e1", earlier)
    tip = person.on_the_branch(1, 7)
    person.sync()
    person.score("e1", 1.5)
    assert f"is kept as refs/incumbent/s/person/e1-{tip[:12]}: e1 is discarded" in person.sync()
    assert person.kept() == {"e1": earlier, f"e1-{tip[:12]}": tip}


def test_a_commit_that_comes_while_the_branch_is_being_moved_is_not_overwritten(person) -> None:
    person.on_the_branch(1, 7)
    person.sync()
    person.score("e1", 1.5)
    late = []

    def commit_meanwhile(_tip: CommitId) -> Standing:
        late.append(person.on_the_branch(2, 8))
        return Standing(words="", keep_as="e1")

    assert "cannot bring the study's results" in person.mirror.sync(commit_meanwhile).message
    assert person.branch() == late[-1]
    assert len(late) == 2, "it is tried once more, and asked again what to do with what came"
    assert "which become an experiment" in person.sync()


def test_nothing_new_costs_one_process_of_git_and_neither_does_waiting_cost_more(
    person, monkeypatch
) -> None:
    person.keep(0, 0.9)
    person.sync()
    person.sync()
    calls = []
    run = GitCommand.run

    def counted(git, *args, **kwargs):
        calls.append(args)
        return run(git, *args, **kwargs)

    monkeypatch.setattr(GitCommand, "run", counted)

    def cost() -> int:
        calls.clear()
        person.sync(has_news=False)
        return len(calls)

    assert cost() == 1
    person.on_the_branch(1, 7)
    cost(), cost()
    assert cost() == 1
    person.score(person.own().id, 1.5)
    cost(), cost()
    assert cost() == 1
    person.git("checkout", "-q", BRANCH)
    person.commit({"other.txt": "x"}, "Not editable")
    person.git("checkout", "-q", MAIN)
    cost(), cost()
    assert cost() == 1


def test_a_repository_that_refuses_to_hand_a_commit_over_is_reported_and_asked_again(
    person, monkeypatch
) -> None:
    tip = person.on_the_branch(1, 7)

    def refuse(*_: object) -> None:
        raise GitError(("fetch",), 128, "fatal: bad object")

    with monkeypatch.context() as patch:
        patch.setattr("cluster.git.bare_repository.BareRepository.fetch", refuse)
        assert "cannot bring" in person.sync()
    assert person.branch() == tip
    assert "which become an experiment" in person.sync()


def test_show_names_the_commit_that_an_experiment_was_made_of(person) -> None:
    tip = person.on_the_branch(1, 7)
    person.sync()
    state = person.machine.state
    facts = show_facts(state, ExperimentId("e1"), person.machine.ledger.read(0))
    assert dict(relations(facts))["your commit"] == tip
    assert show_facts(state, ExperimentId("e0"), [])["person_commit"] == ""
