"""The images that a request brings, read while they come, within the limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from topwork.serve.limits import Limits
from topwork.web.refusal import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

RAW_NAME = "image"
"""What an image is called that comes without a name."""
_PART_HEADS = 2_000
"""Bytes of a multipart body beside its images, for each of them."""


@dataclass(frozen=True)
class SentImage:
    """One image as it was sent: its name, and its encoded bytes."""

    name: str
    content: bytes


async def read_images(request: Request, limits: Limits, take: Callable[[int], None]) -> list[SentImage]:
    """The images in a request's body, one or more.

    Args:
        request: its body is an image, or multipart with an image in every part.
        limits: how much it may be.
        take: called with each number of bytes as they come; may raise.

    Raises:
        Refusal: the body is too large, of another type, malformed, or empty.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        images = await _read_multipart(request, limits, take)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        images = [SentImage(RAW_NAME, await _read_raw(request, limits, take))]
    else:
        raise Refusal(
            415,
            f"Expected Content-Type image/*, application/octet-stream or multipart/form-data; got {kind or 'none'!r}. "
            "Send the image file as it is, or several as parts of a form.",
        )
    if not images or not any(image.content for image in images):
        raise Refusal(422, "Expected an image, got an empty body. Send the bytes of an image file.")
    return images


async def _read_raw(request: Request, limits: Limits, take: Callable[[int], None]) -> bytes:
    content = bytearray()  # a list of chunks would cost forty bytes for each that comes alone
    async for chunk in _chunks(request, limits.image_bytes, _too_large(limits)):
        take(len(chunk))
        content += chunk
    return bytes(content)


async def _read_multipart(request: Request, limits: Limits, take: Callable[[int], None]) -> list[SentImage]:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    boundary = parse_options_header(request.headers["content-type"])[1].get(b"boundary")
    if not boundary:
        raise Refusal(400, "Expected a boundary in the Content-Type of a multipart body; got none.")
    form = _Form(limits)
    at_most = limits.images * (limits.image_bytes + _PART_HEADS)
    try:
        parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
        async for chunk in _chunks(request, at_most, f"At most {at_most:,} bytes are taken in one request."):
            take(len(chunk))
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise Refusal(400, f"The multipart body is malformed: {error}. Let an HTTP library write it.") from error
    if not form.is_whole:
        raise Refusal(400, "The multipart body breaks off: its last boundary is missing.")
    return form.images


async def _chunks(request: Request, at_most: int, too_large: str) -> AsyncIterator[bytes]:
    """The body as it comes."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > at_most:
        raise Refusal(413, too_large)
    n = 0
    async for chunk in request.stream():  # `protocol` ends one that comes too slowly
        n += len(chunk)
        if n > at_most:
            raise Refusal(413, too_large)
        if chunk:
            yield chunk


def _too_large(limits: Limits) -> str:
    megabytes = limits.image_bytes / 1e6
    return f"An image may have at most {megabytes:g} megabytes. Send a smaller one: whoever runs it decides."


class _Form:
    """Hears a multipart parser; every part is an image, whatever its field is called."""

    def __init__(self, limits: Limits) -> None:
        self.images: list[SentImage] = []
        self.is_whole = False
        self._limits = limits
        self._field = self._value = self._disposition = b""
        self._content = bytearray()

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        if len(self.images) == self._limits.images:
            raise Refusal(413, f"At most {self._limits.images} images are taken in one request. Send several requests.")
        self._field = self._value = self._disposition = b""
        self._content = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += self._bounded(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._bounded(data[start:end])

    def _bounded(self, more: bytes) -> bytes:
        if len(self._field) + len(self._value) + len(more) > _PART_HEADS:
            raise Refusal(413, f"A header within a multipart body may have at most {_PART_HEADS:,} bytes.")
        return more

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if len(self._content) + end - start > self._limits.image_bytes:
            raise Refusal(413, _too_large(self._limits))
        self._content += data[start:end]

    def _end(self) -> None:
        from python_multipart.multipart import parse_options_header

        options = parse_options_header(self._disposition.decode("latin-1"))[1]
        name = options.get(b"filename") or options.get(b"name") or b""
        shown = name.decode("utf-8", "replace") or f"{RAW_NAME} {len(self.images) + 1}"
        self.images.append(SentImage(shown, bytes(self._content)))

    def _finish(self) -> None:
        self.is_whole = True
