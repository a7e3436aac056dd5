"""Clients for `serve.py`: threads with a connection each, as thin as they can be.

    python benchmarks/serve_clients.py HOST PORT IMAGE N IMAGES_A_REQUEST CONNECTIONS RATE

N images, so many a request; RATE of them a second at fixed times (a latency then counts from when the request was due),
or 0 for as fast as it goes. Prints images a second, latencies in ms, and the clients' share of the processors.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import threading
import time
from pathlib import Path


def main(host: str, port: str, path: str, n: str, images: str, connections: str, rate: str) -> None:
    content = request(Path(path).read_bytes(), int(images))
    n_requests = int(n) // int(images)
    latencies: list[float] = []
    began = time.perf_counter()
    cpu = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])

    def run(first: int) -> None:
        with socket.create_connection((host, int(port))) as connection:
            for i in range(first, n_requests, int(connections)):
                due = began + i * int(images) / float(rate) if float(rate) else time.perf_counter()
                time.sleep(max(0.0, due - time.perf_counter()))
                connection.sendall(content)
                answer = read(connection)
                assert answer.startswith(b"HTTP/1.1 200"), answer
                latencies.append(time.perf_counter() - due)

    threads = [threading.Thread(target=run, args=(first,)) for first in range(int(connections))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    share = (sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - cpu) / seconds / (os.cpu_count() or 1)
    assert len(latencies) == n_requests
    latencies.sort()
    p50, p99 = (1000 * latencies[int(q * (n_requests - 1))] for q in (0.5, 0.99))
    print(f"rate={n_requests * int(images) / seconds} p50={p50} p99={p99} client={share}")


def request(image: bytes, images: int) -> bytes:
    """One image as it is, or several as a form."""
    kind, body = "image/jpeg", image
    if images > 1:
        kind = "multipart/form-data; boundary=limit"
        part = b'--limit\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n' + image + b"\r\n"
        body = part * images + b"--limit--\r\n"
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def read(connection: socket.socket) -> bytes:
    """One answer, to its end."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65_536)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65_536)
    return head + body


if __name__ == "__main__":
    main(*sys.argv[1:])
