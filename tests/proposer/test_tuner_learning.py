"""The tuner with others: hints, advice, code that others win with, constants that come and go."""

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median
from typing import Any

import pytest

from eval.metric import Goal
from proposer.config import TunerConfig
from proposer.levels import Levels
from proposer.proposal import Past, Result, Scalar
from tests.proposer.moving_base import TRUTH, Study
from trainer.trial import ExperimentId

NewGame = Callable[..., Any]
SMALL = "LR = 3e-3\nWEIGHT_DECAY = 0.3\n"


def bowl(parameters: Mapping[str, Scalar]) -> float:
    """Depends on LR a lot and on WEIGHT_DECAY hardly."""
    return (math.log10(float(parameters["LR"])) + 2) ** 2 + 1e-4 * float(parameters["WEIGHT_DECAY"])


def past(name: str, base: str, value: float | None, **more: Any) -> Past:
    said = {"effect": None, "effect_sd": None, "parameters": {}} | more
    return Past(
        experiment=ExperimentId(name), base=ExperimentId(base), proposer="", hypothesis="",
        category="", status="", value=value, reason="", **said,
    )  # fmt: skip


def with_hints(game: Any, *hints: str) -> Any:
    """Let everything that the game shows have these hints."""
    plain = game.context
    game.context = lambda: replace(plain(), hints=hints)
    return game


@pytest.mark.parametrize("goal", [Goal.MINIMIZE, Goal.MAXIMIZE])
def test_a_level_changes_with_code_and_not_with_constants(goal: Goal) -> None:
    sign = -1 if goal is Goal.MINIMIZE else 1
    levels = Levels(
        [
            past("e0", "e0", 1.0),
            past("e1", "e0", 0.5, parameters={"LR": 1.0}, effect=0.5),
            past("e2", "e1", 0.3, effect=0.25),
            past("e3", "e2", 0.2, parameters={"LR": 2.0}, effect=0.1),
            past("e4", "e3", 0.1),  # not judged: the difference of the values
        ],
        goal,
    )
    assert [levels.of(ExperimentId(f"e{n}")) for n in range(4)] == [0, 0, sign * 0.25, sign * 0.25]
    assert levels.of(ExperimentId("e4")) == pytest.approx(sign * 0.25 - 0.1)
    assert levels.of(ExperimentId("e99")) == 0


def test_a_history_that_runs_in_a_circle_has_an_end() -> None:
    levels = Levels([past("e1", "e2", 1.0), past("e2", "e1", 2.0)])
    assert math.isfinite(levels.of(ExperimentId("e1")))


def test_history_is_kept_when_code_wins_and_beats_to_forget_it() -> None:
    def regret(mode: str) -> float:
        return median(Study(seed=seed, mode=mode).play() for seed in range(6))

    assert regret("levels") < 0.7 * regret("forget")


def test_hints_at_the_right_region_beat_the_tuner_alone() -> None:
    def regret(*hints: str) -> float:
        return median(Study(seed=seed, wins=(), count=16, hints=hints).play() for seed in range(6))

    assert regret(TRUTH) < 0.7 * regret()


def test_a_hinted_range_holds_from_the_next_proposal_on(new_game: NewGame) -> None:
    game = new_game(SMALL)
    list(game.play(12))
    for proposal in with_hints(game, "suggest LR in [2e-3, 4e-3]").ask(8):
        assert 2e-3 <= float(proposal.parameters["LR"]) <= 4e-3
    wide = with_hints(new_game("DEPTH = 8\n"), "DEPTH in [4, 60]").ask(30)
    assert max(int(one.parameters["DEPTH"]) for one in wide) > 16


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "evolution", "gp", "grid"])
def test_a_range_without_the_present_value_stops_no_sampler(
    new_game: NewGame, sampler: str
) -> None:
    config = TunerConfig.model_validate({"sampler": sampler})
    game = with_hints(new_game(SMALL, bowl, config=config), "LR in [8e-3, 2e-2]")
    assert len(list(game.play(12))) == 12


def test_points_are_tried_first_and_once_after_a_restart_too(new_game: NewGame) -> None:
    game = with_hints(
        new_game(SMALL, bowl), "try LR=9e-3", "try LR=7e-3 WEIGHT_DECAY=0.1", "try LR=1e9"
    )
    first = list(game.play(4))
    assert [one.parameters["LR"] for one in first[:2]] == [9e-3, 7e-3]
    assert "LR: 1000000000.0 is out of bounds beside 3e-3" in game.tuner.advice
    game.restart()
    again = list(game.play(8))
    assert not {9e-3, 7e-3} & {one.parameters["LR"] for one in again if "LR" in one.hypothesis}


