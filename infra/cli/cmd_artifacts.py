"""`incumbent artifacts`."""

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.naming import with_experiment
from infra.cli.output import print_json, say
from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study

if TYPE_CHECKING:
    from infra.local.artifacts import Artifact, TrialArtifacts


def artifacts(
    experiment: Annotated[
        str,
        typer.Argument(
            help="An experiment or one trial (e42, e42.1), or what was submitted (s-1f2e3d4c)."
        ),
    ],
    study: StudyOption = "",
    as_json: JsonOption = False,
) -> None:
    """List the files that trials left, and where each lies: here, or on the node that ran it."""
    from infra.local.artifacts import artifacts_of, is_to_begin
    from infra.local.study import opened

    home = choose_study(study)
    with opened(home) as found:
        state = found.state()
        name = with_experiment(found, state, experiment)
        listed = artifacts_of(home, state, name)
    if listed is None:
        raise UsageProblem(f"there is no {name} (see `incumbent log`)")
    if as_json:
        print_json(listed)
        return
    for trial in listed:
        _show(trial)
    if not listed:
        is_early = is_to_begin(state, name)
        say(f"{name} has not begun" if is_early else f"{name} left nothing in $INCUMBENT_OUT")


def _show(trial: "TrialArtifacts") -> None:
    attempt = f", attempt {trial['attempt']}" if trial["attempt"] > 1 else ""
    place = f" on {trial['node']}" if trial["node"] else ""
    folder = f": {trial['folder']}" if trial["folder"] else ""
    say(f"{trial['trial']}{attempt}{place}{folder}")
    width = max((len(f"{each['bytes']:,}") for each in trial["files"]), default=0)
    for each in trial["files"]:
        say(f"  {each['bytes']:>{width},}  {each['name']}  {_where(each)}")
    if trial["unlisted"]:
        say(f"  and {trial['unlisted']:,} more files over there")
    if trial["note"]:
        say(f"  {trial['note']}")


def _where(file: "Artifact") -> str:
    place = f"{file['node']}:{file['path']}" if file["node"] else file["path"]
    return f"{place} ({file['note']})" if file["note"] else place
