"""`incumbent demo`."""

import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from infra.cli.output import note, say
from infra.cli.study_choice import JsonOption, UsageProblem


def demo(
    folder: Annotated[
        Path | None, typer.Argument(help="Where to make the demo's repository; default: a new one.")
    ] = None,
    experiments: Annotated[
        int, typer.Option("--experiments", "-n", min=1, help="How many to try.")
    ] = 24,
    slots: Annotated[int, typer.Option("--slots", min=1, help="CPU slots.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Improve a small classifier of handwritten digits, for real, in about two minutes."""
    from cluster.config_file import load_config
    from cluster.git.source_repository import SourceRepository
    from infra.cli.cmd_run import start
    from infra.demo_study import create_demo_repository
    from infra.display.attach import gather
    from infra.display.tables import render_log
    from infra.facts.facts import log_facts
    from infra.local.bounds import bounds_of
    from infra.local.checkout import CONFIG
    from infra.local.settings import overridden
    from infra.processes.launch import prepare_study, require_sandbox

    _check_installed()
    target = folder or Path(tempfile.mkdtemp(prefix="incumbent-demo-")) / "digits"
    try:
        repository = create_demo_repository(target.absolute())
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageProblem(str(error)) from error
    note(f"a repository with a poor train.py: {repository}")
    source = SourceRepository.find(repository)
    config = overridden(
        load_config(repository / CONFIG),
        limits={"experiments": experiments},
        cluster={"slots": slots},
    )
    require_sandbox(config)
    prepared = prepare_study(source, config)
    study = prepared.study
    try:
        note(prepared.notes[0])
        code = start(prepared, detach=False, as_json=as_json, path=repository)
        state = study.state()
        facts = gather(study, state, bounds_of(config))
    finally:
        study.server.release(study.client)
    if code == 0 and state.finished and not state.promotions:
        note("nothing improved")
        code = 1
    if code == 0 and not as_json:
        render_log(log_facts(state), metric=state.metric)
        _say_what_next(repository, facts["branch"])
    raise typer.Exit(code)


def _check_installed() -> None:
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise UsageProblem("the demo needs scikit-learn: pip install 'incumbent[demo]'")


def _say_what_next(repository: Path, branch: str) -> None:
    say(f"branch       git -C {repository} log -p {branch}")
    program = _program()
    say(f"experiments  cd {repository}; {program} log; {program} show e1; {program} diff e1")
    say(f"your own     cd YOUR-REPOSITORY; {program} init; {program} run")


def _program() -> str:
    """Return what to type to call this program: its name, if the shell would find it by that."""
    if shutil.which("incumbent"):
        return "incumbent"
    return shlex.quote(str(Path(sys.argv[0]).absolute()))
