"""What proposers a study has: those of its configuration, each with what is its own."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config_file import load_config
from infra.local.study import opened
from infra.processes import compose
from infra.processes.launch import find_config, prepare_study
from proposer.proposal import Proposal, Proposer, ProposerDone
from tests.infra.study_of_git import grow, user
from tests.infra.user import CONFIG, TRAIN, USAGE, User
from tests.proposer.messages_server import MessagesServer, Move, experiment
from tests.proposer.study import FakePurse, context

__all__ = ["user"]  # a fixture
REPLAY = '[[proposer]]\nkind = "replay"\nfile = "proposals.jsonl"\n'


def composed(user: User, purse: FakePurse | None = None, **keys: str) -> Sequence[Proposer]:
    config = load_config(user.folder / "incumbent.toml")
    with opened(user.home) as study:
        return compose.proposers(study, config, purse or FakePurse(), keys)


def other(tmp_path: Path, config: str) -> User:
    (tmp_path / "other").mkdir()
    made = User.at(tmp_path / "other")
    made.commit({"train.py": TRAIN})
    made.write({"incumbent.toml": CONFIG + config})
    return made


def test_what_one_study_proposed_another_proposes_again_in_order(
    user: User, tmp_path: Path
) -> None:
    grow(user)
    rows = json.loads(user.done("log", "--json"))
    second = other(tmp_path, REPLAY)
    second.write({"proposals.jsonl": user.done("log", "--proposals")})
    second.done("submit", "--set", "DEPTH=3")  # there is a study then
    (replay,) = composed(second)
    again: list[Proposal] = []
    files = {"train.py": TRAIN}
    for count in (2, 1, 9):  # the second and the third were the best of their moment there
        again += replay.propose(context(files=files), count)
        files = dict(again[-1].edits)
    assert [each.hypothesis for each in again] == [row["hypothesis"] for row in rows[1:]]
    lines = [each.edits["train.py"].splitlines()[0] for each in again]
    assert lines == ["LR = 0.3", "LR = 0.05", "LR = 0.025", "LR = 9.0"]
    with pytest.raises(ProposerDone, match=r"^all 4 were played$"):
        replay.propose(context(files=files), 9)


def test_what_is_replayed_lies_beside_the_configuration_of_a_linked_worktree(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCUMBENT_HOME", user.variables["INCUMBENT_HOME"])
    linked = replace(user, folder=user.folder.parent / "linked")
    user.git("worktree", "add", "--quiet", "--detach", str(linked.folder))
    linked.write({"incumbent.toml": CONFIG + REPLAY, "proposals.jsonl": ""})
    user.write({"proposals.jsonl": "not what is meant\n"})
    source, file = find_config(linked.folder)
    prepared = prepare_study(source, load_config(file))
    try:
        (replay,) = compose.proposers(prepared.study, prepared.config, FakePurse(), {})
    finally:
        prepared.study.server.release(prepared.study.client)
    assert prepared.study.home == user.home
    with pytest.raises(ProposerDone, match=r"^all 0 were played"):
        replay.propose(context(files={"train.py": TRAIN}), 1)


def test_a_home_of_nobody_is_named_with_its_entry(user: User) -> None:
    nobodys = REPLAY.replace("proposals", "~nobody-at-all/proposals")
    user.write({"incumbent.toml": CONFIG + nobodys})
    said = user.refused(USAGE, "submit", "--set", "LR=0.4")
    assert "[[proposer]] file: ~nobody-at-all/proposals.jsonl begins with a home folder" in said


def test_a_file_that_holds_no_proposals_is_refused_by_the_name_of_its_entry(
    user: User,
) -> None:
    user.write({"incumbent.toml": CONFIG + REPLAY})
    with pytest.raises(ValueError, match=r"\[\[proposer\]\] replay: proposals\.jsonl: .*No such"):
        composed(user)
    user.write({"proposals.jsonl": "{}\n"})
    with pytest.raises(ValueError, match=r"replay: proposals\.jsonl: line 1 is no recorded"):
        composed(user)


TWO = """
[[proposer]]
kind = "claude"
name = "first"
model = "one"
key = "KEY_OF_ONE"
base_url = "{url}"
[[proposer]]
kind = "claude"
name = "second"
model = "two"
key = "KEY_OF_TWO"
base_url = "{url}"
[[proposer]]
kind = "claude"
model = "two"
key = "KEY_OF_NOBODY"
[[price]]
model = "one"
input = 0
output = 1000
[[price]]
model = "two"
input = 0
output = 4000
"""


def test_two_models_have_names_keys_and_prices_of_their_own(user: User) -> None:
    idea = experiment("slower", {"search": "LR = 0.1", "replace": "LR = 0.05"})
    server, purse = MessagesServer([Move(experiments=[idea])] * 2), FakePurse(1000)
    try:
        user.write({"incumbent.toml": CONFIG + TWO.format(url=server.url)})
        pair = composed(user, purse, KEY_OF_ONE="sk-one", KEY_OF_TWO="sk-two")
        assert [each.name for each in pair] == ["first", "second"], "one has no key"
        for each in pair:
            assert len(each.propose(context(files={"train.py": TRAIN}), 1)) == 1
    finally:
        server.close()
    assert [request["model"] for request in server.requests] == ["one", "two"]
    assert [sent["authorization"] for sent in server.headers] == ["Bearer sk-one", "Bearer sk-two"]
    paid = [(plan.proposer, purse.settled[call].usd) for call, plan in purse.plans.items()]
    assert paid == [("first", pytest.approx(0.05)), ("second", pytest.approx(0.2))]
