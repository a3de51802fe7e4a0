"""What one proposer or a person says reaches all proposers with their next question."""

from collections.abc import Sequence

from cluster.state import events as ev
from proposer.proposal import Context, Proposal
from tests.cluster.bench import Bench, Script, ThreadFleet, bench, edited

__all__ = ["bench"]  # a fixture
HINT, NOTE, ADVICE, WORD = "try A=3", "B matters more", "A is worth most", "no dropout"


class Optimiser(Script):
    """Tells the others what it has found, as the tuner does."""

    name = "optimiser"
    advice = ADVICE


class Model(Script):
    """Suggests something to the tuner and writes a note, with its first proposal alone."""

    name = "model"

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:
        is_first = not self.contexts
        return [
            Proposal(
                edits=each.edits,
                hypothesis=each.hypothesis,
                hints=(HINT,) if is_first else (),
                notes=NOTE if is_first else "",
            )
            for each in super().propose(context, count)
        ]


def run(bench: Bench, experiments: int, *proposers: Script) -> None:
    bench.controller(lambda b: ThreadFleet(b, 1), *proposers, experiments=experiments).run()


def has_all(told: Context) -> bool:
    return (told.hints, told.notes) == ((HINT,), (WORD,)) and f"[model] {NOTE}" in told.scratchpad


def test_a_model_and_an_optimiser_learn_what_the_other_and_people_say(bench: Bench) -> None:
    optimiser = Optimiser(*([edited(A=a)] for a in range(2, 8)))
    model = Model(*([edited(B=b)] for b in range(2, 8)))
    bench.ask(ev.NoteGiven(text=WORD))
    run(bench, 6, optimiser, model)
    first, later = optimiser.contexts[0], [optimiser.contexts[-1], model.contexts[-1]]
    assert not first.hints
    assert first.notes == (WORD,)
    assert all(map(has_all, later))
    assert {told.advice for told in (first, *later)} == {(ADVICE,)}


def test_a_later_controller_s_proposers_are_told_it_too(bench: Bench) -> None:
    bench.ask(ev.NoteGiven(text=WORD))
    run(bench, 1, Model([edited(B=2)]))
    later = Optimiser([edited(A=2)])
    run(bench, 2, later)
    assert all(map(has_all, later.contexts))
    assert later.contexts
