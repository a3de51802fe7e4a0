"""The controller over a real server and real git; the slots are threads that compute scores."""

import re
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cluster import events as ev
from cluster.context_book import ContextBook
from cluster.controller import Controller, Parts
from cluster.curve_book import CurveBook
from cluster.experiment import Status
from cluster.invariants import check
from cluster.ledger import Fenced, load
from cluster.mirror import Mirror
from cluster.node_state import NodeStatus
from cluster.optuna_pruners import pruning_rule
from cluster.performer import Performer
from cluster.ports import FleetProblem
from cluster.progress import ProgressStore
from cluster.queue_mode import QueueMode
from cluster.redis_ledger import RedisLedger
from cluster.redis_queue import RedisTrialQueue
from cluster.redis_store import RedisStore, connect
from cluster.state import StudyState
from cluster.study_plan import StudyPlan, seats
from cluster.study_repository import StudyRepository
from eval.config import PrunerConfig
from eval.judge import GreedyJudge
from eval.metric import Goal, Metric
from eval.seeds import SeedHabit
from proposer.proposal import Context, Proposal, TaskKind
from trainer.ports import Heartbeat, Lease, Progress, Slot
from trainer.preflight import Preflight
from trainer.trial import CommitId, CrashKind, Ending, ExperimentId, SlotId, TrialOutcome

METRIC = Metric(name="loss", goal=Goal.MINIMIZE, pattern=r"^loss: (\S+)")
START = "A = 1\n\n\n# between\n\n\nB = 1\n"


def loss_of(text: str) -> TrialOutcome:
    """A is best at 3 and B at 5; a file without them crashes."""
    found = dict(re.findall(r"^(A|B) = (\d+)$", text, re.MULTILINE))
    if set(found) != {"A", "B"}:
        return TrialOutcome(ending=Ending.CRASHED, crash=CrashKind.EXCEPTION, reason="NameError")
    return TrialOutcome(
        ending=Ending.SCORED, value=float(abs(int(found["A"]) - 3) + abs(int(found["B"]) - 5))
    )


class ThreadFleet:
    """Slots as threads: each leases, scores the file of the leased commit, and completes."""

    def __init__(
        self, bench: "Bench", slots: int, *, together: int = 1, classes: Sequence[str] = ("cpu",)
    ) -> None:
        self._bench = bench
        self._classes = classes
        self._barrier = threading.Barrier(together) if together > 1 else None
        self._threads = [
            threading.Thread(target=self._serve, args=(number,), daemon=True)
            for number in range(slots)
        ]
        self.problems: list[FleetProblem] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def check(self) -> Sequence[FleetProblem]:
        found, self.problems = self.problems, []
        return found

    def shutdown(self) -> None:
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=10)

    def detach(self) -> None:
        """Nothing: the threads end with the queue's mode."""

    def node(self, _number: int) -> str:
        return "here"

    def hold(self, lease: Lease) -> None:
        """Delay a result, where a test needs an order."""

    def _serve(self, number: int) -> None:
        queue = RedisTrialQueue(self._bench.store())
        kind = self._classes[number % len(self._classes)]
        slot = Slot(
            id=SlotId(f"cpu-{number}"),
            incarnation=uuid.uuid4().hex,
            node=self.node(number),
            device="cpu",
            device_class=kind,
        )
        queue.greet(slot, now=now())
        while queue.mode() is not QueueMode.DRAINING:
            lease = queue.lease(slot, now=now(), ttl_s=30) if queue.mode() == "open" else None
            if lease is None:
                threading.Event().wait(0.005)
                continue
            if self._barrier is not None and lease.spec.experiment != "e0":
                self._barrier.wait(timeout=30)
                self._barrier = None
            self.hold(lease)
            outcome = replace(self.outcome(lease, slot), device_class=kind)
            queue.complete(lease.token, outcome, now=now())

    def outcome(self, lease: Lease, slot: Slot) -> TrialOutcome:
        text = self._bench.repository.git.text("show", f"{lease.spec.commit}:train.py")
        return loss_of(text)


def now() -> datetime:
    return datetime.now(UTC)


class Script:
    """A proposer that says what it was told to, one list of files an answer."""

    name = "script"
    tasks: frozenset[TaskKind] = frozenset()
    advice = ""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.contexts: list[Context] = []

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:
        self.contexts.append(context)
        texts = self._answers.pop(0) if self._answers else []
        return [
            Proposal(edits={"train.py": text}, hypothesis=" ".join(text.split()))
            for text in texts[:count]
        ]


