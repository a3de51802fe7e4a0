"""Why the incumbent is the incumbent, for people. An edge to rich."""

from typing import TextIO

from rich.console import Group
from rich.text import Text

from infra.display.plain_table import PlainTable
from infra.display.tables import print_view
from infra.facts.plain_text import number, one_line, signed
from infra.facts.seed_text import CHANGES_SEED
from infra.facts.why import StepFacts, WhyFacts


def render_why(facts: WhyFacts, *, file: TextIO | None = None) -> None:
    """Print one promotion a line, in the order of the branch, and what was left behind."""
    if not facts["incumbent"]:
        text = "nothing is promoted yet: the baseline is not measured to the end"
        print_view(Text(text), file)
        return
    first, last = facts["steps"][0], facts["steps"][-1]
    head = Text.assemble((facts["incumbent"], "bold"), " is the incumbent: ")
    head.append(f"{one_line(facts['metric'])} {_score(last)}, from {_score(first)} of the baseline")
    branch = f"branch incumbent/{facts['study']} at {facts['commit'][:10]}"
    table = PlainTable()
    for name in ("commit", "experiment", "score", "gain", "chance", "trials"):
        right = name in {"score", "gain", "chance"}
        table.add_column(name, no_wrap=True, justify="right" if right else "left")
    table.folding("why")
    for step in facts["steps"]:
        table.add_row(*_row(step), style="" if step["on_branch"] else "dim")
    left_behind = [
        Text(one_line(f"{one['experiment']} was left behind by {one['by']}; {one['fate']}"), "dim")
        for one in facts["left_behind"]
    ]
    blank = [Text()] if left_behind else []
    print_view(Group(head, Text(branch, "dim"), Text(), table, *blank, *left_behind), file)


def _row(step: StepFacts) -> tuple[str, ...]:
    chance = step["chance"]
    return (
        step["commit"][:7],
        step["experiment"],
        _score(step),
        signed(step["delta"]) if step["delta"] is not None and step["replaces"] else "",
        f"{100 * chance:.0f} %" if chance is not None else "",
        ", ".join(
            run["trial"] + (f" ({run['ending']})" if run["value"] is None else "")
            for run in step["trials"]
        ),
        one_line(_words(step)),
    )


def _score(step: StepFacts) -> str:
    if (belief := step["belief"]) is not None:
        return f"{number(belief['mean'])} ± {belief['sd']:.2g}"
    return number(step["score"])


def _words(step: StepFacts) -> str:
    words = step["hypothesis"]
    if step["carries"]:
        words += f" (of {step['carries']}, merged onto {step['base']})"
    elif step["rebased_from"]:
        words += f" (rebased onto {step['base']} before it ran)"
    if step["takes_out"]:
        words += f"; takes out {step['takes_out']}"
    if step["taken_out_by"]:
        words += f"; taken out by {step['taken_out_by']}"
    if step["changes_seed"]:
        words += f" ({CHANGES_SEED})"
    if step["superseded"]:
        words += f"; superseded {', '.join(step['superseded'])}"
    return f"{words}: {step['reason']}" if step["reason"] else words
