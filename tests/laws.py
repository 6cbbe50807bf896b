"""The laws of DESIGN.md as assertions that every room can use."""

import torch
from torch import Tensor

from equicli.canonicalization.canonicalizer import Canonicalizer
from equicli.evaluation.evaluate import TIE
from equicli.groups import PlanarGroup
from equicli.groups.action import act


def assert_equivariant(module: Canonicalizer, group: PlanarGroup, x: Tensor, atol: float) -> None:
    """Check s(hg | h·x) = s(g | x), ĝ(h·x) = h·ĝ(x), and one canonical form for x and h·x, for every h in `group`.

    Images whose two best scores are within TIE may be found in another pose; there must be others.

    Args:
        group: a subgroup of the canonicalizer's own group G.
        atol: of the scores; and of the canonical forms where G interpolates. Where G is exact, they are bit-identical.
    """
    own = module.group
    pose = module(x)
    best = pose.scores.topk(min(2, own.order), dim=1).values
    clear = best[:, 0] - best[:, -1] >= TIE if own.order > 1 else torch.ones(len(x), dtype=torch.bool)
    assert clear.any(), "all images are ties: nothing is tested"
    canonical = act(own, own.inverse(pose.element), x)
    elements = torch.arange(own.order)
    for step in group.elements():
        h = own.find(group.angle(step), group.mirrored(step))
        assert h is not None, f"{group.label(step)} is no element of {own.name}"
        case = f"{own.name} of {tuple(x.shape)} {x.dtype}, h = {own.label(h)}"
        turned = act(own, h, x)
        found = module(turned)
        hg = own.compose(torch.full_like(elements, h), elements)
        torch.testing.assert_close(
            found.scores[:, hg], pose.scores, atol=atol, rtol=0, msg=lambda m, c=case: f"{c}: {m}"
        )
        expected = own.compose(torch.full_like(pose.element, h), pose.element)
        assert torch.equal(found.element[clear], expected[clear]), f"{case}: ĝ(h·x) ≠ h·ĝ(x)"
        again = act(own, own.inverse(found.element), turned)
        difference = (again[clear].double() - canonical[clear].double()).abs().max()
        assert difference <= (0 if own.exact else atol), f"{case}: canonical forms differ by {difference:g}"
