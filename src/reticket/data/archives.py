"""Files of a data set in a folder or in the tar archive they are published in; nothing is unpickled."""

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from reticket.data.bounded import Bounded, check_plain, read_bytes, unpacked
from reticket.errors import DataError

BESIDE = 2**24  # bytes that an archive may hold besides the files that are read: names, a readme, padding


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

    def read(
        self, place: Path, sizes: Mapping[str, int], optional: Mapping[str, int] = MappingProxyType({})
    ) -> dict[str, bytes]:
        """Return the contents of files from a folder or an archive; an archive is read to its end and its checksum.

        A file that is longer than it should be gives one byte more than that.

        Args:
            place: the folder, the archive, or the folder that the archive lies in.
            sizes: by name, the bytes of every file that must be there.
            optional: by name, the most bytes of those that may be there.

        Raises:
            DataError: when a file is missing or no plain file, or the archive is damaged, cut short or too large.
        """
        if place.is_dir() and any((place / name).is_file() for name in sizes):
            for name in (*sizes, *optional):
                check_plain(place / name)
            missing = [name for name in sizes if not (place / name).is_file()]
            if missing:
                raise DataError(
                    f"'{place}' lacks {', '.join(missing)}, other files of {self.title} are there; {self.source}"
                )
            there = {name: most for name, most in {**sizes, **optional}.items() if (place / name).is_file()}
            return {name: self._whole(place / name, most) for name, most in there.items()}
        archive = place / self.archive if place.is_dir() else place
        found = self._unpack(archive, {**sizes, **optional})
        missing = [name for name in sizes if name not in found]
        if missing:
            raise DataError(
                f"'{archive}' lacks {', '.join(missing)}, so it is not the binary version of {self.title}; "
                f"{self.source}"
            )
        return found

    def _whole(self, path: Path, most: int) -> bytes:
        try:
            return read_bytes(path, most)
        except OSError as reason:
            raise DataError(f"'{path}' cannot be read ({reason.strerror}); {self.source}") from reason

    def _unpack(self, archive: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
        try:
            with archive.open("rb") as file, unpacked(file) as contents:
                stream = Bounded(contents, sum(sizes.values()) + BESIDE)
                with tarfile.open(fileobj=stream, mode="r|", tarinfo=ArchiveMember) as tar:  # type: ignore[arg-type]
                    found = _members(tar, sizes)
                stream.finish()
        except DataError:
            raise
        except Exception as reason:  # what tarfile raises for damage is any of a dozen types
            said = str(reason) or type(reason).__name__
            raise DataError(f"'{archive}' cannot be read ({said}); fetch {self.archive} again") from reason
        return found


class ArchiveMember(tarfile.TarInfo):
    """A member whose damaged header is an error; tarfile takes such a one for the archive's end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "ArchiveMember":  # type: ignore[override]
        """Return the next member.

        Raises:
            tarfile.ReadError: when its header is damaged, or the archive ends without its mark.
        """
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as reason:
            if type(reason).__name__ == "EOFHeaderError":  # the mark itself
                raise
            raise tarfile.ReadError(f"the header at byte {tar.offset:,} is damaged: {reason}") from None


def _members(tar: tarfile.TarFile, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Return the contents of those members that are wanted.

    Raises:
        ValueError: for a member that is no plain file, there twice, or larger than it may be.
    """
    found: dict[str, bytes] = {}
    for member in tar:
        name = member.name.rsplit("/", 1)[-1]
        most = sizes.get(name, BESIDE)
        if member.size > most:  # a size of exabytes would be skipped block by block
            raise ValueError(f"'{member.name}' declares {member.size:,} bytes, but at most {most:,} were expected")
        if name not in sizes or member.isdir():
            continue
        if not member.isreg() or member.issparse():
            raise ValueError(f"'{member.name}' is a link, a device or sparse, but a plain file was expected")
        if name in found:
            raise ValueError(f"'{name}' is there twice")
        stream = tar.extractfile(member)
        assert stream is not None, "a plain file"
        found[name] = stream.read()
        if len(found[name]) != member.size:
            raise EOFError(f"'{member.name}' ends after {len(found[name]):,} of {member.size:,} bytes")
    return found
