"""Reads `incumbent.toml`, and says what is wrong with it in words that lead to the cure.

Knows TOML and how the models report errors; what the keys mean is the models' own affair. It exists
because their reports speak of types and schemas, where a person needs the file, the key and a hint.
"""

import datetime as dt
import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from cluster.config import StudyConfig
from cluster.config_keys import (
    KIND,
    ConfigKey,
    describe_keys,
    is_list,
    is_table_of_tables,
    item_words,
    kinds_of,
    models_of,
    toml,
    type_words,
)

_EXAMPLES = {
    ("[study]", "name"): '"mar5"',
    ("[metric]", "name"): '"val_loss"',
    ("[trial]", "command"): '"python train.py"',
    ("[score]", "labels"): '"~/labels/val.npy"',
    ("[holdout]", "labels"): '"~/labels/holdout.npy"',
    ("[[guard]]", "name"): '"peak_vram_mb"',
    ("[[rung]]", "budget_s"): "30",
    ("[[proposer]]", "command"): "'claude -p \"$(cat .incumbent/prompt.md)\"'",
    ("[[proposer]]", "file"): '"proposals.jsonl"',
    ("[[price]]", "model"): '"my-model"',
    ("[[price]]", "input"): "3",
    ("[[price]]", "output"): "15",
}
"""What a required key could say; a choice's first word serves for the others."""

_PATTERN_WORDS = {
    ("[study]", "name"): 'letters, digits, ".", "_" and "-", the first a letter or digit',
    ("[metric]", "name"): 'letters, digits, "_", ".", "@" and "-", the first a letter or "_"',
    ("[[guard]]", "name"): 'letters, digits, "_" and ".", the first a letter or "_"',
    ("[[proposer]]", "name"): 'small letters, digits and "-", the first a letter',
    ("[pruner]", "curve"): 'letters, digits, "_", ".", "/" and "-", the first a letter or "_"',
}
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_MOST_SHOWN = 60


