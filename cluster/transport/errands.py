"""Does things in threads of their own, each once however many ask for it at a time.

Whoever asks may lose patience and come back: the thread goes on meanwhile. Does not know what is
done, nor for how long to wait for it.
"""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Errands:
    """What is being done, by key; may be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, Future[Any]] = {}

    def begin(self, key: Hashable, act: Callable[[], T]) -> "Future[T]":
        """Do something in a thread, unless one is at it already; return what will come of it."""
        with self._lock:
            coming = self._under_way.get(key)
            if coming is None:
                coming = self._under_way[key] = Future()
                threading.Thread(target=self._work, args=(key, act), daemon=True).start()
            return coming

    def _work(self, key: Hashable, act: Callable[[], object]) -> None:
        told, problem = None, None
        try:
            told = act()
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits
            problem = error
        with self._lock:
            coming = self._under_way.pop(key)
        if problem is None:
            coming.set_result(told)
        else:
            coming.set_exception(problem)
