"""What may stand in `incumbent.toml`: sections, keys, types and defaults, read off the models.

Knows how the configuration models are put together; does not read files. The errors of
`config_file` and the reference page in docs/ both come from here, so neither can disagree with
what is accepted.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cluster.config import StudyConfig

_WORDS: Mapping[Any, str] = {bool: "true or false", int: "whole number", float: "number"}
KIND = "kind"
"""The key that says which of several models a section is to be read as."""
_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigKey:
    """One key of the configuration file."""

    section: str
    """Header as it is written, e.g. `[trial]`, `[[proposer]]` or `[tuner.space.NAME]`."""
    name: str
    type: str
    """In words, e.g. "number, above 0"."""
    default: str
    """As TOML; empty for a key that must be given."""
    text: str
    """The docstring under the attribute."""
    kind: str = ""
    """Which `kind` the section must have; empty for a key of all kinds, or where there are none."""

    @property
    def is_required(self) -> bool:
        """Say whether the key must be given wherever its section is."""
        return not self.default


def describe_keys() -> list[ConfigKey]:
    """Return every key of the configuration file, in the order of the models."""
    return [key for header, models in _sections(StudyConfig, "") for key in _keys(header, models)]


def kinds_of(models: Sequence[type[BaseModel]]) -> dict[str, type[BaseModel]]:
    """Return the models among which a section's key `kind` chooses, by its word."""
    if len(models) < 2:
        return {}
    return {get_args(model.model_fields[KIND].annotation)[0]: model for model in models}


def models_of(field: FieldInfo) -> tuple[type[BaseModel], ...]:
    """Return the models that a field holds, directly, in a list, or by name in a table."""
    return tuple(_models(field.annotation))


def is_list(field: FieldInfo) -> bool:
    """Say whether a field is a list: of values, or of sections with double brackets."""
    return get_origin(field.annotation) is tuple


def is_table_of_tables(field: FieldInfo) -> bool:
    """Say whether a field is a table whose keys the user names, as in `[tuner.space.LR]`."""
    return get_origin(field.annotation) is Mapping


def type_words(field: FieldInfo) -> str:
    """Return a field's type in words, without its bounds."""
    return _words(field.annotation)


def item_words(field: FieldInfo) -> str:
    """Return the type of a list's items in words."""
    return _words(get_args(field.annotation)[0])


def toml(value: object) -> str:
    """Return a scalar, or a list of scalars, as TOML; empty for None, which TOML has not.

    Whole floats lose their ".0", which a person would not write either.
    """
    if isinstance(value, tuple | list):
        return f"[{', '.join(toml(item) for item in value)}]"
    if isinstance(value, float):
        return f"{value:.12g}"
    # A JSON string is a TOML basic string, but for DEL, which JSON leaves as it is.
    return "" if value is None else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401 - any type expression
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _sections(
    model: type[BaseModel], prefix: str
) -> Iterator[tuple[str, tuple[type[BaseModel], ...]]]:
    for name, field in model.model_fields.items():
        if models := models_of(field):
            path = f"{prefix}{name}.NAME" if is_table_of_tables(field) else f"{prefix}{name}"
            yield (f"[[{path}]]" if is_list(field) else f"[{path}]"), models
            for inner in models:
                yield from _sections(inner, f"{path}.")


def _keys(header: str, models: Sequence[type[BaseModel]]) -> Iterator[ConfigKey]:
    """Yield the keys of a section: of one with kinds first those that all of them have."""
    kinds, first = kinds_of(models), models[0]
    own = [name for name, field in first.model_fields.items() if not models_of(field)]
    shared = [name for name in own if all(name in model.model_fields for model in models)]
    if not kinds:
        yield from (_key(header, name, first.model_fields[name]) for name in shared)
        return
    words = " or ".join(map(toml, kinds))
    yield replace(_key(header, KIND, first.model_fields[KIND]), type=words)
    yield from (_key(header, n, first.model_fields[n]) for n in shared if n != KIND)
    for kind, model in kinds.items():
        for name, field in model.model_fields.items():
            if name not in shared:
                yield replace(_key(header, name, field), kind=kind)


def _key(header: str, name: str, field: FieldInfo) -> ConfigKey:
    return ConfigKey(
        section=header,
        name=name,
        type=", ".join((type_words(field), *_bounds(field))),
        default="" if field.is_required() else toml(field.get_default()) or "unset",
        text=" ".join((field.description or "").split()),
    )


def _words(annotation: Any) -> str:  # noqa: ANN401 - any type expression
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0])
    if origin is Literal:
        return " or ".join(toml(choice) for choice in arguments)
    if origin is tuple:
        inner = _words(arguments[0])
        return "list of values" if " " in inner else f"list of {inner}s"
    if origin in {Union, UnionType}:
        kinds = [argument for argument in arguments if argument is not NoneType]
        if float in kinds and int in kinds:
            kinds.remove(int)
        return " or ".join(_words(kind) for kind in kinds)
    return _WORDS.get(annotation, "string")


def _bounds(field: FieldInfo) -> Iterator[str]:
    for constraint in field.metadata:
        for attribute, words in _BOUNDS.items():
            bound = getattr(constraint, attribute, None)
            if bound is not None:
                yield f"{words} {bound:g}"
        if getattr(constraint, "min_length", 0):
            yield "not empty"
