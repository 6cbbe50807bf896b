"""How a canonicalizer looks at images: once, or first at few pixels and at more of them where that leaves it unsure."""

from dataclasses import dataclass

SURE = 0.95  # the probability of its likeliest pose from which a glance is enough


@dataclass(frozen=True)
class Look:
    """size: side in pixels of the square image. glance: that of a smaller first look, where there is one.

    Raises ValueError where the first look is not the smaller one.
    """

    size: int
    glance: int | None = None

    def __post_init__(self) -> None:
        if self.glance is not None and not 8 <= self.glance < self.size:
            raise ValueError(f"canonicalizer.glance = {self.glance}: must be from 8 to {self.size - 1}, below its size")
