"""What trains a canonicalizer. All take float32 tensors and return a scalar."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from equicli.canonicalization.canonicalizer import Pose
from equicli.canonicalization.fisher import log_density
from equicli.canonicalization.points import fisher as space
from equicli.groups import Group, is_finite
from equicli.groups.action import act, kind_of, views
from equicli.groups.elements import Element, cosine, multiply

# Of the density that scores of candidates are to have about the prior's pose: half as dense at 24°.
SHARPNESS = 8.0


def set_loss(scores: Tensor, poses: Sequence[int]) -> Tensor:
    """-log Σ_{g in S} p(g | x), the mean over the batch: each input should be found in a pose of the set S.

    Args:
        scores: (b, |G|), unnormalized log-probabilities.
        poses: S, the elements that the prediction network expects; `[0]` is the identity prior.
    """
    chosen = scores[:, list(poses)].logsumexp(dim=1)
    return (scores.logsumexp(dim=1) - chosen).mean()


def distribution_loss(scores: Tensor, shares: Tensor) -> Tensor:
    """KL(π ‖ mean of p(· | x)) + mean entropy of p(· | x): poses should be as frequent as π says, and each be certain.

    Not the mean of KL(π ‖ p(· | x)), whose optimum p = π for every x is no canonicalization.

    Args:
        scores: (b, |G|), unnormalized log-probabilities.
        shares: π, (|G|,), adding up to 1.
    """
    log_p = scores.log_softmax(dim=1)
    log_mean = log_p.logsumexp(dim=0) - math.log(len(scores))
    divergence = (torch.xlogy(shares, shares) - shares * log_mean).sum()
    entropy = -(log_p.exp() * log_p).sum(dim=1).mean()
    return divergence + entropy


def target_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """KL(q(· | x) ‖ p(· | x)), the mean over the batch: each input's poses should be as likely as its own q says.

    Args:
        scores: (b, |G|), unnormalized log-probabilities.
        targets: q, (b, |G|), each row adding up to 1.
    """
    return (torch.xlogy(targets, targets) - targets * scores.log_softmax(dim=1)).sum(dim=1).mean()


def density_loss(parameter: Tensor, poses: Tensor, reflections: bool = False, *, about_z: bool = False) -> Tensor:
    """-log p(S | x), the mean over the batch, with p the matrix Fisher distribution, relative to the uniform one.

    Args:
        parameter: F, (b, 2, 2) or of space (b, 3, 3); see `fisher` and `points.fisher`.
        poses: S, (|S|, d, d).
        about_z: of space, only rotations about z are meant.
    """
    if parameter.shape[-1] == 3 and not about_z:
        return -space.log_density(parameter, poses).logsumexp(dim=1).mean()
    parameter, poses = parameter[:, :2, :2], poses[:, :2, :2]
    return -log_density(parameter, poses, reflections).logsumexp(dim=1).mean()


def rotation_loss(element: Tensor, poses: Tensor) -> Tensor:
    """1 - cos θ, with θ the angle to the nearest pose of the set S; the mean over the batch, in [0, 2].

    The negative log-likelihood of a von Mises distribution of fixed concentration, but for constants. It is also
    ‖R - S‖² / 4, in the plane the mean square of the entries of R - S: EquiAdapt's loss (arXiv 2310.01647). Wrong
    handedness costs 1.

    Args:
        element: R, rotations or reflections (b, d, d).
        poses: S, (|S|, d, d).
    """
    cosines = cosine(element[:, None], poses.to(element))  # (b, |S|)
    return (1 - cosines.amax(dim=1)).mean()


def vertical_loss(element: Tensor, parameter: Tensor | None) -> Tensor:
    """How far clouds are from upright, whatever their heading; the mean over the batch.

    Args:
        element: R, (b, 3, 3). Without a parameter the loss is 1 - cos of the angle between Rz and z, in [0, 2].
        parameter: F, (b, 3, 3); then it is -log p(Rz = z | x), of the von Mises-Fisher distribution.
    """
    if parameter is None:
        return (1 - element[:, 2, 2]).mean()
    return -space.log_density_of_vertical(parameter).mean()


def cover_loss(scores: Tensor, cosines: Tensor) -> Tensor:
    """How far p(g | x) over candidates g is from a density that falls off with the angle to the prior's pose.

    The density is exp(SHARPNESS · cos θ), so that scores rise smoothly to that pose, and steps from the nearest
    candidate find it. The Kullback-Leibler divergence, the mean over the batch.

    Args:
        scores: (b, m), unnormalized log-probabilities.
        cosines: cos θ of each candidate, (b, m).
    """
    expected = (SHARPNESS * cosines).log_softmax(dim=1)
    return (expected.exp() * (expected - scores.log_softmax(dim=1))).sum(dim=1).mean()


def contrast_loss(vectors: Tensor) -> Tensor:
    """Mean over g ≠ h of |cos(f(g⁻¹·x), f(h⁻¹·x))|: different views should get different vectors.

    Args:
        vectors: (b, |G|, d), unit vectors.

    Returns:
        A scalar in [0, 1]; 0 for the trivial group, which has no pair of views.
    """
    order = vectors.shape[1]
    cosines = (vectors @ vectors.transpose(1, 2)).abs()  # (b, |G|, |G|)
    off_diagonal = ~torch.eye(order, dtype=torch.bool, device=vectors.device)
    return (cosines * off_diagonal).sum() / max(1, len(vectors) * order * (order - 1))


def artifact_loss(group: Group, pose: Pose, turned: Pose, h: Element) -> Tensor:
    """How far the pose of h·x is from h times the pose of x, which interpolation alone is to blame for.

    Of a finite group KL(p(g | x) ‖ p(hg | h·x)), where p(g | x) is taken as given; of a continuous one 1 - cos θ, with
    θ the angle between the two.

    Args:
        pose: of images x.
        turned: of h·x, interpolated once.
        h: the element that acted on all of them.
    """
    if not is_finite(group):
        expected = multiply(group, h, pose.element.detach())
        return (1 - cosine(turned.element, expected)).mean()
    assert pose.scores is not None and turned.scores is not None
    elements = torch.arange(group.order, device=pose.scores.device)
    found = turned.scores[:, multiply(group, h, elements)].log_softmax(dim=1)
    given = pose.scores.detach().log_softmax(dim=1)
    return (given.exp() * (given - found)).sum(dim=1).mean()


def straight_through(group: Group, pose: Pose, x: Tensor, padding: str) -> Tensor:
    """The canonical form ĝ⁻¹·x, (b, c, h, w), through which gradients reach the scores.

    Of a finite group its value is the chosen view, bit for bit, and its gradient that of Σ_g p(g | x) g⁻¹·x: the
    straight-through estimator onehot(argmax) + p - stopgrad(p) (Bengio et al., arXiv 1308.3432). A continuous group's
    rotation has a gradient of its own.
    """
    if not is_finite(group) and pose.candidates is None:
        return act(group, group.inverse(pose.element), x, kind_of(group), padding=padding)
    if not is_finite(group):
        assert pose.scores is not None and pose.candidates is not None
        every = torch.stack([act(group, group.inverse(g), x, "points") for g in pose.candidates.unbind(1)], dim=1)
        chosen = act(group, group.inverse(pose.element), x, "points")
        p = pose.scores.softmax(dim=1)
        return chosen + torch.einsum("bg,bgnd->bnd", p - p.detach(), every)
    assert pose.scores is not None
    every = views(group, x, padding=padding)  # (b, |G|, c, h, w)
    chosen = every[torch.arange(len(x), device=x.device), pose.element]
    p = pose.scores.softmax(dim=1)
    return chosen + torch.einsum("bg,bgchw->bchw", p - p.detach(), every)
