"""A controller that dies while it records an answer that was paid for, and the next one."""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.controller.controller import Controller
from cluster.controller.proposer_desk import Answer
from cluster.ledger.call_book import CallBook
from cluster.ledger.ledger import load
from cluster.state import events as ev
from proposer.proposal import Context, Proposal, Task, TaskKind
from proposer.purse import CallPlan, Purse, Settlement, Usage
from tests.cluster.bench import Bench, ThreadFleet, bench, edited, now
from trainer.trial import CommitId, ExperimentId

__all__ = ["bench"]  # a fixture
IDEAS = [edited(A=2), edited(A=2), edited(B=2)]  # the second repeats the first


class Killed(BaseException):
    """The controller is gone, as by kill -9."""


class Payer:
    """Has one answer in its life: what was paid for before, or else what it pays for itself."""

    name = "payer"
    tasks = frozenset(TaskKind)
    advice = ""

    def __init__(self, purse: Purse) -> None:
        self._purse = purse
        self.seen: list[CommitId] = []
        self.tasks_seen: list[str] = []

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:
        self.seen.append(context.commit)
        self.tasks_seen.append(context.task.key if context.task else "")
        if len(self.seen) > 1:
            return []
        replies = [
            (found.call, found.reply)
            for found in self._purse.unused(self.name)
            if found.plan.commit == context.commit
        ]
        return [proposal for reply in replies or [self._pay(context)] for proposal in made(*reply)]

    def _pay(self, context: Context) -> tuple[str, str]:
        plan = plan_on(context.commit, context.incumbent)
        call, reply = self._purse.reserve(plan), json.dumps(IDEAS)
        usage = Usage(input=10, output=5)
        self._purse.settle(
            call,
            Settlement(usage=usage, usd=0.1, seconds=1.0, reply=reply, proposals=len(IDEAS)),
        )
        return call, reply


def plan_on(commit: CommitId, incumbent: ExperimentId) -> CallPlan:
    return CallPlan(
        proposer="payer",
        model="m",
        purpose="propose",
        commit=commit,
        incumbent=incumbent,
        usd=0.5,
        tokens=100,
    )


def made(call: str, reply: str) -> list[Proposal]:
    return [
        Proposal(edits={"train.py": text}, hypothesis=f"idea {place}", origin=f"{call}/{place}")
        for place, text in enumerate(json.loads(reply))
    ]


def life(bench: Bench, folder: Path) -> tuple[Controller, Payer]:
    """Begin a controller without slots: only proposals are made of anything."""
    payer = Payer(purse=None)  # type: ignore[arg-type]
    controller = bench.controller(lambda b: ThreadFleet(b, 0), payer)  # type: ignore[arg-type]
    book = CallBook(
        bench.ledger,
        epoch=controller.state.epoch,
        clock=now,
        directory=folder / "calls",
        most_usd=0.0,
        most_tokens=0,
        state=load(bench.ledger),
    )
    payer._purse = book
    parts = controller._parts
    hungry = replace(parts, plan=replace(parts.plan, slots=8))  # all ideas do not fill the queue
    return Controller(hungry, load(bench.ledger)), payer


def work(controller: Controller) -> None:
    """Let it work until its proposer has nothing more to say."""
    controller._desk.start(controller.state)
    try:
        for _ in range(500):
            controller.step()
            if controller.state.exhausted:
                return
            threading.Event().wait(0.01)
        raise AssertionError("the proposer was not asked to the end")
    finally:
        controller._desk.stop()


def mortal(
    append: Callable[..., int], deadly: Callable[[ev.Event], bool], *, after: bool
) -> Callable[..., int]:
    def act(drafts: Sequence[ev.Draft], *, epoch: int | None = None) -> int:
        is_last = any(deadly(draft.event) for draft in drafts)
        if is_last and not after:
            raise Killed
        seq = append(drafts, epoch=epoch)
        if is_last:
            raise Killed
        return seq

    return act


def is_part(place: int) -> Callable[[ev.Event], bool]:
    return lambda event: getattr(event, "origin", "") == f"c1/{place}"


