"""How a trial ended, told from the supervisor's report.

Pure. Knows what tracebacks, shells, signals, PyTorch and autoresearch scripts leave behind; does
not know how a trial is run or what its score is worth. A failure never becomes a number.
"""

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace

from eval.metric import Reading
from eval.suspicion import Conduct
from trainer.frozen import FrozenCheck
from trainer.ports import CodeAway
from trainer.run_records import EndedBy, RunReport
from trainer.score_report import ScoreReport
from trainer.telemetry import GpuTelemetry, Telemetry
from trainer.trial import UNEXPLAINED, CrashKind, Ending, TrialOutcome

_TAIL_CHARACTERS = 4096
_MESSAGE_CHARACTERS = 1024
_REASON_CHARACTERS = 200
_LAST_LINES = 10

_OUT_OF_MEMORY = re.compile(
    r"(?:CUDA|CUDA error:|HIP|MPS backend|RESOURCE_EXHAUSTED:) out of memory|MemoryError\b"
    r"|\bstd::bad_alloc\b|\bCUBLAS_STATUS_ALLOC_FAILED\b|can(?:'t|not) allocate memory",
    re.IGNORECASE,
)
_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded")
_FILE_TOO_LARGE = re.compile(r"\bFile too large\b")
_NO_PROCESS = re.compile(
    r"can't start new thread|BlockingIOError: \[Errno 11\]"
    r"|\bfork\b.*Resource temporarily unavailable"
)
_NO_DESCRIPTOR = re.compile(r"\bToo many open files\b")
_CHILD_KILLED = re.compile(r"\bkilled by signal: Killed\b|^Killed$")
_NOT_FINITE = re.compile(r"\bnan\b|\bnon-?finite\b|\bnot finite\b", re.IGNORECASE)
_LOSS_NOT_FINITE = re.compile(r"\bloss\b\W{0,9}(?:is\s)?[-+]?(?:nan|inf)\b", re.IGNORECASE)
_LOSS = re.compile(r"\bloss\b", re.IGNORECASE)
# karpathy/autoresearch prints FAIL, behind its last progress line, when the loss is NaN or > 100.
_FAIL = re.compile(r"\bFAIL$")
_NO_SUCH_COMMAND = re.compile(r"can't open file .*\[Errno 2\]|\bFailed to spawn\b")

_TRACEBACK = "Traceback (most recent call last):"
_UNINDENTED = re.compile(r"^(?P<line>\S.*)$", re.MULTILINE)
# A syntax error has no traceback's head, a member of an exception group stands behind bars.
_LOOSE_EXCEPTION = re.compile(
    r"^[ |]*(?P<line>[A-Za-z_][\w.]*(?:Error|Exception)(?:: .*)?)$", re.MULTILINE
)
_RANK = re.compile(r"^\[rank\d+\]:\s?", re.MULTILINE)  # torchrun's prefix

_CRASHES = {
    EndedBy.NOT_STARTED: CrashKind.NOT_STARTED,
    EndedBy.MEMORY: CrashKind.OUT_OF_MEMORY,
    EndedBy.DISK: CrashKind.DISK_LIMIT,
    EndedBy.PIDS: CrashKind.PROCESS_LIMIT,
}

_SHELL_COULD_NOT_START = (126, 127)
"""Exit codes by which POSIX shells say "not executable" and "not found"."""
_SHELL_SIGNAL = 128
"""Shells and `uv run` exit with this plus the number of the signal that killed their child."""
_SHELL_SIGNALS = (
    signal.SIGILL,
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGKILL,
    signal.SIGSEGV,
    signal.SIGTERM,
    signal.SIGXFSZ,
)


def classify(
    report: RunReport,
    *,
    device_class: str,
    stages_s: Mapping[str, float],
    gpu: GpuTelemetry | None = None,
    score: ScoreReport | None = None,
) -> TrialOutcome:
    """Return the outcome of a run that ended as `report` says.

    `stages_s` are the seconds of the trial's stages around the run, as TrialOutcome has them; `gpu`
    is what was seen of its cards; `score` is what a trusted scorer made of its predictions, where
    the study has one: then what the log says of the metric is a claim, and kept as `claimed`.
    """
    log = _LogEnd.of(report.tail)
    verdict = _verdict(report, log, score)
    is_scored = verdict.value is not None
    return TrialOutcome(
        ending=verdict.ending,
        value=verdict.value,
        crash=verdict.crash,
        reason=verdict.reason[:_REASON_CHARACTERS],
        tail="" if is_scored else (score.tail if score else "") or log.excerpt,
        metrics=report.summary if score is None else _with_claim(report, score),
        exit_code=report.exit_code,
        stages_s={**stages_s, **report.stages_s, **({"score": score.wall_s} if score else {})},
        log_bytes=report.log_bytes,
        log_dropped=report.log_dropped,
        limits_by=report.limits_by or "",
        sandbox=report.sandbox,
        start=report.start,
        cold_reason=report.cold_reason[:_REASON_CHARACTERS],
        device_class=device_class,
        telemetry=_telemetry(report, gpu),
        conduct=_conduct(report) if score is None else Conduct(wall_s=report.wall_s),
    )


