"""A study under a schedule of faults, and what the checker says of it afterwards."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cluster.ledger.ledger import LedgerAway
from cluster.state.experiment import Experiment, Status
from cluster.state.state import StudyState
from tests.chaos.checker import Commit, Evidence, check, final_state
from tests.chaos.faults import NotThere, inject
from tests.chaos.losses import Fault, losses, table
from tests.chaos.machines import ROOT, Machine, Rack
from tests.chaos.schedule import Planned, plan
from tests.chaos.study import NAME, Study

STUCK_S = 150.0
"""A study that brings no result for so long will not."""
_FIELDS = ("Experiment", "Proposer", "Replaces")
_LINE = "%H%x00%P%x00%T%x00" + "%x00".join(
    f"%(trailers:key={key},valueonly,separator=;)" for key in _FIELDS
)


_FAILED = {Status.CRASHED, Status.TIMED_OUT, Status.LOST}


class Stuck(AssertionError):
    """The study makes no progress."""


@dataclass(kw_only=True)
class Report:
    """What came of one seed."""

    seed: int
    wall_s: float = 0.0
    judged: int = 0
    events: int = 0
    promotions: int = 0
    ends: Mapping[str, int] = field(default_factory=dict)
    """Experiments by how they ended."""
    faults: list[Fault] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Candidates that were held to have failed, though none of this study's can, and why."""
    losses: str = ""
    problems: list[str] = field(default_factory=list)
    logs: str = ""
    """Ends of logs, where there are problems."""

    def __str__(self) -> str:
        """Say it in a line."""
        word = f"{len(self.problems)} PROBLEMS" if self.problems else "clean"
        ends = ", ".join(f"{count} {status}" for status, count in self.ends.items())
        return (
            f"seed {self.seed}: {self.judged} judged ({ends}), {self.promotions} promotions, "
            f"{self.events} events, {len(self.faults)} faults, {self.wall_s:.0f} s: {word}"
        )


@dataclass(kw_only=True)
class Campaign:
    """Runs one study under faults."""

    study: Study
    rack: Rack
    schedule: Sequence[Planned]
    nodes: int = 0
    say: Callable[[str], None] = print
    faults: list[Fault] = field(default_factory=list)
    state: StudyState = field(default_factory=StudyState)

    def run(self) -> None:
        """Run the study to its end, under the schedule; raises Stuck."""
        self.study.start()
        self.wait_for(1)
        if self.nodes:
            self.study.incumbent("pause")  # else it may be over before they have joined
            for number in range(self.nodes):
                self.study.join(self.rack.add(f"node{number + 1}"))
            self.wait_for_slots(self.study.slots + self.nodes)
            self.study.incumbent("resume")
        for planned in self.schedule:
            if not self.wait_for(self.state.judged + planned.after):
                return
            time.sleep(planned.delay_s)
            if self.study.is_over:
                return
            self.say(f"{self.state.judged:>4} judged: {planned}")
            machine = self.rack.machines[planned.machine]
            try:
                slots, is_over = self.slots(planned), lambda: self.study.is_over
                self.faults.append(inject(planned, machine, slots=slots, is_over=is_over))
            except NotThere:
                if self.wait_for(self.state.judged + 1):
                    raise
                return  # the study came to its end meanwhile
        self.wait_for(self.study.experiments + 1)

    def slots(self, planned: Planned) -> frozenset[str] | None:
        """Return the slots that a fault hits; None where it is of the head, whose parts serve all.

        A head that is cut off goes on with its own.
        """
        is_head = planned.machine == self.study.head.name
        if is_head and planned.part != "partition":
            return None
        return frozenset(
            name
            for name, slot in self.state.slots.items()
            if (slot.node == planned.machine) is not is_head
        )

    def look(self) -> None:
        """Read what was recorded since."""
        with suppress(LedgerAway):
            self.state = self.study.state(self.state)

    def wait_for_slots(self, count: int) -> None:
        """Wait until so many slots are open; raises Stuck."""
        deadline = time.monotonic() + STUCK_S
        while self.state.open_slots < count and not self.study.is_over:
            self.look()
            if time.monotonic() > deadline:
                raise Stuck(f"{self.state.open_slots} of {count} slots after {STUCK_S:g} s")
            time.sleep(0.1)

    def wait_for(self, judged: int) -> bool:
        """Wait until so many were judged; False if the study has ended before."""
        seen, since = self.state.judged, time.monotonic()
        while self.state.judged < judged and not self.study.is_over:
            self.look()
            if self.state.judged > seen:
                seen, since = self.state.judged, time.monotonic()
            if time.monotonic() - since > STUCK_S:
                raise Stuck(f"no result for {STUCK_S:g} s after {seen}")
            time.sleep(0.1)
        return not self.study.is_over


