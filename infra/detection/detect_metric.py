"""Finds the number that a repository's script prints, and the direction in which it improves.

Knows three conventions: the summary lines `name: value` of karpathy/autoresearch, the marked line
`>>> val_metric (name, lower is better): value` of the eCLIP run, and `METRIC name=value`. Reads
source text alone; what the script really prints is only seen when the baseline runs.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from eval.metric import Goal
from infra.detection.source import Source

_LOWER = re.compile(
    r"bpb|bpc|bpd|perplexity|ppl|loss|nll|error|err|rank|mse|rmse|mae|mape|cer|wer|fid|latency"
    r"|seconds|secs|ms|us|ns|time|duration|regret"
)
_HIGHER = re.compile(
    r"acc|accuracy|auc|auroc|auprc|f1|recall|precision|map|ndcg|mrr|iou|dice|bleu|rouge|reward"
    r"|return|score|r2|throughput|elo|winrate|psnr|ssim|speedup"
)
_TIMES = re.compile(
    r"^(training|train|total|eval|startup|elapsed)_?(seconds|time)?$", re.IGNORECASE
)
"""Names of lines that report what a run cost, not what it was worth."""
_GROUPS = (("val", "valid", "validation", "eval", "dev", "holdout"), ("test",), (), ("train",))
"""What a name's words say of the data, the best to judge by first."""

