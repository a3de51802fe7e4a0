"""The nodes of a study, for people. An edge to rich. Fits 80 columns, and cuts nothing."""

from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from rich.console import Group
from rich.text import Text

from infra.display.plain_table import PlainTable
from infra.display.status_styles import STYLES
from infra.display.tables import print_view
from infra.facts.node_facts import NodeFacts
from infra.facts.node_text import reasons, slots_words
from infra.facts.plain_text import duration, one_line


def render_nodes(nodes: Sequence[NodeFacts], *, file: TextIO | None = None) -> None:
    """Print one node a line, then one line for each that there is a reason for."""
    if not nodes:
        print_view(
            "there is no node yet: they are listed once `incumbent run` is ready for trials", file
        )
        return
    table = PlainTable()
    for name in ("node", "state", "for", "slots", "address", "devices"):
        has_narrow_words = name in {"state", "for", "address"}
        table.add_column(name, no_wrap=has_narrow_words, overflow="fold")
    for node in nodes:
        table.add_row(*_row(node))
    told = reasons(nodes)
    print_view(Group(table, *map(Text, ["", *told] if told else [])), file)


def _row(node: NodeFacts) -> tuple[Text, ...]:
    seconds = node["seconds"]
    return (
        Text(one_line(node["node"])),
        Text(node["state"] + (" (head)" if node["head"] else ""), style=STYLES[node["state"]]),
        Text(duration(seconds) if seconds is not None else ""),
        Text(slots_words(node)),
        Text(one_line(node["address"])),
        Text(_devices(node["devices"])),
    )


def _devices(devices: Sequence[str]) -> str:
    """Name each kind once, with how many there are."""
    kinds = Counter(map(one_line, devices))
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in kinds.items())
