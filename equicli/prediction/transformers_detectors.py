"""DETR and RT-DETR of transformers': detectors that are asked and read through their own image processors."""

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from equicli.data.normalization import IMAGENET, Normalization
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError, UsageError, reason
from equicli.prediction.network import NetworkRequest, NetworkSpec, PretrainedNetwork
from equicli.prediction.published_files import PublishedFiles, build_published, read_json
from equicli.prediction.transformers_class import Before, put_before
from equicli.prediction.transformers_library import class_names_of, configuration, entries, quiet, transformers
from equicli.prediction.transformers_preprocess import PROCESSOR_FILES, find_normalization

_AS_THEY_ARE = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
# The image processor of each, and how it normalizes where nothing says.
NETWORKS = {
    "DetrForObjectDetection": ("DetrImageProcessor", IMAGENET),
    "RTDetrForObjectDetection": ("RTDetrImageProcessor", _AS_THEY_ARE),
    "RTDetrV2ForObjectDetection": ("RTDetrImageProcessor", _AS_THEY_ARE),
}
# How pictures are resized: to a shorter edge, but no longer edge than; or to both edges, whatever their shape.
_EDGES = ("shortest_edge", "longest_edge", "height", "width")
_SIZE = "size"


def load(
    files: PublishedFiles, published: Mapping[str, Any], architecture: str, request: NetworkRequest
) -> PretrainedNetwork:
    """Load a detector from published files.

    Args:
        architecture: a key of NETWORKS.
    """
    if request.image_size is not None:
        raise UsageError(
            "--image-size: detectors resize pictures themselves; in place of it, --model-arg shortest_edge=N."
        )
    processor, normalization = NETWORKS[architecture]
    known = entries(getattr(transformers(), architecture).config_class)
    arguments: dict[str, Any] = {k: v for k, v in configuration(published).items() if k in known}
    if isinstance(published.get("backbone"), str) and not isinstance(published.get("backbone_config"), dict):
        arguments = {**arguments, "backbone": published["backbone"]}
        arguments.pop("backbone_config", None)
    labels = published.get("id2label")
    arguments["num_labels"] = len(labels) if isinstance(labels, dict) else published.get("num_labels", 2)
    sizes = {key: value for key, value in request.arguments.items() if key in _EDGES}
    rest = {key: value for key, value in request.arguments.items() if key not in _EDGES}
    published_size = _published_size(files, processor)
    # Edges of another kind than published take the place of all: transformers takes no mixture.
    size = {**published_size, **sizes} if set(sizes) <= set(published_size) else sizes
    arguments |= {_SIZE: size, **rest}
    network, provenance = build_published(files, request, lambda: create(architecture, arguments))
    normalization, remarks = find_normalization(files, normalization)
    for pair in (("height", "width"), ("shortest_edge", "longest_edge")):
        if len(set(pair) & size.keys()) == 1:
            raise UsageError(f"--model-arg: {pair[0]} and {pair[1]} go together here; give both.")
    if "height" in size:
        squashed = f"{size['width']}x{size['height']}"
        remarks = (*remarks, f"{files.name}: resizes every picture to {squashed} pixels, whatever its shape")
    names = class_names_of(labels, arguments["num_labels"])
    spec = NetworkSpec("transformers", architecture, arguments)
    preprocess = Preprocess(None, None, "bilinear", normalization)  # it resizes by itself
    return PretrainedNetwork(network, spec, preprocess, names, provenance, remarks)


