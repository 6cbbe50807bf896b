"""What the default canonicalizer costs beside large networks, in one process.

    python -m tests.benchmarks.canonicalizer_cost runs/upright-0 "$EQUICLI_TEST_DATA/imagenette/val" --pairs 5

The canonicalizer of a run looks at photographs from four sides (C4), which includes shrinking them; then they are
turned. With `--glance N` it looks at N pixels first. Beside it, with random weights: ViT-B/16 and ResNet-50 at 224
pixels, Mask R-CNN ResNet-50-FPN v2, whose shorter edge is 800 pixels, and SAM ViT-B at 1024 with one box; on a GPU SAM
ViT-H, too. Each pair is timed one after the other; the median of the pairs' ratios is told. On a CPU it is the
processor time of this process; on a GPU the time, of which decoding and shrinking on the CPU are a part.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn_v2
from torchvision.transforms.functional import resize

from equicli.adapted import AdaptedModel
from equicli.data.decode import read_picture
from equicli.data.normalization import IMAGENET
from equicli.data.preprocess import AS_THEY_ARE, Preprocess
from equicli.groups import PlanarGroup
from equicli.origin import find_origin
from equicli.prediction.transformers_sam import create
from equicli.tasks.instances.prompted import Prompted
from equicli.tasks.instances.task import Instances

FRAME = (480, 640)  # COCO's usual one
C4 = PlanarGroup(4)
# The configuration of facebook/sam-vit-huge.
HUGE = {
    "hidden_size": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "mlp_dim": 5120,
    "global_attn_indexes": [7, 15, 23, 31],
}


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


def photos(folder: Path, count: int, frame: tuple[int, int]) -> list[Tensor]:
    """Some photographs of a folder, resized to a frame (height, width)."""
    files = random.Random(0).sample(sorted(path for path in folder.rglob("*") if path.is_file()), count)
    return [resize(read_picture(file), list(frame)) for file in files]


def measure(
    name: str, network: nn.Module, model: AdaptedModel, pairs: int, device: torch.device, pictures: list[Tensor]
) -> None:
    """Print a row of the table, of these pictures in one call."""
    model.to(device)
    box = torch.tensor([[100.0, 80, 400, 300]])
    prompts = [{"boxes": box}] if model.signature is Prompted.signature else None
    inputs = model.pictures(pictures, prompts)
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
    own = Preprocess(None, None, "bilinear", IMAGENET)
    origin, folder = find_origin(arguments.run), Path(arguments.photos)
    look = {key: value for key in ("size", "glance") if (value := getattr(arguments, key))}
    canonicalizer = origin.load(C4, look)
    one = photos(folder, 1, FRAME)
    for title, name in (("ViT-B/16", "vit_base_patch16_224"), ("ResNet-50", "resnet50")):
        classifier = timm.create_model(name).eval()
        for count in (1, 32):
            model = AdaptedModel(canonicalizer, classifier, own)
            pictures = photos(folder, count, (224, 224))
            measure(f"{title}, 224 px, batch {count}", classifier, model, arguments.pairs, device, pictures)
    detector = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None).eval()
    model = AdaptedModel(canonicalizer, detector, AS_THEY_ARE, signature=Instances.signature)
    measure("Mask R-CNN ResNet-50-FPN v2, 800 px", detector, model, arguments.pairs, device, one)
    del detector, model
    sizes: dict[str, dict[str, object]] = {"SAM ViT-B": {}}
    if device.type == "cuda":
        sizes["SAM ViT-H"] = HUGE
    for title, vision in sizes.items():
        sam = create("SamModel", {"vision_config": vision})
        model = AdaptedModel(canonicalizer, sam, own, signature=Prompted.signature)
        measure(f"{title}, 1024 px, one box", sam, model, arguments.pairs, device, one)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run folder or file whose canonicalizer is taken")
    parser.add_argument("photos", help="a folder of photographs to look at")
    parser.add_argument("--size", type=int, help="side in pixels of what it looks at; default: its own")
    parser.add_argument("--glance", type=int, help="side in pixels of a first look; default: its own")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    main(parser.parse_args())
