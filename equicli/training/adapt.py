"""From a configuration to a run folder with an adapted model in it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from equicli import artifact
from equicli.adapted import AdaptedModel
from equicli.artifact import copy_canonicalizer, write_artifact
from equicli.canonicalization.canonicalizer import Canonicalizer
from equicli.canonicalization.prior import MODEL
from equicli.config import AdaptConfig
from equicli.data.folders import Dataset, Sample
from equicli.data.loading import tell_unreadable
from equicli.model_config import CanonicalizerSpec, ModelConfig
from equicli.policy import One, Policy, policy_of, temperature_of
from equicli.progress import Progress
from equicli.runs import Run, become_latest, start_run
from equicli.tasks.registry import make_task
from equicli.tasks.task import Binding
from equicli.training.features import Features
from equicli.training.gate import calibrate, make_gate
from equicli.training.images import NO_IMAGES, TrainingImages
from equicli.training.reading import read_training_data
from equicli.training.setup import Setup, make_canonicalizer
from equicli.training.start import check_resumed, load_own_code, open_data, tell_broken, tell_copies
from equicli.training.teaching import teach


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
    setup, binding = Setup.open(config, run, progress, resume=resume).bind()
    canonicalizer = make_canonicalizer(setup)
    learnable = config.training.train_base or any(parameter.requires_grad for parameter in canonicalizer.parameters())
    trains = learnable and config.training.epochs > 0
    features = Features.read(run.features) if resume and binding.head_needed else None
    images = NO_IMAGES
    if trains or binding.head_needed:
        asked = setup.found.network if binding.head_needed and features is None else None
        images = read_training_data(setup, canonicalizer, asked, keep=trains)
    tell_unreadable(images.unreadable, progress, setup.task.things)
    if images.features is not None:
        features = Features(images.features, images.samples)
    if binding.head_needed:
        assert features is not None
        setup, binding = _fit_head(setup, features, images)
    model_config = _model_config(setup, binding, canonicalizer)
    _begin(setup, run, model_config, features, resume=resume)
    run.append_log({"unreadable": {str(path): why for path, why in images.unreadable.items()}})
    learned = frozenset(images.fingerprints.values())
    if trains:
        learned, known = teach(setup, canonicalizer, binding, images, run)
        model_config = replace(model_config, **known)
    elif setup.origin:
        model_config = replace(model_config, **setup.origin.found(setup.group, setup.prior))
        progress.say("attached as it is, without training (epochs=0)")
    else:
        progress.say(f"--canonicalizer {config.canonicalizer.kind} has nothing to train")
    model = model_config.assemble(canonicalizer.ship(), setup.found.network.eval())
    readable = tuple(sample for sample in setup.split.validation if sample.path not in images.unreadable)
    model.policy = _choose_policy(setup, binding, model, images, readable, trains=trains)
    model_config = replace(model_config, policy=model.policy)
    before = setup.origin.pictures_seen() if setup.origin else frozenset()
    write_artifact(run.model, model, model_config, pictures=None if before is None else before | learned)
    tell_copies(setup.split, images.fingerprints, setup.decoder, progress)
    tell_broken(setup.split, setup.decoder, progress)
    run.write(run.config.name, model_config.to_json() + "\n")
    _clear(run)
    return Adapted(model, model_config, setup.data, readable, None if learned else before)


def _fit_head(setup: Setup, features: Features, images: TrainingImages) -> tuple[Setup, Binding]:
    """Fit a last layer to the folder's classes, and put it into the network."""
    of_train, of_validation = features.of(images)
    binding, spec = setup.task.fit_head(
        setup.found,
        setup.data,
        (of_train, list(images.train.targets)),
        (of_validation, list(images.validation.targets)),
        setup.progress,
    )
    return replace(setup, found=replace(setup.found, spec=spec)), binding


def _model_config(setup: Setup, binding: Binding, canonicalizer: Canonicalizer) -> ModelConfig:
    """What the artifact says of itself; its policy may still be fitted."""
    config, task, found, origin = setup.config, setup.task, setup.found, setup.origin
    return ModelConfig(
        task=task.name,
        task_settings=task.stored(),
        signature=task.signature,
        group=config.group,
        canonicalizer=CanonicalizerSpec(
            config.canonicalizer.kind,
            asdict(canonicalizer.spec),
            origin.source(setup.group, config.training.epochs) if origin else {},
        ),
        prediction_network=found.spec,
        preprocess=found.preprocess,
        labels=binding.labels,
        class_names=binding.class_names,
        provenance=found.provenance,
        prior=setup.prior,
        padding=config.padding,
        policy=policy_of(config.policy),
        trained_base=config.training.train_base,
        value_ranges=setup.ranges,
    )


def _begin(setup: Setup, run: Run, model_config: ModelConfig, features: Features | None, *, resume: bool) -> None:
    """Make the run folder, or check that it goes on from where it was begun: all that can be refused was."""
    settings = setup.config.model_dump(mode="json")
    if resume:
        check_resumed(run, model_config)
        run.write_settings(settings)  # the folder may have moved, epochs may be more
    else:
        start_run(run, settings, setup.split.paths(setup.data.root), model_config.to_json() + "\n")
        if features is not None:
            features.write(run.features)
    if setup.origin and setup.origin.path != run.start:
        copy_canonicalizer(setup.origin.path, run.start)
    become_latest(run, setup.progress)
    run.append_log({"used": len(setup.data.samples), "left_out": setup.data.left_out.counts()})


def _choose_policy(
    setup: Setup,
    binding: Binding,
    model: AdaptedModel,
    images: TrainingImages,
    readable: Sequence[Sample],
    *,
    trains: bool,
) -> Policy:
    """The policy that was asked for, with what is to be fitted or measured on validation images."""
    config, asked = setup.config, model.policy
    # Trained towards targets of their own, p(g|x) is of these and not of the prior's poses: nothing is to be fitted.
    temperature = 1.0 if config.prior == MODEL else None
    if config.policy.kind == "gate":
        return make_gate(
            model,
            setup.task,
            readable,
            setup.task.targets(readable, setup.data, binding.labels),
            setup.prior,
            passes=config.policy.passes,
            temperature=temperature,
            decoder=setup.decoder,
            progress=setup.progress,
        )
    if isinstance(asked, One) and setup.origin and not trains:
        return One(temperature_of(artifact.read_config(setup.origin.path).policy))
    looks = images.validation.looks
    if isinstance(asked, One) and not temperature and looks is not None and model.canonicalizer.finds_poses:
        return calibrate(model.canonicalizer, looks, setup.prior)
    return asked


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
