"""Real commands in real sandboxes: what an agent brings, and what a hostile one does not."""

import json
import math
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proposer import constants
from proposer.agent import Agent
from proposer.agent_run import Workspace
from proposer.config import AgentSource
from proposer.proposal import (
    Context,
    Proposal,
    ProposerDone,
    ProposerTroubled,
    Task,
    TaskGivenUp,
    TaskKind,
)
from proposer.purse import CallId, CallPlan, OverLimit, RecordedReply
from proposer.python_knobs import read_python
from tests.proposer.study import TRAIN, FakePurse, context, past
from tests.trainer.conftest import Research
from trainer.config import TrialConfig
from trainer.paths import WorkerPaths
from trainer.trial import CommitId, ExperimentId

FILES = {"train.py": TRAIN, "prepare.py": "DATA = 1\n", "lib/more.py": "x = 1\n"}
LOWER = "sed -i 's/LR = 0.1/LR = 0.05/' train.py"
KEY = "sk-marked-key-of-an-agent"


@pytest.fixture(autouse=True)
def read_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "read_python_apart", read_python)


@dataclass
class Agency:
    """A study's folder with a repository, in which agents can be let loose."""

    folder: Path
    research: Research
    commit: CommitId
    purse: FakePurse = field(default_factory=FakePurse)

    @property
    def paths(self) -> WorkerPaths:
        return WorkerPaths(study=self.folder, environments=self.folder / "environments")

    @property
    def logs(self) -> Path:
        return self.folder / "calls"

    def agent(self, command: str, *, name: str = "agent", **changes: Any) -> Agent:
        sandbox = changes.pop("sandbox", "bubblewrap")
        given = changes.pop("given", {})
        labels = changes.pop("labels", {})
        source = AgentSource(kind="agent", command=command, **{"timeout_s": 60.0, **changes})
        workspace = Workspace(
            study="study",
            base=self.commit,
            paths=self.paths,
            trial=TrialConfig(command="python train.py", gpus=0, sandbox=sandbox),
            editable=("train.py", "lib/more.py"),
            logs=self.logs,
            given=given,
            labels=labels,
        )
        return Agent(source, name=name, purse=self.purse, workspace=workspace)

    def context(self, **changes: Any) -> Context:
        files = {"train.py": TRAIN, "lib/more.py": FILES["lib/more.py"]}
        return context(**{"commit": self.commit, "files": files, **changes})

    def run(self, command: str, **changes: Any) -> Proposal:
        (proposal,) = self.agent(command, **changes).propose(self.context(), 3)
        return proposal

    def trouble(self, command: str, **changes: Any) -> str:
        with pytest.raises(ProposerTroubled) as raised:
            self.run(command, **changes)
        return str(raised.value)

    def done(self, command: str, **changes: Any) -> str:
        with pytest.raises(ProposerDone) as raised:
            self.run(command, **changes)
        return str(raised.value)

    def log(self, call: str = "c1") -> str:
        return (self.logs / f"{call}.log").read_text()

    @property
    def left(self) -> list[str]:
        """What lies in run folders."""
        runs = self.folder / "runs"
        return [str(each) for each in runs.rglob("*") if each.name != "trash" and each.is_file()]


@pytest.fixture
def agency(tmp_path: Path) -> Iterator[Agency]:
    folder = tmp_path / "study"
    folder.mkdir()
    research = Research.start(folder)
    made = Agency(folder, research, CommitId(research.commit(FILES)))
    yield made
    assert not made.purse.reserved, "a call was never settled"
    assert not made.left, "a run has left files behind"


