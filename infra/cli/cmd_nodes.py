"""`incumbent nodes` and `incumbent drain`."""

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.output import note_if_any, print_json, say
from infra.cli.study_choice import JsonOption, StudyOption, UsageProblem, choose_study

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.facts.node_facts import NodeFacts
    from infra.local.study import OpenStudy


def nodes(
    release: Annotated[
        str, typer.Option("--release", metavar="NODE", help="Let a quarantined node work again.")
    ] = "",
    study: StudyOption = "",
    as_json: JsonOption = False,
) -> None:
    """List the machines of a study: how each is, and why."""
    if release:
        _release(release, study, as_json)
        return
    from infra.local.controller_process import find_controller
    from infra.local.study import opened
    from infra.processes.listening import join_words

    home = choose_study(study)
    with opened(home) as found:
        facts = _known(found)
    if as_json:
        print_json({"study": home.name, "nodes": facts})
    else:
        from infra.display.node_table import render_nodes

        render_nodes(facts)
        note_if_any(join_words(home) if find_controller(home) else "")


def drain(
    node: Annotated[str, typer.Argument(help="A node, as `incumbent nodes` names it.")],
    study: StudyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Have a node finish what it runs, then leave."""
    from cluster.state.events import DrainRequested
    from infra.facts.plain_text import counted
    from infra.local.requests import request
    from infra.local.study import opened

    with opened(choose_study(study, to_act=True)) as found:
        facts = _named(node, _known(found))
        if facts["head"]:
            cure = "`incumbent pause` begins no more trials, `incumbent stop` ends it"
            raise UsageProblem(f"{node} is where the study runs: {cure}")
        if facts["state"] in {"left", "refused"}:
            raise UsageProblem(f"{node} is not there: it {_was(facts)}")
        if facts["state"] != "draining":
            request(found, DrainRequested(node=node))
    running = facts["slots"]["busy"]
    if as_json:
        print_json({"node": node, "requested": "drain", "running": running})
        return
    begun = "drains already" if facts["state"] == "draining" else "is to drain"
    what = f"what it runs ({counted(running, 'trial')})" if running else "nothing"
    say(f"{node} {begun}: it finishes {what}, then leaves; `incumbent join` there brings it back")


def _release(node: str, study_name: str, as_json: bool) -> None:
    from cluster.state.events import NodeReleased
    from infra.local.requests import request
    from infra.local.study import opened

    with opened(choose_study(study_name, to_act=True)) as found:
        facts = _named(node, _known(found))
        if facts["state"] != "quarantined":
            raise UsageProblem(f"{node} is {facts['state']}: there is nothing to release it from")
        request(found, NodeReleased(node=node))
    if as_json:
        print_json({"node": node, "requested": "release"})
    else:
        say(f"{node} is released: it takes trials again, and what failed there is forgotten")


def _known(study: "OpenStudy") -> "Sequence[NodeFacts]":
    from datetime import UTC, datetime

    from infra.facts.node_facts import node_facts
    from infra.local.controller_process import find_controller

    is_running = find_controller(study.home) is not None
    return node_facts(study.state(), datetime.now(UTC), is_running=is_running)


def _named(node: str, known: "Sequence[NodeFacts]") -> "NodeFacts":
    """Return the node of a name; raises UsageProblem with the names that there are."""
    for facts in known:
        if facts["node"] == node:
            return facts
    there = [facts for facts in known if facts["state"] not in {"left", "refused"}]
    names = ", ".join(facts["node"] for facts in there) or "none"
    raise UsageProblem(f"there is no node {node}; there is: {names}")


def _was(facts: "NodeFacts") -> str:
    how = "was refused" if facts["state"] == "refused" else "has left"
    return f"{how}: {facts['reason']}" if facts["reason"] else how
