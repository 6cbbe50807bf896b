"""A class of transformers' with another `forward` put before it: parameters keep their published names."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import Tensor, nn

from equicli.prediction.transformers_library import translate


class Before(nn.Module):
    """What is put before a class of transformers': its `forward` says what the network takes and returns here."""

    config: Any

    @property
    def kind(self) -> Any:
        """The class of transformers' own."""
        return type(self).__bases__[1]

    def own_names(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate a published state dict to the names of this network's own."""
        return translate(self.kind, self.config, weights)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return (
            _blank,
            (type(self).__bases__[0], self.kind),
            self.__dict__,
        )  # the class was made here: pickle finds no such


@cache
def put_before(mixin: Any, kind: Any) -> Any:
    """A class made of both.

    Args:
        mixin: a subclass of `Before`. kind: a class of transformers'.
    """
    return type(kind.__name__, (mixin, kind), {"__module__": kind.__module__})


def _blank(mixin: Any, kind: Any) -> Any:
    made = put_before(mixin, kind)
    return made.__new__(made)
