import numpy as np
import pytest
import torch
from PIL import Image

from equicli.data.decode import UnreadableImageError
from equicli.data.folders import Sample
from equicli.data.loading import Loader
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess, load_turned
from equicli.errors import EquicliError
from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act

AS_IS = Preprocess(None, None, "bilinear", HALF)


def pixels(index, height=6, width=6):
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def files(tmp_path):
    def write(count, height=6, width=6):
        paths = [tmp_path / f"{index}.png" for index in range(count)]
        for index, path in enumerate(paths):
            Image.fromarray(pixels(index, height, width)).save(path)
        return [Sample(path, None) for path in paths]

    return write


def tensor(array):
    return torch.from_numpy(array.copy()).permute(2, 0, 1)


@pytest.mark.parametrize(("count", "batch_size"), [(7, 3), (6, 3), (1, 8), (40, 1)])
def test_batches_come_in_the_order_of_the_samples(files, count, batch_size):
    samples = files(count)
    loader = Loader(samples, AS_IS, batch_size)
    batches = list(loader)
    assert len(batches) == len(loader) == -(-count // batch_size)
    assert torch.cat([b.indices for b in batches]).tolist() == list(range(count))
    images = torch.cat([b.images for b in batches])
    assert images.shape == (count, 1, 3, 6, 6)
    assert all(torch.equal(image[0], tensor(pixels(index))) for index, image in enumerate(images))


def test_a_loader_gives_the_same_batches_again(files):
    loader = Loader(files(5), AS_IS, 2)
    for first, second in zip(loader, loader, strict=True):
        assert torch.equal(first.indices, second.indices) and torch.equal(first.images, second.images)


def test_unreadable_files_are_skipped_and_listed_and_batches_stay_full(files):
    samples = files(6)
    for index in (0, 3):
        samples[index].path.write_text("no image")
    loader = Loader(samples, AS_IS, 2)
    assert [batch.indices.tolist() for batch in loader] == [[1, 2], [4, 5]]
    assert loader.unreadable == {samples[0].path: "not an image", samples[3].path: "not an image"}


def test_a_strict_loader_stops_at_the_first_unreadable_file(files):
    samples = files(4)
    samples[1].path.write_bytes(b"")
    with pytest.raises(UnreadableImageError, match=r"1\.png"):
        list(Loader(samples, AS_IS, 1, strict=True))


def test_where_no_file_can_be_read_the_folder_is_named(files, tmp_path):
    samples = files(3)
    for sample in samples:
        sample.path.write_bytes(b"")
    with pytest.raises(EquicliError, match=f"{tmp_path}: none of 3 images can be read"):
        list(Loader(samples, AS_IS, 2))


def test_images_of_several_sizes_are_refused_with_both_named(files, tmp_path):
    samples = files(3)
    Image.fromarray(pixels(0, 8, 8)).save(samples[2].path)
    with pytest.raises(EquicliError, match=r"2\.png: 8x8 pixels, but .*0\.png has 6x6"):
        list(Loader(samples, AS_IS, 1))


@pytest.mark.parametrize("rotations", [None, PlanarGroup(4)])
def test_images_that_are_not_square_are_refused_unless_they_are_resized(files, rotations):
    samples = files(2, height=5, width=8)
    with pytest.raises(EquicliError, match=r"0\.png: 8x5 pixels; .*square"):
        list(Loader(samples, AS_IS, 1, rotations=rotations))
    (batch,) = Loader(samples, Preprocess(4, 5, "bilinear", HALF), 2, rotations=rotations)
    assert batch.images.shape == (2, rotations.order if rotations else 1, 3, 4, 4)


@pytest.mark.parametrize("name", ["c1", "c2", "c4", "d4"])
@pytest.mark.parametrize(("height", "width"), [(6, 6), (7, 7), (5, 9), (9, 6)])
def test_turning_the_picture_is_the_same_as_turning_the_file(tmp_path, name, height, width):
    group, preprocess = parse_group(name), Preprocess(5, 6, "bicubic", HALF)
    stored = pixels(0, height, width)
    Image.fromarray(stored).save(tmp_path / "0.png")
    (batch,) = Loader([Sample(tmp_path / "0.png", None)], preprocess, 1, rotations=group)
    assert batch.images.shape == (1, group.order, 3, 5, 5)
    for g in group.elements():
        turned = act(group, g, tensor(stored)[None])[0].permute(1, 2, 0).numpy()
        Image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / "turned.png")
        assert torch.equal(batch.images[0, g], load_turned(tmp_path / "turned.png", preprocess, None)[0])


def test_a_picture_is_turned_off_the_grid_before_it_is_preprocessed(tmp_path):
    y, x = np.mgrid[-1:1:48j, -1:1:64j]
    stored = (127 + 60 * np.sin(2 * x + y))[..., None].repeat(3, -1).round().astype(np.uint8)
    Image.fromarray(stored).save(tmp_path / "0.png")
    group = PlanarGroup(8)
    turned = load_turned(tmp_path / "0.png", Preprocess(16, 48, "bilinear", HALF), group)
    assert turned.shape == (8, 3, 16, 16)
    upright = act(group, 1, tensor(stored)[None].double())[0]
    expected = upright[:, 16:32, 24:40]
    assert (turned[1].double() - expected).abs().max() <= 0.5


def test_the_loaders_threads_end_when_iteration_is_left(files):
    import threading

    before = threading.active_count()
    for _ in Loader(files(30), AS_IS, 1):
        break
    assert threading.active_count() == before
