"""Which output of a network stands for which class folder."""

from collections.abc import Sequence
from dataclasses import dataclass

from equicli.data.names import normal
from equicli.errors import EquicliError, UsageError, shown
from equicli.prediction.classes import find_outputs, match_classes, natural_key
from equicli.prediction.network import PretrainedNetwork

# How each library numbers class folders for training; others do as torchvision does.
NATURAL, TEXT = "natural order (timm's: 2 before 10)", "text order (torchvision's: 10 before 2)"


@dataclass(frozen=True)
class Matched:
    """outputs: of each class; None where nothing fits. reason: one line for the user on how it was decided.

    order, other: where folders were numbered in one order and the other one differs, what it is called, and the outputs
    by the other.
    numbers: where nothing fits, the outputs that folders would be if their names are numbers of outputs.
    """

    outputs: dict[str, int] | None
    reason: str
    order: str = ""
    other: dict[str, int] | None = None
    numbers: dict[str, int] | None = None


def match_labels(found: PretrainedNetwork, outputs: int, classes: Sequence[str], empty: Sequence[str] = ()) -> Matched:
    """Decide which output stands for which class folder.

    Args:
        classes: names of the class folders, in text order. empty: of folders beside them that have no pictures.

    Raises:
        EquicliError: most of the folders are classes of the network, and others are not.
    """
    if found.class_names is not None:
        matched = _by_name(found.class_names, outputs, classes)
        if matched is not None:
            return matched
        reason = f"labels: the folder names are not classes of the checkpoint ({outputs} outputs)"
        return Matched(None, reason, numbers=_as_numbers(classes, outputs))
    if outputs == len(classes):
        return _by_order(found.spec.library, classes, classes)
    if outputs == len(classes) + len(empty):
        return _by_order(found.spec.library, classes, sorted({*classes, *empty}))
    reason = f"labels: the network has {outputs} outputs, the data {len(classes)} class folders"
    return Matched(None, reason, numbers=_as_numbers(classes, outputs))


def orders(names: Sequence[str]) -> dict[str, list[str]]:
    """Names in each order in which libraries number class folders."""
    return {TEXT: list(names), NATURAL: sorted(names, key=natural_key)}


def _as_numbers(classes: Sequence[str], outputs: int) -> dict[str, int] | None:
    numbers = {name: int(name) for name in classes if name.isdecimal() and int(name) < outputs}
    return numbers if len(set(numbers.values())) == len(classes) else None


def _by_name(class_names: Sequence[Sequence[str]], outputs: int, classes: Sequence[str]) -> Matched | None:
    matched = match_classes(classes, class_names)
    if matched is not None:
        outputs_of = dict(zip(classes, matched, strict=True))
        return Matched(outputs_of, f"labels: folder names match the checkpoint's {outputs} classes")
    if set(classes) == {str(output) for output in range(outputs)}:
        return Matched(
            {name: int(name) for name in classes}, f"labels: folder names are the numbers of {outputs} outputs"
        )
    candidates = find_outputs(classes, class_names)
    odd = [name for name, indices in candidates.items() if len(indices) != 1]
    if len(odd) * 2 < len(classes):
        _refuse_odd(odd, candidates, classes)
    return None


def _refuse_odd(odd: Sequence[str], candidates: dict[str, set[int]], classes: Sequence[str]) -> None:
    """Name the folders that keep a checkpoint's own classes from being used, rather than drop its head."""
    remedy = "Rename or remove it, say with --class-map FILE which output it is, or fit a new head with --head new."
    if not odd:
        twice = {min(outputs): name for name, outputs in candidates.items()}
        first, second = next((n, twice[min(o)]) for n, o in candidates.items() if twice[min(o)] != n)
        raise EquicliError(f"labels: '{shown(first)}' and '{shown(second)}' are one class of the checkpoint. {remedy}")
    named = ", ".join(f"'{shown(name)}'" for name in odd[:3]) + ", …" * (len(odd) > 3)
    several = len(candidates[odd[0]])
    is_no = f"is a name of {several} of the checkpoint's classes" if several else "is no class of the checkpoint"
    raise EquicliError(
        f"labels: {named} {is_no}, though {len(classes) - len(odd)} of {len(classes)} class folders are. {remedy}"
    )


def _by_order(library: str, classes: Sequence[str], names: Sequence[str]) -> Matched:
    """Number folders as the library does that the network is of."""
    numbered = {
        order: {name: output for output, name in enumerate(listed) if name in set(classes)}
        for order, listed in orders(names).items()
    }
    more = "" if len(names) == len(classes) else f", counting {len(names) - len(classes)} without a picture,"
    said = "labels: the checkpoint names no classes; taking"
    if numbered[NATURAL] == numbered[TEXT]:
        return Matched(numbered[TEXT], f"{said} sorted folders{more} ({_ends(numbered[TEXT])})")
    order, other = (NATURAL, TEXT) if library == "timm" else (TEXT, NATURAL)
    reason = f"{said} folders{more} in {order}: {_ends(numbered[order])}; not in {other}"
    return Matched(numbered[order], reason, order, numbered[other])


def _ends(outputs: dict[str, int]) -> str:
    listed = sorted(outputs.items(), key=lambda pair: pair[1])
    (first, low), (last, high) = listed[0], listed[-1]
    return f"{shown(first)} = {low} … {shown(last)} = {high}"


def names_of_empty(classes: Sequence[str], empty: Sequence[str]) -> list[str]:
    """Names of folders without pictures that could be classes."""
    return sorted({normal(name) for name in empty} - set(classes))


def refuse_labels(reason: str) -> UsageError:
    return UsageError(
        f"{reason}, and --head none fits no new one. Use --head auto, name folders as the network's classes, or say "
        "which output is which with --class-map FILE."
    )
