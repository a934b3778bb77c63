# SPDX-License-Identifier: Apache-2.0
"""Every way to name a forbidden address, by every way that a source is found; run in a network namespace.

A packet to a forbidden address is counted where it leaves (nftables), whoever sends it. Results are one JSON
object on standard output.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import trustme
from attrs import evolve, frozen
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred

from integration.ssvm_lab.ssrf_server import PublicServer
from integration.ssvm_lab.ssrf_spellings import ADDRESSES, spellings
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.address_policy import AddressPolicy
from systemvm.ssvm.fetch.redirects import HopObserver
from systemvm.ssvm.fetch.source import SourcePolicy
from systemvm.ssvm.fetch.source_finder import SourceFinder
from systemvm.ssvm.limits import TransferLimits
from systemvm.wire.denied_networks import RESERVED
from systemvm.wire.source_access import SourceAccess, SourceProxy
from systemvm.wire.storage import DownloadRequest, ImageFormat, Store

reactor: Any = installed
PUBLIC, PUBLIC6, NAME = "203.0.113.10", "2001:db8::10", "public.example.test"
ZONE = ("10.11.0.0/24", "10.12.0.0/24", "203.0.113.100/32")
LIMITS = TransferLimits(connect_timeout_s=2.0, headers_timeout_s=5.0, lookup_timeout_s=5.0)
PROXY = SourceProxy(PUBLIC)
NAMED_MIRROR = "named mirror"


@frozen
class Case:
    way: str
    spelling: str
    url: str
    checksum: str | None = None
    access: SourceAccess = SourceAccess()  # noqa: RUF009 - it is frozen


class Names:
    """The resolver: a name's answers in turn, the last one for ever; numbers go to the real one."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {NAME: [[PUBLIC]]}
        self._real = socket.getaddrinfo

    def getaddrinfo(self, host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        answers = self.answers.get(str(host))
        if answers is None:
            more["flags"] = socket.AI_NUMERICHOST
            return self._real(host, port, *rest[:3], **more)
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in found
        ]


def cases() -> Iterator[Case]:
    """Yield the table, but for names that change their address."""
    for host in spellings():
        url, tls = f"http://{host}/x", f"https://{host}/x"
        yield Case("url", host, url)
        yield Case("https url", host, tls)
        yield Case("redirect", host, f"http://{PUBLIC}/to/{quote(url)}")
        yield Case("second redirect", host, f"http://{PUBLIC}/twice/{quote(tls)}")
        yield Case("mirror", host, f"http://{PUBLIC}/links/{quote(url, safe='')}.meta4")
        linked = f"http://{PUBLIC}/linked/{quote(url, safe='')}"
        yield Case(NAMED_MIRROR, host, linked, checksum="0" * 64)
        yield Case("metalink redirect", host, f"http://{PUBLIC}/to/{quote(url, safe='')}.metalink")
        yield Case("checksum file", host, f"http://{PUBLIC}/file", checksum=url)
        yield Case(
            "checksum redirect", host, f"http://{PUBLIC}/file", checksum=f"http://{PUBLIC}/to/{quote(url)}"
        )
        signed = SourceAccess(signature_url=url, trusted_keys="x")
        yield Case(
            "signature", host, f"http://{PUBLIC}/file", checksum=f"http://{PUBLIC}/file", access=signed
        )
        yield Case("registry", host, f"oci://{host}/a:1")
        hexadecimal = tls.encode().hex()
        yield Case("blob redirect", host, f"oci://{NAME}/blob/{hexadecimal}:1")
        yield Case("token", host, f"oci://{NAME}/realm/{hexadecimal}:1")
        yield Case("proxied", host, url, access=SourceAccess(proxy=PROXY))
    for address in ADDRESSES:
        # one in the zone's own networks is the operator's word, and so it is no case
        if not any(ip_address(address) in network for network in map(ip_network, ZONE)):
            access = SourceAccess(proxy=SourceProxy(address, 80))
            yield Case("proxy", address, f"http://{PUBLIC}/file", access=access)


def names(resolver: Names) -> Iterator[Case]:
    """Yield names with a forbidden address, alone and among others, behind each way that resolves one."""
    for number, address in enumerate(ADDRESSES):
        for kind, answer in (("only", [address]), ("mixed", [PUBLIC, address]), ("first", [address, PUBLIC])):
            name = f"{kind}{number}.example.test"
            resolver.answers[name] = [answer]
            url = f"http://{name}/x"
            yield Case(f"name, {kind}", address, url)
            yield Case(f"redirect to name, {kind}", address, f"http://{PUBLIC}/to/{quote(url)}")
            yield Case(
                f"mirror by name, {kind}", address, f"http://{PUBLIC}/links/{quote(url, safe='')}.meta4"
            )
            yield Case(f"proxied name, {kind}", address, url, access=SourceAccess(proxy=PROXY))
            access = SourceAccess(proxy=SourceProxy(name, 80))
            yield Case(f"proxy by name, {kind}", address, f"http://{PUBLIC}/file", access=access)


