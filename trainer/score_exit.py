"""How our scorer's process ends; see trainer.score_process. Apart, for it costs no numpy."""

from enum import IntEnum


class ScoreExit(IntEnum):
    """Its exit codes; but for the first, it has said why in one line."""

    SCORED = 0
    UNSCORABLE = 3  # for the predictions are at fault
    BAD_LABELS = 4  # the labels are
