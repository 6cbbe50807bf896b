"""From the configuration of an image processor of transformers' to our preprocessing."""

import importlib
import warnings
from collections.abc import Mapping
from typing import Any

from equicli.data.normalization import IMAGENET, Normalization
from equicli.data.preprocess import Interpolation, Preprocess
from equicli.errors import EquicliError, reason
from equicli.prediction.published_files import PublishedFiles, read_json

# Pillow's numbers.
_INTERPOLATIONS: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
# They resize, crop, rescale and normalize, and do nothing else with a picture.
_PLAIN = "ViT DeiT CLIP Siglip Beit Bit Blip Segformer MobileNetV1 MobileNetV2 Pvt".split()
# Sizes that these derive before they resize.
_OWN_SIZES = "ConvNext PoolFormer Levit EfficientNet MobileViT".split()


PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


def find_preprocess(files: PublishedFiles, config: Any, image_size: int | None) -> tuple[Preprocess, tuple[str, ...]]:
    """Find a checkpoint's preprocessing in its files; see `read_preprocess`."""
    found = files.find(PROCESSOR_FILES)
    processor = read_json(found, f"{files.name}: {found.name}") if found else None
    return read_preprocess(processor, config, image_size, files.name)


def read_preprocess(
    published: Mapping[str, Any] | None, config: Any, image_size: int | None, source: str
) -> tuple[Preprocess, tuple[str, ...]]:
    """Turn a processor's configuration into preprocessing.

    Args:
        published: the content of `preprocessor_config.json`; None where there is none.
        config: the network's configuration, whose family has a default.
        image_size: side in pixels that takes the place of the published one; the share that is cropped is kept.
        source: what errors call the checkpoint.

    Returns:
        The preprocessing, and a line on each thing that it does otherwise than transformers.

    Raises:
        EquicliError: pictures would be prepared in a way that equicli has not.
    """
    remarks: list[str] = []
    if published is None:
        image_size = image_size or _native_size(config)
        remarks.append(f"{source}: has no preprocessor_config.json; taking its family's default preprocessing")
    elif isinstance(published.get("image_processor"), dict):  # in the configuration of a whole processor
        published = published["image_processor"]
    try:
        family, processor = _processor(published or {}, config.model_type, source, remarks)
        if processor is None:
            side = image_size or _native_size(config) or 224
            return Preprocess(side, side, "bilinear", IMAGENET, floor=True), tuple(remarks)
        preprocess = _geometry(family, processor, _normalization(family, processor), source, remarks)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, ZeroDivisionError, OverflowError) as error:
        raise EquicliError(f"{source}: its preprocessor_config.json makes no sense ({reason(error)}).") from error
    return preprocess if image_size is None else preprocess.resized(image_size), tuple(remarks)


def find_normalization(files: PublishedFiles, default: Normalization) -> tuple[Normalization, tuple[str, ...]]:
    """Mean and std alone, of networks that resize by themselves, and a line on what is missing.

    Raises:
        EquicliError: they make no sense.
    """
    found = files.find(PROCESSOR_FILES)
    published = read_json(found, f"{files.name}: {found.name}") if found else {}
    inner = published.get("image_processor")
    published = inner if isinstance(inner, dict) else published
    if published.get("do_normalize") is False:
        return Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), ()
    mean, std = published.get("image_mean"), published.get("image_std")
    if mean is None or std is None:
        return default, (f"{files.name}: nothing says how its pictures are normalized; taking mean {default.mean}",)
    try:
        (r, g, b), (s, t, u) = map(float, mean), map(float, std)
        if min(s, t, u) <= 0:
            raise ValueError("image_std must be positive")
    except (TypeError, ValueError) as error:
        raise EquicliError(f"{files.name}: its preprocessor_config.json makes no sense ({reason(error)}).") from error
    return Normalization((r, g, b), (s, t, u)), ()


def _native_size(config: Any) -> int | None:
    size = getattr(getattr(config, "vision_config", config), "image_size", None)
    first = size[0] if isinstance(size, list | tuple) and size else size
    return first if isinstance(first, int) else None


def _processor(published: Mapping[str, Any], model_type: str, source: str, remarks: list[str]) -> tuple[str, Any]:
    """The family and the processor, made by transformers, which knows each one's defaults; None where none is known."""
    named = published.get("image_processor_type") or published.get("feature_extractor_type")
    name = str(named).replace("FeatureExtractor", "ImageProcessor") if named else _default_of(model_type)
    family = (name or "").partition("ImageProcessor")[0]
    if family not in (*_PLAIN, *_OWN_SIZES):
        if not published.get("size"):
            remarks.append(f"{source}: nothing says how its pictures are prepared; taking ImageNet's mean and std")
            return "", None
        remarks.append(
            f"{source}: image processor {name} is not known to equicli; resizing, cropping and normalizing as its file "
            "says, and nothing else"
        )
        family = "ViT"
    kind = getattr(importlib.import_module("transformers"), f"{family}ImageProcessor")
    # Nothing of code, files or devices is passed on.
    known = {key: value for key, value in published.items() if key in _KNOWN}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return family, kind(**known)
    except Exception as error:
        raise EquicliError(f"{source}: its preprocessor_config.json makes no sense ({reason(error)}).") from error


