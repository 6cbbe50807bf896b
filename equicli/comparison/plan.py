"""From systems, seeds, settings and a sweep to the configuration of every run."""

from collections.abc import Mapping, Sequence
from typing import Any

from equicli.canonicalization.registry import REGISTRY
from equicli.comparison.systems import ORACLE, Part, recipe_of
from equicli.config import build_config
from equicli.errors import UsageError
from equicli.groups import is_finite, parse_group
from equicli.recipes import load_recipe, parse_pair

# What makes a system is its own choice, whatever all share.
_FIXED = ("train_base", "average", "augment")
# These, too, unless they are named on the command line.
_OWN = (*_FIXED, "prior_weight", "contrast_weight", "artifact_weight", "task_weight", "crop")
# What would make rows that cannot be compared.
_NOT_SWEPT = (
    "data test_fraction validation_fraction seed split_seed group padding prior model model_args checkpoint revision "
    "prompts head preprocess image_size mean std"
).split()


class _System:
    """A system's recipe, and that over what all share.

    learns: whether anything is trained; else seeds and swept settings change nothing.
    """

    def __init__(self, name: str, base: Mapping[str, Any]) -> None:
        self.name = name
        self.own = recipe_of(name)
        self.kind = REGISTRY[self.own["canonicalizer"]["kind"]]
        self.learns = self.kind.learns or bool(self.own.get("train_base"))
        self.merged = _over(base, self.own)

    def refusal(self, pair: Mapping[str, Any], flags: Mapping[str, Any]) -> str | None:
        """Why it cannot be run with a setting, given all flags; None if it can."""
        fixed = {*_FIXED, *self.own, *(f"canonicalizer.{key}" for key in self.own["canonicalizer"])}
        if self.own.get("prior_weight"):
            fixed -= {"prior_weight"}  # of 0 there is no other: it makes the system
        if fixed & set(pair):
            return "its own recipe says that"
        if "prior_weight" in pair and not self.kind.finds_poses:
            return "it finds no poses"
        if "base_learning_rate" in pair and not self.own.get("train_base"):
            return "no network is trained"
        if "learning_rate" in pair and not self.kind.learns:
            return "no canonicalizer is trained"
        try:
            build_config(flags, [], self.merged)
        except UsageError as error:
            return str(error).removesuffix(".")
        return None


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
        flags, settings, recipe: see `config.build_config`. They change nothing that a system's own recipe says, a
            setting reaches the systems that take it, and of the recipe the weights of losses and crops are left out.
        sweep: `key=value,value,…`, each of which makes every system anew that trains something and takes it.

    Returns:
        The runs, the network alone first; and a line on each thing that is left out.

    Raises:
        UsageError: a setting is wrong, or no system takes it.
    """
    base = load_recipe(recipe) if recipe else {}
    group = parse_group(str(flags.get("group") or base.get("group", "c4")))
    if not is_finite(group):
        raise UsageError(f"--group {group.name}: systems are compared for a finite group, such as c8.")
    given = {key: value for key, value in flags.items() if value is not None}
    wanted = {text: dict([parse_pair(text, "--set")]) for text in settings}
    for text, pair in wanted.items():
        for key, flag in (("data", "DATA"), ("group", "--group"), ("seed", "--seeds")):
            if key in pair:
                raise UsageError(f"--set {text}: use {flag}, which is the same for all.")
    variants = _read_sweep(sweep)
    # By setting and system, why that does not take it, or None.
    refusals: dict[str, dict[str, str | None]] = {text: {} for text in (*wanted, *variants)}

    def takes(system: _System, text: str, pair: Mapping[str, Any], flags: Mapping[str, Any]) -> bool:
        refusals[text][system.name] = system.refusal(pair, flags)
        return refusals[text][system.name] is None

    known = [_System(name, base) for name in systems if name != ORACLE]
    present = [system for system in known if system.kind.takes(group)]
    parts: list[Part] = []
    for system in present:
        taken: dict[str, Any] = {"split_seed": base.get("split_seed") or 0}
        for text, pair in wanted.items():
            if takes(system, text, pair, taken | pair | given):
                taken |= pair
        taken |= given
        swept = [t for t, pair in variants.items() if system.learns and takes(system, t, pair, taken | pair)]
        choices: list[tuple[str, ...]] = [(text,) for text in swept] or [()]
        for chosen in choices:
            pairs = variants[chosen[0]] if chosen else {}
            for seed in range(seeds if system.learns else 1):
                parts.append(
                    Part(system.name, chosen, build_config({**taken, **pairs, "seed": seed}, [], system.merged))
                )
    for text, of in refusals.items():
        if None not in of.values():
            why = next(reversed(of.values()), None) or "none is trained"
            raise UsageError(f"{text}: no system compared can be run with it ({why}).")
    dropped = [key for key in _OWN if key in base]
    notes = [f"left out of --recipe, as systems have their own: {', '.join(dropped)}"] if dropped else []
    notes += _tell_swept(parts, {text: refusals[text] for text in variants})
    if absent := [system.name for system in known if system not in present]:
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


def _read_sweep(sweep: str | None) -> dict[str, dict[str, Any]]:
    if sweep is None:
        return {}
    key, _ = parse_pair(sweep, "--sweep")
    if key.partition(".")[0] in _NOT_SWEPT:
        raise UsageError(f"--sweep {sweep}: '{key}' is the same for all that is compared.")
    values = [value.strip() for value in sweep.partition("=")[2].split(",")]
    if "" in values:
        raise UsageError(f"--sweep {sweep}: a value is empty; separate values by one comma.")
    texts = [f"{key}={value}" for value in values]
    return {text: dict([parse_pair(text, "--sweep")]) for text in texts}


def _over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A system's settings over those that all share; the shared ones of another canonicalizer are left out."""
    shared, canonicalizer = base.get("canonicalizer") or {}, own["canonicalizer"]
    if not isinstance(shared, Mapping):
        raise UsageError(f"canonicalizer = {shared!r}: holds further keys, such as canonicalizer.kind.")
    same = shared.get("kind", "optimized") == canonicalizer["kind"]
    rest = {key: value for key, value in base.items() if key not in _OWN}
    return {**rest, **own, "canonicalizer": {**(shared if same else {}), **canonicalizer}}
