"""The trusted scorer: a process that joins predictions and labels, and prints one number.

Runs none of a candidate's code. It is a process of its own, limited in time and memory, and in a
sandbox of its own, so that bytes made to upset a reader of arrays upset nobody else. Started with
`-I`: see trainer.scorer.

Prints `score: 0.93` and ends with 0; or says in one line why there is no score and ends with
UNSCORABLE, where the predictions are at fault, or BAD_LABELS, where the labels are.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from eval.scorable import BadLabels, Table, Unscorable
from eval.scoring import check_labels, score
from trainer.array_files import read_table

UNSCORABLE = 3
BAD_LABELS = 4


def main() -> None:
    """Score what the arguments name: metric, labels, most bytes, and predictions unless to check.

    Without predictions the labels are looked at and nothing is printed.
    """
    code, said = run(sys.argv[1:])
    sys.stdout.write(said)
    sys.stdout.flush()
    sys.exit(code)


def run(arguments: Sequence[str]) -> tuple[int, str]:
    """Return the exit code, and the line to be printed."""
    metric, labels_at, most_bytes, *predictions_at = arguments
    labels_path = Path(labels_at)
    try:
        labels = _labels(labels_path, int(most_bytes))
        check_labels(metric, labels)
        if not predictions_at:
            return 0, ""
        path = Path(predictions_at[0])
        return _score(metric, path, labels, int(most_bytes))
    except BadLabels as error:
        return BAD_LABELS, f"the labels, {labels_path.name}: {error}\n"


def _labels(path: Path, most_bytes: int) -> Table:
    try:
        data = path.read_bytes()
        return read_table(path.name, data, main="labels", most_bytes=max(len(data), most_bytes))
    except (OSError, Unscorable) as error:
        raise BadLabels(str(error)) from error


def _score(metric: str, path: Path, labels: Table, most_bytes: int) -> tuple[int, str]:
    try:
        data = path.read_bytes()
        table = read_table(path.name, data, main="predictions", most_bytes=most_bytes)
        return 0, f"score: {score(metric, table, labels)!r}\n"
    except Unscorable as error:
        return UNSCORABLE, f"{path.name} {error}\n"
    except MemoryError:
        return UNSCORABLE, f"{path.name} takes more memory to score than [score] memory_gb\n"
