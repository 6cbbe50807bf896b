"""The same photos in 8 bits, in 12 of 16 and as floats from -1 to 1: the same to the image."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from equicli import pipeline
from equicli.artifact import load, read_config
from equicli.data.folders import Sample
from equicli.data.value_range import ValueRange, ValueRanges
from equicli.errors import EquicliError, UsageError
from equicli.progress import Silent
from equicli.training.value_ranges import find_value_ranges
from tests.told import Told
from tests.training.small_runs import configuration, run_adapt, write_images

KINDS = {
    "12 bits": lambda grey: np.round(grey.astype(float) / 255 * 4095).astype(np.uint16),
    "floats": lambda grey: grey.astype(np.float32) / 127.5 - 1,
}


def grey_photos(folder, convert=lambda grey: grey):
    """The photos of `workplace` in grey, in files that hold what `convert` makes of their values."""
    for path in sorted(folder.parent.joinpath("photos").rglob("*.png")):
        target = folder / path.parent.name / f"{path.stem}.tif"
        target.parent.mkdir(parents=True, exist_ok=True)
        grey = np.asarray(Image.open(path).convert("L")).copy()
        grey[0, :2] = 0, 255  # so that a split of few photos fills its range
        Image.fromarray(convert(grey)).save(target)


def test_the_same_photos_in_more_bits_give_the_same_to_the_image(workplace):
    grey_photos(workplace / "bytes")
    plain, _ = run_adapt("plain", data="bytes", epochs=1)
    expected = pipeline.evaluate("plain", progress=Silent())[0]
    assert read_config(plain.model).value_ranges == ValueRanges()
    for name, convert in KINDS.items():
        grey_photos(workplace / name, convert)
        told = Told()
        run, _ = run_adapt(f"run {name}", told, data=name, epochs=1)
        assert sum("value range of" in line and "--value-range" in line for line in told.lines) == 1
        one, other = load(run.model), load(plain.model)
        files = [sorted((workplace / data).rglob("*.tif")) for data in (name, "bytes")]
        assert torch.equal(one.predict(files[0]).output, other.predict(files[1]).output)
    found = pipeline.evaluate("run 12 bits", progress=Silent())[0]
    for system in ("vanilla", "adapted"):
        assert found[system]["per_element"] == expected[system]["per_element"]


def test_the_range_is_that_of_the_training_split_and_beyond_it_a_picture_is_refused(workplace):
    grey_photos(workplace / "photos12", KINDS["12 bits"])
    run, adapted = run_adapt("out", data="photos12", epochs=1)
    recorded = json.loads((run.folder / "config.json").read_text())["value_ranges"]
    assert recorded["integers"] == {"low": 0.0, "high": 4095.0} and recorded["floats"] is None
    brighter = workplace / "brighter.png"
    Image.fromarray(np.full((32, 32), 5000, np.uint16)).save(brighter)
    with pytest.raises(EquicliError, match="outside of 0:4095"):
        adapted.model.predict(brighter)


def test_a_chosen_range_is_taken_recorded_and_overridden_where_it_is_evaluated(workplace):
    grey_photos(workplace / "photos12", KINDS["12 bits"])
    _, adapted = run_adapt("out", data="photos12", value_range="0:65535", epochs=1)
    assert adapted.model.value_ranges == ValueRanges.chosen(0, 65535)
    assert configuration(data="photos12", value_range=[0, 65535]).value_range == (0, 65535)
    dark = pipeline.evaluate("out", progress=Silent())[0]
    light = pipeline.evaluate("out", value_range="0:4095", output="light", progress=Silent())[0]
    assert dark["n"] == light["n"]
    with pytest.raises(UsageError, match="--value-range 7: write LOW:HIGH"):
        pipeline.evaluate("out", value_range="7", progress=Silent())
    with pytest.raises(UsageError, match="write LOW:HIGH"):
        configuration(value_range="4095")


def test_only_files_that_do_not_say_their_range_count(tmp_path):
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(tmp_path / "a.jpg")
    Image.fromarray(np.full((8, 8), 3000, np.uint16)).save(tmp_path / "b.tif")
    (tmp_path / "c.pgm").write_bytes(b"P5 1 1 65535\n\xff\xff")
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "d.tif")
    samples = [Sample(path) for path in sorted(tmp_path.iterdir())]
    assert find_value_ranges(samples, None, 10**6, Silent()) == ValueRanges(integers=ValueRange(0, 4095))
    assert find_value_ranges(samples[:1], None, 10**6, Silent()) == ValueRanges()


def test_a_picture_of_too_many_pixels_is_skipped_and_told_and_the_option_raises_the_limit(workplace):
    write_images(workplace / "photos" / "ant", 11, frames=((32, 32), (32, 33)))
    told = Told()
    run_adapt("out", told, max_pixels=32 * 32, epochs=1)
    assert any("more than 1,024; --max-pixels raises the limit" in line for line in told.lines)
    assert configuration().max_pixels == 178_956_970
