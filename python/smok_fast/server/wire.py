"""Bodies: MiniJSON and JSON in; JSON out, or MiniJSON for who asks for it.

Nothing here knows the API.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, create_form_parser
from starlette.responses import Response

from smok_fast import minijson
from smok_fast.server.checks import ApiError

__all__ = ["JSON", "MINIJSON", "Body", "refusal", "response"]

JSON = "application/json"
MINIJSON = "application/minijson"


@dataclasses.dataclass(frozen=True, slots=True)
class Body:
    """The body of a request, decoded when asked for: in a worker thread, not in the event loop."""

    content: bytes
    content_type: str

    def decode(self) -> Any:
        """The value in a MiniJSON or JSON body.

        :raises ApiError: 400, malformed; 415, neither MiniJSON nor JSON
        """
        kind = self.content_type.partition(";")[0].strip().lower()
        if kind == MINIJSON:
            try:
                return minijson.loads(self.content)
            except minijson.DecodingError as error:
                raise ApiError(400, f"malformed MiniJSON: {error}") from None
        if kind != JSON:
            raise ApiError(415, f"the body must be {MINIJSON} or {JSON}, not {kind or 'untyped'}")
        try:
            return json.loads(self.content)
        except RecursionError:
            raise ApiError(400, "malformed JSON: nested too deep") from None
        except ValueError as error:
            raise ApiError(400, f"malformed JSON: {error}") from None

    def form(self) -> dict[str, bytes]:
        """The parts of a ``multipart/form-data`` body by name, whether they were sent as fields or
        as files.

        :raises ApiError: 400, malformed or no such form
        """
        parts: dict[str, bytes] = {}

        def on_field(field: Field) -> None:
            parts[(field.field_name or b"").decode(errors="replace")] = field.value or b""

        def on_file(file: File) -> None:
            file.file_object.seek(0)
            parts[(file.field_name or b"").decode(errors="replace")] = file.file_object.read()

        if not self.content_type.lower().startswith("multipart/form-data"):
            raise ApiError(415, "the body must be multipart/form-data")
        try:
            parser = create_form_parser(
                {"Content-Type": self.content_type.encode("latin-1")},
                on_field,
                on_file,
                # The whole body is in memory already, and its size was checked.
                config={"MAX_MEMORY_FILE_SIZE": len(self.content) + 1},
            )
            parser.write(self.content)
            parser.finalize()
        except FormParserError as error:
            raise ApiError(400, f"malformed multipart/form-data: {error}") from None
        return parts


def response(value: Any, accept: str, status_code: int = 200) -> Response:
    """The response that carries a value; 204 without a body for None.

    NaN and infinities, which JSON lacks, are written as Python's ``json`` writes and reads them.

    :param accept: the request's ``Accept`` header: MiniJSON when it names it, else JSON
    """
    if value is None:
        return Response(status_code=204)
    if MINIJSON in accept.lower():
        try:
            return Response(minijson.dumps(value), status_code, media_type=MINIJSON)
        except minijson.EncodingError:
            pass  # an integer too long for MiniJSON: JSON has a form for every value kept here
    return Response(json.dumps(value).encode(), status_code, media_type=JSON)


def refusal(accept: str, status_code: int, status: str) -> Response:
    """The response that tells what is wrong, as ``{"status": …}``."""
    return response({"status": status}, accept, status_code)