def run_seed(
    seed: int,
    *,
    outputs: Path,
    experiments: int,
    nodes: int = 0,
    sandbox: str = "none",
    say: Callable[[str], None] = print,
) -> Report:
    """Run one study under the faults of a seed, on machines of its own; return what came of it."""
    report = Report(seed=seed)
    began = time.monotonic()
    with Rack(outputs) as rack:
        head = rack.add("head")
        study = Study(head=head, experiments=experiments, sandbox=sandbox, listens=nodes > 0)
        if nodes:
            study.seconds = 2.0  # so that a fault which lasts does not see it to its end
        study.create()
        names = [f"node{number + 1}" for number in range(nodes)]
        schedule = plan(seed, faults=experiments, head="head", nodes=names)
        campaign = Campaign(study=study, rack=rack, schedule=schedule, nodes=nodes, say=say)
        try:
            campaign.run()
        except AssertionError as error:
            report.problems.append(f"{type(error).__name__}: {error}")
        finally:
            study.give_up()
        report.faults = campaign.faults
        report.problems += _after(campaign, report)
        if report.problems:
            report.logs = study.logs()
    report.wall_s = time.monotonic() - began
    return report


def _after(campaign: Campaign, report: Report) -> list[str]:
    """Stop the study, and look at what it has left."""
    study = campaign.study
    try:
        study.incumbent("stop")
        study.leave()
        evidence = gather(study, campaign.rack)
    except AssertionError as error:
        return [f"after the study: {error}"]
    report.events = len(evidence.recorded)
    started: datetime = evidence.recorded[0].at
    report.losses = table(list(losses(campaign.faults, evidence.recorded)), started)
    problems = check(evidence)
    state = final_state(evidence.recorded)
    report.judged, report.promotions = state.judged, state.promotions
    failed = [e for e in state.experiments.values() if e.status in _FAILED]
    report.failures = [f"{e.id} {e.status}: {e.reason} ({_runs(e, started)})" for e in failed]
    report.ends = {str(status): count for status, count in state.counts.items() if count}
    return problems


def _runs(experiment: Experiment, began: datetime) -> str:
    """Say where and when the trials of an experiment ran, by the clock of the table of losses."""
    return ", ".join(
        f"{trial.id}/{trial.attempt} {trial.phase} on {trial.slot} from "
        f"{(trial.started_at - began).total_seconds():.0f} s for {trial.seconds:.0f} s"
        for trial in experiment.trials
        if trial.started_at is not None
    )


def gather(study: Study, rack: Rack) -> Evidence:
    """Return all that the checker looks at, of a study that was stopped."""
    left = [line for machine in rack.machines.values() for line in leftovers(machine)]
    stored = study.stored()
    base = stored.recorded[0].event.base_commit  # type: ignore[attr-defined]
    log = study.git("log", "--first-parent", f"--format={_LINE}", f"refs/heads/incumbent/{NAME}")
    names = study.git("for-each-ref", "--format=%(refname) %(objectname)", f"refs/incumbent/{NAME}")
    return Evidence(
        recorded=stored.recorded,
        refs=dict(line.split() for line in names.splitlines()),
        branch=list(_down_to(base, log)),
        leases=stored.leases,
        waiting=stored.waiting,
        left=left,
        experiments=study.experiments,
    )


def _down_to(base: str, log: str) -> Iterator[Commit]:
    for line in log.splitlines():
        commit, parents, tree, *values = line.split("\0")
        yield Commit(
            id=commit,
            parents=tuple(parents.split()),
            tree=tree,
            trailers=dict(zip(_FIELDS, values, strict=True)),
        )
        if commit == base:
            return


def leftovers(machine: Machine) -> Iterator[str]:
    """Say what a machine has left of a study that was stopped."""
    if not machine.is_on:
        return
    for process in machine.processes():
        yield f"{machine.name}: process {process.pid} is left: {process.line[:200]}"
    listening = machine.run("ss", "-Hltn").stdout.splitlines()
    yield from (f"{machine.name} still listens: {line}" for line in listening)
    found = machine.run("find", str(ROOT), "-type", "s", "-o", "-name", "*.lock", "-size", "+0")
    yield from (f"{machine.name}: {path} is left" for path in found.stdout.split())
    runtime = machine.run("find", str(ROOT / "tmp"), "-type", "f").stdout.split()
    yield from (f"{machine.name}: {path} is left" for path in runtime)
    shared = machine.run("ls", "-A", "/dev/shm").stdout.split()
    yield from (f"{machine.name}: /dev/shm/{name} is left" for name in shared)
    yield from _of_git(machine)


def _of_git(machine: Machine) -> Iterator[str]:
    """Say what is odd about a machine's repository and its worktrees."""
    found = machine.run("find", str(ROOT / "state"), "-name", "repo.git").stdout.split()
    for repository in found:
        told = machine.run("git", f"--git-dir={repository}", "worktree", "list", "--porcelain")
        for block in told.stdout.split("\n\n"):
            if "prunable" in block:
                yield f"{machine.name}: a worktree is registered that is gone: {block}"
        ours = ("-not", "-name", "worktrees.lock", "-not", "-name", "fetch.lock")
        stale = machine.run("find", repository, "-name", "*.lock", *ours)
        yield from (f"{machine.name}: git's {path} is left" for path in stale.stdout.split())
