"""Energy canonicalization: the frozen network's own confidence ranks the |G| views; nothing is trained."""

import torch
from torch import Tensor

from equicli.canonicalization.canonicalizer import Canonicalizer, Context, Pose
from equicli.groups import FiniteGroup, as_finite
from equicli.groups.action import act


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
        self.padding = context.padding
        self.passes = as_finite(context.group).order
        # In a tuple, which hides it from `parameters()` and `state_dict()`: the adapted model holds it already.
        self._network = (context.prediction_network,)

    def forward(self, x: Tensor) -> Pose:
        """Find the pose of images x (b, 3, h, w), normalized for the prediction network."""
        # View by view: all at once would take |G| times the memory of the prediction network.
        scores = torch.stack([self._confidence(g, x) for g in range(self.group.order)], dim=1)
        return Pose(scores.argmax(dim=1), scores)

    def _confidence(self, g: int, x: Tensor) -> Tensor:
        """In the prediction network's own dtype, whatever it is."""
        (network,) = self._network
        view = act(self.group, self.group.inverse(g), x, padding=self.padding)
        dtype = next((parameter.dtype for parameter in network.parameters()), x.dtype)
        logits: Tensor = network(view.to(dtype))
        return logits.float().logsumexp(dim=-1)
