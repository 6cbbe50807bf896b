"""Files from the Hugging Face Hub, with the commit they came from. HF_HOME, HF_ENDPOINT and HF_TOKEN are honoured."""

from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors as hub_errors

from equicli.errors import EquicliError


def split_revision(name: str) -> tuple[str, str | None]:
    """Split `owner/name@revision`; the revision is None where none is given."""
    repository, _, revision = name.partition("@")
    return repository, revision or None


def download(repository: str, filename: str, revision: str | None) -> tuple[Path, str]:
    """Return a file of a repository, from the local cache or the Hub, and the commit that it belongs to.

    Raises:
        EquicliError: no such repository, revision or file; no permission; offline and not cached.
    """
    return download_first(repository, [filename], revision)


def download_first(repository: str, filenames: Sequence[str], revision: str | None) -> tuple[Path, str]:
    """Like `download`, for the first of several names that the repository has."""
    name = f"hf-hub:{repository}" + (f"@{revision}" if revision else "")
    try:
        for filename in filenames:
            try:
                path = Path(huggingface_hub.hf_hub_download(repository, filename, revision=revision))
            except hub_errors.LocalEntryNotFoundError:
                raise
            except hub_errors.EntryNotFoundError:
                continue
            # <cache>/models--owner--name/snapshots/<commit>/<file>
            return path, path.parent.name
    except hub_errors.GatedRepoError:
        message = "access to it is restricted. Ask for access on its page, then set HF_TOKEN."
    except hub_errors.RevisionNotFoundError:
        message = "no such revision. Name a branch, tag or commit of the repository."
    except hub_errors.RepositoryNotFoundError:
        message = "no such repository, or a private one. Check the name; for a private one set HF_TOKEN."
    except hub_errors.LocalEntryNotFoundError:
        message = "not in the local cache, and the Hub cannot be reached. Connect once, or give --checkpoint FILE."
    except hub_errors.HFValidationError:
        message = "not a repository's name; write owner/name."
    except (hub_errors.HfHubHTTPError, OSError) as error:
        message = f"the Hub cannot be reached ({str(error).splitlines()[0]}). Try again, or give --checkpoint FILE."
    else:
        message = f"none of {', '.join(filenames)} in this repository."
    raise EquicliError(f"{name}: {message}")
