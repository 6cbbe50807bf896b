import threading

import numpy as np
import pytest
import torch
from PIL import Image

from equicli.data import loading as room
from equicli.data.decode import UnreadableImageError
from equicli.data.folders import Sample
from equicli.data.loading import Loader, computed, in_threads
from equicli.errors import EquicliError


def pixels(index, height=6, width=6):
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def files(tmp_path):
    def write(count, height=6, width=6):
        paths = [tmp_path / f"{index}.png" for index in range(count)]
        for index, path in enumerate(paths):
            Image.fromarray(pixels(index, height, width)).save(path)
        return [Sample(path) for path in paths]

    return write


def tensor(array):
    return torch.from_numpy(array.copy()).permute(2, 0, 1)


def as_is(picture):
    return picture


@pytest.mark.parametrize(("count", "batch_size"), [(7, 3), (6, 3), (1, 8), (40, 1)])
def test_batches_come_in_the_order_of_the_samples(files, count, batch_size):
    samples = files(count)
    loader = Loader(samples, as_is, batch_size)
    batches = list(loader)
    assert len(batches) == len(loader) == -(-count // batch_size)
    assert torch.cat([b.indices for b in batches]).tolist() == list(range(count))
    pictures = [item for batch in batches for item in batch.items]
    assert all(torch.equal(picture, tensor(pixels(index))) for index, picture in enumerate(pictures))


def test_a_loader_gives_the_same_batches_again(files):
    loader = Loader(files(5), as_is, 2)
    for first, second in zip(loader, loader, strict=True):
        assert torch.equal(first.indices, second.indices) and all(map(torch.equal, first.items, second.items))


def test_unreadable_files_are_skipped_and_listed_and_batches_stay_full(files):
    samples = files(6)
    for index in (0, 3):
        samples[index].path.write_text("no image")
    loader = Loader(samples, as_is, 2)
    assert [batch.indices.tolist() for batch in loader] == [[1, 2], [4, 5]]
    assert loader.unreadable == {samples[0].path: "not an image", samples[3].path: "not an image"}


def test_a_strict_loader_stops_at_the_first_unreadable_file(files):
    samples = files(4)
    samples[1].path.write_bytes(b"")
    with pytest.raises(UnreadableImageError, match=r"1\.png"):
        list(Loader(samples, as_is, 1, strict=True))


def test_where_no_file_can_be_read_the_folder_is_named(files, tmp_path):
    samples = files(3)
    for sample in samples:
        sample.path.write_bytes(b"")
    with pytest.raises(EquicliError, match=f"{tmp_path}: none of 3 images can be read"):
        list(Loader(samples, as_is, 2))


def test_pictures_of_several_sizes_are_each_prepared_as_they_are(files):
    samples = files(3, height=5, width=8)
    Image.fromarray(pixels(0, 9, 2)).save(samples[1].path)
    (batch,) = Loader(samples, lambda picture: tuple(picture.shape), 3)
    assert batch.items == [(3, 5, 8), (3, 9, 2), (3, 5, 8)]


def test_what_preparing_fails_at_is_told_and_no_file_is_blamed(files):
    def fail(picture):
        raise ZeroDivisionError("of the preparation")

    loader = Loader(files(3), fail, 2)
    with pytest.raises(ZeroDivisionError, match="of the preparation"):
        list(loader)
    assert loader.unreadable == {}


def test_no_more_pictures_are_prepared_ahead_than_are_soon_asked_for(files):
    prepared = []
    batches = iter(Loader(files(4 * room.AHEAD), lambda picture: prepared.append(None), 1))
    for taken in range(1, 2 * room.AHEAD):
        next(batches)
        assert len(prepared) <= taken + room.AHEAD
    batches.close()


def test_a_loader_of_no_samples_gives_no_batch():
    assert list(Loader([], as_is, 4)) == [] and len(Loader([], as_is, 4)) == 0


def test_the_loaders_threads_end_when_iteration_is_left(files):
    before = threading.active_count()
    for _ in Loader(files(30), as_is, 1):
        break
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 3, 64])
@pytest.mark.parametrize("n", [0, 1, 7])
def test_what_is_computed_in_shares_comes_in_order(n: int, threads: int, monkeypatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert computed(lambda a, b: a * b, range(n), [2] * n) == list(range(0, 2 * n, 2))


def test_calls_in_threads_give_their_results_in_order():
    assert in_threads(lambda a, b: a * b, range(50), [2] * 50) == list(range(0, 100, 2))
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda a: 1 // a, [1, 0])
