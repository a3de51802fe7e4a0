"""What is decided in which state."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from cluster.policy import commands as cmd
from cluster.policy.decisions import decide
from cluster.policy.proposal_planning import verdicts_per_s
from cluster.policy.study_plan import Asked, Circumstances, seats
from cluster.state import events as ev
from cluster.state.experiment import Status
from cluster.state.steps import IllegalTransition
from tests.cluster.world import BASE, CRASHED, TIMED_OUT, World, gamed, scored
from trainer.trial import ExperimentId, Place, SlotId


@pytest.fixture
def world() -> Iterator[World]:
    """A study whose state is verified after the test."""
    made = World()
    yield made
    made.verify()


def test_the_baseline_comes_first_and_alone(world: World) -> None:
    assert world.decide() == (cmd.CreateBaseline(),)
    world.settle()
    assert world.status("e0") is Status.QUEUED
    early = world.propose()
    world.settle()
    assert world.status(early) is Status.PROPOSED


def test_a_scored_baseline_is_the_first_incumbent(world: World) -> None:
    world.baseline(1.0)
    assert world.status("e0") is Status.KEPT
    assert world.state.lineage == ("e0",)
    assert world.state.incumbent_commit == BASE


@pytest.mark.parametrize("outcome", [CRASHED, TIMED_OUT])
def test_a_baseline_that_fails_ends_the_study_at_once(world: World, outcome) -> None:
    world.settle()
    early = world.propose()
    world.run(ExperimentId("e0"), outcome)
    assert world.state.is_failed
    assert "the baseline" in world.state.finished
    assert world.status(early) is Status.PROPOSED


def test_a_fresh_winner_is_promoted(world: World) -> None:
    world.baseline(1.0)
    better = world.propose()
    assert world.run(better, scored(0.9)) is Status.KEPT
    assert world.state.lineage == ("e0", better)
    assert world.state.incumbent_commit == f"p-{better}"


def test_a_worse_and_an_equal_candidate_are_discarded(world: World) -> None:
    world.baseline(1.0)
    assert world.run(world.propose(), scored(1.1)) is Status.DISCARDED
    assert world.run(world.propose(), scored(1.0)) is Status.DISCARDED


def test_a_failure_is_a_status_and_never_wins(world: World) -> None:
    world.baseline(1.0)
    assert world.run(world.propose(), CRASHED) is Status.CRASHED
    assert world.run(world.propose(), TIMED_OUT) is Status.TIMED_OUT
    assert world.state.lineage == ("e0",)


def two_of_one_wave(world: World, first: float, second: float) -> tuple[str, str]:
    world.baseline(1.0)
    a, b = world.propose(), world.propose()
    world.settle()
    world.start(a, "cpu-0")
    world.start(b, "cpu-1")
    world.end(a, scored(first))
    world.settle()
    world.end(b, scored(second))
    world.settle()
    return a, b


def test_a_stale_winner_is_merged_and_measured_before_it_is_promoted(world: World) -> None:
    a, b = two_of_one_wave(world, 0.8, 0.9)
    assert world.status(a) is Status.KEPT
    assert world.status(b) is Status.MERGING
    merge = world.state.experiments[b].merged_as
    assert world.run(merge, scored(0.7)) is Status.KEPT
    assert world.status(b) is Status.MERGED
    assert world.state.lineage == ("e0", a, merge)


def test_a_merge_that_brings_nothing_drops_its_winner(world: World) -> None:
    _, b = two_of_one_wave(world, 0.8, 0.9)
    merge = world.state.experiments[b].merged_as
    assert world.run(merge, scored(0.85)) is Status.DISCARDED
    assert world.status(b) is Status.DROPPED
    assert merge in world.state.experiments[b].reason


def test_a_merge_that_crashes_drops_its_winner(world: World) -> None:
    _, b = two_of_one_wave(world, 0.8, 0.9)
    world.run(world.state.experiments[b].merged_as, CRASHED)
    assert world.status(b) is Status.DROPPED


def test_a_conflict_is_an_outcome_that_names_both(world: World) -> None:
    world.merge_outcome = "conflict"
    a, b = two_of_one_wave(world, 0.8, 0.9)
    assert world.status(b) is Status.CONFLICTED
    assert world.state.experiments[b].reason == f"conflicts with {a} in train.py"


def test_a_patch_that_the_incumbent_holds_already_is_merged_for_nothing(world: World) -> None:
    world.merge_outcome = "redundant"
    _, b = two_of_one_wave(world, 0.8, 0.9)
    assert world.status(b) is Status.MERGED


def test_a_stale_winner_that_beats_the_incumbent_supersedes_it_and_the_other_rejoins(
    world: World,
) -> None:
    a, b = two_of_one_wave(world, 0.9, 0.8)
    assert world.status(b) is Status.KEPT
    assert world.state.lineage == ("e0", b)
    assert world.status(a) is Status.KEPT  # it was on the branch, and history stays
    merge = world.state.experiments[a].merged_as
    assert world.state.experiments[merge].merge_of == a
    assert world.state.rejoining == ()
    assert world.run(merge, scored(0.7)) is Status.KEPT
    assert world.state.lineage == ("e0", b, merge)


def test_a_merge_that_turns_out_to_be_redundant_ends_its_winner_too(world: World) -> None:
    _, b = two_of_one_wave(world, 0.8, 0.9)
    merge, rival = world.state.experiments[b].merged_as, world.propose()
    world.settle()
    world.start(merge, "cpu-0")
    world.start(rival, "cpu-1")
    world.end(rival, scored(0.6))
    world.settle()
    world.merge_outcome = "redundant"
    world.end(merge, scored(0.7))
    world.settle()
    assert world.status(merge) is world.status(b) is Status.MERGED
    assert not dict(world.state.open)


def test_whatever_a_superseding_tree_lacks_rejoins_also_when_its_base_was_superseded(
    world: World,
) -> None:
    world.baseline(1.0)
    early, late = world.propose(), world.propose()
    world.run(early, scored(0.9))
    on_early = world.propose()
    world.run(late, scored(0.8))  # supersedes e1, which rejoins
    assert world.state.lineage == ("e0", late)
    merge = world.state.experiments[early].merged_as
    world.run(on_early, scored(0.5))  # its tree holds e1's patch, and not e2's
    assert world.state.lineage == ("e0", early, on_early)
    assert world.state.experiments[late].merged_as
    assert world.state.experiments[early].merged_as == merge  # it is there, and needs no other


def test_slots_of_an_earlier_controller_are_closed_until_they_present_themselves(
    world: World,
) -> None:
    opened = ev.SlotOpened(
        slot=SlotId("cpu-0"), incarnation="x", node="n", device="cpu", device_class="cpu"
    )
    world.happen("open", opened)
    world.baseline(1.0)
    running = world.propose()
    world.settle()
    world.start(running)
    world.restart()
    assert world.state.open_slots == 0
    world.happen("open again", opened)
    assert world.state.open_slots == 1
    assert world.state.slots[SlotId("cpu-0")].trial == f"{running}.1"


def test_a_winner_that_goes_stale_again_and_again_is_dropped(world: World) -> None:
    _, chased = two_of_one_wave(world, 0.8, 0.9)
    for round_ in range(3):
        merge = world.state.experiments[chased].merged_as
        rival = world.propose()
        world.settle()
        world.start(merge, "cpu-0")
        world.start(rival, "cpu-1")
        world.end(rival, scored(0.7 - round_ / 10))
        world.settle()
        world.end(merge, scored(0.79 - round_ / 10))
        world.settle()
        chased = merge
    assert world.status(chased) is Status.DROPPED
    assert not world.in_status(Status.WINNER, Status.MERGING)


def test_a_lost_trial_runs_again_and_is_given_up_after_three(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    for attempt in (1, 2, 3):
        world.settle()
        assert world.state.experiments[experiment].trials[-1].attempt == attempt
        world.start(experiment)
        world.lose(experiment)
    assert world.status(experiment) is Status.LOST
    assert [t.id for t in world.state.experiments[experiment].trials] == [f"{experiment}.1"] * 3


def place_of_the_next_attempt(world: World, slot: str, **lost: bool) -> Place:
    """Lose an attempt on a slot; return where the next one is to run."""
    experiment = world.propose()
    world.settle()
    world.start(experiment, slot)
    world.lose(experiment, **lost)
    (command,) = (c for c in world.decide() if isinstance(c, cmd.QueueTrial))
    assert (command.experiment.id, command.attempt) == (experiment, 2)
    world.settle()
    return command.place


@pytest.mark.parametrize("is_given_back", [True, False])
def test_what_was_lost_on_a_node_goes_to_another_one_first(
    world: World, is_given_back: bool
) -> None:
    world.baseline(1.0)
    for slot in ("cpu-0", "rig/cpu-0"):
        world.open_slot(slot)
    found = place_of_the_next_attempt(world, "rig/cpu-0", is_given_back=is_given_back)
    assert found == Place(avoid="rig")


def test_what_was_lost_where_no_other_node_can_run_it_goes_there_again(world: World) -> None:
    world.baseline(1.0)
    for slot in ("rig/cpu-0", "rig/cpu-1", "gone/cpu-0"):
        world.open_slot(slot)
    world.happen("gone", ev.SlotClosed(slot=SlotId("gone/cpu-0"), reason="left"))
    assert place_of_the_next_attempt(world, "rig/cpu-0") == Place()


def test_what_the_study_gives_back_itself_does_not_count_as_lost(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    for _ in range(5):
        world.settle()
        world.start(experiment)
        world.lose(experiment, is_given_back=True)
    world.settle()
    assert world.status(experiment) is Status.QUEUED
    assert world.state.experiments[experiment].losses == 0


def test_a_waiting_candidate_is_cancelled_at_once_and_a_running_one_on_its_end(
    world: World,
) -> None:
    world.baseline(1.0)
    running, waiting = world.propose(), world.propose()
    world.settle()
    world.start(running)
    world.happen("c1", ev.CancelRequested(experiment=running))
    world.happen("c2", ev.CancelRequested(experiment=waiting))
    assert {c.trial for c in world.decide() if isinstance(c, cmd.CancelTrial)} == {
        f"{running}.1",
        f"{waiting}.1",
    }
    world.settle()
    assert world.status(running) is world.status(waiting) is Status.CANCELLED


def test_a_trial_queued_in_the_moment_of_its_cancelling_is_cancelled_all_the_same(
    world: World,
) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    (queue_it,) = world.decide()
    world.happen("c", ev.CancelRequested(experiment=experiment))
    assert world.status(experiment) is Status.CANCELLED
    world.perform(queue_it)  # decided before the request, performed after it
    world.settle()
    assert world.status(experiment) is Status.CANCELLED
    assert world.decide() == ()


def test_a_request_that_comes_too_late_changes_nothing(world: World) -> None:
    world.baseline(1.0)
    world.happen("c1", ev.CancelRequested(experiment=ExperimentId("e0")))
    world.happen("c2", ev.CancelRequested(experiment=ExperimentId("e99")))
    world.happen("c3", ev.RetryRequested(experiment=ExperimentId("e0")))
    assert world.status("e0") is Status.KEPT


def test_a_retry_measures_again_and_counts_once(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    world.run(experiment, CRASHED)
    assert world.state.judged == 1
    world.happen("r", ev.RetryRequested(experiment=experiment))
    assert world.state.judged == 0
    assert world.run(experiment, scored(0.5)) is Status.KEPT
    assert world.state.judged == 1
    assert [t.id for t in world.state.experiments[experiment].trials] == [
        f"{experiment}.1",
        f"{experiment}.2",
    ]


def test_a_paused_study_starts_nothing_and_ends_nothing(world: World) -> None:
    world.baseline(1.0)
    world.happen("p", ev.PauseRequested())
    experiment = world.propose()
    world.settle()
    assert world.status(experiment) is Status.PROPOSED
    world.happen("q", ev.ResumeRequested())
    world.settle()
    assert world.status(experiment) is Status.QUEUED


def test_a_stop_queues_nothing_more_and_a_second_gives_running_trials_back(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    world.settle()
    world.start(experiment)
    late = world.propose()
    world.happen("s1", ev.StopRequested())
    assert world.decide() == ()
    world.happen("s2", ev.StopRequested(now=True))
    assert world.decide() == (cmd.GiveBackTrials(),)
    world.settle()
    assert world.status(experiment) is world.status(late) is Status.PROPOSED
    world.restart()
    world.settle()
    assert world.status(experiment) is world.status(late) is Status.QUEUED


def test_what_ends_after_a_stop_is_judged_and_promoted_but_nothing_is_begun(world: World) -> None:
    world.baseline(1.0)
    better, worse, stale = world.propose(), world.propose(), world.propose()
    world.settle()
    for experiment in (better, worse, stale):
        world.start(experiment)
    world.happen("s1", ev.StopRequested())
    world.end(better, scored(0.5))
    world.end(worse, scored(2.0))
    world.settle()
    assert world.status(better) is Status.KEPT
    assert world.status(worse) is Status.DISCARDED
    world.end(stale, scored(0.7))
    world.settle()
    assert world.status(stale) is Status.WINNER  # to be merged and measured when it carries on
    world.restart()
    world.settle()
    assert world.status(stale) is Status.MERGING


class TestAsking:
    """How many proposals are asked for."""

    def ready(self, **options) -> World:
        world = World(proposers=("tuner",), **options)
        world.settle()
        return world

    def asked(self, world: World) -> int:
        return sum(c.count for c in world.decide() if isinstance(c, cmd.Propose))

    def test_one_candidate_per_slot_is_kept_ready_also_while_the_baseline_runs(self) -> None:
        world = World(proposers=("tuner",), slots=4)
        world.perform(world.decide()[0])
        assert self.asked(world) == 4
        world.asked = 3
        assert self.asked(world) == 0, "it takes one question at a time"

    def test_no_more_than_the_limit_is_ever_begun(self) -> None:
        world = self.ready(slots=4, experiments=3)
        assert world.asked == 3
        for _ in range(3):
            world.propose()
        world.run(ExperimentId("e0"), scored(1.0))
        assert self.asked(world) == 0
        for number in (1, 2, 3):
            world.run(ExperimentId(f"e{number}"), scored(2.0))
        assert world.state.finished == "3 experiments were judged"

    def test_slow_proposers_are_asked_further_ahead(self) -> None:
        world = World(slots=2)
        world.baseline(1.0)
        for _ in range(6):
            world.run(world.propose(), scored(2.0))
        rate = 2 * world.state.judged / world.state.slot_seconds
        assert rate > verdicts_per_s(world.state, world.now), "its slots waited for proposals"
        plan = replace(world.plan, proposers=seats("slow"))
        slow = Asked(proposer="slow", latency_s=5 / rate)
        commands = decide(world.state, plan, Circumstances(now=world.now, asked=[slow]))
        assert [c.count for c in commands if isinstance(c, cmd.Propose)] == [12]

    def test_a_study_whose_proposers_ran_dry_ends_when_nothing_is_open(self) -> None:
        world = self.ready(slots=2)
        world.asked = 0
        world.run(ExperimentId("e0"), scored(1.0))
        last = world.propose()
        world.asked = 0
        world.happen("x", ev.ProposerExhausted(proposer="tuner", reason="grid done"))
        world.settle()
        assert not world.state.finished
        world.run(last, scored(2.0))
        assert world.state.finished == "nothing more to try (tuner: grid done)"

    def test_a_study_without_proposers_waits_for_submissions(self) -> None:
        world = World()
        world.baseline()
        assert world.decide() == ()
        assert not world.state.finished

    def test_hours_end_a_study(self) -> None:
        world = self.ready(slots=1)
        world.asked = 0
        world.run(ExperimentId("e0"), scored(1.0))
        world.plan = replace(world.plan, most_hours=1.0)
        world.asked = 0
        world.now += timedelta(hours=1)
        world.settle()
        assert world.state.finished == "it has run for 1 hours"

    def test_hours_between_two_runs_do_not_count(self) -> None:
        world = World()
        hour = timedelta(hours=1)
        world.happen("1", ev.ControllerStarted(epoch=1, pid=1, node="here"))
        world.now += hour
        world.happen("2", ev.ControllerStopped(epoch=1, reason="stopped"))
        world.now += 5 * hour
        world.happen("3", ev.ControllerStarted(epoch=2, pid=2, node="here"))
        world.now += hour
        world.happen("4", ev.PauseRequested())  # its last word before it is killed
        world.now += 5 * hour
        world.happen("5", ev.ControllerStarted(epoch=3, pid=3, node="here"))
        world.now += hour
        assert world.state.running_s(world.now) == pytest.approx(3 * 3600, abs=10)


def test_an_illegal_step_raises_with_the_whole_story(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    world.run(experiment, scored(2.0))
    before = world.state
    promoted = ev.Promoted(experiment=experiment, commit=BASE, replaces=ExperimentId("e0"))
    with pytest.raises(IllegalTransition, match=r"ExperimentProposed.*TrialQueued.*TrialStarted"):
        world.happen("odd", promoted)
    assert world.state == before
    # The ledger of this world is spoilt: mend it, so that verifying it means something.
    world.ledger._payloads.pop()


# --- suspicion -----------------------------------------------------------------------------------


def accept(world: World, experiment: ExperimentId) -> Status:
    world.happen(f"accept/{world.state.seq}", ev.AcceptRequested(experiment=experiment))
    world.settle()
    return world.status(experiment)


def test_a_better_score_that_looks_unearned_waits_for_a_look(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    assert world.run(experiment, gamed(0.1)) is Status.SUSPECT
    found = world.state.experiments[experiment]
    assert found.reason == "prepare.py was changed while the trial ran"
    assert (found.delta, found.verdict) == (0.9, None)
    assert world.state.lineage == ("e0",)
    assert world.state.judged == 1
    assert world.decide() == ()
    assert accept(world, experiment) is Status.KEPT
    assert world.state.judged == 1


def test_a_worse_score_that_looks_unearned_is_discarded_with_a_word_on_it(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    assert world.run(experiment, gamed(1.5)) is Status.DISCARDED
    assert world.state.experiments[experiment].reason == (
        "worse; suspect besides: prepare.py was changed while the trial ran"
    )


def test_what_was_accepted_is_judged_as_any_other(world: World) -> None:
    world.baseline(1.0)
    experiment, better = world.propose(), world.propose()
    world.run(experiment, gamed(0.5))
    world.run(better, scored(0.4))
    assert accept(world, experiment) is Status.MERGING, "it is stale by now"
    assert accept(world, better) is Status.KEPT, "a wish about what is not suspect changes nothing"


def test_what_was_accepted_is_no_sign_in_what_is_made_on_it_alone(world: World) -> None:
    world.baseline(1.0)
    first, beside = world.propose(), world.propose()
    world.run(first, gamed(0.5))
    accept(world, first)
    assert world.run(beside, gamed(0.4)) is Status.SUSPECT
    assert world.run(world.propose(), gamed(0.3)) is Status.KEPT


def test_what_was_accepted_is_no_sign_in_its_merge(world: World) -> None:
    world.baseline(1.0)
    accepted, honest = world.propose(), world.propose()
    world.run(accepted, gamed(0.5))
    world.run(honest, scored(0.4))
    assert accept(world, accepted) is Status.MERGING
    (merge,) = world.in_status(Status.QUEUED)
    assert world.run(merge, gamed(0.3)) is Status.KEPT


def test_a_retry_of_a_suspect_sets_its_score_aside(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    world.run(experiment, gamed(0.1))
    for again in range(2):  # the judgement's event must not be taken for an earlier one
        world.happen(f"r{again}", ev.RetryRequested(experiment=experiment))
        assert world.run(experiment, gamed(0.1)) is Status.SUSPECT
        assert world.state.experiments[experiment].values == (0.1,)
    world.happen("r", ev.RetryRequested(experiment=experiment))
    assert world.run(experiment, scored(0.8)) is Status.KEPT
    assert world.state.experiments[experiment].values == (0.8,)


def test_a_suspect_merge_ends_what_it_merges_and_can_be_accepted(world: World) -> None:
    _, stale = two_of_one_wave(world, 0.4, 0.5)
    (merge,) = world.in_status(Status.QUEUED)
    assert world.run(merge, gamed(0.1)) is Status.SUSPECT
    assert world.status(stale) is Status.DROPPED
    assert "which was suspect" in world.state.experiments[ExperimentId(stale)].reason
    assert accept(world, merge) is Status.KEPT


def test_a_stopping_study_still_says_what_is_suspect(world: World) -> None:
    world.baseline(1.0)
    experiment = world.propose()
    world.settle()
    world.start(experiment)
    world.happen("s", ev.StopRequested())
    world.end(experiment, gamed(0.1))
    world.settle()
    assert world.status(experiment) is Status.SUSPECT


def test_a_baseline_that_cannot_be_ends_the_study_with_the_cure(world: World) -> None:
    world.plan = replace(world.plan, metric=replace(world.plan.metric, plausible=(0.0, 0.5)))
    world.settle()
    early = world.propose()
    assert world.run(ExperimentId("e0"), scored(1.0)) is Status.SUSPECT
    assert world.state.is_failed
    assert "plausible = [0, 0.5]" in world.state.finished
    assert "incumbent accept e0" in world.state.finished
    world.restart()
    assert accept(world, ExperimentId("e0")) is Status.KEPT
    assert world.status(early) is Status.QUEUED


def test_whatever_the_baseline_does_to_its_files_is_a_habit(world: World) -> None:
    world.settle()
    assert world.run(ExperimentId("e0"), gamed(1.0)) is Status.KEPT
    assert world.run(world.propose(), gamed(0.5)) is Status.KEPT
