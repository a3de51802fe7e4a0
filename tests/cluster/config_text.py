"""Configuration files for tests, and what is said of those with mistakes."""

from pathlib import Path

import pytest

from cluster.config import StudyConfig
from cluster.config_file import ConfigError, load_config

LEAST = """
[study]
name = "mar5"
[metric]
name = "val_loss"
goal = "minimize"
[trial]
command = "python train.py"
"""


JARGON = (
    "pydantic",
    "Input should",
    "Value error",
    "Extra inputs",
    "type=",
    "NoneType",
    "Traceback",
)


def read(folder: Path, text: str) -> StudyConfig:
    path = folder / "incumbent.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    message = str(caught.value)
    assert message == "\n".join(caught.value.problems)
    assert not [word for word in JARGON if word in message]
    prefix = f"{folder / 'incumbent.toml'}:"
    assert all(line.startswith(prefix) for line in message.splitlines())
    return [line.removeprefix(prefix).strip() for line in message.splitlines()]


SCORED = LEAST.replace("[trial]", 'source = "predictions"\n[trial]')
LABELS = '[score]\nlabels = "~/labels.npy"\n'
