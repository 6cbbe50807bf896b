"""`adapt`: from a configuration to a run folder with an adapted model in it."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from equicli.adapted import AdaptedModel, Average
from equicli.artifact import CanonicalizerSpec, ModelConfig, write_artifact
from equicli.canonicalization.canonicalizer import Canonicalizer, Context
from equicli.canonicalization.prior import Prior
from equicli.canonicalization.registry import REGISTRY
from equicli.config import AdaptConfig
from equicli.data.decode import UnreadableImageError
from equicli.data.folders import ImageFolder, Split, open_folder, recorded_split, split_folder
from equicli.data.preprocess import Preprocess, load_turned
from equicli.devices import find_device, place
from equicli.errors import EquicliError, UsageError, reason
from equicli.groups import Group, is_finite, parse_group
from equicli.groups.action import act
from equicli.groups.elements import inverse
from equicli.prediction.head import set_head
from equicli.prediction.load import load_network
from equicli.prediction.network import PretrainedNetwork
from equicli.prediction.prompts import class_prompts
from equicli.prediction.zero_shot import TwoTowers
from equicli.progress import Progress
from equicli.runs import Run, start_run
from equicli.tasks import classification
from equicli.training.features import Features
from equicli.training.images import TrainingImages, read_training_images
from equicli.training.loop import Images, fit
from equicli.training.objective import Objective, Task


@dataclass(frozen=True)
class Adapted:
    """What `adapt` made, and the validation images to report on: uint8 (n, 3, h, w) with class indices (n,) or -1."""

    model: AdaptedModel
    config: ModelConfig
    report_images: Tensor
    report_labels: Tensor
    classes: tuple[str, ...]


def adapt(config: AdaptConfig, run: Run, progress: Progress, *, resume: bool = False) -> Adapted:
    """Train a canonicalizer for a pretrained network on a dataset folder, and write the artifact into the run folder.

    Nothing is written before data and network are known to fit. The prediction network is only read.

    Args:
        resume: go on in a run folder that an earlier call left unfinished.

    Raises:
        UsageError: a path, name or option is wrong.
        EquicliError: the files do not hold what is needed.
    """
    device = find_device(config.device)
    folder, split = _open_data(config, run, progress, resume=resume)
    found = _load_network(config, folder.classes, device, progress)
    network, preprocess = found.network, found.preprocess
    group, prior = parse_group(config.group), Prior.of(config.prior)

    def turn_back(x: Tensor) -> Tensor:
        """Bring images of the folder to the pose that the network expects."""
        pose = group.find(*prior.main)
        assert pose is not None
        return act(group, inverse(group, pose), x, padding=config.padding)

    first = turn_back(_first_image(split, preprocess, device))
    labels = _decide_labels(config, folder, found, first, progress)
    context = Context(group, network, preprocess.normalization, config.padding)
    canonicalizer = _create_canonicalizer(config, context, first)
    trains = config.training.train_base or any(parameter.requires_grad for parameter in canonicalizer.parameters())
    features = Features.read(run.features) if resume and labels is None else None
    images = read_training_images(
        split if trains or labels is None else replace(split, train=()),
        preprocess,
        None if config.training.task_weight else canonicalizer.size,
        keep=trains,
        features_of=network if labels is None and features is None else None,
        turn_back=turn_back,
        device=device,
        batch_size=config.training.batch_size,
        strict=config.strict,
        progress=progress,
    )
    tell_unreadable(images.unreadable, progress)
    spec = found.spec
    if images.features is not None:
        features = Features(images.features, images.samples)
    if labels is None:
        assert features is not None
        labels = _fit_head(network, images, features, folder.classes, progress)
        spec = replace(spec, head_outputs=len(labels))
    model_config = ModelConfig(
        task=classification.NAME,
        group=config.group,
        canonicalizer=CanonicalizerSpec(config.canonicalizer.kind, asdict(canonicalizer.spec)),
        prediction_network=spec,
        preprocess=preprocess,
        labels=labels,
        provenance=found.provenance,
        prior=prior,
        padding=config.padding,
        average=_average(config),
        trained_base=config.training.train_base,
    )
    if resume:
        _check_resumed(run, model_config)
    else:
        start_run(run, config.model_dump(mode="json"), split.paths(folder.root), model_config.to_json() + "\n")
        if features is not None:
            features.write(run.features)
    run.append_log({"unreadable": images.unreadable})
    if trains:
        run.append_log({"trainable_parameters": _count_trainable(config, canonicalizer, network)})
        outputs = [labels[name] for name in folder.classes] or [-1]
        _train(config, canonicalizer, context, prior, images, torch.tensor(outputs), run, progress)
    else:
        progress.say(f"--canonicalizer {config.canonicalizer.kind} has nothing to train")
    model = AdaptedModel(canonicalizer.ship(), network.eval(), config.padding, _average(config))
    write_artifact(run.model, model, model_config)
    for needed_to_resume in (run.state, run.features):
        needed_to_resume.unlink(missing_ok=True)
    return Adapted(model, model_config, images.report, images.report_labels, folder.classes)


def _task(config: AdaptConfig) -> classification.ClassificationSettings:
    assert isinstance(config.task, classification.ClassificationSettings)
    return config.task


def _average(config: AdaptConfig) -> Average:
    return config.policy.of if config.policy.kind == "mean" else "none"


def _open_data(config: AdaptConfig, run: Run, progress: Progress, *, resume: bool) -> tuple[ImageFolder, Split]:
    folder = open_folder(Path(config.data))
    if resume:  # images that came since must not move any between the parts
        split = recorded_split(folder, run.read_split())
    else:
        parts = config.split
        split = split_folder(folder, validation=parts.validation_fraction, test=parts.test_fraction, seed=parts.seed)
    progress.say(
        f"data: {len(split.train)} training, {len(split.validation)} validation, {len(split.test)} test images"
        + (f" in {len(folder.classes)} classes" if folder.classes else ", unlabelled")
    )
    if config.training.task_weight and not folder.classes:
        raise UsageError("task_weight: the task's loss needs labels; put the images into class folders.")
    return folder, split


def _load_network(
    config: AdaptConfig, classes: tuple[str, ...], device: torch.device, progress: Progress
) -> PretrainedNetwork:
    """The prediction network, frozen and on the device, with the preprocessing that was asked for."""
    found = load_network(
        config.network.model,
        checkpoint=config.network.checkpoint,
        arguments=config.network.model_args,
        image_size=config.network.image_size,
        revision=config.network.revision,
    )
    progress.say(f"prediction network: {describe(found)}")
    for remark in found.remarks:
        progress.say(remark)
    if "sha256" not in found.provenance:
        progress.say("no --checkpoint: taking the weights that your code returns, as they are")
    found = _with_prompts(config, found, classes, progress)
    place(found.network.requires_grad_(False), device)
    shown = config.network
    return replace(found, preprocess=found.preprocess.override(shown.preprocess, shown.mean, shown.std))


def _with_prompts(
    config: AdaptConfig, found: PretrainedNetwork, classes: tuple[str, ...], progress: Progress
) -> PretrainedNetwork:
    """Give a zero-shot network its classes."""
    if not isinstance(found.network, TwoTowers):
        if _task(config).prompts is not None:
            raise UsageError(f"--prompts: {found.provenance['model']} has classes of its own and takes no prompts.")
        return found
    prompts, origin = class_prompts(_task(config).prompts, classes, found.network.template)
    progress.say(f"zero-shot: {len(prompts)} classes by their prompts ({origin})")
    return replace(
        found,
        network=found.network.classify(list(prompts.values())),
        spec=replace(found.spec, head_outputs=len(prompts)),
        class_names=tuple((name,) for name in prompts),
        provenance={**found.provenance, "prompts": origin},
    )


def _create_canonicalizer(config: AdaptConfig, context: Context, image: Tensor) -> Canonicalizer:
    """Make a new canonicalizer, and find one pose before anything is read or written: a size may not be for it."""
    torch.manual_seed(config.seed)
    kind = REGISTRY[config.canonicalizer.kind]
    canonicalizer = kind.create(config.canonicalizer, context).to(image.device)
    try:
        with torch.inference_mode():
            canonicalizer.eval()(image)
    except Exception as error:  # any network of timm's or torchvision's
        remedy = " Try another --canonicalizer-size." if canonicalizer.size else ""
        raise EquicliError(f"the canonicalization network fails ({reason(error)}).{remedy}") from error
    return canonicalizer


def _train(
    config: AdaptConfig,
    canonicalizer: Canonicalizer,
    context: Context,
    prior: Prior,
    images: TrainingImages,
    outputs: Tensor,
    run: Run,
    progress: Progress,
) -> None:
    """Fit the canonicalizer; `outputs` has the right output of each class."""
    if config.training.prior_weight:
        progress.say(f"prior: the pose of training images is taken to be {prior} (r0 is upright, as the network knows)")
    network = context.prediction_network.requires_grad_(config.training.train_base)
    if config.training.train_base:
        progress.say("training the prediction network, too: the artifact holds other weights than were loaded")
    outputs = outputs.to(images.train.device)
    task = Task(network, classification.loss, _average(config)) if config.training.task_weight else None
    objective = Objective.of(config.training, prior, config.padding, task)
    epoch, scores = fit(
        canonicalizer,
        Images(images.train, outputs[images.train_labels]),
        Images(images.validation, outputs[images.validation_labels]),
        context.normalization,
        objective,
        config.training,
        seed=config.seed,
        base=network if config.training.train_base else None,
        state=run.state,
        log=run.append_log,
        progress=progress,
    )
    by_rate = objective.judged_by_identity_rate
    best = f"identity rate {scores.identity_rate:.1%}" if by_rate else f"loss {scores.loss:.3f}"
    progress.say(f"keeping epoch {epoch}, the best by its {best} on validation images")
    if config.training.prior_weight:
        _tell_chance(context.group, prior, scores.identity_rate, progress)


def _count_trainable(config: AdaptConfig, canonicalizer: Canonicalizer, network: nn.Module) -> int:
    modules = [canonicalizer, network] if config.training.train_base else [canonicalizer]
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def describe(found: PretrainedNetwork) -> str:
    """One line on what was loaded."""
    source = found.provenance
    millions = sum(p.numel() for p in found.network.parameters()) / 1e6
    origin = f", revision {source['revision']}" if "revision" in source else ""
    file = source.get("checkpoint") or source.get("file")
    weights = f", weights {file} (sha256 {source['sha256'][:12]}…)" if file else ""
    return f"{source['model']} ({millions:.2f} M parameters{origin}{weights})"


def tell_unreadable(unreadable: dict[str, str], progress: Progress) -> None:
    """List skipped files."""
    for path, why in unreadable.items():
        progress.say(f"skipped {path}: {why}")
    if unreadable:
        progress.say(f"{len(unreadable)} unreadable images skipped (--strict stops instead)")


def _first_image(split: Split, preprocess: Preprocess, device: torch.device) -> Tensor:
    """The first readable training image as the prediction network takes it, (1, 3, h, w)."""
    for sample in split.train:
        try:
            image = load_turned(sample.path, preprocess, None)
        except UnreadableImageError:
            continue  # told when all are read
        return preprocess.normalization(image.to(device))
    raise EquicliError(f"{split.train[0].path.parent}: none of {len(split.train)} training images can be read.")


def _decide_labels(
    config: AdaptConfig, folder: ImageFolder, found: PretrainedNetwork, image: Tensor, progress: Progress
) -> dict[str, int] | None:
    """The output of each class; None where a head is to be fitted."""
    with torch.inference_mode():
        outputs = classification.count_outputs(found.network, image)
    if not folder.classes and _task(config).prompts is not None and found.class_names is not None:
        progress.say("labels: none in this folder; outputs are named by the prompts")
        return {name: output for output, (name, *_) in enumerate(found.class_names)}
    if not folder.classes:
        progress.say("labels: none in this folder; accuracy is agreement with the network's own upright prediction")
        return {}
    labels, reason = classification.match_labels(found, outputs, folder.classes)
    if labels is None and _task(config).head == "none":
        raise classification.refuse_labels(reason)
    progress.say(reason + ("; fitting a linear head on frozen features (--head auto)" if labels is None else ""))
    return labels


def _tell_chance(group: Group, prior: Prior, identity_rate: float, progress: Progress) -> None:
    """Say so where training found next to nothing."""
    if not is_finite(group) or prior.shares:
        return
    chance = len(prior.poses) / group.order
    if identity_rate < min(1.5 * chance, chance + (1 - chance) / 4):
        progress.say(f"that is near chance ({chance:.1%}): are the images upright? More --epochs, more images or a")
        progress.say("pretrained --canonicalizer-network help")


def _check_resumed(run: Run, config: ModelConfig) -> None:
    recorded = json.loads((run.folder / "config.json").read_text(encoding="utf-8"))
    if recorded["provenance"] != dict(config.provenance):
        raise EquicliError(
            f"--resume {run.folder}: the prediction network's weights or prompts have changed since; start anew."
        )


def _fit_head(
    network: nn.Module, images: TrainingImages, features: Features, classes: tuple[str, ...], progress: Progress
) -> dict[str, int]:
    """Give the network a head for these classes."""
    present = set(images.train_labels.tolist())
    absent = [name for index, name in enumerate(classes) if index not in present]
    if absent:
        raise EquicliError(f"class '{absent[0]}': none of its training images can be read, so no head can be fitted.")
    train, validation = features.of(images)
    weight, bias, accuracy = classification.fit_head(train, images.train_labels, validation, images.validation_labels)
    set_head(network, weight, bias)
    network.requires_grad_(False).eval()
    progress.say(f"fitted head: {accuracy:.1%} right on upright validation images")
    return {name: index for index, name in enumerate(classes)}
