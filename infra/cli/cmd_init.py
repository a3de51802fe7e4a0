"""`incumbent init`."""

from pathlib import Path
from typing import Annotated

import typer

from infra.cli.output import print_json, say
from infra.cli.study_choice import JsonOption, UsageProblem


def init(
    path: Annotated[Path, typer.Argument(help="The research repository.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite incumbent.toml.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write incumbent.toml for a repository, by looking at it."""
    from cluster.config_keys import toml
    from cluster.git.source_repository import SourceRepository
    from infra.detection.config_writer import render
    from infra.detection.detect import detect
    from infra.local.checkout import CONFIG
    from infra.local.home import write_atomically
    from trainer.gpu import NvmlGpus

    source = SourceRepository.find(path)
    file = source.toplevel / CONFIG
    if file.exists() and not force:
        raise UsageProblem(f"{file} exists already (--force overwrites it)")
    detected = detect(source.toplevel, has_gpu=bool(NvmlGpus().look()))
    write_atomically(file, render(detected))
    if as_json:
        print_json(
            {
                "path": str(file),
                "assumed": [
                    {"key": f"{f.section}.{f.key}", "value": f.value, "why": f.why}
                    for f in detected.findings
                ],
                "questions": [f"{q.section}.{q.key}: {q.text}" for q in detected.questions],
                "hints": [f"{h.section}.{h.key} = {h.value!r}: {h.why}" for h in detected.hints],
            }
        )
        return
    say(f"wrote {file}, assuming:")
    for finding in detected.findings:
        say(f"  [{finding.section}] {finding.key} = {toml(finding.value)}  ({finding.why})")
    for question in detected.questions:
        say(f"  please answer: [{question.section}] {question.key}: {question.text}")
    for hint in detected.hints:
        say(f"  maybe: [{hint.section}] {hint.key} = '{hint.value}'  ({hint.why})")
    if detected.questions:
        say("answer what is asked in the file, then: incumbent run")
        raise typer.Exit(1)
    say("next: incumbent run")