@dataclass
class Bench:
    """One study: a user's repository, the study's own, and keys in the server."""

    url: str
    study: str
    user: Path
    repository: StudyRepository
    base: CommitId
    notices: list[str] = field(default_factory=list)
    clients: list[RedisStore] = field(default_factory=list)

    def store(self) -> RedisStore:
        made = RedisStore(connect(self.url), self.study)
        self.clients.append(made)
        return made

    @property
    def ledger(self) -> RedisLedger:
        return RedisLedger(self.store())

    def controller(
        self,
        fleet: Callable[["Bench"], ThreadFleet],
        *proposers: Script,
        experiments: int = 0,
        preflight: Preflight | None = None,
        pruner: PrunerConfig | None = None,
        **plan: Any,
    ) -> Controller:
        ledger = self.ledger
        epoch = ledger.begin_epoch()
        started = ev.ControllerStarted(epoch=epoch, pid=1, node="here")
        ledger.append([ev.Draft(id=f"controller/{epoch}", at=now(), event=started)])
        queue = RedisTrialQueue(self.store())
        performer = Performer(
            ledger=ledger,
            queue=queue,
            repository=self.repository,
            source=self.user,
            editable=("train.py",),
            metric=METRIC,
            budget_s=1,
            timeout_s=2,
            epoch=epoch,
            clock=now,
            preflight=preflight,
        )
        study_plan = StudyPlan(
            metric=METRIC,
            judge=GreedyJudge(metric=METRIC),
            proposers=seats(*(proposer.name for proposer in proposers)),
            slots=2,
            most_experiments=experiments,
            **plan,
        )
        rule = pruning_rule(pruner, METRIC.goal) if pruner else None
        curves = CurveBook(ProgressStore(self.store()), rule, 1.0) if rule else None
        parts = Parts(
            ledger=ledger,
            waiting_ledger=self.ledger,
            queue=queue,
            performer=performer,
            mirror=Mirror(self.repository, self.user),
            fleet=fleet(self),
            proposers=proposers,
            observers=[curves] if curves else [],
            plan=study_plan,
            contexts=ContextBook(self.repository, ("train.py",)),
            epoch=epoch,
            clock=now,
            notify=self.notices.append,
            revive=lambda: None,
            curves=curves,
        )
        return Controller(parts, load(ledger))

    def ask(self, event: ev.Event) -> None:
        self.ledger.append([ev.Draft(id=uuid.uuid4().hex, at=now(), event=event)])

    def branch(self) -> list[str]:
        shown = self.repository.git.text("log", "--format=%s", self.repository.branch_ref)
        return shown.splitlines()

    def head_text(self) -> str:
        return self.repository.git.text("show", f"{self.repository.branch_ref}:train.py")


@pytest.fixture
def bench(tmp_path: Path, server_url: str, study_id: str, make_repository) -> Iterator[Bench]:
    user = make_repository({"train.py": START, "prepare.py": "frozen\n"})
    repository = StudyRepository.create(
        tmp_path / "study.git", study="s", source=user.path, base="HEAD"
    )
    base = repository.resolve(user.git("rev-parse", "HEAD"))
    made = Bench(url=server_url, study=study_id, user=user.path, repository=repository, base=base)
    started = ev.StudyStarted(study="s", base_commit=base, metric="loss", goal="minimize")
    made.ledger.append([ev.Draft(id="study", at=now(), event=started)])
    yield made
    check(load(made.ledger))
    for store in made.clients:
        store.client.close()


def edited(**constants: int) -> str:
    text = START
    for name, value in constants.items():
        text = text.replace(f"{name} = 1\n", f"{name} = {value}\n")
    return text


def statuses(state: StudyState) -> dict[str, Status]:
    return {experiment: record.status for experiment, record in state.experiments.items()}


def test_two_winners_of_one_wave_end_stacked_on_the_branch(bench: Bench) -> None:
    script = Script([edited(A=3), edited(B=5)])
    controller = bench.controller(
        lambda b: ThreadFleet(b, 2, together=2), script, experiments=2, max_staleness=0
    )
    assert controller.run() == "2 experiments were judged"
    text = bench.head_text()
    assert "A = 3" in text
    assert "B = 5" in text
    state = controller.state
    # The second is merged onto the first; or supersedes it, and the first rejoins by a merge.
    ends = sorted(statuses(state).values())
    assert ends in (sorted([Status.KEPT] * 3 + [Status.MERGED]), [Status.KEPT] * 4)
    merge = state.incumbent
    assert merge is not None
    assert merge.score is not None
    assert merge.score.mean == 0.0
    assert bench.repository.tree_of(state.incumbent_commit) == merge.tree


