"""The prior: which poses the prediction network expects, relative to the poses of the training folder."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equicli.canonicalization.canonicalizer import Pose
from equicli.canonicalization.losses import (
    cover_loss,
    density_loss,
    distribution_loss,
    rotation_loss,
    set_loss,
    vertical_loss,
)
from equicli.errors import UsageError
from equicli.groups import Group, MatrixGroup, is_finite
from equicli.groups.elements import Element, cosine, distance, matrix
from equicli.groups.labels import parse_label, read_label, write_label
from equicli.recipes import expand_path, read_yaml

# `--prior model`: each training picture has its own target, by the prediction network's likelihood.
MODEL = "model"
# Scores closer than this may order differently on the same image turned by 90°: a rounding apart.
TIE = 1e-5
# Poses of a continuous group count as the same within this angle, half a step of C8.
SAME_POSE_DEGREES = 22.5
# The prior of clouds whose z axis points up and whose heading nobody knows: every turn about z.
UPRIGHT = "upright"


@dataclass(frozen=True)
class Prior:
    """A set of poses S, any of which an image of the training folder may have; or a distribution over poses.

    poses: as `PlanarGroup.label` writes them: `r0` is upright, as the network expects; `r90` is turned by 90°. Of SO(3)
        `upright` alone stands for every turn about z.
    shares: how often each of them occurs, adding up to 1; empty for a set.
    """

    poses: tuple[str, ...] = ("r0",)
    shares: tuple[float, ...] = ()

    @classmethod
    def of(cls, settings: str | Sequence[str] | Mapping[str, float], group: Group) -> "Prior":
        """Make one of what a configuration holds. Of MODEL, which trains on a target for each picture, the default."""
        if isinstance(settings, str):
            return cls(_default(group))
        if isinstance(settings, Mapping):
            present = {label: share for label, share in settings.items() if share > 0}
            return cls(tuple(present), tuple(present.values()))
        return cls(tuple(settings))

    def __str__(self) -> str:
        if self.upright:
            return "upright, at any heading"
        if not self.shares:
            return " or ".join(self.poses)
        return ", ".join(f"{label} {share:.1%}" for label, share in zip(self.poses, self.shares, strict=True))

    @property
    def upright(self) -> bool:
        """Whether only the vertical is known."""
        return self.poses == (UPRIGHT,)

    @property
    def main(self) -> tuple[float, bool]:
        """The pose that stands for all where one is needed: the first of a set, the most frequent of a distribution."""
        if self.upright:
            return 0.0, False
        best = self.poses[max(range(len(self.shares)), key=self.shares.__getitem__)] if self.shares else self.poses[0]
        return _parse(best)

    def elements(self, group: Group) -> list[Element]:
        """The poses as elements of a group, which must have them; of all headings the first."""
        if self.upright:
            return [torch.eye(3, dtype=torch.float64)]
        found = [read_label(group, label) for label in self.poses]
        if any(element is None for element in found):
            raise ValueError(f"{group.name} does not have all of the poses {', '.join(self.poses)}.")
        return [element for element in found if element is not None]

    def distribution(self, group: Group) -> Tensor:
        """π over a finite group, float32 (|G|,)."""
        assert is_finite(group)
        share = torch.zeros(group.order)
        share[[int(g) for g in self.elements(group)]] = torch.tensor(self.shares)
        return share

    def loss(self, group: Group, pose: Pose) -> Tensor:
        """What poses of untouched training images cost, a scalar; see `losses`."""
        if not is_finite(group):
            poses = torch.stack([matrix(group, g) for g in self.elements(group)])
            if pose.candidates is not None:
                assert pose.scores is not None
                return cover_loss(pose.scores, self._cosines(pose.candidates, poses))
            if self.upright:
                return vertical_loss(pose.element, pose.scores)
            if pose.scores is None:
                return rotation_loss(pose.element, poses)
            if isinstance(group, MatrixGroup) and group.dimension == 3:
                return density_loss(pose.scores, poses, about_z=group.about_z)
            return density_loss(pose.scores, poses, group.find(0, True) is not None)
        assert pose.scores is not None
        if self.shares:
            return distribution_loss(pose.scores, self.distribution(group).to(pose.scores.device))
        return set_loss(pose.scores, [int(g) for g in self.elements(group)])

    def _cosines(self, candidates: Tensor, poses: Tensor) -> Tensor:
        """cos θ of candidates (b, m, 3, 3) to the nearest pose (k, 3, 3), or of the vertical to z: (b, m)."""
        if self.upright:
            return candidates[..., 2, 2]
        return cosine(candidates[:, :, None], poses.to(candidates)).amax(dim=2)

    def is_identity(self, group: Group, pose: Pose) -> Tensor:
        """Whether each of a batch of poses counts for the identity rate: bool (b,).

        It is one of the set; of a distribution, of which any pose may be right, the identity. One that another pose is
        as good as, to within TIE, counts as missed.
        """
        expected = self if not self.shares else Prior()
        found = expected.contains(group, pose.element)
        if not is_finite(group) or pose.scores is None:
            return found
        inside = torch.zeros(group.order, dtype=torch.bool, device=pose.scores.device)
        inside[[int(g) for g in expected.elements(group)]] = True
        if inside.all():
            return found
        margin = pose.scores[:, inside].amax(dim=1) - pose.scores[:, ~inside].amax(dim=1)
        return found & (margin >= TIE)

    def contains(self, group: Group, element: Tensor) -> Tensor:
        """Whether each of a batch of elements is a pose of the set: bool (b,)."""
        if self.upright:
            return element[:, 2, 2] >= math.cos(math.radians(SAME_POSE_DEGREES))
        return torch.stack([same_pose(group, element, g) for g in self.elements(group)]).any(dim=0)

    def survives_mirroring(self, group: Group) -> bool:
        """Whether the poses of mirrored images are as likely as those of the images, which then may be mirrored.

        Mirroring left-right takes an image that is turned by s to one that is turned by -s, and mirrored where the
        group can say so.
        """
        if self.upright:
            return True
        handed = group.find(0, True) is not None
        before: dict[object, float] = {}
        after: dict[object, float] = {}
        for label, share in zip(self.poses, self.shares or (1.0,) * len(self.poses), strict=True):
            angle, mirrored = _parse(label)
            for shares, pose in ((before, (angle, mirrored)), (after, (-angle % 360, mirrored != handed))):
                shares[group.find(*pose) if is_finite(group) else pose] = share
        return before == after


def near_chance(group: Group, prior: Prior, identity_rate: float, n: int) -> bool:
    """Whether an identity rate is hardly more than a pose at random has; never of what chance says nothing of.

    Args:
        n: of how many images it is the rate: a few are found wrongly by a good canonicalizer, too.
    """
    if not is_finite(group) or prior.shares:
        return False
    chance = len(prior.poses) / group.order
    hardly = identity_rate < min(1.5 * chance, chance + (1 - chance) / 4)
    return hardly and identity_rate + n**-0.5 < (1 + chance) / 2


def same_pose(group: Group, element: Tensor, other: Element) -> Tensor:
    """Whether elements are the same, bool (b,); those of a continuous group to within SAME_POSE_DEGREES.

    Args:
        element: (b,) or (b, d, d).
        other: one element, or as many.
    """
    if is_finite(group):
        return element == other
    return distance(group, element, other) <= SAME_POSE_DEGREES


def _parse(label: str) -> tuple[float, bool]:
    pose = parse_label(label)
    assert pose is not None  # the configuration and `artifact.read_config` check it
    return pose


def read_prior(value: Any, group: Group) -> str | tuple[str, ...] | dict[str, float]:
    """Read what people write for `--prior`, as `Prior.of` takes it.

    Args:
        value: `r90`, `r0,r180`, a list of poses, a mapping of poses to shares, or the name of a YAML file that holds
            either; MODEL; None for the group's default.

    Raises:
        UsageError: it is none of these, names no pose of the group, or leaves nothing to learn.
    """
    if value == MODEL:
        return MODEL
    if isinstance(value, str) and value.endswith((".yaml", ".yml")):
        value = read_yaml(Path(expand_path(value)), "--prior")
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not value:
        value = _default(group)
    if not isinstance(value, Mapping | list | tuple):
        raise UsageError("--prior: write poses such as r0,r180, or name a YAML file of poses and their shares.")
    names = {str(label): _pose_name(str(label), group) for label in value}
    if not isinstance(value, Mapping):
        poses = tuple(dict.fromkeys(names.values()))
        if UPRIGHT in poses and len(poses) > 1:
            raise UsageError(f"--prior: {UPRIGHT} holds every heading; name it alone.")
        if len(poses) == group.order:
            raise UsageError(f"--prior: all {group.order} poses of {group.name}, which leaves nothing to learn.")
        return poses
    if not is_finite(group):
        raise UsageError(f"--prior: {group.name} has infinitely many poses; shares need a finite group, such as c8.")
    if any(not isinstance(share, int | float) or not 0 <= share <= 1 for share in value.values()):
        raise UsageError("--prior: the share of a pose is a number from 0 to 1.")
    total = sum(value.values())
    if abs(total - 1) > 1e-3:
        raise UsageError(f"--prior: the shares add up to {total:g}, not to 1.")
    shares: dict[str, float] = {}
    for label, share in value.items():
        name = names[str(label)]
        shares[name] = shares.get(name, 0) + share / total
    return shares


def _default(group: Group) -> tuple[str, ...]:
    # A photo's handedness is mostly unknowable; but of d1 it is all that there is to know.
    handed = group.find(0, True) is not None and group.order != 2
    return ("r0", "r0m") if handed else ("r0",)


def _pose_name(label: str, group: Group) -> str:
    """The one name of a pose, however its angle is written."""
    if label == UPRIGHT and isinstance(group, MatrixGroup) and group.dimension == 3:
        if group.about_z:
            raise UsageError(f"--prior {label}: {group.name} turns about z alone, so that every pose is upright.")
        return UPRIGHT
    element = read_label(group, label)
    if element is None:
        raise UsageError(f"--prior {label}: no pose of {group.name}. Poses are written r90, or r90m where mirrored.")
    name = write_label(group, element)
    if not is_finite(group) and "." in name:
        raise UsageError(f"--prior {label}: poses of {group.name} are told in whole degrees.")
    return name
