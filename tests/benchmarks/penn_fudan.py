"""Train small networks upright on PennFudan's pedestrians: those that detection and segmentation are measured with.

    python -m tests.benchmarks.penn_fudan FOLDER penn.pt --backbone mobilenetv2_100_same.safetensors --minutes 16
    python -m tests.benchmarks.penn_fudan FOLDER lraspp.pt --backbone … --network segmenter --minutes 4

FOLDER has PNGImages and PedMasks. Of the 170 photographs those with an even number train; the odd ones are never seen.
`network`, a Mask R-CNN, and `segmenter`, an LR-ASPP, are factories for `--model python:tests.benchmarks.penn_fudan:…`.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.segmentation import LRASPP
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from equicli.data.decode import read_picture
from equicli.data.folders import Sample
from equicli.data.normalization import Normalization
from equicli.data.preprocess import Preprocess
from equicli.tasks.annotations.annotation import read_objects
from equicli.tasks.annotations.objects import Objects, decode
from equicli.tasks.instances.task import Instances

SIDE, LARGEST = 256, 384
CHANNELS = 96


class Backbone(nn.Module):
    """MobileNetV2's features at strides 8, 16 and 32, with a pyramid on top."""

    def __init__(self) -> None:
        super().__init__()
        self.body = timm.create_model("mobilenetv2_100", pad_type="same", features_only=True, out_indices=(2, 3, 4))
        self.pyramid = FeaturePyramidNetwork(self.body.feature_info.channels(), CHANNELS, LastLevelMaxPool())
        self.out_channels = CHANNELS

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = {str(i): level for i, level in enumerate(self.body(images))}
        return self.pyramid(features)


def network() -> MaskRCNN:
    """An untrained network for two classes, the background and a person."""
    levels = ["0", "1", "2"]
    return MaskRCNN(
        Backbone(),
        min_size=SIDE,
        max_size=LARGEST,
        image_mean=(0.5, 0.5, 0.5),
        image_std=(0.5, 0.5, 0.5),
        rpn_anchor_generator=AnchorGenerator(((24,), (48,), (96,), (192,)), ((1.0, 2.0, 3.0),) * 4),
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_test=150,
        rpn_pre_nms_top_n_train=600,
        rpn_post_nms_top_n_train=300,
        rpn_batch_size_per_image=128,
        box_batch_size_per_image=64,
        box_roi_pool=MultiScaleRoIAlign(levels, 7, 2),
        mask_roi_pool=MultiScaleRoIAlign(levels, 14, 2),
        box_head=nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * 49, 256), nn.ReLU()),
        box_predictor=Predictor(256, 2),
        mask_head=nn.Sequential(*(m for _ in range(2) for m in (nn.Conv2d(CHANNELS, CHANNELS, 3, 1, 1), nn.ReLU()))),
        mask_predictor=nn.Sequential(
            nn.ConvTranspose2d(CHANNELS, CHANNELS, 2, 2), nn.ReLU(), nn.Conv2d(CHANNELS, 2, 1)
        ),
        box_detections_per_img=30,
    )


class Predictor(nn.Module):
    """Classes and boxes of what was pooled."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.cls_score, self.bbox_pred = nn.Linear(features, classes), nn.Linear(features, classes * 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(x), self.bbox_pred(x)


class Levels(nn.Module):
    """MobileNetV2's features at strides 8 and 32, as torchvision's LR-ASPP wants them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = timm.create_model("mobilenetv2_100", pad_type="same", features_only=True, out_indices=(2, 4))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        low, high = self.body(images)
        return {"low": low, "high": high}


def segmenter() -> LRASPP:
    """An untrained network that tells persons' pixels from others, of pictures whose shorter edge has SIDE pixels."""
    backbone = Levels()
    return LRASPP(backbone, *backbone.body.feature_info.channels(), num_classes=2)


# How it is shown pictures: `--image-size 256 --mean 0.5 0.5 0.5 --std 0.5 0.5 0.5`.
SHOWN = Preprocess(None, SIDE, "bilinear", Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))


def is_trained_on(path: Path) -> bool:
    """Whether a photograph trains; the others test."""
    return int(path.stem[-5:]) % 2 == 0


def detection_loss(model: nn.Module, pictures: Sequence[Tensor], every: Sequence[Objects]) -> Tensor:
    """Mask R-CNN's own losses of two photographs, mirrored at random."""
    images, targets = [], []
    for i in torch.randint(len(pictures), (2,)).tolist():
        picture, masks, boxes = pictures[i].float() / 255, masks_of(every[i]), torch.from_numpy(every[i].boxes).float()
        if torch.rand(()) < 0.5:
            picture, masks, width = picture.flip(-1), masks.flip(-1), picture.shape[-1]
            boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
        images.append(picture)
        targets.append({"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64), "masks": masks.byte()})
    losses: dict[str, Tensor] = model(images, targets)
    return torch.stack(list(losses.values())).sum()


def pixel_loss(model: nn.Module, pictures: Sequence[Tensor], every: Sequence[Objects]) -> Tensor:
    """Cross entropy of squares out of eight photographs, mirrored at random."""
    images, classes = [], []
    for i in torch.randint(len(pictures), (8,)).tolist():
        image = SHOWN.normalization(SHOWN(pictures[i]))
        person = masks_of(every[i]).any(dim=0)[None, None].float()
        person = functional.interpolate(person, image.shape[-2:], mode="area")[0, 0].round()
        top, left = (int(torch.randint(side - SIDE + 1, ())) for side in image.shape[-2:])
        square = (..., slice(top, top + SIDE), slice(left, left + SIDE))
        image, person = image[square], person[square]
        mirrored = bool(torch.rand(()) < 0.5)
        images.append(image.flip(-1) if mirrored else image)
        classes.append((person.flip(-1) if mirrored else person).long())
    return functional.cross_entropy(model(torch.stack(images))["out"], torch.stack(classes))


def masks_of(objects: Objects) -> Tensor:
    assert objects.masks
    height, width = objects.masks[0]["size"]
    return decode(objects.masks, (height, width))


def training_pictures(folder: Path) -> tuple[list[Tensor], list[Objects]]:
    """The photographs that train, uint8 (3, h, w), and what is there."""
    samples: list[Sample] = [sample for sample in Instances().open(folder).train if is_trained_on(sample.path)]
    every = [objects for objects in read_objects(samples, {"object": 1}) if objects is not None]
    return [read_picture(sample.path) for sample in samples], every


def train(model: nn.Module, folder: Path, output: Path, backbone: Path, minutes: float) -> None:
    """Train for so many minutes of processor time, on half of the photographs; the body's normalization stays."""
    body = model.get_submodule("backbone.body")
    body.load_state_dict(load_file(backbone), strict=False)
    model.train()
    for layer in body.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval().requires_grad_(False)
    loss_of = detection_loss if isinstance(model, MaskRCNN) else pixel_loss
    pictures = training_pictures(folder)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 4e-4, weight_decay=1e-3)
    start, step, losses = time.process_time(), 0, []
    while (spent := (time.process_time() - start) / 60 / minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 4e-4 * min(1, (step + 1) / 40) * (1 - spent)
        loss = loss_of(model, *pictures)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        step += 1
        if step % 20 == 0:
            print(f"step {step}, {100 * spent:.0f} %, loss {sum(losses[-20:]) / 20:.3f}", flush=True)
    torch.save(model.state_dict(), output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--network", choices=("network", "segmenter"), default="network")
    parser.add_argument("--minutes", type=float, default=16)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    made = network() if arguments.network == "network" else segmenter()
    train(made, arguments.folder, arguments.output, arguments.backbone, arguments.minutes)
