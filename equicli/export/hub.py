"""Putting a run on the Hugging Face Hub: its model as safetensors, its configuration, and its card."""

from collections.abc import Mapping
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors as hub_errors

from equicli.errors import EquicliError, UsageError, reason
from equicli.prediction.hub import find_first
from equicli.prediction.load import REPOSITORY


def licence_of(provenance: Mapping[str, str]) -> str | None:
    """The licence that the base model's own card names; None where it has no repository, or says nothing."""
    repository = provenance.get("repository")
    if repository is None:
        return None
    try:
        found = find_first(repository, ["README.md"], provenance.get("revision"))
        card = None if found is None else huggingface_hub.ModelCard.load(found[0])
    except (EquicliError, ValueError):  # its metadata may be no YAML
        return None
    named = None if card is None else card.data.get("license")
    return named if isinstance(named, str) else None


def check_name(repository: str) -> None:
    """
    Raises:
        UsageError: it is no name of a repository.
    """
    if not REPOSITORY.fullmatch(repository) or "@" in repository:
        raise UsageError(f"--push-to-hub {repository}: write it as owner/name.")


def push(repository: str, files: Mapping[str, Path | bytes], *, private: bool) -> str:
    """Upload files in one commit, into a repository that is made where there is none; returns the commit.

    Raises:
        EquicliError: the Hub refuses it or cannot be reached.
    """
    operations = [
        huggingface_hub.CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in files.items()
    ]
    api = huggingface_hub.HfApi(endpoint=huggingface_hub.constants.ENDPOINT)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.create_commit(repository, operations, commit_message="Upload with equicli")
    except (hub_errors.HfHubHTTPError, hub_errors.LocalTokenNotFoundError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        token = "HF_TOKEN must be a token that may write there" if status in (None, 401, 403) else "Try again"
        raise EquicliError(f"--push-to-hub {repository}: the Hub refuses it ({reason(error)}). {token}.") from error
    except (hub_errors.OfflineModeIsEnabled, OSError) as error:
        raise EquicliError(f"--push-to-hub {repository}: the Hub cannot be reached ({reason(error)}).") from error
    return done.oid
