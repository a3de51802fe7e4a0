"""`incumbent prune`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.output import print_json, say
from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study
from infra.local.checkout import CONFIG, config_file, run_folder

if TYPE_CHECKING:
    from cluster.config import StudyConfig
    from infra.local.home import StudyHome
    from infra.simulations.dry_pruning import DryPruningFacts

MOST_SHOWN = 8
RUNGS_NOTE = (
    "rungs: as if a run on one reached what the curve of the full run shows after that time, which "
    "holds for no script that plans its learning rate by its budget; saved is net of these runs"
)


def prune(
    study: StudyOption = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Try it on past curves; nothing is stopped.")
    ] = False,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Which pruners, or rungs, by commas; default: all.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what pruners and rungs would have saved, and which winners they would have lost."""
    from infra.local.settings import load_settings
    from infra.local.study import opened
    from infra.simulations.dry_pruning import KINDS, RUNGS, past_trials, try_pruners

    if not dry_run:
        cure = f"[pruner] kind in {CONFIG} has trials stopped; --dry-run tells what it would do"
        raise UsageProblem(f"only `incumbent prune --dry-run` can be asked for: {cure}")
    asked = _kinds(kind)
    home = choose_study(study)
    budget_s = load_settings(home).trial.budget_s
    config = _config(home)
    kinds = asked or [*KINDS, *([RUNGS] if config.rung else [])]
    if RUNGS in kinds and not config.rung:
        raise UsageProblem(f"--kind: {CONFIG} has no section [[rung]] to try; it needs a budget_s")
    with opened(home) as found:
        record = past_trials(
            found.state(), found.progress, number=config.pruner.curve, budget_s=budget_s
        )
    facts = try_pruners(record, config, kinds, budget_s)
    if as_json:
        print_json(facts)
    else:
        _show(facts)


def _kinds(text: str | None) -> list[str]:
    """Return what was asked for; nothing means all there is."""
    from infra.simulations.dry_pruning import KINDS, RUNGS

    if text is None:
        return []
    found = [word.strip() for word in text.split(",") if word.strip()]
    if unknown := [word for word in found if word not in {*KINDS, RUNGS}]:
        known = ", ".join((*KINDS, RUNGS))
        raise UsageProblem(f"--kind: there is no {unknown[0]!r}: use {known}")
    if not found:
        raise UsageProblem("--kind names nothing")
    return list(dict.fromkeys(found))


def _config(home: "StudyHome") -> "StudyConfig":
    """Return the configuration as it stands now, where it would be run: that is what is tried."""
    from cluster.config_file import load_config
    from infra.local.settings import load_settings

    path = config_file(run_folder(home.name, home.repository, Path()))
    return load_config(path) if path.is_file() else load_settings(home)


def _show(facts: "DryPruningFacts") -> None:
    from infra.facts.plain_text import duration, one_line

    many = "trial" if facts["trials"] == 1 else "trials"
    left_out = f", {facts['without_curve']} without a curve" if facts["without_curve"] else ""
    left_out += f", {facts['pruned']} pruned and left out" if facts["pruned"] else ""
    say(
        f"curves of {facts['curve']}: {facts['trials']} {many}{left_out}; "
        f"{facts['might_be_stopped']} might be stopped, {facts['winners']} of them winners"
    )
    say(f"{'kind':12}{'stopped':>8}{'saved':>10}{'of all':>8}  winners lost")
    for each in facts["kinds"]:
        lost = each["winners_lost"]
        saved_s = each["saved_s"]
        sign = "-" if saved_s < 0 else ""
        more = f" and {len(lost) - MOST_SHOWN} more" if len(lost) > MOST_SHOWN else ""
        say(
            f"{each['kind']:12}{len(each['stopped']):>8}{sign + duration(abs(saved_s)):>10}"
            f"{each['saved_percent']:>6.0f} %  "
            f"{one_line(', '.join(lost[:MOST_SHOWN])) or 'none'}{more}"
        )
    if any(each["kind"] == "rungs" for each in facts["kinds"]):
        say(RUNGS_NOTE)
