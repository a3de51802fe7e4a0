"""From the model that a run left to its predictions: the user's command, in a sandbox of its own.

Knows how a model is asked: by a supervisor of its own, in a new copy of the candidate's files, with
the model to be read and one set of inputs, once for each set; and how the predictions are taken out
of that. Does not know labels, leases, or what a model is.

A model may be a pickle, and what it needs to be loaded is the candidate's code: whatever runs here
is the candidate again. It finds inputs, and nothing that it could do with them but predict.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from eval.metric import Metric
from trainer.compile_caches import CacheSeed
from trainer.endings import has_ended_well, why_it_failed
from trainer.ports import CodeSource
from trainer.removal import Trash
from trainer.run_folder import RunFolder
from trainer.run_records import Bind, EndedBy, Limits, RunReport, RunRequest
from trainer.safe_read import SafeFolder, Unsafe
from trainer.sandbox.confine import BubblewrapSandbox
from trainer.score_report import ScoreReport
from trainer.scorer import OURS
from trainer.slot_place import SlotPlace
from trainer.supervisor_client import Supervisor
from trainer.trial import Rung, TrialSpec
from trainer.worktree import SlotWorktree

MODEL = "/model"
"""Where a model is found in the sandbox: all that its run left, to be read."""
INPUTS = "/inputs"
"""The folder in which inputs are found there, under their own name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Inputs of which predictions are wanted."""

    name: str
    """What tells its log from those of others; empty for the one that a trial's score needs."""
    inputs: Bind
    predictions: str
    """File to make of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictCommand:
    """How a model is asked, whichever trial has left it."""

    line: str
    """As the configuration has it."""
    argv: tuple[str, ...]
    variables: Callable[[TrialSpec, RunFolder], Mapping[str, str]]
    """Those of a trial that finds its files there."""
    timeout_s: float
    most_bytes: int
    """What predictions may hold."""
    metric: Metric
    """By which its output is read, like that of a trial; nothing comes of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What came of asking a run's model."""

    folder: Path
    """Where predictions are kept, in files of our own."""
    report: ScoreReport
    """Worth 0 if there is something to be scored; else why there is not."""

    @property
    def is_well(self) -> bool:
        """Say whether there is something to be scored."""
        return self.report.value is not None


