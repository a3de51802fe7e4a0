"""A study over real git repositories whose slots, proposer and user a test is.

Decisions, the performer, git and the queue are the real ones; the ledger is in memory, and dies
before or after any append of the controller.
"""

import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from cluster.ledger.ledger import InMemoryLedger, catch_up
from cluster.policy import commands as cmd
from cluster.policy.decisions import decide
from cluster.policy.study_plan import Circumstances, Policy, StudyPlan
from cluster.queue.trial_queue import InMemoryTrialQueue
from cluster.state import events as ev
from cluster.state.experiment import Experiment, Status
from eval.bayes import BayesJudge
from eval.judge import Judge
from proposer.proposal import Context, Proposal
from tests.cluster.repository_study import RepositoryStudy
from tests.cluster.world import METRIC, scored
from tests.trainer.trials import cpu_slot
from trainer.ports import Lease, Slot
from trainer.trial import CommitId, ExperimentId, TrialId, TrialOutcome

T = TypeVar("T")
NONE = ExperimentId("")
PLACES = 6
"""Lines of train.py that patches change: two that change the same one conflict."""
SLOTS = 12


class Killed(BaseException):
    """The controller is gone, as by kill -9."""


class MortalLedger(InMemoryLedger):
    """What the controller writes into; it can be killed before or after an append."""

    def __init__(self) -> None:
        super().__init__()
        self.is_armed = False
        self.fuse = -1
        """Appends that still succeed, by halves: odd is killed after the append."""

    def append(self, drafts: Sequence[ev.Draft], *, epoch: int | None = None) -> int:
        return self.mortally(lambda: super(MortalLedger, self).append(drafts, epoch=epoch))

    def lose(self, kept: int) -> None:
        """Forget all events but the first few, as a server does that comes back from a copy."""
        del self._payloads[kept:]
        self._ids = {recorded.id for recorded in self.read(0, limit=kept)}

    def mortally(self, act: Callable[[], T]) -> T:
        """Do something that appends; perhaps die before it, or after."""
        if not self.is_armed or self.fuse < 0:
            return act()
        self.fuse -= 2
        if self.fuse == -2:
            raise Killed
        self.is_armed = False
        done = act()
        self.is_armed = True
        if self.fuse == -1:
            raise Killed
        return done


class MortalQueue(InMemoryTrialQueue):
    """Its withdrawals are one with their events: the controller dies before or after both."""

    def __init__(self, ledger: MortalLedger) -> None:
        super().__init__(ledger)
        self._mortal = ledger

    def withdraw(self, trial: TrialId, attempt: int, draft: ev.Draft, *, epoch: int) -> bool:
        withdraw = super().withdraw
        return self._mortal.mortally(lambda: withdraw(trial, attempt, draft, epoch=epoch))


