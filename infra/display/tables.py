"""Facts as tables for people. An edge to rich; the live view is the other.

Text that comes from candidates, models or logs is never read as markup: it enters as `Text`, with
everything unprintable taken out. Fits 80 columns; what is longer is cut, and `--json` has it all.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from infra.display.plain_table import PlainTable
from infra.display.status_styles import STYLES, WITH_REASON
from infra.facts.conditions_text import conditions, how_started, starts, time_spent
from infra.facts.experiment_facts import relations
from infra.facts.fact_records import ExperimentFacts, ShowFacts, SlotFacts, StatusFacts, TrialFacts
from infra.facts.final_facts import final_words
from infra.facts.holdout_facts import holdout_words
from infra.facts.node_text import node_troubles, nodes_words
from infra.facts.plain_text import (
    duration,
    number,
    on_the_clock,
    one_line,
    printable_lines,
    rate,
    signed,
)
from infra.facts.probe_text import smoke_words
from infra.facts.proposer_text import (
    asked_words,
    call_words,
    expectation,
    models,
    per_win,
    proposers,
)
from infra.facts.refused import RefusedFacts
from infra.facts.rung_facts import remark, rung_words
from infra.facts.seed_text import seed_lines
from infra.facts.slots_text import blocked, in_use, promotes, shifted, spent
from infra.facts.status_text import believed, noise, queue
from trainer.trial import CrashKind

WIDTH_OF_A_PIPE = 2000
"""Nothing is cut for a program that reads, nor padded to fill a screen that is not there."""
_PLAIN_CRASHES = frozenset({"", CrashKind.EXCEPTION, CrashKind.SIGNAL})
"""Kinds of which the reason tells all."""
_UNMERGED = frozenset({"conflicted", "dropped"})
"""What became of winners that could not be merged, or whose merges came to nothing."""


def render_status(facts: StatusFacts, *, file: TextIO | None = None) -> None:
    """Print a study at one moment."""
    print_view(status_view(facts), file)


def render_log(
    rows: Iterable[ExperimentFacts], *, metric: str = "score", file: TextIO | None = None
) -> None:
    """Print experiments, one a line; the scores under the metric's name."""
    print_view(_experiments(rows, metric), file)


def render_refused(rows: Iterable[RefusedFacts], *, metric: str = "score") -> None:
    """Print refused proposals, one a line, each with what it repeats and the result of that."""
    table = PlainTable("proposer", "twin of", "which is", one_line(metric, 12))
    table.flexible("refused")
    table.may_miss("proposer", "which is")
    for row in rows:
        why = Text(one_line(row["reason"]))
        table.add_row(
            Text(one_line(row["submission"] or row["proposer"], 12)),
            Text(row["duplicate_of"]),
            _status(row["duplicate_status"]) if row["duplicate_of"] else Text(""),
            Text(number(row["duplicate_score"])),
            why.append(f" ({one_line(row['hypothesis'])})", "dim"),
        )
    print_view(table, None)


def render_show(facts: ShowFacts, *, metric: str = "score", file: TextIO | None = None) -> None:
    """Print everything about one experiment."""
    print_view(_show(facts, metric), file)


def render_summary(facts: StatusFacts, *, file: TextIO | None = None) -> None:
    """Print how a study stands at the end of a run, and where its results are."""
    grid = _grid()
    _add(grid, "best", _best(facts))
    _add(grid, "", one_line(facts["incumbent"]["hypothesis"]))
    _add(grid, "judged", _judged(facts))
    _add(grid, "branch", facts["branch"])
    for name in ("results", "picture"):
        _add(grid, name, facts["paths"].get(name, ""))
    print_view(grid, file)


def make_console(file: TextIO | None = None) -> Console:
    """Return a console that takes nothing for markup; a pipe gets lines as long as they are."""
    stream = file or sys.stdout
    width = None if stream.isatty() else WIDTH_OF_A_PIPE
    return Console(file=stream, width=width, markup=False, emoji=False, highlight=False)


