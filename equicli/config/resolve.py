"""From what people wrote to a configuration: defaults are filled in, each setting is checked, and then all together."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from equicli.canonicalization.canonicalizer import Canonicalizer
from equicli.canonicalization.prior import read_prior
from equicli.canonicalization.registry import kinds_for
from equicli.config.adapt import AdaptConfig
from equicli.config.code import refuse_code
from equicli.config.together import check_together
from equicli.errors import UsageError, did_you_mean
from equicli.groups import Group, is_finite, parse_group
from equicli.recipes import load_recipe
from equicli.settings import Settings, StartedSettings, fault
from equicli.tasks.registry import TASKS
from equicli.tasks.task import Task
from equicli.tree import SECTIONS, START_FROM, Tree, default_group, kind_of, merge, short_names

Section = TypeVar("Section", bound=Settings)
Known = TypeVar("Known")

# What was once a key, or is one elsewhere, and what to write instead.
_GONE = {
    "average": "Write policy=mean, with policy.of=probabilities or logits; policy=one chooses a pose.",
    "lr": "Write learning_rate.",
}


def resolve(tree: Tree) -> AdaptConfig:
    """Fill in the defaults that depend on other settings, check each setting, and what they are together.

    Raises:
        UsageError: an unknown key (with the nearest known one), or a value that does not fit.
    """
    values = tree.values
    task = _find(kind_of("task", values), TASKS, "task")
    group = _find_group(str(values.get("group", default_group(values))), task)
    kind = _find_canonicalizer(kind_of("canonicalizer", values), group)
    settings = kind.Settings if values.get(START_FROM) is None else StartedSettings
    _check_keys(tree, {**SECTIONS, "canonicalizer": settings, "task": task.Settings})
    if "data" not in values:
        raise UsageError("DATA is missing: name it on the command line or in a recipe.")
    if "model" not in values.get("network", {}):
        raise UsageError("--model is missing: name it on the command line or in a recipe.")
    kinds = {name: {"kind": kind_of(name, values), **values.get(name, {})} for name in ("canonicalizer", "task")}
    training = _fill_training(values.get("training", {}), kind, task)
    if training["task_weight"] and not task.has_pose_costs and kind.takes_any_size:
        # Training shows whole images at one size, so that a look at fewer pixels would never be learned.
        kinds["canonicalizer"].setdefault("glance", 0)
    config = _validate(
        AdaptConfig,
        {
            **values,
            "group": group.name,
            "prior": read_prior(values.get("prior"), group),
            "canonicalizer": _validate(settings, kinds["canonicalizer"], tree, "canonicalizer."),
            "task": _validate(task.Settings, kinds["task"], tree, "task."),
            "policy": _fill(values.get("policy", {}), {"kind": _policy_of(group, kind, task, training)}),
            "training": training,
            "split": _fill(values.get("split", {}), {"seed": values.get("seed", 0)}),
        },
        tree,
    )
    check_together(config, group, kind, tree)
    return config


def build_config(
    flags: Mapping[str, Any], settings: Sequence[str], recipe: str | Mapping[str, Any] | None
) -> AdaptConfig:
    """Merge and resolve. `recipe` is a recipe's name or YAML file, what `load_recipe` read of one, or None.

    Raises:
        UsageError: see `merge`, `origin.with_origin`, `resolve`, `load_recipe` and `refuse_code`.
        EquicliError: see `origin.with_origin`.
    """
    said = merge(load_recipe(recipe) if isinstance(recipe, str) else recipe)
    refuse_code(said, merge(None, settings, flags), f"--recipe {recipe}" if isinstance(recipe, str) else "the recipe")
    tree = merge(said, settings, flags)
    if tree.get(START_FROM) is not None:
        # Here, so that checking any other configuration imports no library of networks.
        from equicli.origin import with_origin

        tree = with_origin(tree)
    return resolve(tree)


def _find(kind: str, known: Mapping[str, Known], section: str) -> Known:
    if kind not in known:
        meant = [f"'{name}'" for name, one in known.items() if kind in getattr(one, "also_called", ())]
        hint = f" Did you mean {' or '.join(meant)}?" if meant else did_you_mean(kind, known)
        hint = hint or f" Known: {', '.join(known)}."
        raise UsageError(f"--{section} {kind}: no such {section}.{hint}")
    return known[kind]


def _find_group(name: str, task: type[Task]) -> Group:
    group = parse_group(name)
    of_points = task.signature.inputs == "points"
    if group.dimension != 2 and not of_points:
        raise UsageError(
            f"--group {name}: turns points in space; images take c4, d4, so2 or o2. For point clouds add --task points."
        )
    if group.dimension != 3 and of_points:
        raise UsageError(f"--group {name}: turns pictures; point clouds take so3 or so2z.")
    if group.order == 1:
        raise UsageError(f"--group {name}: the trivial group leaves nothing to learn; c4 stands for rotations by 90°.")
    return group


def _find_canonicalizer(kind: str, group: Group) -> type[Canonicalizer]:
    known = kinds_for(group)
    canonicalizer = _find(kind, known, "canonicalizer")
    if not canonicalizer.takes(group):
        fitting = [name for name, other in known.items() if other.takes(group)]
        raise UsageError(f"--canonicalizer {kind}: not for --group {group.name}, which takes {', '.join(fitting)}.")
    return canonicalizer


def _check_keys(tree: Tree, sections: Mapping[str, type[Settings]]) -> None:
    """Refuse what nothing reads."""
    values = tree.values
    dotted = [f"{name}.{leaf}" for name, model in sections.items() for leaf in model.model_fields]
    short = [name for name, whole in short_names().items() if whole in dotted]
    for given in tree.given:
        head, *rest = given.key.split(".")
        known = rest[0] in sections[head].model_fields if head in sections else head in AdaptConfig.model_fields
        if known:
            continue
        if head in sections:
            name = given.written
            owner = f" of --{head} {kind_of(head, values)}" if head in ("canonicalizer", "task") else ""
        else:
            name, owner = head, ""
        remedy = did_you_mean(name, [*short, *AdaptConfig.model_fields, *dotted])
        raise UsageError(
            f"unknown key '{name}'{owner}."
            + (f" {_GONE[name]}" if name in _GONE else remedy or " The resolved.yaml of a run has all of them.")
        )


def _fill(section: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A section with defaults for what it has not, or has as None."""
    return {**section, **{key: value for key, value in defaults.items() if section.get(key) is None}}


