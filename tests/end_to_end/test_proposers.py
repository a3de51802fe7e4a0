"""A study on digits that proposers of all kinds and a person feed, over real HTTP, in all weather.

The model is scripted, and really reads: it edits the source that it is shown. It quotes a line that
is not there, makes a slip that only running shows, is away for a while, and is paid up to a limit.
"""

import json
import os
import re
import signal
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from cluster.policy.staleness import PERSON
from cluster.state import events as ev
from cluster.state.state import StudyState
from infra.local.study import opened
from proposer.hunks import unified
from proposer.replay import record
from tests.end_to_end.conftest import MakeStudy, Study
from tests.proposer.messages_server import MessagesServer, Move, edit, experiment, question, shown
from trainer.trial import ExperimentId

pytestmark = [pytest.mark.ray, pytest.mark.slow]

KEY = "sk-marked-in-a-test"
PROPOSERS = """
[[proposer]]
kind = "claude"
model = "scripted"
base_url = "{url}"
batch = 2
max_tokens = 1024
timeout_s = 5
context_tokens = 8000
weight = 6
[[proposer]]
kind = "tuner"
[[proposer]]
kind = "crossover"
resolver = "claude"
[[proposer]]
kind = "agent"
usd = 0
timeout_s = 100
command = '''
tried=$(wc -l < .incumbent/history.jsonl)
sed -i "s/^DROPOUT = .*/DROPOUT = 0.1$tried/" train.py
echo "dropout, after $tried" > .incumbent/hypothesis.txt
'''
[[proposer]]
kind = "replay"
file = "proposals.jsonl"
[[price]]
model = "scripted"
input = 100
output = 1000
[limits]
usd = {usd}
"""
USAGE = {
    "input_tokens": 400,
    "cache_read_input_tokens": 50,
    "cache_creation_input_tokens": 50,
    "output_tokens": 500,
}
"""At the price above a call costs 0.55 dollars, and up to 2 are reserved for it."""
HINTS = ["try LEARNING_RATE=0.037", "try NO_SUCH_NAME=1"]
WORD = "smaller networks, please"


class Model:
    """The script: what is answered depends on what is shown, and on how often it was asked."""

    def __init__(self) -> None:
        self.ideas = 0
        self.calls = 0
        self.away = 0
        self.was_away = False

    def __call__(self, request: dict) -> Move:
        if self.away > 0:
            # For the crossover too, which asks when it likes, and whose trouble is not looked at.
            self.away -= "which won too" not in question(request)
            return Move(status=529, message="Overloaded")
        self.calls += 1
        return Move(
            experiments=self.experiments(request),
            notes=f"note {self.calls}",
            hints=HINTS if self.calls == 1 else (),
            usage=USAGE,
        )

    def experiments(self, request: dict) -> list[dict]:
        text = shown(request)
        if "failed for what looks like a slip" in question(request):
            self.away = 0 if self.was_away else 3
            self.was_away = True
            return [experiment("the same, spelt right", edit(content=faster(text, 0.033)))]
        if len(request["messages"]) > 1:
            return [experiment("relu, quoted right", turned(text, "ACTIVATION", '"relu"'))]
        self.ideas += 1
        if self.ideas == 1:
            wrong = {"search": "ACTIVATION = 'sigmoyd'", "replace": "x"}
            slip = text.replace("loss.backward()", "loss.backwrad()")
            return [experiment("relu", wrong), experiment("a slip", edit(content=slip))]
        hidden = 16 + 8 * self.ideas
        return [
            experiment(f"hidden {hidden}", turned(text, "HIDDEN", str(hidden))),
            experiment(f"rate {self.ideas}", edit(content=faster(text, 0.01 * self.ideas))),
        ]


def turned(text: str, name: str, value: str) -> dict:
    """Return an edit that gives a constant of the source another value."""
    found = re.search(rf"^{name} = .*$", text, re.MULTILINE)
    assert found
    rest = "  #" + found[0].partition("  #")[2] if "  #" in found[0] else ""
    return {"search": found[0], "replace": f"{name} = {value}{rest}"}


def faster(text: str, rate: float) -> str:
    return re.sub(r"LEARNING_RATE = .*", f"LEARNING_RATE = {rate:g}", text)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def server(model: Model) -> Iterator[MessagesServer]:
    made = MessagesServer(model)
    yield made
    made.close()


def digits(make_study: MakeStudy, server: MessagesServer, usd: float) -> Study:
    template = files("infra") / "demo_template"
    sources = {n: (template / n).read_text() for n in ("train.py", "prepare.py", "program.md")}
    config = (template / "incumbent.toml").read_text()
    config = config.replace('[[proposer]]\nkind = "tuner"\n', "")
    config = re.sub(r"budget_s = .*", "budget_s = 1", config).replace("{", "{{").replace("}", "}}")
    config = re.sub(r"(?m)^name = .*", 'name = "digits"', config, count=1)
    proposers = PROPOSERS.format(url=server.url, usd=usd)
    return make_study(
        sources | {"proposals.jsonl": recorded(sources["train.py"])},
        name="digits",
        config=config + proposers,
        variables={"ANTHROPIC_API_KEY": KEY},
    )


