"""Vector-neuron canonicalization of point clouds by equicli and by its peer `equiadapt` 0.1.2, in one process.

Both are untrained and in eval mode, and get the same clouds; times are medians of calls that alternate. Told are the
ratio of times, the determinants of what is found as a rotation, and how far the canonical forms of x and R·x differ.

    python -m tests.benchmarks.peer_equiadapt_points

The peer wants an environment of its own: see `peer_equiadapt`.
"""

import statistics
from collections.abc import Callable
from time import process_time
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from equicli.canonicalization.canonicalizer import Context
from equicli.canonicalization.points.vector_neuron import VectorNeuronCanonicalizer, VectorNeuronSettings
from equicli.data.clouds.preprocess import AsItIs
from equicli.groups import parse_group
from equicli.groups.action import act

CLOUDS, POINTS, REPEATS = 16, 1024, 7
SO3 = parse_group("so3")


def peer() -> Callable[[Tensor], Tensor]:
    """From clouds to the matrices (b, 3, 3) that the peer takes for their rotations."""
    from equiadapt.pointcloud import EquivariantPointcloudCanonicalization, VNSmall  # type: ignore[import-not-found]

    settings: Any = SimpleNamespace(n_knn=5, pooling="mean")
    torch.manual_seed(0)
    model = EquivariantPointcloudCanonicalization(VNSmall(settings), settings).eval()
    # Its clouds are (b, 3, n), and the rows of what it finds are the vectors.
    return lambda x: model.get_groupelement(x.mT.contiguous())["rotation"].mT


def own() -> Callable[[Tensor], Tensor]:
    torch.manual_seed(0)
    canonicalizer = VectorNeuronCanonicalizer.create(VectorNeuronSettings(), Context(SO3, AsItIs())).eval()
    return lambda x: canonicalizer(x).element


def main() -> None:
    torch.set_num_threads(1)
    x = torch.randn(CLOUDS, POINTS, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.2, 0.3, 0.4])
    x = x - x.mean(dim=1, keepdim=True)
    turns = SO3.sample(CLOUDS, torch.Generator().manual_seed(1))
    sides = {"equicli": own(), "equiadapt": peer()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    with torch.inference_mode():
        for _ in range(REPEATS + 1):
            for name, find in sides.items():
                start = process_time()
                find(x)
                times[name].append(process_time() - start)
        print(f"{CLOUDS} clouds of {POINTS} points, one thread")
        for name, find in sides.items():
            first, turned = find(x), find(act(SO3, turns, x, "points"))
            there, back = (g.mT[:, None] for g in (first, turned))
            canonical = (there * x[:, :, None]).sum(-1)
            other = (back * act(SO3, turns, x, "points")[:, :, None]).sum(-1)
            signs = torch.linalg.det(first)
            print(
                f"{name}: {1000 * statistics.median(times[name][1:]):.0f} ms; determinants {signs.min():+.3f} to "
                f"{signs.max():+.3f}, {int((signs > 0).sum())} of {CLOUDS} positive; canonical form moves by "
                f"{(canonical - other).abs().amax():.1e} at most"
            )
    ratio = statistics.median(p / o for o, p in zip(times["equicli"][1:], times["equiadapt"][1:], strict=True))
    print(f"equiadapt takes {ratio:.2f} times as long")


if __name__ == "__main__":
    main()