def create(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build a detector with untrained weights; see `Detections` for what it takes and returns.

    Args:
        arguments: entries of its configuration, `num_labels`, and `size`, how pictures are resized.

    Raises:
        EquicliError: transformers does not take them.
    """
    kind = getattr(transformers(), architecture)
    given = copy.deepcopy(dict(arguments))
    size = given.pop(_SIZE, {})
    unknown = sorted(set(given) - entries(kind.config_class) - {"num_labels", "backbone"})
    if unknown:
        raise EquicliError(f"{architecture} takes no argument '{unknown[0]}'. Check --model-arg.")
    if not isinstance(size, Mapping) or any(type(v) is not int or v < 1 for v in size.values()):
        raise EquicliError(f"{architecture}: size is {size!r}; sizes are numbers of pixels. Check --model-arg.")
    try:
        with quiet():
            network: Any = put_before(Detections, kind)(kind.config_class(**given))
    except Exception as error:  # constructors fail in any way
        raise EquicliError(f"{architecture}: transformers cannot build it ({reason(error)}).") from error
    network.processor, network.size = NETWORKS[architecture][0], dict(size)
    return network.eval()  # type: ignore[no-any-return]


class Detections(Before):
    """Put before a detector of transformers': takes a list of images of any sizes, normalized, and returns for each a
    mapping by torchvision's contract: `boxes` (n, 4) in pixels of the image, `labels` and `scores` (n,).

    processor: the name of its image processor. size: how that resizes; empty takes the processor's own default.
    """

    processor: str
    size: dict[str, int]
    # There is no background among its outputs.
    first_label = 0

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [self._one(image) for image in images]

    def losses(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The network's own loss, as transformers weighs its parts, in eval mode: nothing in it is drawn at random.

        Args:
            targets: of each image `boxes` (n, 4) in pixels, and `labels` (n,).
        """
        each = [self._ask(image, labels=[_as_shares(t, image)]).loss for image, t in zip(images, targets, strict=True)]
        return {"loss": torch.stack(each).mean()}

    def _ask(self, image: Tensor, **more: Any) -> Any:
        processor = _processor(self.processor, tuple(self.size.items()))
        shown = processor(images=[image], do_rescale=False, do_normalize=False, return_tensors="pt")
        pixels = shown["pixel_values"].to(image)
        mask = {"pixel_mask": shown["pixel_mask"].to(image.device)} if "pixel_mask" in shown else {}
        forward: Any = super().forward
        return forward(pixel_values=pixels, **mask, **more)

    def _one(self, image: Tensor) -> dict[str, Tensor]:
        processor = _processor(self.processor, tuple(self.size.items()))
        answer, frame = self._ask(image), (image.shape[-2], image.shape[-1])
        (found,) = processor.post_process_object_detection(answer, threshold=0.0, target_sizes=[frame])
        return {"boxes": found["boxes"].float(), "labels": found["labels"], "scores": found["scores"].float()}


def _as_shares(target: Mapping[str, Tensor], image: Tensor) -> dict[str, Tensor]:
    """Objects as these networks are trained on them: middles and sides of boxes, as shares of the image's."""
    left, top, right, bottom = target["boxes"].to(image).unbind(dim=1)
    shares = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], dim=1)
    width, height = image.shape[-1], image.shape[-2]
    return {"class_labels": target["labels"], "boxes": shares / shares.new_tensor([width, height, width, height])}


@cache
def _processor(name: str, size: tuple[tuple[str, int], ...]) -> Any:
    with quiet():
        return getattr(transformers(), name)(**({"size": dict(size)} if size else {}))


def _published_size(files: PublishedFiles, processor: str) -> dict[str, int]:
    """How a file says that pictures are resized, read by transformers itself, which knows older forms of it."""
    found = files.find(PROCESSOR_FILES)
    published = read_json(found, f"{files.name}: {found.name}") if found else {}
    inner = published.get("image_processor")
    published = inner if isinstance(inner, dict) else published
    given = {key: published[key] for key in ("size", "max_size") if key in published}
    try:
        with quiet():
            size: Any = getattr(transformers(), processor)(**given).size
    except Exception as error:
        raise EquicliError(f"{files.name}: its preprocessor_config.json makes no sense ({reason(error)}).") from error
    values = {key: size.get(key) if isinstance(size, Mapping) else getattr(size, key, None) for key in _EDGES}
    return {key: int(value) for key, value in values.items() if value is not None}