def print_view(view: RenderableType, file: TextIO | None) -> None:
    """Print to a screen as it is, and elsewhere without the blanks that fill up its lines."""
    stream = file or sys.stdout
    console = make_console(stream)
    if stream.isatty():
        console.print(view)
        return
    with console.capture() as captured:
        console.print(view)
    stream.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def status_view(facts: StatusFacts, *, most_slots: int = 0) -> RenderableType:
    """Return a study at one moment; of its slots at most that many, if given."""
    head = Text()
    head.append(one_line(facts["study"]), style="bold")
    head.append(f"  {facts['branch']}  ", style="dim")
    head.append(one_line(facts["phase"]), style="red" if facts["failed"] else "cyan")
    head.append(f"  {duration(facts['running_seconds'])}", style="dim")
    grid = _grid()
    _add(grid, "best", _best(facts))
    _add(grid, "", one_line(facts["incumbent"]["hypothesis"]))
    _add(grid, "believed", believed(facts))
    _add(grid, "noise", noise(facts))
    _add(grid, "holdout", one_line(holdout_words(facts["holdout"])))
    if facts["holdout"] and facts["holdout"]["warning"]:
        _add(grid, "", Text(facts["holdout"]["warning"], style="yellow"))
    for final in facts["finals"]:
        _add(grid, final["final"], one_line(f"{final['experiment']}: {final_words(final)}"))
    _add(grid, "judged", _judged(facts))
    _add(grid, "queue", queue(facts))
    _add(grid, "rungs", rung_words(facts["rungs"]))
    _add(grid, "spent on", spent(facts))
    _add(grid, "models", models(facts))
    _add(grid, "per win", per_win(facts))
    for label, brought, trouble in proposers(facts):
        _add(grid, label, brought)
        _add(grid, "", Text(trouble, style="yellow"))
    _add(grid, "time", time_spent(facts["time"]))
    _add(grid, "starts", starts(facts["starts"]))
    _add(grid, "shifted", Text(shifted(facts), style="yellow"))
    _add(grid, "nodes", nodes_words(facts["nodes"]))
    for trouble in node_troubles(facts["nodes"]):
        _add(grid, "", Text(trouble, style="yellow"))
    _add(grid, "blocked", Text(blocked(facts), style="yellow"))
    _add(grid, "promotes", promotes(facts))
    _add(grid, "folder", facts["paths"].get("study", ""))
    if facts["notice"]:
        _add(grid, "note", Text(one_line(facts["notice"]), style="yellow"))
    parts: list[RenderableType] = [head, grid]
    if slots := in_use(facts):
        parts += [Text(), _slots(slots, most_slots)]
    if facts["recent"]:
        parts += [Text(), _experiments(facts["recent"], facts["metric"]["name"])]
    return Group(*parts)


def _best(facts: StatusFacts) -> Text:
    metric, best, start = facts["metric"], facts["incumbent"], facts["baseline"]
    if best["score"] is None:
        return Text("no score yet", style="dim")
    text = Text(f"{one_line(metric['name'])} {number(best['score'])}", style="bold")
    text.append(f"  {best['experiment']} at {best['commit'][:7]}", style="not bold")
    if best["improvement"] and start["score"] is not None:
        percent, is_better = best["improvement_percent"], best["improvement"] > 0
        way = "better" if is_better else "worse"
        gain = signed(best["improvement"]) if percent is None else f"{abs(percent):.3g} % {way}"
        style = "not bold green" if is_better else "not bold red"
        text.append(f"  {gain} than {number(start['score'])}", style=style)
    return text


def _judged(facts: StatusFacts) -> Text:
    limit = facts["limits"].get("experiments")
    of = f" of {limit:.0f}" if limit else ""
    text = Text(f"{facts['judged']}{of}, {facts['promotions']} promoted")
    if facts["rate_per_hour"]:
        text.append(f", {rate(facts['rate_per_hour'])} an hour")
    ended = ("suspect", "rejected", "crashed", "timed_out", "pruned", "lost", "conflicted")
    for status in (status for status in ended if facts["experiments"].get(status)):
        text.append(f", {facts['experiments'][status]} {_words(status)}", style=STYLES[status])
    return text


