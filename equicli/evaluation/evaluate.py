"""Vanilla, adapted, symmetrized and oracle on the same images, turned by every element of a group."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equicli.adapted import AdaptedModel
from equicli.data.loading import Batch
from equicli.data.normalization import Normalization
from equicli.devices import arithmetic
from equicli.errors import EquicliError
from equicli.evaluation.turned import Turn, TurnedBatch
from equicli.groups import PlanarGroup
from equicli.tasks import classification

SYSTEMS = ("vanilla", "adapted", "symmetrized", "oracle")

# Scores closer than this may order differently on the same image turned by 90°: a rounding apart.
TIE = 1e-5


@dataclass(frozen=True)
class Evaluation:
    """Counts over a whole test set of n images and |R| elements; nothing is averaged over batches.

    correct: for each of SYSTEMS, bool (n, |R|).
    predictions: of the adapted model, int64 (n, |R|).
    poses: ĝ, elements of the adapted group, int64 (n, |R|).
    ties: bool (n,), images whose two best scores were within TIE for some element.
    max_logit_delta: largest absolute change of a logit of the adapted model between the untouched and a turned image.
    agreement: whether "right" means agreement with the vanilla prediction on the untouched image (no labels).
    """

    elements: PlanarGroup
    group: PlanarGroup
    correct: Mapping[str, Tensor]
    predictions: Tensor
    poses: Tensor
    ties: Tensor
    max_logit_delta: float
    agreement: bool


def evaluate(
    model: AdaptedModel,
    batches: Iterable[Batch],
    targets: Tensor,
    normalization: Normalization,
    elements: PlanarGroup,
    *,
    turned: bool = False,
    device: torch.device,
    precision: str = "fp32",
) -> Evaluation:
    """Evaluate an adapted model beside its baselines, in one pass over the images.

    Args:
        batches: uint8 images (b, 1, 3, h, w), turned here; with `turned` (b, |R|, 3, h, w), already turned as files.
        targets: int64 (samples,), the output that is right for each sample; -1 throughout where there are no labels.
        elements: R, the group whose every element acts on the images.
    """
    model = model.to(device).eval()
    group = model.canonicalizer.group
    unlabelled = bool((targets < 0).all())
    correct: dict[str, list[Tensor]] = {name: [] for name in SYSTEMS}
    predictions, poses, ties = [], [], []
    max_delta = 0.0
    with torch.inference_mode(), arithmetic(device, precision):
        for batch in batches:
            images = normalization(batch.images.to(device))
            predictor = TurnedBatch(model.prediction_network, list(images.unbind(dim=1)))
            target = predictor.logits(0, []).argmax(dim=1) if unlabelled else targets[batch.indices].to(device)
            outputs: dict[str, list[Tensor]] = {name: [] for name in SYSTEMS}
            found, close = [], []
            for element in elements.elements():
                variant = element if turned else 0
                turns: list[Turn] = [] if turned else [(elements, element)]
                logits, pose = model.predict(predictor.images(variant, turns))
                outputs["vanilla"].append(predictor.logits(variant, turns))
                outputs["adapted"].append(logits.float())
                outputs["symmetrized"].append(predictor.mean_probabilities(variant, turns, group))
                outputs["oracle"].append(predictor.logits(variant, [*turns, (elements, elements.inverse(element))]))
                found.append(pose.element)
                close.append(_tied(pose.scores))
            for name, values in outputs.items():
                hits = torch.stack([classification.correct(v, target) for v in values], dim=1)  # (b, |R|)
                correct[name].append(hits.cpu())
            adapted = torch.stack(outputs["adapted"], dim=1)  # (b, |R|, k)
            if not adapted.isfinite().all():
                raise EquicliError(
                    "the prediction network's outputs are not finite; check --mean, --std and --precision."
                )
            max_delta = max(max_delta, float((adapted - adapted[:, :1]).abs().max()))
            predictions.append(adapted.argmax(dim=-1).cpu())
            poses.append(torch.stack(found, dim=1).cpu())
            ties.append(torch.stack(close, dim=1).any(dim=1).cpu())
    return Evaluation(
        elements=elements,
        group=group,
        correct={name: torch.cat(parts) for name, parts in correct.items()},
        predictions=torch.cat(predictions),
        poses=torch.cat(poses),
        ties=torch.cat(ties),
        max_logit_delta=max_delta,
        agreement=unlabelled,
    )


def _tied(scores: Tensor) -> Tensor:
    """Whether the two best scores of each image are within TIE: (b, |G|) to bool (b,)."""
    if scores.shape[1] < 2:
        return torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    best = scores.topk(2, dim=1).values
    return best[:, 0] - best[:, 1] < TIE
