"""The reducer: which winner goes onto the branch, and how. Pure.

A merge queue in the manner of Zuul and bors, for measurements instead of tests:

- a fresh winner (made on the incumbent) is promoted;
- a stale winner that beats the incumbent alone supersedes it, and the patches that it lacks rejoin;
- what becomes of any other stale winner is the policy's to say.

A promotion rests on a score measured on exactly the promoted tree.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from cluster.policy import chain
from cluster.policy.chain import MOST_MERGES
from cluster.policy.commands import Command, DropWinner, Merge, Promote
from cluster.policy.study_plan import Policy, StudyPlan
from cluster.state.experiment import Experiment, Status
from cluster.state.state import StudyState
from cluster.state.winners import below, ranked, root
from trainer.trial import number_of

MOST_LINKS = 16
"""Of a chain."""
_STALE = f"still stale after {MOST_MERGES} merges"


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Stale winners, none of which is better than the incumbent by itself."""

    incumbent: Experiment
    winners: tuple[Experiment, ...]
    """Best first."""
    rejoining: tuple[Experiment, ...] = ()
    """Promoted patches that a superseding winner left behind."""
    has_chain: bool = False
    """A chain of merges is being measured."""


class Reducer(Protocol):
    """A policy for stale winners. Pure: what it returns depends on the queue alone."""

    def arrange(self, queue: Queue) -> Iterator[Command]:
        """Return what is to be done with them now; nothing to let them wait.

        It may wait only for a chain that is being measured.
        """
        ...


class OneAtATime:
    """Merges each onto the incumbent, as an experiment that is judged like any other.

    A merge that is judged better and has gone stale meanwhile is merged again.
    """

    def arrange(self, queue: Queue) -> Iterator[Command]:
        """See Reducer."""
        for winner in queue.winners:
            if winner.generation + winner.merges >= MOST_MERGES:
                yield DropWinner(winner=winner.id, reason=_STALE)
            else:
                yield Merge(winner=winner, incumbent=queue.incumbent)
        for left_behind in queue.rejoining:
            yield Merge(winner=left_behind, incumbent=queue.incumbent)


class Chained:
    """Merges them one onto the other, and measures every link of that chain at once.

    Links are judged together by what is believed of patches and trees (cluster.policy.chain). Where
    a judge believes nothing, they are merged one at a time.
    """

    def arrange(self, queue: Queue) -> Iterator[Command]:
        """See Reducer."""
        if queue.incumbent.belief is None:
            yield from OneAtATime().arrange(queue)
            return
        winners, rejoining = _single(queue.winners), _single(queue.rejoining)
        yield from OneAtATime().arrange(replace(queue, winners=winners, rejoining=rejoining))
        links = []
        for one in (*queue.winners, *queue.rejoining):
            if one.effect is None or _is_single(one):
                continue
            if one.generation + one.merges >= MOST_MERGES:
                yield DropWinner(winner=one.id, reason=_STALE)
            else:
                links.append((-one.effect.mean, number_of(one.id), one))
        if not queue.has_chain:
            for _, _, one in sorted(links)[:MOST_LINKS]:
                yield Merge(winner=one, incumbent=queue.incumbent, in_chain=True)


def _single(experiments: tuple[Experiment, ...]) -> tuple[Experiment, ...]:
    return tuple(filter(_is_single, experiments))


def _is_single(one: Experiment) -> bool:
    """Say whether a patch is merged by itself.

    Of one that was judged while another judge was set, nothing is believed; one that changes the
    seed has to be run on others, and the links of a chain are run once.
    """
    return one.effect is None or one.seeds is not None


class BestOfWave:
    """Drops them: of candidates that were made on one incumbent, the best alone is kept."""

    def arrange(self, queue: Queue) -> Iterator[Command]:
        """See Reducer."""
        for winner in queue.winners:
            reason = f"no better than {queue.incumbent.id}, which was promoted before it"
            yield DropWinner(winner=winner.id, reason=reason)


POLICIES: Mapping[Policy, Reducer] = {
    "chain": Chained(),
    "one-at-a-time": OneAtATime(),
    "best-of-wave": BestOfWave(),
}


def plan(state: StudyState, study: StudyPlan) -> list[Command]:
    """Return what to do with the winners: one promotion, or the merges and drops that are due.

    A promotion moves the incumbent, so nothing else is planned beside it, and neither is anything
    beside the end of a chain, which makes winners of its links.
    """
    incumbent = state.incumbent
    if incumbent is None:
        return []
    of_chain = list(chain.due(state, study, incumbent)) if state.chain else []
    if of_chain:
        return of_chain
    winners = ranked(state, study.metric)
    # A chain that has won first: it must not go stale by what could wait as well.
    heads = sorted((w for w in winners if not _is_inner(w, winners)), key=lambda w: not w.chain)
    for winner in heads:
        if root(state, winner) == incumbent.id:
            return [_promotion(state, winner, incumbent)]
    for winner in heads:
        if study.judge.is_ahead(winner.evidence, incumbent.evidence):
            return [_promotion(state, winner, incumbent)]
    queue = Queue(
        incumbent=incumbent,
        winners=tuple(winners),
        rejoining=tuple(state.experiments[name] for name in state.rejoining),
        has_chain=bool(state.chain),
    )
    return [*POLICIES[study.reducer].arrange(queue), *_spent(state)]


def _promotion(state: StudyState, winner: Experiment, incumbent: Experiment) -> Promote:
    links = tuple(link for link in below(state, winner) if not link.promoted)
    return Promote(winner=winner, replaces=incumbent, below=links)


def _is_inner(winner: Experiment, winners: list[Experiment]) -> bool:
    """Say whether a winner is a link of a chain of which a longer part has won."""
    return bool(winner.chain) and any(
        other.chain == winner.chain and number_of(other.id) > number_of(winner.id)
        for other in winners
    )


def _spent(state: StudyState) -> Iterator[Command]:
    """Drop winners whose merge ended without reaching the branch."""
    for winner in state.opened(Status.MERGING):
        merge = state.experiments[winner.merged_as]
        if not merge.status.is_terminal or merge.id in state.chain:
            continue
        if merge.status not in {Status.KEPT, Status.MERGED} and not _is_carried(state, merge):
            reason = f"merged as {merge.id}, which was {merge.status.words}"
            yield DropWinner(winner=winner.id, reason=reason)


def _is_carried(state: StudyState, link: Experiment) -> bool:
    """Say whether a link that failed lies below one that won and is on its way to the branch."""
    return bool(link.chain) and any(
        state.experiments[name].chain == link.chain and number_of(name) > number_of(link.id)
        for name, status in state.open.items()
        if status in {Status.WINNER, Status.MERGING}
    )
