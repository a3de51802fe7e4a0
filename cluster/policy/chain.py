"""What came of a chain of merges, once each of its links has come to its end. Pure.

All links are judged together: their scores are smoothed along the chain (eval.chain), and the best
link that may be promoted decides. Its patches, and those of the links below it, are to be promoted;
each other patch is queued again or dropped, with the reason.
"""

from collections.abc import Iterator, Sequence

from cluster.policy import seed_verdicts
from cluster.policy.commands import CancelTrial, Command, RecordJudgement, SettleChain
from cluster.policy.study_plan import StudyPlan
from cluster.policy.verdicts import noise
from cluster.state.events import ChainMeasured, WinnerDropped, WinnerRequeued
from cluster.state.experiment import Experiment, Status
from cluster.state.state import StudyState
from cluster.state.winners import root
from eval.beliefs import Belief, Learnt
from eval.chain import ChainScores, Link, score_chain
from eval.judge import Circumstance, Judgement, Verdict
from trainer.trial import ExperimentId

MOST_MERGES = 3
"""Measured merges that one patch may go through before it is dropped."""
_PENDING = frozenset({Status.PROPOSED, Status.QUEUED, Status.RUNNING})
_UNKNOWN = frozenset({Status.LOST, Status.CANCELLED})
"""Ends that say nothing of the patch."""
_WAITING = frozenset({Status.MERGING, Status.KEPT})
"""Patches that wait for what comes of a chain. One may be on the branch by now, by way of a link of
an earlier chain that somebody has had run again, or accepted."""
_SMALLEST = 1e-12
"""Of the score, the noise where runs repeat exactly."""
_NONE = ExperimentId("")


def due(state: StudyState, plan: StudyPlan, incumbent: Experiment) -> Iterator[Command]:
    """Settle the chain that is being measured, or take back what of it is no use any more."""
    links = [state.experiments[link] for link in state.chain]
    if not any(link.status in _PENDING for link in links):
        yield _settled(state, plan, incumbent, links)
    elif links and root(state, links[0]) != incumbent.id:
        # Made on what is no longer the incumbent: what runs still tells of its patches.
        for link in links:
            if link.status is Status.QUEUED:
                yield CancelTrial(trial=link.trials[-1].id)


def _settled(
    state: StudyState, plan: StudyPlan, incumbent: Experiment, links: Sequence[Experiment]
) -> SettleChain:
    base = state.experiments[root(state, links[0])]
    found = _scores(state, plan, base, links)
    best = found.best
    if best and base.id != incumbent.id:
        head = found.scores[best - 1].mean
        best = best if plan.metric.is_better(head, incumbent.worth) else 0
    requeued, dropped = [], []
    for place in range(best, len(links)):
        link = links[place]
        source = state.experiments[link.merge_of]
        if source.status not in _WAITING:
            continue
        why = _given_up(links, place, found, source)
        if why:
            dropped.append(WinnerDropped(experiment=source.id, reason=why))
        else:
            reason = f"{link.id} did not bring it onto the branch"
            effect = source.effect if _is_upon_broken(found, place) else found.effects[place]
            requeued.append(
                WinnerRequeued(experiment=source.id, link=link.id, reason=reason, effect=effect)
            )
    return SettleChain(
        judgements=tuple(_judgements(state, links, found, best)),
        requeued=tuple(requeued),
        dropped=tuple(dropped),
        measured=ChainMeasured(
            chain=links[0].id, links=state.chain, best=links[best - 1].id if best else _NONE
        ),
    )


def _scores(
    state: StudyState, plan: StudyPlan, base: Experiment, links: Sequence[Experiment]
) -> ChainScores:
    smallest = _SMALLEST * max(abs(base.worth), _SMALLEST)
    kind = base.device_class
    around = Circumstance(
        noise=noise(state, kind), seeds=seed_verdicts.effects(state, plan, kind, links)
    )
    sigma = max(around.sigma, smallest)
    own = around.measured(base.evidence.score)
    start = base.belief or Belief(mean=own.mean, variance=sigma**2 / own.runs)
    shown: list[Link] = []
    is_barred = False
    for link in links:
        # What holds a patch that somebody has to look at, or has cancelled, is not promoted either.
        is_suspect = link.status is Status.SUSPECT
        is_barred = is_barred or is_suspect or link.is_cancelled
        expected = state.experiments[link.merge_of].effect
        shown.append(
            Link(
                expected=expected or Belief(mean=0.0, variance=0.0),
                own=around.measured(link.score) if link.score and not is_suspect else None,
                may_win=link.status is Status.MEASURED and not is_barred,
            )
        )
    return score_chain(start, shown, sigma=sigma, metric=plan.metric)


def _given_up(
    links: Sequence[Experiment], place: int, found: ChainScores, source: Experiment
) -> str:
    """Return why a patch that is not to be promoted is not queued again either; empty if it is."""
    link = links[place]
    merged = f"merged as {link.id}, which "
    if link.status is not Status.MEASURED and not _is_unknown(link):
        if place and _has_failed(links[place - 1]):
            return ""  # what was below it is to blame
        return f"{merged}was {link.status.words}"
    if source.merges + 1 >= MOST_MERGES and not _is_unknown(link):
        return f"not on the branch after {MOST_MERGES} merges"
    if found.effects[place].mean <= 0 and not _is_upon_broken(found, place):
        return f"{merged}brought nothing ({found.effects[place].mean:+.2g})"
    return ""


def _is_upon_broken(found: ChainScores, place: int) -> bool:
    """Say whether a link below, which is not promoted, has broken what this one was measured on."""
    return any(found.breaks[found.best : place])


def _is_unknown(link: Experiment) -> bool:
    return link.status in _UNKNOWN and not link.is_cancelled


def _has_failed(link: Experiment) -> bool:
    return link.status is not Status.MEASURED and not _is_unknown(link)


def _judgements(
    state: StudyState, links: Sequence[Experiment], found: ChainScores, best: int
) -> Iterator[RecordJudgement]:
    base = root(state, links[0])
    for place, link in enumerate(links):
        if link.status is not Status.MEASURED:
            continue
        effect = found.effects[place]
        where = f"link {place + 1} of {len(links)}: {effect.mean:+.2g}"
        keep = place < best
        words = f"the best is {best}" if best else f"no better than {base}"
        yield RecordJudgement(
            experiment=link.id,
            reference=base,
            judgement=Judgement(
                verdict=Verdict.KEEP if keep else Verdict.DISCARD,
                delta=effect.mean,
                reason=f"{where}, {words}",
                learnt=Learnt(
                    candidate=found.scores[place],
                    reference=found.start,
                    effect=effect,
                    chance=found.chance(place),
                    memory=state.memory,
                ),
            ),
        )
