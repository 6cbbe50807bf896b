"""What every canonicalizer is: a module from a small view of an input to its pose, with what makes it again."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from equicli.data.normalization import Normalization
from equicli.data.small_view import SmallView
from equicli.groups import Group, is_finite
from equicli.prediction.inputs import Inputs
from equicli.prediction.signature import Ask
from equicli.settings import CanonicalizerSettings

Self = TypeVar("Self", bound="Canonicalizer")

SIZE = 64  # pixels, where a canonicalizer says nothing else


class Pose(NamedTuple):
    """Where an input stands: x = ĝ·x̂, with x̂ its canonical form.

    For a batch of b inputs:
    element: ĝ, of a finite group int64 (b,), of a continuous one matrices (b, d, d).
    scores: float32, log-probabilities but for a constant: s(g | x) in the order of a finite group, (b, |G|); of a
        continuous one F (b, d, d), with s(R | x) = tr(FᵀR). None where a continuous one gives no probabilities.
    vectors: float32 (b, |G|, d), the unit vectors f(g⁻¹·x) that scores were compared from, where there are any.
    candidates: of a continuous group the m elements of each input that were compared, (b, m, d, d), where there are
        any; then scores are theirs, (b, m).
    tied: bool (b,), where a rounding decides how the scores were found; None where it decides nothing.
    """

    element: Tensor
    scores: Tensor | None = None
    vectors: Tensor | None = None
    candidates: Tensor | None = None
    tied: Tensor | None = None

    def __repr__(self) -> str:
        """The elements, and of the rest that it is there: vectors of a few pictures fill pages."""
        there = [name for name in ("scores", "vectors", "candidates") if getattr(self, name) is not None]
        return f"Pose(element={self.element.tolist()}{''.join(f', {name}=…' for name in there)})"


def posterior(scores: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """p(g | x) of all poses, the likeliest first, and the poses in this order: (b, |G|) both.

    Args:
        scores: s(g | x), (b, |G|). They are sorted before they are summed, which gives the same bits however an input
            comes turned.
    """
    if torch.compiler.is_compiling():  # ONNX has no stable sort, but its `TopK` is one
        values, indices = scores.float().topk(scores.shape[1], dim=1)
    else:
        values, indices = scores.float().sort(dim=1, descending=True, stable=True)
    return (values / temperature).softmax(dim=1), indices


@dataclass(frozen=True)
class Context:
    """What a canonicalizer is made for.

    normalization: that of the prediction network.
    """

    group: Group
    normalization: Normalization


@dataclass(frozen=True)
class Nothing:
    """What there is to remember of a canonicalizer that has no settings."""


class Canonicalizer(nn.Module):
    """Equivariant map from inputs to poses: s(hg | h·x) = s(g | x), hence ĝ(h·x) = h·ĝ(x).

    A new kind is one file with a subclass, and its line in `registry.py`.
    method: its name and paper, for the model card.
    Settings: what a user can set, `--set canonicalizer.KEY=VALUE`.
    Spec: a dataclass of plain values, or of such dataclasses, that is stored in artifacts and, with the weights, makes
        the canonicalizer again. Its fields say their bounds, as a file of others may ask for anything.
    learns: whether it has anything to train.
    finds_poses: whether it finds poses at all; False for the baseline that has none to find.
    trains_further: whether one that was stored can be trained again.
    compares_views: whether its poses have `vectors`, on which the contrast loss acts.
    trains_on_few_views: whether `training_views` of each input are enough to train on.
    takes_any_size: whether it can be trained on views of other sizes than `view` has.
    learning_rate: by default; networks that can only start untrained want a higher one.
    view: what it looks at. `__init__` calls `super().__init__(context)`, which takes SIZE pixels, normalized as for the
        prediction network; one that looks otherwise sets `self.view = self.look(size, normalization)`.
    glance: side in pixels of a smaller view that it looks at first; None where it looks once.
    passes: of the prediction network, for each input, to find its pose.
    training_views: how many views of each input are asked in training; None for all.
    remarks: a line on each thing that `create` decided, for the user.
    """

    method: ClassVar[str]
    Settings: ClassVar[type[CanonicalizerSettings]] = CanonicalizerSettings
    Spec: ClassVar[type[Any]] = Nothing
    learns: ClassVar[bool] = True
    finds_poses: ClassVar[bool] = True
    trains_further: ClassVar[bool] = True
    compares_views: ClassVar[bool] = False
    trains_on_few_views: ClassVar[bool] = False
    takes_any_size: ClassVar[bool] = False
    learning_rate: ClassVar[float] = 1e-3

    group: Group
    view: SmallView
    spec: Any = Nothing()
    glance: int | None = None
    passes: int = 0
    training_views: int | None = None
    remarks: tuple[str, ...] = ()

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.group = context.group
        self.view = self.look(SIZE, context.normalization)

    @classmethod
    def takes(cls, group: Group) -> bool:
        """Whether there is such a canonicalizer for a group; here for any finite one."""
        return is_finite(group)

    @classmethod
    def ranks(cls, group: Group) -> int:
        """Of a continuous group, how many poses of each input are compared and get a score; 0 where one is found."""
        return 0

    @classmethod
    def serves(cls, trained: Group, group: Group) -> bool:
        """Whether one that was trained for a group can find the poses of another; here of the same alone."""
        return trained.name == group.name

    @classmethod
    def create(cls: type[Self], settings: Any, context: Context) -> Self:
        """Make a new one from `cls.Settings`, in the form that is trained."""
        return cls(context)

    @classmethod
    def rebuild(cls: type[Self], spec: Any, context: Context) -> Self:
        """Make it again, untrained, from `cls.Spec`, in the form that is shipped."""
        return cls(context)

    def ship(self: Self) -> Self:
        """The form that is stored, in eval mode: what `rebuild` makes, with these weights."""
        return self.eval()

    def look(self, size: int, normalization: Normalization) -> SmallView:
        """A view of this size in pixels for the group: the whole picture, or off the grid its central square."""
        return SmallView(size, normalization, whole=is_finite(self.group) and self.group.exact)

    def find(self, inputs: Inputs, ask: Ask) -> Pose:
        """Find the poses of inputs of any kind and size.

        Args:
            ask: asks the prediction network; only few canonicalizers do.
        """
        return self(inputs.small(self.view))

    def forward(self, x: Tensor) -> Pose:
        """Find the poses of small views x (b, 3, s, s), normalized as `self.view` says."""
        raise NotImplementedError

    # nn.Module leaves the type of a call open.
    def __call__(self, x: Tensor) -> Pose:
        return super().__call__(x)  # type: ignore[no-any-return]
