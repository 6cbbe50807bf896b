"""AdaptedModel: a canonicalizer in front of a frozen prediction network. What is evaluated is what is shipped."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Canonicalizer, Pose
from equicli.data.clouds.decode import Cloud, CloudDecoder
from equicli.data.decode import Picture, read_pictures
from equicli.data.value_range import AS_USUAL, ValueRanges
from equicli.devices import device_of, full_float32
from equicli.errors import UsageError
from equicli.groups.elements import Frame, inverse
from equicli.groups.transport import frames_after
from equicli.policy import ONE, Policy
from equicli.prediction.clouds import AnyPreprocess, inputs_from_samples, inputs_from_tensors
from equicli.prediction.inputs import Inputs, Pictures, Views, moved
from equicli.prediction.promptable import PROMPTS, Promptable, read_prompts, takes_prompts
from equicli.prediction.signature import CLASSIFIER, Ask, Signature, asking


class Prediction(NamedTuple):
    """What the adapted model says of a batch.

    output: what the prediction network returns, in the frame of the input: logits (b, k) of a classifier; boxes, masks
        and keypoints in pixels of the picture as it came.
    pose: the poses that were found; None where the canonicalizer finds none.
    """

    output: Any
    pose: Pose | None


class EncodedPicture(NamedTuple):
    """What a network that answers prompts knows of a picture, for many prompts; see `AdaptedModel.encode`.

    embedding: the network's own, of the picture turned upright. pose: how it is turned; None where none is found.
    frame: (height, width) of the picture as it came.
    """

    embedding: Any
    pose: Pose | None
    frame: Frame


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
    def predict(
        self,
        pictures: Sequence[Picture | Cloud] | Picture | Cloud,
        prompts: Sequence[Mapping[str, Any]] | None = None,
    ) -> Prediction:
        """Predict from pictures of any size, or from point clouds where the network takes these; one or a list of them.

        Args:
            prompts: of a network that answers prompts, those in each picture, in its frame; see `decode`.
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
        return self.answer(self.pictures(read, prompts))

    @torch.inference_mode()
    def encode(self, picture: Picture) -> EncodedPicture:
        """Find the pose of one picture and let a network that answers prompts look at it, once for many prompts.

        Args:
            picture: see `predict`.

        Raises:
            UnreadableImageError: the file cannot be read. UsageError: no picture, or a network that takes no prompts.
        """
        network = self._promptable()
        decoder = self.preprocess.decoder(self.value_ranges)
        (read,) = read_pictures([picture], cast(Any, decoder))
        inputs = self.pictures([read])
        pose = self.find_pose(inputs)
        (image,) = inputs.at(self.canonicalizer.group, None if pose is None else pose.element)
        return EncodedPicture(network.encode(image), pose, (read.shape[-2], read.shape[-1]))

    @torch.inference_mode()
    def decode(self, encoded: EncodedPicture, **prompts: Any) -> dict[str, Tensor]:
        """Answer prompts in a picture that `encode` was given, both in the frame of the picture as it came.

        Args:
            prompts: for each of n: `boxes` (n, 4), left, top, right and bottom in pixels; `points` (n, k, 2), x and y,
                with `point_labels` (n, k), 1 what is meant and 0 what is not; `masks` (n, h, w), bool or logits. A
                picture of w x h pixels spans [0, w] x [0, h]: the centre of its first pixel is (0.5, 0.5).

        Returns:
            `masks`, bool (n, 1, h, w), the `boxes` (n, 4) around them, and `scores` (n,), how well the network expects
            each to fit.

        Raises:
            UsageError: they are no such prompts, or the network takes none.
        """
        network, group, frames = self._promptable(), self.canonicalizer.group, [encoded.frame]
        given = {name: value.to(device_of(self)) for name, value in read_prompts(prompts, encoded.frame).items()}
        element = None if encoded.pose is None else encoded.pose.element
        if element is None:
            return network.decode(encoded.embedding, given)
        undo = inverse(group, element)
        seen = frames_after(group, undo, frames, "grow")
        (inside,) = moved(group, undo, [given], PROMPTS, frames, seen)
        (answer,) = moved(
            group, element, [network.decode(encoded.embedding, inside)], self.signature.outputs, seen, frames
        )
        return cast(dict[str, Tensor], answer)

    def _promptable(self) -> Promptable:
        network = self.prediction_network
        if not takes_prompts(network):
            raise UsageError(f"{type(network).__name__} answers no prompts; predict() asks it about pictures.")
        return network

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

    def pictures(self, pictures: Sequence[Tensor], prompts: Sequence[Mapping[str, Any]] | None = None) -> Inputs:
        """Inputs that are pictures, uint8 (3, h, w) each, perhaps with prompts in them, or clouds (n, 3).

        Raises:
            UsageError: prompts that are none, not as many as pictures, or that the network does not take.
        """
        device = device_of(self)
        lists, outputs = self.signature.lists, self.signature.outputs
        inputs = inputs_from_samples(pictures, self.preprocess, device, self.padding, lists=lists, outputs=outputs)
        if prompts is None:
            return inputs
        self._promptable()
        if len(prompts) != len(pictures) or not isinstance(inputs, Pictures):
            raise UsageError(f"prompts: {len(prompts)} mappings of {len(pictures)} pictures; give one for each.")
        return inputs.asked([read_prompts(one, f) for one, f in zip(prompts, inputs.frames(), strict=True)])

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
