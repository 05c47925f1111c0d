"""A log as read: rows of raw cells, and where each stands."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True, eq=False)
class Log:
    """What one file holds, or one object of a tracker.

    Attributes:
        frame: raw cells, a column each; the index numbers or names the rows as messages do.
        where: what messages call the source, such as a file's path.
        run: the run whose records these are; None: a column tells runs apart.
        word: what one row is called, such as "line".
    """

    frame: pd.DataFrame
    where: str
    run: str | None = None
    word: str = "line"

    def at(self, row: int) -> str:
        """Returns where a row is, such as "runs/3.csv, line 7"."""
        return f"{self.where}, {self.word} {self.frame.index[row]}"
