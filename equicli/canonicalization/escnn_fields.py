"""EquiAdapt's canonicalization network for C_n (arXiv 2310.01647) of escnn's own layers, as its published code has it:
three layers of 5x5 kernels with batch normalization, ReLU and dropout between them, then an average over space.

It differs from that code in three things, none of which changes what the network can learn: the last layer has one
field where theirs has many that are averaged, convolutions have no bias (batch normalization or softmax take it out
again), and batch normalization averages over more than the last batch or so.

Only training needs escnn, an extra: the network is shipped as ordinary layers.
"""

import copy
import warnings
from typing import Any

from torch import Tensor, nn

from equicli.canonicalization.layers import KERNEL_SIZE, Expanded, Window, WindowedMean
from equicli.errors import UsageError
from equicli.groups import PlanarGroup

DROPOUT = 0.5


class EscnnLayers(Expanded):
    """From images (b, 3, s, s) to one regular field (b, |G|, s - 12, s - 12), its channels in the group's order.

    escnn counts angles as we do, and with reflections mirrors left-right first, too.
    """

    def __init__(self, group: PlanarGroup, fields: int, *, initialize: bool = True) -> None:
        """
        Args:
            initialize: draw weights, which are 0 otherwise.

        Raises:
            UsageError: there is no escnn here, or it has no kernels for this group.
        """
        super().__init__()
        if not solvable(group):
            raise UsageError(
                f"--canonicalizer-network escnn: for c2, c3, …, d1 and d2, not for --group {group.name}: escnn solves "
                "for the kernels of d3, d4, … from random samples, which fails with today's scikit-learn; take gcnn."
            )
        self.group, self.fields = group, fields
        escnn, space = import_escnn(), _space(group)
        images = escnn.FieldType(space, [space.trivial_repr] * 3)
        hidden = escnn.FieldType(space, [space.regular_repr] * fields)
        scores = escnn.FieldType(space, [space.regular_repr])

        def conv(before: Any, after: Any) -> Any:
            # By default escnn lends one basis to all networks of a process, on whatever device the last one is.
            return escnn.R2Conv(before, after, KERNEL_SIZE, bias=False, recompute=True, initialize=initialize)

        def active() -> list[Any]:
            return [escnn.InnerBatchNorm(hidden), escnn.ReLU(hidden), escnn.PointwiseDropout(hidden, DROPOUT)]

        self.layers = escnn.SequentialModule(
            conv(images, hidden), *active(), conv(hidden, hidden), *active(), conv(hidden, scores)
        )
        self.train()

    def forward(self, x: Tensor) -> Tensor:
        field: Tensor = self.layers(self.layers.in_type(x)).tensor
        return field

    def train(self, mode: bool = True) -> "EscnnLayers":
        """As of any module, but convolutions compute their kernels on every call.

        In eval mode escnn would keep kernels beside the weights that they come from: in the state dict, which then
        could not be loaded in the other mode, and with their graph, which cannot be copied.
        """
        self.training = mode
        for layer in self.layers.children():
            layer.train(mode or isinstance(layer, import_escnn().R2Conv))
        return self

    def __reduce__(self) -> Any:
        # escnn's types cannot be pickled; they follow from the group.
        return _again, (self.group, self.fields, self.layers.state_dict(), self.training)

    def plain(self) -> nn.Sequential:
        """The same as ordinary layers: what escnn exports, in the modules of `plain_layers`."""
        exported = copy.deepcopy(self.layers).cpu().export()  # which escnn makes on the CPU
        plain = plain_layers(self.group, self.fields)
        plain.load_state_dict(exported.state_dict())
        return plain.to(next(self.parameters()).device).train(self.training)


def escnn_network(group: PlanarGroup, width: int, *, plain: bool = False) -> nn.Sequential:
    """A network from images (b, 3, s, s), s at least 13, to scores (b, |G|) with s(hg | h·x) = s(g | x).

    The law holds exactly for multiples of 90° and mirrorings, and for other angles as far as pixels allow.

    Args:
        width: channels of the hidden layers, in width / |G| regular fields, and at least two. EquiAdapt has 32 fields.
        plain: with ordinary layers, for any group and without escnn.

    Raises:
        UsageError: not `plain`, and there is no escnn here, or it has no kernels for this group.
    """
    fields = max(2, round(width / group.order))
    layers = plain_layers(group, fields) if plain else EscnnLayers(group, fields)
    if group.exact:
        return nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(Window(), layers, WindowedMean(), nn.Flatten())


def plain_layers(group: PlanarGroup, fields: int) -> nn.Sequential:
    """Layer by layer what `EscnnLayers` exports."""
    hidden = fields * group.order

    def conv(before: int, after: int) -> nn.Module:
        return nn.Conv2d(before, after, KERNEL_SIZE, bias=False)

    def active() -> list[nn.Module]:
        return [nn.BatchNorm2d(hidden), nn.ReLU(), nn.Dropout(DROPOUT)]

    return nn.Sequential(conv(3, hidden), *active(), conv(hidden, hidden), *active(), conv(hidden, group.order))


def solvable(group: PlanarGroup) -> bool:
    """Whether escnn's kernels are right and the same in every process: those of abelian groups."""
    return not group.reflections or group.n <= 2


def import_escnn() -> Any:
    """Return `escnn.nn`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            # Of what only groups of space would need.
            warnings.filterwarnings("ignore", message="`py3nj` package not found")
            from escnn import nn as escnn
    except ImportError:
        raise UsageError(
            "--canonicalizer-network escnn: needs escnn, which is there for Python 3.10 to 3.12; "
            "pip install 'equicli[escnn]'."
        ) from None
    return escnn


def _again(group: PlanarGroup, fields: int, state: dict[str, Tensor], training: bool) -> EscnnLayers:
    """Restore a copy or a pickle."""
    again = EscnnLayers(group, fields, initialize=False)
    again.layers.load_state_dict(state, assign=True)
    return again.train(training)


def _space(group: PlanarGroup) -> Any:
    """How escnn has the group act on images."""
    from escnn import gspaces

    if group.order == 1:
        return gspaces.trivialOnR2()
    if not group.reflections:
        return gspaces.rot2dOnR2(group.n)
    return gspaces.flip2dOnR2() if group.n == 1 else gspaces.flipRot2dOnR2(group.n)
