"""What the tuner remembers: restarts, failures, revisions and the results of others."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from proposer.config import TunerConfig
from proposer.proposal import Proposal, Scalar
from trainer.trial import CommitId

NewGame = Callable[..., Any]
SMALL = "LR = 3e-3\nWEIGHT_DECAY = 0.3\n"


def bowl(parameters: Mapping[str, Scalar]) -> float:
    """A quadratic in the logarithms of SMALL's two rates; 0 at 1e-2 and 1e-1."""
    return sum(
        (math.log10(float(parameters[name])) - best) ** 2
        for name, best in (("LR", -2), ("WEIGHT_DECAY", -1))
    )


def key(proposal: Proposal) -> tuple[tuple[str, Scalar], ...]:
    return tuple(sorted(proposal.parameters.items()))


def test_a_restarted_tuner_repeats_nothing_it_is_shown_and_knows_as_much(new_game: NewGame) -> None:
    game = new_game(SMALL, bowl)
    before = {key(proposal) for proposal in game.play(20)}
    game.restart()
    after = {key(proposal) for proposal in game.play(20)}
    assert len(before) == len(after) == 20
    assert not before & after
    assert game.best < 0.1


def test_a_restarted_tuner_does_not_begin_with_what_the_last_one_began(new_game: NewGame) -> None:
    game = new_game(SMALL)
    list(game.play(4))
    unmeasured = {key(proposal) for proposal in game.ask(4)}
    game.restart()
    assert not unmeasured & {key(proposal) for proposal in game.ask(4)}


def test_a_restarted_tuner_avoids_what_is_still_running(new_game: NewGame) -> None:
    game = new_game("A = 3\n")
    running = game.ask(3)
    for proposal in running:
        game.measure(proposal, "running")
    game.restart()
    rest = game.ask(9)
    assert len(running) + len(rest) == 5  # A is searched from 1 to 6, and is 3 now
    assert not {key(proposal) for proposal in running} & {key(proposal) for proposal in rest}


def test_crashes_are_avoided(new_game: NewGame) -> None:
    """A rate above 1e-2 crashes; half of the range lies there, on the logarithmic scale."""

    def crash_share(status: str) -> float:
        game = new_game("LR = 1e-2\n")
        bad = []
        for _ in range(40):
            (proposal,) = game.ask(1)
            is_bad = float(proposal.parameters["LR"]) > 1e-2
            bad.append(is_bad)
            game.measure(proposal, status if is_bad else "discarded")
        return sum(bad[15:]) / 25

    assert crash_share("crashed") < 0.5 < crash_share("cancelled")
    assert crash_share("rejected") == crash_share("crashed")


def test_what_preflight_rejected_is_not_proposed_again(new_game: NewGame) -> None:
    game = new_game("A = 3\n")
    for proposal in game.ask(5):
        game.measure(proposal, "rejected")
    game.restart()
    assert game.ask(5) == []


def test_a_result_that_is_revised_is_learnt_anew(new_game: NewGame) -> None:
    game = new_game("LR = 1e-2\n", config=TunerConfig(most_changes=1))
    rates = [10 ** (-3 + index / 20) for index in range(41)]

    def mean_exponent() -> float:
        proposals = game.ask(16)
        return sum(math.log10(float(p.parameters["LR"])) for p in proposals) / len(proposals)

    for index, rate in enumerate(rates):
        game.show({"LR": rate}, 1.0 + index, f"e{900 + index}")
    low = mean_exponent()
    for index, rate in enumerate(rates[:21]):
        game.show({"LR": rate}, None, f"e{900 + index}")
    assert low < -2 < mean_exponent()


def test_a_result_shown_twice_changes_nothing(new_game: NewGame) -> None:
    games = new_game(SMALL, bowl), new_game(SMALL, bowl)
    for game in games:
        list(game.play(12))
    games[0].shown = 0
    assert [p.edits for p in games[0].ask(3)] == [p.edits for p in games[1].ask(3)]


def test_results_of_others_teach_where_their_constants_can_be_read(new_game: NewGame) -> None:
    game = new_game(SMALL, bowl, config=TunerConfig(most_changes=2))
    for index in range(30):
        at = {"LR": 10 ** (-3 + index / 20), "WEIGHT_DECAY": 10 ** (-1.5 + index / 30)}
        game.show(at, bowl(at), f"e{900 + index}")
    taught = [bowl(proposal.parameters) for proposal in game.ask(10)]
    ignorant = [bowl(proposal.parameters) for proposal in new_game(SMALL, bowl).ask(10)]
    assert sum(taught) < sum(ignorant)


@pytest.mark.parametrize(
    "parameters",
    [{}, {"OTHER": 1}, {"LR": "fast"}, {"LR": 1e9}, {"LR": True, "WEIGHT_DECAY": 0.3}, {"LR": 3}],
)
def test_results_that_do_not_fit_do_no_harm(
    new_game: NewGame, parameters: dict[str, Scalar]
) -> None:
    game = new_game(SMALL, bowl)
    game.show(parameters, 0.5)
    assert len(list(game.play(14))) == 14


def test_a_suspect_says_nothing_of_its_point_until_it_is_judged(new_game: NewGame) -> None:
    game = new_game("A = 3\n")
    (first, *_) = game.ask(9)
    game.measure(first, "suspect")
    assert game.results[-1].value is None
    again = [proposal.parameters["A"] for proposal in game.ask(9)]
    assert first.parameters["A"] not in again
    game.measure(first, "discarded")
    assert first.parameters["A"] not in [p.parameters["A"] for p in game.ask(9)]


def test_the_baselines_value_may_come_late(new_game: NewGame) -> None:
    game = new_game(SMALL, bowl)
    context = replace(game.context(), incumbent_value=None)
    assert len(game.tuner.propose(context, 2)) == 2
    assert len(list(game.play(8))) == 8


def test_results_shown_to_a_call_that_fails_are_not_lost(new_game: NewGame) -> None:
    game = new_game("A = 3\n")
    for value in (1, 2, 4):
        game.show({"A": value}, 1.0, f"e{value}")
    files = {"train.py": "A = (\n"}
    broken = replace(game.context(), files=files, commit=CommitId("f" * 40))
    with pytest.raises(ValueError, match="line 1"):
        game.tuner.propose(broken, 1)
    game.shown = len(game.results)
    assert {proposal.parameters["A"] for proposal in game.ask(9)} == {5, 6}


def test_a_tree_without_a_constant_counts_as_if_it_had_its_first_value(new_game: NewGame) -> None:
    game = new_game("A = 3\n")
    assert len(list(game.play(9))) == 5
    game.text = "A = 3\nB = True\n"
    assert all(proposal.parameters["B"] is False for proposal in game.ask(1))
    game.text = "A = 3\nB = False\n"
    game.results.append(replace(game.results[0], value=2.0))
    rest = [proposal.parameters for proposal in game.ask(20)]
    assert all(parameters["B"] is False for parameters in rest)
    assert len(rest) in {4, 5}  # (3, False) is there, and what was asked above may be, too
