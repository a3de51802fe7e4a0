"""Taking a merged experiment out again: over real git, by the real decisions, through deaths."""

import re
from collections.abc import Iterator

import pytest

from cluster.ledger.ledger import load
from cluster.policy.reverts import NotOnBranch, reverted_by, taken_out_by, to_undo
from cluster.state import events as ev
from cluster.state.experiment import Status
from infra.facts.experiment_facts import relations
from infra.facts.facts import show_facts
from infra.facts.why import promotion_seqs, why_facts
from tests.cluster.by_hand import ByHand
from tests.cluster.controller.test_reducer_machine import OneAtATimeMachine, ReducerMachine
from tests.cluster.world import CRASHED, scored
from trainer.trial import ExperimentId


@pytest.fixture
def study() -> Iterator[ByHand]:
    """A study under a judge who believes each score."""
    machine = OneAtATimeMachine()
    yield ByHand(machine)
    machine.ledger_and_branch_agree()
    machine.scratch.cleanup()


def test_a_revert_is_the_best_so_far_without_one_patch_and_is_judged(study) -> None:
    study.keep(0, 0.9)
    study.keep(1, 0.8)
    revert = study.hand_in("e1")
    assert (study[revert].reverts, study[revert].base, study[revert].proposer) == (
        *("e1", "e2", "user"),
    )
    assert study.lines(revert) == {1: 2}
    assert study.score(revert, 0.7) is Status.KEPT
    assert study.lineage == ("e0", "e2", revert)
    assert study.lines() == {1: 2}
    style = "--format=%s|%(trailers:key=Reverts,valueonly)"
    assert study.machine.git("log", "-1", style, study.machine.repository.branch_ref) == (
        "Revert e1|e1"
    )


def test_a_revert_that_is_no_better_leaves_the_branch_as_it_is(study) -> None:
    study.keep(0, 0.9)
    study.keep(1, 0.8)
    revert = study.hand_in("e1")
    assert study.score(revert, 0.85) is Status.DISCARDED
    assert study.lineage == ("e0", "e1", "e2")
    assert study.lines() == {0: 1, 1: 2}


def test_the_last_promotion_can_be_taken_out_though_its_base_was_measured_before(study) -> None:
    study.keep(0, 0.9)
    study.keep(1, 0.8)
    revert = study.hand_in("e2")
    assert study[revert].tree == study["e1"].tree
    assert study.score(revert, 0.7) is Status.KEPT  # e1 had bad luck, or e2 good
    assert study.lineage == ("e0", "e1", revert)


def test_what_is_being_taken_out_already_is_not_measured_twice(study) -> None:
    study.keep(0, 0.9)
    revert = study.hand_in("e1")
    assert study.hand_in("e1") == f"the same tree as {revert}"
    study.score(revert, 0.95)
    assert study.hand_in("e1") == f"the same tree as {revert}"  # `retry` is for that


def test_a_merge_is_what_is_undone_of_a_winner_that_was_merged(study) -> None:
    study.machine.propose([0, 1])
    study.score("e1", 0.8)
    study.score("e2", 0.9)
    assert study.score("e3", 0.7) is Status.KEPT  # e2 on e1
    revert = study.hand_in("e2")
    assert study.lines(revert) == {0: 1}
    assert study.score(revert, 0.6) is Status.KEPT
    assert study.lineage == ("e0", "e1", revert)
    assert [taken_out_by(study.machine.state, study[name]) for name in ("e1", "e2", "e3")] == [
        *("", revert, revert)
    ]


def test_what_a_tree_left_behind_does_not_come_back_when_it_is_taken_out(study) -> None:
    study.machine.propose([0, 1])
    study.score("e1", 0.9)
    study.score("e2", 0.8)  # supersedes e1, whose merge brings nothing
    study.score("e3", 0.95)
    assert study.lineage == ("e0", "e2")
    revert = study.hand_in("e2")
    assert study.lines(revert) == {}


