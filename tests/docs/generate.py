"""Writes the generated sections of docs/ anew: `make docs`, or `python -m tests.docs.generate`.

Knows which section of which page comes from which part of the program. Prose around the sections is
written by hand and left alone. tests/docs/test_docs.py fails while a section is stale.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path

import typer

from cluster.config_keys import KIND, ConfigKey, describe_keys, toml
from cluster.simulation.landscape import SECTIONS, landscapes, load_landscape
from cluster.state.events import EVENT_TYPES, ExperimentProposed
from cluster.state.experiment import Kind, Status, TrialPhase
from cluster.state.node_state import NodeStatus
from cluster.state.node_transitions import NODE_TRANSITIONS
from cluster.state.steps import STATUS_OF_ENDING, TRANSITIONS
from eval.conditions import Mark
from eval.judge import Verdict
from eval.suspicion import Conduct
from infra.cli.main import app
from infra.display import results_tsv
from infra.facts import fates
from infra.metrics.prometheus import describe_metrics
from tests.docs.call_costs import call_costs
from tests.docs.dashboard import dashboard
from tests.security.attempt import Attempt, Category, Control
from tests.security.attempts import ATTEMPTS, BOUNDARIES
from trainer.run_start import Start
from trainer.telemetry import GpuTelemetry, Telemetry, ThrottleReason
from trainer.trial import CrashKind, Ending, Probe, TrialOutcome

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NO_ROW = "no row"


# --- pages ---------------------------------------------------------------------------------------


class MissingSection(LookupError):
    """A page has no markers for a section that belongs on it."""


def rendered(text: str, sections: Mapping[str, Callable[[], str]]) -> str:
    """Return a page with its generated sections as they should be.

    Raises:
        MissingSection: the page lacks the markers of a section.
    """
    for name, render in sections.items():
        begin, end = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->"
        head, found, rest = text.partition(begin)
        _, found_end, tail = rest.partition(end)
        if not (found and found_end):
            raise MissingSection(f"the page needs the lines {begin.strip()} and {end}")
        text = f"{head}{begin}\n{render().strip()}\n\n{end}{tail}"
    return text


def main() -> int:
    """Rewrite the pages and files that are stale, and name them."""
    for page, sections in PAGES.items():
        _rewrite(DOCS / page, rendered((DOCS / page).read_text("utf-8"), sections))
    for name, render in FILES.items():
        _rewrite(DOCS / name, render())
    return 0


def _rewrite(path: Path, after: str) -> None:
    if not path.exists() or path.read_text("utf-8") != after:
        path.write_text(after, "utf-8")
        sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    cells = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def code(text: str) -> str:
    """Return text set as code."""
    return f"`{text}`"


# --- configuration, commands, metrics ------------------------------------------------------------


def configuration_keys() -> str:
    """Return every key of incumbent.toml, by section."""
    parts = []
    for (section, kind), keys in groupby(describe_keys(), key=lambda key: (key.section, key.kind)):
        rows = [(code(k.name), k.type, _default(k), k.text) for k in keys]
        head = f"#### {code(f'{KIND} = {toml(kind)}')}" if kind else f"### {code(section)}"
        parts.append(f"{head}\n\n{table(('key', 'type', 'default', 'meaning'), rows)}")
    return "\n\n".join(parts)


def _default(key: ConfigKey) -> str:
    if key.is_required:
        return "required"
    return key.default if key.default == "unset" else code(key.default)


def verbs() -> Mapping[str, typer.core.TyperCommand]:
    """Return the verbs of the command line by name, in the order of `incumbent --help`."""
    return typer.main.get_command(app).commands


def commands() -> str:
    """Return every verb with its arguments and options."""
    return "\n\n".join(_command(name, command) for name, command in verbs().items())


def _command(name: str, command: typer.core.TyperCommand) -> str:
    context = typer.Context(command)
    usage = " ".join(["incumbent", name, *command.collect_usage_pieces(context)])
    records = (parameter.get_help_record(context) for parameter in command.params)
    rows = [(code(names), " ".join(text.split())) for names, text in filter(None, records)]
    about = " ".join((command.help or "").split())
    return f"### {name}\n\n{about}\n\n    {usage}\n\n{table(('parameter', 'meaning'), rows)}"


def metrics() -> str:
    """Return every metric that is served."""
    rows = [
        (code(m.name), m.type, ", ".join(map(code, m.labels)) or "none", m.help)
        for m in describe_metrics()
    ]
    return table(("metric", "type", "labels", "meaning"), rows)


# --- landscapes ----------------------------------------------------------------------------------


def landscape() -> str:
    """Return every parameter of a landscape, with what the landscapes that come along say."""
    known = {name: load_landscape(name) for name in landscapes()}
    parts = []
    for model in SECTIONS:
        section = model.__name__.lower()
        rows = [
            (
                code(name),
                field.description or "",
                *(f"{getattr(getattr(each, section), name):g}" for each in known.values()),
            )
            for name, field in model.model_fields.items()
        ]
        parts.append(f"`[{section}]`\n\n{table(('parameter', 'meaning', *known), rows)}")
    return "\n\n".join(parts)


# --- states --------------------------------------------------------------------------------------


def comments(kind: type[StrEnum]) -> Mapping[str, str]:
    """Return the comment behind each member of an enumeration, by the member's value."""
    source = inspect.getsource(kind)
    found = re.findall(r'^    \w+ = "([\w ]+)"(?:  # (.*))?$', source, re.MULTILINE)
    return dict(found)


