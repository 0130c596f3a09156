"""Turn all errors of decoding libraries into one kind of error."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from nucleate.errors import InputError, NucleateError, explain_os_error

DAMAGED = "The file is damaged, or its extension is wrong: export it again."


@contextmanager
def reading(owner: object, what: str, remedy: str = DAMAGED) -> Iterator[None]:
    """Turn any exception raised inside into one `InputError` with the file's name.

    Decoders may raise any exception on malformed bytes; all mean that the file cannot be read. The
    original exception is chained, and shown by --verbose.

    Args:
        owner: name at the start of the message.
        what: kind of file that was expected.
        remedy: last sentence of the message.

    Raises:
        InputError: any exception was raised.

    Example:
        >>> with reading("a.png", "an image"):
        ...     raise ValueError("bad header")
        Traceback (most recent call last):
        nucleate.errors.InputError: a.png: cannot be read as an image (bad header). The file is \
damaged, or its extension is wrong: export it again.
    """
    try:
        yield
    except NucleateError:
        raise
    except MemoryError as error:
        raise InputError(
            f"{owner}: not enough memory to read it as {what}. Convert it to a tiled TIFF, which "
            "is read piece by piece."
        ) from error
    except OSError as error:
        if error.errno is not None and error.filename is not None:
            raise InputError(explain_os_error(error, str(owner))) from error
        raise InputError(
            f"{owner}: cannot be read as {what} ({first_line(error)}). {remedy}"
        ) from error
    except (Exception, zlib.error) as error:
        raise InputError(
            f"{owner}: cannot be read as {what} ({first_line(error)}). {remedy}"
        ) from error


def first_line(error: BaseException) -> str:
    """Return the first line of an exception, without object addresses, at most 120 characters.

    Example:
        >>> first_line(ValueError("cannot identify <_io.BytesIO object at 0x7f>"))
        'cannot identify the file'
    """
    text = (str(error).splitlines() or [""])[0] or type(error).__name__
    return re.sub(r"<[^>]* at 0x[0-9a-f]+>|<_io\.[^>]*>", "the file", text)[:120].rstrip(".")
