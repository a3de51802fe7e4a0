"""`python -m tests.benchmarks`, or `make bench`: measures, and prints one table.

Progress goes to standard error. `--write` puts the tables of what was measured into
docs/benchmarks.md as well, each with the day and the machine; those of the rest stay.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks import (
    commands,
    joining,
    landscapes,
    memory,
    proposing,
    scale,
    sensitivity,
    simulation,
    throughput,
    transport,
    turnaround,
    utilisation,
)
from tests.benchmarks.figures import Figure, as_markdown, as_text
from tests.benchmarks.machine import describe, load
from tests.benchmarks.sizes import FULL, QUICK, Sizes
from tests.benchmarks.workshop import Failed
from tests.docs.generate import rendered

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
BENCHES: Mapping[str, Callable[[Sizes], Iterator[Figure]]] = {
    bench.NAME: bench.measure
    for bench in (
        throughput,
        turnaround,
        utilisation,
        commands,
        memory,
        transport,
        joining,
        proposing,
        scale,
        simulation,
        sensitivity,
        landscapes,
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for; a missed aim is no failure, for the machine may be busy.

    What cannot be measured is one: it says so, and the rest is left.
    """
    options = _options(arguments)
    if sys.platform != "linux":
        sys.stderr.write("the benchmarks read /proc: they run on Linux\n")
        return 2
    begun, figures = _head(), []
    sizes = QUICK if options.quick else FULL
    for name in options.only or BENCHES:
        head = _head()
        sys.stderr.write(f"{name}: {head}\n")
        try:
            found = list(_measured(name, sizes))
        except Failed as error:
            sys.stderr.write(f"{name}: {error}\n")
            return 1
        if options.write:  # at once: the next may take an hour, and be broken off
            section = _section(head, found)
            PAGE.write_text(rendered(PAGE.read_text("utf-8"), {name: lambda s=section: s}), "utf-8")
        figures += found
    sys.stdout.write(f"{begun}\n\n{as_text(figures)}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter measurements")
    parser.add_argument("--only", action="append", choices=[*BENCHES], help="may be repeated")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args(arguments)
    if options.write and options.quick:
        parser.error("the page holds full measurements: --write does not go with --quick")
    return options


def _head() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}, {describe()}, load {load():.1f} at the start"


def _measured(name: str, sizes: Sizes) -> Iterator[Figure]:
    for figure in BENCHES[name](sizes):
        sys.stderr.write("  ".join(filter(None, figure.cells())) + "\n")
        yield figure


def _section(head: str, figures: Sequence[Figure]) -> str:
    missed = [figure.name for figure in figures if figure.is_missed]
    verdict = f"Missed: {'; '.join(missed)}." if missed else "Every aim was met."
    return f"Measured {head}. {verdict}\n\n{as_markdown(figures)}"


if __name__ == "__main__":
    raise SystemExit(main())
