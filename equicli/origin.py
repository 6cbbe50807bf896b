"""A canonicalizer that exists, to be attached to another network or trained further: what `--start-from` names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equicli import artifact
from equicli.canonicalization.canonicalizer import Canonicalizer
from equicli.canonicalization.prior import Prior
from equicli.canonicalization.registry import kinds_for
from equicli.claims import find_artifact
from equicli.errors import EquicliError, UsageError
from equicli.groups import Group, is_finite, parse_group
from equicli.groups.labels import read_label
from equicli.model_config import ModelConfig
from equicli.prediction.checkpoint_files import sha256_of
from equicli.prediction.hub import ON_THE_HUB, open_checkpoint
from equicli.recipes import expand_origin
from equicli.tree import START_FROM, Given, Tree

_FORMS = "Name a run folder, an exported .safetensors file, or owner/name on the Hub."


@dataclass(frozen=True)
class Origin:
    """An artifact, of which nothing but the canonicalizer is taken: an adapter has that, too.

    path: the file, or the copy of its canonicalizer that a run keeps. name: how it is recorded: by the name of the run
    or file, or on the Hub by its commit. sha256: of the whole file.
    """

    path: Path
    name: str
    sha256: str

    @property
    def trained_for(self) -> Group:
        """The group whose elements it has learned to tell apart."""
        return parse_group(_trained_for(artifact.read_config(self.path)))

    def load(self, group: Group, look: Mapping[str, int | None] | None = None) -> Canonicalizer:
        """Load the canonicalizer for a group that it serves; see `artifact.load_canonicalizer`."""
        return artifact.load_canonicalizer(self.path, group, look)

    def found(self, group: Group, prior: Prior) -> dict[str, Any]:
        """What its artifact tells of the share of validation images that it found, where the question is the same."""
        config = artifact.read_config(self.path)
        if (config.group, config.prior) != (group.name, prior):
            return {}
        return {"identity_rate": config.identity_rate, "identity_rate_of": config.identity_rate_of}

    def pictures_seen(self) -> frozenset[bytes] | None:
        """Fingerprints of the pictures that it was trained on; None where the file has none."""
        return artifact.read_pictures_seen(self.path)

    def remarks(self, group: Group, look: Mapping[str, int | None] | None = None) -> list[str]:
        """A line on what this is, one on each size that is another, and one on poses that it never learned."""
        trained, own = self.trained_for, artifact.read_config(self.path).canonicalizer.spec
        look = look or {}
        size, glance = (look.get(name) for name in ("size", "glance"))
        lines = [f"canonicalizer: that of {self.name} (sha256 {self.sha256[:12]}…), trained for {trained.name}"]
        if size not in (None, own.get("size")):
            lines.append(f"it looks at {size} pixels, and was trained at {own.get('size')}; look at the identity rate")
        if glance not in (None, own.get("glance")):
            lines.append(f"it looks at {glance} pixels first; look at the identity rate")
        if "glance" in look and glance is None and own.get("glance"):
            lines.append(f"it looks once, without its first look at {own['glance']} pixels")
        if not (is_finite(trained) and is_finite(group)):
            return lines
        new = [label for label in map(group.label, range(group.order)) if read_label(trained, label) is None]
        what = None
        if new:
            what = f"nothing was trained on poses that {trained.name} has not, such as {new[0]}"
        elif trained.exact != group.exact:
            what = f"for {trained.name} it was shown the central discs of images, and for {group.name} it is shown all"
        if what is not None:
            lines.append(f"mind: {what}; look at the identity rate, and train it further where that is low")
        return lines

    def source(self, group: Group, epochs: int) -> Mapping[str, str]:
        """How an artifact for this group, trained further for so many epochs, records it."""
        trained_for = group.name if epochs else self.trained_for.name
        return {"name": self.name, "sha256": self.sha256, "trained_for": trained_for}


def find_origin(name: str) -> Origin:
    """Find the artifact that `--start-from` names, on the Hub where it is not here.

    Raises:
        UsageError: no such run or file. EquicliError: the Hub's cannot be had.
    """
    path, recorded = _locate(name)
    return Origin(path, recorded, sha256_of(path))


def with_origin(tree: Tree) -> Tree:
    """Add what a canonicalizer to start from decides, where one is named: its kind, and unless another is wanted the
    group.

    Raises:
        UsageError: it cannot be found, is of another kind than is wanted, or not for the group that is; or what it
            brings is set beside it.
        EquicliError: it cannot be had or is no artifact.
    """
    name = tree.get(START_FROM)
    if not isinstance(name, str) or not name:
        return tree  # `resolve` says what is wrong
    path, _ = _locate(name)
    try:
        config = artifact.read_config(path)
    except EquicliError as error:
        hint = "; weights of a network are for --canonicalizer-checkpoint. " if "only weights" in str(error) else ". "
        raise type(error)(f"--start-from {str(error).replace('. ', hint, 1)}") from error
    kind, wanted = config.canonicalizer.kind, tree.get("canonicalizer.kind")
    trained = parse_group(_trained_for(config))
    of = kinds_for(trained)[kind]
    free = ("canonicalizer.kind", *(["canonicalizer.size", "canonicalizer.glance"] if of.takes_any_size else []))
    said = [given for given in tree.given if given.key.startswith("canonicalizer.") and given.value is not None]
    own = next((given for given in said if given.key not in free), None)
    if own is not None:
        raise UsageError(f"{own.written}: comes from --start-from {name}; leave it out.")
    if wanted not in (None, kind):
        raise UsageError(f"--canonicalizer {wanted}: --start-from {name} holds {kind}; leave --canonicalizer out.")
    glance, size = (
        tree.get("canonicalizer.glance"),
        tree.get("canonicalizer.size") or config.canonicalizer.spec.get("size"),
    )
    if isinstance(glance, int) and isinstance(size, int) and glance and not 8 <= glance < size:
        raise UsageError(f"canonicalizer.glance = {glance}: must be from 8 to {size - 1}, or 0 for none.")
    group = tree.get("group") or config.group
    if not of.serves(trained, parse_group(str(group))):
        raise UsageError(
            f"--group {group}: --start-from {name} holds {kind} for {_trained_for(config)}, which cannot serve that "
            "group; leave --group out, or --start-from."
        )
    return Tree((Given("group", group, "group"), Given("canonicalizer.kind", kind, "canonicalizer.kind"), *tree.given))


def _locate(name: str) -> tuple[Path, str]:
    """The artifact's file, and how it is recorded."""
    place = expand_origin(name)
    try:
        if place.startswith(ON_THE_HUB):
            # A repository that a run folder was uploaded to has the run's own name for it.
            return open_checkpoint(place if place.count("/") > 1 else f"{place}/model.safetensors")
        path, run = find_artifact(place)
    except EquicliError as error:
        message = str(error).replace("--checkpoint", "--start-from").removeprefix("--start-from ")
        message = message.replace("RUN is a run folder or an exported .safetensors file.", _FORMS)
        raise type(error)(f"--start-from {message}") from error
    return path, run.folder.resolve().name if run else path.name


def _trained_for(config: ModelConfig) -> str:
    return config.canonicalizer.source.get("trained_for", config.group)
