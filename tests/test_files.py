import errno
import os
import resource
import signal
import stat
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from equicli.errors import UsageError
from equicli.files import alone_in, append_line, write_atomically, write_tensors


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "file"


def only(path):
    """Whether nothing else lies beside the file, also nothing hidden."""
    return [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("content", ["text, ä", b"\x00\xff"])
def test_a_file_is_written_with_its_folders_and_takes_anothers_place(path, content):
    write_atomically(path, "before")
    with path.open("rb") as reader:
        write_atomically(path, content)
        assert reader.read() == b"before"  # whoever reads it still reads the whole of it
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert only(path)


class Killed(BaseException):
    pass


def killed(*_, **__):
    raise Killed


@pytest.mark.parametrize("at", ["fsync", "replace", "save_file"])
def test_a_file_appears_whole_or_not_at_all(path, monkeypatch, at):
    for before in (None, "before"):
        if before is not None:
            write_atomically(path, before)
        with monkeypatch.context() as patch:
            if at == "save_file":
                patch.setattr("safetensors.torch.save_file", killed)
            elif at == "fsync":
                patch.setattr(os, "fsync", killed)
            else:
                patch.setattr(type(path), "replace", killed)
            with pytest.raises(Killed):
                write_tensors(path, {"a": torch.ones(3)})
            if at != "save_file":
                with pytest.raises(Killed):
                    write_atomically(path, "after")
        assert list(path.parent.iterdir()) == ([] if before is None else [path])
        assert before is None or path.read_text() == before


def test_what_is_written_is_on_the_disk_before_it_takes_its_place(path, monkeypatch):
    """Else a machine that stops may leave an empty file."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append((os.fstat(file).st_size, path.exists())))
    write_atomically(path, "12345")
    path.unlink()
    write_tensors(path, {"a": torch.ones(3)})
    assert synced == [(5, False), (path.stat().st_size, False)]


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_who_may_read_a_file_is_what_the_umask_says(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "text", "text")
        write_tensors(tmp_path / "tensors", {"a": torch.ones(3)})
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()} == {0o666 & ~mask}


def test_tensors_come_back_as_they_were_with_what_is_said_of_them(path):
    shared = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "plain": torch.rand(3, 4),
        "number": torch.tensor(7),
        "half": torch.rand(3).bfloat16(),
        "empty": torch.zeros(0, 3),
        "shared": shared,
        "again": shared,
        "part": shared[1],
        "turned": shared.T,
        "strided": shared[:, ::2],
        "repeated": torch.ones(1).expand(5),
        "nhwc": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.rand(2)),
    }
    write_tensors(path, tensors, {"words": "ä"})
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor.detach()), name
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"words": "ä"}
    assert only(path)


def test_the_bytes_depend_on_the_values_alone(tmp_path):
    value = torch.rand(2, 3, 4, 5)
    for name, tensor in {"rows": value, "nhwc": value.to(memory_format=torch.channels_last), "part": value[:]}.items():
        write_tensors(tmp_path / name, {"b": tensor, "a": tensor.sum(0)})
    assert len({p.read_bytes() for p in tmp_path.iterdir()}) == 1


def test_a_folder_that_cannot_be_written_to_is_the_systems_own_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_tensors(tmp_path / "file" / "below", {"a": torch.ones(1)})


@pytest.fixture
def full_disk():
    """No file can grow beyond 10 kB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_atomically(path, "x" * 20_000),
        lambda path: write_tensors(path, {"a": torch.ones(20_000)}),
        lambda path: append_line(path, "x" * 20_000),
    ],
    ids=["text", "tensors", "line"],
)
def test_errors_of_the_system_name_the_file_and_leave_nothing(full_disk, tmp_path, write):
    with pytest.raises(OSError) as error:
        write(tmp_path / "file")
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(tmp_path / "file"))
    assert [p.name for p in tmp_path.iterdir() if p.name != "file"] == []


def test_a_line_that_was_torn_is_removed_before_the_next_is_added(path):
    path.parent.mkdir()
    append_line(path, "one")
    with path.open("a") as file:
        file.write("torn")
    append_line(path, "two")
    assert path.read_text() == "one\ntwo\n"


def test_a_new_file_takes_no_others_place(path):
    write_tensors(path, {"a": torch.ones(1)}, new=True)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        write_tensors(path, {"a": torch.zeros(1)}, new=True)
    assert path.read_bytes() == before and only(path)


def test_where_a_file_system_has_no_links_a_new_file_is_written_all_the_same(path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    write_tensors(path, {"a": torch.ones(1)}, new=True)
    assert only(path)


def test_a_folder_is_held_until_the_end_and_removed_where_it_stayed_empty(tmp_path):
    folder = tmp_path / "new" / "folder"
    with alone_in(folder):
        with pytest.raises(UsageError, match="another equicli"), alone_in(folder):
            pass
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []
    with alone_in(folder):
        (folder / "file").touch()
    with alone_in(folder):
        pass
    assert (folder / "file").is_file()
    with pytest.raises(FileExistsError), alone_in(folder, new=True):
        pass


def test_who_is_refused_does_not_remove_the_folder_that_another_has_just_made(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    exists = type(folder).exists
    with alone_in(folder):
        monkeypatch.setattr(type(folder), "exists", lambda path: path != folder and exists(path))
        with pytest.raises(UsageError, match="another equicli"), alone_in(folder):
            pass
        monkeypatch.undo()
        assert folder.is_dir()


HOLD = """
import sys, time
from pathlib import Path
from equicli.files import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_holds_nothing(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError), alone_in(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with alone_in(tmp_path):
            pass


MEASURE = """
import resource, sys, torch
from pathlib import Path
from equicli.files import write_tensors
write_tensors(Path(sys.argv[1]), {"warm": torch.ones(1)})
tensors = {f"layer {i}": torch.full((1 << 22,), float(i)) for i in range(18)}  # 16 MiB each, 288 in all
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_tensors(Path(sys.argv[1]), tensors)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux tells it")
def test_tensors_are_written_without_a_second_copy_of_them_in_memory(path):
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert path.stat().st_size > 288 << 20
    assert int(done.stdout) < 100 << 10  # KiB; a copy would be 288 MiB
