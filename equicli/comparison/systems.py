"""What can be compared: every recipe in `recipes/systems/`, the network alone among them, and the oracle."""

from collections.abc import Sequence
from dataclasses import dataclass

from equicli.canonicalization.registry import kinds_for
from equicli.config import AdaptConfig
from equicli.errors import UsageError, did_you_mean
from equicli.groups import parse_group
from equicli.policy import policy_of
from equicli.recipes import load_recipe
from equicli.tree import Tree, merge

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
    "consensus": "consensus of views, frozen",
    "gate": "consensus of views with a gate, frozen",
    "energy": "energy canonicalization, frozen",
    "frame": "frame averaging, frozen",
    "symmetrization": "symmetrized (probabilities), frozen",
    "symmetrization-logits": "symmetrized (logits), frozen",
    "equituning": "equi-tuning",
    "lambda-equitune": "λ-equitune",
}
# Beside some of these, of point clouds.
OF_POINTS = {
    "vector-neuron": "vector neurons with prior, frozen",
    "vector-neuron-learned": "vector neurons without prior, frozen",
    "equioptadapt-gate": "EquiOptAdapt with a gate, frozen",
    "frame-mean": "frame averaging, all frames, frozen",
    "frame-surest": "frame averaging, the network's surest, frozen",
    "frame-gate": "frame averaging with a gate, frozen",
}
EVERY = TITLES | OF_POINTS
# Counted when the network alone is evaluated.
ORACLE = "oracle"
# What others are compared with, unless `--reference` names another.
REFERENCE = "equioptadapt"


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
        kinds = kinds_for(parse_group(self.config.group))
        return kinds[self.config.canonicalizer.kind].finds_poses and policy_of(self.config.policy).chooses


def parse_systems(text: str | None) -> list[str]:
    """Read `--systems`: names, and the words `all`, `frozen` and `points`, separated by commas; default: all.

    Returns:
        Names in the order of EVERY, the network alone and the oracle always among them.

    Raises:
        UsageError: an unknown name.
    """
    frozen = [name for name in TITLES if name == ORACLE or not recipe_of(name).get("training.train_base")]
    points = ["augmentation", "equioptadapt", "frame", *OF_POINTS]
    words = {"all": list(TITLES), "frozen": frozen, "points": points}
    chosen = {"vanilla", ORACLE}
    for word in (text or "all").split(","):
        name = word.strip()
        if name not in EVERY and name not in words:
            hint = did_you_mean(name, [*EVERY, *words]) or f" Known: {', '.join([*words, *EVERY])}."
            raise UsageError(f"--systems {name}: no such system.{hint}")
        chosen.update(words.get(name, [name]))
    return [name for name in EVERY if name in chosen]


def choose_reference(parts: Sequence[Part], name: str | None) -> str:
    """The system that all others are compared with. It is named before any is counted: the best of them, chosen by the
    test images, would seem better than its equals.

    Args:
        name: what `--reference` says; None is REFERENCE, or where that is absent or swept the network alone.

    Raises:
        UsageError: it is not compared, or has a row for each value of a sweep.
    """
    known = [*dict.fromkeys(part.system for part in parts if not part.settings), ORACLE]
    if name is None:
        return REFERENCE if REFERENCE in known else "vanilla"
    if name not in known:
        why = "is swept" if any(part.system == name for part in parts) else "is not compared"
        raise UsageError(f"--reference {name}: {why}; name one of {', '.join(known)}.")
    return name


def recipe_of(name: str) -> Tree:
    """What a system's own recipe says."""
    return merge(load_recipe(f"systems/{name}"))
