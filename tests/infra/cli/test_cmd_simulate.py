"""`incumbent simulate` from the command line: tables, JSON, pictures, and what it refuses."""

import json
import math
from pathlib import Path

import pytest

from infra.cli.cmd_simulate import simulate
from infra.cli.study_choice import UsageProblem
from tests.infra.user import PROGRAM, USAGE, User

QUICK = ("--hours", "1", "--seeds", "3", "--slots", "1,4", "--judge", "greedy,bayes")


@pytest.fixture
def user(tmp_path: Path) -> User:
    """A user in an empty folder; no study and no repository is needed."""
    return User.at(tmp_path)


def test_a_table_has_a_line_for_every_judge_on_every_number_of_slots(user: User) -> None:
    done = user.run(PROGRAM, "simulate", *QUICK)
    assert done.returncode == 0, done.stderr
    lines = [line.split()[:2] for line in done.stdout.splitlines()]
    for line in (["1", "greedy"], ["1", "bayes"], ["4", "greedy"], ["4", "bayes"]):
        assert line in lines
    assert "12 of 12 studies" in done.stderr


def test_rungs_are_shown_beside_none_with_what_they_bring_and_cost(user: User) -> None:
    options = ("--hours", "2", "--seeds", "1", "--slots", "8", "--judge", "bayes")
    done = user.run(PROGRAM, "simulate", *options, "--rungs", "30:0.33")
    assert done.returncode == 0, done.stderr
    header, *rows = [line.split() for line in done.stdout.splitlines() if line][-3:]
    assert header[-4:] == ["rungs", "an", "hour", "stopped"]
    (none, tried, *stopped), (rungs, more, *_) = rows[0][-4:], rows[1][-4:]
    assert (none, rungs, stopped) == ("none", "30:0.33", ["0", "%"])
    assert int(more) > 1.3 * int(tried)


def test_json_has_the_same_numbers_for_the_same_seeds(user: User) -> None:
    found = [user.run(PROGRAM, "simulate", *QUICK, "--json").stdout for _ in range(2)]
    assert found[0] == found[1]
    facts = json.loads(found[0])
    assert [(cell["slots"], cell["judge"]) for cell in facts["cells"]] == [
        (1, "greedy"), (1, "bayes"), (4, "greedy"), (4, "bayes"),
    ]  # fmt: skip
    assert facts["cells"][0]["speedup"]["mean"] == pytest.approx(1, rel=0.2)
    for cell in facts["cells"]:
        true, claimed = cell["true"], cell["claimed"]
        assert true["low"] < true["mean"] < true["high"]
        assert cell["gap"]["mean"] == pytest.approx(claimed["mean"] - true["mean"])
    other = json.loads(user.run(PROGRAM, "simulate", *QUICK, "--json", "--seed", "9").stdout)
    assert other["cells"] != facts["cells"]


def test_what_seeds_share_is_told_beside_the_noise(user: User) -> None:
    options = ("--hours", "0.5", "--seeds", "1", "--slots", "2", "--judge", "bayes")
    done = user.run(PROGRAM, "simulate", *options, "--noise", "0.001", "--seed-share", "0.25")
    assert "noise 0.001 (25 % by seeds), proposer" in done.stdout
    facts = json.loads(user.run(PROGRAM, "simulate", *options, "--json").stdout)
    assert facts["seed_share"] == 0.0


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_a_picture_is_drawn(user: User, name: str, start: bytes) -> None:
    options = ("--hours", "0.5", "--seeds", "1", "--slots", "2", "--judge", "greedy")
    done = user.run(PROGRAM, "simulate", *options, "--picture", name)
    assert done.returncode == 0, done.stderr
    assert (user.folder / name).read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slots": "0"}, "--slots '0': numbers from 1 to 4096"),
        ({"slots": "eight"}, "--slots 'eight': numbers"),
        ({"slots": ","}, "--slots names nothing"),
        ({"judge": "lucky"}, "there is no 'lucky': use greedy, bayes, sequential"),
        ({"landscape": "moon"}, "there is no landscape 'moon': use one of harsh"),
        ({"landscape": "mine.toml"}, "mine.toml: cannot be read: No such file"),
        ({"noise": -1.0}, "--noise -1: must be from 0"),
        ({"noise": math.nan}, "--noise nan: must be from 0"),
        ({"seed_share": 1.5}, "--seed-share 1.5: must be from 0 to 1"),
        ({"hours": 0.0}, "--hours 0: must be from 0.1"),
        ({"latency": math.inf}, "--latency inf: must be from 0"),
        ({"seeds": 0}, "--seeds 0: must be from 1"),
        ({"rungs": "30"}, "--rungs '30': SECONDS:KEEP by commas"),
        ({"rungs": "30:1.5"}, "shares between 0 and 1, e.g. --rungs 30:0.33,100:0.5"),
        ({"rungs": "90:0.3,30:0.3"}, "seconds that rise and stay below a run's 300"),
        ({"rungs": "300:0.3"}, "seconds that rise and stay below a run's 300"),
        ({"picture": Path("a.gif")}, "--picture a.gif: must end in .png or .svg"),
        ({"picture": Path("no/a.png")}, "--picture no/a.png: there is no folder"),
    ],
)
def test_bad_input_is_named_with_its_cure(options: dict, words: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        simulate(**options)
    assert words in str(caught.value)


def test_bad_input_is_one_line_and_exit_code_2(user: User) -> None:
    said = user.refused(USAGE, "simulate", "--slots", "0")
    assert said == "error: --slots '0': numbers from 1 to 4096, e.g. --slots 1,8,64\n"
