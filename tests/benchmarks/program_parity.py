"""Whether exported programs say what the model says: a table over architecture families, groups and batches.

    python -m tests.benchmarks.program_parity [NETWORK GROUP]

Networks are timm's smallest of each family, untrained (nothing is downloaded) but for the statistics of their batch
norms, on 64-pixel inputs; the canonicalizer is `consensus` with a small network. Every batch is turned by every element
of the group. Then networks of other tasks, untrained: on what `equicli export` compares them on. With arguments one row
alone, such as `Swin d4`.
"""

import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import timm
import torch
import torchvision
import transformers

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Canonicalizer, Context
from equicli.canonicalization.registry import REGISTRY, SPACE
from equicli.data.clouds.preprocess import AsItIs, CloudPreprocess
from equicli.data.normalization import IMAGENET
from equicli.data.preprocess import AS_THEY_ARE, Preprocess
from equicli.errors import EquicliError
from equicli.export.cases import Asked, of_batches
from equicli.export.graph import InputsGraph
from equicli.export.pair import write_pair
from equicli.export.parity import Case, Parity, compare
from equicli.export.programs import ONNX, TORCH_EXPORT, Wanted, runtime, trace, write
from equicli.groups import parse_group
from equicli.groups.action import act
from equicli.prediction.points.pointnet import PointNet
from equicli.progress import Silent
from equicli.tasks.registry import find_task
from tests.prediction.small_sam import random_network

FAMILIES = {
    "ResNet": "test_resnet",
    "ViT": "test_vit",
    "EfficientNet": "test_efficientnet",
    "ConvNeXt": "test_convnext",
    "NFNet": "test_nfnet",
    "MobileNetV4": "mobilenetv4_conv_small_050",
    "MobileNetV3": "mobilenetv3_small_050",
    "LCNet": "lcnet_050",
    "RegNet": "regnetx_002",
    "GhostNet": "ghostnet_050",
    "Swin": "swin_s3_tiny_224",
    "MobileViT": "mobilevit_xxs",
}
SIZE, GROUPS, BATCHES = 64, ("c4", "c8", "d4"), (1, 7, 32)
OTHERS = (
    ("LR-ASPP, semantic segmentation", "semantic", "c4", SIZE),
    ("LR-ASPP, semantic segmentation", "semantic", "c8", SIZE),
    ("YOLOS, detection", "instances", "c4", SIZE),
    ("PointNet", "points", "so3", None),
    ("PointNet", "points", "so2z", None),
)
# Two programs each: an encoder of pictures and a decoder of prompts.
PAIRS = (("SAM", "SamModel", "c4"), ("SAM 2", "Sam2Model", "c4"))


def make(name: str, group: str) -> AdaptedModel:
    torch.manual_seed(0)
    arguments = {"num_classes": 10} | ({"img_size": SIZE, "window_size": 2} if name.startswith("swin") else {})
    network = timm.create_model(name, **arguments)
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0  # the statistics are those of the last batch
    with torch.no_grad():
        network.train()(torch.randn(64, 3, SIZE, SIZE))
    return AdaptedModel(consensus(group), network.eval(), Preprocess(SIZE, SIZE, "bilinear", IMAGENET))


def consensus(group: str) -> Canonicalizer:
    kind = REGISTRY["consensus"]
    settings = kind.Settings(kind="consensus", network="conv", size=16, width=4)
    return kind.create(settings, Context(parse_group(group), IMAGENET)).ship()