def test_of_a_chain_one_link_is_taken_out_and_those_around_it_stay() -> None:
    machine = ReducerMachine()
    study = ByHand(machine)
    machine.propose([0, 1, 2, 3])
    for name, value in (("e1", 0.8), ("e2", 0.85), ("e3", 0.87), ("e4", 0.9), ("e5", 0.66)):
        machine.end_trial(ExperimentId(name), scored(value))
    machine.end_trial(ExperimentId("e6"), CRASHED)
    machine.end_trial(ExperimentId("e7"), scored(0.45))
    assert study.lineage[-1] == "e7"
    everything = study.lines()
    crashed, last = study.hand_in("e3"), study.hand_in("e7")
    of_e6 = {place: value for place, value in everything.items() if value != 3}
    assert study.lines(crashed) == of_e6
    assert study[last].reverts == "e7"
    assert study.lines(last) == {place: value for place, value in everything.items() if value != 4}
    machine.scratch.cleanup()


def test_what_later_patches_build_upon_conflicts_and_is_told_with_its_path(study) -> None:
    study.keep(0, 0.9)
    study.keep(0, 0.8)
    head = study.machine.state.incumbent_commit
    assert study.hand_in("e1") == f"taking e1 out conflicts with {head[:10]} in train.py"


def test_a_stale_revert_is_merged_and_takes_the_patch_out_from_there(study) -> None:
    study.keep(0, 0.9)
    study.keep(1, 0.8)
    other, revert = study.propose(2), study.hand_in("e1")
    study.score(other, 0.7)
    study.score(revert, 0.75)  # better than e2, on which it was made, and stale
    merge = study[revert].merged_as
    assert study.lines(merge) == {1: 2, 2: 3}
    assert study.score(merge, 0.6) is Status.KEPT
    assert study.lineage == ("e0", "e2", other, merge)
    assert taken_out_by(study.machine.state, study["e1"]) == merge


def test_a_revert_does_not_rejoin_where_there_is_nothing_to_take_out(study) -> None:
    rival = study.propose(3)
    study.keep(0, 0.9)
    revert = study.hand_in("e2")
    assert study.score(revert, 0.8) is Status.KEPT
    assert study.score(rival, 0.5) is Status.KEPT  # made on the baseline
    assert study.lineage == ("e0", rival)
    assert study.machine.state.rejoining == ()
    assert not study[revert].merged_as
    assert not study["e2"].merged_as


def test_a_better_tree_that_holds_the_patch_brings_it_back_and_the_revert_rejoins(study) -> None:
    study.keep(0, 0.9)
    rival, revert = study.propose(3), study.hand_in("e1")
    assert study.score(revert, 0.8) is Status.KEPT
    assert study.lineage == ("e0", revert)
    assert study.score(rival, 0.5) is Status.KEPT  # made on e1
    assert study.lineage == ("e0", "e1", rival)
    again = study[revert].merged_as
    assert study.lines(again) == {3: 2}
    assert study.score(again, 0.4) is Status.KEPT
    assert study.lineage == ("e0", rival, again)


def test_a_patch_that_came_back_with_a_better_tree_can_be_taken_out(study) -> None:
    early, late = study.propose(0), study.propose(1)
    study.score(early, 0.9)
    on_early = study.propose(2)
    study.score(late, 0.8)  # supersedes the first
    assert study.lineage == ("e0", late)
    assert study.score(on_early, 0.5) is Status.KEPT  # and is superseded by what holds it
    assert study.lineage == ("e0", early, on_early)
    assert early not in study.machine.state.rejoining
    revert = study.hand_in(early)
    assert study.lines(revert) == {2: 3}
    assert study.score(revert, 0.4) is Status.KEPT
    assert study.lineage == ("e0", on_early, revert)


def test_a_merge_holds_the_patch_alone_and_not_what_it_was_made_on(study) -> None:
    early, late = study.propose(0), study.propose(1)
    study.score(early, 0.9)
    one, other = study.propose(2), study.propose(3)
    study.score(late, 0.8)  # supersedes the first, on which those two were made
    study.score(one, 0.85)
    merge = study[one].merged_as  # onto the late one
    study.score(other, 0.7)
    assert study.lineage == ("e0", early, other)
    before = study[early].merged_as
    assert study.score(merge, 0.5) is Status.KEPT
    assert study.lineage == ("e0", late, merge)
    assert study.lines() == {1: 2, 2: 3}
    assert study[early].merged_as != before  # it is there no more, and is merged again


