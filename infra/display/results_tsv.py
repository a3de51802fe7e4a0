"""`results.tsv`, as karpathy/autoresearch keeps it, so that its analysis notebook reads ours.

Five columns, tab-separated: commit, the metric under its own name, memory_gb, status, description.
A row is written when an experiment's fate is known, and is never changed:

    status of the experiment             row
    kept (promoted), baseline            keep, with the commit on the branch
    discarded, conflicted, dropped       discard
    suspect                              discard; if it is accepted or retried, a further row
    crashed, timed_out, rejected         crash, with 0.000000 and 0.0 for the numbers
    merged                               none: the merge that carried its patch has a row
    pruned                               none: it has no number, and discards are compared by theirs
    cancelled, lost                      none: they say nothing of the patch

An experiment that is retried gets a further row. The rows follow from the ledger alone, in order of
the fates: a controller that starts writes the file anew, and then appends.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster.state.events import Recorded
from cluster.state.state import StudyState
from eval.metric import Metric
from infra.facts.fates import End, Fate, all_ends, ends_by
from infra.facts.plain_text import one_line
from infra.local.home import write_atomically
from trainer.trial import TrialOutcome

ROWS = (Fate.KEEP, Fate.DISCARD, Fate.CRASH)
_COLUMNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table, as it is read back."""

    commit: str
    """Its first seven digits."""
    value: float | None
    """None for a crash."""
    status: str
    description: str


def read_rows(path: Path, metric: Metric) -> list[Row]:
    """Read a table back; raises FileNotFoundError, and ValueError if it is not of this metric."""
    header, *lines = path.read_text("utf-8").splitlines() or [""]
    if header != _header(metric):
        raise ValueError(f"its header is not that of {metric.name}")
    rows = []
    for number, line in enumerate(lines, start=2):
        cells = line.split("\t")
        if len(cells) != _COLUMNS or cells[3] not in {fate.value for fate in ROWS}:
            raise ValueError(f"its line {number} is no row")
        commit, value, _, status, description = cells
        score = None if status == Fate.CRASH.value else float(value)
        rows.append(Row(commit=commit, value=score, status=status, description=description))
    return rows


def _header(metric: Metric) -> str:
    return f"commit\t{metric.name}\tmemory_gb\tstatus\tdescription"


class ResultsTsv:
    """Keeps the file up to date. Implements cluster.controller.ports.Observer."""

    def __init__(self, path: Path, metric: Metric) -> None:
        self._path = path
        self._header = _header(metric) + "\n"
        self._state = StudyState()
        self._is_behind = False
        """A write has failed, on a full disk say: the next one writes the whole file."""

    def observe(self, recorded: Recorded, state: StudyState) -> None:
        """See Observer; appends the row of an experiment that the event ended."""
        self._state = state
        rows = _rows(ends_by(recorded, state))
        if not rows:
            return
        if self._is_behind or not self._path.exists():
            self._rewrite()
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(rows)
        except OSError:
            self._is_behind = True

    def resume(self, state: StudyState) -> None:
        """See Observer; writes the whole file."""
        self._state = state
        self._rewrite()

    def close(self) -> None:
        """See Observer."""
        if self._is_behind:
            self._rewrite()

    def _rewrite(self) -> None:
        try:
            write_atomically(self._path, self._header + _rows(all_ends(self._state)))
        except OSError:
            self._is_behind = True
        else:
            self._is_behind = False


def _rows(ends: Iterable[End]) -> str:
    return "".join(_row(end) for end in ends if end.fate in ROWS)


def _row(end: End) -> str:
    """Return one line, in autoresearch's formats."""
    memory = 0.0 if end.value is None else _memory_gb(end.outcomes[-1])
    # pandas takes a quotation mark at the start of a field for a quoted field, up to the next mark.
    description = one_line(end.experiment.hypothesis).replace('"', "'")
    cells = (
        end.commit[:7],
        f"{end.value or 0.0:.6f}",
        f"{memory:.1f}",
        end.fate.value,
        description or end.experiment.id,
    )
    return "\t".join(cells) + "\n"


def _memory_gb(outcome: TrialOutcome) -> float:
    """Return the peak GPU memory that the script printed, in GiB; 0 if it printed none."""
    metrics = outcome.metrics
    found = metrics.get("peak_vram_mb", 0.0) / 1024 or metrics.get("peak_memory_gb", 0.0)
    return found if math.isfinite(found) else 0.0
