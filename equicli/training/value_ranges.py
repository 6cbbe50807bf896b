"""Which range the values of a training split have, where its files have more than 8 bits and do not say."""

from collections.abc import Sequence

from equicli.data.decode import Decoder
from equicli.data.folders import Sample
from equicli.data.loading import in_threads
from equicli.data.value_range import ValueRanges, find_ranges
from equicli.progress import Progress


def find_value_ranges(
    samples: Sequence[Sample], chosen: tuple[float, float] | None, max_pixels: int, progress: Progress
) -> ValueRanges:
    """Take the range that was chosen, or look for the smallest usual ones that hold all training pictures.

    Of files whose first bytes show that they have 8 bits nothing else is read.

    Raises:
        EquicliError: no usual range holds them.
    """
    if chosen is not None:
        return ValueRanges.chosen(*chosen)
    seen = [found for found in in_threads(Decoder(max_pixels=max_pixels).look, [s.path for s in samples]) if found]
    ranges = find_ranges(seen)
    for kind in ("integers", "floats"):
        if found := ranges.of(kind):
            count = sum(picture.kind == kind for picture in seen)
            progress.say(
                f"value range of {kind}: {found}, the smallest usual one that holds the training pictures "
                f"({count} of more than 8 bits do not say theirs; --value-range LOW:HIGH says otherwise)"
            )
    return ranges
