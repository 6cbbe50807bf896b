"""From systems, seeds, settings and a sweep to the configuration of every run."""

from collections.abc import Mapping, Sequence
from typing import Any

from equicli.canonicalization.registry import kinds_for
from equicli.comparison.systems import ORACLE, Part, recipe_of
from equicli.config import refuse_code, resolve
from equicli.errors import UsageError
from equicli.groups import Group, is_finite, parse_group
from equicli.recipes import load_recipe, parse_pair
from equicli.tree import START_FROM, Tree, default_group, merge

# What makes a system is its own choice, whatever all share.
_FIXED = ("training.train_base", "training.augment", "policy.kind", "policy.of", "policy.passes", START_FROM)
# These, too, unless they are named on the command line.
_OWN = (
    *_FIXED,
    *(f"training.{key}" for key in "prior_weight contrast_weight artifact_weight task_weight crop".split()),
)
# What would make rows that cannot be compared: sections and keys.
_NOT_SWEPT = "data value_range max_pixels split seed group padding prior network task evaluation".split()


class _System:
    """A system's recipe, and that over what all share.

    learns: whether anything is trained; else seeds and swept settings change nothing.
    """

    def __init__(self, name: str, shared: Tree, group: Group) -> None:
        self.name = name
        self.own = recipe_of(name)
        self.kind = kinds_for(group)[self.own.get("canonicalizer.kind")]
        self.trains_base = bool(self.own.get("training.train_base"))
        self.learns = self.kind.learns or self.trains_base
        if not self.kind.learns or self.trains_base or self.own.get("training.task_weight"):
            shared = Tree(tuple(given for given in shared.given if given.key != "upright"))  # it has no use for these
        self.tree = merge(shared, flags=self.own)

    def refusal(self, text: str, tree: Tree) -> str | None:
        """Why it cannot be run with the setting `key=value`, and thus with the whole tree; None if it can."""
        keys = {given.key for given in merge(None, [text]).given}
        fixed = {*_FIXED, *(given.key for given in self.own.given)}
        if self.own.get("training.prior_weight"):
            fixed -= {"training.prior_weight"}  # of 0 there is no other: it makes the system
        if fixed & keys:
            return "its own recipe says that"
        if "training.prior_weight" in keys and not self.kind.finds_poses:
            return "it finds no poses"
        if "training.base_learning_rate" in keys and not self.trains_base:
            return "no network is trained"
        if "training.learning_rate" in keys and not self.kind.learns:
            return "no canonicalizer is trained"
        try:
            resolve(tree)
        except UsageError as error:
            return str(error).removesuffix(".")
        return None


def _exists(name: str, group: Group) -> bool:
    """Whether there is a system for a group: its canonicalizer takes it, and compares poses where it averages them."""
    own = recipe_of(name)
    kind = kinds_for(group).get(own.get("canonicalizer.kind"))
    settings = {
        given.key.removeprefix("canonicalizer.") for given in own.given if given.key.startswith("canonicalizer.")
    }
    if kind is None or not kind.takes(group) or not settings <= set(kind.Settings.model_fields):
        return False
    return own.get("policy.kind") != "mean" or is_finite(group) or kind.ranks(group) > 0


def plan(
    systems: Sequence[str],
    seeds: int,
    flags: Mapping[str, Any],
    settings: Sequence[str],
    recipe: str | None,
    sweep: str | None = None,
) -> tuple[list[Part], list[str]]:
    """Configure every run of a comparison.

    Args:
        systems: what `parse_systems` returned.
        flags, settings, recipe: see `config.merge`. They change nothing that a system's own recipe says, a setting
            reaches the systems that take it, and of the recipe the weights of losses and crops are left out.
        sweep: `key=value,value,…`, each of which makes every system anew that trains something and takes it.

    Returns:
        The runs, the network alone first; and a line on each thing that is left out.

    Raises:
        UsageError: a setting is wrong, or no system takes it.
    """
    base = merge(load_recipe(recipe) if recipe else None)
    refuse_code(base, merge(None, settings, flags), f"--recipe {recipe}")
    told = merge(base, settings, flags).values
    group = parse_group(str(told.get("group", default_group(told))))
    if not is_finite(group) and group.dimension != 3:
        raise UsageError(f"--group {group.name}: systems are compared for a finite group, such as c8.")
    for text in settings:
        for key, flag in (("data", "DATA"), ("group", "--group"), ("seed", "--seeds")):
            if merge(None, [text]).get(key) is not None:
                raise UsageError(f"--set {text}: use {flag}, which is the same for all.")
    variants = _read_sweep(sweep)
    # Whatever the seed of a run, all share the split.
    shared = merge(
        Tree(tuple(given for given in base.given if given.key not in _OWN)),
        flags={"split.seed": base.get("split.seed") or 0},
    )
    # By setting and system, why that does not take it, or None.
    refusals: dict[str, dict[str, str | None]] = {text: {} for text in (*settings, *variants)}

    def takes(system: _System, text: str, tree: Tree) -> bool:
        refusals[text][system.name] = system.refusal(text, tree)
        return refusals[text][system.name] is None

    trained = [name for name in systems if name != ORACLE]
    present = [_System(name, shared, group) for name in trained if _exists(name, group)]
    parts: list[Part] = []
    for system in present:
        taken: list[str] = []
        for text in settings:
            if takes(system, text, merge(system.tree, [*taken, text], flags)):
                taken.append(text)
        tree = merge(system.tree, taken, flags)
        swept = [text for text in variants if system.learns and takes(system, text, merge(tree, [text]))]
        choices: list[tuple[str, ...]] = [(text,) for text in swept] or [()]
        for chosen in choices:
            for seed in range(seeds if system.learns else 1):
                parts.append(Part(system.name, chosen, resolve(merge(tree, chosen, {"seed": seed}))))
    for text, of in refusals.items():
        if None not in of.values():
            why = next(reversed(of.values()), None) or "none is trained"
            raise UsageError(f"{text}: no system compared can be run with it ({why}).")
    dropped = [given.written for given in base.given if given.key in _OWN]
    notes = [f"left out of --recipe, as systems have their own: {', '.join(dropped)}"] if dropped else []
    notes += _tell_swept(parts, {text: refusals[text] for text in variants})
    if absent := [name for name in trained if name not in {system.name for system in present}]:
        notes.append(f"left out, as there is none for this group: {', '.join(absent)}")
    return parts, notes


def _tell_swept(parts: Sequence[Part], refusals: Mapping[str, Mapping[str, str | None]]) -> list[str]:
    """A line on each value that a swept system is not run with, and one on the systems that are not swept."""
    swept = {part.system for part in parts if part.settings}
    whole = dict.fromkeys(part.system for part in parts if part.system not in swept)
    lines = [
        f"{name} is not run with {text}: {why}"
        for text, of in refusals.items()
        for name, why in of.items()
        if why is not None and name in swept
    ]
    return lines + ([f"not swept: {', '.join(whole)}"] if refusals else [])


def _read_sweep(sweep: str | None) -> list[str]:
    """Each `key=value` that a sweep runs."""
    if sweep is None:
        return []
    key, _ = parse_pair(sweep, "--sweep")
    values = [value.strip() for value in sweep.partition("=")[2].split(",")]
    if "" in values:
        raise UsageError(f"--sweep {sweep}: a value is empty; separate values by one comma.")
    texts = [f"{key}={value}" for value in values]
    if any(given.key.partition(".")[0] in _NOT_SWEPT for given in merge(None, texts).given):
        raise UsageError(f"--sweep {sweep}: '{key}' is the same for all that is compared.")
    return texts
