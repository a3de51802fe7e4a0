"""Reads the constants of a Python file in a process that may die of it.

A candidate that becomes the incumbent is read by the controller, at each start again; libcst's
parser overflows the stack on sources that Python itself runs (`1 and 1 and ...`, 120 kB of it). See
trainer.apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from proposer.knob import Hint, Knob, Range
from proposer.literal import Syntax
from trainer.apart import Unanswered, ask

_PATIENCE_S = 20.0
_MOST_BYTES = 2 << 30


@lru_cache(maxsize=64)
def read_python_apart(path: str, text: str) -> Sequence[Knob]:
    """Return what proposer.python_knobs.read_python does; the same question is asked once.

    Raises:
        ValueError: the file is not Python, or more than its reader can take; names the path.
    """
    try:
        said = ask(
            "proposer.knobs_apart:answer",
            {"path": path, "text": text},
            timeout_s=_PATIENCE_S,
            memory_bytes=_MOST_BYTES,
            with_packages=True,
        )
        problem, knobs = said["problem"], tuple(_knob(values) for values in said["knobs"])
    except (Unanswered, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its constants could not be read: {error}") from error
    if problem:
        raise ValueError(problem)
    return knobs


def answer(question: Mapping[str, str]) -> dict[str, Any]:
    """Answer `read_python_apart`, in the process apart."""
    from proposer.python_knobs import read_python  # noqa: PLC0415 - libcst is for this process alone

    try:
        knobs = read_python(question["path"], question["text"])
    except ValueError as error:
        return {"problem": str(error), "knobs": []}
    return {"problem": "", "knobs": [asdict(knob) for knob in knobs]}


def _knob(values: Mapping[str, Any]) -> Knob:
    hint = values["hint"]
    allowed = Range(**hint["range"]) if hint["range"] else None
    return Knob(
        **{
            **values,
            "syntax": Syntax(values["syntax"]),
            "hint": Hint(choices=tuple(hint["choices"]), range=allowed),
        }
    )
