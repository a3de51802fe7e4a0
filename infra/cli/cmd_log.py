"""`incumbent log`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.output import note, print_json
from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study

if TYPE_CHECKING:
    from cluster.state.state import StudyState
    from infra.facts.refused import RefusedFacts
    from infra.local.home import StudyHome

MOST_NAMED = 4
"""Of the submissions that wait."""


def log(
    study: StudyOption = "",
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="Only so many; 0: all.")] = 0,
    proposals: Annotated[
        bool,
        typer.Option("--proposals", help='One JSON line for each proposal, for kind = "replay".'),
    ] = False,
    refused: Annotated[
        bool,
        typer.Option("--refused", help="What became no experiment: repetitions, and of what."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the experiments of a study, oldest first."""
    from infra.facts.facts import log_facts
    from infra.facts.refused import all_events, refused_count, refused_facts
    from infra.local.study import opened

    if refused and proposals:
        raise UsageProblem("say --refused or --proposals: no patch is kept of what was refused")
    home = choose_study(study)
    with opened(home) as found:
        state = found.state()
        refusals = list(refused_facts(state, all_events(found.ledger))) if refused else []
    if refused:
        _print_refused(state, refusals[-last:], as_json=as_json)
        return
    if proposals:
        _print_proposals(home, state, last)
        return
    facts = log_facts(state)[-last:]
    if as_json:
        print_json(facts)
    else:
        from infra.display.tables import render_log

        render_log(facts, metric=state.metric)
        _say_what_is_not_listed(state, refused_count(state))


def _say_what_is_not_listed(state: "StudyState", refused: int) -> None:
    """Say what was handed in or proposed, and is no experiment: not yet, or for ever."""
    if waiting := [each.submission for each in state.submissions]:
        names = ", ".join(waiting[:MOST_NAMED])
        more = f" and {len(waiting) - MOST_NAMED} more" if len(waiting) > MOST_NAMED else ""
        note(f"submitted, and no experiments yet: {names}{more}")
    if refused:
        note(f"refused before they cost anything: {refused} (see `incumbent log --refused`)")


def _print_refused(state: "StudyState", rows: "list[RefusedFacts]", *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    elif rows:
        from infra.display.tables import render_refused

        render_refused(rows, metric=state.metric)
    else:
        note("nothing was refused: all that was proposed became an experiment")


def _print_proposals(home: "StudyHome", state: "StudyState", last: int) -> None:
    from cluster.git.study_repository import StudyRepository
    from cluster.state.experiment import Kind
    from proposer.replay import record
    from trainer.trial import number_of

    repository = StudyRepository.open(home.git, study=home.name)
    by_age = sorted(state.experiments.values(), key=lambda one: number_of(one.id))
    for each in [one for one in by_age if one.kind is Kind.PROPOSAL and not one.reverts][-last:]:
        line = record(
            experiment=each.id,
            proposer=each.proposer,
            hypothesis=each.hypothesis,
            category=each.category,
            patch=repository.diff(each.base_commit, each.commit),
            parameters=each.parameters,
        )
        sys.stdout.write(line.rstrip("\n") + "\n")
