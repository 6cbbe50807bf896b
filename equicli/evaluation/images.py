"""Which images are evaluated on, and which output of the network is right for each."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from equicli.artifact import ModelConfig
from equicli.data.folders import Sample, open_folder, recorded_split
from equicli.errors import EquicliError, UsageError
from equicli.progress import Progress
from equicli.recipes import expand_path
from equicli.runs import Run


@dataclass(frozen=True)
class EvaluationImages:
    """What is evaluated on.

    classes: names of the class folders, empty without labels.
    split: `test`, or `all` of a folder without a split.
    """

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    split: str

    def targets(self, config: ModelConfig) -> Tensor:
        """See `targets_of`."""
        labels = torch.tensor([-1 if sample.label is None else sample.label for sample in self.samples])
        return targets_of(labels, self.classes, config)


def find_images(data: str | None, run: Run | None, progress: Progress) -> EvaluationImages:
    """The test images of a folder; of that which a run was made from, those that it held out.

    Args:
        data: a dataset folder; None is the one that the run recorded.

    Raises:
        UsageError: neither names a folder. EquicliError: there are no test images.
    """
    recorded = Path(run.read_settings()["data"]) if run else None
    root = Path(expand_path(data)) if data is not None else recorded
    if root is None:
        raise UsageError("an exported file records no data folder; name one with --data.")
    folder = open_folder(root)
    if run is not None and recorded is not None and root.resolve() == recorded.resolve():
        samples = recorded_split(folder, {"train": [], "validation": [], "test": run.read_split()["test"]}).test
        split = "test"
    elif folder.test is not None:
        samples, split = folder.test, "test"
    else:
        samples, split = folder.train, "all"
        progress.say(f"{root} has no test split: evaluating on all {len(samples)} images")
    if not samples:
        raise EquicliError(f"{root}: no test images.")
    return EvaluationImages(tuple(samples), folder.classes, split)


def targets_of(labels: Tensor, classes: tuple[str, ...], config: ModelConfig) -> Tensor:
    """The right output for each class index, int64 (n,); -1 where images or model have no labels.

    Raises:
        EquicliError: a class that the model does not know.
    """
    if not classes or not config.labels:
        return torch.full_like(labels, -1)
    unknown = [name for name in classes if name not in config.labels]
    if unknown:
        raise EquicliError(
            f"class folder '{unknown[0]}' is none of the {len(config.labels)} classes that this model was adapted to."
        )
    return torch.tensor([config.labels[name] for name in classes])[labels]
