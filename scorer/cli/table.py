"""Tables in a terminal: columns are aligned by what a terminal shows, so that emoji count for two."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from scorer.text import plain


def table_lines(rows: Iterable[Iterable[str]], *, left: Collection[int] = (0,)) -> Iterator[str]:
    """Yield rows of equally many cells as lines; the columns of ``left`` are aligned to the left, figures to the right.

    A line is as long as its cells, also in a file.
    """
    from rich.console import Console  # it takes a tenth of a second to import
    from rich.table import Table
    from rich.text import Text

    made = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    for number, row in enumerate(rows):
        cells = [Text(plain(cell)) for cell in row]
        for place in range(len(cells) if number == 0 else 0):
            made.add_column(justify="left" if place in left else "right", no_wrap=True)
        made.add_row(*cells)
    console = Console(width=1000, color_system=None)
    with console.capture() as lines:
        console.print(made)
    yield from map(str.rstrip, lines.get().splitlines())
