# SPDX-License-Identifier: Apache-2.0
"""With the image's own Python, a browser that leaves does not end the connections of others."""

from __future__ import annotations

import base64
import json

import pytest

from image.built_image import BuiltImage
from public_pki import issue

pytestmark = pytest.mark.image

#: Runs in the image: a peer leaves, then another connection is read that has nothing to read.
PROGRAM = """
import base64, json, os, socket, ssl, sys, tempfile
sys.path.insert(0, sys.argv[1])
from systemvm.service.openssl_errors import clear_openssl_errors, send_close_notify

server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
server.num_tickets, client.check_hostname, client.verify_mode = 0, False, ssl.CERT_NONE
with tempfile.NamedTemporaryFile() as file:
    file.write(base64.b64decode(sys.argv[2]))
    file.flush()
    server.load_cert_chain(file.name)

def connect():
    near, far = socket.socketpair()
    ends = [client.wrap_socket(near, do_handshake_on_connect=False),
            server.wrap_socket(far, server_side=True, do_handshake_on_connect=False)]
    waiting = list(ends)
    for end in ends:
        end.setblocking(False)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    return ends

def left():
    ours, theirs = connect()
    os.close(theirs.detach())
    return ours

def outcome(operation, *arguments):
    try:
        operation(*arguments)
    except OSError as error:
        return type(error).__name__

other, silent = connect()
found = [outcome(left().send, b"x")]
clear_openssl_errors()
found.append(outcome(other.recv, 1))
send_close_notify(left())
found.append(outcome(other.recv, 1))
print(json.dumps(found))
"""


def test_a_peer_that_leaves_does_not_end_other_connections(image: BuiltImage) -> None:
    server = issue("server", None, ["a.example"])
    pem = base64.b64encode((server.pem + server.key_pem).encode()).decode()
    lib = "/" + str(image.lib.relative_to(image.root))
    run = image.host.run("python3 -c %s %s %s", PROGRAM, lib, pem)
    assert run.rc == 0, run.stderr
    assert json.loads(run.stdout) == ["BrokenPipeError", "SSLWantReadError", "SSLWantReadError"]
