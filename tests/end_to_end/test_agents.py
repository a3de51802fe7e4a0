"""A study whose ideas come from a command: run in the sandbox, paid for, and killed with the study.

The agent really reads: it lowers the number that it finds, and says what it has read.
"""

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from cluster.state import events as ev
from infra.local.study import opened
from tests.end_to_end.conftest import CONFIG, SCRIPT, MakeStudy, Study

pytestmark = [pytest.mark.ray, pytest.mark.slow]

KEY = "sk-marked-for-an-agent"
AGENT = """
[[proposer]]
kind = "agent"
environment = ["AGENT_KEY"]
usd = 0.5
timeout_s = 100
command = '''
test -n "$AGENT_KEY" && grep -q loss .incumbent/context.md || exit 5
{first}
tried=$(wc -l < .incumbent/history.jsonl)
sed -i "s/^X=.*/X=1.$((9 - tried))/" bench.sh
echo "lower, after $tried" > .incumbent/hypothesis.txt
echo "{{\\"usd\\": 0.25}}" > .incumbent/usage.json
echo "the key is $AGENT_KEY"
'''
[limits]
experiments = {experiments}
usd = 5
"""


def agents(make_study: MakeStudy, experiments: int, first: str = "") -> Study:
    proposers = AGENT.format(experiments=experiments, first=first)
    return make_study(
        {"bench.sh": SCRIPT},
        name="agents",
        config=CONFIG + proposers.replace("{", "{{").replace("}", "}}"),
        variables={"AGENT_KEY": KEY},
    )


def with_argument(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and text.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def test_an_agent_feeds_a_study_and_is_paid_what_it_says(make_study: MakeStudy) -> None:
    study = agents(make_study, experiments=2)
    study.incumbent("run", "--slots", "1")
    log = {row["id"]: row for row in study.json("log")}
    mine = [row for row in log.values() if row["proposer"] == "agent"]
    assert mine
    assert all(row["hypothesis"].startswith("lower, after") for row in mine)
    assert "kept" in {row["status"] for row in mine}
    with opened(study.home) as found:
        told = [recorded.event for recorded in found.ledger.read(0, limit=100_000)]
    settled = [event for event in told if isinstance(event, ev.CallSettled) and not event.is_lost]
    assert {event.usd for event in settled if not event.problem} == {0.25}
    (by_agent,) = [each for each in study.json("status")["proposers"] if each["name"] == "agent"]
    assert by_agent["usd"] == pytest.approx(sum(event.usd for event in settled))
    assert "the key is [...]" in (study.home.calls / "c1.log").read_text()
    kept = (each for each in study.home.directory.rglob("*") if each.is_file())
    assert not [each for each in kept if KEY.encode() in each.read_bytes()]


def test_an_agent_dies_with_a_controller_that_is_killed(make_study: MakeStudy) -> None:
    study = agents(make_study, experiments=2, first="(setsid sleep 31771 &) ; sleep 31771")
    study.start("run", "--slots", "1")
    study.wait("the agent to run", lambda: len(with_argument("sleep\x0031771")) == 2)
    os.kill(json.loads(study.home.controller.read_text())["pid"], signal.SIGKILL)
    until = time.monotonic() + 20
    while (left := with_argument("sleep\x0031771")) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left
