"""Canonicalization by equicli and by its peer `equiadapt` 0.1.2, side by side: time, and exactness under 90° turns.

Both get the same images, the same canonicalization network (equicli's `conv`) with the same weights, and the same
reference vector, in one process and in eval mode. The peer wants numpy below 2, so it has an environment of its own
(add equicli's versions of torch and torchvision to compare on the same ones):

    uv venv --python 3.11 PEER
    uv pip install --python PEER "equiadapt==0.1.2" "numpy<2" -e .
    OMP_WAIT_POLICY=PASSIVE PEER/bin/python -m tests.benchmarks.peer_equiadapt

`--json` prints the same numbers, element by element, instead of the tables; `--sizes 224` takes minutes. Times are
medians of calls that alternate between the two; the ratio is the median of the ratios of neighbouring calls. h·x is
made by rot90 and flip, for every h but the identity of the largest subgroup of G that permutes pixels: C4 in C4 and C8,
D4 in D4.

Of c8 the two sides show their networks different views. The peer turns the small image bilinearly; equicli turns it at
twice the size, bicubically, in float64, inside a disc, for the reasons given at `inputs.sharp_views`. That costs time.
"""

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable
from copy import deepcopy
from importlib.metadata import version
from importlib.util import find_spec
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Context
from equicli.canonicalization.optimized import OptimizedCanonicalizer, OptimizedSettings
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.evaluation.evaluate import TIE
from equicli.groups import PlanarGroup, parse_group

CLOSE = 1e-3  # in images of [-1, 1]
PACKAGES = ("equicli", "equiadapt", "torch", "torchvision", "kornia", "numpy")


class Side(NamedTuple):
    """One of the two: x ↦ canonical forms (b, 3, h, w), and x ↦ cosines (b, |G|) in the order of equicli's group."""

    canonicalize: Callable[[Tensor], Tensor]
    score: Callable[[Tensor], Tensor]
    network: nn.Module


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and exactness of canonicalization: equicli and equiadapt 0.1.2.")
    parser.add_argument("--groups", nargs="+", default=["c4", "c8", "d4"], help="default: c4 c8 d4")
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=[64], help="sides that the network looks at; default: 64"
    )
    parser.add_argument("--batch", type=int, default=32, help="images; default: 32")
    parser.add_argument("--side", type=int, default=224, help="side of the images in pixels; default: 224")
    parser.add_argument("--repeats", type=int, default=7, help="timed calls of each side; default: 7")
    parser.add_argument("--threads", type=int, default=1, help="of torch; default: 1")
    parser.add_argument("--seed", type=int, default=0, help="of weights and images; default: 0")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    args = parser.parse_args()
    if find_spec("equiadapt") is None:
        sys.exit("equiadapt is not installed here: make its environment as the top of this file says.")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    x = make_images(args.batch, args.side)
    results = []
    with torch.no_grad():
        for name in args.groups:
            for size in args.sizes:
                print(f"{name}, {size} px …", file=sys.stderr)
                results.append(compare(name, size, x, args.repeats))
    document = {
        "images": list(x.shape),
        "repeats": args.repeats,
        "threads": torch.get_num_threads(),
        "device": f"cpu ({platform.machine()})",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "results": results,
    }
    print(json.dumps(document, indent=2) if args.json else format_tables(document))


def make_images(b: int, side: int) -> Tensor:
    """Smooth shapes with some noise on them, in [-1, 1]."""
    coarse = torch.randn(b, 3, 14, 14)
    smooth = nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return (0.4 * smooth + 0.05 * torch.randn(b, 3, side, side)).clamp(-1, 1)


