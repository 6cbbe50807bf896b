"""Files from the Hugging Face Hub, with the commit they came from. HF_HOME, HF_ENDPOINT and HF_TOKEN are honoured."""

from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import logging as hub_logging

from equicli.errors import EquicliError, UsageError, reason
from equicli.prediction.checkpoint_files import INDEX, find_in_folder, parts_of
from equicli.prediction.reachable import offline_where_silent

ON_THE_HUB = "hf-hub:"


def split_revision(name: str) -> tuple[str, str | None]:
    """Split `owner/name@revision`; the revision is None where none is given."""
    repository, _, revision = name.partition("@")
    return repository, revision or None


def open_checkpoint(name: str) -> tuple[Path, str]:
    """Return the file of weights that `--checkpoint` names, and how a run records it: by its name, or by its commit.

    Args:
        name: a local file, the index of several, a folder of these, or `hf-hub:owner/name[@revision]/file`, which is
            fetched.

    Raises:
        UsageError: no such file.
        EquicliError: the Hub's file cannot be had, or a folder holds no weights.
    """
    if not name.startswith(ON_THE_HUB):
        path = Path(name)
        if path.is_dir():
            found = find_in_folder(path)
            if found is None:
                raise UsageError(f"--checkpoint {name}: no such file of weights: a folder with none in it.")
            path = found
        if not path.is_file():
            raise UsageError(f"--checkpoint {name}: no such file.")
        return path, path.name
    owner, _, rest = name.removeprefix(ON_THE_HUB).partition("/")
    repository, _, filename = rest.partition("/")
    if not owner or not repository or not filename or ".." in filename.split("/"):  # which would leave the cache
        raise UsageError(f"--checkpoint {name}: write it as hf-hub:owner/name[@revision]/file.")
    repository, revision = split_revision(f"{owner}/{repository}")
    path, commit = download(repository, filename, revision)
    return path, f"{ON_THE_HUB}{repository}@{commit}/{filename}"


def download(repository: str, filename: str, revision: str | None) -> tuple[Path, str]:
    """Return a file of a repository, from the local cache or the Hub, and the commit that it belongs to.

    Raises:
        EquicliError: no such repository, revision or file; no permission; offline and not cached.
    """
    return download_first(repository, [filename], revision)


def download_first(
    repository: str, filenames: Sequence[str], revision: str | None, source: str = "hf-hub"
) -> tuple[Path, str]:
    """Like `download`, for the first of several names that the repository has."""
    found = find_first(repository, filenames, revision, source)
    if found is None:
        raise EquicliError(
            f"{_name(repository, revision, source)}: no {' or '.join(n for n in filenames if not n.endswith(INDEX))} "
            f"in this repository. Name another{_or_a_file(filenames)}."
        )
    return found


def find_first(
    repository: str, filenames: Sequence[str], revision: str | None, source: str = "hf-hub"
) -> tuple[Path, str] | None:
    """Like `download_first`; None where the repository has none of these files. With an index come all its parts.

    Args:
        source: what stands before the repository's name in errors, as the user wrote it.
    """
    name = _name(repository, revision, source)
    if revision is not None and ".." in revision.split("/"):  # would be cached outside the cache
        raise EquicliError(f"{name}: no such revision. Name a branch, tag or commit of the repository.")
    hub_logging.set_verbosity_error()  # its warnings of retries are said again, in one line, below
    try:
        with offline_where_silent():
            for filename in filenames:
                try:
                    path = _fetch(repository, filename, revision)
                except hub_errors.LocalEntryNotFoundError:
                    # Offline: known not to be there, or not known?
                    cached = huggingface_hub.try_to_load_from_cache(repository, filename, revision=revision)
                    if cached is not huggingface_hub._CACHED_NO_EXIST:
                        raise
                    continue
                except hub_errors.EntryNotFoundError:
                    continue
                # <cache>/models--owner--name/snapshots/<commit>/<file>
                commit = path.parents[filename.count("/")].name
                if filename.endswith(INDEX):
                    for part in parts_of(path, f"{name}, {filename}"):
                        _fetch(repository, filename.removesuffix(path.name) + part, commit)
                return path, commit
    except hub_errors.GatedRepoError:
        message = "access to it is restricted. Ask for access on its page, then set HF_TOKEN."
    except hub_errors.RevisionNotFoundError:
        message = "no such revision. Name a branch, tag or commit of the repository."
    except hub_errors.RepositoryNotFoundError:
        message = "no such repository, or a private one. Check the name; for a private one set HF_TOKEN."
    except hub_errors.LocalEntryNotFoundError:
        message = f"not in the local cache, and the Hub cannot be reached. Connect once{_or_a_file(filenames)}."
    except hub_errors.HFValidationError:
        message = "not a repository's name; write owner/name."
    except (hub_errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # whichever client the Hub's uses
        if getattr(getattr(error, "response", None), "status_code", None) == 401:
            message = "the Hub does not know your token. Renew HF_TOKEN, or unset it."
        else:
            message = f"the Hub cannot be reached ({reason(error)}). Try again{_or_a_file(filenames)}."
    else:
        return None
    raise EquicliError(f"{name}: {message}")


def _fetch(repository: str, filename: str, revision: str | None) -> Path:
    return Path(huggingface_hub.hf_hub_download(repository, filename, revision=revision))


def _or_a_file(filenames: Sequence[str]) -> str:
    """What else gives what these files would: a file of weights does not say of which network they are."""
    if any(name.endswith((".safetensors", ".bin")) for name in filenames):
        return ", or give --checkpoint FILE"
    if "config.json" not in filenames:
        return ""
    return ", or name a local copy: transformers:FOLDER, or a network of timm's with --checkpoint FILE"


def _name(repository: str, revision: str | None, source: str) -> str:
    return (f"{source}:" if source else "") + repository + (f"@{revision}" if revision else "")
