"""A logging handler whose records end up on the SMOK server."""

from __future__ import annotations

import base64
import copy
import gzip
import itertools
import json
import logging
import threading
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smok_fast.client import SMOKDevice

__all__ = ["SMOKLogHandler"]

#: A message longer than this, in characters, is compressed if that makes it shorter.
COMPRESS_FROM = 1000

#: Longer texts are cut, in characters: a record has to fit in one call with room to spare.
MAX_TEXT = 100_000

#: How many frames of a traceback are sent, innermost first.
MAX_FRAMES = 100

#: For how many seconds :meth:`SMOKLogHandler.close` waits for the last records to be sent.
CLOSE_TIMEOUT = 5.0


class SMOKLogHandler(logging.Handler):
    """Hands records over to the device's LogPublisherThread. Never blocks, needs no link.

    What is logged by that thread itself is left out: sending a record must not make another one.

    :param device: the device
    :param service_name: name of the service that the records come from
    """

    def __init__(self, device: SMOKDevice, service_name: str) -> None:
        super().__init__()
        self.device = device
        self.service_name = service_name

    def handle(self, record: logging.LogRecord) -> bool:
        """Handle a record, unless the publishing thread made it. Called by the thread that logs.

        That thread is turned away before the handler's lock is taken, so that it never waits for
        a :meth:`close` that waits for it.
        """
        publisher = self.device.log_publisher.ident
        if publisher is not None and publisher in (record.thread, threading.get_ident()):
            return False
        return super().handle(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record. Called by the thread that logs."""
        try:
            self.device.log_publisher.put(self.record_to_json(record))
        except RecursionError:  # as the handlers of the standard library do (bpo-36272)
            raise
        except Exception:
            self.handleError(record)

    def record_to_json(self, record: logging.LogRecord) -> dict[str, Any]:
        """A record as the server wants it. Its timestamp is higher than those given before.

        Variables are left out of the traceback: they may hold secrets.
        """
        dct: dict[str, Any] = {
            "service": self.service_name,
            "when": self.device.log_publisher.timestamp(record.created),
            "message": _compressed(_clean(self._message(record))),
            "level": record.levelno,
        }
        exception = record.exc_info[1] if record.exc_info else None
        if exception is not None:
            formatted = _clean("".join(traceback.format_exception(exception)))
            details = {
                "frames": _frames(exception.__traceback__),
                "formatted_traceback": formatted,
            }
            dct["exception_text"] = formatted
            dct["exception_traceback"] = _gzip64(json.dumps(details).encode())
        return dct

    def prune_the_queue(self) -> None:
        """Drop all records that wait to be sent, when memory runs out. The server is told how many.

        For user threads.
        """
        self.device.log_publisher.prune()

    def close(self) -> None:
        """Wait up to 5 seconds until the records are sent, if there is a link.

        Called by :func:`logging.shutdown` when the program ends, so its last words are not lost.
        """
        super().close()
        self.device.log_publisher.flush(CLOSE_TIMEOUT)

    def _message(self, record: logging.LogRecord) -> str:
        plain = copy.copy(record)
        plain.exc_info = plain.exc_text = None  # sent on its own
        try:
            return self.format(plain)
        except Exception:
            return _unformatted(record)


def _unformatted(record: logging.LogRecord) -> str:
    """What can be said of a record whose arguments do not fit its message."""
    try:
        return f"{record.msg} {record.args!r}"
    except Exception:
        return f"unprintable record of {record.name}, {record.pathname}:{record.lineno}"


def _clean(text: str) -> str:
    """A text that can be sent: not too long, and without lone surrogates."""
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}… ({len(text)} characters in all)"
    return text.encode("utf-8", "backslashreplace").decode()


def _compressed(message: str) -> str | dict[str, str]:
    if len(message) <= COMPRESS_FROM:
        return message
    encoded = message.encode()
    content = _gzip64(encoded)
    if len(content) >= len(encoded):
        return message
    return {"encoding": "base64-gzip", "content": content}


def _gzip64(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, mtime=0)).decode("ascii")


def _frames(tb: TracebackType | None) -> list[dict[str, Any]]:
    """Frames from the one that raised to the thread's outermost, in the server's format."""
    raised = list(traceback.walk_tb(tb))[::-1]
    callers = traceback.walk_stack(raised[-1][0].f_back) if raised else iter(())
    return [
        {
            "name": frame.f_code.co_name,
            "filename": frame.f_code.co_filename,
            "line_no": line,
            "locals": {},
            "globals": {},
        }
        for frame, line in itertools.islice(itertools.chain(raised, callers), MAX_FRAMES)
    ]
