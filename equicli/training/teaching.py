"""A canonicalizer taught on what was read: with what targets, on which images, by which losses."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from equicli.canonicalization.canonicalizer import Canonicalizer
from equicli.canonicalization.prior import MODEL, near_chance
from equicli.data.decode import Decoder
from equicli.data.source import Joined, Resident, Source
from equicli.groups.action import act
from equicli.policy import policy_of
from equicli.prediction.signature import asking
from equicli.runs import Run
from equicli.tasks.task import Binding
from equicli.training.images import TrainingImages
from equicli.training.loop import Scores, fit
from equicli.training.objective import Objective, TaskLoss
from equicli.training.pose_targets import find_pose_costs, find_pose_targets
from equicli.training.setup import Setup
from equicli.training.upright import read_upright


def teach(
    setup: Setup, canonicalizer: Canonicalizer, binding: Binding, images: TrainingImages, run: Run
) -> tuple[frozenset[bytes], dict[str, Any]]:
    """Fit the canonicalizer, and the network where it is trained, too.

    Returns:
        Fingerprints of all pictures that it learned from or was chosen by; and what an artifact tells of the share of
        validation images that it finds as the prior says, where that was learned.
    """
    train_base = setup.config.training.train_base
    modules = [canonicalizer, setup.found.network] if train_base else [canonicalizer]
    run.append_log({"trainable_parameters": sum(p.numel() for m in modules for p in m.parameters())})
    own, validation = _targets(setup, binding, images)
    train: Source = own
    learned = frozenset(images.fingerprints.values())
    if setup.upright:
        assert isinstance(setup.decoder, Decoder)  # the configuration refuses it for clouds
        added = read_upright(
            setup.upright,
            images.fingerprints.values(),
            setup.split.test,
            view=canonicalizer.view,
            turn=lambda picture: act(setup.group, setup.pose, picture, padding=setup.config.padding),
            folder=run.folder,
            decoder=setup.decoder,
            strict=setup.config.strict,
            progress=setup.progress,
        )
        added.record(run)
        learned |= frozenset(added.fingerprints)
        train = Joined(own, added.images)
    scores = _fit(setup, canonicalizer, train, validation, run)
    known = {"identity_rate": scores.identity_rate, "identity_rate_of": len(validation)}
    return learned, known if _learns_prior(setup) else {}


def _learns_prior(setup: Setup) -> bool:
    return bool(setup.config.training.prior_weight) and setup.config.prior != MODEL


def _targets(setup: Setup, binding: Binding, images: TrainingImages) -> tuple[Resident, Resident]:
    """Training and validation images with the targets that the task's loss takes, and with the poses that are right for
    each where the network is to say.
    """
    samples = setup.split.train + setup.split.validation
    read = [samples[i] for i in images.samples.tolist()]
    right = setup.task.targets(read, setup.data, binding.labels)
    targets: Sequence[Any] = right or [None] * len(read)
    n, poses = len(images.train), None
    if setup.config.prior == MODEL:
        poses = find_pose_targets(setup, read, right)
    elif _costs_poses(setup):
        poses = find_pose_costs(setup, read, right)

    def part(of: Resident, rows: slice) -> Resident:
        return replace(of, targets=targets[rows], poses=None if poses is None else poses[rows])

    return part(images.train, slice(n)), part(images.validation, slice(n, None))


def _costs_poses(setup: Setup) -> bool:
    """Whether the frozen network's own loss of each image is to be known in every pose, before training."""
    return bool(setup.config.training.task_weight) and setup.task.has_pose_costs


def _fit(setup: Setup, canonicalizer: Canonicalizer, train: Source, validation: Resident, run: Run) -> Scores:
    config, training, progress = setup.config, setup.config.training, setup.progress
    if _learns_prior(setup):
        known = "" if setup.prior.upright or not setup.task.has_network else " (r0 is upright, as the network knows)"
        progress.say(setup.task.said("prior: the pose of training images") + f" is taken to be {setup.prior}{known}")
    network = setup.found.network.requires_grad_(training.train_base)
    if training.train_base:
        progress.say("training the prediction network, too: the artifact holds other weights than were loaded")
    objective = Objective.of(
        training, setup.prior, config.padding, _task_loss(setup), config.prior == MODEL, _costs_poses(setup)
    )
    epoch, scores = fit(
        canonicalizer,
        train,
        validation,
        objective,
        training,
        config.seed,
        base=network if training.train_base else None,
        trained_before=setup.origin is not None,
        state=run.state,
        log=run.append_log,
        progress=progress,
    )
    progress.say(_kept(setup, objective, epoch, scores, len(validation)))
    return scores


def _task_loss(setup: Setup) -> TaskLoss | None:
    """What the prediction network makes of canonical inputs, where that is to count."""
    if not setup.config.training.task_weight or _costs_poses(setup):
        return None
    signature = setup.task.signature
    return TaskLoss(
        asking(setup.found.network, signature),
        setup.found.preprocess.normalization,
        policy_of(setup.config.policy),
        setup.task.loss,
        signature.outputs,
        signature.inputs,
    )


def _kept(setup: Setup, objective: Objective, epoch: int, scores: Scores, n: int) -> str:
    """Which epoch is kept and why, for the user."""
    of = setup.task.said(f"all {n} validation images")
    which = f"epoch {epoch}" if epoch else "the weights that it started from"
    if _learns_prior(setup) and near_chance(setup.group, setup.prior, scores.identity_rate, n):
        rate = f"of {of} {scores.identity_rate:.1%} are found as the prior says, near chance"
        return f"keeping {which}, though training learned next to nothing: {rate}"
    by_rate = objective.judged_by_identity_rate
    best = f"identity rate {scores.identity_rate:.1%}" if by_rate else f"loss {scores.loss:.3f}"
    return f"keeping {which}, the best by its {best} on {of}"
