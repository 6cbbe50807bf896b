"""The signature of a prediction network: which kinds of values it takes and returns, and how it is asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BeforeValidator
from torch import Tensor, nn

from equicli.errors import EquicliError, reason
from equicli.groups.action import KINDS
from equicli.groups.transport import Kinds
from equicli.prediction.channels import first_channels, no_pictures
from equicli.prediction.readers import READERS

# A prediction network, or what answers in its place.
Ask = Callable[[Any], Any]


def read_kinds(value: Any) -> Kinds:
    """Read kinds as JSON has them, where tuples are lists.

    Raises:
        ValueError: there is no such kind.
    """
    if isinstance(value, Mapping):
        return {str(name): read_kinds(kind) for name, kind in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(read_kinds, value))
    if value not in KINDS:
        raise ValueError(f"'{value}' is none of the kinds {', '.join(KINDS)}")
    return str(value)


if TYPE_CHECKING:
    Declared = Kinds
else:  # a type that refers to itself is more than a checker of JSON can follow
    Declared = Annotated[Any, BeforeValidator(read_kinds)]


@dataclass(frozen=True)
class Signature:
    """What a network takes and returns, as its task declares it. Stored in artifacts.

    inputs, outputs: the kind of each value, see `groups.transport`. Only `logits` may be averaged.
    lists: whether the network takes a list with one entry a sample, of any sizes, and returns one; else tensors (b, …).
        It is asked about one sample at a time: it pads a list to the largest of its entries, and what it says would
        depend on these.
    reads: how the outputs are made of what the network itself returns, a name in `prediction.readers`.
    """

    inputs: Declared = "image"
    outputs: Declared = "logits"
    lists: bool = False
    reads: Literal["", "classes_and_information"] = ""


CLASSIFIER = Signature()


def asking(network: nn.Module, signature: Signature) -> Ask:
    """Return what asks a network about inputs of any sizes, in its own dtype.

    A network that takes tensors is asked about a list of images of several sizes size by size, in the order in which
    they come: the same images are always in the same batches.
    """
    dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
    read = READERS[signature.reads]

    def ask(inputs: Any) -> Any:
        if signature.lists and isinstance(inputs, list) and len(inputs) > 1:
            return [output for one in inputs for output in ask([one])]
        if signature.lists or not isinstance(inputs, list):
            return read(network(_cast(inputs, signature.inputs, dtype)), inputs)
        by_shape: dict[torch.Size, list[int]] = {}
        for index, image in enumerate(inputs):
            by_shape.setdefault(image.shape, []).append(index)
        answers: dict[int, Any] = {}
        for indices in by_shape.values():
            output = ask(torch.stack([inputs[i] for i in indices]))
            answers.update(zip(indices, split_batch(output), strict=True))
        return join_batch([answers[i] for i in range(len(inputs))])

    return ask


def try_network(
    network: nn.Module, signature: Signature, example: Tensor, beside: Mapping[str, Tensor] | None = None
) -> Any:
    """Ask a network about one image (1, 3, h, w).

    Args:
        beside: what else it takes of a sample, by name.

    Raises:
        EquicliError: it fails, told in one line.
    """
    try:
        with torch.inference_mode():
            one = example[0] if beside is None else {"image": example[0], **beside}
            return asking(network, signature)([one] if signature.lists else example)
    except Exception as error:  # any network, also the user's own
        size, taken = f"{example.shape[-1]}x{example.shape[-2]}", first_channels(network)
        if taken is not None and taken not in (1, 3):
            raise EquicliError(f"--model: the network {no_pictures(taken)}") from error
        raise EquicliError(
            f"--model: the network fails on images of {size} ({reason(error)}). Try --image-size or --preprocess."
        ) from error


def split_batch(output: Any) -> list[Any]:
    """Take a network's output apart, one entry a sample; parts (b, …) of tuples and mappings become parts of each."""
    if isinstance(output, list):
        return output
    if isinstance(output, Mapping):
        parts = {key: split_batch(value) for key, value in output.items()}
        return [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]
    if isinstance(output, tuple):
        return list(zip(*map(split_batch, output), strict=True))
    return list(output)


def join_batch(samples: list[Any]) -> Any:
    """Put samples together again: tensors of one shape to (b, …); of several shapes they stay a list."""
    first = samples[0]
    if isinstance(first, Mapping):
        return {key: join_batch([sample[key] for sample in samples]) for key in first}
    if isinstance(first, tuple):
        return tuple(join_batch(list(parts)) for parts in zip(*samples, strict=True))
    alike = all(isinstance(s, Tensor) and s.shape == first.shape for s in samples)
    return torch.stack(samples) if alike else samples


def take_rows(output: Any, rows: Tensor) -> Any:
    """Some samples of a network's output.

    Args:
        rows: positions in the batch, int64 (m,).
    """
    if isinstance(output, list):
        return [output[row] for row in rows.tolist()]
    if isinstance(output, Mapping):
        return {key: take_rows(value, rows) for key, value in output.items()}
    if isinstance(output, tuple):
        return tuple(take_rows(part, rows) for part in output)
    return output[rows]


def put_rows(output: Any, rows: Tensor, part: Any) -> Any:
    """A network's output with some samples of another in place of its own; see `take_rows`."""
    if isinstance(output, list):
        replaced = dict(zip(rows.tolist(), part, strict=True))
        return [replaced.get(row, sample) for row, sample in enumerate(output)]
    if isinstance(output, Mapping):
        return {key: put_rows(value, rows, part[key]) for key, value in output.items()}
    if isinstance(output, tuple):
        return tuple(put_rows(a, rows, b) for a, b in zip(output, part, strict=True))
    return output.index_copy(0, rows, part.to(output.dtype))


def _cast(value: Any, kinds: Kinds, dtype: torch.dtype) -> Any:
    """Images in the network's own precision; anything else, such as coordinates, as it is."""
    if isinstance(value, list):
        return [_cast(part, kinds, dtype) for part in value]
    if isinstance(value, Mapping) and isinstance(kinds, Mapping):
        return {key: _cast(part, kinds[key], dtype) for key, part in value.items()}
    if isinstance(value, tuple) and isinstance(kinds, tuple):
        parts = [_cast(part, kind, dtype) for part, kind in zip(value, kinds, strict=True)]
        return value._make(parts) if hasattr(value, "_make") else tuple(parts)
    # A network in float32 decides itself, under autocast and in export.
    casts = kinds == "image" and isinstance(value, Tensor) and value.is_floating_point() and dtype != torch.float32
    return value.to(dtype) if casts else value
