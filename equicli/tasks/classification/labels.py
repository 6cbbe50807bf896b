"""Which output of a network stands for which class folder."""

from collections.abc import Sequence

from equicli.errors import UsageError
from equicli.prediction.classes import match_classes
from equicli.prediction.network import PretrainedNetwork


def match_labels(found: PretrainedNetwork, outputs: int, classes: Sequence[str]) -> tuple[dict[str, int] | None, str]:
    """Decide which output stands for which class folder, and say how it was decided.

    Returns:
        The output of each class, or None where neither names nor numbers fit; and one line for the user.
    """
    if found.class_names is not None:
        matched = match_classes(classes, found.class_names)
        if matched is not None:
            return dict(
                zip(classes, matched, strict=True)
            ), f"labels: folder names match the checkpoint's {outputs} classes"
        return None, f"labels: the folder names are not classes of the checkpoint ({outputs} outputs)"
    if outputs == len(classes):
        order = f"{classes[0]} = 0 … {classes[-1]} = {outputs - 1}"
        return {
            name: i for i, name in enumerate(classes)
        }, f"labels: the checkpoint names no classes; taking sorted folders ({order})"
    return None, f"labels: the network has {outputs} outputs, the data {len(classes)} class folders"


def refuse_labels(reason: str) -> UsageError:
    return UsageError(
        f"{reason}, and --head none fits no new one. Use --head auto, or name folders as the network's classes."
    )