DEATHS = {
    "the first": is_part(0),
    "the refusal": is_part(1),
    "the last": is_part(2),
    "all is used": lambda event: isinstance(event, ev.AnswerUsed),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("death", sorted(DEATHS))
def test_an_answer_that_was_paid_for_is_made_use_of_once_whenever_the_controller_dies(
    bench: Bench, tmp_path: Path, death: str, after: bool
) -> None:
    controller, _ = life(bench, tmp_path)
    ledger = controller._parts.ledger
    ledger.append = mortal(ledger.append, DEATHS[death], after=after)  # type: ignore[method-assign]
    with pytest.raises(Killed):
        work(controller)
    if death != "all is used" or not after:
        second, _ = life(bench, tmp_path)
        work(second)
    parts = [
        (event.origin, type(event).__name__)
        for recorded in bench.ledger.read(0)
        if (event := recorded.event) and getattr(event, "origin", "")
    ]
    assert [part for part in parts if part[0].startswith("c1/")] == [
        ("c1/0", "ExperimentProposed"),
        ("c1/1", "ProposalRejected"),
        ("c1/2", "ExperimentProposed"),
    ]
    state = load(bench.ledger)
    assert not state.replies
    assert (state.calls, state.accounts["payer"].usd) == (1, 0.1)


def test_a_reply_from_before_the_incumbent_moved_is_used_on_what_it_was_written_for(
    bench: Bench, tmp_path: Path
) -> None:
    older = bench.repository.commit_edits(
        base=bench.base,
        edits={"train.py": edited(B=3)},
        editable=["train.py"],
        message="older",
        author="a",
    ).commit
    first, payer = life(bench, tmp_path)
    call = payer._purse.reserve(plan_on(older, ExperimentId("e0")))
    settled = Settlement(
        usage=Usage(output=5), usd=0.1, seconds=1.0, reply=json.dumps([edited(A=7)]), proposals=1
    )
    payer._purse.settle(call, settled)
    del first
    second, resumed = life(bench, tmp_path)
    work(second)
    assert resumed.seen == [older, bench.base]  # and then on what is the best now
    (experiment,) = [e for e in load(bench.ledger).experiments.values() if e.origin]
    assert (experiment.origin, experiment.base_commit) == (f"{call}/0", older)


def test_a_reply_to_a_task_is_made_use_of_as_that_task_and_on_what_it_was_written_for(
    bench: Bench, tmp_path: Path
) -> None:
    first, payer = life(bench, tmp_path)
    first.step()
    parts, state = first._parts, load(bench.ledger)
    files = parts.performer.files_at(bench.base)
    shown = parts.contexts.context(state, parts.plan, commit=bench.base, files=files, now=now())
    slip = Proposal(edits={"train.py": edited(A=4)}, hypothesis="a slip")
    parts.performer.propose(state, "payer", slip, shown)
    crashed = ExperimentId("e1")
    parts.performer.record("slip", ev.ExperimentRejected(experiment=crashed, reason="undefined"))
    plan = replace(plan_on(bench.base, ExperimentId("e0")), purpose="fix", task="fix/e1")
    call, reply = payer._purse.reserve(plan), json.dumps([edited(A=7)])
    settled = Settlement(usage=Usage(output=5), usd=0.1, seconds=1.0, reply=reply, proposals=1)
    payer._purse.settle(call, settled)
    second, resumed = life(bench, tmp_path)
    work(second)
    assert resumed.tasks_seen[0] == "fix/e1"
    (fix,) = [e for e in load(bench.ledger).experiments.values() if e.origin]
    assert (fix.origin, fix.task) == (f"{call}/0", "fix/e1")


def test_a_proposer_whose_key_is_wrong_ends_with_a_task_too_and_the_task_waits(
    bench: Bench, tmp_path: Path
) -> None:
    controller, payer = life(bench, tmp_path)
    controller.step()
    context = controller._parts.contexts.context(
        controller.state, controller._parts.plan, commit=bench.base, files={}, now=now()
    )
    task = Task(
        kind=TaskKind.FIX, experiment=ExperimentId("e1"), hypothesis="h", problem="p", files={}
    )
    controller._accept(
        Answer(
            proposer=payer.name,
            context=replace(context, task=task),
            problem="HTTP 401",
            is_done=True,
        )
    )
    assert controller.state.exhausted["payer"] == "HTTP 401"
    assert not any(isinstance(r.event, ev.TaskClosed) for r in bench.ledger.read(0))
