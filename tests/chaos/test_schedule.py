"""A schedule is its seed's: the same again, another for another, and nothing is left out."""

from tests.chaos.schedule import HEAD_PARTS, LASTING, NODE_PARTS, plan


def test_a_seed_is_a_schedule() -> None:
    nodes = ("node1", "node2")
    first = plan(7, faults=40, head="head", nodes=nodes)
    assert first == plan(7, faults=40, head="head", nodes=nodes)
    assert first != plan(8, faults=40, head="head", nodes=nodes)
    assert len(first) == 40


def test_every_part_comes_once_before_any_comes_again() -> None:
    head = {(part, "head") for part in (*HEAD_PARTS, *LASTING)}
    node = {(part, "node1") for part in (*NODE_PARTS, *LASTING)}
    assert drawn(len(head | node), nodes=("node1",)) == head | node
    alone = head - {("partition", "head")}
    assert drawn(len(alone)) == alone


def drawn(faults: int, nodes: tuple[str, ...] = ()) -> set[tuple[str, str]]:
    planned = plan(1, faults=faults, head="head", nodes=nodes)
    return {(each.part, each.machine) for each in planned}


def test_what_lasts_ends_and_the_study_makes_progress_between() -> None:
    for each in plan(3, faults=100, head="head", nodes=("node1",)):
        shortest, longest = LASTING.get(each.part, (0.0, 0.0))
        assert shortest <= each.lasts_s <= longest
        assert each.after >= 2
