"""Vanilla, adapted, symmetrized and oracle on the same images, turned by every element of a group."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Pose
from equicli.canonicalization.prior import Prior, same_pose
from equicli.data.loading import Batch
from equicli.data.normalization import Normalization
from equicli.devices import arithmetic, place
from equicli.errors import EquicliError
from equicli.evaluation.cache import OutputCache
from equicli.evaluation.turned import symmetrize, turn
from equicli.groups import Group, PlanarGroup, is_finite
from equicli.groups.elements import Element, inverse, multiply
from equicli.tasks import classification

SYSTEMS = ("vanilla", "adapted", "symmetrized", "oracle")

# For each system and turn, from outputs (b, k) and targets (b,) to (b,).
_COUNTED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "correct": classification.correct,
    "correct_top": classification.correct_top,
    "confidence": lambda logits, _: classification.confidence(logits),
}

# Scores closer than this may order differently on the same image turned by 90°: a rounding apart.
TIE = 1e-5


@dataclass(frozen=True)
class Evaluation:
    """Counts over a whole test set of n images and |R| elements; nothing is averaged over batches.

    correct, correct_top, confidence: for each of the systems bool (n, |R|), bool, and float32; see
        `tasks.classification`.
    targets: int64 (n,), the output that counted as right.
    predictions: of the adapted model, int64 (n, |R|).
    shared: the elements h of R that the adapted group has, too; the first is the identity.
    expected: whether ĝ(h·x) = h·s for a pose s of the prior's set, bool (n, |shared|).
    consistent: whether ĝ(h·x) = h·ĝ(x), bool (n, |shared|).
    poses: ĝ(x) of the untouched images, elements of a finite group, int64 (n,); None for a continuous one.
    ties: bool (n,), images whose two best scores were within TIE for some element.
    max_logit_delta: largest absolute change of a logit of the adapted model between the untouched image and that turned
        by each element of R, (|R|,).
    views: the group that symmetrization averages over.
    agreement: whether "right" means agreement with the vanilla prediction on the untouched image (no labels).
    """

    elements: PlanarGroup
    group: Group
    correct: Mapping[str, Tensor]
    correct_top: Mapping[str, Tensor]
    confidence: Mapping[str, Tensor]
    targets: Tensor
    predictions: Tensor
    shared: tuple[int, ...]
    expected: Tensor
    consistent: Tensor
    poses: Tensor | None
    ties: Tensor
    max_logit_delta: Tensor
    views: PlanarGroup
    agreement: bool


def evaluate(
    model: AdaptedModel,
    batches: Iterable[Batch],
    targets: Tensor,
    normalization: Normalization,
    elements: PlanarGroup,
    *,
    prior: Prior,
    systems: Sequence[str] = SYSTEMS,
    turned: bool = False,
    cache: OutputCache | None = None,
    device: torch.device,
    precision: str = "fp32",
) -> Evaluation:
    """Evaluate an adapted model beside its baselines, in one pass over the images.

    Args:
        batches: uint8 images (b, 1, 3, h, w), turned here; with `turned` (b, |R|, 3, h, w), already turned as files.
        targets: int64 (samples,), the output that is right for each sample; -1 throughout where there are no labels.
        elements: R, the group whose every element acts on the images.
        systems: which of SYSTEMS; `adapted` is always one.
        prior: the true poses of untouched images, for the oracle and for what is expected of ĝ.
        cache: what the prediction network is known to return, for whoever asks it. Without one the adapted model asks
            it anew at every turn, which measures whether equal pixels have equal outputs, and only baselines share.
    """
    place(model.eval(), device)
    network, padding = model.prediction_network, model.padding
    group = model.canonicalizer.group
    unlabelled = bool((targets < 0).all())
    views = group if isinstance(group, PlanarGroup) else elements  # what is averaged over, for symmetrization
    shared = _shared(elements, group)
    # Where the prior has one pose; of several, the one that stands for all.
    fine, upright = _turn_upright(prior, group, elements)
    counted: dict[str, list[Tensor]] = {f"{name} {what}": [] for name in systems for what in _COUNTED}
    right: list[Tensor] = []
    predictions, poses, expected, consistent, ties, deltas = [], [], [], [], [], []
    with torch.inference_mode(), arithmetic(device, precision), cache.in_front_of(network) if cache else nullcontext():
        for batch in batches:
            ask: Callable[[Tensor], Tensor] = network if cache else partial(OutputCache().ask, network)
            images = normalization(batch.images.to(device))
            target = (
                ask(turn(images[:, 0], [(fine, upright)], padding)).argmax(dim=1)
                if unlabelled
                else targets[batch.indices].to(device)
            )
            right.append(target.cpu())
            outputs: dict[str, list[Tensor]] = {name: [] for name in systems}
            found: list[Pose] = []
            for element in elements.elements():
                variant, turns = images[:, element if turned else 0], [] if turned else [(elements, element)]
                image = turn(variant, turns, padding)
                if "vanilla" in systems:
                    outputs["vanilla"].append(ask(image).float())
                output, pose = model.predict(image)
                outputs["adapted"].append(output.float())
                if "symmetrized" in systems:
                    outputs["symmetrized"].append(symmetrize(ask, variant, turns, views, padding))
                if "oracle" in systems:
                    undo = fine.inverse(_in(fine, elements, element))
                    back = turn(image, [(fine, fine.compose(upright, undo))], padding)
                    outputs["oracle"].append(ask(back).float())
                found.append(pose)
            for name, values in outputs.items():
                for what, count in _COUNTED.items():
                    counted[f"{name} {what}"].append(torch.stack([count(v, target) for v in values], dim=1).cpu())
            adapted = torch.stack(outputs["adapted"], dim=1)  # (b, |R|, k)
            if not adapted.isfinite().all():
                raise EquicliError(
                    "the prediction network's outputs are not finite; check --mean, --std and --precision."
                )
            deltas.append((adapted - adapted[:, :1]).abs().amax((0, 2)).cpu())
            predictions.append(adapted.argmax(dim=-1).cpu())
            # h⁻¹·ĝ(h·x), which is the same pose for every h where the canonicalizer is equivariant.
            relative = [multiply(group, inverse(group, h), found[g].element) for g, h in shared.items()]
            expected.append(torch.stack([prior.contains(group, pose) for pose in relative], dim=1).cpu())
            consistent.append(torch.stack([same_pose(group, pose, relative[0]) for pose in relative], dim=1).cpu())
            poses.append(relative[0].cpu())
            ties.append(torch.stack([_tied(group, pose) for pose in found], dim=1).any(dim=1).cpu())
    return Evaluation(
        elements=elements,
        group=group,
        **{what: {name: torch.cat(counted[f"{name} {what}"]) for name in systems} for what in _COUNTED},
        targets=torch.cat(right),
        predictions=torch.cat(predictions),
        shared=tuple(shared),
        expected=torch.cat(expected),
        consistent=torch.cat(consistent),
        poses=torch.cat(poses) if is_finite(group) else None,
        ties=torch.cat(ties),
        max_logit_delta=torch.stack(deltas).amax(dim=0),
        views=views,
        agreement=unlabelled,
    )


def _shared(elements: PlanarGroup, group: Group) -> dict[int, Element]:
    """The elements of R that the adapted group has, too, and what it calls them."""
    found = {g: group.find(elements.angle(g), elements.mirrored(g)) for g in elements.elements()}
    return {g: h for g, h in found.items() if h is not None}


def _turn_upright(prior: Prior, group: Group, elements: PlanarGroup) -> tuple[PlanarGroup, int]:
    """What turns untouched images to the pose that the network expects, in a group that has the elements of R, too."""
    steps = group.n if isinstance(group, PlanarGroup) else 360  # poses of others are told in whole degrees
    fine = PlanarGroup(math.lcm(elements.n, steps), reflections=True)
    pose = fine.find(*prior.main)
    assert pose is not None
    return fine, fine.inverse(pose)


def _in(fine: PlanarGroup, elements: PlanarGroup, element: int) -> int:
    """An element of R in a group that has it."""
    found = fine.find(elements.angle(element), elements.mirrored(element))
    assert found is not None
    return found


def _tied(group: Group, pose: Pose) -> Tensor:
    """Whether the two best scores of each image are within TIE: bool (b,)."""
    if not is_finite(group) or pose.scores is None or group.order < 2:
        return torch.zeros(len(pose.element), dtype=torch.bool, device=pose.element.device)
    best = pose.scores.topk(2, dim=1).values
    return best[:, 0] - best[:, 1] < TIE
