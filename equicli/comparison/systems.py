"""What can be compared: every recipe in `recipes/systems/`, the network alone among them, and the oracle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from equicli.canonicalization.registry import REGISTRY
from equicli.config import AdaptConfig, build_config
from equicli.errors import UsageError, did_you_mean
from equicli.groups import is_finite, parse_group
from equicli.recipes import load_recipe, parse_pair

# In the order of the papers' tables; `Cn` stands for the group. Each but the oracle is a recipe of the same name.
TITLES = {
    "vanilla": "vanilla",
    "oracle": "oracle",
    "augmentation": "Cn-augmentation",
    "learned": "learned canonicalization, frozen",
    "learned-joint": "learned canonicalization, joint",
    "equiadapt": "EquiAdapt, frozen",
    "equiadapt-gwrn": "EquiAdapt (G-WRN), frozen",
    "equiadapt-joint": "EquiAdapt, joint",
    "equioptadapt": "EquiOptAdapt, frozen",
    "equioptadapt-joint": "EquiOptAdapt, joint",
    "energy": "energy canonicalization, frozen",
    "frame": "frame averaging, frozen",
    "symmetrization": "symmetrized (probabilities), frozen",
    "symmetrization-logits": "symmetrized (logits), frozen",
    "equituning": "equi-tuning",
    "lambda-equitune": "λ-equitune",
}
# Counted when the network alone is evaluated.
ORACLE = "oracle"
# What makes a system is its own choice, whatever all share.
_FIXED = ("train_base", "average", "augment")
# These, too, unless they are named on the command line.
_OWN = (*_FIXED, "prior_weight", "contrast_weight", "artifact_weight", "task_weight", "crop")
# What would make rows that cannot be compared.
_NOT_SWEPT = (
    "data test_fraction seed split_seed group model model_args checkpoint revision prompts head preprocess image_size "
    "mean std"
).split()


@dataclass(frozen=True)
class Part:
    """One system with one seed, and where a sweep varies a setting, one value of it: one run.

    settings: what the sweep sets, as `key=value`; empty without one.
    """

    system: str
    settings: tuple[str, ...]
    config: AdaptConfig

    @property
    def folder(self) -> str:
        return f"{'-'.join((self.system, *self.settings)).replace('/', '_')}-seed{self.config.seed}"

    @property
    def finds_poses(self) -> bool:
        """Whether it chooses one pose for each image."""
        return REGISTRY[self.config.canonicalizer.kind].finds_poses and self.config.average == "none"


def parse_systems(text: str | None) -> list[str]:
    """Read `--systems`: names, and the words `all` and `frozen`, separated by commas; default: all.

    Returns:
        Names in the order of TITLES, the network alone and the oracle always among them.

    Raises:
        UsageError: an unknown name.
    """
    frozen = [name for name in TITLES if name == ORACLE or not _recipe(name).get("train_base")]
    words = {"all": list(TITLES), "frozen": frozen}
    chosen = {"vanilla", ORACLE}
    for word in (text or "all").split(","):
        name = word.strip()
        if name not in TITLES and name not in words:
            hint = did_you_mean(name, [*TITLES, *words]) or f" Known: {', '.join([*words, *TITLES])}."
            raise UsageError(f"--systems {name}: no such system.{hint}")
        chosen.update(words.get(name, [name]))
    return [name for name in TITLES if name in chosen]


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
        flags, settings, recipe: see `config.build_config`. They change nothing that a system's own recipe says, and a
            setting reaches the systems that take it.
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
    variants = _read_sweep(sweep)
    # Of each setting, why systems do not take it; None of one that does.
    refusals: dict[str, list[str | None]] = {text: [] for text in (*wanted, *variants)}
    parts: list[Part] = []
    absent, whole, notes = [], [], []  # systems that are left out and not swept, lines
    for name in systems:
        if name == ORACLE:
            continue
        own = _recipe(name)
        kind = REGISTRY[own["canonicalizer"]["kind"]]
        if not kind.takes(group):
            absent.append(name)
            continue
        merged = _over(base, own)
        taken: dict[str, Any] = {"split_seed": base.get("split_seed") or 0}
        for text, pair in wanted.items():
            refusals[text].append(refusal := _refusal(pair, taken | pair | given, own, merged))
            taken |= pair if refusal is None else {}
        taken |= given
        learns = kind.learns or bool(own.get("train_base"))
        swept: list[tuple[str, ...]] = []
        missed: list[str] = []
        for text, pair in variants.items() if learns else ():
            refusals[text].append(refusal := _refusal(pair, taken | pair, own, merged))
            swept += [(text,)] if refusal is None else []
            missed += [f"{name} is not run with {text}: {refusal}"] if refusal is not None else []
        notes += missed if swept else []
        if variants and not swept:
            whole.append(name)
        for chosen in swept or [()]:
            pairs: dict[str, Any] = {key: value for text in chosen for key, value in variants[text].items()}
            for seed in range(seeds if learns else 1):
                config = build_config({**taken, **pairs, "seed": seed}, [], merged)
                parts.append(Part(name, chosen, config))
    for text, why in refusals.items():
        if None not in why:
            raise UsageError(
                f"{text}: no system compared can be run with it ({why[-1] if why else 'none is trained'})."
            )
    if absent:
        notes.append(f"left out, as there is none for this group: {', '.join(absent)}")
    if whole:
        notes.append(f"run once, as --sweep says nothing to them: {', '.join(whole)}")
    return parts, notes


def _refusal(
    pair: Mapping[str, Any], flags: Mapping[str, Any], own: Mapping[str, Any], merged: Mapping[str, Any]
) -> str | None:
    """Why a system cannot be configured with a setting, if its own recipe leaves that open at all."""
    fixed = {*_FIXED, *own, *(f"canonicalizer.{key}" for key in own["canonicalizer"])}
    if own.get("prior_weight"):
        fixed -= {"prior_weight"}  # of 0 there is no other: it makes the system
    if fixed & set(pair):
        return "its own recipe says that"
    kind = REGISTRY[own["canonicalizer"]["kind"]]
    if "prior_weight" in pair and not kind.finds_poses:
        return "it finds no poses"
    if "base_learning_rate" in pair and not own.get("train_base"):
        return "no network is trained"
    if "learning_rate" in pair and not kind.learns:
        return "no canonicalizer is trained"
    try:
        build_config(flags, [], merged)
    except UsageError as error:
        return str(error).removesuffix(".")
    return None


def _recipe(name: str) -> dict[str, Any]:
    return load_recipe(f"systems/{name}")


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
