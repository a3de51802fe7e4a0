"""How much of what trials left is kept on one machine: the oldest goes, what was promoted stays.

Knows sizes, and whose output, predictions and logs are whose. Does not know what was promoted: it
asks, and only where something has to go. An index spares it the looking: one line for each attempt,
by age. What has gone is noted, so that nobody who asks takes it for never having been there.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from trainer.folder_use import FolderUse
from trainer.limits import GB
from trainer.log_capture import is_open_log
from trainer.paths import KINDS, WorkerPaths
from trainer.ports import CodeAway
from trainer.trial import ExperimentId, experiment_id
from trainer.worktree import locked

BASELINE = ExperimentId("e0")
_LOOK_S = 2.0
"""What is not counted by then is taken for as large as it was found to be."""
_OF_EXPERIMENT = re.compile(r"e\d+\.")
"""What else there is, e.g. of final runs, was asked for by a person, and stays."""


class Keeper:
    """Keeps the study's outputs on this machine within a limit; for all of its slots."""

    def __init__(
        self,
        paths: WorkerPaths,
        *,
        most_gb: float,
        promoted: Callable[[], frozenset[ExperimentId]],
        throw: Callable[[Path], None],
    ) -> None:
        """Keep `most_gb` at most, 0 being no limit.

        `promoted` says what has to stay, and may raise CodeAway: then nothing goes. `throw` removes
        a folder, and may raise OSError.
        """
        self.most_gb = most_gb
        self._paths = paths
        self._promoted = promoted
        self._throw = throw
        self._index = paths.study / "kept"
        self._has_looked = False

    def note(self, name: str) -> tuple[str, ...]:
        """Take in what one attempt has left; return whose outputs went for it. Raises OSError."""
        if not self.most_gb:
            return ()
        size = self._measure(name, self._paths.logs_of(name))
        with locked(self._index.with_suffix(".lock")):
            _restore(self._paths, name)
            sizes = self._sizes()
            missed = self._missed(sizes)
            sizes.update(missed)
            sizes.pop(name, None)  # to the end, as the newest
            sizes[name] = size
            gone = self._make_room(sizes, name)
            if gone or missed:
                self._write(sizes)
            else:
                with self._index.open("a", encoding="utf-8") as file:
                    file.write(_line(name, sizes[name]))
        return gone

    def _make_room(self, sizes: dict[str, int], newest: str) -> tuple[str, ...]:
        """Remove the oldest that may go, until the rest is little enough."""
        excess = sum(sizes.values()) - self.most_gb * GB
        if excess <= 0:
            return ()
        try:
            spared = {*self._promoted(), BASELINE}
        except CodeAway:
            return ()
        gone = []
        logs = self._paths.logs()
        for name in list(sizes):
            if excess <= 0:
                break
            of_it = logs.get(name, ())
            if name != newest and self._may_go(name, spared) and not _is_running(of_it):
                self._remove(name, of_it)
                excess -= sizes.pop(name)
                gone.append(name)
        return tuple(gone)

    def _remove(self, name: str, logs: Iterable[Path]) -> None:
        """Remove what an attempt has left; that it is gone is noted before it is."""
        with _pruned(self._paths).open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        for kind in KINDS:
            self._throw(self._paths.kept(kind, name))
        for log in logs:
            log.unlink(missing_ok=True)

    def _may_go(self, name: str, spared: set[ExperimentId]) -> bool:
        experiment = experiment_id(name)
        is_sent = not (self._paths.unsent / name).exists()
        return bool(_OF_EXPERIMENT.match(name)) and experiment not in spared and is_sent

    def _missed(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Return, once, what there is of attempts of which nobody took note.

        Their workers were killed, as this one's predecessor may have been. Who is still at one will
        take note of it.
        """
        if self._has_looked:
            return {}
        self._has_looked = True
        logs = self._paths.logs()
        missed = [name for name in logs if name not in sizes and not _is_running(logs[name])]
        return {name: self._measure(name, logs[name]) for name in missed}

    def _sizes(self) -> dict[str, int]:
        """Return what is kept, the oldest first, by the index, or by a look where there is none."""
        try:
            text = self._index.read_text("utf-8")
        except FileNotFoundError:
            sizes = self._found()
            self._write(sizes)
            return sizes
        sizes = {}
        for line in text.splitlines():
            name, _, size = line.partition("\t")
            sizes.pop(name, None)
            if size.isdecimal():
                sizes[name] = int(size)
        if not text.endswith("\n"):  # the half of a line, from when the disk was full
            self._write(sizes)
        return sizes

    def _found(self) -> dict[str, int]:
        logs = self._paths.logs()
        folders = [path for kind in KINDS for path in (self._paths.study / kind).glob("*")]
        parts = [(path, path.name) for path in folders]
        parts += [(path, name) for name, paths in logs.items() for path in paths]
        parts.sort(key=lambda part: part[0].lstat().st_mtime)
        names = dict.fromkeys(name for _, name in parts)
        ended = [name for name in names if not _is_running(logs.get(name, ()))]
        return {name: self._measure(name, logs.get(name, ())) for name in ended}

    def _measure(self, name: str, logs: Iterable[Path]) -> int:
        folders = [self._paths.kept(kind, name) for kind in KINDS]
        use = FolderUse([str(path) for path in folders if path.is_dir()])
        use.look(_LOOK_S)
        return use.bytes + sum(log.lstat().st_size for log in logs)

    def _write(self, sizes: Mapping[str, int]) -> None:
        fresh = self._index.with_suffix(".new")
        fresh.write_text("".join(_line(name, size) for name, size in sizes.items()), "utf-8")
        fresh.replace(self._index)


def is_pruned(paths: WorkerPaths, name: str) -> bool:
    """Say whether what an attempt, named as by `out_name`, had left here was removed for room."""
    try:
        return name in _pruned(paths).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return False


def _restore(paths: WorkerPaths, name: str) -> None:
    """Forget that an attempt's had gone: more of it came, as from a node where it still ran."""
    if is_pruned(paths, name):
        gone = _pruned(paths).read_text("utf-8").splitlines()
        fresh = _pruned(paths).with_suffix(".new")
        fresh.write_text("".join(f"{other}\n" for other in gone if other != name), "utf-8")
        fresh.replace(_pruned(paths))


def _is_running(logs: Iterable[Path]) -> bool:
    return any(is_open_log(log) for log in logs)


def _pruned(paths: WorkerPaths) -> Path:
    return paths.study / "pruned"


def _line(name: str, size: int) -> str:
    return f"{name}\t{size}\n"
