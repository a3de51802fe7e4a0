"""The checker finds what it is there to find: each rule is broken once, and names what broke it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cluster.state import events as ev
from cluster.state.events import Recorded
from cluster.state.experiment import Kind
from eval.judge import Verdict
from tests.chaos.checker import RULES, Commit, Evidence, check
from tests.chaos.losses import Fault, losses, table
from trainer.trial import CommitId, Ending, ExperimentId, SlotId, TrialId, TrialOutcome

BEGAN = datetime(2026, 11, 29, tzinfo=UTC)
SCORED = TrialOutcome(ending=Ending.SCORED, value=1.0)


def recorded(events: Sequence[ev.Event]) -> list[Recorded]:
    """Number events, one a second."""
    return [
        Recorded(seq=seq, id=f"id-{seq}", at=BEGAN + timedelta(seconds=seq), event=event)
        for seq, event in enumerate(events, start=1)
    ]


def proposed(name: str) -> ev.Event:
    kind = Kind.BASELINE if name == "e0" else Kind.PROPOSAL
    return ev.ExperimentProposed(
        experiment=ExperimentId(name), kind=kind, commit=CommitId(f"c-{name}"), tree=f"t-{name}",
        base=ExperimentId("e0"), base_commit=CommitId("c-e0"), lines=3, proposer="tuner",
        hypothesis=name,
    )  # fmt: skip


def queued(name: str, attempt: int = 1) -> ev.Event:
    trial, experiment = TrialId(f"{name}.1"), ExperimentId(name)
    return ev.TrialQueued(trial=trial, experiment=experiment, attempt=attempt, seed=0)


def started(name: str, attempt: int = 1, slot: str = "cpu-0") -> ev.Event:
    trial, experiment = TrialId(f"{name}.1"), ExperimentId(name)
    return ev.TrialStarted(
        trial=trial, experiment=experiment, attempt=attempt, slot=SlotId(slot), node="head"
    )


def finished(name: str, attempt: int = 1, value: float = 1.0) -> ev.Event:
    trial, experiment = TrialId(f"{name}.1"), ExperimentId(name)
    outcome = replace(SCORED, value=value)
    return ev.TrialFinished(trial=trial, experiment=experiment, attempt=attempt, outcome=outcome)


def lost(name: str, attempt: int = 1) -> ev.Event:
    trial, experiment = TrialId(f"{name}.1"), ExperimentId(name)
    return ev.TrialLost(trial=trial, experiment=experiment, attempt=attempt, reason="gone")


def judged(name: str, verdict: Verdict, delta: float = 0.1) -> ev.Event:
    return ev.ExperimentJudged(
        experiment=ExperimentId(name), verdict=verdict, delta=delta, reason="",
        reference=ExperimentId("e0"), device_class="cpu", reference_class="cpu",
    )  # fmt: skip


PROMOTED = ev.Promoted(
    experiment=ExperimentId("e1"), commit=CommitId("p-e1"), replaces=ExperimentId("e0")
)
STORY: Sequence[ev.Event] = (
    ev.StudyStarted(study="chaos", base_commit=CommitId("c-e0"), metric="loss", goal="minimize"),
    ev.ControllerStarted(epoch=1, pid=1, node="head"),
    proposed("e0"), queued("e0"), started("e0"), finished("e0"), judged("e0", Verdict.KEEP),
    proposed("e1"), queued("e1"), started("e1"), lost("e1"),
    queued("e1", 2), started("e1", 2), finished("e1", 2, 0.5), judged("e1", Verdict.KEEP),
    PROMOTED,
    proposed("e2"), queued("e2"), started("e2"), finished("e2"), judged("e2", Verdict.DISCARD),
    ev.ControllerStopped(epoch=1, reason="done"),
)  # fmt: skip
BASE = Commit(id="c-e0", parents=(), tree="t-e0", trailers={})
HEAD = Commit(
    id="p-e1", parents=("c-e0",), tree="t-e1", trailers={"Experiment": "e1", "Proposer": "tuner"}
)
SOUND = Evidence(
    recorded=recorded(STORY),
    refs={f"refs/incumbent/chaos/{name}": f"c-{name}" for name in ("e0", "e1", "e2")},
    branch=(HEAD, BASE),
    experiments=2,
)


def told(*changed: ev.Event) -> Evidence:
    """The same study with another story."""
    return replace(SOUND, recorded=recorded(changed))


def without(*events: ev.Event) -> Evidence:
    return told(*(event for event in STORY if event not in events))


def after(place: ev.Event, *events: ev.Event) -> Evidence:
    index = STORY.index(place) + 1
    return told(*STORY[:index], *events, *STORY[index:])


def replacing(commit: str) -> dict[str, str]:
    return {"Experiment": "e1", "Proposer": "tuner", "Replaces": commit}


def above_a_lost_one(trailers: Mapping[str, str]) -> Evidence:
    """The same study, of which the ledger had lost a promotion when e1 was promoted."""
    lost_one = Commit(
        id="p-old", parents=("c-e0",), tree="t-old", trailers={"Experiment": "e1", "Replaces": ""}
    )
    head = replace(HEAD, parents=("p-old",), trailers=trailers)
    return replace(SOUND, branch=(head, lost_one, BASE))


BROKEN: dict[str, tuple[str, Callable[[], Evidence]]] = {
    "an event is missing": ("numbered", lambda: replace(SOUND, recorded=SOUND.recorded[1:])),
    "an event is there twice": (
        "numbered",
        lambda: replace(
            SOUND, recorded=[*SOUND.recorded, replace(SOUND.recorded[-1], seq=len(STORY) + 1)]
        ),
    ),
    "no such experiment": ("folded", lambda: after(STORY[1], finished("e7"))),
    "a lost trial never runs again": (
        "ended_once",
        lambda: told(*STORY[:11], *STORY[16:]),
    ),
    "an experiment is queued for ever": ("ended_once", lambda: told(*STORY[:18])),
    "too few were judged": ("ended_once", lambda: replace(SOUND, experiments=3)),
    "a trial is queued twice": ("stepped_once", lambda: after(queued("e2"), queued("e2"))),
    "a trial runs twice": ("stepped_once", lambda: after(started("e2"), started("e2", slot="x"))),
    "a result is accepted twice": ("stepped_once", lambda: after(finished("e2"), finished("e2"))),
    "a trial never ends": ("stepped_once", lambda: without(finished("e2"))),
    "a trial runs that was never queued": ("stepped_once", lambda: without(queued("e2"))),
    "a result comes first": (
        "stepped_once",
        lambda: told(*STORY[:18], finished("e2"), started("e2"), *STORY[20:]),
    ),
    "the result of an expired lease counts": (
        "counted_once",
        lambda: after(finished("e1", 2, 0.5), finished("e1")),
    ),
    "the late result counts instead of the new one": (
        "counted_once",
        lambda: told(*STORY[:11], finished("e1"), *STORY[11:13], lost("e1", 2), *STORY[14:]),
    ),
    "an attempt begins while the one before is alive": (
        "counted_once",
        lambda: without(lost("e1")),
    ),
    "a score of what never ran": ("scored_where_it_started", lambda: without(started("e2"))),
    "two controllers of one epoch": (
        "fenced",
        lambda: after(STORY[1], ev.ControllerStarted(epoch=1, pid=2, node="head")),
    ),
    "a controller that was replaced goes on": (
        "fenced",
        lambda: after(STORY[-2], ev.ControllerStarted(epoch=2, pid=2, node="head")),
    ),
    "a promotion without a verdict": (
        "explained",
        lambda: without(judged("e1", Verdict.KEEP)),
    ),
    "a promotion against the verdict": (
        "explained",
        lambda: told(*STORY[:14], judged("e1", Verdict.DISCARD), *STORY[15:]),
    ),
    "a promotion before its verdict": (
        "explained",
        lambda: told(*STORY[:14], PROMOTED, judged("e1", Verdict.KEEP), *STORY[16:]),
    ),
    "a promotion without a score": ("explained", lambda: without(finished("e1", 2, 0.5))),
    "a promotion that is not on the branch": ("agreed", lambda: replace(SOUND, branch=(BASE,))),
    "a commit that was never promoted": ("agreed", lambda: without(PROMOTED)),
    "a merge commit on the branch": (
        "agreed",
        lambda: replace(SOUND, branch=(replace(HEAD, parents=("c-e0", "x")), BASE)),
    ),
    "another tree than was measured": (
        "agreed",
        lambda: replace(SOUND, branch=(replace(HEAD, tree="t-e2"), BASE)),
    ),
    "a trailer that names another": (
        "agreed",
        lambda: replace(SOUND, branch=(replace(HEAD, trailers={"Experiment": "e2"}), BASE)),
    ),
    "a promotion above what nobody said was lost": (
        "agreed",
        lambda: above_a_lost_one({"Experiment": "e1", "Proposer": "tuner"}),
    ),
    "a promotion that replaces what is not there": (
        "agreed",
        lambda: above_a_lost_one(replacing("c-e7")),
    ),
    "a branch that stands elsewhere": ("heads", lambda: replace(SOUND, branch=(BASE,))),
    "a commit that was lost": (
        "referred",
        lambda: replace(SOUND, refs={"refs/incumbent/chaos/e0": "c-e0"}),
    ),
    "a ref that nobody knows": (
        "referred",
        lambda: replace(SOUND, refs={**SOUND.refs, "refs/incumbent/chaos/e9": "c-e9"}),
    ),
    "a lease that is held": ("cleared", lambda: replace(SOUND, leases=1)),
    "a trial that waits": ("cleared", lambda: replace(SOUND, waiting=1)),
    "a process that is left": ("cleared", lambda: replace(SOUND, left=["process 7 is left"])),
}


def test_it_has_nothing_to_say_of_a_sound_study() -> None:
    assert check(SOUND) == []


def test_what_the_ledger_had_lost_may_lie_below_the_promotion_that_says_so() -> None:
    assert check(above_a_lost_one(replacing("c-e0"))) == []


@pytest.mark.parametrize("name", BROKEN)
def test_it_names_the_rule_that_is_broken(name: str) -> None:
    rule, broken = BROKEN[name]
    complaints = check(broken())
    assert [text for text in complaints if text.startswith(f"{rule}: ")], complaints


def test_what_was_rebased_before_it_began_is_queued_again() -> None:
    rebased = ev.ExperimentRebased(
        experiment=ExperimentId("e2"), commit=CommitId("c-e2b"), tree="t-e2b", lines=3,
        base=ExperimentId("e1"), base_commit=CommitId("p-e1"), from_base=ExperimentId("e0"),
        from_commit=CommitId("c-e2"),
    )  # fmt: skip
    begun = [*STORY[:18], rebased, queued("e2", 2), started("e2", 2), finished("e2", 2)]
    evidence = replace(
        told(*begun, *STORY[20:]), refs={**SOUND.refs, "refs/incumbent/chaos/e2": "c-e2b"}
    )
    assert check(evidence) == []


def test_every_rule_is_broken_by_some_example() -> None:
    assert {rule for rule, _ in BROKEN.values()} == {rule.__name__ for rule in RULES}


def test_a_fault_costs_until_new_work_is_done_and_what_was_lost_waits_again() -> None:
    # e1's first attempt starts with event 10, is lost with 11 and queued again with 12; the next
    # attempt starts with 13 and brings its result with 14.
    fault = Fault(at=BEGAN + timedelta(seconds=10.5), part="worker", machine="head")
    (found,) = losses([fault], SOUND.recorded)
    assert (found.result_s, found.lost, found.requeued_s) == (3.5, ("e1.1/1",), 1.5)
    elsewhere = replace(fault, slots=frozenset({"cpu-7"}))
    (nothing,) = losses([elsewhere], SOUND.recorded)
    assert (nothing.result_s, nothing.lost, nothing.requeued_s) == (None, (), None)
    assert table([found], BEGAN).splitlines()[1].split() == [
        "10", "s", "worker", "head", "-", "3.5", "s", "1", "1.5", "s",
    ]  # fmt: skip
