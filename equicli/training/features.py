"""What reaches the prediction network's head, kept in the run folder so that a resumed run needs no pass again."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from equicli.errors import EquicliError, reason
from equicli.files import write_tensors
from equicli.training.images import TrainingImages


@dataclass(frozen=True)
class Features:
    """values: float32 (n, d). samples: int64 (n,), as in `TrainingImages`."""

    values: Tensor
    samples: Tensor

    @classmethod
    def read(cls, path: Path) -> "Features | None":
        """Those that an earlier start of the run left, if any.

        Raises:
            EquicliError: the file is damaged.
        """
        if not path.is_file():
            return None
        try:
            features = cls(**load_file(path))
            n, _ = features.values.shape
            if features.samples.shape != (n,) or not features.values.is_floating_point():
                raise ValueError("not what a run writes")
        except Exception as error:  # of a file that holds anything
            raise EquicliError(f"{path}: damaged ({reason(error)}). Remove it: it is made again.") from error
        return features

    def write(self, path: Path) -> None:
        write_tensors(path, {"values": self.values, "samples": self.samples})

    def of(self, images: TrainingImages) -> tuple[Tensor, Tensor]:
        """Those of training and of validation images.

        Raises:
            EquicliError: the images are others than when the features were computed.
        """
        if not torch.equal(self.samples, images.samples):
            raise EquicliError("--resume: some images can be read that could not before, or no longer; start anew.")
        n = len(images.train)
        return self.values[:n], self.values[n:]