def _slots(slots: list[SlotFacts], most: int) -> Table:
    table = PlainTable("slot", "trial", "for")
    table.flexible("hypothesis", "last line")
    table.may_miss("last line", "for")
    shown = slots[:most] if most else slots
    for slot in shown:
        is_busy = slot["state"] == "busy"
        table.add_row(
            Text(one_line(slot["slot"])),
            Text(slot["trial"] if is_busy else slot["state"], style=STYLES[slot["state"]]),
            Text(duration(slot["seconds"]) if is_busy and slot["seconds"] is not None else ""),
            Text(one_line(slot["hypothesis"] if is_busy else slot["note"])),
            Text(one_line(slot["last_line"]), style="dim"),
        )
    if hidden := slots[len(shown) :]:
        busy = sum(slot["state"] == "busy" for slot in hidden)
        table.add_row(Text("…"), Text(f"{len(hidden)} more"), Text(), Text(f"{busy} of them busy"))
    return table


def _experiments(rows: Iterable[ExperimentFacts], metric: str) -> Table:
    table = PlainTable("id", "status", one_line(metric, 12), "delta", "time", "proposer")
    table.flexible("hypothesis")
    table.may_miss("proposer", "time", "delta")
    for row in rows:
        table.add_row(
            Text(row["id"]),
            _ending(row).append_text(_marks(row["marks"])),
            Text(number(row["score"])),
            Text(signed(row["delta"])),
            Text(duration(row["seconds"]) if row["seconds"] else ""),
            Text(one_line(row["proposer"], 12)),
            _hypothesis(row),
        )
    return table


def _ending(row: ExperimentFacts) -> Text:
    """Return the status, or what kind of crash it was where that says more."""
    kind = row["status"] if row["crash"] in _PLAIN_CRASHES else row["crash"]
    return Text(_words(kind), style=STYLES.get(row["status"], ""))


def _hypothesis(row: ExperimentFacts) -> Text:
    """Return what was tried; behind what went wrong, where something did."""
    hypothesis, reason = one_line(row["hypothesis"]), one_line(row["reason"])
    if row["status"] not in WITH_REASON or not reason:
        return Text(hypothesis)
    won = "won, but " if row["status"] in _UNMERGED else ""
    return Text.assemble(won, reason, (f" ({hypothesis})", "dim"))


def _show(facts: ShowFacts, metric: str) -> RenderableType:
    head = Text.assemble((facts["id"], "bold"), "  ", _status(facts["status"]))
    head.append(f"  {one_line(facts['hypothesis'])}")
    score = Text(number(facts["score"]))
    if facts["standard_error"] is not None:
        score.append(f" ± {facts['standard_error']:.2g}, {len(facts['values'])} trials")
    grid = _grid()
    _add(grid, one_line(metric), score if facts["score"] is not None else "")
    if (belief := facts["belief"]) is not None:
        _add(grid, "believed", f"{number(belief['mean'])} ± {belief['sd']:.2g}")
    _add(grid, "delta", signed(facts["delta"]) if facts["delta"] is not None else "")
    claimed = _last_outcome(facts).get("metrics", {}).get("claimed")
    _add(grid, "claimed", number(claimed) if claimed is not None else "")
    _add(grid, "reason", one_line(facts["reason"]))
    _add(grid, "next", one_line(facts["next"]))
    _add(grid, "commit", facts["commit"])
    _add(grid, "promoted", facts["promoted"])
    _add(grid, "base", _base(facts))
    by = facts["proposer"] + (f" ({facts['category']})" if facts["category"] else "")
    _add(grid, "proposer", one_line(by))
    _add(grid, "expected", expectation(facts))
    _add(grid, "call", call_words(facts["call"]))
    _add(grid, "task", asked_words(facts["task"]))
    _add(grid, "notes", one_line(facts["notes"]))
    for name, others in relations(facts):
        _add(grid, name, others)
    _add(grid, "limited by", str(_last_outcome(facts).get("limits_by", "")))
    _add(grid, "ran in", how_started(_last_outcome(facts)))
    _add(grid, "short runs", smoke_words(facts["trials"]))
    _add(grid, "seeds", "\n".join(seed_lines(facts)))
    for name, path in facts["paths"].items():
        _add(grid, name, path)
    for name, value in sorted(facts["parameters"].items()):
        _add(grid, one_line(name), one_line(str(value)))
    parts: list[RenderableType] = [head, grid]
    if trials := [*facts["trials"], *facts["controls"]]:
        parts += [Text(), _trials(trials), *_conditions(trials)]
    if facts["merges"]:
        parts += [Text(), _merges(facts)]
    parts += [Text(), _story(facts), *_tail(facts)]
    return Group(*parts)


