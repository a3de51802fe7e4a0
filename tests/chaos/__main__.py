"""`make chaos`: studies under faults, one a seed; exits with 1 if the checker has a complaint."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos.campaign import run_seed
from tests.chaos.machines import obstacle


def main() -> int:
    """Run the seeds that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", default="1", help="e.g. 1,2,3")
    parser.add_argument("--experiments", type=int, default=60)
    parser.add_argument("--nodes", type=int, default=0, help="joined machines beside the head")
    parser.add_argument("--sandbox", default="none", choices=["none", "bubblewrap"])
    asked = parser.parse_args()
    if reason := obstacle():
        print(f"no machines can be made here: {reason}", file=sys.stderr)
        return 2
    reports = []
    for seed in map(int, asked.seeds.split(",")):
        with tempfile.TemporaryDirectory(prefix="chaos-") as outputs:
            print(f"--- seed {seed}", flush=True)
            report = run_seed(
                seed,
                outputs=Path(outputs),
                experiments=asked.experiments,
                nodes=asked.nodes,
                sandbox=asked.sandbox,
                say=lambda line: print(line, flush=True),
            )
        print(report.losses)
        for failure in report.failures:
            print(f"blamed  {failure}")
        for problem in report.problems:
            print(f"PROBLEM {problem}")
        if report.problems:
            print(report.logs)
        print(report, flush=True)
        reports.append(report)
    print("---", *reports, sep="\n")
    return int(any(report.problems for report in reports))


if __name__ == "__main__":
    raise SystemExit(main())
