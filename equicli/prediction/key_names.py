"""Which names in a file are those of a network, under prefixes that trainers and wrappers put before and between."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from equicli.prediction.state_dicts import is_averaged

# What DataParallel, torch.compile, FSDP and checkpointing put into names, before them or in the middle.
_WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"))
# Of several places that hold the whole network, the first that is one of these.
_KNOWN = ("", "model.", "net.", "network.", "backbone.", "encoder.", "student.")
# What networks and their trainers keep beside the weights, and inference never needs.
_HARMLESS = re.compile(
    r"(?i)(^|\.)(num_batches_tracked|position_ids|relative_position_index|relative_coords_table|attn_mask|n_averaged"
    r"|total_ops|total_params|_extra_state|inv_freq)$"
    r"|(^|[._])(loss(es)?|criteri(on|a)|metrics?|accuracy|acc|auroc|f1|confmat|confusion_matrix)(_\w+|\d+)?(\.|$)"
    r"|^\w*_?(loss|metrics?|acc|accuracy)(_\w+)?\."
    r"|^(\w+_)?(class|pos|loss)_weights?$"
)
# torchvision's published DenseNets have norm.1 where its networks have norm1.
_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")


@dataclass(frozen=True)
class Fit:
    """How the names in a file are taken for those of a network.

    names: of each of the network's entries that the file has, its name there.
    prefix: what was taken off before them; it ends in a dot, or is empty.
    wrapped: wrappers that were taken out of the middle.
    beside: names outside the prefix. unexpected: those within it that the network does not have.
    """

    names: Mapping[str, str]
    prefix: str
    wrapped: tuple[str, ...]
    beside: tuple[str, ...]
    unexpected: tuple[str, ...]

    @property
    def averaged(self) -> bool:
        return is_averaged(self.prefix)


def find_fits(own: Collection[str], keys: Collection[str]) -> list[Fit]:
    """Return the ways to take a file's names for a network's that give it the most entries, the most usual first."""
    fits = _find(own, keys)
    shared = next(iter(own), "").partition(".")[0] + "."
    if not fits[0].names and all(key.startswith(shared) for key in own):  # the network is in a wrapper, the file's not
        inner = _find([key.removeprefix(shared) for key in own], keys)
        return [replace(fit, names={shared + key: there for key, there in fit.names.items()}) for fit in inner]
    return fits


def _find(own: Collection[str], keys: Collection[str]) -> list[Fit]:
    needed = [key for key in own if not key.endswith("num_batches_tracked")] or list(own)
    parts = {part for key in own for part in key.split(".")}
    wrappers = _WRAPPERS - parts
    plain = {_without(key, wrappers): key for key in keys}
    if len(plain) < len(keys):  # the same name with and without a wrapper
        plain, wrappers = {key: key for key in keys}, frozenset()
    # The longest names are found in the fewest places.
    sought = sorted(needed, key=lambda key: (key.count("."), len(key)))[-3:]
    prefixes = {key.removesuffix(s) for key in plain for s in sought if f".{key}".endswith(f".{s}")} or {""}
    hits = {prefix: sum(prefix + key in plain for key in needed) for prefix in prefixes}
    best = [prefix for prefix in prefixes if hits[prefix] == max(hits.values())]
    best.sort(key=lambda prefix: (_KNOWN.index(prefix) if prefix in _KNOWN else len(_KNOWN), len(prefix), prefix))
    return [_fit(own, plain, prefix, wrappers) for prefix in best]


def harmless(key: str) -> bool:
    """Whether an entry that a network does not have can be left aside: nothing that it says depends on it."""
    return _HARMLESS.search(key) is not None


def _fit(own: Collection[str], plain: Mapping[str, str], prefix: str, wrappers: frozenset[str]) -> Fit:
    names = {key: plain[prefix + key] for key in own if prefix + key in plain}
    within = [key for key in plain if key.startswith(prefix)]
    used = {prefix + key for key in names}
    example = next(iter(names.values()), "")
    leading = example[: -len(next(iter(names), ""))] if names and example.endswith(next(iter(names))) else prefix
    middle = {part for file_key in names.values() for part in file_key.removeprefix(leading).split(".")} & wrappers
    return Fit(
        names,
        leading,
        tuple(sorted(middle)),
        tuple(original for key, original in plain.items() if not key.startswith(prefix)),
        tuple(plain[key] for key in within if key not in used),
    )


def _without(key: str, wrappers: frozenset[str]) -> str:
    """A name without wrappers; those of torchvision's first DenseNets by today's."""
    return _DENSENET.sub(r"\1\2", ".".join(part for part in key.split(".") if part not in wrappers))
