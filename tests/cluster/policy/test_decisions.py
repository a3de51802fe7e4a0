"""What is decided in which state."""

import math
from dataclasses import replace
from datetime import timedelta

import pytest

from cluster.policy import commands as cmd
from cluster.policy.decisions import decide
from cluster.policy.study_plan import Asked, Circumstances, seats
from cluster.state import events as ev
from cluster.state.experiment import Status
from cluster.state.steps import IllegalTransition
from proposer.purse import CallId, CallPlan, Usage
from tests.cluster.policy.waves import world
from tests.cluster.world import BASE, CRASHED, TIMED_OUT, World, scored
from trainer.trial import ExperimentId, SlotId

__all__ = ["world"]  # the fixture


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


def test_a_worse_and_an_equal_candidate_are_discarded(world: World) -> None:
    world.baseline(1.0)
    assert world.run(world.propose(), scored(1.1)) is Status.DISCARDED
    assert world.run(world.propose(), scored(1.0)) is Status.DISCARDED


def test_a_failure_is_a_status_and_never_wins(world: World) -> None:
    world.baseline(1.0)
    assert world.run(world.propose(), CRASHED) is Status.CRASHED
    assert world.run(world.propose(), TIMED_OUT) is Status.TIMED_OUT
    assert world.state.lineage == ("e0",)


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

    def test_what_was_submitted_before_the_start_has_its_place_kept(self) -> None:
        world = World(proposers=("tuner",), slots=4, experiments=6)
        for name in ("s-1", "s-2", "s-3"):
            world.happen(name, ev.SubmissionReceived(submission=name, hypothesis=name))
        world.perform(world.decide()[0])
        assert self.asked(world) == 1, "of the four that are missing"
        for name in ("s-4", "s-5", "s-6"):
            world.happen(name, ev.SubmissionReceived(submission=name, hypothesis=name))
        world.asked = 0
        assert self.asked(world) == 0, "there is no room beside them"

    def test_slow_proposers_are_asked_further_ahead(self) -> None:
        world = World(slots=2)
        world.baseline(1.0)
        for _ in range(6):
            world.run(world.propose(), scored(2.0))
        rate = 2 * world.state.judged / world.state.slot_seconds
        took = world.now - world.state.recent[0]
        assert rate > 5 / took.total_seconds(), "its slots waited for proposals"
        plan = replace(world.plan, proposers=seats("slow"))
        slow = Asked(proposer="slow", latency_s=5 / rate)
        commands = decide(world.state, plan, Circumstances(now=world.now, asked=[slow]))
        assert [c.count for c in commands if isinstance(c, cmd.Propose)] == [15]

    @pytest.mark.parametrize("verdicts", [3, 32])
    def test_verdicts_that_come_together_have_no_more_asked_for(self, verdicts: int) -> None:
        """As of all that waited for the baseline: 740 were once asked for 3 slots."""
        world = World(slots=3)
        world.baseline(1.0)
        for experiment in [world.propose() for _ in range(verdicts)]:
            world.run(experiment, scored(2.0))
        at_once = replace(world.state, recent=(world.now,) * verdicts)
        slow = Asked(proposer="slow", latency_s=1.0)
        now = world.now + timedelta(seconds=0.03)
        plan = replace(world.plan, proposers=seats("slow"))
        commands = decide(at_once, plan, Circumstances(now=now, asked=[slow]))
        rate = 3 * verdicts / world.state.slot_seconds
        wanted = [3 + math.ceil(2.5 * rate)]
        assert [c.count for c in commands if isinstance(c, cmd.Propose)] == wanted

    def test_what_was_rebuilt_from_git_tells_of_no_rate(self) -> None:
        world = World(slots=3)
        world.baseline(1.0)
        for experiment in [world.propose() for _ in range(3)]:
            world.settle()
            world.start(experiment)
            world.now -= timedelta(seconds=1)  # git knows when one was made, not how long it ran
            world.end(experiment, scored(2.0))
        world.run(world.propose(), scored(2.0))
        assert world.state.judged == 4
        assert world.state.used_up == 1

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

    @pytest.mark.parametrize(
        ("limit", "words"),
        [
            ({"most_hours": 1.0}, "it has run for 1 hours"),
            ({"most_slot_hours": 0.5}, "0.5 GPU-hours were used"),
            ({"most_usd": 2.0}, "$2.00 of $2.00 were spent"),
            ({"most_tokens": 3005}, "3,000 of 3,005 tokens were used, and the next call may use 9"),
        ],
    )
    def test_a_limit_that_is_reached_lets_what_runs_end_and_be_judged(
        self, limit: dict[str, float], words: str
    ) -> None:
        world = World(proposers=("model",))
        world.baseline(1.0)
        last, ended = world.propose(), world.propose()
        world.settle()
        world.start(last)
        world.start(ended, "cpu-1")
        world.asked = 0
        world.now += timedelta(hours=1)
        world.end(ended, scored(2.0))
        self.spend(world, usd=2.0, tokens=3000)
        world.happen("refused", ev.CallRefused(proposer="model", usd=0.0, tokens=9))
        assert self.asked(world), "nothing is limited yet"
        world.plan = replace(world.plan, **limit)
        world.settle()
        assert not world.asked
        assert not world.state.finished
        assert world.status(last) is Status.RUNNING
        world.end(last, scored(0.5))
        world.settle()
        assert (world.status(last), world.state.lineage) == (Status.KEPT, ("e0", last))
        assert world.state.finished == words

    def spend(self, world: World, *, usd: float, tokens: int) -> None:
        call = CallId("c1")
        plan = CallPlan(
            proposer="model",
            model="m",
            purpose="propose",
            commit=BASE,
            incumbent=ExperimentId("e0"),
            usd=usd,
            tokens=tokens,
        )
        world.happen("c1", ev.CallReserved(call=call, plan=plan))
        usage = Usage(input=tokens)
        world.happen("c1/settled", ev.CallSettled(call=call, usd=usd, usage=usage))

    def test_hours_between_two_runs_do_not_count(self) -> None:
        world = World()
        hour = timedelta(hours=1)
        world.happen("1", ev.ControllerStarted(epoch=1, pid=1, node="here"))
        world.now += hour
        world.happen("2", ev.ControllerStopped(epoch=1, reason="stopped"))
        world.now += 5 * hour
        world.happen("3", ev.ControllerStarted(epoch=2, pid=2, node="here"))
        world.now += hour
        world.happen("4", ev.SlotClosed(slot=SlotId("cpu-0"), reason=""))  # its last word
        world.now += 4 * hour
        world.happen("5", ev.PauseRequested())  # by somebody who has not seen that it was killed
        world.now += hour
        world.happen("6", ev.ControllerStarted(epoch=3, pid=3, node="here"))
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