def test_a_revert_can_be_taken_out_like_any_other_patch(study) -> None:
    study.keep(0, 0.9)
    study.keep(1, 0.8)
    revert = study.hand_in("e1")
    study.score(revert, 0.7)
    back = study.hand_in(revert)
    assert study.lines(back) == {0: 1, 1: 2}
    assert study.score(back, 0.6) is Status.KEPT
    assert study.lineage == ("e0", "e1", "e2", back)
    assert taken_out_by(study.machine.state, study["e1"]) == ""
    assert to_undo(study.machine.state, ExperimentId("e1")).id == "e1"


def test_what_is_not_on_the_branch_cannot_be_taken_out_and_each_is_told_why(study) -> None:
    study.machine.propose([0, 1, 2])
    study.score("e3", 1.5)
    study.score("e1", 0.9)
    study.score("e2", 0.8)  # supersedes e1
    study.score("e4", 0.95)
    study.keep(4, 0.7)
    revert = study.hand_in("e2")
    study.score(revert, 0.6)
    told = {
        "e0": "e0 is the baseline: it has no patch that could be taken out",
        "e1": "e1 is not on the branch any more (see `incumbent why`)",
        "e2": f"e2 was taken out of the branch by {revert} already",
        "e3": "e3 is discarded: only what is on the branch can be taken out of it",
        "e99": "there is no experiment e99 (see `incumbent log`)",
    }
    for name, words in told.items():
        with pytest.raises(NotOnBranch, match=re.escape(words)):
            to_undo(study.machine.state, ExperimentId(name))
        assert study.hand_in(name) == words


@pytest.mark.parametrize("fuse", [0, 1])
def test_a_controller_that_dies_at_any_append_makes_one_experiment_of_a_revert(
    study, fuse: int
) -> None:
    study.keep(0, 0.9)
    study.machine.ledger.fuse = fuse
    revert = study.hand_in("e1")
    study.machine.ledger.fuse = -1
    assert [e.id for e in reverted_by(study.machine.state, study["e1"])] == [revert]
    assert study.score(revert, 0.8) is Status.KEPT
    assert load(study.machine.ledger) == study.machine.state


def test_show_and_why_tell_what_was_taken_out_and_by_what(study) -> None:
    study.keep(0, 0.9)
    study.keep(1, 0.8)
    revert = study.hand_in("e1")
    study.score(revert, 0.7)
    state, events = study.machine.state, study.machine.ledger.read(0)
    shown = {name: dict(relations(show_facts(state, ExperimentId(name), events)))
             for name in ("e1", revert)}  # fmt: skip
    assert shown["e1"]["reverted by"] == f"{revert} (kept)"
    assert shown[revert]["reverts"] == "e1"
    story = [line["text"] for line in show_facts(state, revert, events)["story"]]
    assert story[0] == f"proposed {revert} by user, without e1: Revert e1"
    assert "replaces e2, which takes out e1, as" in story[-1]
    steps = {step["experiment"]: step for step in why_facts(
        state, study.machine.ledger.get(promotion_seqs(state)))["steps"]}  # fmt: skip
    assert [steps[name]["on_branch"] for name in ("e0", "e1", "e2", revert)] == [
        *(True, False, True, True)
    ]
    assert steps["e1"]["taken_out_by"] == revert
    assert steps[revert]["takes_out"] == "e1"


def test_a_reason_with_braces_in_it_is_a_reason_and_no_template(study) -> None:
    patch = "--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-{x}\n+{y}\n"
    other = patch.replace("train.py", "{odd}.py")
    for name, text in (("s1", patch), ("s2", other)):
        event = ev.SubmissionReceived(submission=name, hypothesis="{h}", patch=text)
        study.machine.happen(event)
        study.machine.settle()
    assert [rejected.submission for rejected in study.rejections()] == ["s1", "s2"]
    assert "{odd}.py" in study.rejections()[-1].reason
