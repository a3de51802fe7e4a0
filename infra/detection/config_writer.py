"""Writes `incumbent.toml` from what was found out about a repository.

Knows TOML and what a person wants to see: every value with where it comes from, and every question
at the place where its answer belongs. Keys that are rarely needed are left to their defaults.
"""

from cluster.config_keys import toml
from infra.detection.detect import Detected, Finding, Question

_HEADER = """\
# Written by `incumbent init` from what it found here; correct what is wrong.
# Every key is explained in docs/configuration.md of Incumbent.
"""
_PROPOSERS = """\
# [[proposer]]                            # without any, a tuner turns the constants
# kind = "claude"                         # a model that edits code; or "agent": docs/proposers.md
# [[proposer]]
# kind = "tuner"

"""
_LIMITS = """\
# [limits]                                # without any, a study runs until it is stopped
# experiments = 100
# hours = 8
"""
_COMMENT_COLUMN = 40


def render(detected: Detected) -> str:
    """Return the text of a configuration file; what nobody could answer stands in comments."""
    parts = [_HEADER]
    for section in ("study", "metric", "trial"):
        answers = [_answer(item) for item in detected.findings if item.section == section]
        open_ones = [_open(item) for item in detected.questions if item.section == section]
        hints = [f"# {_answer(item)}" for item in detected.hints if item.section == section]
        parts.append("\n".join([f"[{section}]", *answers, *open_ones, *hints, ""]))
    parts.append(_PROPOSERS + _LIMITS)
    return "\n".join(parts)


def _answer(finding: Finding) -> str:
    value = finding.value
    text = _literal(value) if isinstance(value, str) else toml(value)
    return f"{finding.key} = {text}".ljust(_COMMENT_COLUMN) + f"  # {_one_line(finding.why)}"


def _open(question: Question) -> str:
    return f"# PLEASE ANSWER: {_one_line(question.text)}\n# {question.key} = {question.example}"


def _literal(text: str) -> str:
    """Return a string as TOML, with backslashes as they are where that is possible."""
    return f"'{text}'" if "\\" in text and "'" not in text else toml(text)


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
