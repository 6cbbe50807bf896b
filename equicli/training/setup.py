"""What stays as it is while a canonicalizer is trained: the settings, the data, the group and the frozen network."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from equicli.canonicalization.canonicalizer import Canonicalizer, Context
from equicli.canonicalization.prior import Prior
from equicli.canonicalization.registry import kinds_for
from equicli.config import AdaptConfig
from equicli.data.clouds.decode import CloudDecoder
from equicli.data.decode import Decoder
from equicli.data.folders import Dataset, Sample, Split
from equicli.data.preprocess import Preprocess
from equicli.data.value_range import AS_USUAL, ValueRanges
from equicli.devices import find_device
from equicli.errors import EquicliError, reason
from equicli.groups import Group, parse_group
from equicli.groups.action import act, kind_of
from equicli.groups.elements import Element, inverse
from equicli.origin import Origin
from equicli.prediction.clouds import inputs_from_samples
from equicli.prediction.head import find_head
from equicli.prediction.network import PretrainedNetwork
from equicli.prediction.signature import asking
from equicli.progress import Progress
from equicli.runs import Run
from equicli.settings import StartedSettings
from equicli.tasks.registry import make_task
from equicli.tasks.task import Binding, Task
from equicli.training.start import first_picture, load_frozen, open_data, open_origin
from equicli.training.upright import open_upright
from equicli.training.value_ranges import find_value_ranges


@dataclass(frozen=True)
class Setup:
    """
    upright: pictures of other folders, which the canonicalizer is trained on, too.
    origin: the canonicalizer to start from; None for a new one.
    found: the prediction network, frozen.
    ranges: of pixel values, by what pictures are stored as.
    """

    config: AdaptConfig
    task: Task
    device: torch.device
    data: Dataset
    split: Split
    upright: tuple[Sample, ...]
    origin: Origin | None
    found: PretrainedNetwork
    group: Group
    prior: Prior
    ranges: ValueRanges
    decoder: Decoder | CloudDecoder
    progress: Progress

    @classmethod
    def open(cls, config: AdaptConfig, run: Run, progress: Progress, *, resume: bool) -> "Setup":
        """Open all that the configuration names; nothing is written."""
        device, task = find_device(config.device), make_task(config.task)
        data, split = open_data(config, task, run, progress, resume=resume)
        upright, origin = open_upright(config, progress), open_origin(config, run, resume=resume)
        found = load_frozen(config, task, data, device, progress)
        group = parse_group(config.group)
        ranges = AS_USUAL
        if isinstance(found.preprocess, Preprocess):  # of pictures
            ranges = find_value_ranges(split.train, config.value_range, config.max_pixels, progress)
        return cls(
            config=config,
            task=task,
            device=device,
            data=data,
            split=split,
            upright=upright,
            origin=origin,
            found=found,
            group=group,
            prior=Prior.of(config.prior, group),
            ranges=ranges,
            decoder=found.preprocess.decoder(ranges, config.max_pixels),
            progress=progress,
        )

    @cached_property
    def first(self) -> Tensor:
        """A training picture or cloud, to try things on."""
        return first_picture(self.split, self.decoder)

    @property
    def pose(self) -> Element:
        """The pose of the folder's pictures: of several, the first."""
        pose = self.group.find(*self.prior.main)
        assert pose is not None
        return pose

    def turn_back(self, picture: Tensor) -> Tensor:
        """Bring a picture of the folder to the pose that the network expects."""
        return act(
            self.group, inverse(self.group, self.pose), picture, kind_of(self.group), padding=self.config.padding
        )

    def show(self, picture: Tensor) -> Tensor:
        """A picture of the folder as the network takes it, in a batch of its own."""
        preprocess = self.found.preprocess
        return preprocess.normalization(preprocess(self.turn_back(picture)).to(self.device))[None]

    def bind(self) -> tuple["Setup", Binding]:
        """Find how network and folder go together, and where a last layer is to be fitted."""
        shown = self.show(self.first)
        binding = self.task.bind(
            self.found, self.data, shown, lambda sample: self.show(self.decoder.read(sample.path)), self.progress
        )
        if not binding.head_needed:
            return self, binding
        spec = replace(self.found.spec, head=find_head(self.found.network, shown))
        return replace(self, found=replace(self.found, spec=spec)), binding


def make_canonicalizer(setup: Setup) -> Canonicalizer:
    """Make a new canonicalizer, or take the one to start from, and find one pose before anything is read or written: a
    size may not be for it.
    """
    config, group, found = setup.config, setup.group, setup.found
    torch.manual_seed(config.seed)
    kind = kinds_for(group)[config.canonicalizer.kind]
    context = Context(group, found.preprocess.normalization.rgb())
    origin = setup.origin
    if origin:
        assert isinstance(config.canonicalizer, StartedSettings)
        look = config.canonicalizer.look
        canonicalizer, remarks = origin.load(group, look), origin.remarks(group, look)
    else:
        canonicalizer, remarks = kind.create(config.canonicalizer, context), []
    canonicalizer.to(setup.device).eval()
    if canonicalizer.finds_poses:
        try:
            with torch.inference_mode():
                inputs = inputs_from_samples([setup.first], found.preprocess, setup.device, config.padding)
                canonicalizer.find(inputs, asking(found.network, setup.task.signature))
        except Exception as error:  # of any network, also of somebody's own
            without = ", or leave out canonicalizer.glance" if canonicalizer.glance else ""
            remedy = f" Try another --canonicalizer-size{without}." if canonicalizer.learns else ""
            raise EquicliError(
                f"--canonicalizer {config.canonicalizer.kind}: fails ({reason(error)}).{remedy}"
            ) from error
    if config.training.crop_size < 1:
        _try_crops(canonicalizer, config.training.crop_size, setup.device)
    for remark in (*canonicalizer.remarks, *remarks):
        setup.progress.say(remark)
    return canonicalizer


def _try_crops(canonicalizer: Canonicalizer, share: float, device: torch.device) -> None:
    """Refuse crops of another size than the canonicalizer looks at where its network takes one size alone."""
    size = max(1, round(share * canonicalizer.view.size))
    try:
        with torch.inference_mode():
            canonicalizer(torch.zeros(1, 3, size, size, device=device))
    except Exception as error:  # of any network
        raise EquicliError(f"--set crop_size={share:g}: its network fails ({reason(error)}). Leave it out.") from error