def test_winners_that_change_the_same_line_conflict_and_both_are_named(bench: Bench) -> None:
    script = Script([edited(A=3), edited(A=2)])
    controller = bench.controller(lambda b: ThreadFleet(b, 2, together=2), script, experiments=2)
    controller.run()
    state = controller.state
    conflicted = [e for e in state.experiments.values() if e.status is Status.CONFLICTED]
    superseded = [e for e in state.experiments.values() if e.id not in state.lineage]
    # Whichever came first: the better one ends on the branch, the other is told why it did not.
    assert "A = 3" in bench.head_text()
    assert conflicted or superseded
    for experiment in conflicted:
        assert re.fullmatch(r"conflicts with e\d in train\.py", experiment.reason)


class Generous(Script):
    """Hands in all that it has, whatever it was asked for, as models do."""

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:
        return super().propose(context, 99)


def test_more_proposals_than_asked_for_do_not_exceed_the_limit(bench: Bench) -> None:
    script = Generous([edited(A=a) for a in range(2, 9)])
    controller = bench.controller(lambda b: ThreadFleet(b, 1), script, experiments=2)
    controller.run()
    assert controller.state.judged == 2
    assert len(controller.state.experiments) == 3


def test_identical_trees_are_refused_before_they_cost_anything(bench: Bench) -> None:
    script = Script([edited(A=2)], [edited(A=2)], [START], [edited(A=3)])
    controller = bench.controller(lambda b: ThreadFleet(b, 1), script, experiments=2)
    controller.run()
    state = controller.state
    assert len({e.tree for e in state.experiments.values()}) == len(state.experiments)
    rejected = [r.event for r in bench.ledger.read(0) if isinstance(r.event, ev.ProposalRejected)]
    assert [(event.reason, event.duplicate_of) for event in rejected][:1] == [
        ("the same tree as e1", "e1")
    ]


def test_a_proposer_sees_each_result_once_and_failures_too(bench: Bench) -> None:
    script = Script([edited(A=2)], ["A = 1\n"], [edited(A=9)])
    # None is merged onto e1, with which all of them conflict, while it waits.
    controller = bench.controller(
        lambda b: ThreadFleet(b, 1), script, experiments=3, max_staleness=0
    )
    controller.run()
    seen = [result for context in script.contexts for result in context.results]
    assert len({result.experiment for result in seen}) == len(seen)
    again = Script([edited(A=7)])
    bench.controller(lambda b: ThreadFleet(b, 1), again, experiments=4).run()
    shown = {r.experiment: r for context in again.contexts for r in context.results}
    assert {"e0", "e1", "e2", "e3"} <= set(shown)
    assert shown["e2"].value is None
    assert shown["e2"].status == "crashed"
    assert shown["e1"].value == 5.0


def test_the_queue_is_open_again_before_the_next_workers_ask_it(bench: Bench) -> None:
    class Watched(ThreadFleet):
        def start(self) -> None:
            modes.append(RedisTrialQueue(bench.store()).mode())
            super().start()

    modes: list[QueueMode] = []
    for experiments in (1, 2):
        script = Script([edited(A=2 + experiments)])
        bench.controller(lambda b: Watched(b, 1), script, experiments=experiments).run()
        assert RedisTrialQueue(bench.store()).mode() is QueueMode.DRAINING
    assert modes == [QueueMode.OPEN, QueueMode.OPEN]


def test_the_modes_of_nodes_are_set_before_workers_ask(bench: Bench) -> None:
    class Watched(ThreadFleet):
        def start(self) -> None:
            queue = RedisTrialQueue(bench.store())
            modes.append([queue.mode(node) for node in ("", "here", "sick")])
            super().start()

    modes: list[list[QueueMode]] = []
    controller = bench.controller(lambda b: Watched(b, 1), Script([edited(A=3)]), experiments=1)
    sick = ev.NodeQuarantined(node="sick", reason="trials fail there")
    bench.ask(sick)
    controller.step()
    controller.run()
    assert modes == [[QueueMode.OPEN, QueueMode.OPEN, QueueMode.HELD]]


