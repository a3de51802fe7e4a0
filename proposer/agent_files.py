"""What a coding agent finds under `.incumbent/`, and what is taken of what it leaves.

Knows the names of the files, and reads whatever an agent made of them as if an enemy had. Does not
know how the agent is run: that is `proposer.agent_run`.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from proposer.hunks import unified
from proposer.plain import cut, fenced, plain_line, plain_text
from proposer.prompt import render
from proposer.proposal import Context, Past, Task, TaskKind
from proposer.purse import Usage
from trainer.safe_read import SafeFolder, Unsafe

FOLDER = ".incumbent"
MOST_FILE_BYTES = 1 << 20
"""Of an editable file, and of all of them together what an answer may hold."""
_MOST_LEFT_BYTES = 1 << 16
_MOST_TEXT, _MOST_NOTES = 400, 2000
_MOST_HINTS = 8
_MOST_HISTORY_BYTES = 8 << 20
_MOST_PATCH = 20_000
_MOST_NAMED = 10
_MOST_TOKENS = 10**8
"""More than a run can use; a claim beyond it is none."""
_CONTEXT_TOKENS = 60_000
_MADE_BY_PYTHON = "__pycache__"

_PROMPT = f"""\
You propose one experiment for a machine-learning study. The current folder is the repository, as
the best candidate so far has it. Change it so that the metric improves: edit the files there.

- Read {FOLDER}/context.md first: the rules, the metric, the history, what others try just now.
  Where it speaks of a tool to be called, edit the files instead.
- Nothing but these files counts, every other change is thrown away: {{editable}}
- One idea. {FOLDER}/history.jsonl has every earlier experiment with its patch and what came of it,
  {FOLDER}/scratchpad.md what others wrote down.