def compare(name: str, size: int, x: Tensor, repeats: int) -> dict[str, Any]:
    group = parse_group(name)
    assert isinstance(group, PlanarGroup)
    ours, peer = make_sides(group, size, x)
    scores, peer_scores = ours.score(x), peer.score(x)
    return {
        "group": name,
        "size": size,
        # Of exact groups the views are the same, and so must be the scores: one network, one order of elements.
        "score_difference": (scores - peer_scores).abs().max().item(),
        # First, for it warms both sides up.
        "exactness": {"ours": check(ours, group, x), "peer": check(peer, group, x)},
        "time": measure_time(ours, peer, group, size, x, repeats),
    }


def make_sides(group: PlanarGroup, size: int, x: Tensor) -> tuple[Side, Side]:
    """Build both with one network. The peer's imports take long, hence here."""
    from equiadapt.images import OptimizedGroupEquivariantImageCanonicalization
    from omegaconf import OmegaConf

    # A temperature of 1 makes scores cosines, as the peer's are.
    settings = OptimizedSettings(network="conv", size=size, temperature=1.0)
    canonicalizer = OptimizedCanonicalizer.create(settings, Context(group, HALF))
    settle(canonicalizer.network, nn.functional.interpolate(x, (size, size), mode="bilinear", antialias=True))
    model = AdaptedModel(canonicalizer, nn.Identity(), Preprocess(None, None, "bilinear", HALF))

    # equicli's runs in channels_last; the peer leaves a network as it comes.
    network = deepcopy(canonicalizer.network).to(memory_format=torch.contiguous_format)
    network.out_vector_size = settings.vector_size
    keys = {
        "group_type": "roto-reflection" if group.reflections else "rotation",
        "num_rotations": group.n,
        "beta": 1.0,
        "input_crop_ratio": 1.0,  # equicli crops nothing
        "resize_shape": size,
        "artifact_err_wt": 0,
        "learn_ref_vec": False,
    }
    peer = OptimizedGroupEquivariantImageCanonicalization(network, OmegaConf.create(keys), tuple(x.shape[1:])).eval()
    peer.reference_vector.copy_(canonicalizer.reference[None])

    def score(images: Tensor) -> Tensor:
        peer.device = images.device  # which canonicalize() sets
        # Its view of element (mirrored, k) is mirror · r⁻ᵏ · x: equicli's g⁻¹·x, in equicli's order.
        return peer.get_group_activations(images)

    def own_score(images: Tensor) -> Tensor:
        return canonicalizer(canonicalizer.view.of_input(images, HALF)).scores

    ours = Side(model.canonicalize, own_score, canonicalizer.network)
    return ours, Side(peer.canonicalize, score, network)


