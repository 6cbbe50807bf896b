"""EquiOptAdapt (arXiv 2405.14089): any network becomes an equivariant canonicalizer by scoring all |G| views."""

import math

import torch
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Canonicalizer, Pose
from equicli.data.normalization import Normalization
from equicli.groups import PlanarGroup
from equicli.groups.action import inscribed_disc, views

# Below, one rounding of a cosine would move scores by more than what evaluation counts as a tie.
TEMPERATURE_RANGE = (0.02, 1.0)


class OptimizedCanonicalizer(Canonicalizer):
    """Scores s_g(x) = cos(r, f(g⁻¹·x)) / τ, with f the canonicalization network and r a fixed unit reference vector.

    Equivariant for any f, because acting on x only permutes the views. The temperature τ is learned: cosines are
    bounded, so without it the prior loss could not approach zero.
    """

    def __init__(
        self,
        group: PlanarGroup,
        network: nn.Module,
        *,
        vector_size: int,
        size: int,
        temperature: float,
        input_normalization: Normalization,
        network_normalization: Normalization,
    ) -> None:
        """
        Args:
            network: f, from (b, 3, size, size) to (b, vector_size).
            size: side in pixels of the square image that f sees.
            temperature: initial τ, within TEMPERATURE_RANGE.
            input_normalization: how the images that `forward` takes were normalized.
            network_normalization: how f expects its images to be normalized.
        """
        super().__init__()
        self.group = group
        # Convolutions run about 1.4 times faster on this layout, on CPUs and GPUs.
        self.network = network.to(memory_format=torch.channels_last)
        self.size = size
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.reference: Tensor
        self.register_buffer("reference", nn.functional.normalize(torch.randn(vector_size), dim=0))
        # Turned off the grid, a square loses its corners: all views are then read inside the inscribed disc.
        self.disc: Tensor | None
        self.register_buffer("disc", None if group.exact else inscribed_disc(size).float(), persistent=False)
        scale, shift = network_normalization.after(input_normalization)
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", scale.view(3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Pose:
        """Find the pose of images x (b, 3, h, w), normalized for the prediction network."""
        small = shrink(x.float(), self.size) * self.scale + self.shift
        stacked = views(self.group, small)  # (b, |G|, 3, size, size)
        if self.disc is not None:
            stacked = stacked * self.disc
        vectors = self.network(
            stacked.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        ).float()  # (b·|G|, d)
        vectors = nn.functional.normalize(vectors, dim=-1).unflatten(0, stacked.shape[:2])
        low, high = TEMPERATURE_RANGE
        temperature = self.log_temperature.exp()
        # Clamped in value only: the gradient passes, so that a temperature at an end of the range can leave it.
        temperature = temperature + (temperature.clamp(low, high) - temperature).detach()
        scores = (vectors * self.reference).sum(dim=-1) / temperature  # (b, |G|)
        return Pose(scores.argmax(dim=1), scores, vectors)


def shrink(image: Tensor, size: int) -> Tensor:
    """Resize (b, c, h, w) to (b, c, size, size), bilinearly and antialiased.

    In float64, so that resizing commutes with turning by 90° to within one float32 rounding, and equal views give
    equal scores.
    """
    if image.shape[-2:] == (size, size):
        return image
    resized = nn.functional.interpolate(image.double(), (size, size), mode="bilinear", antialias=True)
    return resized.to(image.dtype)
