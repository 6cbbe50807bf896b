"""Energy canonicalization: the frozen network's own confidence ranks the |G| views; nothing is trained."""

import torch
from torch import Tensor

from equicli.canonicalization.canonicalizer import Canonicalizer, Context, Pose
from equicli.groups import FiniteGroup, as_finite
from equicli.prediction.inputs import Inputs
from equicli.prediction.signature import Ask


class EnergyCanonicalizer(Canonicalizer):
    """Scores s_g(x) = log Σ_k exp(logit_k(g⁻¹·x)), minus the energy of each view (Liu et al., arXiv 2010.03759).

    The test-time baseline: |G| passes of the prediction network to find the pose. A network is confident in poses that
    it knows, but also in some that it does not. It is shown whole views: off the grid, with padding in their corners.
    """

    method = "energy canonicalization, by the [energy score](https://arxiv.org/abs/2010.03759) of each view"
    learns = False
    group: FiniteGroup

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.passes = as_finite(context.group).order

    def find(self, inputs: Inputs, ask: Ask) -> Pose:
        # View by view: all at once would take |G| times the memory of the prediction network.
        energies: list[Tensor] = [
            ask(inputs.at(self.group, g)).float().logsumexp(dim=-1) for g in range(self.group.order)
        ]
        scores = torch.stack(energies, dim=1)
        return Pose(scores.argmax(dim=1), scores)
