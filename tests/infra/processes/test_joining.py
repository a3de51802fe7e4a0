"""Following the node process of this machine."""

import json
import threading
from pathlib import Path

from infra.local.node_home import NodeHome, NodeStatus, Standing
from infra.processes.joining import follow_node

HEAD = "127.0.0.1:9"


def report(home: NodeHome, text: str) -> None:
    with home.reports.open("a") as file:
        file.write(json.dumps({"kind": "problem", "text": text}) + "\n")


def test_lines_that_are_no_reports_are_passed_over(incumbent_home: Path) -> None:
    home = NodeHome.locate(HEAD)
    home.create()
    told: list[str] = []
    with home.held():
        home.write_status(NodeStatus(head=HEAD, node="rig", pid=0, standing=Standing.JOINED))
        report(home, "before")
        with home.reports.open("ab") as file:
            file.write(b'{"kind": "prob\n[... 9 bytes dropped ...]\nd"}\n')
            file.write(b'WARNING\n\xff\n\n7\nnull\n["kind"]\n{"kind": "problem"}\n')
        report(home, "after")
        follow_node(home, told.append, lambda: 0, offset=0, until_joined=True)
    assert told == ["before", "after"]


def test_reports_that_were_cut_because_they_were_long_are_followed_on(incumbent_home: Path) -> None:
    home = NodeHome.locate(HEAD)
    home.create()
    told: list[str] = []
    with home.held():
        home.write_status(NodeStatus(head=HEAD, node="rig", pid=0, standing=Standing.WAITING))
        report(home, "before " * 100)
        thread = threading.Thread(
            target=follow_node,
            args=(home, told.append, lambda: 0),
            kwargs={"offset": 0, "until_joined": True},
        )
        thread.start()
        while len(told) < 1:
            thread.join(0.01)
        home.reports.write_bytes(b"[... many bytes dropped ...]\n")
        thread.join(0.3)
        report(home, "after")
        while len(told) < 2 and thread.is_alive():
            thread.join(0.01)
        home.write_status(NodeStatus(head=HEAD, node="rig", pid=0, standing=Standing.JOINED))
        thread.join()
    assert told[1:] == ["after"]