_VALUE = "\0"
"""Stands for a printed value in a template."""
_MARKED = re.compile(
    r">>>\s*(\w+)\s*\(([^(),]+),\s*(lower|higher) is better\)\s*[:=]", re.IGNORECASE
)
_METRIC = re.compile(r"\bMETRIC\s+([A-Za-z_][\w.@-]*)=")
_ECHO = re.compile(r"^\s*(?:echo|printf)\s+[\"']?([A-Za-z_][\w.@-]*):[ \t]+[$%`\d]", re.MULTILINE)
_SUMMARY = re.compile(
    rf"^(?P<lead>>>> *| *)(?P<label>[A-Za-z_][\w .@/-]*?)(?P<gap> *)(?P<mark>[:=])"
    rf"(?P<space> *){_VALUE}(?P<tail>[^\s{_VALUE}]?)"
)
_FIELD = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?[a-z]|\{[^{}]*\}")
_WRITERS = {"print", "write", "echo"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedMetric:
    """A line that a script prints, read as a metric."""

    name: str
    pattern: str
    """Empty where the default pattern finds it."""
    source: str
    goal: Goal | None
    """None where neither the line nor the instructions nor the name tell."""
    goal_source: str
    is_marked: bool
    """Printed on purpose for a program to read: METRIC or >>>."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What instructions and an old `results.tsv` say of the metric."""

    names: frozenset[str] = frozenset()
    goals: dict[str, tuple[Goal, str]] = field(default_factory=dict)
    """By name, in lower case: the direction, and where it is said."""

    @classmethod
    def of(cls, sources: Iterable[Source]) -> "Hints":
        """Read the hints out of documents."""
        names: set[str] = set()
        goals: dict[str, tuple[Goal, str]] = {}
        for source in sources:
            for found in _HINTED_NAME.finditer(source.text):
                names.add((found[1] or found[2]).lower())
            for pattern, goal in _HINTED_GOALS:
                for found in pattern.finditer(source.text):
                    where = f"{source.path}: {' '.join(found[0].split())!r}"
                    goals.setdefault((found[1] or found[2]).lower(), (goal, where))
        return cls(names=frozenset(names) | goals.keys(), goals=goals)


def _goal_pattern(superlative: str, comparative: str) -> re.Pattern[str]:
    name = r"[`*\"']*([A-Za-z_]\w*(?:[.@-]\w+)*)"  # without the full stop after it
    return re.compile(
        rf"\b(?:{superlative})\s+(?:the\s+|possible\s+)*{name}"
        rf"|{name}[`*\"']*\s*[(,:]?\s*(?:is\s+|-\s*|—\s*)?{comparative} is better",
        re.IGNORECASE,
    )


_HINTED_NAME = re.compile(r"grep[^\n]*?\^(\w+)|^commit\t([A-Za-z_][\w.@-]*)\t", re.MULTILINE)
_HINTED_GOALS = (
    (_goal_pattern("lowest|minimi[sz]e", "lower"), Goal.MINIMIZE),
    (_goal_pattern("highest|maximi[sz]e", "higher"), Goal.MAXIMIZE),
)


def find_metric(sources: Sequence[Source], hints: Hints) -> PrintedMetric | None:
    """Return the metric that the scripts print, or None if no line looks like one.

    A marked line wins; then a name that the hints speak of; then data held out for validation;
    then the first line printed.
    """
    found = [metric for source in sources for metric in _printed(source, hints)]

    def is_likely(metric: PrintedMetric) -> bool:
        if metric.is_marked or metric.name.lower() in hints.names:
            return True
        return metric.goal is not None and not _TIMES.search(metric.name)

    def order(metric: PrintedMetric) -> tuple[bool, bool, int]:
        return not metric.is_marked, metric.name.lower() not in hints.names, _group(metric.name)

    return min(filter(is_likely, found), key=order, default=None)


def goal_of_name(name: str) -> Goal | None:
    """Return the direction that the words of a name tell, None if none or both."""
    words = list(_words(name))
    lower, higher = (any(map(known.fullmatch, words)) for known in (_LOWER, _HIGHER))
    if lower == higher:
        return None
    return Goal.MINIMIZE if lower else Goal.MAXIMIZE


def _words(name: str) -> Iterator[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    for word in re.split(r"[^a-z0-9]+", spaced):
        yield word
        yield word.rstrip("0123456789")


def _group(name: str) -> int:
    words = set(_words(name))
    return next((place for place, group in enumerate(_GROUPS) if words & set(group)), 2)


def _printed(source: Source, hints: Hints) -> Iterator[PrintedMetric]:
    for found in _MARKED.finditer(source.text):
        goal = Goal.MINIMIZE if found[3].lower() == "lower" else Goal.MAXIMIZE
        pattern = rf"^>>> {found[1]} \([^)]*\):\s+(\S+)"
        # A name that is itself printed from a variable is not known here.
        name = _identifier(found[1] if "{" in found[2] else found[2].strip())
        yield _metric(source, found.start(), name, pattern, hints, (goal, "the line says so"))
    for found in _METRIC.finditer(source.text):
        pattern = rf"^METRIC {re.escape(found[1])}=(\S+)"
        yield _metric(source, found.start(), found[1], pattern, hints)
    for found in () if source.tree else _ECHO.finditer(source.text):
        yield _metric(source, found.start(1), found[1], "", hints)
    for call, template in _templates(source):
        for line in re.split(r"[\r\n]", template):
            summary = _SUMMARY.match(line)
            if summary and not summary["label"].startswith("METRIC "):
                name = _identifier(summary["label"])
                yield _metric(source, call, name, _pattern(summary, name), hints)


def _metric(
    source: Source,
    place: ast.AST | int,
    name: str,
    pattern: str,
    hints: Hints,
    said: tuple[Goal, str] | None = None,
) -> PrintedMetric:
    said = said or hints.goals.get(name.lower())
    goal = said[0] if said else goal_of_name(name)
    return PrintedMetric(
        name=name,
        pattern=pattern,
        source=source.at(place),
        goal=goal,
        goal_source=said[1] if said else "by its name",
        is_marked=pattern.startswith(("^>>> ", "^METRIC ")),
    )


def _identifier(label: str) -> str:
    return re.sub(r"^[^A-Za-z_]+|[^\w.@-]+", "_", label.strip())[:64]


def _pattern(line: re.Match[str], name: str) -> str:
    is_plain = line["mark"] == ":" and line["space"] and not line["lead"] + line["gap"]
    if is_plain and not line["tail"] and line["label"] == name:
        return ""
    lead = r">>>\s*" if ">" in line["lead"] else r"\s*" if line["lead"] else ""
    label = r"\s+".join(re.escape(word) for word in line["label"].split())
    value = rf"(\S+?){re.escape(line['tail'])}" if line["tail"] else r"(\S+)"
    return rf"^{lead}{label}\s*{line['mark']}\s*{value}"


def _templates(source: Source) -> Iterator[tuple[ast.Call, str]]:
    calls = [node for node in source.nodes() if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: call.lineno):
        match call.func:
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in _WRITERS:
                yield call, " ".join(_template(argument) for argument in call.args)


def _template(node: ast.expr) -> str:
    text = _VALUE
    match node:
        case ast.Constant(value=str()):
            text = str(node.value)
        case ast.JoinedStr(values=parts):
            text = "".join(_template(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            text = _template(left) + _template(right)
        case ast.BinOp(left=left, op=ast.Mod()):
            text = _FIELD.sub(_VALUE, _template(left))
        case ast.Call(func=ast.Attribute(value=owner, attr="format")):
            text = _FIELD.sub(_VALUE, _template(owner))
    return text
