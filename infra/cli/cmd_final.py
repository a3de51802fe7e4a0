"""`incumbent final`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.naming import experiment_named
from infra.cli.output import note, print_json, say
from infra.cli.study_choice import JsonOption, UsageProblem

if TYPE_CHECKING:
    from infra.local.home import StudyHome
    from infra.processes.launch import Prepared
    from trainer.trial import ExperimentId


def final(
    path: Annotated[Path, typer.Argument(help="The research repository.")] = Path(),
    experiment: Annotated[
        str, typer.Option("--experiment", "-e", help="Train this one instead of the best.")
    ] = "",
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, max=100, help="How many runs, by seeds.")
    ] = None,
    sandbox: Annotated[
        str | None, typer.Option("--sandbox", help="How runs are confined: bubblewrap, none.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train the best so far in full, then score it by the hidden test labels, once."""
    from infra.display.attach import counted_interrupts
    from infra.display.final_view import FinalView
    from infra.facts.final_facts import final_facts, final_lines
    from infra.local.final_process import FinalOrder, find_final, start_final, write_order
    from infra.local.home import StudyProblem
    from trainer.trial import ExperimentId

    prepared = _prepare(path, seeds, sandbox)
    study, config = prepared.study, prepared.config
    try:
        state = study.state()
        chosen = experiment_named(study, state, experiment).id if experiment else ExperimentId("")
        view = FinalView(study, state, note)
        with counted_interrupts() as presses:
            process = find_final(study.home)
            if process is None:
                order = FinalOrder(experiment=chosen, config=config)
                write_order(study.home, order)
                start_final(study.home)
            else:
                _require_the_same(study.home, process, chosen, seeds)
                note(f"attached to the final run that is under way (process {process})")
            view.follow(presses)
        if view.reported is None:
            log = study.home.final_log
            words = log.read_text("utf-8", "replace").strip().splitlines()
            raise StudyProblem(words[-1] if words else f"it ended without a word: see {log}")
        facts = final_facts(view.state, view.reported)
    finally:
        study.server.release(study.client)
    if as_json:
        print_json(facts)
        return
    for line in final_lines(facts, config.metric.name):
        say(line)


def _require_the_same(
    home: "StudyHome", process: int, experiment: "ExperimentId", seeds: int | None
) -> None:
    """Raise UsageProblem where another final run is under way than what is asked for."""
    from infra.local.final_process import read_order

    order = read_order(home)
    is_other = experiment and experiment != order.experiment
    if is_other or seeds not in {None, order.config.final.seeds}:
        what = f"{order.experiment or 'the best'} by {order.config.final.seeds} seeds"
        raise UsageProblem(
            f"a final run of {what} is under way (process {process}): `incumbent final` without "
            "these options follows it, and Ctrl-C there ends it"
        )


def _prepare(path: Path, seeds: int | None, sandbox: str | None) -> "Prepared":
    """Return the study, which must have been run, after looking at what would fail late."""
    from cluster.config_file import load_config
    from infra.checks.label_checks import require_hidden_labels
    from infra.local.checkout import main_checkout
    from infra.local.home import StudyHome
    from infra.local.settings import overridden
    from infra.processes.launch import find_config, prepare_study, require_sandbox

    if sandbox not in {None, "bubblewrap", "none"}:
        raise UsageProblem(f"--sandbox {sandbox}: the choices are bubblewrap and none")
    source, file = find_config(path)
    if not file.exists():
        raise UsageProblem(f"there is no {file.name} in {source.toplevel}: run `incumbent init`")
    config = overridden(load_config(file), sandbox=sandbox)
    if seeds is not None:
        changed = config.final.model_copy(update={"seeds": seeds})
        config = config.model_copy(update={"final": changed})
    if not StudyHome.of(source.toplevel, config.study.name).exists():
        raise UsageProblem(f"there is no study {config.study.name} yet: `incumbent run` starts it")
    require_sandbox(config)
    checkouts = (source.toplevel, main_checkout(source.toplevel))
    require_hidden_labels(config, *checkouts, is_final=True)
    return prepare_study(source, config)
