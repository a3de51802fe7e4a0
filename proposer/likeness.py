"""Whether a proposal repeats an earlier one in other words. The edge to rapidfuzz.

Two proposals are alike if they say the same and do the same: the degree is the mean of how alike
their hypotheses and their diffs are, each from 0 to 100. Where the earlier diff is not at hand, the
words alone decide.
"""

from collections.abc import Iterator, Mapping, Sequence

from rapidfuzz import fuzz, process

from proposer.hunks import unified
from proposer.plain import fenced
from proposer.proposal import Context, Past

MOST_COMPARED = 40
"""Earlier proposals whose diffs are looked at: those with the most similar words."""


def twin_of(
    context: Context, edits: Mapping[str, str], *, hypothesis: str, likeness: float
) -> Past | None:
    """Return the earlier proposal that these edits of the incumbent are a twin of; see `twin`."""
    patch = unified({path: context.files[path] for path in edits}, edits)
    return twin(context.history, hypothesis=hypothesis, patch=patch, likeness=likeness)


def told_twin(past: Past) -> str:
    """Return what an author is told whose proposal is a twin; the twin's own words are data."""
    said = fenced("\n".join(filter(None, [past.hypothesis[:120], past.reason[:300]])))
    return (
        f"it is much like {past.experiment}, which was {past.status}; hand in something else, or "
        f"the same again if you know why it should differ. What that was, and what came of it:\n"
        f"{said}"
    )


def twin(history: Sequence[Past], *, hypothesis: str, patch: str, likeness: float) -> Past | None:
    """Return the earlier proposal that this one is most like, if it is to that degree.

    Args:
        history: earlier proposals, in any order.
        hypothesis: what this one says.
        patch: its unified diff.
        likeness: the degree from which on it is a twin, in percent; 100 finds none.
    """
    if likeness >= 100 or not history:
        return None
    # Half of the degree is the words', so less than this cannot be made up for.
    near = process.extract(
        _words(hypothesis),
        [_words(past.hypothesis) for past in history],
        scorer=fuzz.token_sort_ratio,
        score_cutoff=max(0.0, 2 * likeness - 100),
        limit=MOST_COMPARED,
    )
    changed = "\n".join(_changed(patch))
    best: tuple[float, Past] | None = None
    for _, words, index in near:
        past = history[index]
        degree = words
        if past.patch:
            code = fuzz.ratio(changed, "\n".join(_changed(past.patch)))
            degree = (words + code) / 2
        if degree >= likeness and (best is None or degree > best[0]):
            best = (degree, past)
    return best[1] if best else None


def _words(text: str) -> str:
    return " ".join(text.lower().split())


def _changed(patch: str) -> Iterator[str]:
    """Yield the lines that a patch takes out and puts in, without where that is."""
    for line in patch.splitlines():
        if line.startswith(("+", "-")) and not line.startswith(("+++", "---")):
            yield line[0] + " ".join(line[1:].split())
