"""From a configuration to a run folder with an adapted model in it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from equicli import artifact
from equicli.adapted import AdaptedModel
from equicli.artifact import copy_canonicalizer, write_artifact
from equicli.canonicalization.canonicalizer import Canonicalizer
from equicli.canonicalization.prior import MODEL, Prior, near_chance
from equicli.config import AdaptConfig
from equicli.data.clouds.decode import CloudDecoder
from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.data.decode import Decoder
from equicli.data.folders import Dataset, Sample, Split
from equicli.data.loading import tell_unreadable
from equicli.data.preprocess import Preprocess
from equicli.data.source import Joined, Resident, Source
from equicli.data.value_range import AS_USUAL
from equicli.devices import find_device
from equicli.groups import as_finite, parse_group
from equicli.groups.action import act, kind_of
from equicli.groups.elements import inverse
from equicli.model_config import CanonicalizerSpec, ModelConfig
from equicli.policy import One, policy_of, temperature_of
from equicli.prediction.head import find_head
from equicli.prediction.inputs import Tensors
from equicli.prediction.network import PretrainedNetwork
from equicli.prediction.signature import asking
from equicli.progress import Progress
from equicli.runs import Run, become_latest, start_run
from equicli.tasks.registry import make_task
from equicli.tasks.task import Binding, Task
from equicli.training.clouds import read_training_clouds
from equicli.training.features import Features
from equicli.training.gate import calibrate, make_gate
from equicli.training.images import NO_IMAGES, TrainingImages, read_training_images
from equicli.training.loop import fit
from equicli.training.objective import Objective, TaskLoss
from equicli.training.pose_targets import find_pose_targets
from equicli.training.start import (
    check_resumed,
    first_picture,
    load_frozen,
    load_own_code,
    make_canonicalizer,
    open_data,
    open_origin,
    tell_broken,
    tell_copies,
)
from equicli.training.upright import open_upright, read_upright
from equicli.training.value_ranges import find_value_ranges


@dataclass(frozen=True)
class Adapted:
    """What `train_canonicalizer` made, and the validation samples that can be read, to report on.

    seen: fingerprints of the pictures that were trained on, where nothing was trained here and so others may be among
        the validation samples; None where these are known to have chosen something, or nothing says.
    """

    model: AdaptedModel
    config: ModelConfig
    data: Dataset
    validation: tuple[Sample, ...]
    seen: frozenset[bytes] | None = None


def train_canonicalizer(config: AdaptConfig, run: Run, progress: Progress, *, resume: bool = False) -> Adapted:
    """Train a canonicalizer for a pretrained network on a dataset folder, and write the artifact into the run folder.

    Nothing is written before data and network are known to fit. The prediction network is only read.

    Args:
        resume: go on in a run folder that an earlier call left unfinished.

    Raises:
        UsageError: a path, name or option is wrong.
        EquicliError: the files do not hold what is needed.
    """
    if resume and run.trained:
        return _take_up(config, run, progress)
    device = find_device(config.device)
    task, training = make_task(config.task), config.training
    policy = policy_of(config.policy)
    data, split = open_data(config, task, run, progress, resume=resume)
    upright, origin = open_upright(config, progress), open_origin(config, run, resume=resume)
    found = load_frozen(config, task, data, device, progress)
    group = parse_group(config.group)
    prior = Prior.of(config.prior, group)

    pose = group.find(*prior.main)
    assert pose is not None

    def turn_back(picture: Tensor) -> Tensor:
        """Bring a picture of the folder to the pose that the network expects."""
        return act(group, inverse(group, pose), picture, kind_of(group), padding=config.padding)

    ranges = AS_USUAL
    if isinstance(found.preprocess, Preprocess):  # of pictures
        ranges = find_value_ranges(split.train, config.value_range, config.max_pixels, progress)
    decoder = found.preprocess.decoder(ranges, config.max_pixels)

    def show(picture: Tensor) -> Tensor:
        """A picture of the folder as the network takes it."""
        return found.preprocess.normalization(found.preprocess(turn_back(picture)).to(device))[None]

    first = first_picture(split, decoder)
    shown = show(first)
    binding = task.bind(found, data, shown, lambda sample: show(decoder.read(sample.path)), progress)
    if binding.head_needed:
        found = replace(found, spec=replace(found.spec, head=find_head(found.network, shown)))
    canonicalizer = make_canonicalizer(config, group, origin, found, task, first, device)
    for remark in (*canonicalizer.remarks, *(origin.remarks(group) if origin else ())):
        progress.say(remark)
    learnable = training.train_base or any(parameter.requires_grad for parameter in canonicalizer.parameters())
    trains = learnable and training.epochs > 0
    features = Features.read(run.features) if resume and binding.head_needed else None
    images = NO_IMAGES
    if trains or binding.head_needed:
        asked = found.network if binding.head_needed and features is None else None
        images = _read(config, canonicalizer, found, split, decoder, asked, turn_back, device, progress, keep=trains)
    tell_unreadable(images.unreadable, progress, task.things)
    spec = found.spec
    if images.features is not None:
        features = Features(images.features, images.samples)
    if binding.head_needed:
        assert features is not None
        of_train, of_validation = features.of(images)
        binding, spec = task.fit_head(
            found,
            data,
            (of_train, list(images.train.targets)),
            (of_validation, list(images.validation.targets)),
            progress,
        )
    model_config = ModelConfig(
        task=task.name,
        task_settings=task.stored(),
        signature=task.signature,
        group=config.group,
        canonicalizer=CanonicalizerSpec(
            config.canonicalizer.kind,
            asdict(canonicalizer.spec),
            origin.source(group, training.epochs) if origin else {},
        ),
        prediction_network=spec,
        preprocess=found.preprocess,
        labels=binding.labels,
        class_names=binding.class_names,
        provenance=found.provenance,
        prior=prior,
        padding=config.padding,
        policy=policy,
        trained_base=training.train_base,
        value_ranges=ranges,
    )
    if resume:
        check_resumed(run, model_config)
        run.write_settings(config.model_dump(mode="json"))  # the folder may have moved, epochs may be more
    else:
        start_run(run, config.model_dump(mode="json"), split.paths(data.root), model_config.to_json() + "\n")
        if features is not None:
            features.write(run.features)
    if origin and origin.path != run.start:
        copy_canonicalizer(origin.path, run.start)
    become_latest(run, progress)
    run.append_log({"used": len(data.samples), "left_out": data.left_out.counts()})
    run.append_log({"unreadable": {str(path): why for path, why in images.unreadable.items()}})
    learned = set(images.fingerprints.values())
    if trains:
        modules = [canonicalizer, found.network] if training.train_base else [canonicalizer]
        run.append_log({"trainable_parameters": sum(p.numel() for m in modules for p in m.parameters())})
        own, validation = _targets(config, task, found, split, data, binding, images, decoder, progress)
        train: Source = own
        if upright:
            assert isinstance(decoder, Decoder)  # the configuration refuses it for clouds
            added = read_upright(
                upright,
                images.fingerprints.values(),
                split.test,
                view=canonicalizer.view,
                turn=lambda picture: act(group, pose, picture, padding=config.padding),
                folder=run.folder,
                decoder=decoder,
                strict=config.strict,
                progress=progress,
            )
            added.record(run)
            learned.update(added.fingerprints)
            train = Joined(own, added.images)
        _train(config, task, canonicalizer, found, prior, (train, validation), run, progress)
    elif origin:
        progress.say("attached as it is, without training (epochs=0)")
    else:
        progress.say(f"--canonicalizer {config.canonicalizer.kind} has nothing to train")
    model = model_config.assemble(canonicalizer.ship(), found.network.eval())
    readable = tuple(sample for sample in split.validation if sample.path not in images.unreadable)
    # Trained towards targets of their own, p(g|x) is of these and not of the prior's poses: nothing is to be fitted.
    temperature = 1.0 if config.prior == MODEL else None
    if config.policy.kind == "gate":
        right = task.targets(readable, data, binding.labels)
        gate = make_gate(
            model,
            task,
            readable,
            right,
            prior,
            passes=config.policy.passes,
            temperature=temperature,
            decoder=decoder,
            progress=progress,
        )
        model.policy, model_config = gate, replace(model_config, policy=gate)
    elif isinstance(policy, One) and origin and not trains:
        model.policy = One(temperature_of(artifact.read_config(origin.path).policy))
        model_config = replace(model_config, policy=model.policy)
    elif (
        isinstance(policy, One)
        and not temperature
        and images.validation.looks is not None
        and canonicalizer.finds_poses
    ):
        model.policy = calibrate(canonicalizer, images.validation.looks, prior)
        model_config = replace(model_config, policy=model.policy)
    before = origin.pictures_seen() if origin else frozenset()
    write_artifact(run.model, model, model_config, pictures=None if before is None else before | learned)
    tell_copies(split, images.fingerprints, decoder, progress)
    tell_broken(split, decoder, progress)
    run.write(run.config.name, model_config.to_json() + "\n")
    _clear(run)
    return Adapted(model, model_config, data, readable, None if learned else before)


def _take_up(config: AdaptConfig, run: Run, progress: Progress) -> Adapted:
    """What an earlier call made, and was stopped before it was reported on."""
    progress.say(f"{run.model} is there: only its reports are missing")
    data, split = open_data(config, make_task(config.task), run, progress, resume=True)
    model = artifact.load(run.model, network=load_own_code(config.network))
    run.write_settings(config.model_dump(mode="json"))
    become_latest(run, progress)
    _clear(run)
    unreadable = {path for entry in run.read_log() for path in entry.get("unreadable", ())}
    readable = tuple(sample for sample in split.validation if str(sample.path) not in unreadable)
    model_config = artifact.read_config(run.model)
    nothing_learned = config.training.epochs == 0 and model_config.prediction_network.head_outputs is None
    seen = artifact.read_pictures_seen(run.model) if nothing_learned else None
    return Adapted(model, model_config, data, readable, seen)


def _clear(run: Run) -> None:
    """Remove what only training needed."""
    for needed_to_resume in (run.state, run.features, run.start):
        needed_to_resume.unlink(missing_ok=True)


def _read(
    config: AdaptConfig,
    canonicalizer: Canonicalizer,
    found: PretrainedNetwork,
    split: Split,
    decoder: Decoder | CloudDecoder,
    features_of: nn.Module | None,
    turn_back: Callable[[Tensor], Tensor],
    device: torch.device,
    progress: Progress,
    *,
    keep: bool,
) -> TrainingImages:
    """Open every training and validation image or cloud once."""
    training, preprocess = config.training, found.preprocess
    if isinstance(preprocess, CloudPreprocess):
        assert isinstance(decoder, CloudDecoder)
        return read_training_clouds(
            split,
            preprocess,
            features_of=features_of,
            head=found.spec.head,
            turn_back=turn_back,
            device=device,
            batch_size=training.batch_size,
            decoder=decoder,
            strict=config.strict,
            progress=progress,
        )
    assert isinstance(decoder, Decoder)
    return read_training_images(
        split,
        preprocess,
        None if training.task_weight else canonicalizer.view,
        look=_look(config, canonicalizer, preprocess),
        keep=keep,
        features_of=features_of,
        head=found.spec.head,
        turn_back=turn_back,
        device=device,
        batch_size=training.batch_size,
        decoder=decoder,
        strict=config.strict,
        progress=progress,
    )


def _look(config: AdaptConfig, canonicalizer: Canonicalizer, preprocess: Preprocess) -> Callable[[Tensor], Tensor]:
    """What the canonicalizer is shown of a picture where the run is evaluated."""
    view = canonicalizer.view
    if config.evaluation.rotate == "file":
        return view.of_picture

    def of_tensor(picture: Tensor) -> Tensor:
        return Tensors(preprocess.normalization(preprocess(picture))[None], preprocess.normalization).small(view)[0]

    return of_tensor


def _targets(
    config: AdaptConfig,
    task: Task,
    found: PretrainedNetwork,
    split: Split,
    data: Dataset,
    binding: Binding,
    images: TrainingImages,
    decoder: Decoder | CloudDecoder,
    progress: Progress,
) -> tuple[Resident, Resident]:
    """Training and validation images with the targets that the task's loss takes, and with the poses that are right for
    each where the network is to say.
    """
    samples = split.train + split.validation
    read = [samples[i] for i in images.samples.tolist()]
    right = task.targets(read, data, binding.labels)
    targets: Sequence[Any] = right or [None] * len(read)
    n, poses = len(images.train), None
    if config.prior == MODEL:
        poses = find_pose_targets(
            found,
            task,
            as_finite(parse_group(config.group)),
            read,
            right,
            padding=config.padding,
            device=images.train.pixels.device,
            decoder=decoder,
            progress=progress,
        )

    def part(of: Resident, rows: slice) -> Resident:
        return replace(of, targets=targets[rows], poses=None if poses is None else poses[rows])

    return part(images.train, slice(n)), part(images.validation, slice(n, None))


def _train(
    config: AdaptConfig,
    task: Task,
    canonicalizer: Canonicalizer,
    found: PretrainedNetwork,
    prior: Prior,
    images: tuple[Source, Resident],
    run: Run,
    progress: Progress,
) -> None:
    """Fit the canonicalizer, and the network where it is trained, too."""
    training = config.training
    if training.prior_weight and config.prior != MODEL:
        known = "" if prior.upright else " (r0 is upright, as the network knows)"
        progress.say(task.said("prior: the pose of training images") + f" is taken to be {prior}{known}")
    network = found.network.requires_grad_(training.train_base)
    if training.train_base:
        progress.say("training the prediction network, too: the artifact holds other weights than were loaded")
    loss = None
    if training.task_weight:
        normalization = found.preprocess.normalization
        ask = asking(network, task.signature)
        signature = task.signature
        loss = TaskLoss(ask, normalization, policy_of(config.policy), task.loss, signature.outputs, signature.inputs)
    objective = Objective.of(training, prior, config.padding, loss, config.prior == MODEL)
    epoch, scores = fit(
        canonicalizer,
        *images,
        objective,
        training,
        config.seed,
        base=network if training.train_base else None,
        state=run.state,
        log=run.append_log,
        progress=progress,
    )
    by_rate = objective.judged_by_identity_rate
    best = f"identity rate {scores.identity_rate:.1%}" if by_rate else f"loss {scores.loss:.3f}"
    of = task.said(f"all {len(images[1])} validation images")
    if (
        training.prior_weight
        and config.prior != MODEL
        and near_chance(canonicalizer.group, prior, scores.identity_rate)
    ):
        rate = f"of {of} {scores.identity_rate:.1%} are found as the prior says, near chance"
        progress.say(f"keeping epoch {epoch}, though training learned next to nothing: {rate}")
    else:
        progress.say(f"keeping epoch {epoch}, the best by its {best} on {of}")