def test_a_node_that_kills_all_it_runs_is_found_out_and_its_victims_run_elsewhere(
    bench: Bench,
) -> None:
    class OneSick(ThreadFleet):
        """The second slot is of a node that kills trials, no more of them than the first ends."""

        ended = threading.Semaphore(0)

        def node(self, number: int) -> str:
            return ("here", "sick")[number]

        def outcome(self, lease: Lease, slot: Slot) -> TrialOutcome:
            if slot.node == "here":
                self.ended.release()
                return super().outcome(lease, slot)
            self.ended.acquire(timeout=10)
            return TrialOutcome(ending=Ending.CRASHED, crash=CrashKind.SIGNAL, reason="killed")

        def _serve(self, number: int) -> None:
            while number and not load(bench.ledger).lineage:
                threading.Event().wait(0.01)
            super()._serve(number)

    script = Script(*([edited(A=10 + number)] for number in range(20)))
    controller = bench.controller(lambda b: OneSick(b, 2), script, experiments=20)
    controller.run()
    state = controller.state
    assert state.nodes["sick"].status is NodeStatus.QUARANTINED
    told = [recorded.event for recorded in bench.ledger.read(0)]
    found = next(index for index, e in enumerate(told) if isinstance(e, ev.NodeQuarantined))
    quarantined = told[found]
    assert isinstance(quarantined, ev.NodeQuarantined)
    assert "then the incumbent's own" in quarantined.reason
    assert len(quarantined.reopened) >= 3
    assert set(statuses(state).values()) == {Status.KEPT, Status.DISCARDED}
    later = [event for event in told[found:] if isinstance(event, ev.TrialStarted)]
    assert {event.node for event in later} == {"here"}
    check(state)


def test_a_proposer_that_fails_or_runs_dry_ends_the_study_with_its_reason(bench: Bench) -> None:
    class Broken(Script):
        def propose(self, context: Context, count: int) -> Sequence[Proposal]:
            raise RuntimeError("no more money")

    controller = bench.controller(lambda b: ThreadFleet(b, 1), Broken())
    assert "script: RuntimeError: no more money" in controller.run()


def test_a_baseline_that_crashes_ends_the_study_and_nothing_is_searched(bench: Bench) -> None:
    script = Script([edited(A=3)])
    broken = bench.repository.commit_edits(
        base=bench.base, edits={"train.py": "x\n"}, editable=["train.py"], message="m", author="a"
    )
    started = ev.StudyStarted(study="s", base_commit=broken.commit, metric="loss", goal="minimize")
    bench.ask(started)
    controller = bench.controller(lambda b: ThreadFleet(b, 1), script)
    assert controller.run() == "the baseline crashed: NameError"
    assert controller.state.is_failed
    assert controller.state.counts.get("discarded", 0) == 0


def test_submissions_become_experiments_or_are_rejected_with_the_reason(bench: Bench) -> None:
    good = "--- a/train.py\n+++ b/train.py\n@@ -1,3 +1,3 @@\n-A = 1\n+A = 3\n \n \n"
    frozen = "--- a/prepare.py\n+++ b/prepare.py\n@@ -1 +1 @@\n-frozen\n+thawed\n"

    def submitted(name: str, **what: object) -> None:
        bench.ask(ev.SubmissionReceived(submission=name, hypothesis=name, **what))

    submitted("one", patch=good, priority=3)
    submitted("two", settings={"B": "5"})
    submitted("three", patch=frozen)
    submitted("four", settings={"C": "5"})
    submitted("five", settings={"A": "3"})
    controller = bench.controller(lambda b: ThreadFleet(b, 1))

    def stop_when_done() -> None:
        # e2 is kept, whether e1 was before or not; so is what merges e1 onto it.
        while (state := load(bench.ledger)).promotions < 2 or state.open or state.rejoining:
            threading.Event().wait(0.02)
        bench.ask(ev.StopRequested())

    threading.Thread(target=stop_when_done, daemon=True).start()
    assert controller.run() == "stopped"
    events = [recorded.event for recorded in bench.ledger.read(0)]
    proposed = {e.submission for e in events if isinstance(e, ev.ExperimentProposed)}
    rejected = {e.submission: e.reason for e in events if isinstance(e, ev.ProposalRejected)}
    assert proposed - {""} == {"one", "two"}
    assert "prepare.py" in rejected["three"]
    assert "C" in rejected["four"]
    assert rejected["five"] == "the same tree as e1"  # e1 has the higher priority
    assert "A = 3" in bench.head_text()
    assert "B = 5" in bench.head_text()


