"""Chains of merges, decided on paper."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from cluster.ledger.codec import decode_event
from cluster.policy import commands as cmd
from cluster.policy.chain import MOST_MERGES
from cluster.policy.reducer import MOST_LINKS, Chained, Queue
from cluster.state import events as ev
from cluster.state.experiment import Status
from eval.bayes import BayesJudge
from eval.seeds import SeedHabit
from tests.cluster.world import CRASHED, METRIC, World, gamed, scored
from trainer.trial import ExperimentId, TrialOutcome

BAYES = BayesJudge(metric=METRIC, simplicity=False)


@pytest.fixture
def world() -> Iterator[World]:
    """A study with a baseline near 1, whose runs differ by 0.01, verified after the test."""
    made = World(slots=8, judge=BAYES)
    made.settle()
    for value in (1.0, 1.01, 0.99):
        made.run(ExperimentId("e0"), scored(value))
    yield made
    made.verify()


def wave(world: World, *values: float) -> list[ExperimentId]:
    """Measure candidates that were all made on the baseline; the first is promoted."""
    found = [world.propose() for _ in values]
    world.settle()
    for slot, (candidate, value) in enumerate(zip(found, values, strict=True)):
        world.start(candidate, f"cpu-{slot}")
        world.end(candidate, scored(value))
        if slot == 0:
            world.settle()
    world.settle()
    return found


def links(world: World) -> list[ExperimentId]:
    return list(world.state.chain)


def end(world: World, *outcomes: TrialOutcome) -> None:
    """End all links, the last first: no order may matter."""
    chain = links(world)
    for link in chain:
        world.start(link)
    for link, outcome in reversed(list(zip(chain, outcomes, strict=True))):
        world.end(link, outcome)
    world.settle()


def status(world: World, experiments: list[ExperimentId]) -> list[str]:
    return [world.status(experiment).value for experiment in experiments]


def test_stale_winners_are_merged_one_onto_the_other_best_first(world: World) -> None:
    first, small, large = wave(world, 0.8, 0.7 + 0.2, 0.85)
    one, two = (world.state.experiments[link] for link in links(world))
    assert (one.merge_of, one.base) == (large, first)
    assert (two.merge_of, two.base) == (small, one.id)
    assert status(world, [one.id, two.id]) == ["queued", "queued"]


def test_a_chain_has_sixteen_links_and_the_worst_of_more_winners_wait(world: World) -> None:
    _, *stale = wave(world, 0.7, *(0.8 + 0.005 * index for index in range(MOST_LINKS + 2)))
    carried = [world.state.experiments[link].merge_of for link in links(world)]
    assert len(carried) == MOST_LINKS == 16
    assert carried == stale[:MOST_LINKS]
    assert status(world, stale[MOST_LINKS:]) == ["winner", "winner"]


def test_a_chain_that_adds_up_is_promoted_at_one_go(world: World) -> None:
    first, small, large = wave(world, 0.8, 0.9, 0.85)
    one, two = links(world)
    end(world, scored(0.66), scored(0.57))
    assert status(world, [one, two, small, large]) == ["kept", "kept", "merged", "merged"]
    assert world.state.lineage == ("e0", first, one, two)
    assert world.state.promotions == 2
    assert world.state.incumbent_commit == f"p-{two}"
    assert not world.state.chain
    incumbent = world.state.incumbent
    assert incumbent is not None
    assert incumbent.worth == pytest.approx(0.57, abs=0.02)


def test_what_brings_nothing_is_dropped_with_the_reason(world: World) -> None:
    _, small, large = wave(world, 0.8, 0.9, 0.85)
    one, two = links(world)
    end(world, scored(0.66), scored(0.75))
    assert status(world, [one, two, large, small]) == ["kept", "discarded", "merged", "dropped"]
    assert world.state.experiments[small].reason.startswith(f"merged as {two}, which brought")


def test_a_harm_below_does_not_drop_the_gain_above_it(world: World) -> None:
    """The second link spoils the third, whose own patch gains: it is queued again."""
    _, *stale = wave(world, 0.8, 0.85, 0.87, 0.9)
    one, two, three = links(world)
    end(world, scored(0.66), scored(0.95), scored(0.85))
    assert status(world, [one, two, three]) == ["kept", "discarded", "discarded"]
    assert status(world, stale) == ["merged", "dropped", "merging"]
    (again,) = links(world)
    assert world.state.experiments[again].merge_of == stale[2]
    assert world.state.experiments[again].base == one


def test_what_was_measured_on_a_broken_tree_is_queued_again_as_what_it_was(world: World) -> None:
    """The second link's run diverges, and so does the third's, whose patch is not to blame."""
    _, *stale = wave(world, 0.8, 0.85, 0.87, 0.9)
    before = world.state.experiments[stale[2]].effect
    one, two, three = links(world)
    end(world, scored(0.66), scored(5.0), scored(5.01))
    assert status(world, [one, two, three]) == ["kept", "discarded", "discarded"]
    assert status(world, stale) == ["merged", "dropped", "merging"]
    (again,) = links(world)
    assert world.state.experiments[again].merge_of == stale[2]
    assert world.state.experiments[stale[2]].effect == before
    incumbent = world.state.incumbent
    assert incumbent is not None
    assert incumbent.worth == pytest.approx(0.66, abs=0.01)


def test_of_links_that_crash_the_first_is_to_blame(world: World) -> None:
    _, *stale = wave(world, 0.8, 0.85, 0.87, 0.9)
    one, two, three = links(world)
    end(world, scored(0.66), CRASHED, CRASHED)
    assert status(world, [one, two, three]) == ["kept", "crashed", "crashed"]
    assert status(world, stale) == ["merged", "dropped", "merging"]


def test_a_link_that_crashed_by_chance_is_carried_by_the_next(world: World) -> None:
    first, small, large = wave(world, 0.8, 0.9, 0.85)
    one, two = links(world)
    end(world, CRASHED, scored(0.57))
    assert status(world, [one, two, small, large]) == ["crashed", "kept", "merged", "merged"]
    assert world.state.experiments[one].promoted == f"p-{one}"
    assert world.state.lineage == ("e0", first, two)


def test_nothing_above_a_suspect_link_is_promoted(world: World) -> None:
    _, small, large = wave(world, 0.8, 0.9, 0.85)
    one, two = links(world)
    end(world, gamed(0.66), scored(0.57))
    assert status(world, [one, two, large]) == ["suspect", "discarded", "dropped"]
    assert world.status(small) is Status.MERGING  # in a chain of its own


def test_a_link_that_is_run_again_may_bring_a_patch_that_is_in_another_chain_by_now(
    world: World,
) -> None:
    first, small, _ = wave(world, 0.8, 0.9, 0.85)
    _, two = links(world)
    end(world, gamed(0.66), scored(0.57))
    (again,) = links(world)
    world.happen("retry", ev.RetryRequested(experiment=two))
    world.run(two, scored(0.5))
    world.happen("accept", ev.AcceptRequested(experiment=two))
    world.settle()
    assert status(world, [two, small, again]) == ["kept", "merged", "cancelled"]
    assert world.state.lineage == ("e0", first, two)
    assert not links(world)


def test_what_is_run_again_above_a_suspect_link_is_kept_once_somebody_has_looked(
    world: World,
) -> None:
    first, *_ = wave(world, 0.8, 0.9, 0.85)
    one, two = links(world)
    end(world, gamed(0.66), scored(0.57))
    world.happen("retry", ev.RetryRequested(experiment=two))
    world.run(two, scored(0.5))
    assert world.status(two) is Status.SUSPECT
    assert world.state.experiments[two].reason == f"it holds the patch of {one}, which is suspect"
    assert world.state.lineage == ("e0", first)
    world.happen("accept", ev.AcceptRequested(experiment=two))
    world.settle()
    assert world.state.lineage == ("e0", first, two)


def test_a_link_that_is_accepted_may_bring_a_patch_that_is_in_another_chain_by_now(
    world: World,
) -> None:
    _, _, large = wave(world, 0.8, 0.9, 0.85)
    one, two = links(world)
    for _ in range(3):
        world.settle()
        world.start(one)
        world.lose(one)
    world.run(two, gamed(0.57))
    (again,) = links(world)
    assert world.state.experiments[again].merge_of == large
    world.happen("accept", ev.AcceptRequested(experiment=two))
    world.settle()
    assert status(world, [one, two, large, again]) == ["lost", "kept", "merged", "cancelled"]
    assert not links(world)


def test_a_patch_comes_back_from_three_measured_merges_at_most(world: World) -> None:
    wave(world, 0.8, 0.85, 0.9)
    last = world.state.experiments[links(world)[-1]].merge_of
    carried = []
    for _ in range(10):
        if not links(world):
            break
        carried += [world.state.experiments[link].merge_of for link in links(world)]
        end(world, *[scored(0.81)] * len(links(world)))
    assert world.status(last) in {Status.DROPPED, Status.MERGED}
    assert carried.count(last) <= 3


def test_a_chain_that_has_gone_stale_supersedes_if_it_is_ahead(world: World) -> None:
    _, small, large = wave(world, 0.8, 0.9, 0.85)
    one, two = links(world)
    for slot, link in enumerate((one, two)):
        world.start(link, f"cpu-{slot}")
    fresh = world.propose()
    assert world.run(fresh, scored(0.78)) is Status.KEPT
    world.end(one, scored(0.66))
    world.end(two, scored(0.57))
    world.settle()
    assert status(world, [one, two, small, large]) == ["kept", "kept", "merged", "merged"]
    assert fresh not in world.state.lineage
    (again,) = links(world)
    assert world.state.experiments[again].merge_of == fresh  # what it lacks rejoins


def test_a_chain_that_has_gone_stale_and_is_behind_is_planned_again(world: World) -> None:
    _, small, large = wave(world, 0.8, 0.9, 0.85)
    one, two = links(world)
    world.start(one)
    fresh = world.propose()
    assert world.run(fresh, scored(0.5)) is Status.KEPT
    assert world.status(two) is Status.CANCELLED  # it would have been for nothing
    world.end(one, scored(0.66))
    world.settle()
    assert world.status(one) is Status.DISCARDED
    again = [world.state.experiments[link] for link in links(world)]
    assert {link.merge_of for link in again} == {small, large}
    assert again[0].base == fresh
    # What was measured counts, what was taken back does not.
    assert [world.state.experiments[w].merges for w in (large, small)] == [1, 0]


def test_winners_wait_while_a_chain_is_measured_and_join_the_next(world: World) -> None:
    wave(world, 0.8, 0.9)
    (one,) = links(world)
    world.start(one)
    late = world.propose()
    other = world.propose()
    world.run(late, scored(0.7))
    assert world.run(other, scored(0.75)) is Status.WINNER
    world.end(one, scored(0.72))
    world.settle()
    assert world.status(other) is Status.MERGING


def test_a_judge_without_beliefs_merges_one_at_a_time() -> None:
    plain = World(slots=4)
    plain.baseline(1.0)
    stale = wave(plain, 0.8, 0.85, 0.9)[1:]
    assert not plain.state.chain
    merges = [plain.state.experiments[plain.state.experiments[w].merged_as] for w in stale]
    assert [merge.base for merge in merges] == ["e1", "e1"]
    plain.verify()


def test_a_stop_lets_a_measured_chain_end_and_begins_none(world: World) -> None:
    wave(world, 0.8, 0.9)
    (one,) = links(world)
    world.start(one)
    world.happen("stop", ev.StopRequested())
    world.end(one, scored(0.66))
    world.settle()
    assert world.status(one) is Status.KEPT
    assert not any(isinstance(command, cmd.Merge) for command in world.decide())


@pytest.mark.parametrize(
    ("kind", "body", "new"),
    [
        (
            "ExperimentProposed",
            {"experiment": "e3", "kind": "merge", "commit": "c", "tree": "t", "base": "e1",
             "base_commit": "b", "lines": 1, "proposer": "p", "hypothesis": "h", "merge_of": "e2"},
            {"chain": ""},
        ),
        ("Promoted", {"experiment": "e3", "commit": "c", "replaces": "e1"}, {"carried": ()}),
        ("MergeConflicted", {"experiment": "e3", "against": "e1", "paths": []}, {"onto": ""}),
    ],
)  # fmt: skip
def test_what_was_written_before_there_were_chains_is_read(kind, body, new) -> None:
    record = {"v": 1, "id": "x", "kind": kind, "at": "2026-03-01T00:00:00Z", "body": body}
    event = decode_event(1, json.dumps(record).encode()).event
    assert {name: getattr(event, name) for name in new} == new


@pytest.mark.parametrize("changes", [{"effect": None}, {"seeds": SeedHabit.TAKEN}])
def test_what_is_merged_by_itself_is_dropped_once(world: World, changes: dict[str, Any]) -> None:
    _, stale = wave(world, 0.7, 0.8)
    incumbent = world.state.incumbent
    assert incumbent is not None
    spent = replace(world.state.experiments[stale], merges=MOST_MERGES, **changes)
    found = list(Chained().arrange(Queue(incumbent=incumbent, winners=(spent,))))
    assert [type(command) for command in found] == [cmd.DropWinner]
