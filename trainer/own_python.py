"""What a Python needs that is started anew to run code of ours: where that is, and no more.

Standard library only, as is what is started.
"""

import os
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parent.parent)
FIND_OURS = f"import sys; sys.path.append({_ROOT!r})\n"
"""The first line of such a program.

Ours comes last on the path: it may be a site-packages with namesakes of the standard library.
"""


def variables() -> dict[str, str]:
    """Return its environment: some interpreters find libpython by this variable."""
    library_path = os.environ.get("LD_LIBRARY_PATH")
    return {"LD_LIBRARY_PATH": library_path} if library_path else {}