def test_hints_that_are_withdrawn_leave_the_usual_range(new_game: NewGame) -> None:
    game = new_game("DEPTH = 8\n")
    plain = game.context
    with_hints(game, "DEPTH in {8, 9}").ask(4)
    game.context = plain
    assert len({one.parameters["DEPTH"] for one in game.ask(20)}) > 5


def test_what_the_tuner_learnt_is_told_in_a_few_lines(new_game: NewGame) -> None:
    game = with_hints(new_game(SMALL, bowl), "suggest LRR in [1, 2]", "hello")
    assert game.tuner.advice == ""
    list(game.play(40))
    game.ask(1)
    lines = game.tuner.advice.splitlines()
    assert 2 <= len(lines) <= 6
    assert "constants measured; lower loss is better" in lines[0]
    assert lines[1].startswith("Importance of constants: LR ")
    assert "no constant LRR; did you mean LR" in lines[-1]
    assert "'hello': not understood" in lines[-1]


def test_advice_is_read_by_any_thread_while_proposals_are_made(new_game: NewGame) -> None:
    game, found = new_game(SMALL, bowl), []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            found.append(game.tuner.advice)

    reader = threading.Thread(target=read)
    reader.start()
    list(game.play(24))
    stop.set()
    reader.join()
    assert set(map(type, found)) == {str}


def test_flat_scores_have_no_importances_and_no_warning(new_game: NewGame) -> None:
    game = new_game(SMALL)
    list(game.play(24))
    assert "Importance" not in game.tuner.advice


@pytest.mark.parametrize("sampler", ["tpe", "evolution"])
def test_a_constant_that_comes_later_is_searched_with_what_was_known(
    new_game: NewGame, sampler: str
) -> None:
    def loss(at: Mapping[str, Scalar]) -> float:
        return bowl(at) + (math.log2(float(at["CLIP"])) ** 2 if "CLIP" in at else 2)

    game = new_game(SMALL, loss, config=TunerConfig.model_validate({"sampler": sampler}))
    list(game.play(20))
    game.text += "CLIP = 1.8\n"
    game.best = loss({"LR": 1e-2, "WEIGHT_DECAY": 0.1, "CLIP": 1.8})
    later = list(game.play(12))
    assert all("CLIP" in one.parameters for one in later)
    assert any("CLIP" in one.hypothesis for one in later)
    rates = [math.log10(float(one.parameters["LR"])) for one in later]
    assert sum(abs(rate + 2) < 0.5 for rate in rates) > len(rates) / 2


def test_results_of_a_model_that_turned_constants_alone_move_the_best_region(
    new_game: NewGame,
) -> None:
    game = new_game(SMALL, bowl)
    for number in range(20):
        game.results.append(
            Result(
                experiment=ExperimentId(f"e{100 + number}"),
                parameters={"LR": 1e-2 * (1 + number / 100), "WEIGHT_DECAY": 0.1},
                proposer="claude",
                hypothesis="",
                status="discarded",
                value=number / 1000,
            )
        )
    game.ask(1)
    assert "20 configurations" in game.tuner.advice or "21 configurations" in game.tuner.advice
    assert "Best of all, loss 0: LR=0.01" in game.tuner.advice


def test_a_restarted_tuner_takes_levels_from_the_history() -> None:
    study = Study(seed=3)
    study.play()
    known = study.tuner
    known.propose(study.context(), 1)
    study.tuner, study.shown = study.new_tuner(), 0
    study.tuner.propose(study.context(), 1)
    shared = "Best of all"
    ends = [text.partition(shared)[2] for text in (known.advice, study.tuner.advice)]
    assert ends[0] == ends[1] != ""


@pytest.mark.parametrize("text", ["try DEPTH=9**9**9", "DEPTH in [9**9**9, 2]", "try DEPTH=1e400"])
def test_a_hint_of_an_absurd_number_takes_no_time(new_game: NewGame, text: str) -> None:
    game = with_hints(new_game("DEPTH = 8\n"), text)
    assert len(game.ask(2)) == 2
    assert "Hints that could not be used" in game.tuner.advice