def test_a_submission_that_cannot_be_read_does_not_stand_in_the_way_of_others(
    bench: Bench,
) -> None:
    bench.ask(ev.SubmissionReceived(submission="gone", hypothesis="gone", branch="idea"))
    moved = bench.user.with_name("moved")
    bench.user.rename(moved)
    controller = bench.controller(lambda b: ThreadFleet(b, 1), Script([edited(A=3)]), experiments=1)
    assert controller.run() == "1 experiments were judged"
    assert controller.state.submissions == ()
    rejected = [e.event for e in bench.ledger.read(0) if isinstance(e.event, ev.ProposalRejected)]
    assert rejected[0].submission == "gone"
    moved.rename(bench.user)


def test_a_promotion_that_only_git_knows_is_recorded_though_another_is_better_by_now(
    bench: Bench,
) -> None:
    class LateFleet(ThreadFleet):
        def hold(self, lease: Lease) -> None:
            while lease.spec.experiment == "e2" and len(bench.branch()) < 2:
                threading.Event().wait(0.01)

    script = Script([edited(A=3), edited(B=5)])  # losses 4 and 2, of a baseline of 6
    controller = bench.controller(lambda b: LateFleet(b, 2, together=2), script, experiments=2)
    ledger_of_first = controller._parts.ledger
    append = ledger_of_first.append

    class Killed(RuntimeError):
        pass

    def die_before_promoted(drafts: Sequence[ev.Draft], *, epoch: int | None = None) -> int:
        if any(isinstance(draft.event, ev.Promoted) for draft in drafts):
            # The workers live on, and have a better result by the time of the next controller.
            ledger = bench.ledger
            while load(ledger).counts.get("measured", 0) < 1:
                threading.Event().wait(0.01)
            raise Killed
        return append(drafts, epoch=epoch)

    ledger_of_first.append = die_before_promoted  # type: ignore[method-assign]
    with pytest.raises(Killed):
        controller.run()
    second = bench.controller(lambda b: ThreadFleet(b, 1), Script(), experiments=2)
    second.run()
    promoted = [e.event for e in bench.ledger.read(0) if isinstance(e.event, ev.Promoted)]
    assert [event.experiment for event in promoted][:2] == ["e1", "e2"]
    assert promoted[1].lacks == ("e1",)
    assert "A = 3" in bench.head_text()
    assert "B = 5" in bench.head_text()


def test_the_second_of_two_controllers_fences_the_first(bench: Bench) -> None:
    first = bench.controller(lambda b: ThreadFleet(b, 0), Script([edited(A=3)]))
    bench.controller(lambda b: ThreadFleet(b, 0))
    with pytest.raises(Fenced):
        first.run()


def test_the_mirror_waits_while_the_branch_is_checked_out_and_says_so(bench: Bench) -> None:
    subprocess.run(["git", "branch", "incumbent/s"], cwd=bench.user, check=True)
    subprocess.run(["git", "checkout", "-q", "incumbent/s"], cwd=bench.user, check=True)
    before = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=bench.user)
    controller = bench.controller(lambda b: ThreadFleet(b, 1), Script([edited(A=3)]), experiments=1)
    controller.run()
    assert subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=bench.user) == before
    assert "incumbent/s" in bench.notices[-1]
    assert bench.branch()[0] == "A = 3 # between B = 1"


