"""`incumbent export-ledger`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from infra.cli.output import print_json, say
from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study
from infra.cli.transfer_progress import progress

STDOUT = "-"


def export_ledger(
    file: Annotated[
        str, typer.Argument(help="Where to; - is standard output. Default: STUDY.ledger.jsonl.")
    ] = "",
    study: StudyOption = "",
    with_code: Annotated[
        bool | None,
        typer.Option(
            "--with-code/--without-code",
            help="Write FILE.bundle with its commits, too. Default: with, unless to -.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over files that are there already.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a study to a file, whole, also while it runs; `import-ledger` reads it."""
    from infra.backup.backup import bundle_of, export
    from infra.local.home import written_atomically
    from infra.local.study import opened

    to_stdout = file == STDOUT
    if to_stdout and (as_json or with_code):
        raise UsageProblem("- prints the ledger: --json and --with-code need the name of a file")
    home = choose_study(study)
    path = Path(file or f"{home.name}.ledger.jsonl").absolute()
    if not to_stdout and (path.is_dir() or not path.parent.is_dir()):
        raise UsageProblem(f"{path} is no place for a file: name one in a folder that exists")
    bundle = None if to_stdout or with_code is False else bundle_of(path)
    for target in () if to_stdout or force else (path, bundle):
        if target is not None and target.exists():
            raise UsageProblem(f"there is a file {target} already: name another, or say --force")
    with opened(home) as found:
        show = progress("exported")
        if to_stdout:
            done = export(found, sys.stdout.buffer, None, show)
            sys.stdout.buffer.flush()
        else:
            with written_atomically(path, mode=0o600) as written:
                done = export(found, written, bundle, show)
    if as_json:
        print_json({"file": str(path), **asdict(done)})
        return
    paid = f", {done.calls} replies of models that wait for their use" if done.calls else ""
    code = f", {done.refs} refs in {done.bundle}" if done.bundle else ""
    if not to_stdout:
        say(f"{done.study}: {done.events} events in {path}{paid}{code}")
