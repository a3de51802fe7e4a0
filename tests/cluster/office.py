"""A study on paper whose proposers, calls and controller are real.

The controller, its desk, the book of calls, and how a proposal becomes an experiment are those of
the product. Paper is what it works on: trees, trials, merges, and what proposers say, which a test
decides. Everything happens on the thread of the test.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cluster.controller.context_book import ContextBook
from cluster.controller.controller import Controller
from cluster.controller.controller_parts import Parts
from cluster.controller.performer import Performer
from cluster.git.code_outcomes import Candidate
from cluster.ledger.call_book import CallBook
from cluster.ledger.ledger import InMemoryLedger, LedgerAway, catch_up
from cluster.policy import commands as cmd
from cluster.policy import tasks
from cluster.policy.proposal_planning import limit_reached, room
from cluster.policy.study_plan import Seat
from cluster.state import events as ev
from cluster.state.experiment import Kind
from cluster.state.state import StudyState
from proposer.proposal import Context, Proposal, TaskKind
from tests.cluster.world import METRIC, World
from trainer.trial import CommitId, ExperimentId

MOST_COMMANDS = 300
"""More than any step of the controller has to perform; else it does not settle."""
Say = Callable[[Context], Sequence[Proposal]]


class Killed(BaseException):
    """The controller is gone, as by kill -9."""


class FaultyLedger(InMemoryLedger):
    """Fails the controller's next appends as it is told to; those of others never."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: deque[str] = deque()

    def append(self, drafts: Sequence[ev.Draft], *, epoch: int | None = None) -> int:
        fault = self.faults.popleft() if self.faults and epoch is not None else ""
        if fault == "away":
            raise LedgerAway("gone")
        if fault == "die before":
            raise Killed
        seq = super().append(drafts, epoch=epoch)
        if fault == "away after":
            raise LedgerAway("its answer was lost")
        if fault == "die after":
            raise Killed
        return seq


class PaperRepository:
    """Trees are texts: a candidate's is what its edits say. No file is frozen."""

    git: Any = SimpleNamespace(run=lambda *_: SimpleNamespace(stdout=b""))

    def commit_edits(self, *, edits: Mapping[str, str], **_: Any) -> Candidate:
        text = edits["train.py"]
        return Candidate(
            commit=CommitId(f"c-{text}"), tree=f"t-{text}", lines=100, changed=("train.py",)
        )

    def read_files(self, commit: str, _: Sequence[str]) -> Mapping[str, str]:
        return {"train.py": f"X = {commit!r}"}

    def keep_ref(self, *_: str) -> None:
        """Nothing is ever collected."""


class PaperPerformer(Performer):
    """Makes experiments of proposals as ever; all else is performed on paper."""

    def __init__(self, office: "Office", epoch: int) -> None:
        super().__init__(
            ledger=office.ledger,
            queue=None,
            repository=PaperRepository(),
            source=Path(),
            editable=("train.py",),
            metric=METRIC,
            budget_s=1,
            timeout_s=2,
            epoch=epoch,
            clock=lambda: office.now,
        )
        self._office = office

    def perform(self, command: cmd.Command, state: StudyState) -> None:
        self._office.state = state
        self._office.perform(command)


class Voice:
    """A proposer that says what a test has it say."""

    advice = ""

    def __init__(self, seat: Seat) -> None:
        self.name, self.tasks = seat.name, seat.tasks
        self.say: Say = lambda _: ()

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:
        return self.say(context)


class WatchedController(Controller):
    """Shows the office whom it is about to ask."""

    def __init__(self, parts: Parts, state: StudyState, office: "Office") -> None:
        super().__init__(parts, state)
        self._office = office

    def _perform(self, command: cmd.Command) -> None:
        self._office.state = self._state
        self._office.watch(command)
        super()._perform(command)