def _base(facts: ShowFacts) -> str:
    before = f", rebased from {', '.join(facts['rebased_from'])}" if facts["rebased_from"] else ""
    return f"{facts['base']} at {facts['base_commit'][:7]}{before}"


def _last_outcome(facts: ShowFacts) -> Mapping[str, Any]:
    """Return what is known of the latest trial's end; nothing while it has not ended."""
    return (facts["trials"][-1]["outcome"] if facts["trials"] else None) or {}


def _trials(trials: list[TrialFacts]) -> Table:
    table = PlainTable("trial", "ending", "value", "time", "slot")
    table.flexible("reason")
    table.may_miss("slot", "time")
    for trial in trials:
        outcome = trial["outcome"] or {}
        table.add_row(
            Text(trial["trial"] + (f" #{trial['attempt']}" if trial["attempt"] > 1 else "")),
            _status(str(outcome.get("ending", trial["phase"]))),
            Text(number(outcome.get("value"))),
            Text(duration(trial["seconds"]) if trial["seconds"] else ""),
            Text(one_line(trial["slot"])),
            Text(remark(trial)),
        )
    return table


def _merges(facts: ShowFacts) -> Table:
    """Return all merges that carried its patch."""
    table = PlainTable("merged as", "onto", "ending", "value", "delta")
    table.flexible("reason")
    table.may_miss("onto", "delta", "value")
    for merge in facts["merges"]:
        chain = f" in the chain of {merge['chain']}" if merge["chain"] else ""
        table.add_row(
            Text(merge["experiment"]),
            Text(merge["onto"]),
            _status(merge["status"]),
            Text(number(merge["score"])),
            Text(signed(merge["delta"]) if merge["delta"] is not None else ""),
            Text(one_line(merge["reason"] + chain).strip()),
        )
    return table


def _conditions(trials: list[TrialFacts]) -> Iterable[RenderableType]:
    """Yield what was measured of each trial beside its metric, if anything was."""
    grid = _grid()
    for trial in trials:
        _add(grid, trial["trial"], Text(conditions(trial)).append_text(_marks(trial["marks"])))
    if grid.row_count:
        yield Text()
        yield Text("conditions", style="dim")
        yield grid


def _story(facts: ShowFacts) -> Table:
    table = PlainTable("event", "at")
    table.flexible("what")
    table.may_miss("at", least_flexible=24)
    for line in facts["story"]:
        at = on_the_clock(line.get("at", ""))
        what = line.get("text", line["event"])
        table.add_row(Text(str(line["seq"])), Text(at, style="dim"), Text(one_line(what)))
    return table


def _tail(facts: ShowFacts) -> Iterable[RenderableType]:
    """Yield the end of the log of the last trial, if that failed."""
    tail = printable_lines(str(_last_outcome(facts).get("tail", "")))
    if tail:
        yield Text()
        yield Padding(Text(tail, style="dim"), (0, 0, 0, 2))


def _status(status: str) -> Text:
    return Text(_words(status), style=STYLES.get(status, ""))


def _marks(marks: list[str]) -> Text:
    return Text(f" ({', '.join(marks)})" if marks else "", style="yellow")


def _words(status: str) -> str:
    return status.replace("_", " ")


def _grid() -> Table:
    """Return a table of names and values without lines."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _add(grid: Table, name: str, value: Text | str) -> None:
    """Add a line, unless there is nothing to say."""
    if value:
        grid.add_row(Text(name), value if isinstance(value, Text) else Text(value))
