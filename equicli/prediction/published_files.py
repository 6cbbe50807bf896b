"""A checkpoint's files as they are published: in a repository of the Hub, or in a local folder of the same layout."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from equicli.errors import EquicliError, UsageError, reason, shown
from equicli.prediction.checkpoint import Allowance, load_checkpoint, read_weights
from equicli.prediction.checkpoint_files import INDEX, WEIGHT_FILES, first_of, sha256_of
from equicli.prediction.hub import download_first, find_first, split_revision
from equicli.prediction.network import NetworkRequest

Network = TypeVar("Network", bound=nn.Module)


def read_json(path: Path, name: str) -> dict[str, Any]:
    """Read a JSON object. `name` is what an error calls the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EquicliError(f"{name}: not readable as JSON ({reason(error)}).") from None
    if not isinstance(content, dict):
        raise EquicliError(f"{name}: not a JSON object.")
    return content


def architecture_in(model: str) -> str:
    """The class that the `config.json` of a local folder names; nothing where there is none.

    Args:
        model: the name of a network, perhaps with its source.
    """
    source, _, name = model.partition(":")
    try:
        named = read_json(Path(name if source == "transformers" else model) / "config.json", "")["architectures"][0]
    except (EquicliError, KeyError, IndexError, TypeError):
        return ""
    return str(named)


def refuse_other_problems(config: Mapping[str, Any], name: str) -> None:
    """Refuse a configuration that says that the network is no classifier of one class an image."""
    inner = config.get("pretrained_cfg")
    said = config.get("problem_type") or (inner.get("problem_type") if isinstance(inner, dict) else None)
    if said not in (None, "single_label_classification"):
        what = {"multi_label_classification": "gives each image several labels", "regression": "returns numbers"}
        raise EquicliError(
            f"{name}: {what.get(str(said), 'is no classifier')} (problem_type {shown(said)}), which is not supported: "
            "each image has one class here. Name a checkpoint for one class an image."
        )


@dataclass(frozen=True)
class PublishedFiles:
    """Where a checkpoint's files are, and whether they are there.

    name: what errors call it; weights_are: under which word `PretrainedNetwork.provenance` records the weights' file.
    """

    name: str
    find: Callable[[Sequence[str]], Path | None]
    get: Callable[[Sequence[str]], Path]
    provenance: Mapping[str, str]
    weights_are: str


def open_files(request: NetworkRequest) -> PublishedFiles:
    folder = Path(request.name).expanduser()
    if request.name and request.revision is None and folder.is_dir():
        return _open_folder(folder)
    if request.name.startswith(("/", "./", "../", "~")):
        raise UsageError(f"--model transformers:{request.name}: no such folder.")
    repository, revision = split_revision(request.name)
    # All files are from the commit that the configuration came from.
    _, commit = download_first(repository, ["config.json"], request.revision or revision, "transformers")
    name = f"transformers:{repository}"

    def find(names: Sequence[str]) -> Path | None:
        found = find_first(repository, names, commit, "transformers")
        return found[0] if found else None

    return PublishedFiles(
        name,
        find,
        lambda names: download_first(repository, names, commit, "transformers")[0],
        {"model": name, "repository": repository, "revision": commit},
        "file",
    )


def _open_folder(folder: Path) -> PublishedFiles:
    """A folder is recorded by its name and its weights as the user's own file: others have no such path."""

    def get(names: Sequence[str]) -> Path:
        found = first_of(folder, names)
        if found is None:
            wanted = " or ".join(name for name in names if not name.endswith(INDEX))
            raise EquicliError(f"transformers:{folder}: no {wanted} in this folder.")
        return found

    return PublishedFiles(
        f"transformers:{folder}",
        lambda names: first_of(folder, names),
        get,
        {"model": f"transformers:{folder.resolve().name}"},
        "checkpoint",
    )


def build_published(
    files: PublishedFiles, request: NetworkRequest, make: Callable[[], Network]
) -> tuple[Network, dict[str, str]]:
    """Build a network and give it the published weights, where they are wanted; and say where these are from.

    Args:
        make: builds it with untrained weights.

    Raises:
        EquicliError: it cannot be built, or the weights are not for it.
    """
    path = files.get(WEIGHT_FILES) if request.pretrained else None
    weights = None if path is None else read_weights(path, f"{files.name}, {path.name}")
    try:
        with nullcontext() if weights is None else Allowance(weights):
            network = make()
    except EquicliError as error:
        raise EquicliError(f"{files.name}: {error}") from error
    provenance = dict(files.provenance)
    if path is not None and weights is not None:
        load_checkpoint(network, weights, f"{files.name}, {path.name}")
        provenance |= {files.weights_are: path.name, "sha256": sha256_of(path)}
    return network, provenance
