"""The trusted scorer: a process that joins predictions and labels, and prints one number.

Runs none of a candidate's code. It is a process of its own, limited in time and memory, and in a
sandbox of its own, so that bytes made to upset a reader of arrays upset nobody else. Started with
`-I`, and told what a user's scorer is told, by variables: see trainer.scorer.

Prints `score: 0.93`, or says in one line why there is no score; trainer.score_exit has the codes.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from eval.scorable import BadLabels, Table, Unscorable
from eval.scoring import check_labels, score
from trainer.array_files import read_table
from trainer.score_exit import ScoreExit


def main() -> None:
    """Score, by the metric that the first argument names, predictions of so many bytes at most.

    Where no predictions are named, the labels are looked at and nothing is scored.
    """
    code, said = run(sys.argv[1], int(sys.argv[2]), os.environ)
    sys.stdout.write(f"{said}\n")
    sys.stdout.flush()
    sys.exit(code)


def run(metric: str, most_bytes: int, variables: Mapping[str, str]) -> tuple[ScoreExit, str]:
    """Return how the process is to end, and the line to be printed."""
    labels_path = Path(variables["INCUMBENT_LABELS"])
    predictions = variables.get("INCUMBENT_PREDICTIONS")
    try:
        labels = _labels(labels_path)
        check_labels(metric, labels)
        if predictions is None:
            return ScoreExit.SCORED, "the labels are well"
        return _score(metric, Path(predictions), labels, most_bytes)
    except BadLabels as error:
        return ScoreExit.BAD_LABELS, f"[score] labels: {labels_path.name} {error}"


def _labels(path: Path) -> Table:
    try:
        data = path.read_bytes()
        return read_table(path.name, data, main="labels", most_bytes=sys.maxsize - 1)
    except (OSError, Unscorable) as error:
        raise BadLabels(str(error)) from error


def _score(metric: str, path: Path, labels: Table, most_bytes: int) -> tuple[ScoreExit, str]:
    try:
        data = path.read_bytes()
        table = read_table(path.name, data, main="predictions", most_bytes=most_bytes)
        return ScoreExit.SCORED, f"score: {score(metric, table, labels)!r}"
    except Unscorable as error:
        return ScoreExit.UNSCORABLE, f"{path.name} {error}"
    except MemoryError:
        return ScoreExit.UNSCORABLE, f"{path.name} takes more memory to score than there is"
