"""How `equicli upright` does on photos that were turned at random and compressed again.

    python -m tests.benchmarks.upright_photos RUN PHOTOS [COUNT]

RUN finds poses by 90° steps; PHOTOS is a folder of upright JPEG photos. Prints, for each certainty asked for, which
share was put right, left alone and put wrong; whether the compressed pixels stayed as they were; and whether a second
call changes anything.
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from equicli.data.decode import open_image

LEVELS = (0.5, 0.9, 0.99)


def scan(path: Path) -> bytes:
    """The compressed pixels of a JPEG, and the tables before them: all from the first quantization table on."""
    content = path.read_bytes()
    return content[content.index(b"\xff\xdb") :]


def main(run: str, photos: str, count: str = "500") -> None:
    chosen = random.Random(0).sample(sorted(Path(photos).rglob("*.[Jj][Pp]*[Gg]")), int(count))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "turned").mkdir()
        turns = {}
        for number, path in enumerate(chosen):
            target = folder / "turned" / f"{number:04}.jpg"
            turns[target.name] = random.Random(number).randrange(4)
            turned = open_image(path).rotate(90 * turns[target.name], expand=True)
            turned.save(target, quality=75)
        for level in LEVELS:
            out, again = folder / f"out-{level}", folder / f"again-{level}"
            for source, target in ((folder / "turned", out), (out, again)):
                command = ["upright", run, str(source), "--output", str(target), "--sure", str(level), "--quiet"]
                subprocess.run([sys.executable, "-m", "equicli", *command], check=True, capture_output=True)
            rows = [json.loads(line) for line in (out / "upright.jsonl").read_text().splitlines()]
            right = wrong = alone = 0
            for row in rows:
                turn = turns[Path(row["path"]).name]
                if row["done"].startswith("left"):
                    alone += 1
                else:
                    right += row["pose"] == f"r{90 * turn}"
                    wrong += row["pose"] != f"r{90 * turn}"
            names = sorted(turns)
            same = sum(scan(folder / "turned" / n) == scan(out / n) for n in names)
            stayed = sum((out / n).read_bytes() == (again / n).read_bytes() for n in names)
            n = len(rows)
            print(
                f"--sure {level}: right {right / n:.1%}, left alone {alone / n:.1%}, wrong {wrong / n:.1%}; "
                f"compressed pixels as before {same}/{n}; unchanged by a second call {stayed}/{n}",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
