"""How much a client may ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from topwork.errors import OptionError
from topwork.web.refusal import Refusal


@dataclass(frozen=True)
class Connections:
    """How many connections may be open, and how many seconds one may wait for its client, whatever it waits for.

    Attributes:
        most: open at once.
        head_seconds: for the head of a request, from its first byte, or from the start of the connection.
        body_seconds: the longest pause in a body. It must also come at `protocol.SLOWEST` bytes a second on average.
        body_at_most_seconds: for a whole body, however steadily it comes.
        answer_seconds: for the client to read an answer, or to close after an error.
        idle_seconds: from an answer to the next request.
    """

    most: int = 900  # below the 1,024 open files that a process usually may have; the rest is for the files it needs
    head_seconds: float = 20.0  # as Apache gives; a head comes in one piece unless the network loses packets
    body_seconds: float = 20.0  # a phone that changes its cell is silent for some seconds
    body_at_most_seconds: float = 300.0  # 32 photos of 5 MB at 4 Mbit/s; a body holds memory that others may need
    answer_seconds: float = 20.0  # most answers are a few kB, which the kernel takes at once
    idle_seconds: float = 5.0  # uvicorn's default; a client that comes back later only connects again


@dataclass(frozen=True)
class Limits:
    """What one client may ask for, and all of them together.

    Attributes:
        image_bytes: of one image as it is sent.
        image_pixels: of one image once it is decoded.
        images: in one request.
        waiting: images of all requests that wait for the classifier.
        connections: how many there may be, and how long the service waits for a client.
    """

    image_bytes: int = 20_000_000
    image_pixels: int = 50_000_000
    images: int = 32
    waiting: int = 256
    connections: Connections = field(default_factory=Connections)

    def __post_init__(self) -> None:
        if self.waiting < self.images:
            raise OptionError(
                f"Expected a queue at least as long as the largest request ({self.images} images); got {self.waiting}. "
                f"Set `waiting={self.images}` or more, or `images={self.waiting}` or fewer."
            )

    @property
    def bytes_in_memory(self) -> int:
        """Bytes that all requests in progress may hold together: as many as the largest request."""
        return self.image_bytes * self.images

    def as_dict(self) -> dict[str, int]:
        """For `/metadata`."""
        return {"image_bytes": self.image_bytes, "image_pixels": self.image_pixels, "images": self.images}


class BytesHeld:
    """How many bytes the requests in progress hold; to be used from one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """What one request calls for each number of bytes that it takes; given back at the end of the block."""
        taken = 0

        def take(n: int) -> None:
            nonlocal taken
            if self._held + n > self._most:
                raise Refusal(503, "Other requests hold all the memory there is for images. Try again.", retry_after=1)
            self._held += n
            taken += n

        try:
            yield take
        finally:
            self._held -= taken
