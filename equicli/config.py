"""The typed configuration of `equicli adapt`: a flag wins over `--set`, that over the recipe, that over the default.

`merge` lays what people wrote one over the other, and `resolve` fills in, checks and types what results.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, ValidationError

from equicli.canonicalization.canonicalizer import Canonicalizer
from equicli.canonicalization.prior import read_prior
from equicli.canonicalization.registry import kinds_for
from equicli.data.decode import MAX_PIXELS
from equicli.data.reencode import find_encoding
from equicli.data.value_range import read_bounds
from equicli.devices import device_name
from equicli.errors import UsageError, did_you_mean, shown
from equicli.groups import Group, is_finite, parse_group
from equicli.policy import Gate, policy_of
from equicli.prediction.inputs import stays
from equicli.recipes import load_recipe
from equicli.settings import (
    CanonicalizerSettings,
    EvaluationSettings,
    LocalPath,
    LocalPaths,
    NetworkSettings,
    OriginPath,
    PolicySettings,
    Settings,
    Share,
    SplitSettings,
    StartedSettings,
    TaskSettings,
    TrainingSettings,
    fault,
)
from equicli.tasks.registry import TASKS
from equicli.tasks.task import Task
from equicli.tree import SECTIONS, START_FROM, Tree, default_group, kind_of, merge, short_names

Section = TypeVar("Section", bound=Settings)
Known = TypeVar("Known")


# Two numbers, or LOW:HIGH as it is written on the command line.
Bounds = Annotated[tuple[float, float], BeforeValidator(read_bounds)]


class AdaptConfig(Settings):
    """All that decides what `equicli adapt` trains. Written to `resolved.yaml`, which is itself a recipe."""

    data: LocalPath = Field(description="an image folder")
    upright: LocalPaths = Field(
        (), description="folders of more upright images, for the canonicalizer's training alone; labels are ignored"
    )
    start_from: OriginPath | None = Field(
        None, description="a run, an exported file or owner/name on the Hub, whose canonicalizer is taken"
    )
    group: str
    prior: Literal["model"] | tuple[str, ...] | dict[str, Share] = Field(
        description="poses that the network expects; or the share of each, adding up to 1; or model: of each training "
        "picture those of which the network says the right thing"
    )
    padding: Literal["edge", "reflect", "zeros"] = Field("edge", description="what turned images show from outside")
    seed: int = Field(0, ge=0)
    device: Annotated[str, AfterValidator(device_name)] = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    strict: bool = Field(False, description="stop at an unreadable image instead of skipping it")
    value_range: Bounds | None = Field(
        None, description="of pictures of more than 8 bits; default: what they say, else what the training split has"
    )
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="larger pictures are not read")

    network: NetworkSettings
    # Settings of one kind; which keys there are is the kind's own affair.
    task: SerializeAsAny[TaskSettings]
    canonicalizer: SerializeAsAny[CanonicalizerSettings]
    policy: PolicySettings
    training: TrainingSettings
    split: SplitSettings
    evaluation: EvaluationSettings = EvaluationSettings()


# The setting that may name code to import.
MODEL = "network.model"
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
    _check_keys(tree, {**SECTIONS, "canonicalizer": kind.Settings, "task": task.Settings})
    if "data" not in values:
        raise UsageError("DATA is missing: name it on the command line or in a recipe.")
    if "model" not in values.get("network", {}):
        raise UsageError("--model is missing: name it on the command line or in a recipe.")
    kinds = {name: {"kind": kind_of(name, values), **values.get(name, {})} for name in ("canonicalizer", "task")}
    training = _fill_training(values.get("training", {}), kind, task)
    settings = kind.Settings if values.get(START_FROM) is None else StartedSettings
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
    _check_together(config, group, kind, tree)
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


def names_code(model: object) -> bool:
    """Whether a model's name is code to import: `python:module:factory`."""
    return isinstance(model, str) and model.startswith("python:")


def refuse_code(said: Tree, typed: Tree, source: str) -> None:
    """Refuse code that only a file names: what is imported is run, so a user has to type its name.

    A canonicalization network is never code, whoever names it. `model_args` may come from the file: they are plain
    values, and the code that takes them is the user's.

    Args:
        said: what a recipe or the settings of a run say.
        typed: what the command line says.
        source: which file this is, for the error.

    Raises:
        UsageError: the file names code, and the command line names no model.
    """
    code = said.get(MODEL)
    if names_code(code) and typed.get(MODEL) is None:
        raise UsageError(
            f"{source}: names code to run, {shown(code)}, which only the command line may. "
            f"If you trust that code, add --model {shown(code)}"
        )


def _find(kind: str, known: Mapping[str, Known], section: str) -> Known:
    if kind not in known:
        hint = did_you_mean(kind, known) or f" Known: {', '.join(known)}."
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


