"""Systems and turns ask the same network about the same inputs: each is answered once."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from equicli.prediction.network import NetworkSpec
from equicli.prediction.signature import Ask, join_batch, split_batch


class Caches:
    """A cache for each network that is met: which it is, its definition and its weights tell."""

    def __init__(self) -> None:
        self._known: dict[object, OutputCache] = {}

    def of(self, spec: NetworkSpec, network: nn.Module) -> "OutputCache":
        weights = tuple(fingerprints(value.reshape(1, value.numel()))[0] for value in network.state_dict().values())
        return self._known.setdefault((repr(spec), weights), OutputCache())


class OutputCache:
    """What a frozen network returned for images, known by their bytes.

    Turns by 90° permute pixels, so that with an exact group all systems and turns see the same |G| views of an image;
    off the grid, and where pictures are compressed again, there are several times as many. Kept in the machine's
    memory, not the device's: for each view its outputs and about half a kilobyte.
    """

    def __init__(self) -> None:
        self._outputs: dict[object, Any] = {}

    def before(self, ask: Ask, *, lists: bool = False) -> Ask:
        """Return what asks a network only about images (b, c, h, w), or a list of them, that are new here.

        Args:
            lists: whether the network returns a list with one entry a sample.
        """

        def answer(inputs: Any) -> Any:
            listed = isinstance(inputs, list) and all(isinstance(image, Tensor) for image in inputs)
            if not (isinstance(inputs, Tensor) or listed):
                return ask(inputs)
            # In another precision it answers otherwise.
            device = inputs[0].device
            low = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
            of = fingerprints(inputs) if isinstance(inputs, Tensor) else [fingerprints(i[None])[0] for i in inputs]
            keys = [(low, image.dtype, image.shape, key) for image, key in zip(inputs, of, strict=True)]
            new = {key: i for i, key in enumerate(keys) if key not in self._outputs}
            if new:
                chosen = list(new.values())
                outputs = ask(inputs[chosen] if isinstance(inputs, Tensor) else [inputs[i] for i in chosen])
                # Copied, for a row of a batch would keep the whole.
                kept = (_each(output, lambda t: t.cpu().clone()) for output in split_batch(outputs))
                self._outputs.update(zip(new, kept, strict=True))
            rows = [_each(self._outputs[key], lambda t: t.to(device)) for key in keys]
            return rows if lists else join_batch(rows)

        return answer


def _each(output: Any, function: Any) -> Any:
    if isinstance(output, Tensor):
        return function(output)
    if isinstance(output, dict):
        return {key: _each(value, function) for key, value in output.items()}
    return type(output)(_each(value, function) for value in output)


def fingerprints(x: Tensor) -> list[tuple[int, ...]]:
    """128 bits for each image (b, …), which those of different images differ in.

    Two sums of all values' bits, each times a random odd number, modulo 2^64: cheap on any device, and in any order of
    summation the same.
    """
    bits = x.flatten(1).float().contiguous().view(torch.int32).long()
    factors = _factors(bits.shape[1]).to(x.device)
    return [tuple(key) for key in torch.stack([(bits * f).sum(dim=1) for f in factors], dim=1).tolist()]


@lru_cache(maxsize=2)  # the turns of one image have as many values; to draw factors takes longer than all the rest
def _factors(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-(2**63), 2**63 - 1, (2, count), generator=generator) | 1
