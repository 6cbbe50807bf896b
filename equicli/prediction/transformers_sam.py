"""SAM and SAM 2 of transformers': networks that draw a mask for each prompt in a picture."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from equicli.data.normalization import IMAGENET
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError, UsageError, reason
from equicli.groups.coordinates import boxes_around
from equicli.prediction.network import NetworkRequest, NetworkSpec, PretrainedNetwork
from equicli.prediction.promptable import FIRST_CORNER, NO_POINT, count_prompts
from equicli.prediction.published_files import PublishedFiles, build_published
from equicli.prediction.transformers_class import Before, put_before
from equicli.prediction.transformers_library import configuration, quiet, transformers
from equicli.prediction.transformers_preprocess import find_normalization

# By the class that a configuration names: that which is built. SAM 2 is published as its network for videos.
NETWORKS = {"SamModel": "SamModel", "Sam2Model": "Sam2Model", "Sam2VideoModel": "Sam2Model"}
_PARTS = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
# Prompts that are answered at a time: a hundred would take gigabytes.
AT_ONCE = 16
# The logit of a pixel that a bool mask says is inside.
SURE = 10.0


class Encoded(NamedTuple):
    """What the network knows of one image: features of one or more levels, (1, c, h', w') each, and (height, width)."""

    features: tuple[Tensor, ...]
    frame: tuple[int, int]


def load(
    files: PublishedFiles, published: Mapping[str, Any], architecture: str, request: NetworkRequest
) -> PretrainedNetwork:
    """Load a network from published files.

    Args:
        architecture: a key of NETWORKS.
    """
    architecture = NETWORKS[architecture]
    if request.image_size is not None:
        raise UsageError("--image-size: SAM takes pictures of any size, and resizes them to its own; leave it out.")
    if request.arguments:
        raise UsageError(f"--model-arg: {architecture} takes none; its configuration says all.")
    arguments = {part: configuration(published[part]) for part in _PARTS if isinstance(published.get(part), dict)}
    network, provenance = build_published(files, request, lambda: create(architecture, arguments))
    normalization, remarks = find_normalization(files, IMAGENET)
    preprocess = Preprocess(None, None, "bilinear", normalization)  # it resizes by itself
    return PretrainedNetwork(
        network, NetworkSpec("transformers", architecture, arguments), preprocess, None, provenance, remarks
    )


def create(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build a network with untrained weights; see `PromptedMasks` for what it takes and returns.

    Args:
        arguments: the configurations of its parts.

    Raises:
        EquicliError: transformers has no such network, or does not take these.
    """
    kind = getattr(transformers(), architecture, None)
    if kind is None:
        raise EquicliError(f"transformers {transformers().__version__} has no '{architecture}'; update it.")
    try:
        with quiet():
            network: nn.Module = put_before(PromptedMasks, kind)(kind.config_class(**copy.deepcopy(dict(arguments))))
    except Exception as error:  # constructors fail in any way
        raise EquicliError(f"{architecture}: transformers cannot build it ({reason(error)}).") from error
    return network.eval()


