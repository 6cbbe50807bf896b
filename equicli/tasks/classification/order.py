"""Checking how class folders were numbered when a network was trained: by what it says of pictures."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from equicli.data.decode import UnreadableImageError
from equicli.data.folders import Sample
from equicli.prediction.classes import natural_key
from equicli.prediction.network import PretrainedNetwork
from equicli.tasks.classification.labels import NATURAL, TEXT, Matched
from equicli.tasks.intervals import wilson

MOST_IMAGES = 120
# What a network takes of a sample, (1, c, h, w).
Show = Callable[[Sample], Tensor]


def choose_order(
    found: PretrainedNetwork, matched: Matched, samples: Sequence[Sample], classes: Sequence[str], show: Show
) -> tuple[dict[str, int], str]:
    """Of two orders, take the one that a network's answers on labelled training images speak for.

    Returns:
        The output of each class, and what was found, in words.
    """
    assert matched.outputs is not None and matched.other is not None
    (own, others), n = count_right(found, (matched.outputs, matched.other), samples, classes, show)
    counts = f"of {n} training images {own} are right in this order and {others} in the other"
    if n and _clearly_better(others, own, n):
        other = TEXT if matched.order == NATURAL else NATURAL
        return matched.other, f"{counts}: taking {other} after all"
    if n and _clearly_better(own, others, n):
        return matched.outputs, counts
    return matched.outputs, f"{counts}, which decides nothing; --class-map FILE says which output is which class"


def count_right(
    found: PretrainedNetwork,
    guesses: Sequence[Mapping[str, int]],
    samples: Sequence[Sample],
    classes: Sequence[str],
    show: Show,
) -> tuple[list[int], int]:
    """How many of some labelled images are right by each guess of the classes' outputs; and of how many."""
    said = _predictions(found, _some_of_each(samples), show)
    return [sum(prediction == outputs[classes[target]] for target, prediction in said) for outputs in guesses], len(
        said
    )


def better_order(records: Mapping[str, Tensor], labels: Mapping[str, int]) -> list[str]:
    """Say so where a network's predictions fit another order of its class folders much better than their own."""
    names = sorted(labels, key=lambda name: labels[name])
    if [labels[name] for name in names] != list(range(len(names))):
        return []
    text, natural = sorted(names), sorted(names, key=natural_key)
    if names not in (text, natural) or text == natural:
        return []
    other, called = (text, TEXT) if names == natural else (natural, NATURAL)
    again = torch.tensor([other.index(name) for name in names])
    target, prediction = records["target"][:, 0], records["prediction"][:, 0]
    right, others = int((prediction == target).sum()), int((prediction == again[target]).sum())
    if not _clearly_better(others, right, len(target)):
        return []
    return [
        f"the network alone is right about {right} of {len(target)} untouched images, and would be about {others} if "
        f"class folders were numbered in {called}: say which output is which class with --class-map FILE"
    ]


def _clearly_better(more: int, less: int, n: int) -> bool:
    return wilson(more, n)[0] > wilson(less, n)[1]


def _some_of_each(samples: Sequence[Sample]) -> list[Sample]:
    """Samples in turn of each class, so that few show many classes."""
    by_class: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_class[sample.target].append(sample)
    turns = range(max(map(len, by_class.values()), default=0))
    return [of[turn] for turn in turns for of in by_class.values() if turn < len(of)][:MOST_IMAGES]


@torch.inference_mode()
def _predictions(found: PretrainedNetwork, samples: Sequence[Sample], show: Show) -> list[tuple[int, int]]:
    """Target and prediction of each sample that can be read."""
    said = []
    for sample in samples:
        try:
            logits = found.network(show(sample))
        except UnreadableImageError:
            continue  # told when all are read
        said.append((int(sample.target), int(logits.argmax())))
    return said
