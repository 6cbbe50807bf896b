"""What sizes and widths the equivariant networks take, as settings."""

from typing import Annotated

from pydantic import AfterValidator, Field

# Networks halve their feature maps three times, and every size on the way but the last must be odd.
SHRINKING = 8


def nearest_size(size: int) -> int:
    """Return the side of a square image that the networks take, nearest to this one: 17, 25, 33, …; 64 gives 65.

    A convolution with stride 2 reads every second pixel. Only where the side is odd do these lie symmetrically about
    the centre; else it is not equivariant at all.
    """
    return SHRINKING * max(2, round((size - 1) / SHRINKING)) + 1


def odd_size(size: int) -> int:
    """Refuse a size whose halves are not odd at every stage, which would break equivariance."""
    if nearest_size(size) != size:
        raise ValueError(
            f"--canonicalizer-size {size}: equivariant networks need 17, 25, 33, … (8k + 1), as halving even sizes "
            f"breaks the symmetry; take {nearest_size(size)}"
        )
    return size


Size = Annotated[int, Field(ge=17, le=1025), AfterValidator(odd_size)]
Width = Annotated[int, Field(ge=4, le=1024)]
