"""Train a small Mask R-CNN upright on PennFudan's pedestrians: the pretrained network that detection is measured with.

    python -m tests.benchmarks.penn_fudan FOLDER OUTPUT.pt --backbone mobilenetv2_100_same.safetensors --minutes 20

FOLDER has PNGImages and PedMasks. Of the 170 photographs those with an even number train; the odd ones are never seen.
`network` is the factory for `--model python:tests.benchmarks.penn_fudan:network`.
"""

import argparse
import time
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from equicli.data.decode import read_picture
from equicli.tasks.annotations.annotation import read_objects
from equicli.tasks.annotations.objects import decode
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


def train(folder: Path, output: Path, backbone: Path, minutes: float) -> None:
    """Train for so many minutes of processor time, on half of the photographs, mirrored at random."""
    torch.manual_seed(0)
    model = network()
    model.backbone.body.load_state_dict(load_file(backbone), strict=False)
    model.train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval().requires_grad_(False)
    data = Instances().open(folder)
    samples = [sample for sample in data.train if int(sample.path.stem[-5:]) % 2 == 0]
    every = read_objects(samples, {"object": 1})
    pictures = [read_picture(sample.path).float() / 255 for sample in samples]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 4e-4, weight_decay=1e-3)
    start, step, losses = time.process_time(), 0, []
    while (spent := (time.process_time() - start) / 60 / minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 4e-4 * min(1, (step + 1) / 40) * (1 - spent)
        images, targets = [], []
        for i in torch.randint(len(samples), (2,)).tolist():
            there, picture = every[i], pictures[i]
            assert there is not None and there.masks is not None
            masks = decode(there.masks, (picture.shape[-2], picture.shape[-1]))
            boxes = torch.from_numpy(there.boxes).float()
            if torch.rand(()) < 0.5:
                picture, masks = picture.flip(-1), masks.flip(-1)
                boxes = torch.stack(
                    [picture.shape[-1] - boxes[:, 2], boxes[:, 1], picture.shape[-1] - boxes[:, 0], boxes[:, 3]], dim=1
                )
            images.append(picture)
            targets.append({"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64), "masks": masks.byte()})
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        step += 1
        if step % 20 == 0:
            print(f"step {step}, {100 * spent:.0f} %, loss {sum(losses[-20:]) / 20:.3f}", flush=True)
            torch.save(model.state_dict(), output)
    torch.save(model.state_dict(), output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    arguments = parser.parse_args()
    train(arguments.folder, arguments.output, arguments.backbone, arguments.minutes)
