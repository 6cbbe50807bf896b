"""A batch of inputs that can be looked at and turned: tensors, preprocessed already, or pictures of any size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from equicli.data.loading import computed
from equicli.data.normalization import Normalization
from equicli.data.preprocess import Preprocess
from equicli.data.small_view import SmallView
from equicli.groups import Group, is_finite
from equicli.groups.action import STAYING, Canvas, act
from equicli.groups.coordinates import boxes_around
from equicli.groups.elements import Element, Frame, act_on_frame, inverse, singles
from equicli.groups.transport import Frames, Kinds, frames_after, transport
from equicli.prediction.promptable import PROMPTS
from equicli.prediction.signature import Ask, join_batch, split_batch, take_rows

Self = TypeVar("Self", bound="Inputs")


class Inputs(Protocol):
    """Inputs x of a batch, before anything is done to them."""

    def __len__(self) -> int: ...

    def frames(self) -> list[Frame]:
        """(height, width) of the image of each sample."""
        ...

    def small(self, view: SmallView) -> Tensor:
        """What a canonicalizer looks at, (b, 3, size, size)."""
        ...

    def at(self, group: Group, element: Element | None) -> Any:
        """What the network is shown of g⁻¹·x, for one element or one a sample; None leaves the inputs as they are."""
        ...

    def back(self, group: Group, element: Element | None, output: Any, kinds: Kinds) -> Any:
        """Carry what the network said of `at(group, element)` back to the frame of x."""
        ...

    def turned(self: Self, group: Group, element: Element) -> Self:
        """h·x, as inputs that come so; off the grid they are interpolated."""
        ...

    def carried_back(self, group: Group, element: Element, output: Any, kinds: Kinds) -> Any:
        """h⁻¹·y, where y was said of `turned(group, element)`, in the frame of x."""
        ...

    def take(self: Self, rows: Tensor) -> Self:
        """Some samples: positions in the batch, int64 (m,)."""
        ...


@dataclass(frozen=True)
class Views:
    """A batch of inputs as a prediction network sees them from every pose.

    outputs: the kinds of what it returns.
    """

    inputs: Inputs
    group: Group
    ask: Ask
    outputs: Kinds

    def at(self, element: Element | None) -> Any:
        """What the network says of g⁻¹·x, carried back by g: of one element, or one a sample; None takes x as it is."""
        return self.inputs.back(self.group, element, self.ask(self.inputs.at(self.group, element)), self.outputs)

    def take(self, rows: Tensor) -> "Views":
        """Those of some samples: positions in the batch, int64 (m,)."""
        return replace(self, inputs=self.inputs.take(rows))


@dataclass(frozen=True)
class Tensors:
    """Inputs that the network takes as they are: images (b, 3, h, w), or more beside them, by `kinds`.

    normalization: of the images. padding: what they show from outside when they are turned off the grid.
    """

    value: Any
    normalization: Normalization
    kinds: Kinds = "image"
    padding: str = "edge"

    def __len__(self) -> int:
        return len(self._images())

    def small(self, view: SmallView) -> Tensor:
        images = self._images()
        if isinstance(images, Tensor):
            return view.of_input(images, self.normalization)
        return torch.cat([view.of_input(image[None], self.normalization) for image in images])

    def at(self, group: Group, element: Element | None) -> Any:
        if element is None:
            return self.value
        return transport(group, inverse(group, element), self.value, self.kinds, padding=self.padding)

    def back(self, group: Group, element: Element | None, output: Any, kinds: Kinds) -> Any:
        if element is None or stays(kinds):
            return output
        undo, images = inverse(group, element), self._images()
        before: Frames
        seen: Frames
        if isinstance(images, Tensor):  # of one frame, before and after; a batch of elements may keep a rectangle
            before = (images.shape[-2], images.shape[-1])
            seen = act_on_frame(group, undo, before)
        else:
            before = self.frames()
            seen = frames_after(group, undo, before)
        return transport(group, element, output, kinds, frames=seen, canvas=before, padding=self.padding)

    def turned(self, group: Group, element: Element) -> "Tensors":
        return replace(self, value=transport(group, element, self.value, self.kinds, padding=self.padding))

    def carried_back(self, group: Group, element: Element, output: Any, kinds: Kinds) -> Any:
        return _carry_back(group, element, output, kinds, self.frames(), self.padding)

    def take(self, rows: Tensor) -> "Tensors":
        return replace(self, value=take_rows(self.value, rows))

    def _images(self) -> Any:
        found = _first_image(self.value, self.kinds)
        if found is None:
            raise ValueError(f"no image among inputs of the kinds {self.kinds}.")
        return found

    def frames(self) -> list[Frame]:
        return [(image.shape[-2], image.shape[-1]) for image in self._images()]


@dataclass(frozen=True)
class Pictures:
    """Pictures, uint8 (3, h, w) of any sizes. They are turned before anything crops or resizes them.

    preprocess: the network's own. device: where the network is. lists: whether it takes and returns lists.
    grows: whether what is turned off the grid is held whole, on a canvas that grows: where answers lie in the picture.
    prompts: what the network is asked about beside each picture, in its frame; see `promptable`.
    """

    pictures: Sequence[Tensor]
    preprocess: Preprocess
    device: torch.device
    padding: str = "edge"
    lists: bool = False
    grows: bool = False
    prompts: Sequence[Mapping[str, Tensor]] | None = None

    def __len__(self) -> int:
        return len(self.pictures)

    def small(self, view: SmallView) -> Tensor:
        # Shrunk in threads, where pictures are: a large one takes a tenth of a second.
        return torch.stack(computed(view.of_picture, self.pictures)).to(self.device)

    def at(self, group: Group, element: Element | None) -> Any:
        n = len(self.pictures)
        shown: Any = self if element is None else self.turned(group, inverse(group, element))
        pixels: Any = computed(self.preprocess, shown.pictures)
        pixels = pixels if self.lists else join_batch(pixels)
        normalize = self.preprocess.normalization
        if isinstance(pixels, Tensor):
            return normalize(pixels.to(self.device))
        images = [normalize(one.to(self.device)) for one in pixels]
        if shown.prompts is None:
            return images
        beside = [{name: value.to(self.device) for name, value in one.items()} for one in shown.prompts]
        return [{"image": images[i], **beside[i]} for i in range(n)]

    def back(self, group: Group, element: Element | None, output: Any, kinds: Kinds) -> Any:
        if stays(kinds):
            return output
        before = self.frames()
        seen = before if element is None else frames_after(group, inverse(group, element), before, self._canvas)
        rows = split_batch(output)
        restored = [self.preprocess.restore(row, kinds, frame) for row, frame in zip(rows, seen, strict=True)]
        if element is not None:
            restored = moved(group, element, restored, kinds, seen, before, self.padding)
        return restored if self.lists else join_batch(restored)

    def turned(self, group: Group, element: Element) -> "Pictures":
        def turn(picture: Tensor, one: Element, canvas: Frame) -> Tensor:
            return act(group, one, picture, padding=self.padding, canvas=canvas)

        frames, elements = self.frames(), singles(group, element, len(self.pictures))
        canvases = frames_after(group, element, frames, self._canvas)
        pictures = computed(turn, self.pictures, elements, canvases)
        prompts = self.prompts
        if prompts is not None:
            listed = [dict(one) for one in prompts]
            prompts = moved(group, element, listed, PROMPTS, frames, canvases, self.padding)
        return replace(self, pictures=pictures, prompts=prompts)

    def carried_back(self, group: Group, element: Element, output: Any, kinds: Kinds) -> Any:
        return _carry_back(group, element, output, kinds, self.frames(), self.padding, self._canvas)

    def take(self, rows: Tensor) -> "Pictures":
        chosen = rows.tolist()
        prompts = None if self.prompts is None else [self.prompts[row] for row in chosen]
        return replace(self, pictures=[self.pictures[row] for row in chosen], prompts=prompts)

    def asked(self, prompts: Sequence[Mapping[str, Tensor]]) -> "Pictures":
        """The same with prompts in each picture."""
        return replace(self, prompts=prompts)

    @property
    def _canvas(self) -> Canvas:
        return "grow" if self.grows else "same"

    def frames(self) -> list[Frame]:
        return [(picture.shape[-2], picture.shape[-1]) for picture in self.pictures]


def _carry_back(
    group: Group,
    element: Element,
    output: Any,
    kinds: Kinds,
    frames: list[Frame],
    padding: str,
    canvas: Canvas = "same",
) -> Any:
    if stays(kinds):
        return output
    seen = frames_after(group, element, frames, canvas)
    rows = moved(group, inverse(group, element), split_batch(output), kinds, seen, frames, padding)
    return rows if isinstance(output, list) else join_batch(rows)


def moved(
    group: Group,
    element: Element,
    rows: list[Any],
    kinds: Kinds,
    frames: list[Frame],
    canvases: list[Frame],
    padding: str = "zeros",
) -> list[Any]:
    """Transport of a list. Off the grid the upright box around a turned box is larger than what it holds: boxes of
    answers, beside masks, become those around the turned masks, where these are not empty.

    Args:
        frames, canvases: (height, width) of each picture before and after it.
    """
    # Outside of a picture is nothing: of what is said of it, and of masks that prompt.
    inner = padding if kinds == "mask" else "zeros"
    turned: list[Any] = transport(group, element, rows, kinds, frames=frames, canvas=canvases, padding=inner)
    exact = is_finite(group) and group.exact
    answers = isinstance(kinds, Mapping) and kinds != PROMPTS and {"boxes", "masks"} <= kinds.keys()
    if exact or not answers:
        return turned
    return [_tight(row) for row in turned]


def _tight(row: Any) -> Any:
    """A row with the boxes around its masks in place of its own."""
    if "boxes" not in row or row.get("masks") is None:
        return row
    masks = row["masks"][:, 0] if row["masks"].ndim == 4 else row["masks"]
    inside = masks if masks.dtype == torch.bool else masks > 0.5
    around = boxes_around(inside).to(row["boxes"])
    return {**row, "boxes": torch.where(inside.flatten(1).any(dim=1)[:, None], around, row["boxes"])}


def stays(kinds: Kinds) -> bool:
    """Whether no value of these kinds is moved by any element."""
    if isinstance(kinds, Mapping):
        return all(map(stays, kinds.values()))
    if isinstance(kinds, tuple):
        return all(map(stays, kinds))
    return kinds in STAYING


def _first_image(value: Any, kinds: Kinds) -> Any:
    """The images among inputs: a tensor (b, 3, h, w), or a list with one a sample; None where there are none."""
    if isinstance(value, list):
        found = [_first_image(entry, kinds) for entry in value]
        return None if not found or found[0] is None else found
    if isinstance(kinds, Mapping):
        parts = [(value[key], kind) for key, kind in kinds.items() if key in value]
    elif isinstance(kinds, tuple):
        parts = list(zip(value, kinds, strict=False))
    else:
        return value if kinds == "image" else None
    return next((image for part, kind in parts if (image := _first_image(part, kind)) is not None), None)
