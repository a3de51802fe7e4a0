"""The studies of a machine, for people. An edge to rich."""

from typing import TextIO

from rich.text import Text

from infra.display.plain_table import PlainTable
from infra.display.tables import print_view
from infra.facts.plain_text import one_line
from infra.local.overview import MembershipOverview, Overview, StudyOverview


def render_overview(found: Overview, *, file: TextIO | None = None) -> None:
    """Print a study a line, then a study of another machine a line."""
    if not found["studies"] and not found["joined"]:
        print_view("no study is on this machine: `incumbent run` in a repository begins one", file)
        return
    if found["studies"]:
        table = PlainTable()
        table.folding("study", "state", "slots", "judged", "best", "machines", "repository")
        for study in found["studies"]:
            table.add_row(*_study(study))
        print_view(table, file)
    if found["joined"]:
        table = PlainTable()
        table.folding("joined", "as", "state", "what")
        for joined in found["joined"]:
            table.add_row(*_joined(joined))
        print_view(table, file)


def _study(study: StudyOverview) -> list[Text]:
    best = "" if study["best"] is None else f"{study['metric']} {study['best']:.6g}"
    words = (
        study["study"],
        study["state"],
        "" if study["slots"] is None else str(study["slots"]),
        "" if study["judged"] is None else str(study["judged"]),
        best,
        ", ".join(study["nodes"]),
        study["repository"],
    )
    return [Text(one_line(word)) for word in words]


def _joined(joined: MembershipOverview) -> list[Text]:
    words = (joined["head"], joined["node"], joined["state"], joined["reason"])
    return [Text(one_line(word)) for word in words]
