"""`incumbent tell` and `incumbent scratchpad`: what people and proposers say to each other."""

from typing import Annotated

import typer

from infra.cli.output import print_json, say
from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study

MOST_CHARACTERS = 4000
"""Of a note: every proposer reads it at every call."""


def tell(
    text: Annotated[
        str | None, typer.Argument(help="What every proposer is to know; without: the notes.")
    ] = None,
    study: StudyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Tell all proposers something, or list what they were told."""
    from cluster.state.proposing_events import NoteGiven
    from infra.cli.output import note_if_any
    from infra.facts.plain_text import printable_lines
    from infra.local.requests import request
    from infra.local.study import opened

    note = printable_lines(text).strip() if text is not None else None
    if note == "":
        raise UsageProblem("an empty note tells nobody anything")
    if note and len(note) > MOST_CHARACTERS:
        cure = "longer things belong on the scratchpad (`incumbent scratchpad` says where it is)"
        raise UsageProblem(f"that is {len(note)} characters, of at most {MOST_CHARACTERS}: {cure}")
    with opened(choose_study(study, to_act=bool(note))) as found:
        if note:
            request(found, NoteGiven(text=note))
        notes = list(found.state().notes)
    if as_json:
        print_json({"notes": notes})
    elif note:
        say("told: every proposer sees it from its next proposal on")
    else:
        for number, each in enumerate(notes, start=1):
            say(f"{number}. {each}")
        note_if_any("" if notes else "nobody told the proposers anything yet")


def scratchpad(study: StudyOption = "", as_json: JsonOption = False) -> None:
    """Print what proposers and people wrote down for each other, and where to edit it."""
    from infra.cli.output import note
    from infra.facts.plain_text import printable_lines

    path = choose_study(study).scratchpad
    try:
        text = path.read_text("utf-8", "replace")
    except FileNotFoundError:
        text = ""
    if as_json:
        print_json({"path": str(path), "text": text})
        return
    note(f"{path}{'' if text.strip() else ' (nothing was written yet)'}")
    if text.strip():
        say(printable_lines(text).rstrip("\n"))
