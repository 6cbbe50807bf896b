"""Whether exported programs say what the model says: a table over architecture families, groups and batches.

    python -m tests.benchmarks.program_parity [onnx|torch-export ...]

Networks are timm's smallest of each family, untrained (nothing is downloaded) but for the statistics of their batch
norms, on 64-pixel inputs; the canonicalizer is `consensus` with a small network. Every batch is turned by every element
of the group.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import timm
import torch

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Context
from equicli.canonicalization.registry import REGISTRY
from equicli.data.normalization import IMAGENET
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError
from equicli.export.export import _runtime
from equicli.export.graph import InputsGraph
from equicli.export.parity import Case, compare
from equicli.export.programs import ONNX, TORCH_EXPORT, onnx_run, torch_run, trace, write_onnx, write_torch
from equicli.groups import parse_group
from equicli.groups.action import act

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


def make(name: str, group: str) -> AdaptedModel:
    torch.manual_seed(0)
    arguments = {"num_classes": 10} | ({"img_size": SIZE, "window_size": 2} if name.startswith("swin") else {})
    network = timm.create_model(name, **arguments)
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0  # the statistics are those of the last batch
    with torch.no_grad():
        network.train()(torch.randn(64, 3, SIZE, SIZE))
    kind = REGISTRY["consensus"]
    settings = kind.Settings(kind="consensus", network="conv", size=16, width=4)
    canonicalizer = kind.create(settings, Context(parse_group(group), IMAGENET)).ship()
    return AdaptedModel(canonicalizer, network.eval(), Preprocess(SIZE, SIZE, "bilinear", IMAGENET))


def rows(family: str, name: str, group: str, forms: Sequence[str], folder: Path) -> Iterator[str]:
    model, elements = make(name, group), parse_group(group)
    graph = InputsGraph(model)
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(count, 3, SIZE, SIZE, generator=generator) for count in BATCHES]
    cases = [Case([act(elements, g, x) for g in range(elements.order)], False) for x in inputs]
    asked: dict[int, dict[str, torch.Tensor]] = {}

    def ask(x: torch.Tensor) -> dict[str, torch.Tensor]:
        if id(x) not in asked:
            with torch.no_grad():
                asked[id(x)] = graph(x)
        return asked[id(x)]

    program = trace(graph, inputs[1], {0: torch.export.Dim.DYNAMIC})
    for form in forms:
        if form == ONNX:
            path = folder / f"{name}.onnx"
            write_onnx(program, list(ask(cases[0].turned[0])), path, None)
            run = onnx_run(path)
        else:
            path = folder / f"{name}.pt2"
            write_torch(program, path, "")
            run = torch_run(path)
        found = compare(ask, run, cases, _runtime(form), "fp32", exact=elements.exact)
        turned = {None: "-", True: "yes"}[found.turned_alike]
        yield f"| {family} | {group} | {form} | {found.inputs} | {found.max_delta:.1e} | {found.ties} | {turned} |"


def main(*forms: str) -> None:
    print("| family | group | program | inputs | max Δ | ties | turned inputs get the same class |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for family, name in FAMILIES.items():
        for group in GROUPS:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    for row in rows(family, name, group, forms or (ONNX, TORCH_EXPORT), Path(folder)):
                        print(row, flush=True)
                except EquicliError as error:
                    print(f"| {family} | {group} | {error} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
