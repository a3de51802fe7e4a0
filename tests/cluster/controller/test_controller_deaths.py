"""Controllers that die between git and the ledger, or are not the only one."""

import threading
from collections.abc import Sequence

import pytest

from cluster.ledger.ledger import Fenced, load
from cluster.state import events as ev
from tests.cluster.bench import Bench, Script, ThreadFleet, bench, edited
from trainer.ports import Lease

__all__ = ["bench"]  # a fixture


def test_a_promotion_that_only_git_knows_is_recorded_though_another_is_better_by_now(
    bench: Bench,
) -> None:
    class LateFleet(ThreadFleet):
        def hold(self, lease: Lease) -> None:
            while lease.spec.experiment == "e2" and len(bench.branch()) < 2:
                threading.Event().wait(0.01)

    script = Script([edited(A=3), edited(B=5)])  # losses 4 and 2, of a baseline of 6
    controller = bench.controller(lambda b: LateFleet(b, 2, together=2), script, experiments=2)
    ledger_of_first = controller._parts.ledger
    append = ledger_of_first.append

    class Killed(RuntimeError):
        pass

    def die_before_promoted(drafts: Sequence[ev.Draft], *, epoch: int | None = None) -> int:
        if any(isinstance(draft.event, ev.Promoted) for draft in drafts):
            # The workers live on, and have a better result by the time of the next controller.
            ledger = bench.ledger
            while load(ledger).counts.get("measured", 0) < 1:
                threading.Event().wait(0.01)
            raise Killed
        return append(drafts, epoch=epoch)

    ledger_of_first.append = die_before_promoted  # type: ignore[method-assign]
    with pytest.raises(Killed):
        controller.run()
    second = bench.controller(lambda b: ThreadFleet(b, 1), Script(), experiments=2)
    second.run()
    promoted = [e.event for e in bench.ledger.read(0) if isinstance(e.event, ev.Promoted)]
    assert [event.experiment for event in promoted][:2] == ["e1", "e2"]
    assert promoted[1].lacks == ("e1",)
    assert "A = 3" in bench.head_text()
    assert "B = 5" in bench.head_text()


def test_the_second_of_two_controllers_fences_the_first(bench: Bench) -> None:
    first = bench.controller(lambda b: ThreadFleet(b, 0), Script([edited(A=3)]))
    bench.controller(lambda b: ThreadFleet(b, 0))
    with pytest.raises(Fenced):
        first.run()


def test_a_controller_that_dies_between_git_and_ledger_promotes_once(bench: Bench) -> None:
    controller = bench.controller(lambda b: ThreadFleet(b, 1), Script([edited(A=3)]), experiments=1)
    ledger_of_first = controller._parts.ledger
    append = ledger_of_first.append

    class Killed(RuntimeError):
        pass

    def die_before_promoted(drafts: Sequence[ev.Draft], *, epoch: int | None = None) -> int:
        if any(isinstance(draft.event, ev.Promoted) for draft in drafts):
            raise Killed
        return append(drafts, epoch=epoch)

    ledger_of_first.append = die_before_promoted  # type: ignore[method-assign]
    with pytest.raises(Killed):
        controller.run()
    assert bench.branch()[0].startswith("A = 3")
    assert load(bench.ledger).promotions == 0
    second = bench.controller(lambda b: ThreadFleet(b, 1), Script(), experiments=1)
    second.run()
    assert load(bench.ledger).promotions == 1
    assert len(bench.branch()) == 2