def _fill_training(section: Mapping[str, Any], kind: type[Canonicalizer], task: type[Task]) -> dict[str, Any]:
    filled = _fill(
        section,
        {
            "prior_weight": float(kind.finds_poses),
            "contrast_weight": 0.1 * kind.compares_views,
            "task_weight": float(bool(section.get("train_base"))),
            "learning_rate": kind.learning_rate,
        },
    )
    if task.signature.inputs == "points" and filled.get("precision", "auto") == "auto":
        filled["precision"] = "fp32"  # coordinates have few places in bf16: of near points none is the nearest
    return _fill(filled, {"crop": "shift" if filled["task_weight"] and not task.has_pose_costs else "zoom"})


def _policy_of(group: Group, kind: type[Canonicalizer], task: type[Task], training: Mapping[str, Any]) -> str:
    """The policy where nobody names one: a gate, where it can be fitted to what was trained.

    It chooses between poses of which a canonicalizer has learned how probable each is, by logits, of which it is known
    how sure the network is. What was trained through the network is served by the policy that it was trained with.
    """
    learned = kind.finds_poses and kind.learns and not training["task_weight"]
    return "gate" if learned and is_finite(group) and task.signature.outputs == "logits" else "one"


def _validate(model: type[Section], values: Mapping[str, Any], tree: Tree, section: str = "") -> Section:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
    # Beside keys, pydantic names the types of a union that it tried.
    parts = [str(part) for part in first["loc"]]
    parts = parts[:-1] if len(parts) > 3 and parts[-1] in ("bool", "int", "float", "str") else parts
    message = fault(first)
    # Messages of our own name what they are about.
    named = isinstance(first["input"], Mapping) or message.startswith("--")
    if first["type"] == "value_error" and named:
        raise UsageError(f"{message}.")
    name, value = tree.name(section + ".".join(parts)), first["input"]
    if first["type"] == "missing":
        raise UsageError(f"{name} {message}.")
    raise UsageError(f"{name} = {value!r}: {message}.")
