"""What people write as settings, each key as it was written: layers of it, merged into one tree of plain values."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from equicli.errors import UsageError
from equicli.groups import is_finite, parse_group
from equicli.recipes import parse_pair
from equicli.settings import (
    CanonicalizerSettings,
    EvaluationSettings,
    NetworkSettings,
    PolicySettings,
    Settings,
    SplitSettings,
    TaskSettings,
    TrainingSettings,
)
from equicli.tasks.registry import TASKS, default_task

SECTIONS: dict[str, type[Settings]] = {
    "network": NetworkSettings,
    "task": TaskSettings,
    "canonicalizer": CanonicalizerSettings,
    "policy": PolicySettings,
    "training": TrainingSettings,
    "split": SplitSettings,
    "evaluation": EvaluationSettings,
}
# Those that have a kind, whose further keys are the kind's own affair.
KINDS = tuple(name for name, model in SECTIONS.items() if "kind" in model.model_fields)
# The setting that names a canonicalizer to start from.
START_FROM = "start_from"
# Whose keys have no short names: they would be taken for the prediction network's.
_WHOLE = ("canonicalizer", "policy")
# `seed` is the run's.
_RENAMED = {"split.seed": "split_seed"}


@dataclass(frozen=True)
class Given:
    """One setting that somebody wrote.

    key: its whole name, such as `training.epochs` or `network.model_args.num_classes`.
    written: the name that was used, such as `epochs`.
    """

    key: str
    value: Any
    written: str


@dataclass(frozen=True)
class Tree:
    """Settings in the order in which they were given: of two for one key the later counts."""

    given: tuple[Given, ...]

    @property
    def values(self) -> dict[str, Any]:
        """Plain values by section and key."""
        tree: dict[str, Any] = {}
        for given in self.given:
            *parents, leaf = given.key.split(".")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
                if not isinstance(node, dict):
                    raise UsageError(f"{given.written}: '{parent}' holds a value, not further keys.")
            node[leaf] = copy.deepcopy(given.value)
        return tree

    def get(self, key: str) -> Any:
        """What was given for a key; None where nothing was."""
        return next((given.value for given in reversed(self.given) if given.key == key), None)

    def name(self, key: str) -> str:
        """How a key was written; one that was not, as it can be."""
        for given in reversed(self.given):
            if f"{key}.".startswith(f"{given.key}."):
                return given.written + key.removeprefix(given.key)
        return short_name(key)


def merge(
    recipe: Mapping[str, Any] | Tree | None,
    settings: Sequence[str] = (),
    flags: Mapping[str, Any] | Tree | None = None,
) -> Tree:
    """Lay flags over `--set` pairs and these over a recipe.

    Whoever chooses another kind (of canonicalizer, task or policy) than the recipe leaves out what the recipe sets for
    its own; so does whoever names a canonicalizer to start from, which brings its own settings.

    Args:
        recipe: what `load_recipe` read, or what an earlier call returned.
        settings: `key=value` texts, values as in YAML.
        flags: by key; a value of None means not given.

    Keys are dotted, or nested in mappings. Where only one section has a key, it may be written without the section
    (but for canonicalizer and policy). The name of a section with a text stands for its kind.

    Raises:
        UsageError: a key is given two values in one layer, or a section a value of its own.
    """
    chosen = flags if isinstance(flags, Tree) else {k: v for k, v in (flags or {}).items() if v is not None}
    own = _read(recipe or {})
    over = (*_read(parse_pair(text, "--set") for text in settings), *_read(chosen))
    before, after = Tree(own).values, Tree((*own, *over)).values
    changed = {name for name in KINDS if kind_of(name, before) != kind_of(name, after)}
    changed |= {"canonicalizer"} if Tree(over).get(START_FROM) is not None else set()
    return Tree((*(given for given in own if given.key.partition(".")[0] not in changed), *over))


def short_name(key: str) -> str:
    """The shortest way to write a key."""
    for short, whole in short_names().items():
        if f"{key}.".startswith(f"{whole}."):
            return short + key.removeprefix(whole)
    return key


def by_short_name(values: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of a recipe by the shortest way to write its key."""
    return {short_name(given.key): given.value for given in _read(values)}


def short_names() -> dict[str, str]:
    """The keys that may be written without their section, and what they stand for."""
    models: dict[str, Iterable[type[Settings]]] = {name: (model,) for name, model in SECTIONS.items()}
    models["task"] = (task.Settings for task in TASKS.values())
    owners: dict[str, set[str]] = {}
    for section, of in models.items():
        for leaf in {leaf for model in of for leaf in model.model_fields if section not in _WHOLE and leaf != "kind"}:
            whole = f"{section}.{leaf}"
            owners.setdefault(_RENAMED.get(whole, leaf), set()).add(whole)
    return {short: whole.pop() for short, whole in owners.items() if len(whole) == 1}


def _read(layer: Mapping[str, Any] | Tree | Iterable[tuple[str, Any]]) -> tuple[Given, ...]:
    """What one layer says, each key once."""
    if isinstance(layer, Tree):
        return layer.given
    found: dict[str, Given] = {}
    short = short_names()
    for key, value in layer.items() if isinstance(layer, Mapping) else layer:
        for given in _spread(str(key), value, short):
            other = found.get(given.key, given)
            if other.written != given.written and other.value != given.value:
                raise UsageError(
                    f"{other.written} = {other.value!r} and {given.written} = {given.value!r} are one setting; "
                    "give one of them."
                )
            found[given.key] = given
    return tuple(found.values())


def _spread(written: str, value: Any, short: Mapping[str, str]) -> Iterator[Given]:
    """A key and its value; of a section, those in it."""
    head = written.partition(".")[0]
    if written not in SECTIONS:
        yield Given(short.get(head, head) + written.removeprefix(head), value, written)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield Given(f"{written}.{key}", inner, f"{written}.{key}")
    elif isinstance(value, str) and written in KINDS:
        yield Given(f"{written}.kind", value, written)
    else:
        example = next(iter(SECTIONS[written].model_fields))
        raise UsageError(f"{written} = {value!r}: holds further keys, such as {written}.{example}.")


def kind_of(section: str, values: Mapping[str, Any]) -> str:
    """The kind that was chosen for one of KINDS, or its default; of a policy, where that can be done."""
    chosen = values.get(section, {})
    if "kind" in chosen:
        return str(chosen["kind"])
    if section == "canonicalizer":
        return "consensus" if is_finite(parse_group(str(values.get("group", "c4")))) else "steerable"
    return default_task(values.get("network", {}).get("model")) if section == "task" else "gate"
