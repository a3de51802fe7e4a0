"""What simulations came to, as a table for people. An edge to rich."""

from typing import TextIO

from rich.text import Text

from infra.display.plain_table import PlainTable
from infra.display.tables import make_console
from infra.facts.plain_text import counted, one_line
from infra.simulations.simulations import CellFacts, EstimateFacts, SimulationFacts

_COLUMNS = (
    "slots",
    "judge",
    "reducer",
    "true",
    "claimed",
    "gap",
    "false",
    "missed",
    "repl",
    "merges",
    "speed-up",
)
_OF_RUNGS = ("rungs", "an hour", "stopped")
_WORDS = frozenset({"judge", "reducer", "rungs"})


def render_simulation(facts: SimulationFacts, *, about: str, file: TextIO | None = None) -> None:
    """Print the answers, one policy a line; improvements in thousandths of the metric's unit."""
    console = make_console(file)
    head = Text(one_line(facts["landscape"]), style="bold")
    head.append(f"  {one_line(about)}", style="not bold")
    console.print(head)
    shared = f" ({100 * facts['seed_share']:g} % by seeds)" if facts["seed_share"] else ""
    console.print(
        f"{facts['hours']:g} h, noise {facts['noise']:g}{shared}, "
        f"proposer {facts['latency_s']:g} s, "
        f"{counted(len(facts['seeds']), 'seed')}; improvements x 0.001, ± 95 %",
        style="dim",
    )
    table = PlainTable()
    has_rungs = any(cell["rungs"] for cell in facts["cells"])
    for name in (*_COLUMNS, *(_OF_RUNGS if has_rungs else ())):
        table.add_column(name, no_wrap=True, justify="left" if name in _WORDS else "right")
    for cell in facts["cells"]:
        of_rungs = _of_rungs(cell, facts["hours"]) if has_rungs else ()
        table.add_row(*_row(cell), *of_rungs)
    console.print()
    console.print(table)


def _row(cell: CellFacts) -> tuple[str, ...]:
    return (
        str(cell["slots"]),
        cell["judge"],
        cell["reducer"],
        _thousandths(cell["true"]),
        _thousandths(cell["claimed"], interval=False),
        _thousandths(cell["gap"]),
        f"{cell['false_percent']:.0f} %",
        f"{cell['missed_percent']:.0f} %",
        f"{cell['replicates_percent']:.0f} %",
        f"{cell['merges_percent']:.0f} %",
        _speedup(cell["speedup"]),
    )


def _of_rungs(cell: CellFacts, hours: float) -> tuple[str, ...]:
    tried = cell["experiments"]["mean"] or 0.0
    return (cell["rungs"] or "none", f"{tried / hours:.0f}", f"{cell['stopped_percent']:.0f} %")


def _thousandths(estimate: EstimateFacts, *, interval: bool = True) -> str:
    mean, high = estimate["mean"] or 0.0, estimate["high"] or 0.0
    half = f" ± {1e3 * (high - mean):.2f}" if interval else ""
    return f"{1e3 * mean:.2f}{half}"


def _speedup(speedup: EstimateFacts) -> str:
    """Return the speed-up with what it may be; a dash where the reference was not reached."""
    if speedup["mean"] is None:
        return "-"
    low = "?" if speedup["low"] is None else f"{speedup['low']:.1f}"
    high = "?" if speedup["high"] is None else f"{speedup['high']:.1f}"
    return f"{speedup['mean']:.1f} ({low} to {high})"
