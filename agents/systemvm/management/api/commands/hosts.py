# SPDX-License-Identifier: Apache-2.0
"""addHost, updateHost, reconnectHost, deleteHost.

Hosts that no daemon drives are registered for consoles of their VMs. A host with a daemon of its own joins a
cluster, and leaves it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.zones import HostAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.commands.host_answers import answer_of_host
from systemvm.management.api.commands.template_registration import named_or_only_zone
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import Arguments, Parameter, ParameterType, only, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.foreign_hosts.access import HostAccess
from systemvm.management.foreign_hosts.definition import HostChange, HostDefinition, read_tls, read_url
from systemvm.management.foreign_hosts.hypervisors import ForeignHypervisor
from systemvm.management.foreign_hosts.service import ForeignHosts
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state import pods, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.pods import Cluster
from systemvm.management.state.zones import Host, Zone
from systemvm.management.zone_model import places
from systemvm.management.zone_model.changes import ChangeOrigin, ModelChanges
from systemvm.management.zone_model.hypervisor_profiles import profile_of

STRING, UUID, PEM = ParameterType.STRING, ParameterType.UUID, ParameterType.PEM
#: A slow host answers in parts, each within a deadline of its own.
ADD_DEADLINE_S = 180.0

_ID = required("id", UUID, "UUID of the host; see listHosts")
KVM = "KVM"
_KINDS = tuple(each.value for each in ForeignHypervisor)
_VERIFIED_BY = (
    optional("cacertificate", PEM, "CA in PEM that its certificate is verified with; required of a vCenter"),
    optional("fingerprint", STRING, "SHA-256 or SHA-1 of its certificate, instead of a CA"),
)
_ADD = (
    required(
        "hypervisor",
        STRING,
        "KVM: a host on which a management daemon runs; XenServer, also for XCP-ng, or VMware: one that is "
        "registered",
        choices=(KVM, *_KINDS),
    ),
    required(
        "url",
        STRING,
        "https://HOST of XAPI, of the pool's master or of vCenter, always HTTPS; of KVM the host's name",
    ),
    optional("username", STRING, "account that reads VMs and opens their consoles; required except of KVM"),
    optional("password", STRING, "its password, which is stored encrypted; required except of KVM"),
    optional("name", STRING, "the name; the host of the URL by default"),
    optional("zoneid", UUID, "UUID of the zone; the only zone by default"),
    optional("podid", UUID, "UUID of a pod of the zone"),
    optional("clusterid", UUID, "UUID of the cluster that it joins, which is one of its hypervisor"),
    only("allocationstate", STRING, "whether the host is used", "Enabled"),
    *_VERIFIED_BY,
)
_UPDATE = (
    _ID,
    optional("name", STRING, "the new name"),
    optional("url", STRING, "the new URL; requires username and password when it is another host"),
    optional("username", STRING, "another account"),
    optional("password", STRING, "another password"),
    only("allocationstate", STRING, "whether the host is used", "Enabled", "Enable"),
    *_VERIFIED_BY,
)


class HostCommands:
    """Handlers of these commands."""

    def __init__(self, database: Database, hosts: ForeignHosts, jobs: JobRunner, model: ModelChanges) -> None:
        self._database = database
        self._model = model
        self._hosts = hosts
        self._jobs = jobs
        jobs.register("reconnectHost", self._run_reconnect, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (
            _command(
                "addHost", self._add,
                "Registers a host for consoles of its VMs, or puts one of KVM into a cluster.",
                HostAnswer, "host", ResponseShape.LIST, _ADD, paged=False,
            ),
            _command(
                "updateHost", self._update, "Changes name, address, account or trust of a registered host.",
                HostAnswer, "host", ResponseShape.OBJECT, _UPDATE,
            ),
            _command(
                "reconnectHost", self._reconnect, "Lists the VMs of a registered host now.",
                HostAnswer, "host", ResponseShape.ASYNC, (_ID,),
            ),
            _command(
                "deleteHost", self._delete,
                "Forgets a registered host and its VMs; takes one of KVM out of its cluster.",
                SuccessAnswer, "", ResponseShape.BARE,
                (_ID, optional("forced", ParameterType.BOOLEAN, "accepted, but without effect")),
            ),
        )  # fmt: skip

    async def _add(self, call: ApiCall) -> list[HostAnswer]:
        arguments = call.arguments
        zone = await self._database.read(named_or_only_zone, arguments.text("zoneid"))
        if arguments["hypervisor"] == KVM:
            return [await self._join(call, zone)]
        for name in ("username", "password"):
            if name not in arguments:
                raise parameter_error(
                    name, f"unable to execute API command addhost due to missing parameter {name}"
                )
        cluster_id = await self._database.read(_cluster_of, arguments, zone)
        access = HostAccess(
            ForeignHypervisor(arguments["hypervisor"]),
            read_url(arguments["url"]),
            arguments["username"],
            arguments["password"],
            read_tls(arguments.text("cacertificate"), arguments.text("fingerprint")),
        )
        owner = call.principal.account
        name = arguments.get("name", access.host)[:255]
        host = await self._hosts.add(
            HostDefinition(name, zone.id, owner.id, owner.domain_id, access, cluster_id)
        )
        return [await self._database.read(answer_of_host, host)]

    async def _join(self, call: ApiCall, zone: Zone) -> HostAnswer:
        """Put a host with a daemon of its own into a cluster."""
        arguments, user = call.arguments, call.principal
        origin = ChangeOrigin(user.account.id, user.user.id, call.request_id)
        name = _host_name_of(str(arguments["url"]))

        def join(connection: Connection) -> HostAnswer:
            cluster = _cluster_to_join(connection, arguments, zone)
            return answer_of_host(connection, places.add_host(connection, cluster, name))

        return await self._model.make(
            origin, "HOST.CREATE", join, lambda answer: f"host {answer.name} is in a cluster"
        )

    async def _update(self, call: ApiCall) -> HostAnswer:
        arguments = call.arguments
        found = await self._database.read(zones.host_by_uuid, arguments["id"])
        _check_is_registered(found)
        change = HostChange(
            name=arguments.text("name"),
            url=arguments.text("url"),
            username=arguments.text("username"),
            password=arguments.text("password"),
            ca_pem=arguments.text("cacertificate"),
            fingerprint=arguments.text("fingerprint"),
        )
        host = await self._hosts.update(found.id, change)
        return await self._database.read(answer_of_host, host)

    async def _reconnect(self, call: ApiCall) -> StartedJob:
        host = await self._database.read(zones.host_by_uuid, call.arguments["id"])
        _check_is_registered(host)
        return await start_job(
            self._jobs, call, "reconnectHost", {"id": host.id}, about="Host", uuid=host.uuid
        )

    async def _run_reconnect(self, running: RunningJob) -> dict[str, Any]:
        host = await self._hosts.refresh(running.job.arguments["id"])
        return {"host": plain(await self._database.read(answer_of_host, host))}

    async def _delete(self, call: ApiCall) -> SuccessAnswer:
        host = await self._database.read(zones.host_by_uuid, call.arguments["id"])
        if host.is_driven:
            user = call.principal
            await self._model.make(
                ChangeOrigin(user.account.id, user.user.id, call.request_id),
                "HOST.DELETE",
                lambda connection: places.remove_host(connection, host),
                lambda _: f"host {host.name} is in no cluster",
            )
        else:
            await self._hosts.remove(host.id)
        return SuccessAnswer(success=True)


def _host_name_of(url: str) -> str:
    """Return the name in a URL such as http://host1, or the text itself.

    Raises: ApiError 431 when it is neither.
    """
    try:
        return urlsplit(url).hostname or url
    except ValueError:
        raise parameter_error(
            "url", "Invalid value for parameter url: it must be a URL or a name", "send http://NAME"
        ) from None


def _command(
    name: str,
    handler: Any,
    description: str,
    answer: type,
    object_name: str,
    shape: ResponseShape,
    parameters: tuple[Parameter, ...],
    *,
    paged: bool = True,
) -> Command:
    return Command(
        name, handler, description, answer, object_name, shape, parameters, ADMIN_ONLY, paged=paged,
        related=("listHosts",), deadline_s=ADD_DEADLINE_S,
    )  # fmt: skip


def _cluster_of(connection: Connection, arguments: Arguments, zone: Zone) -> int | None:
    """Return the number of the cluster that the host joins, if it names one.

    Raises: ApiError 431 for a pod or cluster of another zone, for a cluster of another hypervisor, or a full
        one.
    """
    pod_id, cluster_id = arguments.text("podid"), arguments.text("clusterid")
    if pod_id is not None and pods.pod_by_uuid(connection, pod_id).zone_id != zone.id:
        raise parameter_error("podid", f"podid is not of zone {zone.name}", "omit it; see listPods")
    if cluster_id is None:
        return None
    cluster = pods.cluster_by_uuid(connection, cluster_id)
    if cluster.zone_id != zone.id:
        raise parameter_error(
            "clusterid", f"clusterid is not of zone {zone.name}", "omit it; see listClusters"
        )
    if cluster.hypervisor != arguments["hypervisor"]:
        raise parameter_error(
            "clusterid",
            f"clusterid: cluster {cluster.name} has hosts of {cluster.hypervisor}",
            f"omit it, or choose a cluster of {arguments['hypervisor']}",
        )
    most = profile_of(cluster.hypervisor).max_hosts
    if most is not None and zones.count_hosts(connection, cluster.id) >= most:
        raise parameter_error(
            "clusterid",
            f"clusterid: cluster {cluster.name} has {most} hosts, the maximum of {cluster.hypervisor}",
            "choose another cluster",
        )
    return cluster.id


def _cluster_to_join(connection: Connection, arguments: Arguments, zone: Zone) -> Cluster:
    """Return the cluster of `clusterid`, else the only one of the pod or zone.

    Raises: ApiError 431 when there is none, or more than one.
    """
    number = _cluster_of(connection, arguments, zone)
    if number is not None:
        return pods.cluster_by_id(connection, number)
    pod = pods.pod_by_uuid(connection, arguments["podid"]) if "podid" in arguments else None
    clusters = [
        cluster
        for cluster in pods.list_clusters(connection, zone.id, None if pod is None else pod.id)
        if cluster.hypervisor == KVM
    ]
    if len(clusters) != 1:
        names = ", ".join(cluster.name for cluster in clusters)
        hint = f"choose one of {names}" if clusters else "add one with addCluster"
        raise parameter_error(
            "clusterid", f"clusterid is missing: there are {len(clusters)} clusters of KVM", hint
        )
    return clusters[0]


def _check_is_registered(host: Host) -> None:
    if host.is_driven:
        raise parameter_error(
            "id",
            f"{host.name} is driven by its own management daemon, which knows it by its own files",
            "change its files in /etc/systemvm; to start nothing there, disable its cluster",
        )
