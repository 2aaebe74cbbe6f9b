"""Frame of a run of `link` or `dedupe`: options, the checks before it, the line after it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flipkd_sdk.cli.console import note_blank_lines, print_json, print_run
from flipkd_sdk.cli.scoring.score_file import check_start, is_complete, journal_path
from flipkd_sdk.cli.tables.files import is_plain_file
from flipkd_sdk.cli.tables.open import rejects_file
from flipkd_sdk.cli.tables.sources import RejectRow, refuse_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from flipkd_sdk.cli.linkage.encoding import Engine
    from flipkd_sdk.cli.linkage.table import TextTable
    from flipkd_sdk.cli.tables.columns import TextFormat

    StartEngine = Callable[[], AbstractContextManager[Engine]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Options of a run from files to a file."""

    out: str
    form: TextFormat
    overwrite: bool
    resume: bool
    skip: bool
    """Skip rows that cannot be used instead of stopping."""
    rejects: str | None
    """File for the rows skipped; None for one beside the output."""
    as_json: bool
    """Print the figures of the run as JSON on standard output."""

    @property
    def kept(self) -> Path | None:
        """Return the path of the journal; None if the output is no file."""
        return journal_path(self.out) if is_plain_file(self.out) else None

    def start(self) -> bool:
        """Check that the output may be written; return False if it is complete already.

        Raises:
            OutputExistsError: see `check_start`.
            InvalidPairsError: see `check_start`.
        """
        if self.resume and is_complete(self.out, self.kept):
            if self.as_json:
                print_json({"output": self.out, "complete_before": True})
            return False
        check_start(self.out, self.kept, overwrite=self.overwrite, resume=self.resume)
        return True

    @contextmanager
    def rejecting(self, path: str) -> Iterator[RejectRow]:
        """Yield the receiver of rows of a table that cannot be used; ``path`` is the file for them."""
        if not self.skip:
            yield refuse_row
            return
        with rejects_file(path, overwrite=self.overwrite or self.resume) as reject:
            yield reject

    @property
    def replaceable(self) -> bool:
        """Return True if the output may be replaced, also one of a run that was killed after writing it."""
        return self.overwrite or self.resume

    def finish(self, figures: Mapping[str, object], line: str, tables: tuple[TextTable, ...]) -> None:
        """Print what the run has done, in one line, or as JSON."""
        for table in tables:
            note_blank_lines(table.path, table.blank_lines)
        print_run(figures, line, as_json=self.as_json)
