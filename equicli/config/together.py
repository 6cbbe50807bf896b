"""Settings that are right one by one, but together do nothing or contradict each other."""

from collections.abc import Mapping

from equicli.canonicalization.canonicalizer import Canonicalizer
from equicli.config.adapt import AdaptConfig
from equicli.data.reencode import find_encoding
from equicli.errors import UsageError
from equicli.groups import Group, is_finite
from equicli.policy import Gate, policy_of
from equicli.prediction.inputs import stays
from equicli.tasks.registry import TASKS
from equicli.tree import Tree


def check_together(config: AdaptConfig, group: Group, kind: type[Canonicalizer], tree: Tree) -> None:
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
    policy_flag = tree.name("policy.kind") if config.policy.passes is None else "--passes"
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
        f"{tree.name('training.precision')} = {training.precision}: coordinates of clouds have too few places in it; "
        "leave it out": group.dimension == 3 and training.precision != "fp32",
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
        f"{policy_flag}: there is no prediction network to ask; leave it out": (
            config.policy.kind != "one" and not asked.has_network
        ),
        f"{policy_flag}: a picture's pose is found before its prompts are known, and one embedding serves all, so a "
        "network that answers prompts is asked at one; leave it out": (
            config.policy.kind != "one" and isinstance(asked.signature.inputs, Mapping)
        ),
        f"{policy_flag}: {refusal}": refusal is not None,
        f"{tree.name('policy.of')}: says what a mean is of; add policy=mean, or leave it out": (
            config.policy.kind != "mean" and config.policy.of != "probabilities"
        ),
        f"{tree.name('policy.passes')}: says how often a gate asks; add policy=gate, or leave it out": (
            config.policy.passes is not None and config.policy.kind != "gate"
        ),
        f"{policy_flag}: a gate opens where a pose is not sure, and {flag} finds none; leave it out": (
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
        "--train-base: trains classifiers; a detector's own loss trains the canonicalizer alone; leave it out": (
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
        f"{tree.name('training.views')}: {group.name} has no more views; name fewer, or leave it out": (
            training.views is not None and is_finite(group) and training.views >= group.order
        ),
        f"{tree.name('training.crop_size')}: only of zoomed crops, where {flag} takes any size; leave it out": (
            training.crop_size < 1 and not (kind.takes_any_size and training.crop == "zoom" and not of_inputs)
        ),
        f"{tree.name('canonicalizer.glance')}: with {task} all images are shown at one size, so that a first look at "
        "fewer pixels would never be learned; leave it out": (
            bool(getattr(config.canonicalizer, "glance", None)) and of_inputs
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