def members(kind: type[StrEnum]) -> str:
    """Return the members of an enumeration and what they mean."""
    rows = [(code(value), text) for value, text in comments(kind).items()]
    return table(("word", "meaning"), rows)


def statuses() -> str:
    """Return every status, whether it is final, and the row that it makes in results.tsv."""
    rows = [
        (
            code(status),
            comments(Status)[status],
            "yes" if status.is_terminal else "no",
            tsv_row(status) if status.is_terminal else "not yet",
        )
        for status in Status
    ]
    return table(("status", "meaning", "final", "`results.tsv`"), rows)


def tsv_row(status: Status) -> str:
    """Return the status word of the row that an experiment of this status gets."""
    fate = fates.FATE_OF_STATUS[status]
    return code(fate) if fate in results_tsv.ROWS else NO_ROW


def endings() -> str:
    """Return every ending of a trial, with what becomes of the experiment and its row."""
    rows = []
    for ending in Ending:
        status = STATUS_OF_ENDING[ending]
        row = tsv_row(status) if status.is_terminal else "`keep` or `discard`, at the verdict"
        row = "not yet" if status is Status.PROPOSED else row
        rows.append((code(ending), comments(Ending)[ending], code(status), row))
    return table(("ending", "meaning", "status of the experiment", "`results.tsv`"), rows)


def transitions() -> str:
    """Return every step that an experiment may take."""
    steps = [
        (code(before), code(event.__name__), ", ".join(map(code, sorted(after))))
        for before in Status
        for event, table_ in TRANSITIONS.items()
        for status, after in table_.items()
        if status is before
    ]
    first = ("none", code(ExperimentProposed.__name__), code(Status.PROPOSED))
    return table(("from", "event", "to"), [first, *steps])


def node_transitions() -> str:
    """Return what each event makes of a node."""
    rows = [
        (code(before) if before else "not known", code(event.__name__), code(after))
        for event, steps in NODE_TRANSITIONS.items()
        for before, after in steps.items()
    ]
    return table(("from", "event", "to"), rows)


# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldText:
    """A field of a record, as its source tells of it."""

    name: str
    type: str
    default: str
    """As Python; empty for a field that must be given."""
    text: str