class ReducerStudy(RepositoryStudy):
    """A study of which a test is the slots, the proposer, and the user."""

    judge: Judge = BayesJudge(metric=METRIC)
    policy: Policy = "chain"
    apart: int = 4
    """Lines from one place to the next: git merges changes of all but neighbours."""

    def __init__(self) -> None:
        super().__init__()  # of what else a test makes of it
        self.scratch = tempfile.TemporaryDirectory()
        self.ledger = MortalLedger()
        self.queue = MortalQueue(self.ledger)
        self.leases: dict[ExperimentId, tuple[Slot, Lease]] = {}
        self.ran: dict[ExperimentId, CommitId] = {}
        """What slots began of each experiment."""
        self.claims: list[tuple[Experiment, Experiment, bool]] = []
        self.patches: dict[ExperimentId, tuple[int, int]] = {}
        """Which line each proposal changes, and to what."""
        self.changes = 0
        plan = StudyPlan(
            metric=METRIC,
            judge=self.judge,
            reducer=self.policy,
            max_staleness=3,
            proposers=(),
            slots=SLOTS,
        )
        lines = ("\n" * self.apart).join(f"A{place} = 0" for place in range(PLACES)) + "\n"
        self.create(Path(self.scratch.name), lines, plan)
        self.restart()

    def git(self, *args: str) -> str:
        command = ["git", *args]
        done = subprocess.run(command, cwd=self.repository.path, check=True, capture_output=True)
        return done.stdout.decode().strip()

    # --- the controller --------------------------------------------------------------------------

    def settle(self) -> None:
        """Do what is decided, through any deaths."""
        for _ in range(60):
            self.now += timedelta(seconds=1)
            try:
                commands = decide(self.state, self.plan, Circumstances(now=self.now))
                for command in commands:
                    self.perform(command)
            except Killed:
                self.ledger.is_armed = False
                self.restart()
                continue
            if not commands:
                return
        raise AssertionError(f"never settles: {commands}")

    def perform(self, command: cmd.Command) -> None:
        if isinstance(command, cmd.Promote):
            self.claims.append((command.winner, command.replaces, self.is_due(command)))
        # A queue's own append is one with its place in the queue: there is no death in between.
        self.ledger.is_armed = not isinstance(command, cmd.QueueTrial | cmd.CancelTrial)
        self.performer.perform(command, self.state)
        self.ledger.is_armed = False
        self.state = catch_up(self.ledger, self.state)

    def is_due(self, command: cmd.Promote) -> bool:
        """Say whether the judge's own test is for this promotion, by what is on record now."""
        winner, old = command.winner, command.replaces
        if self.judge.is_ahead(winner.evidence, old.evidence):
            return True
        effect = winner.effect  # verdicts since may have raised what its base is taken for
        is_gain = effect.mean > 0 if effect else (winner.delta or 0) >= 0
        return bool(winner.verdict and winner.verdict.value == "keep" and is_gain)

    # --- the proposer and the user ---------------------------------------------------------------

    def propose(self, places: Sequence[int], *, ago: int = 0, author: str = "test") -> None:
        """Change one line after the other, each on the incumbent or an earlier one."""
        known = [self.state.experiments[e] for e in self.state.lineage]
        base = known[max(0, len(known) - 1 - ago)]
        commit = base.promoted or self.state.base_commit
        files = self.performer.files_at(commit)
        for place in places:
            self.changes += 1
            lines = files["train.py"].split("\n")
            lines[self.apart * place] = f"A{place} = {self.changes}"
            context = Context(
                metric=METRIC,
                incumbent=base.id,
                incumbent_value=None,
                commit=commit,
                files=files,
                instructions="",
            )
            self.patches[self.state.next_experiment] = (place, self.changes)
            proposal = Proposal(edits={"train.py": "\n".join(lines)}, hypothesis=f"A{place}")
            self.performer.propose(self.state, author, proposal, context)
            self.state = catch_up(self.ledger, self.state)
        self.settle()

    def hand_in_a_revert(self, name: str) -> None:
        """Ask for an experiment to be taken out again."""
        submission = ev.SubmissionReceived(
            submission=f"s{self.state.seq}",
            hypothesis=f"Revert {name}",
            reverts=ExperimentId(name),
        )
        self.happen(submission)
        self.settle()

    def lines(self, commit: str) -> dict[int, int]:
        """Return which places a tree has changed, and to what."""
        text = self.git("show", f"{commit}:train.py")
        found = {int(a): int(b) for a, b in re.findall(r"^A(\d) = (\d+)$", text, re.MULTILINE)}
        return {place: value for place, value in found.items() if value}

    # --- the slots -------------------------------------------------------------------------------

    def measure_the_baseline(self, values: Sequence[float]) -> None:
        """Run it until it is judged."""
        self.settle()
        for value in values:
            if self.state.baseline and not self.state.lineage:
                self.end_trial(ExperimentId("e0"), scored(value))
        assert self.state.lineage

    def on_the_way(self) -> list[ExperimentId]:
        ways = (Status.QUEUED, Status.RUNNING)
        return sorted(e for e, status in self.state.open.items() if status in ways)

    def end_trial(self, experiment: ExperimentId, outcome: TrialOutcome) -> None:
        self.complete(experiment, outcome)
        self.settle()

    def begin(self, last: ExperimentId = NONE) -> None:
        """Let slots take what waits, until one has a certain experiment; all, if none is named."""
        for number in range(64):
            slot = cpu_slot(f"cpu-{number}", node="n")
            if last in self.leases:
                return
            lease = self.queue.lease(slot, now=self.now, ttl_s=1e6)
            if lease is None:
                return
            self.leases[lease.spec.experiment] = slot, lease
            self.ran[lease.spec.experiment] = lease.spec.commit

    def complete(self, experiment: ExperimentId, outcome: TrialOutcome) -> None:
        self.begin(experiment)
        assert self.queue.complete(*self.leases.pop(experiment), outcome, now=self.now)
        self.state = catch_up(self.ledger, self.state)