def finder(case: Case, ca_pem: str) -> SourceFinder:
    store = Store("10.12.0.2", "/export")
    request = DownloadRequest(
        "job", "r", 1, 2, "u", "d", case.url, ImageFormat.RAW, store, 1 << 30,
        checksum=case.checksum, source_ca_pem=ca_pem, access=case.access,
    )  # fmt: skip
    policy = SourcePolicy(
        AddressPolicy.of_zone((each, "the zone") for each in ZONE), ca_pem, True, case.access
    )
    return SourceFinder(reactor, request, policy, LIMITS, HopObserver())


async def outcome_of(case: Case, ca_pem: str) -> str:
    try:
        found = finder(case, ca_pem)
        source = await found.find()
        if case.way == NAMED_MIRROR:  # the second one that is asked
            found.note(TransferError.from_parts("connection_lost", "broke off"))
            source = await found.find()
            return "pinned" if source.url.host == PUBLIC else "found"
    except TransferError as error:
        return error.code.value
    return "found"


async def rebinding(resolver: Names, ca_pem: str) -> Iterator[tuple[Case, str]]:
    """Turn a name: further connections stay at the address that was checked, and a retry is refused."""
    results = []
    for number, address in enumerate(ADDRESSES):
        name = f"turns{number}.example.test"
        resolver.answers[name] = [[PUBLIC], [address]]
        case = Case("rebinding", address, f"http://{name}/file")
        found = finder(case, ca_pem)
        source = await found.find()
        peers = set()
        for _ in range(3):  # further ranges of the same source
            with await source.connect(reactor, LIMITS) as connection:
                peers.add(connection.getpeername()[0])
        results.append((evolve(case, way="further range"), "pinned" if peers == {PUBLIC} else f"{peers}"))
        found.note(TransferError.from_parts("connection_lost", "broke off"))
        try:
            await found.find()
            results.append((evolve(case, way="retry"), "found"))
        except TransferError as error:
            results.append((evolve(case, way="retry"), error.code.value))
    return iter(results)


def run(*command: str, text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return done.stdout


def set_up() -> None:
    """Give every address a route, so that a packet to it would be sent, and count those."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "out0", "type", "veth", "peer", "name", "out1")
    for device in ("out0", "out1"):
        run("ip", "link", "set", device, "up")
    run("ip", "addr", "add", "198.51.100.1/24", "dev", "out0")
    run("ip", "route", "add", "default", "dev", "out0")
    run("ip", "-6", "addr", "add", "2001:db8:1::1/64", "dev", "out0", "nodad")
    run("ip", "-6", "route", "add", "default", "dev", "out0")
    for address in (PUBLIC, "203.0.113.100"):
        run("ip", "addr", "add", f"{address}/32", "dev", "lo")
    run("ip", "-6", "addr", "add", f"{PUBLIC6}/128", "dev", "lo", "nodad")
    denied = [*(network for network, _ in RESERVED), *map(ip_network, ZONE), ip_network("64:ff9b::/96")]
    four, six = (
        ", ".join(str(each) for each in denied if each.version == version and each.prefixlen)
        for version in (4, 6)
    )
    rules = f"""table inet trap {{
        set four {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {four} }} }}
        set six {{ type ipv6_addr; flags interval; auto-merge; elements = {{ {six} }} }}
        counter hits {{ }}
        chain output {{ type filter hook output priority 0;
            meta l4proto tcp ip daddr @four counter name hits drop
            meta l4proto tcp ip6 daddr @six counter name hits drop
        }}
    }}"""
    run("nft", "-f", "-", text=rules)


def hits() -> int:
    found = json.loads(run("nft", "-j", "reset", "counter", "inet", "trap", "hits"))
    packets: int = found["nftables"][1]["counter"]["packets"]
    return packets


def control() -> dict[str, int]:
    """Connect to each address without any policy: the trap must see it."""
    seen = {}
    for address in ADDRESSES:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect_ex((address, 80))
        seen[address] = hits()
    return seen


async def work(done: Callable[[dict[str, Any]], None]) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert(NAME, PUBLIC)
    ca_pem = authority.cert_pem.bytes().decode()
    resolver = Names()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "server.pem"
        certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
        server = PublicServer([PUBLIC, PUBLIC6], str(path))
    controlled = control()
    packets: dict[str, int] = {}
    socket.getaddrinfo = resolver.getaddrinfo
    results = []
    table = sorted((*cases(), *names(resolver)), key=lambda case: case.way)
    for way, group in groupby(table, key=lambda case: case.way):
        for case in group:
            results.append([way, case.spelling, await outcome_of(case, ca_pem)])
        packets[way] = hits()
    results += [[case.way, case.spelling, outcome] for case, outcome in await rebinding(resolver, ca_pem)]
    packets["rebinding"] = hits()
    good = [
        await outcome_of(Case("good", NAME, url), ca_pem)
        for url in (f"http://{NAME}/file", f"https://{NAME}/file", f"http://[{PUBLIC6}]/file",
                    f"http://{NAME}/to/{quote(f'http://{PUBLIC}/file')}")
    ]  # fmt: skip
    done(
        {"control": controlled, "good": good, "tunnels": server.seen, "results": results, "packets": packets}
    )


def main() -> int:
    set_up()

    def done(found: dict[str, Any]) -> None:
        json.dump(found, sys.stdout)

    def begin() -> None:
        working = Deferred.fromCoroutine(work(done))
        working.addErrback(lambda failure: sys.stderr.write(failure.getTraceback()))
        working.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