class Detector(torch.nn.Module):
    """A small YOLOS of transformers, which finds always so many objects; as torchvision's detectors are asked."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        config = transformers.YolosConfig(
            **sizes, image_size=[SIZE, SIZE], patch_size=16, num_detection_tokens=10, num_labels=4
        )
        self.network = transformers.YolosForObjectDetection(config)

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        return [self.find(image) for image in images]

    def find(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        said = self.network(image[None])
        scores, labels = said.logits[0].softmax(dim=1)[:, :-1].max(dim=1)
        centre, half = said.pred_boxes[0, :, :2], said.pred_boxes[0, :, 2:] / 2
        boxes = torch.cat([centre - half, centre + half], dim=1) * image.shape[-1]
        return {"boxes": boxes, "labels": labels, "scores": scores}


def other(task: str, group: str) -> AdaptedModel:
    """An untrained model of another task."""
    torch.manual_seed(0)
    signature = find_task(task, {}).signature
    if task == "points":
        kind, preprocess = SPACE["vector-neuron"], CloudPreprocess(points=256)
        canonicalizer = kind.create(kind.Settings(kind="vector-neuron"), Context(parse_group(group), AsItIs())).ship()
        return AdaptedModel(canonicalizer, PointNet(10, transforms=True), preprocess, signature=signature)
    if task == "semantic":
        network = torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights_backbone=None, num_classes=5)
    else:
        network = Detector()
    return AdaptedModel(consensus(group), network, AS_THEY_ARE, signature=signature)


def rows(family: str, name: str, group: str) -> Iterator[str]:
    model, elements = make(name, group), parse_group(group)
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(count, 3, SIZE, SIZE, generator=generator) for count in BATCHES]
    cases = [Case([act(elements, g, x) for g in range(elements.order)], False) for x in inputs]
    asked = Asked(InputsGraph(model), "", inputs[1], {0: torch.export.Dim.DYNAMIC}, cases)
    return compared(family, group, asked, exact=elements.exact)


def compared(what: str, group: str, asked: Asked, *, exact: bool) -> Iterator[str]:
    """A row of the table for each kind of program."""
    said: dict[int, dict[str, torch.Tensor]] = {}

    def ask(x: torch.Tensor) -> dict[str, torch.Tensor]:
        if id(x) not in said:
            with torch.no_grad():
                said[id(x)] = asked.graph(x)
        return said[id(x)]

    program = trace(asked.graph, [asked.example], [asked.dynamic])
    with tempfile.TemporaryDirectory() as folder:
        for form in (ONNX, TORCH_EXPORT):
            path = Path(folder) / ("model.onnx" if form == ONNX else "model.pt2")
            run = write(form, program, list(ask(asked.cases[0].turned[0])), path, None)
            yield row(what, group, form, compare(ask, run, asked.cases, runtime(form), "fp32", exact=exact))


def row(what: str, group: str, form: str, found: Parity) -> str:
    turned = {None: "-", True: "yes"}[found.turned_alike]
    changed = f" ({found.changed:.1e} of pixels differ)" if found.changed else ""
    return f"| {what} | {group} | {form} | {found.inputs} | {found.max_delta:.1e}{changed} | {found.ties} | {turned} |"


def of_pair(what: str, name: str, group: str) -> Iterator[str]:
    network, signature = random_network(name), find_task("prompted", {}).signature
    config = SimpleNamespace(to_json=lambda: "{}")
    for form, suffix in ((ONNX, ".onnx"), (TORCH_EXPORT, ".pt2")):
        model = AdaptedModel(consensus(group), network, AS_THEY_ARE, signature=signature)
        with tempfile.TemporaryDirectory() as folder:
            _, document = write_pair(Path(folder) / f"a{suffix}", model, config, Wanted(form, []), Silent())
        yield row(what, group, form, Parity(**document["parity"]))


def main(only: str = "", of: str = "") -> None:
    print("| network | group | program | inputs | max Δ | ties | turned inputs get the same class |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    todo = [
        (family, group, partial(rows, family, name, group)) for family, name in FAMILIES.items() for group in GROUPS
    ]
    todo += [(what, group, partial(of_task, what, task, group, size)) for what, task, group, size in OTHERS]
    todo += [(what, group, partial(of_pair, what, name, group)) for what, name, group in PAIRS]
    for what, group, table in todo:
        if only and (what, group) != (only, of):
            continue
        try:
            for row in table():
                print(row, flush=True)
        except EquicliError as error:
            print(f"| {what} | {group} | {error} |", flush=True)


def of_task(what: str, task: str, group: str, size: int | None) -> Iterator[str]:
    return compared(what, group, of_batches(other(task, group), [], size), exact=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