def with_argument(text: str) -> list[int]:
    """Return the processes of this machine that have an argument of this text."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and text.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


# --- what it brings ------------------------------------------------------------------------------


def test_an_agent_edits_the_files_and_says_what_it_did(agency: Agency) -> None:
    said = {
        "hypothesis": "LR 0.1 -> 0.05",
        "category": "optimizer",
        "notes": "lower is calmer",
        "expected_effect": 0.01,
        "hints": ["suggest LR in [0.01, 0.1]"],
    }
    proposal = agency.run(f"{LOWER}; echo '{json.dumps(said)}' > .incumbent/proposal.json")
    assert proposal.edits == {"train.py": TRAIN.replace("LR = 0.1", "LR = 0.05")}
    assert (proposal.hypothesis, proposal.category) == ("LR 0.1 -> 0.05", "optimizer")
    assert (proposal.notes, proposal.expected_effect) == ("lower is calmer", 0.01)
    assert proposal.hints == ("suggest LR in [0.01, 0.1]",)
    assert proposal.parameters == {"LR": 0.05, "DEPTH": 4}
    assert proposal.origin == "c1/0"


@pytest.mark.parametrize(
    ("name", "wrong", "missing"),
    [
        ("hypothesis", 1, "agent: changes 1 line of train.py"),
        ("category", None, ""),
        ("notes", ["lower", "calmer"], ""),
        ("expected_effect", "much", None),
        ("expected_effect", math.nan, None),
        ("hints", "suggest LR in [0.01, 0.1]", ()),
        ("hints", None, ()),
    ],
)
def test_a_field_of_the_wrong_kind_is_missing_and_the_others_are_taken(
    agency: Agency, name: str, wrong: object, missing: object
) -> None:
    said = {
        "hypothesis": "lower LR",
        "category": "optimizer",
        "notes": "calmer",
        "expected_effect": 0.01,
        "hints": ["suggest LR in [0.01, 0.1]"],
    }
    text = json.dumps({**said, name: wrong})
    proposal = agency.run(f"{LOWER}; echo '{text}' > .incumbent/proposal.json")
    found = {each: getattr(proposal, each) for each in said}
    assert found == {**said, "hints": tuple(said["hints"]), name: missing}


def test_it_finds_the_study_in_files_and_is_told_what_to_read(agency: Agency) -> None:
    history = [past(1, patch="-LR = 0.1\n+LR = 9\n"), past(2)]
    script = "cp .incumbent/* /out; " + LOWER + "; cat .incumbent/*; ls -R; ls -a"
    agent = agency.agent(script)
    known = agency.context(history=history, scratchpad="LR matters", notes=["leave the data"])
    agent.propose(known, 1)
    printed = agency.log()
    assert "Read .incumbent/context.md first" in printed
    assert "thrown away: lib/more.py, train.py" in printed
    assert "leave the data" in printed, "what people say is in the context"
    lines = [line for line in printed.splitlines() if line.startswith('{"experiment"')]
    assert [json.loads(line)["experiment"] for line in lines] == ["e1", "e2"]
    assert json.loads(lines[0])["patch"] == "-LR = 0.1\n+LR = 9\n"
    assert "prepare.py" in printed
    assert "\n.git\n" not in printed


@pytest.mark.parametrize(
    ("said", "hypothesis"),
    [
        ("", "agent: changes 1 line of train.py"),
        ("echo 'lower LR' > .incumbent/hypothesis.txt", "lower LR"),
        (
            "cd .incumbent; echo '{\"hypothesis\":1}' >proposal.json; echo lower >hypothesis.txt",
            "lower",
        ),
        ("printf 'first\\nsecond' > .incumbent/hypothesis.txt", "first"),
        ("echo '{\"hypothesis\"' > .incumbent/proposal.json", "agent: changes 1 line of train.py"),
        ("mkfifo .incumbent/proposal.json", "agent: changes 1 line of train.py"),
        ("ln -s /etc/passwd .incumbent/hypothesis.txt", "agent: changes 1 line of train.py"),
        ("head -c 99999 /dev/zero > .incumbent/proposal.json", "agent: changes 1 line of train.py"),
        ("rm -r .incumbent; ln -s /etc .incumbent", "agent: changes 1 line of train.py"),
    ],
    ids=[
        "nothing",
        "text",
        "number and text",
        "line",
        "broken",
        "pipe",
        "link",
        "large",
        "folder",
    ],
)
def test_what_it_does_not_say_is_told_of_its_patch(
    agency: Agency, said: str, hypothesis: str
) -> None:
    assert agency.run(f"{LOWER}; {said}").hypothesis == hypothesis


def test_what_it_changed_elsewhere_is_not_taken_and_told(agency: Agency) -> None:
    more = "echo 'DATA = 2' > prepare.py; echo 1 > helper.py; mkdir __pycache__; > __pycache__/x"
    proposal = agency.run(f"{LOWER}; {more}")
    assert list(proposal.edits) == ["train.py"]
    assert proposal.notes == (
        "Not taken, for only editable files count: prepare.py was changed; helper.py was added."
    )


def test_one_run_follows_another_each_in_fresh_files_whatever_thread_asks(agency: Agency) -> None:
    agent = agency.agent(f"test ! -e planted || exit 3; touch planted; {LOWER}")
    found: list[Proposal] = []

    def ask() -> None:
        found.extend(agent.propose(agency.context(), 1))

    for _ in range(2):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert [each.origin for each in found] == ["c1/0", "c2/0"]


def task_of(kind: TaskKind) -> Task:
    return Task(
        kind=kind,
        experiment=ExperimentId("e7"),
        hypothesis="deeper",
        problem="NameError: name 'modle' is not defined",
        files={"train.py": "theirs\n", "lib/more.py": "m\n"},
        base_files={"train.py": "base\n"},
    )


TWIN = past(
    7,
    hypothesis="lower the rate",
    patch="--- a/train.py\n+++ b/train.py\n-LR = 0.1\n+LR = 0.05\n",
    reason="0.2 worse than e0",
)
SAY = "echo 'lower the rate' > .incumbent/hypothesis.txt"


def test_a_twin_of_the_history_is_run_again_once_with_what_came_of_it(agency: Agency) -> None:
    command = (
        "if grep -q again.md .incumbent/prompt.md; then"
        " cat .incumbent/again.md; sed -i 's/DEPTH = 4/DEPTH = 8/' train.py;"
        f" else {LOWER}; {SAY}; fi"
    )
    agent = agency.agent(command, usd=0.5)
    (deeper,) = agent.propose(agency.context(history=[past(3), TWIN]), 1)
    assert deeper.edits == {"train.py": TRAIN.replace("DEPTH = 4", "DEPTH = 8")}
    assert (deeper.origin, list(agency.purse.settled)) == ("c2/0", ["c1", "c2"])
    told = agency.log("c2")
    assert "it is much like e7, which was discarded" in told
    assert "<<<DATA\nlower the rate\n0.2 worse than e0\nDATA>>>" in told


def test_who_insists_on_a_twin_is_taken_at_its_word(agency: Agency) -> None:
    agent = agency.agent(f"{LOWER}; {SAY}")
    (insisted,) = agent.propose(agency.context(history=[TWIN]), 1)
    assert (insisted.hypothesis, insisted.origin) == ("lower the rate", "c2/0")


@pytest.mark.parametrize("again", ["exit 1", "true", "exit 127"])
def test_a_twin_is_taken_where_nothing_comes_of_the_second_run(agency: Agency, again: str) -> None:
    command = f"if grep -q again.md .incumbent/prompt.md; then {again}; else {LOWER}; {SAY}; fi"
    (twin,) = agency.agent(command).propose(agency.context(history=[TWIN]), 1)
    assert (twin.hypothesis, twin.origin) == ("lower the rate", "c1/0")
    assert list(agency.purse.problems) == ["c2"]


def test_a_twin_is_taken_where_a_second_run_could_cost_too_much(agency: Agency) -> None:
    agency.purse.left = 0.7
    agent = agency.agent(f"{LOWER}; {SAY}", usd=0.5)
    (twin,) = agent.propose(agency.context(history=[TWIN]), 1)
    assert (twin.origin, list(agency.purse.settled)) == ("c1/0", ["c1"])


def test_what_mends_is_not_run_again_for_being_like_what_it_mends(agency: Agency) -> None:
    task = Task(
        kind=TaskKind.FIX,
        experiment=TWIN.experiment,
        hypothesis=TWIN.hypothesis,
        problem="NameError",
        files={"train.py": TRAIN},
    )
    context = agency.context(history=[TWIN], task=task)
    (fix,) = agency.agent(f"{LOWER}; {SAY}").propose(context, 1)
    assert fix.origin == "c1/0"


@pytest.mark.parametrize("kind", list(TaskKind))
def test_a_task_is_told_in_files_and_names_its_answer(agency: Agency, kind: TaskKind) -> None:
    task = task_of(kind)
    script = (
        "grep -q task.md .incumbent/prompt.md && grep -q modle .incumbent/task.md"
        " && grep -q m .incumbent/theirs/lib/more.py && grep -q base .incumbent/base/train.py"
        " && cp .incumbent/theirs/train.py train.py"
    )
    (proposal,) = agency.agent(script).propose(agency.context(task=task), 1)
    assert proposal.edits == {"train.py": "theirs\n"}
    assert proposal.hypothesis == f"{kind} e7: deeper"
    assert agency.purse.plans[CallId("c1")].task == f"{kind}/e7"


def test_a_repositorys_own_incumbent_folder_leads_nowhere(agency: Agency, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (agency.research.checkout / ".incumbent").symlink_to(outside)
    agency.commit = CommitId(agency.research.commit({"more": ""}))
    assert agency.run(f"test -f .incumbent/prompt.md && {LOWER}").edits
    assert not list(outside.iterdir())


# --- how it fails --------------------------------------------------------------------------------


def test_a_failure_is_told_in_one_line_with_the_end_of_what_it_printed(agency: Agency) -> None:
    assert agency.trouble("printf 'so\\n\\033[31mno credit\\033[0m\\n'; exit 3") == (
        "it ended with 3: no credit"
    )
    assert agency.trouble("kill -9 $$") == "it was ended by signal 9"
    assert agency.trouble("echo I looked") == "it changed none of the editable files: I looked"
    assert agency.trouble("echo 2 > prepare.py") == (
        "it changed none of the editable files. "
        "Not taken, for only editable files count: prepare.py was changed"
    )


def test_a_command_that_is_not_there_is_not_asked_again_and_the_cure_is_told(
    agency: Agency,
) -> None:
    said = agency.done("no-such-agent -p hello")
    assert said.startswith("`no-such-agent -p hello` cannot be started: ")
    assert "name in [[proposer]] mounts the folder that holds it" in said


def test_its_time_ends_with_every_process_it_has_started(agency: Agency) -> None:
    away = "sh -c 'setsid sleep 31551 & setsid sh -c \"sleep 31551 & wait\" &'"
    said = agency.trouble(f"{away}; echo waiting; sleep 31551", timeout_s=1.0, usd=0.5)
    assert said == "it took longer than timeout_s = 1: waiting"
    assert not with_argument("31551")
    assert agency.purse.settled[CallId("c1")].usd == 0.5


def test_what_it_leaves_running_ends_with_it(agency: Agency) -> None:
    assert agency.run(f"setsid sleep 31552 & {LOWER}").edits
    assert not with_argument("31552")


# --- what it costs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "usd", "tokens"),
    [
        ("true", 0.5, 0),
        ('echo \'{"usd": 0.1, "input_tokens": 7}\' > .incumbent/usage.json', 0.1, 7),
        ("echo '{\"usd\": 900}' > .incumbent/usage.json", 0.5, 0),
        ("echo '{\"usd\": -1}' > .incumbent/usage.json", 0.5, 0),
        ("echo '{\"usd\": NaN}' > .incumbent/usage.json", 0.5, 0),
        ("mkfifo .incumbent/usage.json", 0.5, 0),
        ('echo \'{"total_cost_usd": 0.2, "usage": {"output_tokens": 9}, "x": 1}\'', 0.2, 9),
        ('printf \'{"usd": 0.2, "result": "%050000d"}\\n\\033[?25h\' 0', 0.2, 0),
        ('echo \'{"usd": 0.1, "output_tokens": 999999999999}\' > .incumbent/usage.json', 0.5, 0),
    ],
    ids=["nothing", "file", "too-much", "negative", "nan", "pipe", "printed", "long", "tokens"],
)
def test_what_it_says_it_cost_is_taken_up_to_what_was_reserved(
    agency: Agency, said: str, usd: float, tokens: int
) -> None:
    agency.run(f"{LOWER}; {said}", usd=0.5)
    settled = agency.purse.settled[CallId("c1")]
    assert (settled.usd, settled.usage.total) == (usd, tokens)
    assert agency.purse.plans[CallId("c1")].usd == 0.5


@pytest.mark.parametrize(
    ("said", "counted"),
    [("", 700), ("0", 700), ("600", 600), ("900", 700)],
    ids=["nothing", "none", "less", "more"],
)
def test_tokens_count_as_what_was_reserved_unless_it_says_less(
    agency: Agency, said: str, counted: int
) -> None:
    told = f"echo '{{\"input_tokens\": {said}}}' > .incumbent/usage.json" if said else "true"
    agency.run(f"{LOWER}; {told}", tokens=700)
    assert agency.purse.plans[CallId("c1")].tokens == 700
    assert agency.purse.settled[CallId("c1")].usage.total == counted


def test_a_failed_run_is_paid_for_too_by_what_it_says(agency: Agency) -> None:
    agency.trouble("echo '{\"usd\": 0.3}' > .incumbent/usage.json; exit 1", usd=0.5)
    settled = agency.purse.settled[CallId("c1")]
    assert (settled.usd, settled.problem, settled.reply) == (0.3, "it ended with 1", "")


def test_a_run_that_may_cost_more_than_is_left_is_not_begun(agency: Agency) -> None:
    agency.purse.left = 0.4
    with pytest.raises(OverLimit):
        agency.run(LOWER, usd=0.5)
    assert not agency.logs.exists()


def test_a_run_that_was_paid_for_before_a_crash_is_not_run_again(agency: Agency) -> None:
    first = agency.run(f"{LOWER}; echo lower > .incumbent/hypothesis.txt")
    reply = agency.purse.settled[CallId("c1")].reply
    plan = agency.purse.plans[CallId("c1")]

    def kept(call: str, plan: CallPlan, reply: str = reply) -> RecordedReply:
        return RecordedReply(call=CallId(call), plan=plan, reply=reply)

    other = CallPlan(
        proposer="agent",
        model="agent",
        purpose="propose",
        commit=CommitId("f" * 40),
        incumbent=ExperimentId("e0"),
        usd=0.0,
        tokens=0,
    )
    frozen = json.dumps({"edits": {"prepare.py": "2"}, "hypothesis": "x"})
    unused = [kept("c4", other), kept("c5", plan, "{"), kept("c6", plan, frozen), kept("c7", plan)]
    agency.purse = FakePurse(unused=unused)
    (again,) = agency.agent("exit 9").propose(agency.context(), 1)
    assert (again.edits, again.hypothesis, again.origin) == (first.edits, "lower", "c7/0")
    assert not agency.purse.plans


def test_a_run_for_a_task_that_was_paid_for_before_a_crash_answers_that_task_alone(
    agency: Agency,
) -> None:
    task = agency.context(task=task_of(TaskKind.COMPOSE))
    agency.agent(LOWER).propose(task, 1)
    done, plan = agency.purse.settled[CallId("c1")], agency.purse.plans[CallId("c1")]
    unused = [RecordedReply(call=CallId("c9"), plan=plan, reply=done.reply)]
    agency.purse = FakePurse(unused=unused)
    agent = agency.agent(LOWER.replace("0.05", "0.04"))
    (idea,) = agent.propose(agency.context(), 1)
    (again,) = agent.propose(task, 1)
    assert (idea.origin, again.origin) == ("c1/0", "c9/0")
    assert "LR = 0.05" in again.edits["train.py"]
    assert list(agency.purse.plans) == ["c1"]


def test_a_task_of_which_nothing_comes_is_given_up_and_not_paid_for_anew(agency: Agency) -> None:
    task = agency.context(task=task_of(TaskKind.FIX))
    for command, why in (("true", "it changed none"), ("exit 3", "it ended with 3")):
        with pytest.raises(TaskGivenUp, match=why):
            agency.agent(command).propose(task, 1)
    with pytest.raises(ProposerDone):
        agency.agent("no-such-agent").propose(task, 1)


# --- a hostile one -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trick", "reason"),
    [
        ("ln -sf /etc/passwd train.py", "train.py' is a symbolic link"),
        ("rm train.py; mkfifo train.py", "train.py is a pipe"),
        ("rm train.py; mkdir train.py", "train.py is a folder"),
        ("ln prepare.py second; ln -f prepare.py train.py", "train.py has 3 names"),
        ("rm train.py", "train.py was removed"),
        ("printf '\\377' >> train.py", "train.py is not UTF-8 text any more"),
        ("head -c 2000000 /dev/zero >> train.py", "train.py has 200"),
        ("rm -r lib; ln -s /etc lib", "lib/more.py is a symbolic link or lies behind one"),
    ],
    ids=["link", "pipe", "folder", "hard-link", "removed", "bytes", "large", "behind-link"],
)
def test_an_editable_file_that_is_none_any_more_costs_the_whole_patch(
    agency: Agency, trick: str, reason: str
) -> None:
    said = agency.trouble(f"echo y = 2 >> lib/more.py; {trick}; true")
    assert reason.replace("'", "") in said
    assert "root:" not in said


def test_it_sees_and_writes_its_own_folder_alone(agency: Agency, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open to all")
    before = sorted(str(each) for each in agency.folder.rglob("*"))
    places = [agency.folder, secret, *(Path.home() / each for each in (".ssh", ".bashrc"))]
    tries = "; ".join(
        f"cat {place} {place}/*; echo x > {place}; echo x > {place}/x" for place in places
    )
    assert agency.run(f"({tries}) 2>/dev/null; echo x > /etc/x; id -u; {LOWER}").edits
    assert secret.read_text() == "open to all"
    assert "open to all" not in agency.log()
    after = sorted(str(each) for each in agency.folder.rglob("*"))
    added = {Path(each).relative_to(agency.folder).parts[0] for each in set(after) - set(before)}
    assert added <= {"calls", "worktrees", "runs", "prepare.lock", "repo.git", "environments"}
    assert "\n0\n" not in f"\n{agency.log()}", "it is never root"


def test_it_has_no_network_unless_it_is_given_it(agency: Agency) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        address = server.getsockname()
        reach = f"python -c 'import socket; socket.create_connection({address!r}, 5)'".replace(
            "'127.0.0.1'", '"127.0.0.1"'
        )
        assert "refused" in agency.trouble(reach)
        agency.run(f"{reach} && {LOWER}", network=True)
        connection, _ = server.accept()
        connection.close()


def test_it_is_given_the_variables_that_are_named_and_their_values_stay_with_it(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_API_KEY", "not-for-agents")
    script = (
        f'test "$AGENT_KEY" = {KEY} && env && {LOWER} && echo "try $AGENT_KEY" >'
        " .incumbent/hypothesis.txt"
    )
    given = {"AGENT_KEY": KEY, "FURTHER_KEY": "sk-of-another-proposer"}
    proposal = agency.run(script, environment=("AGENT_KEY",), given=given)
    assert proposal.hypothesis == "try [...]"
    log = agency.log()
    assert "AGENT_KEY=[...]" in log
    assert KEY not in log
    assert "not-for-agents" not in log
    assert "sk-of-another-proposer" not in log
    assert stat.S_IMODE((agency.logs / "c1.log").stat().st_mode) == 0o600
    assert KEY not in agency.purse.settled[CallId("c1")].reply


def test_a_patch_with_a_key_in_it_is_not_taken(agency: Agency) -> None:
    said = agency.trouble(
        'echo "# $AGENT_KEY" >> train.py; echo $AGENT_KEY',
        environment=("AGENT_KEY",),
        given={"AGENT_KEY": KEY},
    )
    assert said == "its patch holds the value of AGENT_KEY: [...]"


def test_its_log_is_bounded(agency: Agency) -> None:
    assert agency.run(f"{LOWER}; head -c 9000000 /dev/zero | tr '\\0' x").edits
    assert (agency.logs / "c1.log").stat().st_size < (2 << 20) + 100


# --- what it is given ----------------------------------------------------------------------------


def test_mounts_are_read_only_and_hold_what_the_command_needs(
    agency: Agency, tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir(mode=0o755)
    tool = tools / "agent.sh"
    tool.write_text(f"#!/bin/sh\n{LOWER}\n! echo x > {tools}/x\n")
    tool.chmod(0o755)
    assert agency.run(str(tool), mounts=(str(tools),)).edits
    assert [each.name for each in tools.iterdir()] == ["agent.sh"]


def test_what_cannot_be_given_is_told_with_its_cure(agency: Agency, tmp_path: Path) -> None:
    assert "mounts: /no/such does not exist" in agency.done(LOWER, mounts=("/no/such",))
    assert "mounts: ~no-one/x begins with a home" in agency.done(LOWER, mounts=("~no-one/x",))
    assert "with / a trial would be shown this whole machine" in agency.done(LOWER, mounts=("/",))
    assert "AGENT_KEY is not set: export it" in agency.done(LOWER, environment=("AGENT_KEY",))
    labels = tmp_path / "data" / "labels.npy"
    labels.parent.mkdir(mode=0o755)
    labels.write_text("1")
    labels.chmod(0o644)
    said = agency.done(LOWER, mounts=(str(labels.parent),), labels={"[score]": str(labels)})
    assert said.startswith(f"[score] labels: {labels} lies within")
    assert not agency.purse.plans, "nothing was reserved for what cannot be run"


def test_without_a_sandbox_it_is_not_run_as_root(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    said = agency.done(LOWER, sandbox="none")
    assert said.startswith("an agent is not run as root without a sandbox")


def test_without_a_sandbox_its_processes_end_with_it_all_the_same(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    away = "setsid sh -c 'sleep 31553 & sleep 31553' &"
    assert agency.run(f"{away} {LOWER}", sandbox="none").edits
    assert not with_argument("31553")