def _check_together(config: AdaptConfig, group: Group, kind: type[Canonicalizer], tree: Tree) -> None:
    """Refuse settings that are right one by one, but together do nothing or contradict each other."""
    find_encoding(config.evaluation.reencode, config.evaluation.rotate)
    training, network, flag = config.training, config.network, f"--canonicalizer {config.canonicalizer.kind}"
    prior, contrast, artifact, task, augment = (
        tree.name(f"training.{key}")
        for key in ("prior_weight", "contrast_weight", "artifact_weight", "task_weight", "augment")
    )
    exact = group.dimension == 3 or (is_finite(group) and group.exact)
    asked = TASKS[config.task.kind]
    of_inputs = training.task_weight > 0 and not asked.has_pose_costs  # images are then as the network takes them
    moves = "turns points" if group.dimension == 3 else "permutes pixels"
    outputs = asked.signature.outputs
    policy = Gate.fitting(outputs) if config.policy.kind == "gate" else policy_of(config.policy)
    refusal = policy.refusal(group, outputs, kind.ranks(group))
    epochs, start, upright = tree.name("training.epochs"), "--start-from", "--upright"
    faults = {
        f"{start}: {flag} has learned nothing that could be taken; leave it out": (
            config.start_from is not None and not kind.learns
        ),
        f"{start}: {flag} is stored in its final form, which no training can go on with; add --epochs 0": (
            config.start_from is not None and training.epochs > 0 and not kind.trains_further
        ),
        f"{epochs} = 0: leaves {flag} untrained; add --start-from RUN, or train for 1 or more": (
            training.epochs == 0 and kind.learns and config.start_from is None
        ),
        f"{epochs} = 0: trains nothing, which --train-base asks for; leave one of them out": (
            training.epochs == 0 and training.train_base
        ),
        f"{upright}: is for pictures; put point clouds into DATA": bool(config.upright) and group.dimension == 3,
        f"{upright}: nothing is trained on these images; leave it out": (
            bool(config.upright) and (training.epochs == 0 or not kind.learns)
        ),
        f"{upright}: these images have no labels, which {task} trains on; leave one of them out": (
            bool(config.upright) and training.task_weight > 0
        ),
        f"{upright}: of these images the pose is known, so shares of poses do not hold; name poses with --prior": (
            bool(config.upright) and isinstance(config.prior, dict)
        ),
        f"{upright}: --prior model asks the network about DATA's images, and not about these; leave one of them out": (
            bool(config.upright) and config.prior == "model"
        ),
        f"--prior model: {flag} is not trained towards poses; leave it out": (
            config.prior == "model" and not (kind.learns and training.prior_weight and training.epochs)
        ),
        f"--prior model: {group.name} has infinitely many poses; it needs a finite group, such as c8": (
            config.prior == "model" and not is_finite(group)
        ),
        f"--prior model: only of logits it is known how likely they are, and the task {config.task.kind} has others": (
            config.prior == "model" and asked.signature.outputs != "logits"
        ),
        f"{tree.name('policy.kind')}: there is no prediction network to ask; leave it out": (
            config.policy.kind != "one" and not asked.has_network
        ),
        f"{tree.name('policy.kind')}: {refusal}": refusal is not None,
        f"{tree.name('policy.of')}: says what a mean is of; add policy=mean, or leave it out": (
            config.policy.kind != "mean" and config.policy.of != "probabilities"
        ),
        f"{tree.name('policy.passes')}: says how often a gate asks; add policy=gate, or leave it out": (
            config.policy.passes is not None and config.policy.kind != "gate"
        ),
        f"{tree.name('policy.kind')}: a gate opens where a pose is not sure, and {flag} finds none; leave it out": (
            config.policy.kind == "gate" and not kind.finds_poses
        ),
        f"{task}: the task {config.task.kind} has no loss to train with; leave it out": (
            training.task_weight and not (asked.has_pose_costs or (asked.has_loss and stays(asked.signature.outputs)))
        ),
        f"{task}: the network's own loss is asked for in every pose of a finite group, of a canonicalizer that scores "
        "them; take --group c4, or leave it out": (
            training.task_weight and asked.has_pose_costs and not (is_finite(group) and kind.finds_poses)
        ),
        f"{task} and --prior model are both of what the network says in each pose; leave one out": (
            training.task_weight and asked.has_pose_costs and config.prior == "model"
        ),
        "--train-base: trains classifiers; a detector's own loss trains the canonicalizer alone": (
            training.train_base and asked.has_pose_costs
        ),
        f"{augment}: {flag} learns from the poses that images have; leave it out": (
            training.augment and kind.finds_poses
        ),
        f"{augment}: nothing is trained without --train-base": training.augment and not training.train_base,
        f"{prior}: {flag} finds no poses; leave it out": training.prior_weight and not kind.finds_poses,
        f"{contrast}: {flag} compares no views; leave it out": training.contrast_weight and not kind.compares_views,
        f"{artifact}: {group.name} {moves}, so there are no artifacts; leave it out": (
            training.artifact_weight and exact
        ),
        f"{artifact}: {flag} learns no poses; leave it out": (
            training.artifact_weight and not (kind.finds_poses and kind.learns)
        ),
        f"{tree.name('training.views')}: {flag} needs all views of an image; leave it out": (
            training.views is not None and not kind.trains_on_few_views
        ),
        f"{tree.name('training.crop_size')}: only of zoomed crops, where {flag} takes any size; leave it out": (
            training.crop_size < 1 and not (kind.takes_any_size and training.crop == "zoom" and not of_inputs)
        ),
        f"{task}: {flag} trains nothing; leave it out, or add --train-base": (
            training.task_weight and not kind.learns and not training.train_base
        ),
        f"{task}: --train-base trains on the task's loss; leave it out, or above 0": (
            training.train_base and not training.task_weight
        ),
        f"{prior} and {task} are both 0, so nothing is learned; leave {prior} at 1": (
            kind.finds_poses and not training.prior_weight and not training.task_weight
        ),
        "--image-size resizes, which --preprocess none forbids; give one of them": (
            network.preprocess == "none" and network.image_size is not None
        ),
    }
    for message, wrong in faults.items():
        if wrong:
            raise UsageError(f"{message}.")
