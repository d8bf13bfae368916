"""Opening a data file: what its first bytes say of its compression and encoding, and whether it is data at all."""

import codecs
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any

import fsspec
import pyarrow as pa
from fsspec.compression import compr

from presafe.errors import user_error

HEAD = 512
"""Bytes that are looked at first."""
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
}
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16's: hence first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, as Excel writes them; one says more than a setting."""
NO_DATA = {
    b"version https://git-lfs": "a Git LFS pointer: `git lfs pull` has not been run",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"%pdf-": "a PDF",
}
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError, pa.ArrowException)
"""What readers raise at a file that is cut off or not what it should be; gzip's errors are OSErrors."""


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """The file's bytes, decompressed whatever its name says. Raises UserError where it is none, or fails as it is read.

    What the block raises because of the file becomes that sentence, too.
    """
    fs, inner = fsspec.core.url_to_fs(path)
    if not fs.exists(inner):
        raise user_error(found=f"no file {path}", needed="a file of rows", change="correct its path")
    if fs.isdir(inner):
        raise user_error(found=f"the folder {path}", needed="a file of rows", change="name a file in it")
    try:
        with ExitStack() as stack:
            file: Any = stack.enter_context(fs.open(inner, "rb"))
            head = _head(file)
            if name := next((name for magic, name in COMPRESSED.items() if head.startswith(magic)), None):
                file = stack.enter_context(_decompressed(file, name, path))
                head = _head(file)
            begin = head.lstrip(codecs.BOM_UTF8 + b" \t\r\n").lower()
            if what := next((what for begins, what in NO_DATA.items() if begin.startswith(begins)), None):
                raise user_error(found=f"{path}, which is {what}", needed="the data itself", change="fetch it again")
            yield file
    except UNREADABLE as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise user_error(
            found=f"{path}, which cannot be read ({said})",
            needed="a whole file of the kind that its name says",
            change="fetch or write it again, or correct its encoding",
        ) from error


def text(file: Any, encoding: str, path: str) -> IO[str]:
    """The text of an opened file, line ends as they are. A byte order mark goes before `encoding`.

    A byte that the encoding does not have stays in its field as a lone surrogate, where whoever reads it finds it.
    """
    head = _head(file)
    by_mark = next((name for mark, name in MARKS if head.startswith(mark)), None)
    encoding = by_mark or encoding
    of_bytes = "a".encode(encoding) in (b"a", codecs.BOM_UTF8 + b"a")
    if of_bytes and b"\0" in head[:4]:
        raise user_error(
            found=f"{path}, which looks like UTF-16 without a byte order mark",
            needed=encoding,
            change="set the encoding to utf-16-le or utf-16-be",
        )
    errors = "surrogateescape" if of_bytes else "surrogatepass"
    return io.TextIOWrapper(file, encoding=encoding, errors=errors, newline="")


def _decompressed(file: Any, name: str, path: str) -> Any:
    if name not in compr:
        raise user_error(found=f"{path}, compressed with {name}", needed="gzip, bz2, xz or zip", change="unpack it")
    return compr[name](file, mode="rb")


def _head(file: Any) -> bytes:
    head: bytes = file.read(HEAD)
    file.seek(0)
    return head
