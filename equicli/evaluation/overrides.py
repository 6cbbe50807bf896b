"""What an evaluation uses in place of what the artifact says."""

from dataclasses import dataclass, replace
from typing import Any

from equicli.data.value_range import ValueRanges, read_bounds
from equicli.errors import UsageError
from equicli.model_config import ModelConfig


@dataclass(frozen=True)
class Overrides:
    """How pictures are prepared; None: as the artifact says.

    preprocess, image_size: see `Preprocess.override`. value_range: LOW:HIGH, see `data.value_range`.
    """

    preprocess: str | None = None
    image_size: int | None = None
    value_range: str | None = None

    def by_flag(self) -> dict[str, Any]:
        """Those that there are, by the flags that gave them."""
        given = {
            "--preprocess": self.preprocess,
            "--image-size": self.image_size,
            "--value-range": self.value_range,
        }
        return {flag: value for flag, value in given.items() if value is not None}

    def apply(self, config: ModelConfig) -> ModelConfig:
        """The configuration with these in place of its own.

        Raises:
            UsageError: they contradict each other, or nothing says what they leave open.
        """
        if self.preprocess == "none" and self.image_size is not None:
            raise UsageError("--image-size resizes, which --preprocess none forbids; give one of them.")
        if self.preprocess is not None or self.image_size is not None:
            preprocess = config.preprocess.override(self.preprocess or "checkpoint", image_size=self.image_size)
            if self.preprocess == "checkpoint" and not preprocess.resizes:
                raise UsageError(
                    "--preprocess checkpoint: nothing says how this network's pictures are resized; add --image-size N."
                )
            config = replace(config, preprocess=preprocess)
        if self.value_range is not None:
            try:
                config = replace(config, value_ranges=ValueRanges.chosen(*read_bounds(self.value_range)))
            except ValueError as error:
                raise UsageError(f"--value-range {self.value_range}: {error}.") from None
        return config
