# SPDX-License-Identifier: Apache-2.0
"""The servers around the cloud, each in its own namespace: web, DNS and NFS."""

from __future__ import annotations

from pathlib import Path

from systemvm.guest.check import RESOLVED_NAME
from systemvm.lab import children, namespaces
from systemvm.lab.children import ChildProcess
from systemvm.lab.plan import EXPORT_PATH, SOURCE, SOURCE_NAME, STORAGE, LabPlan
from systemvm.lab.reporting import Step
from systemvm.lab.source_ca import SourceCertificates

RPCBIND_PORT, NFS_PORT = 111, 2049
#: Of NFS 3, which Linux's servers have there, too.
MOUNTD_PORT = 20048

_NGINX = """\
daemon off;
worker_processes 1;
user root;
pid {work}/nginx.pid;
error_log {logs}/nginx.error.log info;
events {{ worker_connections 256; }}
http {{
    access_log {logs}/nginx.access.log;
    client_body_temp_path {work}; proxy_temp_path {work}; fastcgi_temp_path {work};
    uwsgi_temp_path {work}; scgi_temp_path {work};
    default_type application/octet-stream;
    types {{ }}
    sendfile on;
    server {{
        listen {address}:443 ssl;
        listen {address}:80;
        server_name {name};
        ssl_certificate {chain};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        root {pages};
        autoindex on;
        # the same files over a slow line
        location /slow/ {{ alias {pages}/; limit_rate 2m; }}
    }}
}}
"""

_GANESHA = """\
NFS_CORE_PARAM {{
    Protocols = 3, 4; NFS_Port = {port}; MNT_Port = {mountd_port};
    mount_path_pseudo = true; Enable_NLM = false; Enable_RQUOTA = false; Bind_addr = {address};
}}
NFSv4 {{ Grace_Period = 5; Lease_Lifetime = 10; Minor_Versions = 1, 2; RecoveryBackend = fs; }}
EXPORT {{
    Export_Id = 1; Path = {path}; Pseudo = {pseudo}; Access_Type = RW; Squash = No_Root_Squash;
    SecType = sys; Protocols = 3, 4; Transports = TCP; FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = EVENT; }}
"""

#: ganesha stores its state in /run and /var/lib/nfs, so it gets a private mount namespace.
#: Its clients' state, which it needs after a restart, is in a directory of the lab; so is rpcbind's socket.
_PRIVATE_RUN = """\
set -e
mount --bind "$1" /run
shift
mkdir -p /run/ganesha "$1/ganesha/v4recov" "$1/ganesha/v4old"
mount --bind "$1" /var/lib/nfs
shift
exec "$@"
"""


def start_source(plan: LabPlan, step: Step, hang_s: float | None) -> list[ChildProcess]:
    """Start a web server with TLS and a name server at 203.0.113.10 on the public network.

    Raises: LabError when one does not start.
    """
    namespace = plan.namespace_of(SOURCE)
    address = str(SOURCE.address.ip)
    work = plan.lab / "nginx"
    for directory in (work, plan.logs, plan.source_pages):
        directory.mkdir(parents=True, exist_ok=True)
    certificates = source_certificates(plan)
    configuration = work / "nginx.conf"
    configuration.write_text(
        _NGINX.format(
            work=work,
            logs=plan.logs,
            address=address,
            name=SOURCE_NAME,
            chain=certificates.chain,
            key=certificates.key,
            pages=plan.source_pages,
        )
    )
    nginx = children.start(
        "nginx", namespace, ["nginx", "-c", configuration, "-p", work], plan.logs / "nginx.log"
    )
    dnsmasq = children.start(
        "dnsmasq",
        namespace,
        [
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
            "--user=root",
            f"--listen-address={address}", "--bind-interfaces", "--log-facility=-", "--pid-file=",
            f"--address=/{SOURCE_NAME}/{address}",
            f"--host-record={RESOLVED_NAME},{address}",  # resolved by `systemvm check`
        ],
        plan.logs / "dnsmasq.log",
    )  # fmt: skip
    for server, port in ((nginx, 443), (dnsmasq, 53)):
        server.wait_until(
            f"port {port}",
            lambda port=port: namespaces.listens(namespace, address, port),  # type: ignore[misc]
            step,
            hang_s=hang_s,
        )
    return [nginx, dnsmasq]


def source_certificates(plan: LabPlan) -> SourceCertificates:
    return SourceCertificates.make(plan.lab / "source-tls", SOURCE_NAME)


def start_rpcbind(plan: LabPlan, step: Step, hang_s: float | None) -> ChildProcess:
    """Start what tells clients of NFS 3 the ports of the server; the server registers them when it starts.

    Raises: LabError when it does not start.
    """
    namespace = plan.namespace_of(STORAGE)
    address = str(STORAGE.address.ip)
    script = 'mount --bind "$1" /run && exec rpcbind -f -h "$2"'
    command: list[str | Path] = ["sh", "-c", script, "rpcbind", _run_directory(plan), address]
    rpcbind = children.start("rpcbind", namespace, command, plan.logs / "rpcbind.log")
    rpcbind.wait_until(
        f"port {RPCBIND_PORT}",
        lambda: namespaces.listens(namespace, address, RPCBIND_PORT),
        step,
        hang_s=hang_s,
    )
    return rpcbind


def _run_directory(plan: LabPlan) -> Path:
    directory = plan.lab / "nfs-run"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def start_storage(plan: LabPlan, step: Step, hang_s: float | None) -> ChildProcess:
    """Start a server of NFS 3, 4.1 and 4.2 in user space at 10.12.0.2 on the storage network.

    Raises: LabError when it does not start.
    """
    namespace = plan.namespace_of(STORAGE)
    address = str(STORAGE.address.ip)
    plan.secondary.mkdir(parents=True, exist_ok=True)
    plan.logs.mkdir(parents=True, exist_ok=True)
    configuration = plan.lab / "ganesha.conf"
    configuration.write_text(
        _GANESHA.format(
            port=NFS_PORT, mountd_port=MOUNTD_PORT, address=address, path=plan.secondary, pseudo=EXPORT_PATH
        )
    )
    log = plan.logs / "ganesha.log"
    command: list[str | Path] = [
        "sh", "-c", _PRIVATE_RUN, "ganesha", _run_directory(plan), plan.lab / "nfs-state",
        "ganesha.nfsd", "-F", "-f", configuration, "-L", log, "-p", plan.lab / "ganesha.pid",
    ]  # fmt: skip
    ganesha = children.start("ganesha", namespace, command, plan.logs / "ganesha.out")
    ganesha.wait_until(
        f"port {NFS_PORT}",
        lambda: namespaces.listens(namespace, address, NFS_PORT),
        step,
        hang_s=hang_s,
    )
    return ganesha
