"""From what a trial left to the number that counts: the trusted scorer, from the worker's side.

Knows how predictions are taken out of a trial's folder, as if an enemy had put them there, and how
the scorer is run on them: by a supervisor of its own, in a sandbox of its own, in which there are
labels and no network and nothing of the candidate but that one file. Does not know leases, nor what
is computed (eval.scoring, or the user's script).

The labels are joined here and nowhere else: no sandbox of a trial ever shows them.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from eval.metric import Metric, Reading
from trainer.config import ScoreConfig
from trainer.limits import GB
from trainer.removal import Trash
from trainer.run_folder import RunFolder
from trainer.run_records import EndedBy, Limits, RunReport, RunRequest
from trainer.safe_read import SafeFolder, Unsafe
from trainer.sandbox.port import Sandbox
from trainer.score_exit import ScoreExit
from trainer.score_report import ScoreReport
from trainer.slot_place import SlotPlace
from trainer.supervisor_client import Supervisor
from trainer.trial import TrialSpec

OURS = frozenset({EndedBy.NO_SANDBOX, EndedBy.SUPERVISOR_LOST, EndedBy.DISK_FULL})
"""Endings of a run that say nothing of what it was given."""
_LOOK_S = 1.0
_MOST_SHARE = 4
"""Predictions are held packed, unpacked, as 64-bit floats, and sorted: a quarter of the memory."""
_MEANT = frozenset(ScoreExit)


class Scorer(Protocol):
    """What turns the output of a slot's trials into their scores, one at a time."""

    def begin(self, spec: TrialSpec, out: Path) -> ScoreReport | None:
        """Begin to score what a trial left in `out`; None means that `poll` will tell.

        Nothing of the trial is alive any more, and `out` is not looked at once this has returned.
        Raises OSError, where the disk is full say, and RuntimeError.
        """
        ...

    def glance(self, out: Path) -> ScoreReport:
        """Say of a smoke run whether it left something to be scored; it is worth 0 if it did.

        For the score of so short a run counts nowhere, and the full run is not to wait for it.
        """
        ...

    def poll(self, timeout_s: float) -> ScoreReport | None:
        """Return what came of it, waiting at most `timeout_s` seconds; None if it still runs."""
        ...

    def close(self) -> None:
        """End what runs; returns when it is dead."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCommand:
    """How the scorer is started, in whichever way it is made."""

    argv: tuple[str, ...]
    variables: Mapping[str, str]
    metric: Metric
    """By which its output is read."""
    name: str
    """What to call it in a reason."""
    is_ours: bool = False
    """Whether it ends as trainer.score_exit says."""
    tree: Path | None = None
    """What its folder is filled with; None leaves it empty."""
    source: str = ""
    """Folder in that tree which is to be put on PYTHONPATH."""


def most_bytes(config: ScoreConfig) -> int:
    """Return what a file of predictions may hold."""
    return round(config.memory_gb * GB) // _MOST_SHARE


class PredictionScorer:
    """trainer.scorer.Scorer with the labels of `[score]`."""

    def __init__(
        self,
        config: ScoreConfig,
        command: ScoreCommand,
        *,
        labels: Path,
        sandbox: Sandbox,
        limits: Limits,
        place: SlotPlace,
    ) -> None:
        """`labels` is where the scorer finds them."""
        self._config = config
        self._command = command
        self._labels = labels
        self._sandbox = sandbox
        self._place = place
        self._folder = RunFolder.at(place.paths.scoring(place.slot))
        self._limits = self._folder.limits(limits)
        self._trash = Trash(place.paths.scoring_trash(place.slot))
        self._supervisor = Supervisor()

    def begin(self, spec: TrialSpec, out: Path) -> ScoreReport | None:
        """See Scorer."""
        self._clean()

        def copy(folder: SafeFolder) -> None:
            folder.copy(self._config.predictions, self._taken, most_bytes(self._config))

        if problem := self._problem_with(out, copy):
            return ScoreReport(reason=problem)
        self._taken.chmod(0o644)
        if self._sandbox.owner is not None:
            os.chown(self._taken, self._sandbox.owner, self._sandbox.owner)
        log = self._place.paths.score_log(spec)
        log.parent.mkdir(parents=True, exist_ok=True)
        seen = self._sandbox.seen(self._folder).out / self._taken.name
        self._supervisor.start(self._request(spec.trial, log, seen))
        return None

    def glance(self, out: Path) -> ScoreReport:
        """See Scorer."""
        problem = self._problem_with(out, lambda folder: folder.size(self._config.predictions))
        return ScoreReport(reason=problem) if problem else ScoreReport(value=0.0)

    def poll(self, timeout_s: float) -> ScoreReport | None:
        """See Scorer."""
        news = self._supervisor.poll(timeout_s)
        if not isinstance(news, RunReport):
            return None
        with suppress(OSError):  # then it is in the way of the next, which says so
            self._folder.discard(self._trash)
        return self._told(news)

    def problem(self) -> str:
        """Look at the labels alone; return what is wrong with them. For our own command."""
        self._clean()
        log = self._place.paths.labels_log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._supervisor.start(self._request("labels", log, None))
        while not isinstance(report := self._supervisor.poll(_LOOK_S), RunReport):
            pass
        is_well = report.ended_by is EndedBy.EXIT and report.exit_code == 0
        return "" if is_well else self._told(report).reason

    def close(self) -> None:
        """See Scorer."""
        self._supervisor.close()
        with suppress(OSError):
            self._folder.discard(self._trash)
        self._trash.close()

    @property
    def _taken(self) -> Path:
        return self._folder.out / PurePosixPath(self._config.predictions).name

    def _problem_with(self, out: Path, look: Callable[[SafeFolder], object]) -> str:
        """Return why what a trial left cannot be looked at; empty if it can."""
        name = self._config.predictions
        try:
            with SafeFolder(out) as folder:
                look(folder)
        except FileNotFoundError:
            return f"it left no {name} in $INCUMBENT_OUT"
        except Unsafe as unsafe:
            return f"{name} {unsafe.reason}"
        return ""

    def _clean(self) -> None:
        """Have an empty folder, so that one trial's predictions cannot touch another's score."""
        self._folder.discard(self._trash)
        if self._command.tree is None:
            self._folder.make(owner=self._sandbox.owner)
        else:
            self._folder.fill(self._command.tree, owner=self._sandbox.owner)

    def _request(self, name: str, log: Path, predictions: Path | None) -> RunRequest:
        seen = self._sandbox.seen(self._folder)
        command = self._command
        variables = {
            **command.variables,
            "INCUMBENT_LABELS": os.fspath(self._labels),
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONUNBUFFERED": "1",
        }
        if command.source:
            variables["PYTHONPATH"] = os.fspath(seen.src / command.source)
        if predictions is not None:
            variables["INCUMBENT_PREDICTIONS"] = os.fspath(predictions)
        request = RunRequest(
            argv=command.argv,
            env=variables,
            cwd=os.fspath(seen.src),
            log_path=os.fspath(log),
            timeout_s=self._config.timeout_s,
            metric=command.metric,
            # As if it were a slot: its processes and control groups are told from those of trials.
            mark=f"{self._place.mark_prefix}score/{name}",
            limits=self._limits,
        )
        return self._sandbox.confine(request, self._folder)

    def _told(self, report: RunReport) -> ScoreReport:
        value, reason = self._verdict(report)
        return ScoreReport(
            value=value,
            reason=reason,
            is_ours=report.ended_by in OURS or self._exit(report) is ScoreExit.BAD_LABELS,
            summary=report.summary,
            wall_s=report.wall_s,
        )

    def _verdict(self, report: RunReport) -> tuple[float | None, str]:
        name = self._command.name
        if report.ended_by is EndedBy.TIMEOUT:
            return None, f"{name} took longer than [score] timeout_s = {self._config.timeout_s:g}"
        if report.ended_by is EndedBy.MEMORY:
            return None, f"{name} took more memory than [score] memory_gb"
        if report.ended_by is not EndedBy.EXIT:
            return None, f"{name}: {report.problem}"
        said = report.tail.strip().rpartition("\n")[2]
        if report.exit_code == 0:
            reading = Reading.of(report.metric_text)
            problem = f"{name}: {self._command.metric.name} is {reading.problem}"
            return reading.value, "" if reading.value is not None else problem
        if self._exit(report) is not None:
            return None, said
        return None, f"{name} ended with {report.exit_code}: {said}".rstrip(": ")

    def _exit(self, report: RunReport) -> ScoreExit | None:
        """Return what our own scorer meant by its exit code; None if it meant nothing."""
        is_meant = self._command.is_ours and report.ended_by is EndedBy.EXIT
        return ScoreExit(report.exit_code) if is_meant and report.exit_code in _MEANT else None
