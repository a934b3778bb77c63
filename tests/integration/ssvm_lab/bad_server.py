# SPDX-License-Identifier: Apache-2.0
"""A web server that misbehaves as the path requests. Run as a program in a namespace of its own.

Arguments: the file to note connections in, then ADDRESS:PORT to serve on, then ADDRESS:PORT of listeners that
no program may reach: each connection to one of those is a line in the file.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import socket
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

REQUESTS: dict[str, list[int]] = {}  # the first byte of each request, by the id in its target
SIGNED: dict[str, int] = {}
BODY = bytes(range(256)) * 4096  # 1 MiB, whole sectors


def qcow_like(size: int) -> bytes:
    return (BODY * (size // len(BODY) + 1))[:size]


class Request:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        head = b""
        while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
            head += data
        line, _, rest = head.partition(b"\r\n")
        self.target = line.split(b" ")[1].decode() if line.count(b" ") >= 2 else "/"
        self.headers = rest.decode("latin-1").lower()
        self.is_probe = "range: bytes=0-0" in self.headers
        parts = urlsplit(self.target)
        self.name = parts.path.strip("/")
        ranged = re.search(r"^range: bytes=(\d+)-", self.headers, re.MULTILINE)
        self.range_start = int(ranged[1]) if ranged else 0
        if_range = re.search(r"^if-range: (.*?)\r?$", self.headers, re.MULTILINE)
        self.if_range = if_range[1] if if_range else ""
        self.query_text = parts.query
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}

    def send(self, status: str, headers: dict[str, str], body: bytes = b"") -> None:
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self.connection.sendall("\r\n".join(lines).encode("latin-1") + body)


def ok(request: Request, body: bytes, **more: str) -> None:
    request.send("200 OK", {"Content-Length": str(len(body)), **more}, body)


def good(request: Request) -> None:
    ok(request, BODY)


def truncated(request: Request) -> None:
    request.send("200 OK", {"Content-Length": str(len(BODY))}, BODY[: len(BODY) // 2])


def reset(request: Request) -> None:
    truncated(request)
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def _breaks_off(request: Request, answer: dict[str, str], body: bytes, at: int) -> None:
    request.send("200 OK", {"Content-Length": str(len(body)), "Accept-Ranges": "bytes", **answer}, body[:at])


def _range_of(request: Request, body: bytes, answer: dict[str, str]) -> None:
    start = request.range_start
    headers = {"Content-Length": str(len(body) - start), **answer}
    headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
    request.send("206 Partial Content", headers, body[start:])


def drops(request: Request) -> None:
    """Break off every 300,000 bytes, by RST or FIN, and serve ranges; `by` names the validator."""
    wanted = request.query["id"]
    validator = {
        "etag": {"ETag": '"one"'},
        "date": {"Last-Modified": "Sat, 01 Nov 2025 10:00:00 GMT", "Date": "Sat, 28 Nov 2026 10:00:00 GMT"},
    }[request.query.get("by", "etag")]
    if request.is_probe:
        ok(request, BODY, **validator)
        return
    note_request(request, wanted)
    start = request.range_start
    if start and request.if_range not in {value.lower() for value in validator.values()}:
        ok(request, b"a range without the validator")
        return
    if start == 0:
        _breaks_off(request, validator, BODY, 300_000)
    else:
        headers = {"Content-Length": str(len(BODY) - start), **validator}
        headers["Content-Range"] = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
        request.send("206 Partial Content", headers, BODY[start : start + 300_000])
    if len(REQUESTS[wanted]) % 2:
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def drops_once(request: Request) -> None:
    """Break off once in the middle, without a validator: the download must restart."""
    if request.is_probe:
        ok(request, BODY)
        return
    note_request(request, request.query["id"])
    first = len(REQUESTS[request.query["id"]]) == 1
    ok(request, BODY) if not first else _breaks_off(request, {}, BODY, len(BODY) // 2)


def drops_and_changes(request: Request) -> None:
    """Break off, then serve another file of the same size; `how` names what shows the change."""
    other = bytes(reversed(BODY))
    if request.is_probe:
        ok(request, BODY, ETag='"one"')
        return
    requests = note_request(request, request.query["id"])
    if len(requests) == 1:
        _breaks_off(request, {"ETag": '"one"'}, BODY, len(BODY) // 2)
    elif request.range_start == 0 or request.query["how"] == "200":
        ok(request, other, ETag='"two"')
    elif request.query["how"] == "etag":
        _range_of(request, other, {"ETag": '"two"'})
    elif request.query["how"] == "range":  # another range than was requested
        headers = {"Content-Range": f"bytes 0-{len(BODY) - 1}/{len(BODY)}", "Content-Length": str(len(BODY))}
        request.send("206 Partial Content", headers, BODY)
    else:
        headers = {"Content-Range": f"bytes {request.range_start}-{len(BODY)}/{len(BODY) + 1}"}
        request.send("206 Partial Content", headers, BODY[request.range_start :] + b"x")


def drops_then_busy(request: Request) -> None:
    """Break off, reply three times with 503, then send the rest."""
    if request.is_probe:
        ok(request, BODY, ETag='"one"')
        return
    requests = note_request(request, request.query["id"])
    if len(requests) == 1:
        _breaks_off(request, {"ETag": '"one"'}, BODY, len(BODY) // 2)
    elif len(requests) <= 4:
        request.send("503 Busy", {"Content-Length": "0"})
    else:
        _range_of(request, BODY, {"ETag": '"one"'})


def trickles_then_goes_on(request: Request) -> None:
    """Send the first response far too slowly, then its rest at once."""
    if request.is_probe:
        ok(request, BODY, ETag='"one"')
    elif len(note_request(request, request.query["id"])) > 1:
        _range_of(request, BODY, {"ETag": '"one"'})
    else:
        request.send("200 OK", {"Content-Length": str(len(BODY)), "ETag": '"one"'})
        # until the connection is closed; too slowly for any scaled window
        for start in range(len(BODY)):
            request.connection.sendall(BODY[start : start + 1])
            time.sleep(0.1)  # a slow link is what this serves


def moves(request: Request) -> None:
    """Redirect to a target that differs each time, as signed URLs do: only the newest is valid."""
    SIGNED[request.query["id"]] = SIGNED.get(request.query["id"], 0) + 1
    location = f"/signed?id={request.query['id']}&n={SIGNED[request.query['id']]}"
    request.send("302 Moved", {"Location": location, "Content-Length": "0"})


def signed(request: Request) -> None:
    if int(request.query["n"]) != SIGNED[request.query["id"]]:
        request.send("403 Expired", {"Content-Length": "0"})
        return
    drops(request)


def requests_of(request: Request) -> None:
    """Send the first byte of each request for a file."""
    ok(request, ",".join(str(start) for start in REQUESTS.get(request.query["id"], [])).encode())


def note_request(request: Request, wanted: str) -> list[int]:
    REQUESTS.setdefault(wanted, []).append(request.range_start)
    return REQUESTS[wanted]


def length_too_small(request: Request) -> None:
    request.send("200 OK", {"Content-Length": str(len(BODY) - 512), "Connection": "close"}, BODY)


def changes(request: Request) -> None:
    ok(request, BODY if request.is_probe else BODY[:-512])


def no_length(request: Request) -> None:
    request.send("200 OK", {}, BODY)


def chunked(request: Request) -> None:
    request.send("200 OK", {"Transfer-Encoding": "chunked"})
    for start in range(0, len(BODY), 100_000):
        piece = BODY[start : start + 100_000]
        request.connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    request.connection.sendall(b"0\r\n\r\n")


def chunked_truncated(request: Request) -> None:
    request.send("200 OK", {"Transfer-Encoding": "chunked"}, b"10000\r\n" + BODY[:100])


def chunked_broken(request: Request) -> None:
    request.send("200 OK", {"Transfer-Encoding": "chunked"}, b"zzz\r\n" + BODY[:100])


def chunked_endless(request: Request) -> None:
    request.send("200 OK", {"Transfer-Encoding": "chunked"})
    while True:
        request.connection.sendall(b"100000\r\n" + BODY + b"\r\n")


def both_lengths(request: Request) -> None:
    ok(request, BODY, **{"Transfer-Encoding": "chunked"})


def two_lengths(request: Request) -> None:
    headers = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\nContent-Length: 512\r\n\r\n"
    request.connection.sendall(headers.encode() + BODY)


def encoded(request: Request) -> None:
    ok(request, gzip.compress(BODY, mtime=0), **{"Content-Encoding": "gzip"})


def stall(request: Request) -> None:
    request.send("200 OK", {"Content-Length": str(len(BODY))}, BODY[:4096])
    time.sleep(60)


def silent(request: Request) -> None:
    time.sleep(60)


def trickle(request: Request) -> None:
    request.send("200 OK", {"Content-Length": str(len(BODY))})
    for index in range(600):
        request.connection.sendall(BODY[index : index + 1])
        time.sleep(0.1)


def part(request: Request) -> None:
    request.send(
        "206 Partial Content", {"Content-Length": "512", "Content-Range": "bytes 0-511/1048576"}, BODY[:512]
    )


def error_page(request: Request) -> None:
    page = b"<!DOCTYPE html><html><body>Please log in</body></html>" + b" " * 1024
    ok(request, page)


def redirect_bytes(request: Request) -> None:
    """Redirect to `to` unchanged, even with bytes that RFC 9110 forbids in a Location."""
    location = unquote_to_bytes(request.query_text)
    request.connection.sendall(
        b"HTTP/1.1 302 Moved\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n"
    )


def wanted_name(request: Request) -> None:
    """Serve only the target that the raw Locations of the tests encode."""
    if request.target.endswith("/wanted_name?mit%20Leerzeichen%20%C3%BC"):
        good(request)
    else:
        request.send("404 Not Found", {"Content-Length": "0"})


def brotli(request: Request) -> None:
    ok(request, BODY, **{"Content-Encoding": "br"})


def status(request: Request) -> None:
    request.send(f"{request.query['code']} Because", {"Content-Length": "0"})


def redirect(request: Request) -> None:
    request.send(
        f"{request.query.get('code', '302')} Moved", {"Location": request.query["to"], "Content-Length": "0"}
    )


def chain(request: Request) -> None:
    left = int(request.query["n"])
    to = f"/a/chain?n={left - 1}" if left else "/good"
    # a relative hop from another directory, which RedirectAgent gets wrong
    request.send("302 Moved", {"Location": to, "Content-Length": "0"})


def loop(request: Request) -> None:
    request.send("302 Moved", {"Location": "loop", "Content-Length": "0"})


def nowhere(request: Request) -> None:
    request.send("302 Moved", {"Content-Length": "0"})


def long_location(request: Request) -> None:
    request.send("302 Moved", {"Location": "/" + "a" * 10_000, "Content-Length": "0"})


def many_headers(request: Request) -> None:
    request.connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        request.connection.sendall(b"X-Filler: " + b"a" * 1000 + b"\r\n")


def not_http(request: Request) -> None:
    request.connection.sendall(b"220 mail.example.test ESMTP\r\n" * 10)


def hang_up(request: Request) -> None:
    return


def slow(request: Request) -> None:
    """Send 1 MiB in about 10 s, steadily."""
    request.send("200 OK", {"Content-Length": str(len(BODY))})
    if request.is_probe:
        return
    for start in range(0, len(BODY), 10_000):
        request.connection.sendall(BODY[start : start + 10_000])
        time.sleep(0.1)


def huge(request: Request) -> None:
    """Send a file of 5 GiB, slowly and without an end."""
    request.send("200 OK", {"Content-Length": str(5 << 30)})
    while not request.is_probe:
        request.connection.sendall(bytes(16_384))
        time.sleep(0.1)


def turns(request: Request) -> None:
    """Serve a file to the probe and a redirect to the transfer."""
    if request.is_probe:
        good(request)
    else:
        request.send("302 Moved", {"Location": request.query["to"], "Content-Length": "0"})


def private(request: Request) -> None:
    """The file for me:secret."""
    if "\r\nauthorization: basic bwu6c2vjcmv0\r\n" in request.headers:  # in lower case
        good(request)
    else:
        request.send("401 Login", {"WWW-Authenticate": "Basic", "Content-Length": "0"})


def without_login(request: Request) -> None:
    """The file for a request that contains no login."""
    if "authorization" in request.headers:
        request.send("403 Forbidden", {"Content-Length": "0"})
    else:
        good(request)


def serves_ranges(request: Request) -> None:
    """Serves ranges with an entity tag of its own, and the whole file for any other tag in If-Range."""
    tag = {"ETag": f'"{request.query["id"]}"'}
    if request.is_probe:
        ok(request, BODY, **tag)
        return
    note_request(request, request.query["id"])
    if request.range_start and request.if_range in ("", tag["ETag"].lower()):
        _range_of(request, BODY, tag)
    else:
        ok(request, BODY, **tag)


def names_mirror(request: Request) -> None:
    """Names another server in a Link, and breaks off in the middle."""
    link = {"Link": f"<{request.query['to']}>; rel=duplicate; pri=1"}
    if request.is_probe:
        ok(request, BODY, **link)
    else:
        _breaks_off(request, link, BODY, len(BODY) // 2)


BEHAVIOURS = {
    function.__name__: function
    for function in (
        good, truncated, reset, length_too_small, changes, no_length, chunked, chunked_truncated,
        chunked_broken, chunked_endless, both_lengths, two_lengths, encoded, stall, silent, trickle, part,
        error_page, status, redirect, chain, loop, nowhere, long_location, many_headers, not_http, hang_up,
        slow, turns, drops, drops_once, drops_and_changes, drops_then_busy, trickles_then_goes_on, moves,
        signed, requests_of, redirect_bytes, wanted_name, brotli, serves_ranges, names_mirror,
        private, without_login, huge,
    )
}  # fmt: skip


def serve(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        request = Request(connection)
        behave = BEHAVIOURS.get(request.name.rpartition("/")[2])
        if behave is None:
            request.send("404 Not Found", {"Content-Length": "0"})
        else:
            behave(request)


def listener(where: str) -> socket.socket:
    address, _, port = where.rpartition(":")
    return socket.create_server((address, int(port)), backlog=64)


def note(listening: socket.socket, journal: Path) -> None:
    while True:
        connection, _ = listening.accept()
        with connection, journal.open("a") as file:
            file.write(f"{listening.getsockname()[0]}\n")


def main() -> None:
    journal = Path(sys.argv[1])
    for where in sys.argv[3:]:
        threading.Thread(target=note, args=(listener(where), journal), daemon=True).start()
    with listener(sys.argv[2]) as listening:
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
