"""Checkpoints on the Hugging Face hub, by revision: one at a time is fetched, measured, deleted.

    place = on_the_hub("EleutherAI/pythia-14m-seed{run}", "step{step}")

Nothing is asked of the hub before this is called. Which hub, and by which token, is told as to
huggingface_hub itself (HF_ENDPOINT, HF_TOKEN).
"""

import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from seedmap.errors import UserError
from seedmap.experiments.checkpoints.formats import HUB_FILES, SAFETENSORS, TORCH
from seedmap.experiments.checkpoints.patterns import Entry, as_regex, in_order, parse_step
from seedmap.experiments.checkpoints.places import Place
from seedmap.hmm.readers.names import listed

MAIN = "main"
_SETTINGS = "config.json"


class _Revision(NamedTuple):
    """A revision of a repository."""

    repository: str
    commit: str


def on_the_hub(hub: str, revisions: str = MAIN) -> Place:
    """Returns the checkpoints that the hub has under some names.

    Args:
        hub: ORGANISATION/NAME of the repositories, with {run}, or with {step} too.
        revisions: of their branches and tags, with {step} where the names have none.

    Raises:
        UserError: a placeholder is missing, huggingface_hub is not installed, or the hub does not
            answer or has no such checkpoint.
    """
    _check_names(hub, revisions)
    api = _api()
    repositories = _repositories(api, hub)
    revision_of: dict[Entry, _Revision] = {}
    with _asking(hub):
        for repository, named in repositories.items():
            refs = api.list_repo_refs(repository)
            for ref in (*refs.branches, *refs.tags):
                match = as_regex(revisions).fullmatch(ref.name)
                if match is not None:
                    names = named | match.groupdict()
                    path = Path(f"{repository}@{ref.name}")
                    entry = Entry(names["run"], parse_step(names["step"]), path)
                    revision_of[entry] = _Revision(repository, ref.target_commit)
    if not revision_of:
        raise UserError(
            f"--hub: no revision of {listed(repositories)} is called {revisions!r}; name their "
            "branches by --revisions, as in 'step{step}'"
        )
    sizes: dict[str, int] = {}  # the checkpoints of a repository are of one network

    def size(entry: Entry) -> int:
        revision = revision_of[entry]
        if revision.repository not in sizes:
            sizes[revision.repository] = sum(_weights(api, revision).values())
        return sizes[revision.repository]

    return Place(
        in_order(list(revision_of)),
        lambda entry: zlib.crc32(revision_of[entry].commit.encode()),
        size,
        lambda entry: _fetched(api, revision_of[entry]),
        one_by_one=True,  # a suite of them would fill the disk
    )


def _check_names(hub: str, revisions: str) -> None:
    lacking = [name for name in ("{run}", "{step}") if name not in hub + revisions]
    organisation, slash, name = hub.partition("/")
    if lacking or not slash or "{" in organisation or "/" in name:
        raise UserError(
            f"--hub {hub!r} --revisions {revisions!r}: write ORGANISATION/NAME with {{run}} and "
            "{step} in the name or the revision, as in --hub 'EleutherAI/pythia-14m-seed{run}' "
            "--revisions 'step{step}'"
        )


def _api() -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UserError("--hub needs huggingface_hub; pip install 'seedmap[hub]'") from None
    return HfApi()


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Says in one line what the hub does not give.

    Broad on purpose: huggingface_hub raises errors of its HTTP client, which changed between its
    versions, and any of them means the same here.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # broad on purpose, see above
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--hub: the hub does not give {what} ({type(error).__name__}: {reason}); see to the "
            "name and the network, and continue with --resume"
        ) from None


def _repositories(api: Any, hub: str) -> dict[str, dict[str, str]]:
    """Finds the repositories of a name, with what stands for its placeholders."""
    if "{" not in hub:
        return {hub: {}}
    organisation, _, name = hub.partition("/")
    before = re.split(r"\{(?:run|step)\}", name)[0]
    with _asking(hub):
        ids = [model.id for model in api.list_models(author=organisation, search=before)]
    matches = {each: as_regex(hub).fullmatch(each) for each in sorted(ids)}
    repositories = {each: match.groupdict() for each, match in matches.items() if match is not None}
    if not repositories:
        raise UserError(f"--hub: the hub has no {hub!r}; of {organisation} it has {listed(ids)}")
    return repositories


def _weights(api: Any, revision: _Revision) -> dict[str, int]:
    """Returns the files of a revision that hold its weights, and their sizes."""
    with _asking(f"{revision.repository}@{revision.commit}"):
        info = api.model_info(revision.repository, revision=revision.commit, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings}
    first = next((name for name in HUB_FILES if name in sizes), None)
    if first is None:
        kinds = (*SAFETENSORS, *TORCH)
        return {name: of for name, of in sizes.items() if Path(name).suffix in kinds}
    if not first.endswith(".index.json"):
        return {first: sizes[first]}
    stem, suffix = first.removesuffix(".index.json").rsplit(".", 1)
    shards = {n: of for n, of in sizes.items() if n.startswith(f"{stem}-") and n.endswith(suffix)}
    return {first: sizes[first]} | shards


@contextmanager
def _fetched(api: Any, revision: _Revision) -> Iterator[Path]:
    """Gives a folder with a revision's weights, and deletes it afterwards."""
    with tempfile.TemporaryDirectory(prefix="seedmap-hub-") as folder:
        with _asking(f"{revision.repository}@{revision.commit}"):
            names = [*_weights(api, revision)]
            if api.file_exists(revision.repository, _SETTINGS, revision=revision.commit):
                names.append(_SETTINGS)
            for name in names:
                api.hf_hub_download(
                    revision.repository, name, revision=revision.commit, local_dir=folder
                )
        yield Path(folder)
