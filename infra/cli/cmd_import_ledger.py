"""`incumbent import-ledger`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from infra.cli.output import note, print_json, say
from infra.cli.study_choice import JsonOption, UsageProblem
from infra.cli.transfer_progress import progress


def import_ledger(
    file: Annotated[Path, typer.Argument(help="What `export-ledger` wrote.")],
    path: Annotated[Path, typer.Argument(help="The research repository.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Make the study in a file that of this repository; FILE.bundle beside it brings its code."""
    from cluster.config_file import load_config
    from infra.backup.backup import import_study
    from infra.processes.launch import find_config

    if not file.is_file():
        raise UsageProblem(f"there is no file {file}")
    source, config = find_config(path)
    if not config.exists():
        raise UsageProblem(f"there is no {config.name} in {source.toplevel}: copy the study's here")
    done = import_study(source, load_config(config), file.absolute(), progress("imported"))
    if as_json:
        print_json(asdict(done))
        return
    again = f"; {done.given_back} trials that were running run again" if done.given_back else ""
    paid = f"; {done.calls} replies of models that are used first" if done.calls else ""
    say(
        f"{done.study}: {done.events} events, {done.experiments} experiments, {done.waiting} "
        f"trials waiting{again}{paid}; `incumbent run` carries on"
    )
    if done.calls_without_reply:
        note(
            f"{done.calls_without_reply} calls of models were paid for, and their replies are "
            "neither in the file nor in the study's folder: what they cost counts, and models are "
            "asked anew"
        )
