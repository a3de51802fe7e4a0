"""Where a worker keeps what: the one place that joins path names within a study's folder on a node.

STUDY/repo.git              bare repository (written by whoever provides the code)
STUDY/worktrees/SLOT        where a slot checks its trials out; `base` is for setting up
STUDY/runs/SLOT/N           a trial's own copy of that (`src`), and what it writes (`out`, `cache`)
STUDY/runs/SLOT/score       the same for the scorer of its predictions, where there is one
STUDY/runs/SLOT/predict     the same for what makes predictions of its model, where that is so
STUDY/runs/SLOT/trash       what of that is being removed
STUDY/caches/NODE-CLASS     what compilers made of the baseline, for trials to start with
STUDY/logs/e42.1.log        output of a trial; e42.1-a2.log of its second attempt
STUDY/logs/e42.1-smoke.log  output of its smoke run; e42.1-a2-smoke.log likewise
STUDY/logs/e42.1-score.log  output of the scorer of its predictions
STUDY/logs/e42.1-predict.log  output of what makes predictions of its model, where that is so
STUDY/out/e42.1-1           what a trial has left in its output folder (INCUMBENT_OUT)
STUDY/predictions/e42.1-1   what was predicted by the model among that, where that is so
STUDY/kept, STUDY/pruned    what attempts hold, and which hold nothing any more: trainer.retention
STUDY/unsent/e42.1-1        on a node: what of a trial the head does not have yet
STUDY/returned/e42.1-1.json  on the head: what came back of a trial on a node, and what stayed there
STUDY/returning/e42.1-1     on the head: what is on its way
ENVIRONMENTS/HASH           virtual environments, shared by the studies of a node
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from trainer.trial import Rung, SlotId, TrialId, TrialSpec

OUT, PREDICTIONS = KINDS = ("out", "predictions")
"""Folders in which what attempts left is kept."""
PREDICT = "predict"
"""What the log of asking a model is called, behind the name of its trial."""
_LOG = re.compile(r"(.+?\.\d+)(?:-a(\d+))?(?:-[a-z0-9-]+)?\.log")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPaths:
    """The folders of one study on one node."""

    study: Path
    environments: Path

    @property
    def repository(self) -> Path:
        """The study's bare repository on this node."""
        return self.study / "repo.git"

    @property
    def base_worktree(self) -> Path:
        """Checkout of the base commit, in which environments are made and `setup` runs."""
        return self.study / "worktrees" / "base"

    @property
    def preparation_lock(self) -> Path:
        """Held by the worker that prepares the node, while the others wait."""
        return self.study / "prepare.lock"

    @property
    def environment_log(self) -> Path:
        """Output of the last `uv sync`."""
        return self.study / "logs" / "environment.log"

    @property
    def setup_log(self) -> Path:
        """Output of the last run of the `setup` command."""
        return self.study / "logs" / "setup.log"

    @property
    def preparation_logs(self) -> tuple[Path, ...]:
        """Both: what a command leaves running may go on to write there."""
        return self.environment_log, self.setup_log

    def setup_stamp(self, key: str) -> Path:
        """Return the file that says that this very setup has succeeded."""
        return self.study / f"setup-{key}"

    def virtual_environment(self, key: str) -> Path:
        """Return the folder of the virtual environment for a lock file's hash."""
        return self.environments / key

    def worktree(self, slot: SlotId) -> Path:
        """Return the slot's worktree, by a name of its own that git takes for a registration."""
        return self.study / "worktrees" / _name(slot)

    def run(self, slot: SlotId, turn: int) -> Path:
        """Return one of the slot's run folders."""
        return self.study / "runs" / _name(slot) / str(turn)

    def scoring(self, slot: SlotId) -> Path:
        """Return the run folder in which the slot's trials are scored."""
        return self.study / "runs" / _name(slot) / "score"

    def scoring_trash(self, slot: SlotId) -> Path:
        """Return where the scorer throws away what it was given."""
        return self.scoring(slot) / "trash"

    def scoring_worktree(self, slot: SlotId) -> Path:
        """Return the checkout of the base commit from which the user's scorer runs."""
        return self.study / "worktrees" / f"{_name(slot)}-score"

    def predicting(self, slot: SlotId) -> Path:
        """Return the run folder in which the models of the slot's trials are asked."""
        return self.study / "runs" / _name(slot) / "predict"

    def predicting_trash(self, slot: SlotId) -> Path:
        """Return where what that has left is thrown away."""
        return self.predicting(slot) / "trash"

    def predicting_worktree(self, slot: SlotId) -> Path:
        """Return the checkout of the candidate whose model is asked."""
        return self.study / "worktrees" / f"{_name(slot)}-predict"

    def predictions(self, spec: TrialSpec) -> Path:
        """Return the folder that keeps what was predicted by the model that a trial left."""
        return self.study / "predictions" / out_name(spec.trial, spec.attempt)

    def predict_log(self, spec: TrialSpec, name: str = "") -> Path:
        """Return where the output goes of what makes predictions; `name` is as Question has it."""
        steps = "-".join((self.log(spec).stem, PREDICT, *([name] if name else [])))
        return self.log(spec).with_name(f"{steps}.log")

    @property
    def labels_log(self) -> Path:
        """What the scorer said of the labels, before any trial."""
        return self.study / "logs" / "labels.log"

    def score_log(self, spec: TrialSpec) -> Path:
        """Return where the output of the scorer goes."""
        return self.log(spec).with_name(f"{self.log(spec).stem}-score.log")

    def trash(self, slot: SlotId) -> Path:
        """Return where the slot throws away what its trials left."""
        return self.study / "runs" / _name(slot) / "trash"

    def cache_seed(self, node: str, device_class: str) -> Path:
        """Return the compile caches with which trials of a device class start on a node.

        Code made for the processor of one machine need not run on another that shares the folder.
        """
        return self.study / "caches" / f"{_escaped(node)}_{_escaped(device_class)}"

    def log(self, spec: TrialSpec) -> Path:
        """Return where the trial's output goes."""
        return self.study / "logs" / log_name(spec.trial, spec.attempt, spec.rung)

    def out(self, spec: TrialSpec) -> Path:
        """Return the folder that keeps what the trial left."""
        return self.study / "out" / out_name(spec.trial, spec.attempt)

    def logs_of(self, name: str) -> list[Path]:
        """Return all logs of one attempt, which is named as by `out_name`."""
        return self.logs(name.rpartition("-")[0]).get(name, [])

    def logs(self, prefix: str = "") -> dict[str, list[Path]]:
        """Return the logs that begin so by their attempts, named as by `out_name`, in one look."""
        folder = self.study / "logs"
        if not folder.is_dir():
            return {}
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.startswith(prefix))
        found: dict[str, list[Path]] = {}
        for log in names:
            if match := _LOG.fullmatch(log):
                name = out_name(TrialId(match[1]), int(match[2] or 1))
                found.setdefault(name, []).append(folder / log)
        return found

    @property
    def unsent(self) -> Path:
        """Folder of files named for the attempts whose results the head does not have yet."""
        return self.study / "unsent"

    def returned(self, name: str) -> Path:
        """Return the file that says what came back of one attempt on a node."""
        return self.study / "returned" / f"{name}.json"

    def returning(self, name: str) -> Path:
        """Return where what comes back of one attempt lies until all of it is there."""
        return self.study / "returning" / name

    def kept(self, kind: str, name: str) -> Path:
        """Return the folder of what one attempt left, of one of the KINDS."""
        return self.study / kind / name


def log_name(trial: TrialId, attempt: int, rung: Rung = Rung.FULL) -> str:
    """Return the name of the file that the output of one run goes to."""
    of_attempt = f"-a{attempt}" if attempt > 1 else ""
    of_rung = "" if rung is Rung.FULL else f"-{rung}"
    return f"{trial}{of_attempt}{of_rung}.log"


def out_name(trial: TrialId, attempt: int) -> str:
    """Return the name of the folder that keeps what one attempt left."""
    return f"{trial}-{attempt}"


def _name(slot: SlotId) -> str:
    return f"slot-{_escaped(slot)}"


def _escaped(text: str) -> str:
    """Return another text for each, of letters, digits, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9-]", lambda found: f"_{ord(found[0]):x}_", text)
