"""What becomes of winners: promoted, merged, superseding or dropped."""

from cluster.state.experiment import Status
from tests.cluster.policy.waves import two_of_one_wave, world
from tests.cluster.world import CRASHED, World, scored

__all__ = ["world"]  # the fixture


def test_a_fresh_winner_is_promoted(world: World) -> None:
    world.baseline(1.0)
    better = world.propose()
    assert world.run(better, scored(0.9)) is Status.KEPT
    assert world.state.lineage == ("e0", better)
    assert world.state.incumbent_commit == f"p-{better}"


def test_a_stale_winner_is_merged_and_measured_before_it_is_promoted(world: World) -> None:
    a, b = two_of_one_wave(world, 0.8, 0.9)
    assert world.status(a) is Status.KEPT
    assert world.status(b) is Status.MERGING
    merge = world.state.experiments[b].merged_as
    assert world.run(merge, scored(0.7)) is Status.KEPT
    assert world.status(b) is Status.MERGED
    assert world.state.lineage == ("e0", a, merge)


def test_a_merge_that_brings_nothing_drops_its_winner(world: World) -> None:
    _, b = two_of_one_wave(world, 0.8, 0.9)
    merge = world.state.experiments[b].merged_as
    assert world.run(merge, scored(0.85)) is Status.DISCARDED
    assert world.status(b) is Status.DROPPED
    assert merge in world.state.experiments[b].reason


def test_a_merge_that_crashes_drops_its_winner(world: World) -> None:
    _, b = two_of_one_wave(world, 0.8, 0.9)
    world.run(world.state.experiments[b].merged_as, CRASHED)
    assert world.status(b) is Status.DROPPED


def test_a_conflict_is_an_outcome_that_names_both(world: World) -> None:
    world.merge_outcome = "conflict"
    a, b = two_of_one_wave(world, 0.8, 0.9)
    assert world.status(b) is Status.CONFLICTED
    assert world.state.experiments[b].reason == f"conflicts with {a} in train.py"


def test_a_patch_that_the_incumbent_holds_already_is_merged_for_nothing(world: World) -> None:
    world.merge_outcome = "redundant"
    _, b = two_of_one_wave(world, 0.8, 0.9)
    assert world.status(b) is Status.MERGED


def test_a_stale_winner_that_beats_the_incumbent_supersedes_it_and_the_other_rejoins(
    world: World,
) -> None:
    a, b = two_of_one_wave(world, 0.9, 0.8)
    assert world.status(b) is Status.KEPT
    assert world.state.lineage == ("e0", b)
    assert world.status(a) is Status.KEPT  # it was on the branch, and history stays
    merge = world.state.experiments[a].merged_as
    assert world.state.experiments[merge].merge_of == a
    assert world.state.rejoining == ()
    assert world.run(merge, scored(0.7)) is Status.KEPT
    assert world.state.lineage == ("e0", b, merge)


def test_a_merge_that_turns_out_to_be_redundant_ends_its_winner_too(world: World) -> None:
    _, b = two_of_one_wave(world, 0.8, 0.9)
    merge, rival = world.state.experiments[b].merged_as, world.propose()
    world.settle()
    world.start(merge, "cpu-0")
    world.start(rival, "cpu-1")
    world.end(rival, scored(0.6))
    world.settle()
    world.merge_outcome = "redundant"
    world.end(merge, scored(0.7))
    world.settle()
    assert world.status(merge) is world.status(b) is Status.MERGED
    assert not dict(world.state.open)


def test_whatever_a_superseding_tree_lacks_rejoins_also_when_its_base_was_superseded(
    world: World,
) -> None:
    world.baseline(1.0)
    early, late = world.propose(), world.propose()
    world.run(early, scored(0.9))
    on_early = world.propose()
    world.run(late, scored(0.8))  # supersedes e1, which rejoins
    assert world.state.lineage == ("e0", late)
    merge = world.state.experiments[early].merged_as
    world.run(on_early, scored(0.5))  # its tree holds e1's patch, and not e2's
    assert world.state.lineage == ("e0", early, on_early)
    assert world.state.experiments[late].merged_as
    assert world.state.experiments[early].merged_as == merge  # it is there, and needs no other


def test_a_winner_that_goes_stale_again_and_again_is_dropped(world: World) -> None:
    _, chased = two_of_one_wave(world, 0.8, 0.9)
    for round_ in range(3):
        merge = world.state.experiments[chased].merged_as
        rival = world.propose()
        world.settle()
        world.start(merge, "cpu-0")
        world.start(rival, "cpu-1")
        world.end(rival, scored(0.7 - round_ / 10))
        world.settle()
        world.end(merge, scored(0.79 - round_ / 10))
        world.settle()
        chased = merge
    assert world.status(chased) is Status.DROPPED
    assert not world.in_status(Status.WINNER, Status.MERGING)