def has_ended_well(report: RunReport) -> bool:
    """Say whether a run ended by itself, and by exit code 0: then its metric decides."""
    return report.ended_by is EndedBy.EXIT and report.exit_code == 0


def why_it_failed(report: RunReport) -> tuple[str, str]:
    """Return why a run did not end well, in one line, and what of its log a person should see."""
    log = _LogEnd.of(report.tail)
    return _verdict(report, log, None).reason, log.excerpt


def pruned(outcome: TrialOutcome) -> TrialOutcome:
    """Return the outcome of a run that was ended for its curve.

    One that ended by itself in the same moment stays what it is: a score is better than none.
    """
    if outcome.ending is not Ending.CANCELLED:
        return outcome
    reason = f"stopped as hopeless after {outcome.conduct.wall_s:.0f} s"
    return replace(outcome, ending=Ending.PRUNED, reason=reason)


def lost(error: Exception, device_class: str, stages_s: Mapping[str, float]) -> TrialOutcome:
    """Return the outcome of a trial of which a run could not be started, for reasons of ours.

    One whose code could not be had is given back: that says nothing against it.
    """
    return TrialOutcome(
        ending=Ending.LOST,
        reason=f"{type(error).__name__}: {error}"[:_REASON_CHARACTERS],
        is_given_back=isinstance(error, CodeAway),
        stages_s=stages_s,
        device_class=device_class,
    )


def given_back(outcome: TrialOutcome) -> TrialOutcome:
    """Return the outcome of a run that was ended because the study stops."""
    reason = "given back: the study stopped"
    return replace(
        outcome, ending=Ending.LOST, value=None, crash=None, reason=reason, is_given_back=True
    )


def checked(outcome: TrialOutcome, check: FrozenCheck) -> TrialOutcome:
    """Return the outcome with what became of the frozen files, which is asked of scores alone."""
    if outcome.ending is not Ending.SCORED:
        return outcome
    conduct = replace(outcome.conduct, frozen=check.changed, frozen_unchecked=check.unchecked)
    return replace(outcome, conduct=conduct)


def _conduct(report: RunReport) -> Conduct:
    return Conduct(
        wall_s=report.wall_s,
        value_at_s=report.value_at_s,
        first_step_s=report.first_step_s,
        final_values=max(1, report.final_values),
    )


def _with_claim(report: RunReport, score: ScoreReport) -> dict[str, float]:
    claimed = Reading.of(report.metric_text).value
    return {
        **report.summary,
        **score.summary,
        **({} if claimed is None else {"claimed": claimed}),
    }


