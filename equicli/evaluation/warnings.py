"""What would mislead a reader of an evaluation."""

from collections.abc import Mapping
from typing import Any

from equicli.canonicalization.prior import Prior, near_chance
from equicli.evaluation.cost import WIDE
from equicli.evaluation.evaluate import Evaluation
from equicli.groups import is_finite
from equicli.tasks.intervals import paired_difference
from equicli.tasks.task import Task

NETWORK, CANONICALIZER = "network", "canonicalizer"
# Of the score of untouched images, which adapting may cost.
MUCH = 0.05


def warnings_of(
    evaluation: Evaluation,
    task: Task,
    labels: Mapping[str, int],
    cost: Mapping[str, Any],
    prior: Prior,
    seen: int | None = None,
    *,
    pretrained: bool = False,
) -> list[str]:
    """One line on each, with what to do.

    Args:
        labels: the output of each class. cost: see `cost.cost_of`. prior: the poses of untouched images.
        seen: how many of the images training saw; None where nothing says.
        pretrained: whether the canonicalizer's network was, so that this need not be advised.
    """
    records, lines = evaluation.records, []
    further = "" if pretrained else " or a pretrained --canonicalizer-network"
    if seen:
        lines.append(
            f"{seen:,} of {evaluation.n:,} images were trained on, or chose the epoch: figures on them flatter; "
            "evaluate on others"
        )
    if "vanilla" in records and not evaluation.agreement:
        lines += task.warnings(records["vanilla"], evaluation.elements, labels)
    if CANONICALIZER in near_chance_of(evaluation, task, prior):
        assert evaluation.found is not None
        rate = float(evaluation.found.identity.double().mean())
        lines.append(
            f"the canonicalizer finds {100 * rate:.1f} % of untouched images in the poses that the prior names "
            f"({prior}), which is near chance: are they in these poses? More --epochs, more images{further} or another "
            "--canonicalizer may help"
        )
    else:
        lines += _what_upright_images_lose(evaluation, task, further)
    if "symmetrized" in records:
        averaged, adapted = (
            records[name][task.score].double().mean(dim=1)[None].numpy() for name in ("symmetrized", "adapted")
        )
        gap, (low, high) = paired_difference(averaged, adapted)
        if low > 0:
            again = ", --passes 1.25" if evaluation.passes["adapted"] == 1 and is_finite(evaluation.group) else ""
            lines.append(
                f"symmetrized is better than adapted, by {100 * gap:.1f} points [{100 * low:.1f}, {100 * high:.1f}]: "
                f"more kinds of upright images (--upright){again} or more --epochs{further} may help; or, at "
                f"{evaluation.passes['symmetrized']:g} passes an image, adapt with --recipe systems/symmetrization"
            )
    low, high = cost["relative_time_range"]
    if task.has_network and high > WIDE * low:
        lines.append(
            f"relative time was measured between {low:.2g} and {high:.2g}, as the machine is busy: go by the "
            "operations, or measure again when it is idle"
        )
    return lines


def _what_upright_images_lose(evaluation: Evaluation, task: Task, further: str) -> list[str]:
    """Say so where the canonicalizer costs untouched images much."""
    if "vanilla" not in evaluation.records or evaluation.found is None:
        return []
    alone, adapted = (
        evaluation.records[name][task.score][:, :1].double()[None, :, 0] for name in ("vanilla", "adapted")
    )
    loss, (low, _) = paired_difference(alone.numpy(), adapted.numpy())
    if low <= 0 or loss < MUCH:
        return []
    turned = 1 - float(evaluation.found.identity.double().mean())
    return [
        f"untouched images lose {100 * loss:.1f} points, as {100 * turned:.1f} % of them are found turned and are "
        f"shown so to the network: more --epochs or more images{further} may help"
    ]


def near_chance_of(evaluation: Evaluation, task: Task, prior: Prior) -> list[str]:
    """Which parts of the model do hardly better than guesses; nothing is to be built on it then."""
    found, records = evaluation.found, evaluation.records
    parts = []
    if "vanilla" in records and not evaluation.agreement and task.near_chance(records["vanilla"]):
        parts.append(NETWORK)
    if found is not None and near_chance(evaluation.group, prior, float(found.identity.double().mean()), evaluation.n):
        parts.append(CANONICALIZER)
    return parts
