"""Whole studies with proposers in any order of calls, answers, troubles, deaths and people's say.

The calls are paid for by the real book of calls, over the ledger of the study on paper.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cluster import commands as cmd
from cluster import events as ev
from cluster import proposing_events as pe
from cluster import tasks
from cluster.call_book import CallBook
from cluster.experiment import Status
from cluster.ledger import catch_up
from cluster.proposal_planning import limit_reached
from cluster.state import Trouble
from cluster.study_plan import Seat
from proposer.proposal import TaskKind
from proposer.purse import CallId, CallPlan, OverLimit, Settlement, Usage
from tests.cluster.test_study_machine import StudyMachine
from tests.cluster.world import World, crashed, scored
from trainer.trial import CommitId, CrashKind, ExperimentId, TrialOutcome

MODELS = ("model", "other")
SEATS = (
    Seat(name="tuner"),
    *(Seat(name=name, batch=2, tasks=frozenset(TaskKind)) for name in MODELS),
    Seat(name="joiner", batch=1, tasks=frozenset({TaskKind.COMPOSE})),
)
SLIP = crashed(CrashKind.EXCEPTION, "NameError: name 'modle' is not defined")


class Office(World):
    """A world in which whoever is asked stays busy until a rule says what came of it."""

    def __init__(self) -> None:
        super().__init__(slots=3, max_staleness=3, proposers=SEATS)
        self.on_finish: Callable[[], None] = lambda: None

    def _answered(self, proposer: str) -> None:
        """Nobody's answer is taken for another's here: see `done`."""

    def done(self, proposer: str) -> str:
        """Let a proposer be free again; return which task it was at."""
        self.asking.pop(proposer, None)
        return self.asked_tasks.pop(proposer, "")

    def settle(self) -> None:
        super().settle()
        if self.state.finished:
            self.on_finish()

    def _propose(self, command: cmd.Propose) -> None:
        self.check_is_free(command.proposer)
        assert self.trouble(command.proposer) is None, "asked in the midst of trouble"
        super()._propose(command)

    def _asktask(self, command: cmd.AskTask) -> None:
        self.check_is_free(command.proposer)
        trouble = self.trouble(command.proposer)
        assert trouble is None or trouble.is_idle
        assert command.task in self.state.tasks
        assert command.task not in self.asked_tasks.values(), "two are at one task"
        found = tasks.subject(self.state, command.task)
        assert found is not None, "there is nothing to do any more"
        kind, experiment = found
        assert kind in self.plan.seat(command.proposer).tasks
        if kind is TaskKind.FIX:
            assert experiment.proposer == command.proposer, "somebody else's slip"
            assert experiment.fixes < self.plan.max_fixes
        super()._asktask(command)

    def trouble(self, proposer: str) -> Trouble | None:
        """Return the trouble that a proposer is in, unless the clock was put back before it."""
        found = self.state.troubled.get(proposer)
        return found if found and found.since <= self.now < found.until else None

    def check_is_free(self, proposer: str) -> None:
        assert proposer not in self.asking, "asked twice"
        assert proposer not in self.state.exhausted
        assert not limit_reached(self.state, self.plan, self.now)


@dataclass(frozen=True)
class Call:
    """One call of a model, as the machine remembers it."""

    id: CallId
    plan: CallPlan
    proposals: int = 0


class ProposersMachine(StudyMachine):
    """Any order of what proposers and people do, beside much of what trials do."""

    # No rules here: other machines do this, and proposers would seldom have their turn.
    accept = cancel = despair = lose = propose = propose_what_can_only_fail = retry = start = None
    stop_and_carry_on = None

    def __init__(self) -> None:
        super().__init__()
        self.world = Office()
        self.office.on_finish = self.carry_on
        self.folder = tempfile.TemporaryDirectory()
        self.limit = 1.0
        self.made: dict[str, Call] = {}
        """Calls on the way, by proposer."""
        self.replies: dict[str, Call] = {}
        """What came back, and of which nothing was made so far."""
        self.paid = 0.0
        self.names = 0
        self.open_the_book()

    @property
    def office(self) -> Office:
        assert isinstance(self.world, Office)
        return self.world

    @initialize(values=st.tuples(*[st.floats(0.5, 2.0)] * 3))
    def measure_the_baseline(self, values: tuple[float, ...]) -> None:
        super().measure_the_baseline(values)

    # --- lives -----------------------------------------------------------------------------------

    def open_the_book(self) -> None:
        """Begin the life of a controller, which settles what the last one left."""
        state = self.world.state
        self.world.plan = replace(self.world.plan, most_usd=self.limit)
        self.book = CallBook(
            self.world.ledger,
            epoch=state.epoch,
            clock=lambda: self.world.now,
            directory=Path(self.folder.name, "calls"),
            most_usd=self.limit,
            most_tokens=0,
            state=state,
        )
        self.read()

    def read(self) -> None:
        self.world.state = catch_up(self.world.ledger, self.world.state)

    @rule(really=st.sampled_from([True, False, False]))
    def restart_now_and_then(self, really: bool) -> None:
        if really or not self.world.asking:
            self.limit += bool(self.world.state.refused)
            self.restart()

    def restart(self) -> None:
        """Die and come back: calls on the way are lost, and replies are there again."""
        self.world.asking.clear()
        self.world.asked_tasks.clear()
        self.world.restart()
        self.open_the_book()
        self.paid += sum(call.plan.usd for call in self.made.values())
        self.made.clear()
        for name in MODELS:
            found = [(each.call, each.plan) for each in self.book.unused(name)]
            kept = self.replies.get(name)
            assert found == ([(kept.id, kept.plan)] if kept else []), "a reply was lost, or doubled"
            assert not self.book.unused(name), "a reply came twice"
        self.world.settle()

    def carry_on(self) -> None:
        """Somebody raises the limit that ended the study, or tries again."""
        self.limit += 1.0
        self.restart()

    # --- what models do --------------------------------------------------------------------------

    def waiting(self) -> list[str]:
        """Return the models that were asked and have made no call yet."""
        busy = set(self.made) | set(self.replies)
        return sorted(name for name in self.world.asking if name in MODELS and name not in busy)

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), usd=st.floats(0.1, 1.5))
    def call(self, data: st.DataObject, usd: float) -> None:
        self.begin_call(data, usd)

    @precondition(lambda self: self.waiting())
    @rule(
        data=st.data(), usd=st.floats(0.01, 0.5), shares=st.lists(st.floats(0.0, 1.0), max_size=3)
    )
    def call_and_make_experiments(
        self, data: st.DataObject, usd: float, shares: list[float]
    ) -> None:
        for share in shares:
            if self.waiting():
                self.begin_call(data, usd)
            if self.made:
                self.come_back(data, share, 2)
            if self.replies:
                self.make_experiments(data, share > 0.8, share < 0.1)
        wins = data.draw(st.booleans())
        self.world.merge_outcome = self.world.rebase_outcome = "conflict" if wins else "clean"
        self.run_all(scored(data.draw(st.floats(0.1, 0.4))) if wins else SLIP)

    def begin_call(self, data: st.DataObject, usd: float) -> None:
        name = data.draw(st.sampled_from(self.waiting()))
        task = self.world.asked_tasks.get(name, "")
        plan = CallPlan(
            proposer=name,
            model="m",
            purpose=task.partition("/")[0] or "propose",
            commit=CommitId("base"),
            incumbent=ExperimentId("e0"),
            usd=usd,
            tokens=100,
            task=task,
        )
        left = self.limit - self.paid - sum(call.plan.usd for call in self.made.values())
        try:
            made = Call(self.book.reserve(plan), plan)
        except OverLimit:
            assert usd > left - 1e-9
            self.office.done(name)
        else:
            assert usd <= left + 1e-9
            self.made[name] = made
        self.read()
        self.world.settle()

    @precondition(lambda self: self.made)
    @rule(data=st.data(), share=st.floats(0.0, 1.0), proposals=st.integers(0, 2))
    def come_back(self, data: st.DataObject, share: float, proposals: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.made)))
        call = replace(self.made.pop(name), proposals=proposals)
        usd = share * call.plan.usd
        self.paid += usd
        settlement = Settlement(
            usage=Usage(output=50), usd=usd, seconds=1.0, reply="{}", proposals=proposals
        )
        self.book.settle(call.id, settlement)
        self.read()
        if proposals:
            self.replies[name] = call
        else:
            self.fail(name, 5.0, is_idle=False)
        self.world.settle()

    @precondition(lambda self: self.replies)
    @rule(data=st.data(), refused=st.booleans(), is_held=st.booleans())
    def make_experiments(self, data: st.DataObject, refused: bool, is_held: bool) -> None:
        """Make experiments of a reply, all but the first where that is refused."""
        name = data.draw(st.sampled_from(sorted(self.replies)))
        call = self.replies.pop(name)
        task = call.plan.task if call.plan.task in self.world.state.tasks else ""
        for place in range(call.proposals):
            origin = f"{call.id}/{place}"
            if refused and not place:
                event = ev.ProposalRejected(
                    proposer=name, hypothesis="h", reason="twin", origin=origin, task=task
                )
                self.world.happen(f"{origin}/rejected", event)
            else:
                self.world.propose(proposer=name, origin=origin, task=task, is_held=is_held)
                task = ""
        self.world.happen(f"{call.id}/used", ev.AnswerUsed(calls=(call.id,)))
        self.office.done(name)
        self.world.settle()

    @precondition(lambda self: "tuner" in self.world.asking)
    @rule(is_held=st.booleans(), proposals=st.integers(1, 3))
    def the_tuner_answers(self, is_held: bool, proposals: int) -> None:
        for _ in range(proposals):
            self.world.propose(proposer="tuner", is_held=is_held)
        self.office.done("tuner")
        self.world.settle()

    # --- troubles --------------------------------------------------------------------------------

    def idle(self) -> list[str]:
        """Return who was asked, with no call on the way."""
        return sorted(set(self.world.asking) - set(self.made) - set(self.replies))

    def fail(self, name: str, seconds: float, *, is_idle: bool) -> None:
        self.office.done(name)
        self.names += 1
        until = self.world.now + timedelta(seconds=seconds)
        event = pe.ProposerFailed(proposer=name, reason="529", retry_at=until, is_idle=is_idle)
        self.world.happen(f"failed/{self.names}", event)

    @precondition(lambda self: self.idle())
    @rule(data=st.data(), seconds=st.floats(1.0, 15.0), is_idle=st.booleans())
    def be_troubled(self, data: st.DataObject, seconds: float, is_idle: bool) -> None:
        self.fail(data.draw(st.sampled_from(self.idle())), seconds, is_idle=is_idle)
        self.world.settle()

    @precondition(lambda self: set(self.idle()) & set(self.world.asked_tasks))
    @rule(data=st.data())
    def give_up_a_task(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(set(self.idle()) & set(self.world.asked_tasks))))
        task = self.office.done(name)
        self.names += 1
        event = ev.TaskClosed(task=task, proposer=name, reason="nothing came of it")
        self.world.happen(f"closed/{self.names}", event)
        self.world.settle()

    @precondition(lambda self: self.idle() and not self.world.state.exhausted)
    @rule(data=st.data())
    def end_until_the_next_start(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.idle()))
        self.office.done(name)
        self.names += 1
        event = ev.ProposerExhausted(proposer=name, reason="a wrong key")
        self.world.happen(f"over/{self.names}", event)
        self.world.settle()

    @precondition(lambda self: self.world.in_status(Status.QUEUED))
    @rule(
        data=st.data(),
        outcome=st.one_of(st.just(SLIP), st.floats(0.1, 1.0).map(scored)),
        merge=st.sampled_from(["clean", "conflict"]),
    )
    def run(self, data: st.DataObject, outcome: TrialOutcome, merge: str) -> None:
        """Run several side by side, so that winners conflict, and models slip."""
        self.world.merge_outcome = self.world.rebase_outcome = merge
        self.run_all(outcome)

    def run_all(self, outcome: TrialOutcome) -> None:
        waiting = self.world.in_status(Status.QUEUED)[:3]
        for slot, name in enumerate(waiting):
            self.begin(name, slot)
        self.world.settle()
        for name in waiting:
            if self.world.status(name) is Status.RUNNING:
                self.finish(name, outcome)
                self.world.settle()

    # --- people ----------------------------------------------------------------------------------

    @precondition(lambda self: self.world.in_status(Status.HELD) or self.requests < 3)
    @rule(data=st.data(), is_approved=st.booleans())
    def look_at(self, data: st.DataObject, is_approved: bool) -> None:
        """Approve or reject, be it held or not, or nothing that there is."""
        names = [*sorted(self.world.state.experiments), "e999"]
        name = ExperimentId(data.draw(st.sampled_from(names)))
        known = self.world.state.experiments.get(name)
        request = ev.ApproveRequested if is_approved else ev.RejectRequested
        self.request(request(experiment=name))
        if known is not None and known.status is not Status.HELD:
            assert self.world.state.experiments[name].story[: len(known.story)] == known.story
        elif known is not None:
            status = self.world.status(name)
            assert status is not Status.HELD
            assert is_approved or status is Status.REJECTED

    @precondition(lambda self: len(self.world.state.notes) < 3)
    @rule()
    def tell(self) -> None:
        before = self.world.state.notes
        self.request(ev.NoteGiven(text="the loader is fine"))
        assert self.world.state.notes == (*before, "the loader is fine")

    # --- what holds ------------------------------------------------------------------------------

    @invariant()
    def the_limit_holds_and_every_cent_is_counted_once(self) -> None:
        state = self.world.state
        spent = sum(account.usd for account in state.accounts.values())
        aside = sum(plan.usd for plan in state.reserved.values())
        assert abs(spent - self.paid) < 1e-6
        assert spent + aside <= self.limit + 1e-6

    @invariant()
    def every_reply_is_open_until_all_is_made_of_it(self) -> None:
        assert dict(self.world.state.replies) == {c.id: c.plan for c in self.replies.values()}
        assert dict(self.world.state.reserved) == {c.id: c.plan for c in self.made.values()}

    @invariant()
    def nothing_is_mended_for_ever(self) -> None:
        most = self.world.plan.max_fixes
        assert all(e.fixes <= most for e in self.world.state.experiments.values())

    def teardown(self) -> None:
        self.office.on_finish = lambda: None
        for name in self.world.in_status(Status.HELD):
            self.request(ev.RejectRequested(experiment=name))
        super().teardown()
        self.folder.cleanup()


def test_no_order_of_calls_troubles_deaths_and_wishes_breaks_a_study() -> None:
    run_state_machine_as_test(
        ProposersMachine,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
