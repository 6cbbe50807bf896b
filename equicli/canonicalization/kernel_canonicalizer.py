"""What the canonicalizers have in common whose network is equivariant by itself: kernels computed from weights."""

from typing import Any, TypeVar

from pydantic import Field
from torch import nn

from equicli.canonicalization.canonicalizer import Canonicalizer, Context
from equicli.canonicalization.layers import make_plain
from equicli.canonicalization.sizes import Size, Width
from equicli.data.normalization import HALF
from equicli.settings import CanonicalizerSettings

Self = TypeVar("Self", bound="KernelCanonicalizer")


class KernelSettings(CanonicalizerSettings):
    """What every such network is built from."""

    size: Size = Field(65, description="side in pixels of the square image that it looks at: 17, 25, 33, …")
    width: Width = Field(32, description="channels of the first stage")


class KernelCanonicalizer(Canonicalizer):
    """Trained with kernels that are computed from weights, and shipped with ordinary convolutions.

    `Spec` has the fields of `Settings`, without `kind`.
    """

    method = "EquiAdapt, [Equivariant Adaptation of Large Pretrained Models](https://arxiv.org/abs/2310.01647)"

    trains_further = False  # of ordinary convolutions nothing keeps the symmetry

    def __init__(self, spec: Any, context: Context, *, plain: bool) -> None:
        """
        Args:
            plain: with ordinary convolutions.
        """
        super().__init__(context)
        self.spec, self.view = spec, self.look(spec.size, HALF)
        self.network = self.build(plain)

    def build(self, plain: bool) -> nn.Module:
        """The network of `self.spec` for `self.group`, untrained."""
        raise NotImplementedError

    @classmethod
    def create(cls: type[Self], settings: KernelSettings, context: Context) -> Self:
        return cls(cls.Spec(**settings.model_dump(exclude={"kind"})), context, plain=False)

    @classmethod
    def rebuild(cls: type[Self], spec: Any, context: Context) -> Self:
        return cls(spec, context, plain=True)

    def ship(self: Self) -> Self:
        make_plain(self.network)
        return self.eval()
