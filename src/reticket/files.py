"""Whole files: what is no plain file is not read, and a reader sees the old file or the new one, never half of one.

What fails is one sentence, as an error of the caller's own class.
"""

import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from reticket.errors import InputError

AnyPath = str | os.PathLike[str]
LONGEST = 300  # letters of what an error says that are passed on
WRITABLE = "choose a folder that exists and is writable"  # advice where a user named the file


def oddity(path: Path) -> str:
    """Return what stands at a path in place of a plain file, nothing for a plain file or where there is none.

    >>> oddity(Path("/")), oddity(Path("/nowhere"))
    ('a folder', '')
    """
    if path.is_file() or not path.exists():
        return ""
    return "a folder" if path.is_dir() else "a pipe or a device"


def as_path(path: AnyPath, error: type[InputError] = InputError) -> Path:
    """Return a path as a `Path`.

    Args:
        path: text, or a `Path`.
        error: the class raised.

    Raises:
        InputError: of the class `error`, for anything else.
    """
    if isinstance(path, str | os.PathLike):
        return Path(path)
    raise error(f"a path is a {type(path).__name__}, but a text or a pathlib.Path was expected")


def check_plain(path: AnyPath) -> None:
    """Refuse what is there and is no plain file: a pipe would be waited for without end.

    Raises:
        OSError: when it is something else; `strerror` says what.

    >>> check_plain("/")
    Traceback (most recent call last):
    OSError: [Errno 22] it is a folder, but a plain file was expected
    """
    if odd := oddity(Path(path)):
        raise OSError(22, f"it is {odd}, but a plain file was expected")


def read_bytes(path: AnyPath) -> bytes:
    """Return the contents of a plain file.

    Raises:
        OSError: when there is none or it cannot be read.
    """
    check_plain(path)
    return Path(path).read_bytes()


def read_text(path: AnyPath, *, error: type[InputError], advice: str, what: str = "") -> str:
    """Return the text (UTF-8) of a plain file.

    Args:
        path: of the file.
        error: the class raised.
        advice: what to do when it cannot be read; the end of the sentence.
        what: what the file is, for the sentence, as "the symmetry ".

    Raises:
        InputError: of the class `error`, when it is missing, no plain file or no text.
    """
    path = as_path(path, error)
    try:
        return read_bytes(path).decode("utf-8")
    except (OSError, ValueError) as problem:
        raise error(f"{what}'{path}' cannot be read ({reason(problem)}); {advice}") from None


def write_file(
    path: AnyPath, content: bytes | str, *, error: type[InputError], advice: str, what: str = "", folders: bool = False
) -> None:
    """Write a whole file as `replace_file` does; a text in UTF-8.

    Args:
        path: of the file.
        content: all of it. What of a text is no Unicode, as bytes of a file's name, is written as it is escaped.
        error: the class raised.
        advice: what to do when it cannot be written; the end of the sentence.
        what: what the file is, for the sentence, as "the symmetry ".
        folders: whether the folder is made where there is none.

    Raises:
        InputError: of the class `error`, when it cannot be written; what was there stays as it was.
    """
    path = as_path(path, error)
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    try:
        if folders:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
    except (OSError, ValueError) as problem:
        raise error(f"{what}'{path}' cannot be written ({reason(problem)}); {advice}") from None


def put_between(page: str, begin: str, end: str, text: str) -> str:
    """Return a page with other text between two of its lines, which are called marks.

    Args:
        page: text with both marks.
        begin: the first mark.
        end: the last mark.
        text: what is to stand there, with a line break at its end.

    Raises:
        ValueError: when a mark is missing or there twice, or they stand in the other order.

    >>> put_between("a [ old ] b", "[", "]", "new")
    'a [\\nnew] b'
    """
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(end) < page.index(begin):
        raise ValueError(f"the lines '{begin}' and '{end}' are needed once each, in this order; add them")
    before, rest = page.split(begin)
    return f"{before}{begin}\n{text}{end}{rest.split(end)[1]}"


def replace_file(path: AnyPath, content: bytes, *, durable: bool = False) -> None:
    """Write beside a file and rename, so that it is either the old or the new one at every moment.

    A link stays one, and what it leads to is replaced. A pipe or a device, as `/dev/stdout`, is written into.

    Args:
        path: of the file.
        content: all of it.
        durable: wait until the disk has it, so that a power failure costs nothing either.

    Raises:
        OSError: when there is no room, no such folder, or a folder in the way; nothing half-written is left.
    """
    if oddity(Path(path)) == "a pipe or a device":
        _write_into(path, content)
        return
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{target.name[:32]}.{uuid.uuid4().hex[:12]}.part")
    try:
        write_through(beside, content, durable=durable)
        if target.is_file():
            shutil.copymode(target, beside)
        beside.replace(target)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def write_through(path: Path, content: bytes, *, durable: bool) -> None:
    """Write a new file, for a folder that is renamed when it is whole; see `replace_file` for the rest.

    Raises:
        OSError: when it cannot be written, or something is there, be it a link, which is never followed.
    """
    with path.open("xb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reason(problem: Exception) -> str:
    """Return why a file could not be read or written, in a few words.

    >>> reason(FileNotFoundError(2, "No such file or directory", "a.json")), reason(ValueError("embedded null byte"))
    ('No such file or directory', 'embedded null byte')
    """
    return getattr(problem, "strerror", None) or str(problem) or type(problem).__name__


def said(error: Exception) -> str:
    """Return the first line of what an error says, cut where it is long, or its type's name where it says nothing.

    >>> said(ValueError("one\\ntwo")), said(EOFError())
    ('one', 'EOFError')
    """
    line = reason(error).splitlines()[0]
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def _write_into(path: AnyPath, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)  # a pipe that nobody reads is an error, and not waited for
    os.set_blocking(handle, True)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
