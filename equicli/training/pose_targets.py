"""What the frozen network says of each training picture in every pose, asked once before training: how likely it finds
the pose (`--prior model`), or its own loss (`task_weight` of detectors)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from equicli.data.folders import Sample
from equicli.data.loading import Loader
from equicli.groups import Group, PlanarGroup, as_finite
from equicli.prediction.clouds import inputs_from_samples
from equicli.prediction.evidence import logsumexp
from equicli.prediction.inputs import Inputs, Views
from equicli.prediction.signature import asking
from equicli.tasks.task import Task
from equicli.training.setup import Setup

BATCH = 32
_TOLD = 8  # poses, at most


@torch.inference_mode()
def find_pose_targets(setup: Setup, samples: Sequence[Sample], targets: Sequence[Any] | None) -> Tensor:
    """Ask the network about every view of some pictures: |G| passes each.

    Args:
        samples: pictures that can be read.
        targets: what is right for each; None where nothing says, and how sure the network is of a view (logsumexp of
            its logits) stands for its likelihood.

    Returns:
        float32 (n, |G|), each row adding up to 1: q(g | x) ∝ p(y | g⁻¹·x).
    """
    group, signature = as_finite(setup.group), setup.task.signature
    ask = asking(setup.found.network, signature)

    def of_batch(inputs: Inputs, rows: list[int]) -> Tensor:
        views = Views(inputs, group, ask, signature.outputs)
        outputs = [views.at(g) for g in range(group.order)]
        if targets is None:
            likelihoods = [logsumexp(output) for output in outputs]
        else:
            likelihoods = [-_losses(setup.task, output, [targets[i] for i in rows]) for output in outputs]
        return torch.stack(likelihoods, dim=1).softmax(dim=1)

    found = _of_pictures(setup, samples, BATCH, "prior: asking the network about", of_batch)
    mean = found.mean(dim=0).tolist()
    likeliest = sorted(range(group.order), key=lambda g: -mean[g])[:_TOLD]
    shares = ", ".join(f"{group.label(g)} {mean[g]:.0%}" for g in likeliest)
    setup.progress.say(f"prior: of the network's likelihood {shares}" + (", …" if group.order > _TOLD else ""))
    return found


def find_pose_costs(setup: Setup, samples: Sequence[Sample], targets: Sequence[Any] | None) -> Tensor:
    """Ask the frozen network for its own loss of every view of some pictures: |G| passes each.

    Args:
        samples: pictures that can be read. targets: what is right for each.

    Returns:
        float32 (n, |G|), on the CPU.

    Raises:
        EquicliError: see `Task.pose_costs`.
    """
    assert targets is not None  # unlabelled pictures are refused before

    def of_batch(inputs: Inputs, rows: list[int]) -> Tensor:
        right = [targets[i] for i in rows]
        return setup.task.pose_costs(setup.found.network, inputs, as_finite(setup.group), right)

    return _of_pictures(setup, samples, 1, "task: the network's own loss of", of_batch)


def _of_pictures(
    setup: Setup,
    samples: Sequence[Sample],
    batch_size: int,
    words: str,
    of_batch: Callable[[Inputs, list[int]], Tensor],
) -> Tensor:
    """What is known of pictures (n, …), batch by batch, on the CPU.

    Args:
        of_batch: of a batch, and which of the samples it has.
    """
    signature, progress = setup.task.signature, setup.progress
    order, n = as_finite(setup.group).order, len(samples)
    progress.say(f"{words} {n} images in {order} poses, {order * n:,} passes")
    rows: list[Tensor] = []
    loader = Loader(samples, lambda picture: picture, batch_size, decoder=setup.decoder)
    for batch in progress.track(loader, "asking about poses", n, size=lambda batch: len(batch.indices)):
        inputs = inputs_from_samples(
            batch.items,
            setup.found.preprocess,
            setup.device,
            setup.config.padding,
            lists=signature.lists,
            outputs=signature.outputs,
        )
        rows.append(of_batch(inputs, batch.indices.tolist()).cpu())
    return torch.cat(rows)


def mirrored(group: Group, targets: Tensor) -> Tensor:
    """The targets (b, |G|) of the same pictures mirrored left-right: h⁻¹·m·x is x from another pose, maybe mirrored."""
    assert isinstance(group, PlanarGroup)
    handed = group.find(0, True) is not None
    before = [group.find(-group.angle(h) % 360, group.mirrored(h) != handed) for h in group.elements()]
    return targets[:, before]


def _losses(task: Task, output: Tensor, targets: Sequence[Any]) -> Tensor:
    """The task's loss of each sample, float32 (b,)."""
    return torch.stack([task.loss(output[i : i + 1], [target]) for i, target in enumerate(targets)])
