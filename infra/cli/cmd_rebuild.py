"""`incumbent rebuild`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from infra.cli.output import print_json, say
from infra.cli.study_choice import JsonOption, UsageProblem
from infra.cli.transfer_progress import progress


def rebuild(
    path: Annotated[Path, typer.Argument(help="The research repository.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Make a new ledger of what git knows, for a study whose Redis is lost."""
    from cluster.config_file import load_config
    from infra.backup.rebuilding import rebuild_study
    from infra.processes.launch import find_config

    source, config = find_config(path)
    if not config.exists():
        raise UsageProblem(f"there is no {config.name} in {source.toplevel}: copy the study's here")
    facts = rebuild_study(
        source,
        load_config(config),
        read=progress("read", "experiments"),
        wrote=progress("wrote"),
    )
    if as_json:
        print_json(asdict(facts))
        return
    say(
        f"{facts.study}: {facts.experiments} experiments and {facts.promotions} promotions, from "
        f"git (results.tsv: {facts.results})"
    )
    say(
        f"not known: how {facts.unknown_ends} experiments ended, which are lost now "
        "(`incumbent retry` runs one again)"
    )
    for what in facts.never_known:
        say(f"not known: {what}")
    say(f"`incumbent run` carries on; {facts.measures_again} is measured again before all else")
