"""Runs one script in a sandbox, as whoever starts this program, and prints what came of it as JSON.

Started by the tests with an interpreter that every user can read, so that it can be started as any
user; it needs the standard library, and copies of `trainer` and `eval` beside it.
"""

import json
import sys
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from eval.metric import Goal, Metric
from trainer.run_folder import RunFolder
from trainer.run_records import Bind, RunReport, RunRequest
from trainer.sandbox.confine import BubblewrapSandbox, Program, Sizes
from trainer.supervisor_client import Supervisor

_MIB = 1 << 20


def main() -> None:
    order = json.loads(sys.stdin.read())
    folder = Path(order["folder"])
    (folder / "tree" / ".git").mkdir(parents=True)
    (folder / "tree" / "train.py").write_text(order["code"])
    sandbox = BubblewrapSandbox(
        program=Program(**order["program"], uid=order["uid"]),
        home=order["home"],
        shown=[Bind(source=source, place=place) for source, place in order["shown"]],
        sizes=Sizes(home=_MIB, tmp=2 * _MIB, shm=3 * _MIB),
    )
    run = RunFolder.at(folder / "run")
    seed = Path(order["seed"]) if order["seed"] else None
    run.fill(folder / "tree", owner=sandbox.owner, seed=seed)
    seen = sandbox.seen(run)
    request = RunRequest(
        argv=tuple(order["argv"]),
        env={"PATH": "/usr/bin:/bin", "INCUMBENT_OUT": str(seen.out)},
        cwd=str(seen.src),
        log_path=str(folder / "log"),
        timeout_s=order["timeout_s"],
        metric=Metric(name="loss", goal=Goal.MINIMIZE, pattern=r"^loss:\s+(\S+)"),
        mark=f"study/{folder.name}/e1.1",
        grace_s=order["grace_s"],
    )
    request = sandbox.confine(request, run)
    assert request.confinement is not None
    if order["broken"]:
        gone = Bind(source="/nowhere", place="/nowhere")
        binds = (*request.confinement.binds, gone)
        request = replace(request, confinement=replace(request.confinement, binds=binds))
    with closing(Supervisor()) as supervisor:
        supervisor.start(request)
        print(json.dumps({"started": True}), flush=True)
        while not isinstance(report := supervisor.poll(60.0), RunReport):
            pass
    print(
        json.dumps({**asdict(report), "src": sorted(each.name for each in run.src.iterdir())}),
        flush=True,
    )


main()
