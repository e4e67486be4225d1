"""Files of a data set in a folder or in the tar archive they are published in; nothing is unpickled."""

import lzma
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from reticket.errors import DataError


@dataclass(frozen=True)
class Published:
    """How a data set of binary files is published.

    Args:
        title: of the data set, for errors.
        archive: name of the tar archive.
        files: names of all files that are read.
        pickled: names of the Python version's archive and folder, which are refused.
        pickled_file: a file of the Python version's folder.
        source: where to get the archive, an imperative sentence without a full stop.
    """

    title: str
    archive: str
    files: tuple[str, ...]
    pickled: tuple[str, ...]
    pickled_file: str
    source: str

    def holds(self, place: Path) -> bool:
        """Return whether a path is the folder, the archive, or the folder that the archive lies in."""
        if place.is_dir():
            return any((place / name).is_file() for name in (*self.files, self.archive))
        return place.is_file() and place.name.endswith((".tar.gz", ".tgz", ".tar"))

    def refuse_pickles(self, folder: Path) -> None:
        """Raise DataError when the pickled version is all that is there."""
        for seen in (folder, *(folder / name for name in self.pickled)):
            if seen.exists() and (seen.name in self.pickled or (seen / self.pickled_file).is_file()):
                raise DataError(
                    f"'{seen}' is the Python version of {self.title}, whose pickles are never loaded because they can "
                    f"run any code; {self.source}"
                )

    def read(self, place: Path, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, bytes]:
        """Return the contents of `names`, and of those of `optional` that are there, from a folder or an archive.

        Raises:
            DataError: when one of `names` is missing, or the archive is damaged or cut short.
        """
        if place.is_dir() and any((place / name).is_file() for name in names):
            missing = [name for name in names if not (place / name).is_file()]
            if missing:
                raise DataError(
                    f"'{place}' lacks {', '.join(missing)}, other files of {self.title} are there; {self.source}"
                )
            return {name: (place / name).read_bytes() for name in (*names, *optional) if (place / name).is_file()}
        archive = place / self.archive if place.is_dir() else place
        found = self._unpack(archive, (*names, *optional))
        missing = [name for name in names if name not in found]
        if missing:
            raise DataError(
                f"'{archive}' lacks {', '.join(missing)}, so it is not the binary version of {self.title}; "
                f"{self.source}"
            )
        return found

    def _unpack(self, archive: Path, names: tuple[str, ...]) -> dict[str, bytes]:
        found = {}
        try:
            with tarfile.open(archive, "r:*") as tar:
                for member in tar:
                    base = member.name.rsplit("/", 1)[-1]
                    if base in names and (stream := tar.extractfile(member)) is not None:
                        found[base] = stream.read()
        except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as reason:
            raise DataError(f"'{archive}' cannot be read ({reason}); fetch {self.archive} again") from reason
        return found
