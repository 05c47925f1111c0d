"""Where checkpoints are: which there are, and how one becomes a path to open."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from seedmap.errors import UserError
from seedmap.experiments.checkpoints.formats import check_whole, fingerprint, weight_bytes
from seedmap.experiments.checkpoints.patterns import Entry, find_checkpoints

_NAMED = 5  # unfinished checkpoints that a message names


class Place(NamedTuple):
    """Checkpoints, wherever they are.

    Attributes:
        entries: in natural order of runs, steps ascending.
        fingerprint: of an entry, a number that changes when its content may have changed.
        size: of an entry, bytes of its weights.
        fetched: gives the path of an entry for as long as it is needed.
        one_by_one: whether at most one is to be fetched at a time.
    """

    entries: list[Entry]
    fingerprint: Callable[[Entry], int]
    size: Callable[[Entry], int]
    fetched: Callable[[Entry], AbstractContextManager[Path]]
    one_by_one: bool = False


def on_disk(pattern: str, skip_unfinished: bool) -> Place:
    """Returns the checkpoints that a pattern finds (`patterns.find_checkpoints`).

    Args:
        pattern: a path with {run} and {step}.
        skip_unfinished: leave out those that are not there whole, with a warning.

    Raises:
        UserError: none matches, or some are not there whole.
    """
    return Place(
        _whole(find_checkpoints(pattern), skip_unfinished),
        lambda entry: fingerprint(entry.path),
        lambda entry: weight_bytes(entry.path),
        lambda entry: nullcontext(entry.path),
    )


@contextmanager
def first_fetched(place: Place) -> Iterator[tuple[Place, Path]]:
    """Gives a place and the path of its first checkpoint, which is fetched once.

    It stays until it is asked for and done with, or until another is: never are two there at once.
    """
    first = place.entries[0]
    with ExitStack() as held:
        path = held.enter_context(place.fetched(first))
        paths = {first: path}

        @contextmanager
        def fetched(entry: Entry) -> Iterator[Path]:
            kept = paths.pop(entry, None)  # at once: others may be fetched by other threads
            if kept is not None:
                try:
                    yield kept
                finally:
                    held.close()
                return
            paths.clear()
            held.close()
            with place.fetched(entry) as other:
                yield other

        yield place._replace(fetched=fetched), path


def _whole(entries: list[Entry], skip: bool) -> list[Entry]:
    """Returns the checkpoints that are there whole, before any is measured.

    Raises:
        UserError: some are not and `skip` is false, or none is.

    Warns:
        UserWarning: names those that are left out.
    """
    refused: dict[Entry, str] = {}
    for entry in entries:
        try:
            check_whole(entry.path)
        except UserError as error:
            refused[entry] = str(error)
    if not refused:
        return entries
    reasons = "; ".join([*refused.values()][:_NAMED]) + ("; ..." if len(refused) > _NAMED else "")
    what = f"{len(refused)} of {len(entries)} checkpoints are not whole: {reasons}"
    if not skip or len(refused) == len(entries):
        raise UserError(f"{what}; mend them, or leave them out with --skip-unfinished")
    warnings.warn(f"left out, {what}", stacklevel=4)
    return [entry for entry in entries if entry not in refused]