def _telemetry(report: RunReport, gpu: GpuTelemetry | None) -> Telemetry:
    if report.wall_s == 0 or report.ended_by is EndedBy.SUPERVISOR_LOST:
        return Telemetry(gpu=gpu)  # the report's numbers are defaults, not measurements
    return Telemetry(
        wall_s=report.wall_s,
        cpu_s=report.cpu_s,
        memory_peak_mb=report.peak_memory_mb or report.max_rss_mb,
        steps_per_s=report.steps_per_s,
        step_counter=report.step_counter,
        gpu=gpu,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    ending: Ending = Ending.CRASHED
    crash: CrashKind | None = None
    value: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _LogEnd:
    """The parts of a log's end that tell why a process failed."""

    exception: str
    """The line that names the exception that ended it; empty if there is none."""
    last_lines: str
    excerpt: str
    """What a person should see."""

    @classmethod
    def of(cls, tail: str) -> "_LogEnd":
        text = _RANK.sub("", tail).rstrip()
        head = text.rfind(_TRACEBACK)
        found = _UNINDENTED.search(text, head + len(_TRACEBACK)) if head >= 0 else None
        if found is None:
            head = 0
            found = next(reversed(list(_LOOSE_EXCEPTION.finditer(text))), None)
        lines = [line for line in text.splitlines() if line.strip()]
        end = min(len(text), found.start("line") + _MESSAGE_CHARACTERS) if found else len(text)
        return cls(
            exception=found["line"] if found else "",
            last_lines="\n".join(lines[-_LAST_LINES:]),
            excerpt=text[max(head, end - _TAIL_CHARACTERS) : end],
        )

    @property
    def last_line(self) -> str:
        return self.last_lines.rpartition("\n")[2].strip()


def _verdict(report: RunReport, log: _LogEnd, score: ScoreReport | None) -> _Verdict:
    if crash := _CRASHES.get(report.ended_by):
        return _Verdict(crash=crash, reason=report.problem)
    match report.ended_by:
        case EndedBy.TIMEOUT:
            reason = f"stopped at its time limit, after {report.wall_s:.1f} s"
            return _Verdict(ending=Ending.TIMED_OUT, reason=reason)
        case EndedBy.CANCEL:
            return _Verdict(ending=Ending.CANCELLED, reason="cancelled")
        case EndedBy.SUPERVISOR_LOST | EndedBy.NO_SANDBOX | EndedBy.DISK_FULL:  # not its doing
            return _Verdict(ending=Ending.LOST, reason=report.problem)
        case _ if not has_ended_well(report):
            return _of_crash(report, log)
        case _:
            return _of_metric(report) if score is None else _of_score(score)


def _of_score(score: ScoreReport) -> _Verdict:
    if score.value is not None:
        return _Verdict(ending=Ending.SCORED, value=score.value)
    if score.is_ours:
        return _Verdict(ending=Ending.LOST, reason=score.reason)
    return _Verdict(crash=CrashKind.PREDICTIONS, reason=score.reason)


def _of_metric(report: RunReport) -> _Verdict:
    reading = Reading.of(report.metric_text)
    if reading.value is not None:
        return _Verdict(ending=Ending.SCORED, value=reading.value)
    crash = CrashKind.NAN if reading.problem.startswith("not finite") else CrashKind.NO_METRIC
    return _Verdict(crash=crash, reason=f"the metric is {reading.problem}")


def _of_crash(report: RunReport, log: _LogEnd) -> _Verdict:
    code = report.exit_code or 0  # what ended by itself has one
    if code < 0:
        return _of_signal(-code, report, log)
    if code - _SHELL_SIGNAL in _SHELL_SIGNALS and not log.exception:
        return _of_signal(code - _SHELL_SIGNAL, report, log)
    said = log.exception or log.last_lines
    kinds: list[tuple[CrashKind, re.Pattern[str]]] = [
        (CrashKind.OUT_OF_MEMORY, _OUT_OF_MEMORY),
        (CrashKind.DISK_FULL, _DISK_FULL),
        (CrashKind.DISK_LIMIT, _FILE_TOO_LARGE),
        (CrashKind.PROCESS_LIMIT, _NO_PROCESS),
        (CrashKind.OPEN_FILES_LIMIT, _NO_DESCRIPTOR),
        (CrashKind.NAN, _NOT_FINITE if log.exception else _LOSS_NOT_FINITE),
        (CrashKind.NOT_STARTED, _NO_SUCH_COMMAND),
    ]
    if report.oom_kills:
        kinds.insert(0, (CrashKind.OUT_OF_MEMORY, _CHILD_KILLED))
    for crash, pattern in kinds:
        if line := _line_with(pattern, said):
            return _Verdict(crash=crash, reason=line)
    if log.exception:
        return _Verdict(crash=CrashKind.EXCEPTION, reason=log.exception)
    if _FAIL.search(log.last_line) and _LOSS.search(log.last_lines):
        return _Verdict(crash=CrashKind.NAN, reason=f"the script gave up: {log.last_line}")
    crash = CrashKind.NOT_STARTED if code in _SHELL_COULD_NOT_START else CrashKind.EXCEPTION
    return _Verdict(crash=crash, reason=f"{UNEXPLAINED} {code}: {log.last_line}".rstrip(": "))


def _of_signal(number: int, report: RunReport, log: _LogEnd) -> _Verdict:
    if line := _line_with(_OUT_OF_MEMORY, log.last_lines):
        return _Verdict(crash=CrashKind.OUT_OF_MEMORY, reason=line)
    if number == signal.SIGKILL and report.oom_kills:
        reason = "killed by the kernel, which had run out of memory"
        return _Verdict(crash=CrashKind.OUT_OF_MEMORY, reason=reason)
    if number == signal.SIGXFSZ:
        reason = "killed by SIGXFSZ: a file would have grown beyond disk_gb"
        return _Verdict(crash=CrashKind.DISK_LIMIT, reason=reason)
    names = {each.value: each.name for each in signal.Signals}
    name = names.get(number, f"signal {number}")  # real-time signals have no names
    return _Verdict(crash=CrashKind.SIGNAL, reason=f"killed by {name}")


def _line_with(pattern: re.Pattern[str], text: str) -> str:
    return next((line.strip() for line in text.split("\n") if pattern.search(line)), "")
