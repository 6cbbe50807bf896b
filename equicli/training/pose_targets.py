"""`--prior model`: which poses of each training picture the prediction network can use, by its own likelihood."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from equicli.data.clouds.decode import CloudDecoder
from equicli.data.decode import Decoder
from equicli.data.folders import Sample
from equicli.data.loading import Loader
from equicli.data.preprocess import Preprocess
from equicli.groups import FiniteGroup, Group, PlanarGroup
from equicli.prediction.evidence import logsumexp
from equicli.prediction.inputs import Pictures, Views
from equicli.prediction.network import PretrainedNetwork
from equicli.prediction.signature import asking
from equicli.progress import Progress
from equicli.tasks.task import Task

BATCH = 32
_TOLD = 8  # poses, at most


@torch.inference_mode()
def find_pose_targets(
    found: PretrainedNetwork,
    task: Task,
    group: FiniteGroup,
    samples: Sequence[Sample],
    targets: Sequence[Any] | None,
    *,
    padding: str,
    device: torch.device,
    decoder: Decoder | CloudDecoder,
    progress: Progress,
) -> Tensor:
    """Ask the network about every view of some pictures: |G| passes each.

    Args:
        samples: pictures that can be read.
        targets: what is right for each; None where nothing says, and how sure the network is of a view (logsumexp of
            its logits) stands for its likelihood.

    Returns:
        float32 (n, |G|), each row adding up to 1: q(g | x) ∝ p(y | g⁻¹·x).
    """
    ask = asking(found.network, task.signature)
    count = group.order * len(samples)
    progress.say(f"prior: asking the network about the {group.order} poses of {len(samples)} images, {count:,} passes")
    rows: list[Tensor] = []
    loader = Loader(samples, lambda picture: picture, BATCH, decoder=decoder)
    for batch in progress.track(loader, "asking about poses", len(samples), size=lambda batch: len(batch.indices)):
        assert isinstance(found.preprocess, Preprocess)  # a finite group turns pictures
        inputs = Pictures(batch.items, found.preprocess, device, padding)
        views = Views(inputs, group, ask, task.signature.outputs)
        outputs = [views.at(g) for g in range(group.order)]
        if targets is None:
            likelihoods = [logsumexp(output) for output in outputs]
        else:
            right = [targets[i] for i in batch.indices.tolist()]
            likelihoods = [-_losses(task, output, right) for output in outputs]
        rows.append(torch.stack(likelihoods, dim=1).softmax(dim=1).cpu())
    found_targets = torch.cat(rows)
    mean = found_targets.mean(dim=0).tolist()
    likeliest = sorted(range(group.order), key=lambda g: -mean[g])[:_TOLD]
    shares = ", ".join(f"{group.label(g)} {mean[g]:.0%}" for g in likeliest)
    progress.say(f"prior: of the network's likelihood {shares}" + (", …" if group.order > _TOLD else ""))
    return found_targets


def find_pose_costs(
    found: PretrainedNetwork,
    task: Task,
    group: FiniteGroup,
    samples: Sequence[Sample],
    targets: Sequence[Any] | None,
    *,
    padding: str,
    device: torch.device,
    decoder: Decoder | CloudDecoder,
    progress: Progress,
) -> Tensor:
    """Ask the frozen network for its own loss of every view of some pictures: |G| passes each, once.

    Args:
        samples: pictures that can be read. targets: what is right for each.

    Returns:
        float32 (n, |G|), on the CPU.

    Raises:
        EquicliError: see `Task.pose_costs`.
    """
    assert targets is not None  # the configuration refuses unlabelled pictures
    count = group.order * len(samples)
    progress.say(f"task: the network's own loss of {len(samples)} images in {group.order} poses, {count:,} passes")
    rows: list[Tensor] = []
    loader = Loader(samples, lambda picture: picture, 1, decoder=decoder)
    for batch in progress.track(loader, "asking about poses", len(samples), size=lambda batch: len(batch.indices)):
        assert isinstance(found.preprocess, Preprocess)
        inputs = Pictures(batch.items, found.preprocess, device, padding, lists=task.signature.lists, grows=True)
        rows.append(task.pose_costs(found.network, inputs, group, [targets[i] for i in batch.indices.tolist()]).cpu())
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
