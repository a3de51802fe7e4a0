"""The environment in which our own background processes start: an allow-list.

Ray hands its environment down to every worker, so a key that is not let in here cannot leak into a
trial. What a trial may see is trainer.variables' to say; beside that, our own settings pass, and
what fetching packages needs.
"""

import os
from collections.abc import Mapping

from trainer.variables import allowed_variables, network_variables

_OURS = ("INCUMBENT_HOME", "INCUMBENT_LOCK_DIR", "VIRTUAL_ENV", "XDG_RUNTIME_DIR", "XDG_STATE_HOME")


def allowed_environment(source: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what of `source` (default: this process's environment) background processes get."""
    found = os.environ if source is None else source
    ours = {name: found[name] for name in _OURS if name in found}
    return allowed_variables(found) | network_variables(found) | ours
