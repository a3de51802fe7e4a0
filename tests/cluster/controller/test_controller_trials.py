"""What a controller makes of curves, of unlike slots and of seeds."""

import threading

from cluster.ledger.progress import ProgressStore
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.state import events as ev
from cluster.state.experiment import Status
from eval.config import PrunerConfig
from eval.seeds import SeedHabit
from tests.cluster.bench import Bench, Script, ThreadFleet, bench, edited, now, statuses
from trainer.ports import Heartbeat, Lease, Progress, Slot
from trainer.trial import Ending, TrialOutcome

__all__ = ["bench"]  # a fixture


class ToldFleet(ThreadFleet):
    """Slots that tell of a loss: of B at 10 a bad one, until they are told to end the trial."""

    def outcome(self, lease: Lease, slot: Slot) -> TrialOutcome:
        found = super().outcome(lease, slot)
        store = self._bench.store()
        queue, progress = RedisTrialQueue(store), ProgressStore(store)
        is_bad = found.value == 7.0
        for tenth in range(11):
            told = Progress(elapsed_s=tenth / 10, points={"loss": 9.0 if is_bad else 2.0})
            progress.record(lease.spec, told)
        while is_bad:
            if queue.extend(slot, lease, now=now(), ttl_s=30) is Heartbeat.PRUNE:
                return TrialOutcome(ending=Ending.PRUNED, reason="stopped as hopeless after 1 s")
            threading.Event().wait(0.05)
        return found


def test_a_trial_with_a_hopeless_curve_is_ended_by_the_answer_to_a_heartbeat(bench: Bench) -> None:
    script = Script([edited(B=10)], [edited(A=3)])
    controller = bench.controller(
        lambda b: ToldFleet(b, 1),
        script,
        experiments=2,
        pruner=PrunerConfig(kind="median", least=1),
    )
    assert controller.run() == "2 experiments were judged"
    pruned, kept = controller.state.experiments["e1"], controller.state.experiments["e2"]
    assert (pruned.status, kept.status) == (Status.PRUNED, Status.KEPT)
    assert pruned.reason.startswith("hopeless: loss 9 at 100 % of the budget, where 1 finished")


def test_unlike_slots_screen_and_are_checked_and_one_class_alone_promotes(bench: Bench) -> None:
    script = Script(*([edited(A=a, B=b)] for a in (1, 2, 3) for b in (2, 3, 4, 5)))
    controller = bench.controller(
        lambda b: ThreadFleet(b, 3, classes=("cpu", "cpu", "other")),
        script,
        experiments=10,
        reference_class="cpu",
        control_every=1,
        max_staleness=0,  # candidates that change one line conflict
    )
    assert controller.run() == "10 experiments were judged"
    state = controller.state
    assert state.reference_class == "cpu"
    assert {state.experiments[name].device_class for name in state.lineage} == {"cpu"}
    controls = [t for e in state.experiments.values() for t in e.controls if t.outcome]
    assert any(trial.outcome and trial.outcome.value is not None for trial in controls)
    assert not dict(state.controls)
    assert controller.state.judged == 10


def test_a_patch_that_sets_a_seed_of_its_own_is_noticed_and_not_kept(bench: Bench) -> None:
    script = Script([edited(A=3) + "torch.manual_seed(1337)\n"])
    controller = bench.controller(lambda b: ThreadFleet(b, 1), script, experiments=1)
    controller.run()
    proposed = [r.event for r in bench.ledger.read(0) if isinstance(r.event, ev.ExperimentProposed)]
    assert [event.seeds for event in proposed] == [None, SeedHabit.FIXED]
    assert statuses(controller.state)["e1"] is Status.SUSPECT
    assert "A = 1" in bench.head_text()