def settle(network: nn.Module, images: Tensor) -> None:
    """Set the statistics of BatchNorm: before training the vectors of all views would be almost one, hence all ties."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the average of what is seen
    network.train()
    network(images)
    network.eval()


def check(side: Side, group: PlanarGroup, x: Tensor) -> list[dict[str, Any]]:
    """Compare the canonical forms and scores of h·x with those of x, for every exact h but the identity."""
    canonical, scores = side.canonicalize(x), side.score(x)
    best = scores.topk(2, dim=1).values
    elements = torch.arange(group.order)
    found = []
    for h in group.elements():
        if h == 0 or 4 * group.angle(h) % 360:
            continue
        turned = turn(x, group.mirrored(h), round(group.angle(h) / 90))
        difference = (side.canonicalize(turned) - canonical).abs().amax(dim=(1, 2, 3))
        turned_scores = side.score(turned)
        hg = group.compose(torch.full_like(elements, h), elements)
        expected = hg[scores.argmax(dim=1)]
        found.append(
            {
                "element": group.label(h),
                "identical": (difference == 0).sum().item(),
                "close": (difference <= CLOSE).sum().item(),
                "max_difference": difference.max().item(),
                "same_element": (turned_scores.argmax(dim=1) == expected).sum().item(),
                "max_score_change": (turned_scores[:, hg] - scores).abs().max().item(),
                "ties": (best[:, 0] - best[:, 1] < TIE).sum().item(),
            }
        )
    return found


def turn(x: Tensor, mirrored: bool, quarters: int) -> Tensor:
    """h·x by permuting pixels: mirror left-right first, then turn counter-clockwise."""
    return torch.rot90(x.flip(-1) if mirrored else x, quarters, (-2, -1)).contiguous()


def measure_time(
    ours: Side, peer: Side, group: PlanarGroup, size: int, x: Tensor, repeats: int
) -> dict[str, float | list[float]]:
    """Seconds of `canonicalize`, and of the network alone on as many views, which nothing can save."""
    views = torch.randn(group.order * len(x), 3, size, size)
    peer_times, times = alternate(lambda: peer.canonicalize(x), lambda: ours.canonicalize(x), repeats)
    fast = views.contiguous(memory_format=torch.channels_last)
    peer_alone, alone = alternate(lambda: peer.network(views), lambda: ours.network(fast), repeats)
    ratios = [a / b for a, b in zip(peer_times, times, strict=True)]
    return {
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "ours": statistics.median(times),
        "peer": statistics.median(peer_times),
        "ours_network": statistics.median(alone),
        "peer_network": statistics.median(peer_alone),
    }


def alternate(a: Callable[[], object], b: Callable[[], object], repeats: int) -> tuple[list[float], list[float]]:
    """Time both in turn, so that what else the machine does meets both. The first calls are not counted."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for call, times in zip((a, b), seconds, strict=True):
            start = perf_counter()
            call()
            times.append(perf_counter() - start)
    return seconds[0][1:], seconds[1][1:]


def format_tables(document: dict[str, Any]) -> str:
    """Write Markdown: what was measured on, a table of times, a table of exactness."""
    images, *shape = document["images"]
    versions = ", ".join(f"{package} {number}" for package, number in document["versions"].items())
    lines = [
        f"{images} images of {'x'.join(map(str, shape))}, {document['device']}, {document['threads']} thread(s), "
        f"float32; median of {document['repeats']} alternating calls. Python {document['python']}, {versions}.",
        "",
        "| group | network sees | equiadapt | equicli | ratio (lowest to highest) | of which the network |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for result in document["results"]:
        time = result["time"]
        lines.append(
            f"| {result['group']} | {result['size']} px | {time['peer']:.3f} s | {time['ours']:.3f} s "
            f"| **{time['ratio']:.1f}** ({min(time['ratios']):.1f} to {max(time['ratios']):.1f}) "
            f"| {time['peer_network']:.3f} s, {time['ours_network']:.3f} s |"
        )
    lines += [
        "",
        f"Shares are of pairs of an image and an h. Close: canonical forms within {CLOSE:g}. Ties: images whose two "
        f"best cosines are within {TIE:g}.",
        "",
        "| group | network sees | h | by | identical | close | largest difference | ĝ(h·x) = h·ĝ(x) "
        "| largest change of a cosine | ties |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in document["results"]:
        for mirrored in (False, True):
            for side, name in (("peer", "equiadapt"), ("ours", "equicli")):
                rows = [row for row in result["exactness"][side] if row["element"].endswith("m") == mirrored]
                if not rows:
                    continue
                pairs = images * len(rows)
                identical, close, same = (
                    f"{sum(row[key] for row in rows) / pairs:.1%}" for key in ("identical", "close", "same_element")
                )
                difference, change = (max(row[key] for row in rows) for key in ("max_difference", "max_score_change"))
                lines.append(
                    f"| {result['group']} | {result['size']} px | {'mirrored' if mirrored else 'rotations'} | {name} "
                    f"| {identical} | {close} | {difference:.2g} | {same} | {change:.1g} | {rows[0]['ties']} |"
                )
    differences = ", ".join(f"{r['group']} {r['size']} px {r['score_difference']:.1g}" for r in document["results"])
    lines += ["", f"Largest difference between the cosines of the two, on the same images: {differences}."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
