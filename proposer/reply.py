"""What a language model hands in: the tool that it has to call, and its input, read with care."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from proposer.edits import Edit
from proposer.plain import plain_line

TOOL = "submit_experiments"
MOST_TEXT = 400
"""Characters of a hypothesis that are kept; it becomes a commit's subject."""
_MOST_CATEGORY = 40


class _EditReply(BaseModel):
    model_config = ConfigDict(extra="forbid")

    path: str
    """The editable file to change."""
    search: str = ""
    """Text that stands in the file exactly once, character for character."""
    replace: str = ""
    """What comes in its place."""
    diff: str = ""
    """Or: a unified diff of the file, with hunks that begin with @@."""
    content: str | None = None
    """Or: the whole new text of the file."""

    def edit(self) -> Edit:
        """Return the record the rest of the program uses."""
        return Edit(**self.model_dump())


class ExperimentReply(BaseModel):
    """One proposal."""

    model_config = ConfigDict(extra="forbid")

    hypothesis: Annotated[str, Field(min_length=1)]
    """One line: what is changed and why it might help."""
    category: str = ""
    """The kind of change in a word or two, e.g. optimizer, architecture, data, regularisation."""
    expected_effect: float | None = None
    """By how much the metric is expected to improve, in its own unit; positive is better."""
    edits: Annotated[list[_EditReply], Field(min_length=1)]

    @property
    def subject(self) -> str:
        """The hypothesis as one line; where nothing of it prints, what is changed."""
        flat = " ".join("".join(c if c.isprintable() else " " for c in self.hypothesis).split())
        flat = flat or f"change {', '.join(dict.fromkeys(edit.path for edit in self.edits))}"
        return flat if len(flat) <= MOST_TEXT else f"{flat[: MOST_TEXT - 3]}..."

    @property
    def kind_of_change(self) -> str:
        """The category as a few words that may stand in a ledger and a table."""
        return plain_line(self.category, _MOST_CATEGORY)

    @property
    def effect(self) -> float | None:
        """The expected effect; None for what is no number that one could expect."""
        effect = self.expected_effect
        return effect if effect is not None and math.isfinite(effect) else None

    def all_edits(self) -> list[Edit]:
        """Return the edits as records."""
        return [edit.edit() for edit in self.edits]


class Reply(BaseModel):
    """The tool's input as a whole."""

    model_config = ConfigDict(extra="forbid")

    experiments: Annotated[list[ExperimentReply], Field(max_length=16)]
    notes: str = ""
    """What to write onto the scratchpad for later: what was learnt, what to try next."""
    hints: Annotated[list[str], Field(max_length=8)] = []
    """Suggestions to the tuner, e.g. "suggest LR in [1e-4, 3e-3]" or "try LR=0.001 DEPTH=10"."""

    @property
    def plain_hints(self) -> tuple[str, ...]:
        """The hints as lines that may stand in a ledger."""
        return tuple(filter(None, (plain_line(hint, MOST_TEXT) for hint in self.hints)))


class BadReply(ValueError):
    """A tool input that cannot be understood; the message is for its author."""


def read_reply(data: object) -> Reply:
    """Check the input of a tool call; raises BadReply."""
    try:
        return Reply.model_validate(data)
    except ValidationError as error:
        raise BadReply("; ".join(_told(error))) from None


def _told(error: ValidationError) -> Sequence[str]:
    problems = error.errors(include_url=False, include_input=False)[:5]
    return [f"{'.'.join(map(str, p['loc'])) or 'input'}: {p['msg']}" for p in problems]


def tool() -> dict[str, Any]:
    """Return the tool as the Messages API wants it: strict, every key required."""
    text, number = {"type": "string"}, {"type": ["number", "null"]}
    edit = _object(
        {
            "path": _said(text, "The editable file to change."),
            "search": _said(text, "Text that stands in the file exactly once, or empty."),
            "replace": _said(text, "What comes in place of search."),
            "diff": _said(text, "Instead of search: a unified diff of the file, or empty."),
            "content": _said({"type": ["string", "null"]}, "Instead: the whole new file, or null."),
        }
    )
    experiment = _object(
        {
            "hypothesis": _said(text, "One line: what is changed, and why it might help."),
            "category": _said(text, "The kind of change in a word or two, e.g. optimizer."),
            "expected_effect": _said(
                number, "Expected improvement in the metric's unit, positive is better; or null."
            ),
            "edits": {"type": "array", "items": edit},
        }
    )
    schema = _object(
        {
            "experiments": {"type": "array", "items": experiment},
            "notes": _said(text, "For the scratchpad: what was learnt, what to try; or empty."),
            "hints": {
                "type": "array",
                "items": text,
                "description": 'For the tuner: "suggest LR in [1e-4, 3e-3]", "try LR=0.001 D=10".',
            },
        }
    )
    return {
        "name": TOOL,
        "description": "Hands in experiments: each is a patch to the editable files, and why.",
        "input_schema": schema,
        "strict": True,
    }


def _said(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {**schema, "description": description}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