class Office(World):
    """A world in which whoever is asked stays busy until a test says what came of it."""

    ledger_type = FaultyLedger
    ledger: FaultyLedger

    def __init__(self, *seats: Seat, folder: Path, usd: float, experiments: int) -> None:
        self.folder = folder
        self.usd = usd
        self.approve = False
        self.performed = 0
        self.tips: dict[str, CommitId] = {}
        """What was the best when each proposer was asked."""
        self.room_at_answer = 0
        self._story: list[ev.Event] = []
        self._failed_at: dict[str, datetime] = {}
        """When each proposer failed last."""
        super().__init__(slots=3, max_staleness=3, proposers=seats, experiments=experiments)

    # --- lives -----------------------------------------------------------------------------------

    def restart(self) -> None:
        """Die, and come back over the same ledger, after deaths at the start if faults are left."""
        while True:
            super().restart()
            try:
                self._open()
            except (Killed, LedgerAway):
                continue
            return

    def _open(self) -> None:
        epoch = self.state.epoch
        self.plan = replace(self.plan, most_usd=self.usd, approve=self.approve)
        self.book = CallBook(
            self.ledger,
            epoch=epoch,
            clock=lambda: self.now,
            directory=self.folder / "calls",
            most_usd=self.usd,
            most_tokens=0,
            state=self.state,
        )
        self.voices = {seat.name: Voice(seat) for seat in self.plan.proposers}
        still: Any = SimpleNamespace(
            set_mode=lambda *_, **__: None,
            expire=lambda **_: None,
            renew=lambda **_: None,
            check=list,
            sync=lambda *_, **__: SimpleNamespace(message=""),
        )
        parts = Parts(
            ledger=self.ledger,
            waiting_ledger=self.ledger,
            queue=still,
            performer=PaperPerformer(self, epoch),
            mirror=still,
            fleet=still,
            proposers=list(self.voices.values()),
            observers=[],
            plan=self.plan,
            contexts=ContextBook(PaperRepository(), ("train.py",)),
            epoch=epoch,
            clock=lambda: self.now,
            notify=lambda _: None,
            revive=lambda: None,
        )
        self.read()
        self.controller = WatchedController(parts, self.state, self)

    def read(self) -> None:
        """Look at what others have written."""
        self.state = catch_up(self.ledger, self.state)

    @property
    def story(self) -> Sequence[ev.Event]:
        """All that ever happened."""
        for each in self.ledger.read(len(self._story), limit=1_000_000):
            self._story.append(each.event)
            if isinstance(each.event, ev.ProposerFailed):
                self._failed_at[each.event.proposer] = each.at
        return self._story

    # --- work ------------------------------------------------------------------------------------

    def decide(self) -> tuple[cmd.Command, ...]:
        return self.controller._decide()

    def settle(self) -> None:
        """Have the controller do all that is to be done, as soon as its ledger lets it."""
        self.performed = 0
        is_settled = False
        while not is_settled:
            try:
                self.controller.step()
                is_settled = not self.controller._decide()
            except LedgerAway:
                self.count()
            finally:
                self.read()

    def count(self, command: cmd.Command | None = None) -> None:
        self.performed += 1
        assert self.performed < MOST_COMMANDS, f"never settles: {command}"

    # --- who is asked ----------------------------------------------------------------------------

    @property
    def asked_for(self) -> dict[str, str]:
        """Which task each busy proposer is at; "" for ideas."""
        return {asked.proposer: asked.task for asked in self.controller._desk.asked if asked.count}

    @property
    def asked(self) -> int:
        """Proposals that proposers work on, all together."""
        return sum(asked.count for asked in self.controller._desk.asked)

    def question(self, name: str) -> Context:
        """Return what a busy proposer was shown."""
        questions = self.controller._desk._seats[name].questions
        question = questions.get_nowait()
        questions.put(question)
        context: Context = question[0]
        return context

    def answer(self, name: str, say: Say) -> None:
        """Have a busy proposer say something, or raise, and the controller take it."""
        desk, shown, seen = self.controller._desk, self.question(name), len(self.story)
        self.voices[name].say = say
        self.room_at_answer = room(self.state, self.plan)
        seat = desk._seats[name]
        seat.questions.put(None)
        desk._serve(seat)
        try:
            self.settle()
        finally:
            for event in self.story[seen:]:
                if isinstance(event, ev.ExperimentProposed) and event.kind is Kind.PROPOSAL:
                    assert event.proposer == name
                    assert event.base == shown.incumbent, "applied to another base"
                    assert event.base_commit == shown.commit, "applied to another base"

    def watch(self, command: cmd.Command) -> None:
        """Look at a command before it is performed, by what is known of old, not by the state."""
        self.count(command)
        if not isinstance(command, cmd.Propose | cmd.AskTask):
            return
        name = command.proposer
        self.tips[name] = self.state.incumbent_commit or self.state.base_commit
        assert name not in self.asked_for, "asked twice"
        assert name not in self.ended(), "asked after it could answer no more"
        assert not limit_reached(self.state, self.plan, self.now)
        failures = self.failures(name)
        # Not for as long as the clock was put back since.
        is_left_alone = bool(failures) and self._failed_at[name] <= self.now < failures[-1].retry_at
        if isinstance(command, cmd.Propose):
            assert not is_left_alone, "asked in the midst of trouble"
        else:
            assert not is_left_alone or failures[-1].is_idle, "asked in the midst of trouble"
            self._watch_task(name, command.task)

    def _watch_task(self, name: str, task: str) -> None:
        assert task not in self.asked_for.values(), "two are at one task"
        assert task not in self.answered_tasks(), "asked for what is done"
        found = tasks.subject(self.state, task)
        assert found is not None, "there is nothing to do any more"
        kind, experiment = found
        assert kind in self.plan.seat(name).tasks
        if kind is TaskKind.FIX:
            assert experiment.proposer == name, "somebody else's slip"
            assert self.fixes(experiment.id) < self.plan.max_fixes, "mended once too often"

    # --- what the story says ---------------------------------------------------------------------

    def failures(self, name: str) -> list[ev.ProposerFailed]:
        """Return the troubles of a proposer in this life, since anything came of it."""
        found: list[ev.ProposerFailed] = []
        for event in self.story:
            if isinstance(event, ev.ControllerStarted):
                found.clear()
            elif getattr(event, "proposer", "") != name:
                continue
            elif isinstance(event, ev.ProposerFailed):
                found.append(event)
            elif isinstance(event, ev.ExperimentProposed | ev.ProposalRejected):
                found.clear()
        return found

    def ended(self) -> set[str]:
        """Return who can answer no more in this life."""
        found: set[str] = set()
        for event in self.story:
            if isinstance(event, ev.ControllerStarted):
                found.clear()
            elif isinstance(event, ev.ProposerExhausted):
                found.add(event.proposer)
        return found

    def answered_tasks(self) -> set[str]:
        """Return the tasks of which something came, or that were given up."""
        found: set[str] = set()
        for event in self.story:
            if isinstance(event, ev.MergeConflicted):
                found.discard(f"compose/{event.experiment}")
            elif task := getattr(event, "task", ""):
                found.add(task)
        return found

    def parts(self) -> Counter[str]:
        """Return how often something was made of each part of an answer that was paid for."""
        return Counter(found for event in self.story if (found := getattr(event, "origin", "")))

    def fixes(self, name: ExperimentId) -> int:
        """Return how many crashes in a row an experiment is the mended version of."""
        kind, _, crashed = self.state.experiments[name].task.partition("/")
        return 1 + self.fixes(ExperimentId(crashed)) if kind == TaskKind.FIX else 0

    def is_approved(self, name: ExperimentId) -> bool:
        """Say whether somebody wanted it run."""
        wishes = (event for event in self.story if isinstance(event, ev.ApproveRequested))
        return any(event.experiment == name for event in wishes)
