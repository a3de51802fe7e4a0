"""The nodes of a study, for people. An edge to rich."""

from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from rich.table import Table
from rich.text import Text

from infra.node_facts import NodeFacts
from infra.node_text import slots_words, versions
from infra.plain_text import duration, one_line
from infra.status_styles import STYLES
from infra.tables import print_view


def render_nodes(nodes: Sequence[NodeFacts], *, file: TextIO | None = None) -> None:
    """Print one node a line."""
    if not nodes:
        print_view(
            "there is no node yet: they are listed once `incumbent run` is ready for trials", file
        )
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in ("node", "state", "for", "slots", "address"):
        table.add_column(name, no_wrap=True)
    for name in ("devices", "versions", "reason"):
        table.add_column(name, overflow="fold")
    for node in nodes:
        table.add_row(*_row(node))
    print_view(table, file)


def _row(node: NodeFacts) -> tuple[Text, ...]:
    seconds = node["seconds"]
    return (
        Text(one_line(node["node"])),
        Text(node["state"] + (" (head)" if node["head"] else ""), style=STYLES[node["state"]]),
        Text(duration(seconds) if seconds is not None else ""),
        Text(slots_words(node)),
        Text(one_line(node["address"])),
        Text(_devices(node["devices"])),
        Text(versions(node)),
        Text(one_line(node["reason"])),
    )


def _devices(devices: Sequence[str]) -> str:
    """Name each kind once, with how many there are."""
    kinds = Counter(map(one_line, devices))
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in kinds.items())