_KNOWN = frozenset(
    "do_resize size resample do_center_crop crop_size crop_pct do_rescale rescale_factor rescale_offset do_normalize "
    "image_mean image_std include_top do_flip_channel_order use_square_size do_pad pad_size do_convert_rgb".split()
)


def _default_of(model_type: str) -> str | None:
    """The processor of a family, by a table of transformers' that has had several forms."""
    auto = importlib.import_module("transformers.models.auto.image_processing_auto")
    entry = auto.IMAGE_PROCESSOR_MAPPING_NAMES.get(model_type)
    names = [entry] if isinstance(entry, str) else list(entry.values() if isinstance(entry, dict) else entry or ())
    return next((name for name in names if isinstance(name, str)), None)


def _normalization(family: str, processor: Any) -> Normalization:
    """Rescaling and normalization as one: (x · 255 · factor − offset − mean) / std, for x in [0, 1]."""
    factor = float(processor.rescale_factor) * 255 if processor.do_rescale else 255.0
    normalizes = bool(processor.do_normalize)
    means = processor.image_mean if normalizes else 0.0
    stds = processor.image_std if normalizes else 1.0
    mean, std = (tuple(map(float, v)) if isinstance(v, list | tuple) else (float(v),) * 3 for v in (means, stds))
    mean, std = (v * 3 if len(v) == 1 else v for v in (mean, std))  # of a network of one channel
    if len(mean) != 3 or len(std) != 3:
        raise ValueError(f"image_mean={mean}, image_std={std}, but pictures have three channels")
    if family == "EfficientNet":
        if processor.do_rescale and processor.rescale_offset:
            mean = tuple(m + 1 for m in mean)
        if processor.include_top:  # divides by the std once more
            std = tuple(s * float(t) for s, t in zip(std, processor.image_std, strict=True))
    if factor <= 0 or min(std) <= 0:
        raise ValueError("image_std and rescale_factor must be positive")
    return Normalization(
        (mean[0] / factor, mean[1] / factor, mean[2] / factor), (std[0] / factor, std[1] / factor, std[2] / factor)
    )


def _geometry(family: str, processor: Any, normalization: Normalization, source: str, remarks: list[str]) -> Preprocess:
    if family == "MobileViT" and processor.do_flip_channel_order:
        raise EquicliError(f"{source}: it takes blue, green, red; equicli's pictures are red, green, blue.")
    if getattr(processor, "do_pad", None):
        raise EquicliError(f"{source}: its pictures are padded, which equicli's preprocessing is not able to.")
    interpolation = _INTERPOLATIONS.get(int(processor.resample))
    if interpolation is None:
        remarks.append(f"{source}: resample={int(processor.resample)} is taken as bilinear")
    crop = _side(processor.crop_size, "crop_size") if processor.do_center_crop else None
    if not processor.do_resize:
        if crop is not None:
            raise EquicliError(f"{source}: its pictures are cropped but not resized, which equicli cannot do.")
        return Preprocess(None, None, interpolation or "bilinear", normalization, floor=True)
    size = _sizes(processor.size)
    squash, resize = False, size.get("shortest_edge")
    if size.get("longest_edge") or size.get("max_height"):
        raise EquicliError(f"{source}: size={size}, but equicli's pictures are squares of one size.")
    if resize is None:
        resize, squash = _side(processor.size, "size"), True
    if family == "ConvNext":
        if resize < 384:
            crop, resize = crop or resize, int(resize / processor.crop_pct)
        else:
            squash = True
    elif family == "PoolFormer" and processor.crop_pct is not None:
        resize, squash = int(resize / processor.crop_pct), False
    elif family == "Levit" and not squash:
        resize = int(256 / 224 * resize)
    if crop is None and not squash:
        remarks.append(f"{source}: its pictures keep their aspect ratio; taking the central square of {resize}")
    if min(resize, crop or resize) < 1:
        raise ValueError("sizes must be positive")
    return Preprocess(crop or resize, resize, interpolation or "bilinear", normalization, squash, floor=True)


def _sizes(size: Any) -> dict[str, int]:
    """A size's entries, whatever class holds them."""
    names = ("height", "width", "shortest_edge", "longest_edge", "max_height", "max_width")
    values = {name: size.get(name) if isinstance(size, Mapping) else getattr(size, name, None) for name in names}
    return {name: int(value) for name, value in values.items() if value is not None}


def _side(size: Any, what: str) -> int:
    sizes = _sizes(size)
    side = sizes.get("height", sizes.get("shortest_edge"))
    if side is None or side != sizes.get("width", side):
        raise ValueError(f"{what} is {sizes}, but equicli's pictures are squares")
    return side
