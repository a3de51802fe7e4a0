"""How all tables look: columns, and no lines. An edge to rich."""

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

WIDEST_SCREEN = 1000


class PlainTable(Table):
    """A table of `columns` that are never broken; flexible ones give it all of a screen's width."""

    def __init__(self, *columns: str) -> None:
        super().__init__(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        self._is_flexible = False
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

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.expand = self._is_flexible and options.max_width <= WIDEST_SCREEN
        return super().__rich_console__(console, options)