- When you are done, write {FOLDER}/proposal.json: {{{{"hypothesis": "one line: what is changed and
  why it might help", "category": "a word or two, e.g. optimizer", "notes": "for the scratchpad:
  what later proposers should know"}}}}. Of what you do not write, nothing is known.
- There is nobody to ask. Do not train here: the study does that.
"""
_AGAIN = "- Why what you handed in last was not taken is in {folder}/again.md: read it first.\n"
_TASK = "- What is asked is in {folder}/task.md: read it before you begin.\n"


class NotTaken(Exception):
    """What an agent left is no proposal; the message is one line that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What an agent says that its run has cost; nobody can check it."""

    usd: float | None = None
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What an agent says of its change; each may be missing."""

    hypothesis: str = ""
    category: str = ""
    notes: str = ""
    expected_effect: float | None = None
    hints: tuple[str, ...] = ()


class Answer(BaseModel):
    """One proposal, in the form in which it is kept with its call."""

    model_config = ConfigDict(extra="forbid")

    edits: dict[str, str]
    hypothesis: str
    category: str = ""
    notes: str = ""
    expected_effect: float | None = None
    hints: list[str] = []


def kept_answer(text: str) -> Answer | None:
    """Read what was kept of a call; None if it is no answer of an agent's."""
    with suppress(ValidationError):
        return Answer.model_validate_json(text)
    return None


# --- before --------------------------------------------------------------------------------------


def context_files(context: Context, again: str = "") -> dict[str, str]:
    """Return the files that tell an agent what it has to know, by path below `.incumbent/`.

    `again` is why what it has handed in before was not taken; empty if it has not.
    """
    prompt = render(context, tokens=_CONTEXT_TOKENS, count=1)
    files = {
        "prompt.md": _PROMPT.format(editable=", ".join(sorted(context.files))),
        "context.md": f"{prompt.static}\n\n{prompt.dynamic}\n",
        "history.jsonl": _history(context.history),
        "scratchpad.md": context.scratchpad,
    }
    if context.task is not None:
        files["prompt.md"] += _TASK.format(folder=FOLDER)
        files |= _task_files(context.task)
    if again:
        files["prompt.md"] += _AGAIN.format(folder=FOLDER)
        files["again.md"] = f"Of what you handed in last: {again}\n"
    return files


def _history(history: Sequence[Past]) -> str:
    """Return the experiments as lines of JSON, the oldest first; the oldest of too many go."""
    lines: list[str] = []
    left = _MOST_HISTORY_BYTES
    for past in reversed(history):
        facts = {**asdict(past), "patch": cut(past.patch, _MOST_PATCH)}
        line = json.dumps(facts)
        left -= len(line) + 1
        if left < 0:
            break
        lines.append(line)
    return "".join(f"{line}\n" for line in reversed(lines))


def _task_files(task: Task) -> dict[str, str]:
    title = plain_line(task.hypothesis, _MOST_TEXT)
    if task.kind is TaskKind.FIX:
        told = (
            f"{task.experiment} failed for what looks like a slip. Do on the files here what it "
            "was meant to do, without the slip. What that was, and how it failed:"
        )
    else:
        told = (
            f"{task.experiment} won, and conflicts with the files here, which won too. Change them "
            "so that they do what both do. What it does, and what conflicts:"
        )
    about = fenced(f"{title}\n{task.problem}")
    where = (
        f"Its files are below {FOLDER}/theirs/, and what it was made from below {FOLDER}/base/: "
        "their difference is its patch."
    )
    return {
        "task.md": f"{told}\n\n{about}\n\n{where}\n",
        **{f"theirs/{path}": text for path, text in task.files.items()},
        **{f"base/{path}": text for path, text in task.base_files.items()},
    }


# --- afterwards ----------------------------------------------------------------------------------


def changed_files(folder: SafeFolder, files: Mapping[str, str]) -> dict[str, str]:
    """Return the new texts of editable files; raises NotTaken for any that is no plain text now.

    All or nothing: of a patch that is half readable, the readable half is not what was meant.
    """
    edits: dict[str, str] = {}
    for path, before in files.items():
        try:
            text = folder.read(path, MOST_FILE_BYTES).decode()
        except FileNotFoundError:
            raise NotTaken(f"{path} was removed") from None
        except Unsafe as unsafe:
            raise NotTaken(f"{path} {unsafe.reason}") from None
        except UnicodeDecodeError:
            raise NotTaken(f"{path} is not UTF-8 text any more") from None
        if text != before:
            edits[path] = text
    if sum(len(text.encode()) for text in edits.values()) > MOST_FILE_BYTES:
        raise NotTaken(f"the changed files hold more than {MOST_FILE_BYTES} bytes")
    return edits


def names(folder: SafeFolder) -> frozenset[str]:
    """Return the names of all files in a folder; none where there are too many to be told."""
    with suppress(Unsafe):
        return frozenset(found.name for found in folder.files())
    return frozenset()


def new_names(before: frozenset[str], after: frozenset[str]) -> tuple[str, ...]:
    """Return which files an agent has left that were not there, but for caches and its words."""
    found = sorted(after - before) if before else []
    return tuple(
        name for name in found if _MADE_BY_PYTHON not in name and not name.startswith(f"{FOLDER}/")
    )


def words(folder: SafeFolder) -> Words:
    """Return what an agent says of its change: of proposal.json, else of hypothesis.txt."""
    said = Words()
    if (text := _left(folder, "proposal.json")) is not None:
        with suppress(ValidationError):
            said = _Said.model_validate_json(text).words()
    if said.hypothesis:
        return said
    first = (_left(folder, "hypothesis.txt") or b"").decode("utf-8", "replace").strip()
    return replace(said, hypothesis=plain_line(first.partition("\n")[0], _MOST_TEXT))


def claim(folder: SafeFolder, last_line: str) -> Claim:
    """Return what an agent says it has cost: in usage.json, else in the last line it printed."""
    for text in (_left(folder, "usage.json"), last_line):
        if text:
            with suppress(ValidationError):
                said = _Spent.model_validate_json(text).claim()
                if said != Claim():
                    return said
    return Claim()


def derived(name: str, files: Mapping[str, str], edits: Mapping[str, str]) -> str:
    """Return a hypothesis for a change whose author says nothing of it."""
    parts = []
    for path, text in edits.items():
        patch = unified({path: files[path]}, {path: text}).splitlines()
        changed = [line for line in patch if line[:1] in "+-" and line[:3] not in {"+++", "---"}]
        added = sum(line.startswith("+") for line in changed)
        count = max(added, len(changed) - added)
        parts.append(f"{count} line{'s' if count != 1 else ''} of {path}")
    return cut(f"{name}: changes {' and '.join(parts)}", _MOST_TEXT)


def not_taken_words(frozen: Sequence[str], added: Sequence[str]) -> str:
    """Return a sentence on what an agent changed beside the editable files; empty if nothing."""
    told = [*frozen, *(f"{name} was added" for name in added)]
    if not told:
        return ""
    more = f" and {len(told) - _MOST_NAMED} more" if len(told) > _MOST_NAMED else ""
    shown = "; ".join(plain_line(each, 120) for each in told[:_MOST_NAMED])
    return f"Not taken, for only editable files count: {shown}{more}."


def _left(folder: SafeFolder, name: str) -> bytes | None:
    """Return a file that an agent left below `.incumbent/`; None for none, or for a trap."""
    try:
        return folder.read(f"{FOLDER}/{name}", _MOST_LEFT_BYTES)
    except (FileNotFoundError, Unsafe):
        return None


class _Said(BaseModel):
    """`proposal.json`; a field that is not what it should be is as good as missing."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    hypothesis: str = ""
    category: str = ""
    notes: str = ""
    expected_effect: float | None = None
    hints: list[str] = []

    @field_validator("*", mode="wrap")
    @classmethod
    def _or_missing(
        cls, value: object, check: ValidatorFunctionWrapHandler, field: ValidationInfo
    ) -> object:
        try:
            return check(value)
        except ValidationError:
            default: object = cls.model_fields[str(field.field_name)].get_default()
            return default

    def words(self) -> Words:
        """Return it as texts that may stand in a commit, a ledger and a list."""
        return Words(
            hypothesis=plain_line(self.hypothesis, _MOST_TEXT),
            category=plain_line(self.category, 40),
            notes=cut(plain_text(self.notes), _MOST_NOTES),
            expected_effect=self.expected_effect,
            hints=tuple(plain_line(hint, _MOST_TEXT) for hint in self.hints[:_MOST_HINTS]),
        )


_Count = Annotated[int, Field(ge=0, le=_MOST_TOKENS)]


class _Tokens(BaseModel):
    model_config = ConfigDict(extra="ignore")

    input_tokens: _Count = 0
    output_tokens: _Count = 0
    cache_read_input_tokens: _Count = 0
    cache_creation_input_tokens: _Count = 0


class _Spent(_Tokens):
    """`usage.json`, or what `claude -p --output-format json` prints at its end."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    usd: Annotated[float, Field(ge=0)] | None = None
    total_cost_usd: Annotated[float, Field(ge=0)] | None = None
    usage: _Tokens | None = None

    def claim(self) -> Claim:
        """Return it as a claim."""
        tokens = self.usage or self
        return Claim(
            usd=self.total_cost_usd if self.usd is None else self.usd,
            usage=Usage(
                input=tokens.input_tokens,
                cache_read=tokens.cache_read_input_tokens,
                cache_write=tokens.cache_creation_input_tokens,
                output=tokens.output_tokens,
            ),
        )
