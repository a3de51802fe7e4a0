"""A language model on paper: it reads the prompt that it gets, and edits the source it was shown.

For whole studies over real HTTP, in a process of its own:

    python -m tests.proposer.messages_server PORT_FILE [--outage FIRST LAST]

writes the port that it serves on, and serves until it is ended. It takes no forced call, as the
newest models do not. Question by question it brings a better constant, a patch that has to be
mended, a candidate that crashes for a slip, and a diff.
"""

import argparse
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.proposer.messages_server import (
    MessagesServer,
    Move,
    Request,
    edit,
    experiment,
    question,
    refuses,
)

SLIP = "an_undefined_name_of_the_model"
_FILES = re.compile(r"(?ms)^## (\S+)\n(`{3,})[a-z]*\n(.*?)\n\2$")
_CONSTANT = re.compile(r"(?m)^([A-Z][A-Z0-9_]*) = (\d+\.?\d*(?:e-?\d+)?)(?=\s*(?:#|$))")
USAGE = {
    "input_tokens": 400,
    "cache_read_input_tokens": 1600,
    "cache_creation_input_tokens": 200,
    "output_tokens": 300,
}


@dataclass
class Model:
    """Answers requests one after the other; whoever serves it keeps it to that."""

    outage: Sequence[int] = ()
    """Numbers of the requests, from 1, that meet an overloaded server."""
    asked: int = 0
    questions: int = 0
    tasks: list[str] = field(default_factory=list)
    """What it was asked for beside ideas: "fix" or "compose"."""

    def __call__(self, request: Request) -> Move:
        self.asked += 1
        if self.asked in self.outage:
            return Move(status=529, message="Overloaded")
        return refuses("tool_choice", self._move(request))(request)

    def _move(self, request: Request) -> Move:
        if request["tool_choice"]["type"] == "tool":
            return Move()  # it is going to be refused: no question that counts
        path, text = editable(request)
        if len(request["messages"]) > 1:
            return self._answer(constant(path, text, 0.8))
        if task := re.search(r"^e\d+ \(.*\) (failed|won)", question(request), re.MULTILINE):
            self.tasks.append("fix" if task[1] == "failed" else "compose")
            return self._answer(constant(path, text, 0.9))
        self.questions += 1
        ideas = IDEAS[(self.questions - 1) % len(IDEAS)]
        return self._answer(ideas(path, text, 1 + 1 / (self.questions + 1)))

    def _answer(self, idea: Any) -> Move:
        notes = f"Answer {self.asked}: constants come first."
        return Move(experiments=[idea], notes=notes, usage=USAGE, thinking="c2lnbmVk")


def editable(request: Request) -> tuple[str, str]:
    """Return path and text of the first editable file with a constant that a request shows."""
    system = "".join(block["text"] for block in request["system"])
    _, _, sources = system.rpartition("\n# Editable")
    found = [(path, f"{text}\n") for path, _, text in _FILES.findall(sources)]
    assert found, "the prompt shows no editable file"
    return next((each for each in found if _CONSTANT.search(each[1])), found[0])


def constant(path: str, text: str, factor: float) -> Any:
    """Return the experiment that turns the first constant of a file, by exact text."""
    name, old, new = _turned(text, factor)
    form = {"search": f"{name} = {old}\n", "replace": f"{name} = {new}\n"}
    return experiment(f"{name} {old} -> {new}", {"path": path, **form})


def to_be_mended(path: str, text: str, factor: float) -> Any:
    """Return one whose text is not there."""
    name, old, new = _turned(text, factor)
    form = {"search": f"{name} = not {old}", "replace": f"{name} = {new}"}
    return experiment(f"{name} misquoted", {"path": path, **form})


def slip(path: str, text: str, factor: float) -> Any:
    """Return one that crashes at once, as a whole file."""
    return experiment("use a name", {"path": path, "content": f"{text}\nprint({SLIP})\n"})


def by_diff(path: str, text: str, factor: float) -> Any:
    """Return one as a unified diff, with a line number that is a guess."""
    name, old, new = _turned(text, factor)
    diff = f"@@ -1,1 +1,1 @@\n-{name} = {old}\n+{name} = {new}\n"
    return experiment(f"{name} to {new}, by diff", edit(path, diff=diff))


def _turned(text: str, factor: float) -> tuple[str, str, str]:
    found = _CONSTANT.search(text)
    assert found, "there is no constant to turn"
    name, old = found.groups()
    whole = old.isdigit()
    new = str(max(1, round(int(old) * factor))) if whole else f"{float(old) * factor:.4g}"
    if new == old:
        new = str(int(old) + 1) if whole else f"{float(old) * 1.1:.4g}"
    return name, old, new


IDEAS: Sequence[Callable[[str, str, float], Any]] = (constant, to_be_mended, slip, by_diff)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port_file", type=Path)
    parser.add_argument("--outage", nargs=2, type=int, default=(1, 0), metavar=("FIRST", "LAST"))
    given = parser.parse_args()
    first, last = given.outage
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # in the server's threads too, for sigwait
    server = MessagesServer(Model(outage=range(first, last + 1)))
    part = given.port_file.with_suffix(".part")
    part.write_text(server.url.rpartition(":")[2])
    part.replace(given.port_file)  # it is there with its port in it, or not at all
    signal.sigwait(ending)
    server.close()
