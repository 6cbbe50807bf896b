"""AdaptedModel: a canonicalizer in front of a frozen prediction network. What is evaluated is what is shipped."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Canonicalizer, Pose
from equicli.data.clouds.decode import Cloud, CloudDecoder
from equicli.data.decode import Picture, read_pictures
from equicli.data.value_range import AS_USUAL, ValueRanges
from equicli.devices import device_of, full_float32
from equicli.errors import UsageError
from equicli.policy import ONE, Policy
from equicli.prediction.clouds import AnyPreprocess, inputs_from_samples, inputs_from_tensors
from equicli.prediction.inputs import Inputs, Views
from equicli.prediction.signature import CLASSIFIER, Ask, Signature, asking


class Prediction(NamedTuple):
    """What the adapted model says of a batch.

    output: what the prediction network returns, in the frame of the input: logits (b, k) of a classifier; boxes, masks
        and keypoints in pixels of the picture as it came.
    pose: the poses that were found; None where the canonicalizer finds none.
    """

    output: Any
    pose: Pose | None


class AdaptedModel(nn.Module):
    """x ↦ ĝ·network(ĝ⁻¹·x) with ĝ the pose that the canonicalizer finds, so that the output turns with the input.

    `predict` takes pictures of any size: each is turned before anything crops or resizes it. `forward` takes what the
    prediction network takes, preprocessed already, and returns what it returns.

    The prediction network is frozen here, also where `train_base` trained it before: its parameters want no gradient
    and it stays in eval mode, also under `train()`.
    """

    def __init__(
        self,
        canonicalizer: Canonicalizer,
        prediction_network: nn.Module,
        preprocess: AnyPreprocess,
        *,
        padding: str = "edge",
        policy: Policy = ONE,
        signature: Signature = CLASSIFIER,
        value_ranges: ValueRanges = AS_USUAL,
    ) -> None:
        """
        Args:
            preprocess: the prediction network's own, from pictures to its inputs.
            padding: what images that are turned off the grid show from outside (see `groups.action.act`).
            policy: how the network is asked.
            signature: what the network takes and returns.
            value_ranges: of pictures of more than 8 bits that do not say theirs, as it was adapted with.
        """
        super().__init__()
        self.canonicalizer = canonicalizer
        self.prediction_network = prediction_network.requires_grad_(False)
        self.preprocess = preprocess
        self.padding = padding
        self.policy = policy
        self.signature = signature
        self.value_ranges = value_ranges
        self.eval()

    def train(self, mode: bool = True) -> "AdaptedModel":
        super().train(mode)
        self.prediction_network.eval()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "AdaptedModel":
        # `.half()` and the like change the prediction network; the canonicalizer only follows to its device.
        self.prediction_network._apply(fn, recurse)
        self.canonicalizer._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, x: Any) -> Any:
        """Predict from square images x (b, 3, h, w), normalized as the prediction network expects; or from clouds
        (b, n, 3), centred and scaled.

        A network that takes more than images gets it as its signature says; a list may hold images of any sizes.
        """
        return self.answer(self.tensors(x)).output

    @torch.inference_mode()
    def predict(self, pictures: Sequence[Picture | Cloud] | Picture | Cloud) -> Prediction:
        """Predict from pictures of any size, or from point clouds where the network takes these; one or a list of them.

        Args:
            pictures: each a path, a `PIL.Image`, an array (h, w), (h, w, 3) or (h, w, 4) in the order of red, green,
                blue and opacity, of uint8 or of floats in [0, 1], or a uint8 tensor (3, h, w). Of clouds a path, or an
                array (n, 3) of any scale.

        Raises:
            UnreadableImageError: a file cannot be read. UsageError: a value is no picture, or there is none.
        """
        decoder = self.preprocess.decoder(self.value_ranges)
        if isinstance(decoder, CloudDecoder):
            read = decoder.read_all(pictures)
        else:
            read = read_pictures(cast(Any, pictures), decoder)
        if not read:
            raise UsageError("no pictures: give at least one.")
        return self.answer(self.pictures(read))

    def canonicalize(self, x: Tensor) -> Tensor:
        """Return the canonical form ĝ⁻¹·x, the same for x and every g·x, of images (b, 3, h, w) or clouds (b, n, 3)."""
        inputs = self.tensors(x)
        pose = self.find_pose(inputs)
        canonical: Tensor = inputs.at(self.canonicalizer.group, None if pose is None else pose.element)
        return canonical

    def tensors(self, x: Any) -> Inputs:
        """Inputs that are preprocessed already.

        Raises:
            UsageError: images or clouds that are no batch.
        """
        return inputs_from_tensors(x, self.preprocess.normalization, self.signature.inputs, self.padding)

    def pictures(self, pictures: Sequence[Tensor]) -> Inputs:
        """Inputs that are pictures, uint8 (3, h, w) each, or clouds (n, 3)."""
        device = device_of(self)
        lists, outputs = self.signature.lists, self.signature.outputs
        return inputs_from_samples(pictures, self.preprocess, device, self.padding, lists=lists, outputs=outputs)

    def answer(self, inputs: Inputs, ask: Ask | None = None) -> Prediction:
        """Predict from inputs of either kind.

        Args:
            ask: asks the prediction network, or knows already what it says.
        """
        ask = ask or asking(self.prediction_network, self.signature)
        pose = self.find_pose(inputs, ask)
        views = Views(inputs, self.canonicalizer.group, ask, self.signature.outputs)
        return Prediction(self.policy.answer(views, pose), pose)

    def find_pose(self, inputs: Inputs, ask: Ask | None = None) -> Pose | None:
        """Poses, in float32 whatever the prediction network runs in, because near ties decide them."""
        if not self.canonicalizer.finds_poses:
            return None
        with full_float32(device_of(self)):
            return self.canonicalizer.find(inputs, ask or asking(self.prediction_network, self.signature))

    def passes(self, pose: Pose | None) -> float:
        """Of the prediction network, for each input: the mean over those of these poses."""
        return self.canonicalizer.passes + self.policy.passes(self.canonicalizer.group, pose)

    @property
    def chooses_pose(self) -> bool:
        """Whether it predicts at one pose that it finds for each input."""
        return self.canonicalizer.finds_poses and self.policy.chooses