def fields(record: type) -> list[FieldText]:
    """Return the fields of a dataclass with the docstrings under them."""
    body = ast.parse(textwrap.dedent(inspect.getsource(record))).body[0].body
    found = []
    for node, following in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.AnnAssign):
            is_docstring = isinstance(following, ast.Expr)
            text = inspect.cleandoc(following.value.value) if is_docstring else ""
            found.append(
                FieldText(
                    name=node.target.id,
                    type=ast.unparse(node.annotation),
                    default=_literal(node.value),
                    text=" ".join(text.split()),
                )
            )
    return found


def _literal(node: ast.expr | None) -> str:
    if node is None:
        return ""
    if isinstance(node, ast.Call) and node.keywords:
        return "{}"  # field(default_factory=dict)
    return ast.unparse(node.args[0] if isinstance(node, ast.Call) else node)


def events() -> str:
    """Return every event with its fields."""
    return "\n\n".join(_record(EVENT_TYPES[name]) for name in EVENT_TYPES)


def outcome() -> str:
    """Return the fields of a trial's outcome."""
    return _fields(TrialOutcome)


def probe() -> str:
    """Return the fields of what the baseline tells of its script."""
    return _fields(Probe)


def conduct() -> str:
    """Return the fields of what is kept of a run's conduct."""
    return _fields(Conduct)


def _record(record: type) -> str:
    about = inspect.cleandoc(record.__doc__ or "")
    return f"### {record.__name__}\n\n{about}\n\n{_fields(record)}".rstrip()


def _fields(record: type) -> str:
    lines = []
    for field in fields(record):
        default = f", default `{field.default}`" if field.default else ""
        text = f": {field.text}" if field.text else ""
        lines.append(f"- `{field.name}` ({code(field.type)}{default}){text}")
    return "\n".join(lines)


# --- security ------------------------------------------------------------------------------------


def attempts() -> str:
    """Return every escape attempt, by category."""
    return "\n\n".join(map(_category, Category))


def _category(category: Category) -> str:
    rows = [
        (code(each.name), each.aim, _control(each))
        for each in ATTEMPTS
        if each.category is category
    ]
    shown = table(("attempt", "what it tries", "where it succeeds"), rows)
    aim = f"What it is after: {comments(Category)[category]}."
    return f"### {category.capitalize()}\n\n{aim}\n\n{shown}"


def _control(attempt: Attempt) -> str:
    if attempt.control is Control.BARE:
        return "without a sandbox" + (f", with {attempt.capability}" if attempt.capability else "")
    return attempt.why


def boundaries() -> str:
    """Return what no sandbox stops, and what only a control group does."""
    rows = [(code(each.name), each.aim, each.why) for each in BOUNDARIES]
    by_group = "only a control group counts that: see [limits](limits.md)"
    rows += [(code(each.name), each.aim, by_group) for each in ATTEMPTS if each.is_exact]
    return table(("name", "what a candidate can do", "why, and what is done instead"), rows)


PAGES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "commands.md": {"commands": commands},
    "configuration.md": {"keys": configuration_keys},
    "judging.md": {"landscape": landscape},
    "metrics.md": {"metrics": metrics},
    "proposers.md": {"costs": call_costs},
    "security.md": {"attempts": attempts, "boundaries": boundaries},
    "states-and-events.md": {
        "statuses": statuses,
        "transitions": transitions,
        "endings": endings,
        "crash kinds": lambda: members(CrashKind),
        "kinds": lambda: members(Kind),
        "trial phases": lambda: members(TrialPhase),
        "node statuses": lambda: members(NodeStatus),
        "node transitions": node_transitions,
        "verdicts": lambda: members(Verdict),
        "outcome": outcome,
        "starts": lambda: members(Start),
        "telemetry": lambda: _fields(Telemetry),
        "gpu telemetry": lambda: _fields(GpuTelemetry),
        "throttle reasons": lambda: members(ThrottleReason),
        "marks": lambda: members(Mark),
        "probe": probe,
        "conduct": conduct,
        "events": events,
    },
}
"""Which generated sections each page has, and what renders them."""
FILES: Mapping[str, Callable[[], str]] = {"monitoring/grafana.json": dashboard}
"""What is generated as a whole."""


if __name__ == "__main__":
    sys.exit(main())