class ConfigError(ValueError):
    """The configuration cannot be used; the message has one line for each problem."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def load_config(path: Path) -> StudyConfig:
    """Read and check a configuration file.

    Raises:
        ConfigError: whatever is wrong with it; one line for each problem found.
    """
    return checked(_parse(path, _read(path)), str(path))


def checked(document: dict[str, Any], source: str) -> StudyConfig:
    """Return the configuration that tables and values make; `source` says where they are from.

    Raises ConfigError, as `load_config` does.
    """
    if problems := [f"{source}: {problem}" for problem in _not_json(document, ())]:
        raise ConfigError(*problems)
    try:
        # Strict models take a list for a tuple, and an int for a float, from JSON alone.
        return StudyConfig.model_validate_json(json.dumps(document))
    except ValidationError as error:
        # An error in a union comes once for each of its members: dict keeps the first of each.
        told = dict.fromkeys(_tell(detail) for detail in error.errors(include_url=False))
        raise ConfigError(*(f"{source}: {problem}" for problem in told)) from None


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `incumbent init` writes one") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8 text") from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).rpartition(" (at ")
        place = where.rstrip(")").removeprefix("line ").partition(", ")
        line = place[0] if place[0].isdigit() else str(text.count("\n") + 1)
        raise ConfigError(
            f"{path}:{line}: is not valid TOML: {what}{_quotes(text.splitlines()[int(line) - 1 :])}"
        ) from None
    except (ValueError, RecursionError):  # a number of thousands of digits, lists without end
        raise ConfigError(f"{path}: is not valid TOML: a value is out of all bounds") from None


def _quotes(lines: list[str]) -> str:
    """Return a hint, if the first line gives a key text without quotes."""
    bare = r"\s*([\w-]+)\s*=\s*([^\W\d][^\"'#]*?)\s*(#.*)?"
    found = re.fullmatch(bare, lines[0] if lines else "")
    return f' (text goes in quotes: {found[1]} = "{found[2]}")' if found else ""


def _not_json(value: object, location: tuple[str | int, ...]) -> Iterator[str]:
    """Yield the problems that JSON could not carry to the models: dates, inf and nan."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _not_json(item, (*location, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _not_json(item, (*location, index))
    elif isinstance(value, dt.date | dt.time):
        yield f'{_locate(location)}: is a date or time; if text is meant, quote it: "{value}"'
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{_locate(location)}: must be a finite number, not {value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where in the file a problem is, as a person would say it, and what belongs there."""

    section: str
    """Header as it is written; empty above the first section."""
    number: str = ""
    """Which of the sections with double brackets, e.g. " 2"."""
    key: str = ""
    """Empty where the problem is the section's."""
    item: str = ""
    """Which item of a list, e.g. " item 2"."""
    field: FieldInfo | None = None
    """What is meant; None for an unknown key."""
    models: tuple[type[BaseModel], ...] = ()
    """Whose keys may stand in the section."""
    kind: str = ""
    """What the section's key `kind` says, where that decides which keys may stand there."""

    def __str__(self) -> str:
        return f"{self.section}{self.number} {self.key}{self.item}".strip()


def _locate(location: tuple[str | int, ...]) -> _Place:
    place = _Place(section="", models=(StudyConfig,))
    path, is_named = "", False
    for step in location:
        if isinstance(step, int):
            count = f" {step + 1}"
            place = (
                replace(place, item=f" item{count}") if place.key else replace(place, number=count)
            )
        elif place.key:
            break  # which member of a union the report speaks of
        elif place.number and not place.kind and step in kinds_of(place.models):
            place = replace(place, kind=step, models=(kinds_of(place.models)[step],))
        elif is_named:
            path, is_named = f"{path}.{step}", False
            place = replace(place, section=f"[{path}]")
        else:
            field = _field(place.models, step)
            place = replace(place, field=field)
            if field is None or not models_of(field):
                place = replace(place, key=step)
                continue
            path, is_named = f"{path}.{step}".lstrip("."), is_table_of_tables(field)
            section = f"[[{path}]]" if is_list(field) else f"[{path}]"
            place = replace(place, section=section, models=models_of(field))
    return place


def _field(models: tuple[type[BaseModel], ...], name: str) -> FieldInfo | None:
    return next((m.model_fields[name] for m in models if name in m.model_fields), None)


def _tell(error: ErrorDetails) -> str:
    """Put one reported error into words."""
    place = _locate(error["loc"])
    if error["type"] in {"union_tag_not_found", "union_tag_invalid"}:
        place = replace(place, key=KIND)
    if error["type"] == "extra_forbidden":
        return _unknown(place, error["input"])
    problem = _problem(place, error)
    return f"{place}: {problem}" if str(place) else problem  # of how sections go together


def _problem(place: _Place, error: ErrorDetails) -> str:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    match kind:
        case "value_error":
            problem = str(context["error"])
        case "missing" | "union_tag_not_found":
            problem = _missing(place)
        case "union_tag_invalid":
            words = " or ".join(map(toml, kinds_of(place.models)))
            problem = f"must be {words}, not {_shown(value[KIND])}"
        case "literal_error":
            problem = f"must be {_words(place)}, not {_shown(value)}"
        case "string_pattern_mismatch":
            words = _PATTERN_WORDS.get((place.section, place.key), context["pattern"])
            problem = f"{_shown(value)} is not possible; allowed are {words}"
        case "string_too_short" | "too_short":
            problem = "must not be empty"
        case "string_too_long":
            problem = f"is too long: {len(value)} characters, of at most {context['max_length']}"
        case _ if kind in _BOUNDS:
            bound, words = _BOUNDS[kind]
            problem = f"must be {words} {context[bound]:g}, not {_shown(value)}"
        case _ if kind.endswith("_type"):
            problem = _mismatch(place, value)
        case _:
            problem = f"{_shown(value)} is not possible"
    return problem


def _missing(place: _Place) -> str:
    if place.key == KIND and kinds_of(place.models):
        return f'is missing, e.g. {KIND} = "{next(iter(kinds_of(place.models)))}"'
    if place.key:
        return f"is missing, e.g. {_example(place.section, place.key)}"
    keys = [key for key in describe_keys() if key.section == place.section and key.is_required]
    example = ", ".join(_example(key.section, key.name) for key in keys)
    return f"the section is missing; it needs {example}"


def _example(section: str, name: str) -> str:
    key = next(k for k in describe_keys() if (k.section, k.name) == (section, name))
    return f"{name} = {_EXAMPLES.get((section, name), key.type.split(' or ')[0])}"


def _unknown(place: _Place, value: object) -> str:
    valid = [name for model in place.models for name in model.model_fields]
    near = difflib.get_close_matches(place.key, valid, n=1)
    if not place.section and isinstance(value, dict | list):
        hint = f"did you mean [{near[0]}]?" if near else f"there are {_headers()}"
        return f"[{place.key}]: unknown section; {hint}"
    homes = dict.fromkeys(map(_home, (k for k in describe_keys() if k.name == place.key)))
    if homes:
        return f"{place}: {_not_of(place)}belongs in {' or '.join(homes)}"
    if not place.section:
        return f"{place}: stands above the first section; there are {_headers()}"
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(valid)}"
    return f"{place}: unknown key; {hint}"


def _home(key: ConfigKey) -> str:
    return f'{key.section} of kind "{key.kind}"' if key.kind else key.section


def _not_of(place: _Place) -> str:
    """Say that a section of this kind has no such key, where one of another kind might."""
    return f'there is none for kind "{place.kind}"; it ' if place.kind else ""


def _headers() -> str:
    return ", ".join(dict.fromkeys(key.section for key in describe_keys()))


def _mismatch(place: _Place, value: object) -> str:
    if place.key:
        return f"must be {_words(place)}, not {_noun(value)}"
    return f"must be written {place.section}, its keys below; it is {_noun(value)}"


def _words(place: _Place) -> str:
    if place.field is None:
        return "something else"
    words = item_words(place.field) if place.item else type_words(place.field)
    return words if words.startswith(("true", '"')) else f"a {words}"


def _noun(value: object) -> str:
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "a table"
    return f"the string {_shown(value)}" if isinstance(value, str) else _shown(value)


def _shown(value: object) -> str:
    text = _noun(value) if isinstance(value, dict | list) else toml(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
