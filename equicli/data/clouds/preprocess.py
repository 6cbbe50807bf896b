"""From a point cloud of any size to what a network takes: so many points, centred and scaled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.spatial import cKDTree
from torch import Tensor

from equicli.data.clouds.decode import CloudDecoder
from equicli.errors import UsageError

Draw = Literal["random", "first", "farthest"]
Points = Annotated[int, Field(ge=1, le=1 << 17)]
Seed = Annotated[int, Field(ge=0)]


class AsItIs:
    """Clouds have no colours to normalize: stands where pictures have a `Normalization`."""

    channels = 3

    def __call__(self, cloud: Tensor) -> Tensor:
        return cloud.float()

    def rgb(self) -> "AsItIs":
        return self


@dataclass(frozen=True)
class CloudPreprocess:
    """Draw points from a cloud, then move their mean to the origin and the farthest of them to a distance of 1.

    So PointNet and its successors are trained.

    points: how many are drawn. Of a cloud that has fewer, some are taken twice.
    draw: `random`; `first`, as the files of ModelNet40 in h5 are used; `farthest`, each as far as can be from those
        before, which is slow and even.
    seed: of drawing, and of sampling meshes. The same number of points always gives the same choice, so that turning a
        cloud does not change which points are drawn.
    """

    points: Points = 1024
    draw: Draw = "random"
    seed: Seed = 0

    # Of pictures, what they are resized to.
    size = None
    resizes = False

    @property
    def normalization(self) -> Any:
        """`AsItIs`, which has what is asked of a `Normalization`."""
        return AsItIs()

    def __call__(self, cloud: Tensor) -> Tensor:
        """From points (n, 3) of floating point to (points, 3), float32."""
        return unit_sphere(cloud[self.indices(cloud)].double()).float()

    def batch(self, clouds: Sequence[Tensor], device: torch.device) -> Tensor:
        """The same for several: (b, points, 3) on a device."""
        return torch.stack([self(cloud) for cloud in clouds]).to(device)

    def indices(self, cloud: Tensor) -> Tensor:
        """Which points are drawn, int64 (points,)."""
        n = len(cloud)
        if n <= self.points or self.draw == "random":
            generator = np.random.default_rng(self.seed)
            order = generator.permutation(n) if self.draw == "random" else np.arange(n)
            again = generator.integers(0, n, max(0, self.points - n))
            return torch.from_numpy(np.concatenate([order[: self.points], again]))
        return farthest_points(cloud, self.points) if self.draw == "farthest" else torch.arange(self.points)

    def nearest(self, cloud: Tensor) -> Tensor:
        """For each point of a cloud (n, 3) the nearest that is drawn, as its position among these: int64 (n,)."""
        drawn = cloud[self.indices(cloud)].numpy()
        return torch.from_numpy(cKDTree(drawn).query(cloud.numpy())[1])

    def decoder(self, *_: object) -> CloudDecoder:
        """What opens files for it. Nothing that is said of pixels matters."""
        return CloudDecoder(self.points, self.seed)

    def override(
        self,
        mode: str,
        mean: object = None,
        std: object = None,
        image_size: object = None,
    ) -> "CloudPreprocess":
        """Refuse what only pictures have.

        Raises:
            UsageError: there is any of it.
        """
        given = {"--preprocess none": mode == "none", "--mean": mean, "--std": std, "--image-size": image_size}
        for flag, value in given.items():
            if value:
                raise UsageError(f"{flag}: is for pictures; of clouds say --set task.points or task.draw.")
        return self

    def restore(self, output: Any, kinds: object, frame: object) -> Any:
        """What a network says of its input belongs to the drawn points."""
        return output


def unit_sphere(cloud: Tensor) -> Tensor:
    """Centre points (n, 3) at their mean, and scale them so that the farthest is at a distance of 1.

    Points that all are one stay at the origin. Nothing is rounded otherwise when axes are swapped or change their sign.
    """
    centred = cloud - cloud.mean(dim=0)
    # Sorted, so that a sum of squares is the same in every order of the axes.
    farthest = centred.square().sort(dim=1).values.sum(dim=1).max().sqrt()
    # Of equal points, rounding of their mean is all that is left.
    least = 1e-12 * cloud.abs().max()
    return centred / farthest if farthest > least else torch.zeros_like(centred)


def farthest_points(cloud: Tensor, count: int) -> Tensor:
    """The numbers of points each of which is the farthest from all before, int64 (count,); the first is the one that is
    farthest from the mean, so that neither turning nor reordering a cloud changes which they are.

    Args:
        cloud: (n, 3) with n >= count.
    """
    points = cloud.double().numpy()
    distance = np.square(points - points.mean(axis=0)).sum(axis=1)
    chosen = [int(distance.argmax())]
    distance = np.full(len(points), np.inf)
    for _ in range(count - 1):
        distance = np.minimum(distance, np.square(points - points[chosen[-1]]).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return torch.tensor(chosen)
