"""Transport: one element a sample acts on whatever a network takes or returns, lists, tuples and mappings of tensors.

The same function carries inputs in by ĝ⁻¹ and outputs out by ĝ.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeGuard

import torch
from torch import Tensor

from equicli.groups.action import STAYING, act
from equicli.groups.elements import Canvas, Element, Frame, act_on_frame, is_batch, singles
from equicli.groups.group import Group

# One of `action.KINDS`, or the kinds of numbered or named parts.
Kinds: TypeAlias = "str | tuple[Kinds, ...] | Mapping[str, Kinds]"
# (height, width): one for all samples, or one for each.
Frames: TypeAlias = Frame | Sequence[Frame]

_PICTURES = ("image", "mask")
_IN_PICTURES = ("keypoints", "boxes")


def transport(
    group: Group,
    element: Element,
    value: Any,
    kinds: Kinds,
    *,
    frames: Frames | None = None,
    canvas: Canvas | Frames = "same",
    padding: str = "edge",
) -> Any:
    """Return g·value, of the same structure and dtypes.

    Args:
        element: one element for all, or one a sample: int64 (b,), or (b, d, d).
        value: of b samples,

            - a tensor (b, ...) of one kind;
            - a list with one entry a sample, of any sizes: a tensor without the axis of the batch, or a tuple or
              mapping of such. Images in a list may change frame one by one, from landscape to portrait;
            - a tuple or mapping of any of these.

            None stays None. What is `logits`, `per-point` or `invariant` is returned as it is, and may be anything.
        kinds: one kind, or those of a tuple or mapping, part by part; a value may lack parts of a mapping. The kinds of
            a list are those of each entry.
        frames: (height, width) of the images before the action, one for all or one a sample, for keypoints and boxes.
            Where it is None, the frame of the image beside them, else of the mask, else of what lies beside all these.
        canvas: (height, width) of the images after the action, one for all or one a sample, about the same centre: what
            was turned onto a grown canvas comes back into its own frame. `same`, `grow`: see `act_on_frame`.
        padding: see `act`.

    Raises:
        ValueError: parts do not fit their kinds, or samples their elements, frames or canvases; images in one tensor
            would get different shapes; or what `act` raises.
    """
    keeps = is_batch(group, element) and _has_rectangles(value, kinds)
    return _Action(group, element, frames, canvas, padding, keeps).on(value, kinds)


def frames_after(group: Group, element: Element, frames: Frames, canvas: Canvas | Frames = "same") -> list[Frame]:
    """Return the (height, width) of each image of a list after the action, as `transport` turns it.

    Args:
        element: one for all, or one a sample.
        frames: of the images before the action, one for all or one a sample.
        canvas: as of `transport`.

    Raises:
        ValueError: there are not as many frames, elements and canvases.
    """
    count = 1 if _is_one(frames) else len(frames)
    if isinstance(element, Tensor) and is_batch(group, element) and _is_one(frames):
        count = element.shape[0]
    actions = _Action(group, element, frames, canvas).samples(count)
    return [action.frame_after(frame) for action, frame in zip(actions, _each(frames, count), strict=True)]


@dataclass(frozen=True)
class _Action:
    """One element for all samples, or one for each; or, `alone`, for one sample.

    frames, canvas: as they were asked for.
    keeps: images keep their canvas, because a batch of elements acts on some in one tensor; see `act_on_frame`.
    beside: frames of the images that lie beside or around the value at hand.
    """

    group: Group
    element: Element
    frames: Frames | None
    canvas: Canvas | Frames
    padding: str = "edge"
    keeps: bool = False
    beside: Frames | None = None
    alone: bool = False

    def on(self, value: Any, kinds: Kinds) -> Any:
        if value is None or kinds in STAYING:
            return value
        if isinstance(value, list):
            if self.alone:
                raise ValueError("a list has one entry a sample; what a sample consists of is a tuple or a mapping.")
            return [action.on(entry, kinds) for action, entry in zip(self.samples(len(value)), value, strict=True)]
        if isinstance(kinds, str):
            if not isinstance(value, Tensor):
                raise ValueError(f"the kind '{kinds}' is that of a tensor or a list of them, not of a {_type(value)}.")
            return self._on_coordinates(value, kinds) if kinds in _IN_PICTURES else self._on_tensor(value, kinds)
        parts = _match(value, kinds)
        inner = replace(self, beside=_frames_of(parts) or self.beside)
        turned = [inner.on(part, kind) for _, part, kind in parts]
        if isinstance(value, Mapping):
            return dict(zip(value, turned, strict=True))
        return value._make(turned) if hasattr(value, "_make") else tuple(turned)

    def samples(self, count: int) -> Iterator["_Action"]:
        """The action on each of so many samples."""
        elements = singles(self.group, self.element, count)
        each = (_each(x, count) for x in (self.frames, self.canvas, self.beside))
        for element, frames, canvas, beside in zip(elements, *each, strict=True):
            yield replace(self, element=element, frames=frames, canvas=canvas, beside=beside, alone=True)

    def frame_after(self, frame: Frame) -> Frame:
        """What one frame becomes, on one canvas."""
        if not isinstance(self.canvas, str):
            assert _is_one(self.canvas)
            return self.canvas
        keeps = self.keeps and self.canvas == "same"
        return frame if keeps else act_on_frame(self.group, self.element, frame, self.canvas)

    def _on_tensor(self, value: Tensor, kind: str) -> Tensor:
        canvas = None
        if kind in _PICTURES:
            if not isinstance(self.canvas, str) and not _is_one(self.canvas):
                if len(set(self.canvas)) > 1:
                    raise ValueError("images in one tensor would get different shapes. Give a list of them.")
                return self._one_by_one(value, kind)
            if self.alone or self.canvas != "same":
                canvas = self.frame_after((value.shape[-2], value.shape[-1]))
        return act(self.group, self.element, value, kind, padding=self.padding, canvas=canvas)

    def _on_coordinates(self, value: Tensor, kind: str) -> Tensor:
        frames = self.beside if self.frames is None else self.frames
        if frames is None or (_is_one(frames) and self._is_alike(frames)):
            canvas = None if frames is None else self.frame_after(frames)
            return act(self.group, self.element, value, kind, frames, canvas=canvas)
        return self._one_by_one(value, kind)

    def _one_by_one(self, value: Tensor, kind: str) -> Tensor:
        return torch.stack(self.on(list(value), kind)) if value.shape[0] else value

    def _is_alike(self, frame: Frame) -> bool:
        """Whether one frame becomes one frame, whatever the elements."""
        single = not is_batch(self.group, self.element)
        if isinstance(self.canvas, str):
            return single or (self.canvas == "same" and (self.keeps or frame[0] == frame[1]))
        return _is_one(self.canvas)


def _is_one(frames: object) -> TypeGuard[Frame]:
    """Whether this is one frame, and not one a sample."""
    return isinstance(frames, Sequence) and len(frames) == 2 and not isinstance(frames[0], Sequence)


def _each(frames: Any, count: int) -> list[Any]:
    """One for each sample: of frames, or of what there is one of for all."""
    if frames is None or isinstance(frames, str) or _is_one(frames):
        return [frames] * count
    if len(frames) != count:
        raise ValueError(f"{len(frames)} frames do not fit {count} samples.")
    return list(frames)


def _match(value: Any, kinds: Kinds) -> list[tuple[object, Any, Kinds]]:
    """The name, value and kinds of each part."""
    if isinstance(kinds, Mapping) and isinstance(value, Mapping):
        for name in value:
            if name not in kinds:
                raise ValueError(f"'{name}' has no kind; only {', '.join(kinds)} have one.")
        return [(name, part, kinds[name]) for name, part in value.items()]
    if isinstance(kinds, tuple) and isinstance(value, tuple) and len(kinds) == len(value):
        return list(zip(range(len(value)), value, kinds, strict=True))
    wanted = f"a mapping of {', '.join(kinds)}" if isinstance(kinds, Mapping) else f"a tuple of {len(kinds)} parts"
    raise ValueError(f"the kinds are those of {wanted}, not of a {_type(value)}.")


def _frames_of(parts: list[tuple[object, Any, Kinds]]) -> Frames | None:
    """The frame of the first image among some parts, else of the first mask; or those of a list of them."""
    for kind in _PICTURES:
        for _, part, its_kind in parts:
            if its_kind == kind and isinstance(part, Tensor):
                return part.shape[-2], part.shape[-1]
            if its_kind == kind and isinstance(part, list) and all(isinstance(entry, Tensor) for entry in part):
                return [(entry.shape[-2], entry.shape[-1]) for entry in part]
    return None


def _has_rectangles(value: Any, kinds: Kinds) -> bool:
    """Whether images that are not square lie in one tensor."""
    if isinstance(value, Tensor):
        return kinds in _PICTURES and value.shape[-2] != value.shape[-1]
    if isinstance(value, tuple | Mapping) and not isinstance(kinds, str):
        return any(_has_rectangles(part, kind) for _, part, kind in _match(value, kinds))
    return False


def _type(value: object) -> str:
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, tuple) else type(value).__name__
