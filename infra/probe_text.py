"""What the baseline's smoke run told of its script, in words. Pure; reads facts."""

from collections.abc import Mapping
from typing import Any

from infra.plain_text import one_line


def probe_words(probe: Mapping[str, Any]) -> str:
    """Return in one line whether there are smoke runs, and why; `probe` is trainer.trial.Probe."""
    told = f"{probe['budget_s']:.3g} s"
    if probe["obeys"]:
        return f"the script obeys INCUMBENT_BUDGET_S, so smoke runs of {told} go first"
    if probe["ending"] != "scored":
        ending = probe["ending"].replace("_", " ")
        return f"smoke runs are left out: one of {told} {ending}: {one_line(probe['reason'])}"
    took = f"told {told}, it took {probe['wall_s']:.3g} s"
    return f"the script does not obey INCUMBENT_BUDGET_S ({took}), so smoke runs are left out"
