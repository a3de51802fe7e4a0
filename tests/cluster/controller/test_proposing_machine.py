"""Whole studies with proposers in any order of calls, answers, troubles, deaths and people's say.

The controller and its book of calls are real (see tests.cluster.office). What should be is told by
what the machine did and by the events, never by the state that is looked at.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cluster.policy import tasks
from cluster.policy.proposal_planning import FIRST_WAIT_S, MOST_WAIT_S, limit_reached, room
from cluster.policy.study_plan import Seat
from cluster.state import events as ev
from cluster.state.experiment import Kind, Status
from proposer.proposal import (
    Context,
    Proposal,
    ProposerDone,
    ProposerTroubled,
    TaskGivenUp,
    TaskKind,
)
from proposer.purse import CallId, CallPlan, OverLimit, Settlement, Usage
from tests.cluster.office import Killed, Office, Say
from tests.cluster.policy.test_study_machine import StudyMachine
from tests.cluster.world import crashed, scored
from trainer.trial import CrashKind, ExperimentId, TrialOutcome

MODELS = ("model", "other")
SEATS = (
    Seat(name="tuner", reads_patches=False),
    *(Seat(name=n, batch=2, tasks=frozenset(TaskKind), reads_patches=False) for n in MODELS),
    Seat(name="joiner", batch=1, tasks=frozenset({TaskKind.COMPOSE}), reads_patches=False),
)
SLIP = crashed(CrashKind.EXCEPTION, "NameError: name 'modle' is not defined")
FAULTS = st.lists(
    st.sampled_from(["", "", "", "away", "away after", "die before", "die after"]), max_size=3
)
EXPERIMENTS = 5
UNDECIDED = {Status.HELD, Status.PROPOSED, Status.QUEUED, Status.RUNNING, Status.MEASURED}


@dataclass(frozen=True)
class Call:
    """One call of a model, as the machine remembers it."""

    id: CallId
    plan: CallPlan
    texts: tuple[str, ...] = ()
    """What its reply proposes."""

    def proposals(self, _: Context) -> Sequence[Proposal]:
        return [
            Proposal(edits={"train.py": text}, hypothesis="h", origin=f"{self.id}/{place}")
            for place, text in enumerate(self.texts)
        ]


def failing(error: Exception) -> Say:
    def say(_: Context) -> Sequence[Proposal]:
        raise error

    return say


class ProposersMachine(StudyMachine):
    """Any order of what proposers and people do, beside much of what trials do."""

    # No rules here: other machines do this, and proposers would seldom have their turn.
    accept = cancel = despair = lose = propose = propose_what_can_only_fail = retry = start = None
    end = None

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = Office(*SEATS, folder=Path(self.folder.name), usd=2.0, experiments=EXPERIMENTS)
        self.made: dict[str, Call] = {}
        """Calls on the way, by proposer."""
        self.replies: dict[str, Call] = {}
        """What came back, and of which nothing was made so far."""
        self.from_before: set[str] = set()
        """Whose reply is of an earlier life."""
        self.with_older: set[str] = set()
        """Whose reply is not the oldest: the controller asks for one of a task that is done."""
        self.let_go: set[CallId] = set()
        """Replies to a task that was done otherwise meanwhile."""
        self.known: set[CallId] = set()
        self.paid = 0.0
        self.held: set[ExperimentId] = set()
        self.seen = 0
        self.names = 0

    @property
    def office(self) -> Office:
        assert isinstance(self.world, Office)
        return self.world

    @initialize(values=st.tuples(*[st.floats(0.5, 2.0)] * 3))
    def measure_the_baseline(self, values: tuple[float, ...]) -> None:
        super().measure_the_baseline(values)

    # --- lives -----------------------------------------------------------------------------------

    @contextmanager
    def life(self, faults: Sequence[str] = ()) -> Iterator[None]:
        """Have the controller's next appends fail; it may die of it, or end the study."""
        self.office.ledger.faults.extend(faults)
        try:
            yield
            self.world.settle()
        except Killed:
            self.restart()
        self.office.ledger.faults.clear()
        self.look()
        while self.world.state.finished:
            self.office.usd += 1.0
            most = self.world.plan.most_experiments + EXPERIMENTS
            self.world.plan = replace(self.world.plan, most_experiments=most)
            self.restart()

    @rule(really=st.sampled_from([True, False, False]), approve=st.booleans(), faults=FAULTS)
    def restart_now_and_then(self, really: bool, approve: bool, faults: list[str]) -> None:
        if really:
            with self.life():
                self.restart(faults, approve=approve)

    def restart(self, faults: Sequence[str] = (), *, approve: bool | None = None) -> None:
        """Die and come back: calls on the way are lost, and replies are there again."""
        self.office.read()
        self.look()
        self.office.approve = self.office.approve if approve is None else approve
        self.office.ledger.faults.clear()
        self.office.ledger.faults.extend(faults)
        self.office.restart()
        self.office.ledger.faults.clear()
        self.paid += sum(call.plan.usd for call in self.made.values())
        self.made.clear()
        for event in self.office.story:
            if isinstance(event, ev.CallReserved) and event.call not in self.known:
                self.known.add(event.call)  # it died in that moment
                self.paid += event.plan.usd
        self.from_before, self.with_older = set(self.replies), set()
        self.find_replies()
        self.world.settle()
        self.look()

    def find_replies(self) -> None:
        """Look whether what was paid for before is handed out, once, to whom it belongs."""
        for name in MODELS:
            found = {each.call: each.plan for each in self.office.book.unused(name)}
            left = {call: plan for call, plan in found.items() if call not in self.let_go}
            kept = self.replies.get(name)
            assert left == ({kept.id: kept.plan} if kept else {}), "lost, or doubled"
            assert not self.office.book.unused(name), "a reply came twice"
            if left != found:
                self.with_older.add(name)

    def look(self) -> None:
        """Note what is new: candidates that need somebody's approval, and replies made use of."""
        story = self.office.story
        for event in story[self.seen :]:
            if isinstance(event, ev.ExperimentProposed) and event.kind is Kind.PROPOSAL:
                self.held |= {event.experiment} if self.office.plan.approve else set()
        self.seen = len(story)
        used = {call for event in story if isinstance(event, ev.AnswerUsed) for call in event.calls}
        for name, call in [*self.replies.items()]:
            if call.id in used:
                del self.replies[name]
                parts = self.office.parts()
                made = [parts[f"{call.id}/{place}"] for place in range(len(call.texts))]
                has_room = self.office.room_at_answer >= len(made)
                assert set(made) <= ({1} if has_room else {0, 1}), "dropped, or doubled"
        self.let_go -= used

    # --- what models do --------------------------------------------------------------------------

    def waiting(self) -> list[str]:
        """Return the models that were asked, and of which there is no call."""
        return sorted(n for n in self.office.asked_for if n in MODELS and n not in self.busy())

    def busy(self) -> set[str]:
        return set(self.made) | set(self.replies)

    def ready(self) -> list[str]:
        """Return the models that were asked and have a reply, of this life or before."""
        return sorted(name for name in self.replies if name in self.office.asked_for)

    @precondition(lambda self: self.waiting())
    @rule(usd=st.lists(st.floats(0.1, 1.5), min_size=2, max_size=2), faults=FAULTS)
    def call(self, usd: Sequence[float], faults: Sequence[str] = ()) -> None:
        """Have all who were asked call their models, one after the other."""
        for name, most in zip(self.waiting(), usd, strict=False):
            if name in self.waiting():
                with self.life(faults):
                    self.pay(name, most)

    @precondition(lambda self: self.waiting())
    @rule(
        data=st.data(),
        usd=st.floats(0.01, 0.5),
        shares=st.lists(st.floats(0.0, 1.0), max_size=3),
        faults=FAULTS,
    )
    def call_and_make_experiments(
        self, data: st.DataObject, usd: float, shares: list[float], faults: list[str]
    ) -> None:
        for share in shares:
            if self.waiting():
                self.call([usd, usd])
            if self.made:
                self.come_back(data, share, 2, share < 0.1, faults[:1])
            if self.ready():
                self.make_experiments(data, faults[1:])
        wins = data.draw(st.booleans())
        self.world.merge_outcome = self.world.rebase_outcome = "conflict" if wins else "clean"
        self.run_all(scored(data.draw(st.floats(0.1, 0.4))) if wins else SLIP)

    def pay(self, name: str, usd: float) -> None:
        shown = self.office.question(name)
        assert shown.commit == self.office.tips[name], "asked on another base"
        plan = CallPlan(
            proposer=name,
            model="m",
            purpose=shown.task.kind if shown.task else "propose",
            commit=shown.commit,
            incumbent=shown.incumbent,
            usd=usd,
            tokens=100,
            task=shown.task.key if shown.task else "",
        )
        left = self.office.usd - self.paid - sum(call.plan.usd for call in self.made.values())
        try:
            call = self.office.book.reserve(plan)
        except OverLimit as error:
            assert usd > left - 1e-9
            assert ev.CallRefused(proposer=name, usd=usd, tokens=100) in self.office.story
            self.office.answer(name, failing(error))
        else:
            assert usd <= left + 1e-9
            assert ev.CallReserved(call=call, plan=plan) in self.office.story, "not on record"
            assert call not in self.known, "the number was given twice"
            self.known.add(call)
            self.made[name] = Call(call, plan)

    @precondition(lambda self: self.made)
    @rule(
        data=st.data(),
        share=st.floats(0.0, 1.0),
        proposals=st.integers(0, 2),
        is_twin=st.booleans(),
        faults=FAULTS,
    )
    def come_back(
        self,
        data: st.DataObject,
        share: float,
        proposals: int,
        is_twin: bool,
        faults: Sequence[str] = (),
    ) -> None:
        """Settle a call; its first proposal may repeat what was proposed before."""
        name = data.draw(st.sampled_from(sorted(self.made)))
        self.end_call(name, share, proposals, is_twin, faults)

    def end_call(
        self, name: str, share: float, proposals: int, is_twin: bool, faults: Sequence[str] = ()
    ) -> None:
        call = self.made.pop(name)
        count = min(proposals, 1) if call.plan.task else proposals
        texts = [f"X = '{call.id}/{place}'" for place in range(count)]
        call = replace(call, texts=tuple(["X = 'twin'"] * is_twin + texts)[:count])
        settlement = Settlement(
            usage=Usage(output=50),
            usd=share * call.plan.usd,
            seconds=1.0,
            reply="{}",
            proposals=count,
        )
        self.paid += settlement.usd
        if count:
            self.replies[name] = call
        with self.life(faults):
            self.office.book.settle(call.id, settlement)
            self.office.read()
            if not count:
                self.fail(name, 5.0, is_idle=False)

    @precondition(lambda self: self.ready())
    @rule(data=st.data(), faults=FAULTS)
    def make_experiments(self, data: st.DataObject, faults: Sequence[str] = ()) -> None:
        name = data.draw(st.sampled_from(self.ready()))
        with self.life(faults):
            if self.fetch(name):
                self.office.answer(name, self.replies[name].proposals)

    def fetch(self, name: str) -> bool:
        """Look whether a reply, of an earlier life maybe, fits what its proposer was asked."""
        call, shown = self.replies[name], self.office.question(name)
        if name in self.from_before:
            self.from_before.discard(name)
            task = call.plan.task
            is_done = task in self.office.answered_tasks() or not self.is_open(task)
            if name in self.with_older or (task and is_done):
                self.let_go.add(call.id)
                del self.replies[name]
                return False
        task = shown.task.key if shown.task else ""
        assert task == call.plan.task, "an answer to another question"
        assert shown.commit == call.plan.commit, "an answer on another base"
        assert shown.incumbent == call.plan.incumbent, "an answer on another base"
        return True

    def is_open(self, task: str) -> bool:
        return tasks.subject(self.world.state, task) is not None

    @precondition(lambda self: self.unpaid())
    @rule(data=st.data(), proposals=st.integers(1, 3), faults=FAULTS)
    def answer_without_a_call(
        self, data: st.DataObject, proposals: int, faults: Sequence[str]
    ) -> None:
        name = data.draw(st.sampled_from(self.unpaid()))
        self.names += 1
        texts = [f"X = '{name}/{self.names}/{place}'" for place in range(proposals)]
        found = [Proposal(edits={"train.py": text}, hypothesis="h") for text in texts]
        with self.life(faults):
            self.office.answer(name, lambda _: found[: 1 if name == "joiner" else proposals])

    def unpaid(self) -> list[str]:
        return sorted(name for name in self.office.asked_for if name not in MODELS)

    @rule(by_s=st.sampled_from([5.0, 3600.0, 3 * 86400.0]), back=st.booleans())
    def the_clock_is_set(self, by_s: float, back: bool) -> None:
        with self.life():
            super().the_clock_is_set(by_s, back)

    # --- troubles --------------------------------------------------------------------------------

    def idle(self) -> list[str]:
        """Return who was asked, and is not at a call."""
        return sorted(set(self.office.asked_for) - self.busy())

    def fail(self, name: str, seconds: float, *, is_idle: bool) -> None:
        before = len(self.office.failures(name))
        error = ProposerTroubled("529", retry_after_s=seconds, is_idle=is_idle)
        begun = self.world.now
        self.office.answer(name, failing(error))
        waits_s = max(seconds, min(MOST_WAIT_S, FIRST_WAIT_S * 2**before))
        said = self.office.failures(name)[before]
        assert said.is_idle == is_idle
        assert said.retry_at == begun + timedelta(seconds=waits_s)

    @precondition(lambda self: self.idle())
    @rule(data=st.data(), seconds=st.floats(1.0, 40.0), is_idle=st.booleans(), faults=FAULTS)
    def be_troubled(
        self, data: st.DataObject, seconds: float, is_idle: bool, faults: list[str]
    ) -> None:
        name = data.draw(st.sampled_from(self.idle()))
        with self.life(faults):
            self.fail(name, seconds, is_idle=is_idle)

    def candidates(self) -> list[ExperimentId]:
        """Return what slots could take, or could once somebody approves."""
        ahead = self.world.in_status(Status.HELD, Status.PROPOSED, Status.QUEUED)
        return [e for e in ahead if self.world.state.experiments[e].kind is Kind.PROPOSAL]

    @precondition(lambda self: not self.candidates())
    @rule()
    def wait_until_all_is_well(self) -> None:
        """Nobody is left alone for ever: whoever has brought least is asked again."""
        gone = self.office.ended() | set(self.office.asked_for)
        names = {seat.name for seat in SEATS} - gone
        brought = Counter(
            event.proposer
            for event in self.office.story
            if isinstance(event, ev.ExperimentProposed | ev.ProposalRejected)
        )
        self.world.now += timedelta(seconds=MOST_WAIT_S + 1)
        with self.life():
            self.world.settle()
            state, plan = self.world.state, self.world.plan
            may_ask = not limit_reached(state, plan, self.world.now)
            if (
                names
                and may_ask
                and room(state, plan) > self.office.asked
                and not self.candidates()
            ):
                least = min(brought[name] for name in names)
                asked = {name for name in names if name in self.office.asked_for}
                assert least in {brought[name] for name in asked}, "nobody asks it again"

    @precondition(lambda self: any(self.office.asked_for[name] for name in self.idle()))
    @rule(data=st.data(), says_why=st.booleans(), faults=FAULTS)
    def give_up_a_task(self, data: st.DataObject, says_why: bool, faults: list[str]) -> None:
        able = [name for name in self.idle() if self.office.asked_for[name]]
        name = data.draw(st.sampled_from(able))
        task = self.office.asked_for[name]
        with self.life(faults):
            self.office.answer(name, failing(TaskGivenUp("no")) if says_why else lambda _: ())
            assert task not in self.world.state.tasks

    @precondition(lambda self: self.idle() and not self.world.state.exhausted)
    @rule(data=st.data(), really=st.sampled_from([False, False, True]))
    def end_until_the_next_start(self, data: st.DataObject, really: bool) -> None:
        name = data.draw(st.sampled_from(self.idle()))
        if not really:
            return
        with self.life():
            self.office.answer(name, failing(ProposerDone("a wrong key")))
            assert name in self.office.ended()

    @precondition(lambda self: self.ready())
    @rule(data=st.data(), now=st.booleans())
    def stop_and_carry_on(self, data: st.DataObject, now: bool) -> None:
        """An answer that comes after a stop is kept for the next life."""
        name = data.draw(st.sampled_from(self.ready()))
        with self.life():
            if self.fetch(name):
                self.request(ev.StopRequested(now=now))
                known = set(self.world.state.experiments)
                self.office.answer(name, self.replies[name].proposals)
                assert set(self.world.state.experiments) == known
            self.restart()

    @precondition(lambda self: self.world.in_status(Status.QUEUED))
    @rule(
        outcome=st.one_of(st.just(SLIP), st.floats(0.1, 1.0).map(scored)),
        merge=st.sampled_from(["clean", "conflict"]),
    )
    def run(self, outcome: TrialOutcome, merge: str) -> None:
        """Run several side by side, so that winners conflict, and models slip."""
        self.world.merge_outcome = self.world.rebase_outcome = merge
        self.run_all(outcome)

    @precondition(lambda self: self.world.in_status(Status.QUEUED))
    @rule(wins=st.lists(st.booleans(), min_size=1, max_size=4))
    def make_tasks(self, wins: list[bool]) -> None:
        """Have all fail for slips, or win and conflict, and all who can mend that free for it."""
        for is_win in wins:
            for name in set(self.idle()) - {"tuner"}:
                with self.life():
                    self.fail(name, 1.0, is_idle=True)
            self.world.merge_outcome = self.world.rebase_outcome = "conflict"
            incumbent = self.world.state.incumbent
            assert incumbent is not None
            self.run_all(scored(incumbent.worth / 2) if is_win else SLIP)
            for name in self.waiting():
                if self.office.asked_for.get(name) and name not in self.busy():
                    with self.life():
                        self.pay(name, 0.01)
                if name in self.made:
                    self.end_call(name, 1.0, 1, is_twin=False)
                if name in self.ready():
                    with self.life():
                        self.office.answer(name, self.replies[name].proposals)

    def run_all(self, outcome: TrialOutcome) -> None:
        with self.life():
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
        all_there_are = self.world.state.experiments
        turned_down = [e for e in sorted(all_there_are) if self.world.status(e) is Status.REJECTED]
        likely = [*self.world.in_status(Status.HELD), *turned_down]
        name = data.draw(st.sampled_from(likely or [*sorted(all_there_are), ExperimentId("e999")]))
        known = self.world.state.experiments.get(name)
        request = ev.ApproveRequested if is_approved else ev.RejectRequested
        with self.life():
            self.request(request(experiment=name))
            if known is not None and known.status is not Status.HELD:
                story = self.world.state.experiments[name].story
                assert story[: len(known.story)] == known.story
                assert {"ApproveRequested", "RejectRequested"}.isdisjoint(
                    event for _, event in story[len(known.story) :]
                )
            elif known is not None:
                status = self.world.status(name)
                assert status is not Status.HELD
                assert is_approved or status is Status.REJECTED
                if not is_approved:
                    self.request(ev.ApproveRequested(experiment=name))  # too late
                    assert self.world.status(name) is Status.REJECTED

    @precondition(lambda self: len(self.world.state.notes) < 3)
    @rule()
    def tell(self) -> None:
        before = self.world.state.notes
        with self.life():
            self.request(ev.NoteGiven(text="the loader is fine"))
            assert self.world.state.notes == (*before, "the loader is fine")

    # --- what holds ------------------------------------------------------------------------------

    @invariant()
    def the_limit_holds_and_every_cent_is_counted_once(self) -> None:
        state = self.world.state
        spent = sum(account.usd for account in state.accounts.values())
        aside = sum(plan.usd for plan in state.reserved.values())
        assert abs(spent - self.paid) < 1e-6
        assert spent + aside <= self.office.usd + 1e-6

    @invariant()
    def every_reply_is_open_until_all_is_made_of_it(self) -> None:
        state = self.world.state
        assert set(state.replies) == {call.id for call in self.replies.values()} | self.let_go
        assert dict(state.reserved) == {call.id: call.plan for call in self.made.values()}

    @invariant()
    def nothing_is_mended_for_ever(self) -> None:
        for name, experiment in self.world.state.experiments.items():
            assert experiment.fixes == self.office.fixes(name)
            assert experiment.fixes <= self.world.plan.max_fixes

    @invariant()
    def two_are_never_at_one_task(self) -> None:
        at = [task for task in self.office.asked_for.values() if task]
        assert len(set(at)) == len(at)

    @invariant()
    def no_more_is_tried_than_was_allowed(self) -> None:
        state = self.world.state
        undecided = [e for e, status in state.open.items() if status in UNDECIDED]
        undecided = [e for e in undecided if state.experiments[e].kind is Kind.PROPOSAL]
        most = self.world.plan.most_experiments
        assert state.judged + len(undecided) <= most
        assert state.judged < most or state.open or self.office.asked_for, "it does not end"

    @invariant()
    def nothing_runs_that_nobody_approved_of(self) -> None:
        for name in self.held:
            experiment = self.world.state.experiments[name]
            assert self.office.is_approved(name) or not experiment.trials, name

    @invariant()
    def trouble_is_counted_until_something_comes(self) -> None:
        troubled = self.world.state.troubled
        for seat in SEATS:
            trouble = troubled.get(seat.name)
            assert (trouble.in_a_row if trouble else 0) == len(self.office.failures(seat.name))

    @invariant()
    def what_is_made_of_an_answer_is_made_once(self) -> None:
        assert set(self.office.parts().values()) <= {1}

    def teardown(self) -> None:
        for name in self.world.in_status(Status.HELD):
            self.request(ev.RejectRequested(experiment=name))
        super().teardown()
        self.folder.cleanup()


def test_no_order_of_calls_troubles_deaths_and_wishes_breaks_a_study(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cluster.ledger.call_book._PAUSE_S", 0.0)
    run_state_machine_as_test(
        ProposersMachine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