class Predictor:
    """Asks one model at a time."""

    def __init__(
        self,
        command: PredictCommand,
        questions: Sequence[Question],
        *,
        code: CodeSource,
        seed: CacheSeed | None,
        sandbox: BubblewrapSandbox,
        limits: Limits,
        place: SlotPlace,
    ) -> None:
        """Take what is asked, first of all what a score needs; `sandbox` shows what trials see."""
        self._command = command
        self._questions = tuple(questions)
        self._code = code
        self._seed = seed
        self._sandbox = sandbox
        self._place = place
        self._folder = RunFolder.at(place.paths.predicting(place.slot))
        self._limits = self._folder.limits(limits)
        self._worktree = SlotWorktree(
            repository=place.paths.repository, path=place.paths.predicting_worktree(place.slot)
        )
        self._trash = Trash(place.paths.predicting_trash(place.slot))
        self._supervisor = Supervisor()
        self._asked: tuple[TrialSpec, Path] | None = None
        self._left: list[Question] = []

    def begin(self, run: TrialSpec, model: Path) -> Predicted | None:
        """Begin to ask the model that a run left in `model`; None means that `poll` will tell.

        Nothing of the run is alive any more. Of a smoke run only what a score needs is asked, and
        nothing is kept. Raises what the code source raises, GitError, RuntimeError, and OSError,
        with ENOSPC where the disk is full.
        """
        self._trash.throw(self._place.paths.predictions(run))
        self._asked = (run, model)
        if problem := _problem_with(model):
            return self._told(problem)
        is_in_full = run.rung is Rung.FULL and not run.is_short
        self._left = list(self._questions if is_in_full else self._questions[:1])
        self._ask()
        return None

    def poll(self, timeout_s: float) -> Predicted | None:
        """Return what came of it, waiting at most `timeout_s` seconds; None if it still runs.

        Raises what `begin` raises.
        """
        news = self._supervisor.poll(timeout_s)
        if not isinstance(news, RunReport):
            return None
        question = self._left.pop(0)
        problem = self._take(news, question)
        self._folder.discard(self._trash)
        is_needed = question is self._questions[0]
        if self._left and news.ended_by is not EndedBy.CANCEL and not (is_needed and problem):
            self._ask()
            return None
        return self._told(problem if is_needed else None)

    def cancel(self) -> None:
        """Ask for its end, which `poll` tells."""
        self._supervisor.cancel()

    def close(self) -> None:
        """End what runs; returns when it is dead."""
        self._supervisor.close()
        with suppress(OSError):
            self._folder.discard(self._trash)
        self._trash.close()

    def _told(self, problem: ScoreReport | None) -> Predicted:
        run, _ = self._current()
        return Predicted(
            folder=self._place.paths.predictions(run), report=problem or ScoreReport(value=0.0)
        )

    def _current(self) -> tuple[TrialSpec, Path]:
        if self._asked is None:
            raise RuntimeError("no model is asked")
        return self._asked

    def _ask(self) -> None:
        """Ask the next question, in a folder in which nobody has been."""
        run, model = self._current()
        question = self._left[0]
        self._folder.discard(self._trash)
        self._worktree = self._worktree.of(self._code.fetch(run.commit))
        tree = self._worktree.checkout(run.commit)
        seed = self._seed.path() if self._seed else None
        self._folder.fill(tree, owner=self._sandbox.owner, seed=seed)
        shown = (Bind(source=os.fspath(model), place=MODEL), question.inputs)
        sandbox = replace(self._sandbox, shown=(*self._sandbox.shown, *shown))
        self._supervisor.start(sandbox.confine(self._request(run, question), self._folder))

    def _request(self, run: TrialSpec, question: Question) -> RunRequest:
        seen = self._sandbox.seen(self._folder)
        log = self._place.paths.predict_log(run, question.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        variables = {
            **self._command.variables(run, seen),
            "INCUMBENT_MODEL": MODEL,
            "INCUMBENT_INPUTS": question.inputs.place,
            "INCUMBENT_PREDICTIONS": os.fspath(seen.out / question.predictions),
        }
        return RunRequest(
            argv=self._command.argv,
            env=variables,
            cwd=os.fspath(seen.src),
            log_path=os.fspath(log),
            timeout_s=self._command.timeout_s,
            metric=self._command.metric,
            mark=f"{self._place.mark_prefix}predict/{run.trial}",
            limits=self._limits,
        )

    def _take(self, report: RunReport, question: Question) -> ScoreReport | None:
        """Keep what was predicted; return why nothing was, if so."""
        if report.ended_by in OURS:
            return ScoreReport(reason=report.problem, is_ours=True)
        if not has_ended_well(report):
            return self._failure(report)
        run, _ = self._current()
        name = question.predictions
        kept = self._place.paths.predictions(run) / name
        try:
            with SafeFolder(self._folder.out) as out:
                out.size(name)
                if run.rung is Rung.FULL:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    out.copy(name, kept, self._command.most_bytes)
        except FileNotFoundError:
            return ScoreReport(reason=f"{self._command.line} made no {name} of the model")
        except Unsafe as unsafe:
            return ScoreReport(reason=f"{name} {unsafe.reason}")
        return None

    def _failure(self, report: RunReport) -> ScoreReport:
        reason, tail = why_it_failed(report)
        if report.ended_by is EndedBy.TIMEOUT:
            reason = f"took longer than [score] predict_timeout_s = {self._command.timeout_s:g}"
        return ScoreReport(reason=f"{self._command.line}: {reason}", tail=tail)


def _problem_with(model: Path) -> ScoreReport | None:
    try:
        with SafeFolder(model) as left, left.scan("") as entries:
            is_empty = next(entries, None) is None
    except Unsafe as unsafe:
        return ScoreReport(reason=f"its model: $INCUMBENT_OUT {unsafe.reason}")
    return ScoreReport(reason="it left no model in $INCUMBENT_OUT") if is_empty else None