def recorded(text: str) -> str:
    """Return two proposals of another study, of lines that nobody else here changes."""
    changes = {"(dim=0) + 0.5": "(dim=0) + 0.6", "return 0.5 * (1": "return 0.55 * (1"}
    lines = [
        record(
            experiment=ExperimentId(f"e{number}"),
            proposer="claude",
            hypothesis=f"replayed {number}",
            category="test",
            patch=f"diff --git a/train.py b/train.py\n{difference(text, old, new)}",
            parameters={},
        )
        for number, (old, new) in enumerate(changes.items())
    ]
    return "".join(f"{line}\n" for line in lines)


def difference(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return unified({"train.py": text}, {"train.py": text.replace(old, new)})


_ENDS = ev.ExperimentProposed | ev.ProposalRejected


def events(study: Study) -> list[ev.Event]:
    with opened(study.home) as found:
        return [recorded.event for recorded in found.ledger.read(0, limit=100_000)]


def all_had_a_say(state: StudyState, prompts: list[str]) -> None:
    """Every kind had candidates that were measured, and what they told each other came in."""
    experiments = state.experiments.values()
    for kind in ("claude", "tuner", "agent", "replay", PERSON):
        assert [each for each in experiments if each.proposer == kind and each.values], kind
    assert {each.hypothesis for each in experiments} >= {"replayed 0", "replayed 1"}
    by_tuner = [each.parameters for each in experiments if each.proposer == "tuner"]
    assert any(parameters.get("LEARNING_RATE") == 0.037 for parameters in by_tuner)
    assert any("Hints that could not be used: 'try NO_SUCH_NAME=1'" in text for text in prompts)
    assert all(any(said in text for text in prompts) for said in (f"- {WORD}", "[claude] note 1"))


def test_all_kinds_of_proposers_share_a_study_that_is_killed_until_the_money_is_spent(
    make_study: MakeStudy, server: MessagesServer, model: Model
) -> None:
    study = digits(make_study, server, usd=8.0)
    first = study.start("run", "--slots", "3")
    study.wait("the model to have answered", lambda: model.calls >= 2)
    os.kill(json.loads(study.home.controller.read_text())["pid"], signal.SIGKILL)
    first.wait()
    study.incumbent("tell", WORD)
    study.submit(study.patch("train.py", "BATCH_SIZE = 16", "BATCH_SIZE = 24"), name="train.py")
    done = study.incumbent("run", "--slots", "3", timeout_s=400)
    told = events(study)

    # Nothing was paid for twice: of each answer that is recorded, each part came to one end.
    parts = [event.origin for event in told if isinstance(event, _ENDS) and event.origin]
    assert len(parts) == len(set(parts))
    lost = [event for event in told if isinstance(event, ev.CallSettled) and event.is_lost]
    assert len(lost) <= 2, "at most what was under way: one of the model, one of the agent"
    reserved = [event.call for event in told if isinstance(event, ev.CallReserved)]
    ended = [event.call for event in told if isinstance(event, ev.CallSettled)]
    assert sorted(reserved) == sorted(ended)

    # The limit held, and its reaching is what ended the study.
    status = study.json("status")
    assert re.search(r"\$\d\.\d\d of \$8\.00 were spent", status["finished"]), status["finished"]
    settled = [event for event in told if isinstance(event, ev.CallSettled)]
    spent = sum(event.usd for event in settled)
    assert spent <= 8.0
    asked = {event.call: event.plan for event in told if isinstance(event, ev.CallReserved)}
    by_model = [event for event in settled if asked[event.call].proposer != "agent"]
    answered = [event for event in by_model if event.proposals]
    assert model.calls - len(lost) <= len(answered) <= model.calls
    by_name = {each["name"]: each for each in status["proposers"]}
    # The crossover asks the same model what git cannot put together, on its own account.
    assert sum(each["usd"] for each in by_name.values()) == pytest.approx(spent)
    assert by_name["claude"]["usd"] > 0
    assert by_name["tuner"]["proposals"] > 0, "the tuner went on while the model was away"

    all_had_a_say(study.state(), [question(request) for request in server.requests])

    # One repair, one mended slip, one outage: told as they were.
    plans = [event.plan.purpose for event in told if isinstance(event, ev.CallReserved)]
    assert plans.count("repair") >= 1
    log = {row["id"]: row for row in study.json("log")}
    (slip,) = [row for row in log.values() if row["hypothesis"] == "a slip"]
    assert slip["status"] == "crashed"
    fix = next(row for row in log.values() if row["hypothesis"] == "the same, spelt right")
    story = study.incumbent("show", fix["id"]).stdout
    assert slip["id"] in story
    assert "fix" in story
    assert any(
        isinstance(event, ev.ProposerFailed) and "Overloaded" in event.reason for event in told
    )
    assert "note 1" in study.incumbent("scratchpad").stdout
    assert status["incumbent"]["score"] < status["baseline"]["score"]

    # The key went to the server, and nowhere else.
    assert all(sent["authorization"] == f"Bearer {KEY}" for sent in server.headers)
    assert KEY not in json.dumps(server.requests) + done.stdout + done.stderr
    kept = [path for path in Path(study.home.directory).rglob("*") if path.is_file()]
    assert not [path for path in kept if KEY.encode() in path.read_bytes()]
