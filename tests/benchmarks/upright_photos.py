"""How `equicli upright` does on photos that were turned at random and compressed again.

    python -m tests.benchmarks.upright_photos RUN PHOTOS [COUNT]

RUN finds poses by 90° steps; PHOTOS is a folder of upright JPEG photos. Prints, for each certainty asked for, which
share was put right, left alone and put wrong; how sure it was of those that it put somewhere; whether the compressed
pixels stayed as they were; and whether a second call changes anything. Then the same of `--method pixels`.
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import turbojpeg

from equicli.data.decode import open_image
from equicli.data.orientation import D4
from equicli.groups.labels import read_label
from equicli.serving.blocks import move_blocks
from equicli.serving.upright import REENCODED, TURNED
from equicli.tasks.calibration import calibration_error

LEVELS = (0.5, 0.9, 0.99)


def scan(content: bytes) -> bytes:
    """The compressed pixels of a JPEG, and the tables before them: all from the first quantization table on."""
    return content[content.index(b"\xff\xdb") :]


def coefficients(content: bytes) -> bytes:
    return scan(turbojpeg.transform(content, copynone=True))


def upright(run: str, source: Path, target: Path, *options: str) -> list[dict[str, Any]]:
    command = ["upright", run, str(source), "--output", str(target), *options, "--quiet"]
    subprocess.run([sys.executable, "-m", "equicli", *command], check=True, capture_output=True)
    return [json.loads(line) for line in (target / "upright.jsonl").read_text().splitlines()]


def name(row: dict[str, Any]) -> str:
    return Path(row["path"]).name


def tell(rows: list[dict[str, Any]], turns: dict[str, int], level: float) -> str:
    put = [row for row in rows if not row["done"].startswith("left")]
    right = sum(row["pose"] == f"r{90 * turns[name(row)]}" for row in put)
    n, sure = len(rows), sum(row["sure"] for row in put) / max(1, len(put))
    shares = f"right {right / n:.1%}, left alone {1 - len(put) / n:.1%}, wrong {(len(put) - right) / n:.1%}"
    return f"--sure {level}: {shares}; of those put {right / max(1, len(put)):.1%} right, said {sure:.1%}"


def same(before: Path, after: Path, turns: dict[str, int]) -> str:
    """Whether files stayed as they were, byte for byte."""
    count = sum((before / n).read_bytes() == (after / n).read_bytes() for n in turns)
    return f"unchanged by a second call {count}/{len(turns)}"


def by_pixels(run: str, turned: Path, folder: Path, turns: dict[str, int]) -> str:
    out, again = folder / "pixels", folder / "pixels-again"
    rows = upright(run, turned, out, "--method", "pixels", "--sure", "0.9")
    upright(run, out, again, "--method", "pixels", "--sure", "0.9")
    moved = [row for row in rows if row["done"] == TURNED]
    alike = 0
    for row in moved:
        pose = read_label(D4, row["pose"])
        back = move_blocks((out / name(row)).read_bytes(), pose, progressive=False)
        alike += coefficients(back) == coefficients((turned / name(row)).read_bytes())
    encoded = sum(row["done"] == REENCODED for row in rows)
    return (
        f"--method pixels: {len(moved)} turned without loss, the same coefficients when turned back {alike}/"
        f"{len(moved)}; {encoded} encoded again; {same(out, again, turns)}"
    )


def main(run: str, photos: str, count: str = "500") -> None:
    every = sorted(Path(photos).rglob("*.[Jj][Pp]*[Gg]"))
    chosen = random.Random(0).sample(every, min(int(count), len(every)))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        turned = folder / "turned"
        turned.mkdir()
        turns = {}
        for number, path in enumerate(chosen):
            target = turned / f"{number:04}.jpg"
            turns[target.name] = random.Random(number).randrange(4)
            picture = open_image(path).rotate(90 * turns[target.name], expand=True)
            picture.save(target, quality=75)
        for level in LEVELS:
            out, again = folder / f"out-{level}", folder / f"again-{level}"
            rows = upright(run, turned, out, "--sure", str(level))
            upright(run, out, again, "--sure", str(level))
            stayed = sum(scan((turned / n).read_bytes()) == scan((out / n).read_bytes()) for n in turns)
            print(f"{tell(rows, turns, level)}; compressed pixels as before {stayed}/{len(turns)}; ", end="")
            print(same(out, again, turns), flush=True)
        right = torch.tensor([row["pose"] == f"r{90 * turns[name(row)]}" for row in rows])
        ece = calibration_error(torch.tensor([row["sure"] for row in rows]), right)
        print(f"poses right {right.double().mean():.1%}, calibration error {ece:.1%}", flush=True)
        print(by_pixels(run, turned, folder, turns))


if __name__ == "__main__":
    main(*sys.argv[1:])
