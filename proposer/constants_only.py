"""Whether a patch changes constants alone, so that the tuner can learn from it, whoever made it."""

from collections.abc import Mapping

from proposer.constants import read_constants
from proposer.knob import splice
from proposer.proposal import Scalar


def parameters_of(before: Mapping[str, str], edits: Mapping[str, str]) -> dict[str, Scalar]:
    """Return all constants' values after a change of nothing but constants; else nothing.

    Args:
        before: text of every editable file, by path.
        edits: new text of those that change.
    """
    after = {**before, **edits}
    try:
        old, new = read_constants(before), read_constants(after)
    except ValueError:
        return {}
    if old.keys() != new.keys():
        return {}
    for path, text in edits.items():
        changed = {
            knob: new[name].source
            for name, knob in old.items()
            if knob.path == path and new[name].source != knob.source
        }
        if splice(before[path], changed) != text:
            return {}
    return {name: knob.value for name, knob in new.items()}
