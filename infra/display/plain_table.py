"""How all tables look: columns, and no lines. An edge to rich."""

from copy import copy
from dataclasses import replace

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import measure_renderables
from rich.table import Column, Table

WIDEST_SCREEN = 1000
LEAST_FLEXIBLE = 12
"""Columns of a screen that a flexible column is to have, before others are left out for it."""
GAP = 2


class PlainTable(Table):
    """A table of `columns` that are never broken; flexible ones give it all of a screen's width.

    Columns that may be missing are left out, one after the other, on a screen that is too narrow.
    """

    def __init__(self, *columns: str) -> None:
        super().__init__(box=None, padding=(0, GAP, 0, 0), header_style="dim", pad_edge=False)
        self._is_flexible = False
        self._dispensable: tuple[str, ...] = ()
        self._least_flexible = LEAST_FLEXIBLE
        for column in columns:
            self.add_column(column, no_wrap=True)

    def flexible(self, *columns: str) -> None:
        """Add columns that share what width is left; longer text is cut."""
        self._is_flexible = True
        for column in columns:
            self.add_column(column, no_wrap=True, overflow="ellipsis", ratio=1)

    def folding(self, *columns: str) -> None:
        """Add columns of which longer text takes several lines."""
        for column in columns:
            self.add_column(column, overflow="fold")

    def may_miss(self, *columns: str, least_flexible: int = LEAST_FLEXIBLE) -> None:
        """Say which columns a narrow screen can do without, the least needed first.

        They are kept where flexible ones have `least_flexible` columns of the screen each.
        """
        self._dispensable, self._least_flexible = columns, least_flexible

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        is_screen = options.max_width <= WIDEST_SCREEN
        shown = copy(self)
        shown.expand = self._is_flexible and is_screen
        if is_screen and self._dispensable:
            shown.columns = self._fitting(console, options)
        return Table.__rich_console__(shown, console, options)

    def _fitting(self, console: Console, options: ConsoleOptions) -> list[Column]:
        """Return the columns that a screen has room for."""
        widths = [self._least_width(column, console, options) for column in self.columns]
        kept = dict(enumerate(widths))
        for name in self._dispensable:
            if sum(kept.values()) - GAP <= options.max_width:
                break
            # The last of that name: a metric may be called like a column of ours.
            del kept[max(at for at in kept if self.columns[at].header == name)]
        return [replace(self.columns[at], _index=index) for index, at in enumerate(kept)]

    def _least_width(self, column: Column, console: Console, options: ConsoleOptions) -> int:
        if column.flexible:
            return self._least_flexible + GAP
        cells = [column.header, *column.cells]
        return measure_renderables(console, options, cells).maximum + GAP
