"""How fast `equicli predict` goes through many small files, beside decoding and the model alone; and its memory.

    python -m tests.benchmarks.predict_files RUN PICTURES [COUNT]

Copies of PICTURES are made until there are COUNT files. Decoding alone, the model alone and what `predict` does, output
included, are run in this order; all use every core. The first line tells their rates, and how near the last is to what
the others give in turns, of which 0.85 is wanted. Then the peak memory for a tenth of the files and for all; and a call
that is killed ten times at random and gone on with, and two processes by --shard, are compared with the whole.
"""

import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from equicli.cli.inputs import find_named

BATCH, WANTED = 32, 0.85


def peak(run: str, folder: Path, output: Path, *options: str) -> int:
    """Kilobytes that a call, without its decoding processes, held at most."""
    code = (
        "import resource, sys; from equicli.cli import main\n"
        "try: main()\n"
        "except SystemExit as end:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=open(sys.argv[-1] + '.peak', 'w')); raise"
    )
    command = ["predict", run, str(folder), *options, "--quiet", "--overwrite", "--output", str(output)]
    subprocess.run([sys.executable, "-c", code, *command], check=True, stdout=subprocess.DEVNULL)
    return int(Path(f"{output}.peak").read_text())


def timed(run: str, paths: list[str], output: Path) -> tuple[float, float, float]:
    """Seconds of decoding alone, of the model alone, and of both together, with what is written."""
    file, _ = find_named([run, *paths])  # before torch is imported, as of the command
    import torch

    from equicli import artifact
    from equicli.data.decode import Decoder
    from equicli.prediction.checkpoint_files import sha256_of
    from equicli.progress import Silent
    from equicli.serving.decoding import decode
    from equicli.serving.predict import Served, predict_files

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    served = Served.of(artifact.load(file), artifact.read_config(file), sha256_of(file), 1 << 30, "fp32")
    cores = len(os.sched_getaffinity(0))
    batches = range(-(-len(paths) // BATCH))

    def decoded():
        return decode(paths, batches, BATCH, Decoder(), workers=cores, strict=False)

    next(iter(decoded()))  # the process that others are forked from is there now
    start = time.perf_counter()
    for _ in decoded():
        pass
    first = time.perf_counter()
    some = list(itertools.islice(decoded(), 20))
    served.rows(some[0])
    second = time.perf_counter()
    for batch in some:
        served.rows(batch)
    third = time.perf_counter()
    options = {"shard": None, "resume": False, "overwrite": False, "strict": False, "progress": Silent()}
    predict_files(served, paths, output, batch_size=BATCH, workers=cores, **options)
    return first - start, (third - second) * len(batches) / len(some), time.perf_counter() - third


def killed(run: str, folder: Path, output: Path, times: int, seconds: float) -> int:
    """Run a call, kill it so often at random, go on with it; returns how often it was killed while at work."""
    command = [
        sys.executable,
        "-m",
        "equicli",
        "predict",
        run,
        str(folder),
        "--output",
        str(output),
        "--resume",
        "--quiet",
    ]
    count, generator = 0, random.Random(0)
    while not output.exists():
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            process.wait(None if count == times else generator.uniform(0.3, 1) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            count += 1
    return count


def main(run: str, pictures: str, count: str = "20000") -> None:
    total = int(count)
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        sources = sorted(path for path in Path(pictures).rglob("*") if path.is_file())
        for number in range(total):
            part = here / "all" / f"{number % 10}"
            part.mkdir(parents=True, exist_ok=True)
            shutil.copy(sources[number % len(sources)], part / f"{number:06}{sources[number % len(sources)].suffix}")
        paths = sorted(map(str, (here / "all").rglob("*.*")))
        decoding, model, both = timed(run, paths, here / "timed.jsonl")
        rates = f"decoding {total / decoding:.0f}/s, model {total / model:.0f}/s, predict {total / both:.0f}/s"
        share = (decoding + model) / both
        print(f"{rates}; predict ÷ (1 ÷ (1 ÷ decoding + 1 ÷ model)) = {share:.2f} (wanted: {WANTED})", flush=True)
        tenth = peak(run, here / "all" / "0", here / "tenth.jsonl")
        start = time.perf_counter()
        whole = peak(run, here / "all", here / "whole.jsonl")
        seconds = time.perf_counter() - start
        print(
            f"peak memory: {tenth / 1024:.0f} MB for {total // 10} files, {whole / 1024:.0f} MB for {total}", flush=True
        )
        kills = killed(run, here / "all", here / "killed.jsonl", 10, seconds / 8)
        same = (here / "killed.jsonl").read_bytes() == (here / "whole.jsonl").read_bytes()
        print(f"killed {kills} times and gone on with: the same output: {same}", flush=True)
        base = [sys.executable, "-m", "equicli"]
        command = [*base, "predict", run, str(here / "all"), "--output", str(here / "shards.jsonl"), "--quiet"]
        running = [subprocess.Popen([*command, "--shard", f"{i}/2"], stdout=subprocess.DEVNULL) for i in (1, 2)]
        assert [process.wait() for process in running] == [0, 0]
        subprocess.run([*base, "join", str(here / "shards.jsonl"), "--quiet"], check=True, stdout=subprocess.DEVNULL)
        same = (here / "shards.jsonl").read_bytes() == (here / "whole.jsonl").read_bytes()
        print(f"two processes by --shard, joined: the same output: {same}")


if __name__ == "__main__":
    main(*sys.argv[1:])
