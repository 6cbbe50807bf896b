"""Putting a run on the Hugging Face Hub: its model as safetensors, its configuration, and its card."""

from collections.abc import Mapping
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors as hub_errors

from equicli.errors import EquicliError, UsageError, reason
from equicli.prediction.hub import find_first
from equicli.prediction.load import REPOSITORY


def licence_of(provenance: Mapping[str, str]) -> str:
    """The licence that the base model's own card names.

    Raises:
        EquicliError: it has no repository, or the card cannot be had, or names none.
    """
    repository = provenance.get("repository")
    if repository is None:
        raise EquicliError("its weights are of no repository on the Hub. Add the licence to the card.")
    found = find_first(repository, ["README.md"], provenance.get("revision"))
    try:
        named = None if found is None else huggingface_hub.ModelCard.load(found[0]).data.get("license")
    except ValueError:  # its metadata may be no YAML
        named = None
    if not isinstance(named, str):
        raise EquicliError(f"the card of {repository} names none. Add it to the card.")
    return named


def check_name(repository: str) -> None:
    """
    Raises:
        UsageError: it is no name of a repository.
    """
    if not REPOSITORY.fullmatch(repository) or "@" in repository:
        raise UsageError(f"--push-to-hub {repository}: write it as owner/name.")


def push(repository: str, files: Mapping[str, Path | bytes], *, private: bool, overwrite: bool) -> str:
    """Upload files in one commit, into a repository that is made where there is none; returns the commit.

    Args:
        private: make it a private one. overwrite: it may exist.

    Raises:
        UsageError: the repository has files and may not be written, or is public and was to be private.
        EquicliError: the Hub refuses it or cannot be reached.
    """
    operations = [
        huggingface_hub.CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in files.items()
    ]
    api = huggingface_hub.HfApi(endpoint=huggingface_hub.constants.ENDPOINT)
    try:
        _open_repository(api, repository, private=private, overwrite=overwrite)
        done = api.create_commit(repository, operations, commit_message="Upload with equicli")
    except (hub_errors.HfHubHTTPError, hub_errors.LocalTokenNotFoundError) as error:
        status = _status(error)
        token = "HF_TOKEN must be a token that may write there" if status in (None, 401, 403) else "Try again"
        raise EquicliError(f"--push-to-hub {repository}: the Hub refuses it ({reason(error)}). {token}.") from error
    except (hub_errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # whichever client the Hub's uses
        raise EquicliError(
            f"--push-to-hub {repository}: the Hub cannot be reached ({reason(error)}). Connect, and try again."
        ) from error
    return done.oid


def _open_repository(api: huggingface_hub.HfApi, repository: str, *, private: bool, overwrite: bool) -> None:
    _check_private(api, repository, private=private and overwrite)
    try:
        api.create_repo(repository, private=private, exist_ok=overwrite)
    except hub_errors.HfHubHTTPError as error:
        if _status(error) != 409:
            raise
        if _files(api, repository) - {".gitattributes"}:  # else a push failed that had only made it
            raise UsageError(f"--push-to-hub {repository}: exists; name another or add --overwrite.") from error
        _check_private(api, repository, private=private)


def _check_private(api: huggingface_hub.HfApi, repository: str, *, private: bool) -> None:
    if private and _is_public(api, repository):
        raise UsageError(f"--private: {repository} is public already; leave it out, or name another repository.")


def _is_public(api: huggingface_hub.HfApi, repository: str) -> bool:
    try:
        return not api.model_info(repository).private
    except hub_errors.RepositoryNotFoundError:
        return False


def _files(api: huggingface_hub.HfApi, repository: str) -> set[str]:
    return {file.rfilename for file in api.model_info(repository).siblings or ()}


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)
