"""A study of which a test says what its slots found, and winners of one wave."""

from collections.abc import Iterator

import pytest

from tests.cluster.world import World, scored


@pytest.fixture
def world() -> Iterator[World]:
    """A study whose state is verified after the test."""
    made = World()
    yield made
    made.verify()


def two_of_one_wave(world: World, first: float, second: float) -> tuple[str, str]:
    world.baseline(1.0)
    a, b = world.propose(), world.propose()
    world.settle()
    world.start(a, "cpu-0")
    world.start(b, "cpu-1")
    world.end(a, scored(first))
    world.settle()
    world.end(b, scored(second))
    world.settle()
    return a, b
