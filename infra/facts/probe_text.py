"""What the baseline's probe told of its script, in words. Pure; reads facts."""

from collections.abc import Iterable, Mapping
from typing import Any

from infra.facts.fact_records import TrialFacts
from infra.facts.plain_text import one_line


def probe_words(probe: Mapping[str, Any]) -> str:
    """Return in one line whether a script can be run for less; `probe` is trainer.trial.Probe."""
    told = f"{probe['budget_s']:.3g} s"
    if probe["obeys"]:
        return "the script obeys INCUMBENT_BUDGET_S, so shorter runs can go first"
    if probe["ending"] != "scored":
        ending = probe["ending"].replace("_", " ")
        return f"shorter runs are left out: one of {told} {ending}: {one_line(probe['reason'])}"
    took = f"told {told}, it took {probe['wall_s']:.3g} s"
    return f"the script does not obey INCUMBENT_BUDGET_S ({took}), so shorter runs are left out"


def smoke_words(trials: Iterable[TrialFacts]) -> str:
    """Say what an experiment's trials told of smoke runs, when one was last asked."""
    outcomes = [trial["outcome"] or {} for trial in trials]
    probes = [outcome["probe"] for outcome in outcomes if outcome.get("probe")]
    return probe_words(probes[-1]) if probes else ""
