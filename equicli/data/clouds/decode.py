"""Opening point clouds and meshes, whatever program wrote them, by well-kept libraries: trimesh, laspy and h5py."""

import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equicli.data.decode import UnreadableImageError
from equicli.data.fingerprint import fingerprint, fingerprint_of
from equicli.errors import EquicliError, UsageError, reason

Array = NDArray[Any]
# What `predict` takes of a network of clouds: a file, or points (n, 3).
Cloud = str | Path | Array | Tensor

TEXT, ARRAYS = (".xyz", ".txt", ".pts", ".csv"), (".npy", ".npz")
MESHES, SCANS, ROWS = (".off", ".ply", ".stl", ".obj"), (".las", ".laz"), (".h5", ".hdf5")
SUFFIXES = frozenset((*TEXT, *ARRAYS, *MESHES, *SCANS))
# By what names arrays of points go in .npz files.
_NAMES = ("points", "pos", "xyz", "data", "pc", "arr_0")

logging.getLogger("trimesh").addHandler(logging.NullHandler())  # that a texture is missing concerns nobody


class UnreadableCloudError(UnreadableImageError):
    """A file that no point cloud can be read from. `reason` is one line, without the path."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(path, why)
        self.args = (f"{path}: unreadable point cloud ({why}). Mend or remove the file.",)


@dataclass(frozen=True)
class CloudDecoder:
    """How files are opened.

    samples: points that are drawn from the surface of a mesh, evenly by area, at the least 2,048. seed: of drawing.
    """

    samples: int = 1024
    seed: int = 0

    def read(self, source: Cloud) -> Tensor:
        """Return points, float64 (n, 3), in the order and the units of the file.

        Args:
            source: a file; `file.h5/12`, one row of ModelNet40's or ScanObjectNN's files; or an array (n, 3 or more),
                of which the first three columns are taken.

        Raises:
            UnreadableCloudError: the file is missing, damaged, empty, or has coordinates that are no numbers.
            UsageError: a value that is no cloud.
        """
        if isinstance(source, str | Path):
            path = Path(source)
            try:
                return torch.from_numpy(_checked(self._open(path)))
            except Exception as error:  # of any library, on any file
                if isinstance(error, ImportError):
                    why = f"{path.suffix} takes a package that is not here: pip install 'equicli[points]'"
                    raise UnreadableCloudError(path, why) from error
                raise UnreadableCloudError(path, getattr(error, "strerror", None) or reason(error)) from error
        try:
            return torch.from_numpy(_checked(np.asarray(source)))
        except (ValueError, TypeError) as error:
            raise UsageError(f"a cloud is a path or an array (n, 3): {reason(error)}.") from error

    def read_labels(self, path: Path) -> Tensor | None:
        """The part of each point of a file, int64 (n,), in the order of `read`; None where it says none.

        Of text the last of four or more columns; of .npz `label` or `pid`; of a row in an h5 file `pid`. None, too, of
        a file that cannot be read, which is told where the cloud is read.

        Raises:
            EquicliError: the labels are no whole numbers from 0 on, or the last of three columns that are normals.
        """
        try:
            found = self._labels(path)
        except (OSError, EOFError, ValueError, LookupError, BadZipFile):  # what the libraries raise on damaged files
            return None
        if found is None:
            return None
        columns = found if found.ndim == 2 and path.suffix.lower() in TEXT else None
        where = " in the last column" if columns is not None else ""
        if columns is not None:
            found = columns[:, -1]
            if columns.shape[1] >= 6 and np.allclose(np.linalg.norm(columns[:, -3:], axis=1), 1, atol=1e-3):
                raise EquicliError(
                    f"{path}: the last three columns are normals, of length 1, not labels. Put labels after them."
                )
        whole = found.dtype.kind in "biuf" and np.isfinite(found).all() and (found == np.round(found)).all()
        if not (whole and (found >= 0).all()):
            raise EquicliError(f"{path}: labels{where} are no whole numbers from 0 on. Mend or remove them.")
        return torch.from_numpy(found.reshape(-1).astype(np.int64))

    def _labels(self, path: Path) -> Array | None:
        """Labels, or of text all columns."""
        if path.parent.is_file():
            import h5py

            with h5py.File(path.parent, "r") as file:
                return np.asarray(file["pid"][int(path.name)]) if "pid" in file else None
        if path.suffix.lower() in TEXT:
            rows = _rows(path.read_bytes())
            return np.loadtxt(rows, ndmin=2) if rows and len(rows[0].split()) > 3 else None
        if path.suffix.lower() == ".npz":
            with path.open("rb") as file:
                found = np.load(file, allow_pickle=False)
                names = getattr(found, "files", ())  # none where it is a lone array by another name
                return next((np.asarray(found[name]) for name in ("label", "pid") if name in names), None)
        return None

    def read_all(self, sources: Any) -> list[Tensor]:
        """Return several clouds, or the one that is given alone; see `read`."""
        alone = isinstance(sources, str | Path) or (isinstance(sources, np.ndarray | Tensor) and sources.ndim < 3)
        return [self.read(source) for source in ([sources] if alone else sources)]

    def fingerprint(self, path: Path) -> bytes:
        """By which a file, or a row of one, is known again; see `data.fingerprint`."""
        if path.parent.is_file():
            return fingerprint_of(read_row(path.parent, int(path.name)).tobytes())
        return fingerprint(path)

    def _open(self, path: Path) -> Array:
        if path.parent.suffix.lower() in ROWS and path.parent.is_file():
            return read_row(path.parent, int(path.name))
        if path.exists() and not path.is_file():
            raise ValueError("not a regular file")  # a pipe would wait for ever
        suffix = path.suffix.lower()
        with path.open("rb") as file:
            for suffixes, read in self._readers.items():
                if suffix in suffixes:
                    return read(file.read(), suffix)
        raise ValueError(f"'{suffix}' is none of {' '.join(sorted(SUFFIXES))}")

    @property
    def _readers(self) -> dict[Sequence[str], Callable[[bytes, str], Array]]:
        return {TEXT: _read_text, ARRAYS: _read_array, MESHES: self._read_mesh, SCANS: _read_scan}

    def _read_mesh(self, data: bytes, suffix: str) -> Array:
        import trimesh

        # From memory, so that no file beside it (materials, textures) is opened.
        found: Any = trimesh.load(io.BytesIO(data), file_type=suffix[1:], process=False)
        if isinstance(found, trimesh.Scene):
            if not found.geometry:
                raise ValueError("no points and no surface in it")
            found = found.to_geometry()
        if len(getattr(found, "faces", ())):
            if not np.isfinite(found.vertices).all():
                raise ValueError("some coordinates are not a number, or infinite")
            if not found.area > 0:
                raise ValueError("a surface without area")
            points, _ = trimesh.sample.sample_surface(found, max(self.samples, 2048), seed=self.seed)
            return np.asarray(points)
        return np.asarray(found.vertices)


def _checked(points: Array) -> Array:
    """Points as float64 (n, 3).

    Raises:
        ValueError: they are none.
    """
    if points.ndim != 2 or points.shape[1] < 3:
        raise ValueError(f"shape {points.shape}, not (n, 3)")
    if not len(points):
        raise ValueError("no points in it")
    if points.dtype.kind not in "iuf":
        raise ValueError(f"{points.dtype}, not numbers")
    found = np.ascontiguousarray(points[:, :3], dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError("some coordinates are not a number, or infinite")
    # Squares of distances must be numbers, too.
    if np.abs(found).max() > 1e150:
        raise ValueError("coordinates beyond 1e150")
    return found


def _read_text(data: bytes, suffix: str) -> Array:
    """Columns that spaces, commas or semicolons separate; a heading and comments are passed over."""
    rows = _rows(data)
    return np.loadtxt(rows, usecols=(0, 1, 2), ndmin=2) if rows else np.empty((0, 3))


def _rows(data: bytes) -> list[str]:
    """The lines of a text that hold numbers, with spaces between them."""
    lines = [line.partition("#")[0].replace(",", " ").replace(";", " ") for line in data.decode("utf-8").splitlines()]
    rows = [line for line in lines if line.strip() and not line.lstrip().startswith("//")]
    # A heading of names, or the number of points, as .pts and some .xyz begin.
    if rows and (len(rows[0].split()) < 3 or not _is_number(rows[0].split()[0])):
        rows = rows[1:]
    return rows


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _read_array(data: bytes, suffix: str) -> Array:
    found = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(found, np.ndarray):
        return found
    names = [name for name in _NAMES if name in found.files] or (found.files if len(found.files) == 1 else [])
    if not names:
        raise ValueError(f"none of {', '.join(_NAMES)} in it, but {', '.join(found.files) or 'nothing'}")
    return np.asarray(found[names[0]])


def _read_scan(data: bytes, suffix: str) -> Array:
    import laspy

    scan = laspy.read(io.BytesIO(data))
    return np.stack([np.asarray(scan[axis]) for axis in "xyz"], axis=1)


def read_row(path: Path, row: int) -> Array:
    """One cloud of an h5 file."""
    import h5py

    with h5py.File(path, "r") as file:
        return np.asarray(file["data"][row])