class PromptedMasks(Before):
    """Put before SAM: takes images of any sizes, each with its prompts, and returns a mask for each prompt.

    An image is resized so that its longer edge (of SAM 2 both edges) fits, as transformers' processors do it.
    transformers counts pixels by their centres and adds the half to each coordinate; `promptable` says what comes here.
    """

    def forward(self, inputs: list[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
        """
        Args:
            inputs: for each sample a mapping of `image` (3, h, w), normalized, and of prompts; see `promptable`.

        Returns:
            See `decode`.
        """
        if any(isinstance(sample, Tensor) for sample in inputs):
            raise UsageError(
                "this network answers prompts: model.predict(pictures, prompts), or model.encode and model.decode."
            )
        return [self.decode(self.encode(sample["image"]), sample) for sample in inputs]

    def encode(self, image: Tensor) -> Encoded:
        """
        Args:
            image: (3, h, w), normalized.
        """
        frame = (image.shape[-2], image.shape[-1])
        # In float32, as antialiasing has no kernel for halves; then as the network computes.
        shown = functional.interpolate(
            image[None].float(), self._resized(frame), mode="bilinear", align_corners=False, antialias=True
        )
        missing = [self.side - side for side in shown.shape[-2:]]
        return Encoded(self.embed(functional.pad(shown, (0, missing[1], 0, missing[0]))), frame)

    def decode(self, encoded: Encoded, prompts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """
        Returns:
            Of n prompts `masks`, bool (n, 1, h, w); `boxes` (n, 4) around them, of an empty mask without size; `scores`
            (n,), the overlap with the right mask that the network expects; `labels` (n,). Of one point, which may mean
            a thing or a part of it, the surest of three masks.
        """
        n = count_prompts(prompts)
        device = encoded.features[0].device
        labels = prompts.get("labels", torch.ones(n, dtype=torch.int64, device=device))
        parts = [self._decode(encoded, prompts, slice(i, i + AT_ONCE)) for i in range(0, n, AT_ONCE)]
        masks = torch.cat([part for part, _ in parts]) if parts else torch.zeros(0, 1, *encoded.frame, dtype=torch.bool)
        scores = torch.cat([part for _, part in parts]) if parts else torch.zeros(0)
        masks, scores = masks.to(device), scores.to(device)
        return {"boxes": boxes_around(masks[:, 0]), "labels": labels, "scores": scores, "masks": masks}

    def _decode(self, encoded: Encoded, prompts: Mapping[str, Tensor], rows: slice) -> tuple[Tensor, Tensor]:
        """The masks and scores of some prompts, each as an image of its own: mask prompts are of images."""
        some = {name: value[rows] for name, value in prompts.items() if name != "image"}
        n = count_prompts(some)
        given: dict[str, Any] = {}
        if "points" in some:
            marks = some.get("point_labels", torch.ones(some["points"].shape[:2], device=some["points"].device))
            given["input_points"] = self._places(some["points"], encoded.frame)[:, None]
            given["input_labels"] = marks[:, None].long()
        if "boxes" in some:
            corners = self._places(some["boxes"].reshape(n, 2, 2), encoded.frame)
            given["input_boxes"] = corners.reshape(n, 1, 4)
        if "masks" in some:
            given["input_masks"] = self._small(some["masks"], encoded.frame)
        one_point = set(given) == {"input_points", "input_labels"} and given["input_points"].shape[2] == 1
        features = [level.expand(n, -1, -1, -1) for level in encoded.features]
        dtype = features[0].dtype
        given = {key: v.to(dtype) if v.is_floating_point() else v for key, v in given.items()}
        forward: Any = super().forward
        answer = forward(
            image_embeddings=features if self._levels > 1 else features[0], multimask_output=one_point, **given
        )
        scores = answer.iou_scores[:, 0].float()
        best = scores.argmax(dim=1)
        drawn = answer.pred_masks[torch.arange(n, device=best.device), 0, best][:, None].float()
        return self._at_size(drawn, encoded.frame) > 0, scores.gather(1, best[:, None])[:, 0]

    # As programs, in which no shape depends on a value; see `promptable.InPrograms`.

    def resized(self, frame: Tensor) -> Tensor:
        edges = frame.to(torch.float64)
        if self._squashes:
            return torch.full_like(edges, self.side)
        return (edges * self.side / edges.max() + 0.5).floor().clamp(min=1)

    def embed(self, square: Tensor) -> tuple[Tensor, ...]:
        network: Any = self
        features = network.get_image_embeddings(square.to(next(self.parameters()).dtype))
        return tuple(features) if isinstance(features, list) else (features,)

    def draw(self, features: Sequence[Tensor], points: Tensor, marks: Tensor) -> tuple[Tensor, Tensor]:
        network: Any = self
        prompts = network.prompt_encoder
        dtype = prompts.not_a_point_embed.weight.dtype
        # By number: of no point, of what is not meant, of what is, of a box's first and of its last corner.
        of_points = prompts.point_embed
        of_points = [of_points.weight] if isinstance(of_points, nn.Embedding) else [one.weight for one in of_points]
        kinds = torch.cat([prompts.not_a_point_embed.weight, *of_points])
        places = prompts.shared_embedding(points[None], (self.side, self.side))[0]
        tokens = torch.where(marks[..., None] == NO_POINT, torch.zeros_like(places), places) + kinds[marks + 1]
        *details, embedding = (level.to(dtype) for level in features)
        asked = {
            "image_embeddings": embedding,
            "image_positional_embeddings": network.get_image_wide_positional_embeddings(),
            "sparse_prompt_embeddings": tokens[None].to(dtype),
            "dense_prompt_embeddings": prompts.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(embedding),
            **({"high_resolution_features": details} if details else {}),
        }
        # What both do is done once, where a runtime looks for what is the same: ONNX's exporter does, and inductor.
        one, three = (network.mask_decoder(**asked, multimask_output=several)[:2] for several in (False, True))
        logits, scores = (torch.cat([a, b], dim=2)[0].float() for a, b in zip(one, three, strict=True))
        single = ((marks == 0) | (marks == 1)).sum(dim=1).eq(1) & (marks < FIRST_CORNER).all(dim=1)
        best = torch.where(single, 1 + scores[:, 1:].argmax(dim=1), 0)
        drawn = logits.gather(1, best[:, None, None, None].expand(-1, 1, *logits.shape[-2:]))
        if not self._squashes:  # as `_at_size` begins
            drawn = functional.interpolate(drawn, (self.side, self.side), mode="bilinear", align_corners=False)
        return drawn, scores.gather(1, best[:, None])[:, 0]

    @property
    def pads_boxes(self) -> bool:
        return self._levels > 1

    @property
    def side(self) -> int:
        return int(self.config.prompt_encoder_config.image_size)

    @property
    def _levels(self) -> int:
        return int(getattr(self.config.vision_config, "num_feature_levels", 1))

    @property
    def _squashes(self) -> bool:
        """Whether both edges are resized; else the shorter is padded, right or below."""
        return self._levels > 1

    def _resized(self, frame: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of an image as the network is shown it, without padding."""
        height, width = self.resized(torch.tensor(frame)).tolist()
        return int(height), int(width)

    def _places(self, points: Tensor, frame: tuple[int, int]) -> Tensor:
        """Coordinates (..., 2) in the image as the network counts them."""
        height, width = self._resized(frame)
        return points.float() * points.new_tensor([width / frame[1], height / frame[0]], dtype=torch.float32) - 0.5

    def _small(self, masks: Tensor, frame: tuple[int, int]) -> Tensor:
        """Masks (n, h, w) as the prompt encoder takes them, (n, 1, h', w')."""
        logits = SURE * (2 * masks.float() - 1) if masks.dtype == torch.bool else masks.float()
        side = 4 * self.side // int(self.config.prompt_encoder_config.patch_size)
        scale = side / self.side
        height, width = (max(1, round(edge * scale)) for edge in self._resized(frame))
        small = functional.interpolate(
            logits[:, None], (height, width), mode="bilinear", align_corners=False, antialias=True
        )
        return functional.pad(small, (0, side - width, 0, side - height), value=-SURE)

    def _at_size(self, masks: Tensor, frame: tuple[int, int]) -> Tensor:
        """Logits (n, 1, h', w') at the size of the image: padding is cut off, as transformers' processors do it."""
        if not self._squashes:
            height, width = self._resized(frame)
            masks = functional.interpolate(masks, (self.side, self.side), mode="bilinear", align_corners=False)
            masks = masks[..., :height, :width]
        return functional.interpolate(masks, frame, mode="bilinear", align_corners=False)
