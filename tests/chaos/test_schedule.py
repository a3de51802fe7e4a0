"""A schedule is its seed's: the same again, another for another, and nothing is left out."""

from tests.chaos.schedule import HEAD_PARTS, LASTING, NODE_PARTS, plan


def test_a_seed_is_a_schedule() -> None:
    nodes = ("node1", "node2")
    first = plan(7, faults=40, head="head", nodes=nodes)
    assert first == plan(7, faults=40, head="head", nodes=nodes)
    assert first != plan(8, faults=40, head="head", nodes=nodes)
    assert len(first) == 40


def test_every_part_comes_once_before_any_comes_again() -> None:
    kinds = {*HEAD_PARTS, *NODE_PARTS, *LASTING}
    planned = plan(1, faults=len(kinds) + 1, head="head", nodes=("node1",))
    assert {each.part for each in planned} == kinds
    alone = {*HEAD_PARTS, "pause", "full disk"}
    assert {each.part for each in plan(1, faults=len(alone), head="head")} == alone


def test_what_lasts_ends_and_the_study_makes_progress_between() -> None:
    for each in plan(3, faults=100, head="head", nodes=("node1",)):
        shortest, longest = LASTING.get(each.part, (0.0, 0.0))
        assert shortest <= each.lasts_s <= longest
        assert each.after >= 2
