"""Records of one execution of a candidate.

Knows what a trial is told and what came of it. Does not know who leased it or how it is judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from eval.seeds import Reseed
from eval.suspicion import Conduct
from trainer.run_start import Start
from trainer.telemetry import Telemetry

ExperimentId = NewType("ExperimentId", str)
"""`e42`: the 42nd candidate of a study; `e0` is the baseline."""
TrialId = NewType("TrialId", str)
"""`e42.1`: the first trial of `e42`."""
SlotId = NewType("SlotId", str)
"""`cpu-0` or `gpu-0`, prefixed by the node's name where a study has several nodes."""
CommitId = NewType("CommitId", str)
"""Forty hexadecimal digits."""


def number_of(experiment: ExperimentId) -> int:
    """Return the number in an experiment's id: 42 for e42. Ids are in the order of their age."""
    return int(experiment[1:])


def experiment_id(name: str) -> ExperimentId:
    """Return the experiment that a trial is of, e42 for e42.1; of an experiment its own id."""
    return ExperimentId(name.partition(".")[0])


def trial_number(trial: TrialId) -> int:
    """Return the number of a trial within its experiment: 1 for e42.1."""
    return int(trial.rpartition(".")[2])


class Ending(StrEnum):
    """How a trial ended. Only SCORED carries a value; a failure is never a number."""

    SCORED = "scored"  # exit code 0 and a finite metric
    CRASHED = "crashed"  # see CrashKind
    TIMED_OUT = "timed_out"  # killed at timeout_s
    SHORT = "short"  # as SCORED, but on a rung below the full budget: its number is no score
    PRUNED = "pruned"  # stopped for its curve: hopeless against those of finished trials
    CANCELLED = "cancelled"  # somebody asked for it
    LOST = "lost"  # its worker or node went away, or gave it back


class CrashKind(StrEnum):
    """Why a crashed trial crashed."""

    EXCEPTION = "exception"  # a Python traceback, or a non-zero exit code
    SIGNAL = "signal"  # killed by a signal that we did not send
    OUT_OF_MEMORY = "out_of_memory"  # CUDA or host memory, or more than memory_gb
    NAN = "nan"  # the metric, or the script's own report, is not finite
    NO_METRIC = "no_metric"  # ended well, but the metric never appeared or is no number
    PREDICTIONS = "predictions"  # ended well, but what it left for the scorer cannot be scored
    NOT_STARTED = "not_started"  # command not found, not executable, or no such file
    DISK_FULL = "disk_full"  # the script said that no space is left
    DISK_LIMIT = "disk_limit"  # more than disk_gb or disk_files
    PROCESS_LIMIT = "process_limit"  # more processes and threads than pids
    OPEN_FILES_LIMIT = "open_files_limit"  # more than open_files at a time


UNEXPLAINED = "exit code"
"""How the reason of an EXCEPTION begins of which no traceback tells."""