def test_a_persons_commit_on_the_branch_is_measured_kept_and_built_upon(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.controller.MIRROR_S", 0.0)

    def git(*args: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", *who, *args]
        return subprocess.check_output(command, cwd=bench.user, text=True).strip()

    git("checkout", "-q", "-b", "incumbent/s")
    (bench.user / "train.py").write_text(START.replace("A = 1", "A = 3"))
    git("commit", "-q", "-a", "-m", "My own idea")
    tip = git("rev-parse", "HEAD")
    git("checkout", "-q", "--detach")

    class Waiting(ThreadFleet):
        def hold(self, lease: Lease) -> None:
            while lease.spec.experiment == "e1" and not any(map(is_waiting, bench.notices)):
                threading.Event().wait(0.01)

    def is_waiting(notice: str) -> bool:
        return "measured as e1: it stays there until that is judged" in notice

    controller = bench.controller(lambda b: Waiting(b, 1), Script())
    controller.run()
    e1 = controller.state.experiments[ExperimentId("e1")]
    assert (e1.hypothesis, e1.status) == ("My own idea", Status.KEPT)
    assert git("rev-parse", "refs/incumbent/s/person/e1") == tip
    assert git("rev-parse", "incumbent/s") == controller.state.incumbent_commit
    assert f"commit {tip[:10]} of branch incumbent/s is kept as " in bench.notices[-1]


def test_a_controller_that_dies_between_git_and_ledger_promotes_once(bench: Bench) -> None:
    controller = bench.controller(lambda b: ThreadFleet(b, 1), Script([edited(A=3)]), experiments=1)
    ledger_of_first = controller._parts.ledger
    append = ledger_of_first.append

    class Killed(RuntimeError):
        pass

    def die_before_promoted(drafts: Sequence[ev.Draft], *, epoch: int | None = None) -> int:
        if any(isinstance(draft.event, ev.Promoted) for draft in drafts):
            raise Killed
        return append(drafts, epoch=epoch)

    ledger_of_first.append = die_before_promoted  # type: ignore[method-assign]
    with pytest.raises(Killed):
        controller.run()
    assert bench.branch()[0].startswith("A = 3")
    assert load(bench.ledger).promotions == 0
    second = bench.controller(lambda b: ThreadFleet(b, 1), Script(), experiments=1)
    second.run()
    assert load(bench.ledger).promotions == 1
    assert len(bench.branch()) == 2


class ToldFleet(ThreadFleet):
    """Slots that tell of a loss: of B at 10 a bad one, until they are told to end the trial."""

    def outcome(self, lease: Lease, slot: Slot) -> TrialOutcome:
        found = super().outcome(lease, slot)
        store = self._bench.store()
        queue, progress = RedisTrialQueue(store), ProgressStore(store)
        is_bad = found.value == 7.0
        for tenth in range(11):
            told = Progress(elapsed_s=tenth / 10, points={"loss": 9.0 if is_bad else 2.0})
            progress.record(lease.spec, told)
        while is_bad:
            if queue.extend(slot, lease.token, now=now(), ttl_s=30) is Heartbeat.PRUNE:
                return TrialOutcome(ending=Ending.PRUNED, reason="stopped as hopeless after 1 s")
            threading.Event().wait(0.05)
        return found


def test_a_trial_with_a_hopeless_curve_is_ended_by_the_answer_to_a_heartbeat(bench: Bench) -> None:
    script = Script([edited(B=10)], [edited(A=3)])
    controller = bench.controller(
        lambda b: ToldFleet(b, 1),
        script,
        experiments=2,
        pruner=PrunerConfig(kind="median", least=1),
    )
    assert controller.run() == "2 experiments were judged"
    pruned, kept = controller.state.experiments["e1"], controller.state.experiments["e2"]
    assert (pruned.status, kept.status) == (Status.PRUNED, Status.KEPT)
    assert pruned.reason.startswith("hopeless: loss 9 at 100 % of the budget, where 1 finished")


def test_unlike_slots_screen_and_are_checked_and_one_class_alone_promotes(bench: Bench) -> None:
    script = Script(*([edited(A=a, B=b)] for a in (1, 2, 3) for b in (2, 3, 4, 5)))
    controller = bench.controller(
        lambda b: ThreadFleet(b, 3, classes=("cpu", "cpu", "other")),
        script,
        experiments=10,
        reference_class="cpu",
        control_every=1,
        max_staleness=0,  # candidates that change one line conflict
    )
    assert controller.run() == "10 experiments were judged"
    state = controller.state
    assert state.reference_class == "cpu"
    assert {state.experiments[name].device_class for name in state.lineage} == {"cpu"}
    controls = [t for e in state.experiments.values() for t in e.controls if t.outcome]
    assert any(trial.outcome and trial.outcome.value is not None for trial in controls)
    assert not dict(state.controls)
    assert controller.state.judged == 10


def test_a_patch_that_sets_a_seed_of_its_own_is_noticed_and_not_kept(bench: Bench) -> None:
    script = Script([edited(A=3) + "torch.manual_seed(1337)\n"])
    controller = bench.controller(lambda b: ThreadFleet(b, 1), script, experiments=1)
    controller.run()
    proposed = [r.event for r in bench.ledger.read(0) if isinstance(r.event, ev.ExperimentProposed)]
    assert [event.seeds for event in proposed] == [None, SeedHabit.FIXED]
    assert statuses(controller.state)["e1"] is Status.SUSPECT
    assert "A = 1" in bench.head_text()
