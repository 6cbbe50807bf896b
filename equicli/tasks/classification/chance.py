"""A network that knows nothing of the images: of it nothing else can be told."""

from equicli.tasks.intervals import wilson

PREPARED_BY = "--mean, --std, --image-size"


def tell_chance(correct: int, n: int, classes: int, prepared_by: str = PREPARED_BY) -> list[str]:
    """Say so where a network was not clearly more often right about n untouched images than by guessing.

    Nothing is said of so few that a network halfway between guessing and always right might look the same.

    Args:
        prepared_by: the options that say how images are prepared.
    """
    low, high = wilson(correct, n)
    if classes < 2 or low > 1 / classes or high > (1 + 1 / classes) / 2:
        return []
    return [
        f"the network alone is right about {correct} of {n} untouched images, not clearly more than by chance "
        f"({100 / classes:.3g} %): were weights loaded that are trained for these classes (--checkpoint)? Are images "
        f"prepared as in its training ({prepared_by})? Are class folders named or sorted as its classes, "
        "and images upright? `equicli inspect` shows what is loaded"
    ]
