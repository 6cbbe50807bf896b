"""What the default canonicalizer costs beside Mask R-CNN and SAM, in one process, with random weights.

    python -m tests.benchmarks.detector_cost tf_efficientnet_lite0.safetensors --pairs 5

EfficientNet-Lite0 at 96 pixels looks at a photograph from four sides (`consensus`, C4), which includes shrinking it;
then the photograph is turned. Beside it: Mask R-CNN ResNet-50-FPN v2, whose shorter edge is 800 pixels, and SAM ViT-B
at 1024 with one box. Each pair is timed one after the other; the median of the pairs' ratios is told. On a CPU it is
the processor time of this process; on a GPU the time, of which decoding and shrinking on the CPU are a part.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torchvision.models.detection import maskrcnn_resnet50_fpn_v2

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Canonicalizer, Context
from equicli.canonicalization.registry import REGISTRY
from equicli.data.normalization import IMAGENET
from equicli.data.preprocess import AS_THEY_ARE, Preprocess
from equicli.groups import PlanarGroup
from equicli.prediction.transformers_sam import create
from equicli.tasks.instances.prompted import Prompted
from equicli.tasks.instances.task import Instances

# Of COCO's usual size.
HEIGHT, WIDTH = 480, 640
C4 = PlanarGroup(4)


def seconds(function: Callable[[], object], device: torch.device) -> float:
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    start = clock()
    function()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - start


def canonicalizer(checkpoint: str) -> Canonicalizer:
    kind = REGISTRY["consensus"]
    settings = kind.Settings(kind="consensus", network="tf_efficientnet_lite0", checkpoint=checkpoint, size=96)
    return kind.create(settings, Context(C4, IMAGENET))


def measure(name: str, network: nn.Module, model: AdaptedModel, pairs: int, device: torch.device) -> None:
    model.to(device)
    picture = torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8)
    box = torch.tensor([[100.0, 80, 400, 300]])
    prompts = [{"boxes": box}] if model.signature is Prompted.signature else None
    inputs = model.pictures([picture], prompts)
    shown = inputs.at(C4, None)

    def canonicalize() -> None:
        pose = model.find_pose(inputs)
        assert pose is not None
        inputs.at(C4, torch.ones_like(pose.element))  # as if it lay on its side

    def predict() -> None:
        network(shown)

    with torch.inference_mode():
        canonicalize()
        predict()
        times = [(seconds(canonicalize, device), seconds(predict, device)) for _ in range(pairs)]
    own, alone = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    spread = sorted(a / b for a, b in times)
    print(
        f"| {name} | {1000 * own:.0f} ms | {1000 * alone:,.0f} ms | {100 * ratio:.2f} % "
        f"[{100 * spread[0]:.2f}, {100 * spread[-1]:.2f}] |",
        flush=True,
    )


def main(arguments: argparse.Namespace) -> None:
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    print("| network | canonicalizer | network alone | relative |\n| --- | --- | --- | --- |")
    detector = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None).eval()
    model = AdaptedModel(canonicalizer(arguments.checkpoint), detector, AS_THEY_ARE, signature=Instances.signature)
    measure("Mask R-CNN ResNet-50-FPN v2, 800 px", detector, model, arguments.pairs, device)
    del detector, model
    sam = create("SamModel", {})
    own = Preprocess(None, None, "bilinear", IMAGENET)
    model = AdaptedModel(canonicalizer(arguments.checkpoint), sam, own, signature=Prompted.signature)
    measure("SAM ViT-B, 1024 px, one box", sam, model, arguments.pairs, device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="weights of tf_efficientnet_lite0")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    main(parser.parse_args())
