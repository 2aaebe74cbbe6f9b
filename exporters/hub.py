"""Matcher directories on a model hub: upload, and download with every hash checked.

huggingface_hub transfers the files and goes on where a download broke off. Its servers are trusted with nothing: the
manifest names the files, and each is compared with it before the directory appears.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from flipkd_sdk.artifact.manifest import MANIFEST_FILE, checked_file, read_manifest
from flipkd_sdk.errors import HubError
from flipkd_sdk.exporters.directory.publishing import CARD_FILE, publishing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flipkd_sdk.artifact.manifest import Manifest


def push(directory: Path, repository: str, *, private: bool = False, revision: str | None = None) -> str:
    """Upload a matcher directory, whose files are checked first.

    Args:
        directory: the matcher directory.
        repository: name on the hub, such as ``organisation/model``; it is created if it does not exist.
        private: create it for its owner only.
        revision: branch; the main one by default.

    Returns:
        The address of the commit.

    Raises:
        MatcherDirectoryError: a file is missing, changed or malformed.
        HubError: the hub refuses the upload or cannot be reached.
    """
    from huggingface_hub import HfApi

    manifest = read_manifest(directory)
    names = [MANIFEST_FILE, CARD_FILE, *(checked_file(directory, entry).name for entry in manifest.files)]
    api = HfApi(library_name="flipkd-sdk")
    with _hub_errors(repository):
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=directory,
            allow_patterns=names,
            revision=revision,
            commit_message=f"Matcher of flipkd_sdk {manifest.sdk_version}, {manifest.created}",
        )
    return str(commit.commit_url)


def pull(repository: str, out: Path, *, revision: str | None = None, overwrite: bool = False) -> Manifest:
    """Download a matcher directory; it appears when every file is checked.

    Args:
        repository: name on the hub, such as ``organisation/model``.
        out: matcher directory to write.
        revision: branch, tag or commit; the main branch by default.
        overwrite: replace an existing matcher directory.

    Raises:
        MatcherDirectoryError: the repository has no matcher, or a file is not the one that the manifest names.
        HubError: the hub refuses the download or cannot be reached.
        OutputExistsError: ``out`` exists and may not be replaced.
        OSError: ``out`` cannot be written.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="flipkd-sdk")
    with publishing(out, overwrite=overwrite) as working:

        def fetch(name: str, commit: str | None) -> Path:
            with _hub_errors(repository):
                # Downloaded into the hub's cache, where the next attempt goes on.
                return Path(api.hf_hub_download(repository, name, revision=commit))

        first = fetch(MANIFEST_FILE, revision)
        # All files of one commit, even if another one is uploaded meanwhile.
        commit = first.parent.name
        shutil.copyfile(first, working / MANIFEST_FILE)
        manifest = read_manifest(working)
        for entry in manifest.files:
            shutil.copyfile(fetch(entry.file, commit), working / entry.file)
            checked_file(working, entry)
        with contextlib.suppress(HubError):
            shutil.copyfile(fetch(CARD_FILE, commit), working / CARD_FILE)
    return manifest


@contextlib.contextmanager
def _hub_errors(repository: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into a `HubError` of one line."""
    from huggingface_hub.errors import HFValidationError

    try:
        yield
    except HFValidationError as error:
        raise HubError(f"{repository!r} is no name of a repository; write organisation/model") from error
    except Exception as error:
        # Releases differ in the library whose errors of the network pass through.
        if not isinstance(error, OSError) and not type(error).__module__.startswith("httpx"):
            raise
        line = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
        remedy = "check the name, HF_TOKEN, HF_ENDPOINT and the network"
        raise HubError(f"{repository}: the hub does not answer as needed ({line}); {remedy}") from error