class Rung(StrEnum):
    """A step of a trial's ladder of budgets. Each is a run of its own, the cheap one first."""

    SMOKE = "smoke"  # a few seconds of it, evaluation included: what fails there would fail later
    FULL = "full"  # the run whose metric counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoke:
    """A short run of the same candidate, before its full run and under the same lease."""

    budget_s: float
    """What it aims at; handed to it as INCUMBENT_BUDGET_S."""
    is_probe: bool = False
    """It asks only whether the script obeys that: whatever comes of it, the full run follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What the baseline's smoke run told of its script."""

    budget_s: float
    """What it was told to aim at."""
    ending: Ending
    wall_s: float
    """What it took."""
    obeys: bool
    """It was scored, and so much quicker than the full run that it was not by chance."""
    reason: str = ""
    """Why it failed, in one line; empty if it was scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a trial may run; anywhere, unless it says otherwise."""

    device_class: str = ""
    """Only on slots of this class."""
    slot: SlotId = SlotId("")
    """Only on this slot."""
    avoid: str = ""
    """A node whose slots take it only where they would have nothing else to do."""

    def admits(self, slot: SlotId, device_class: str) -> bool:
        """Say whether a slot of a class may run the trial."""
        return self.slot in {"", slot} and self.device_class in {"", device_class}

    def avoids(self, node: str) -> bool:
        """Say whether slots of a node are to take anything else first."""
        return bool(self.avoid) and self.avoid == node


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSpec:
    """What a worker is told: which tree to run, with which seed, for how long."""

    trial: TrialId
    experiment: ExperimentId
    attempt: int
    """1 for the first try; a trial that is lost is queued again with the next number."""
    commit: CommitId
    seed: int
    budget_s: float
    """What the script aims at; handed to it as INCUMBENT_BUDGET_S."""
    timeout_s: float
    """Wall-clock limit in seconds, enforced on the whole process tree."""
    smoke: Smoke | None = None
    """What is to run before it; see trainer.rungs."""
    place: Place = Place()
    """Where it may run."""
    is_control: bool = False
    """It is of what was promoted before: it is never cut short."""
    is_repeat: bool = False
    """Its tree was measured before; `[trial] seed_pattern`, if there is one, applies."""
    rung: Rung = Rung.FULL
    """Which of a trial's runs is meant, where it consists of several."""
    is_short: bool = False
    """It is on a rung of the budget ladder, so what it measures is no score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOutcome:
    """The facts of a finished trial. Says nothing of whether the candidate is any good."""

    ending: Ending
    value: float | None = None
    """The metric; a finite number if and only if `ending` is SCORED."""
    crash: CrashKind | None = None
    """Set if and only if `ending` is CRASHED."""
    reason: str = ""
    """One line for people, e.g. "ZeroDivisionError: division by zero"; empty when scored."""
    tail: str = ""
    """End of the traceback or of the log, at most 4 kB; empty when scored."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Other summary numbers that the log printed, e.g. peak_vram_mb."""
    is_given_back: bool = False
    """For a LOST trial: the study asked for it back, or its code could not be had, which does not
    count against the candidate."""
    exit_code: int | None = None
    """The command's exit code; negative is a signal; None if it never started."""
    stages_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage: materialise, smoke (the whole smoke run), train, predict (what it left was
    asked), score.

    Of `train`, as far as the log tells: start (to the first output), prepare (to the first line
    that counts steps), steps (to the last such line), evaluate (to the end).
    """
    log_bytes: int = 0
    """Bytes the trial printed, kept or not."""
    log_dropped: int = 0
    """Bytes between the kept first and last MiB."""
    limits_by: str = ""
    """How memory and processes were limited: "cgroup v2", "cgroup v1" (exactly) or "watchdog"."""
    sandbox: str = ""
    """What it ran in: "bubblewrap" or "none"; empty if it never started, or if that is unknown."""
    start: Start | None = None
    """What had been done for it when its turn came; None if it never started, or if unknown."""
    cold_reason: str = ""
    """Why its imports had not been done by then, in one line; empty for a warm start."""
    device_class: str = "cpu"
    """Scores are compared within one device class."""
    telemetry: Telemetry = field(default_factory=Telemetry)
    """What was measured beside the metric; without a number for what was not."""
    conduct: Conduct = field(default_factory=Conduct)
    """How the run behaved, for a second look at a score that is too good."""
    rung: Rung = Rung.FULL
    """The run that it ended with: "full", or "smoke", which then failed and nothing followed."""
    probe: Probe | None = None
    """For a scored trial of the baseline where smoke runs or rungs are wanted: whether they can be
    had."""
    short_value: float | None = None
    """What the metric was at the end of a run on a rung; set if and only if `ending` is SHORT."""
    reseeds: tuple[Reseed, ...] = ()
    """Seeds that were written into its copy of the tree, by `[trial] seed_pattern`."""

    def __post_init__(self) -> None:
        if (self.value is not None) != (self.ending is Ending.SCORED):
            raise ValueError(
                f"a value belongs to a scored trial alone: {self.ending}, {self.value}"
            )
        if (self.crash is not None) != (self.ending is Ending.CRASHED):
            raise ValueError(f"a crash kind belongs to a crash alone: {self.ending}, {self.crash}")
        if (self.short_value is not None) != (self.ending is Ending.SHORT):
            raise ValueError(f"a value of a short run belongs to one alone: {self.ending}")
        if self.rung is Rung.SMOKE and self.ending is Ending.SCORED:
            raise ValueError("a smoke run scores nothing")
