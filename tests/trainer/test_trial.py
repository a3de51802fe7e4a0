"""Ids of experiments."""

from trainer.trial import ExperimentId, number_of


def test_numbers_of_experiments_put_them_in_the_order_of_their_age() -> None:
    """As text e10 would come before e2."""
    names = [ExperimentId(name) for name in ("e10", "e2", "e0")]

    assert sorted(names, key=number_of) == ["e0", "e2", "e10"]
