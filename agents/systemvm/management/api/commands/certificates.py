# SPDX-License-Identifier: Apache-2.0
"""listCAProviders, listCaCertificate, provisionCertificate, revokeCertificate.

The shapes are CloudStack's (test/integration/smoke/test_certauthority_root.py). issueCertificate is about
another CA (`requested_certificates.py`): the control CA signs only for the agents of its own VMs and for
daemons, not for API clients.
"""

from __future__ import annotations

from typing import Any, Protocol

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.certificates import CaCertificateAnswer, CaProviderAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob, paged
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state import instances
from systemvm.management.state.certificates import Certificate
from systemvm.management.state.database import Database

PROVIDER = "root"


class CertificateControl(Protocol):
    """The part of the control channel that these commands use."""

    @property
    def ca_pem(self) -> str: ...
    async def revoke(self, serial: str, reason: str) -> Certificate: ...
    async def provision(self, name: str, *, reconnect: bool) -> None: ...


class CertificateCommands:
    """Handlers of the four commands."""

    def __init__(self, database: Database, control: CertificateControl, jobs: JobRunner) -> None:
        self._database = database
        self._control = control
        self._jobs = jobs
        jobs.register("provisionCertificate", self._run_provision)
        jobs.register("revokeCertificate", self._run_revoke)

    def commands(self) -> tuple[Command, ...]:
        text = ParameterType.STRING
        provider = optional("provider", text, "provider of the CA: root", choices=(PROVIDER,))
        return (
            Command(
                "listCAProviders",
                paged(self._providers),
                "Lists the certificate authorities of the control channel.",
                CaProviderAnswer,
                "caprovider",
                ResponseShape.LIST,
                (optional("name", text, "list only the one with this name"),),
                roles=ADMIN_ONLY,
            ),
            Command(
                "listCaCertificate",
                self._certificate,
                "Returns the root certificates that agents and daemons trust.",
                CaCertificateAnswer,
                "cacertificates",
                parameters=(provider,),
            ),
            Command(
                "provisionCertificate",
                self._provision,
                "Lets a system VM's agent create a new key, and signs a certificate for it.",
                SuccessAnswer,
                "success",
                ResponseShape.ASYNC,
                (
                    required(
                        "hostid", ParameterType.UUID, "UUID of the system VM, from listHosts or listSystemVms"
                    ),
                    optional(
                        "reconnect",
                        ParameterType.BOOLEAN,
                        "reconnect the agent with the new certificate, too",
                    ),
                    provider,
                ),
                ADMIN_ONLY,
                related=("listHosts",),
            ),
            Command(
                "revokeCertificate",
                self._revoke,
                "Revokes a certificate and closes the connection that uses it.",
                SuccessAnswer,
                "success",
                ResponseShape.ASYNC,
                (
                    required("serial", text, "serial number of the certificate in hexadecimal"),
                    optional("cn", text, "name in the certificate, for the record"),
                    provider,
                ),
                ADMIN_ONLY,
            ),
        )

    async def _providers(self, call: ApiCall) -> list[CaProviderAnswer]:
        if call.arguments.get("name", PROVIDER) != PROVIDER:
            return []
        return [CaProviderAnswer(name=PROVIDER, description="the control CA of this installation")]

    async def _certificate(self, call: ApiCall) -> CaCertificateAnswer:
        return CaCertificateAnswer(certificate=self._control.ca_pem)

    async def _provision(self, call: ApiCall) -> StartedJob:
        vm = await self._database.read(instances.by_uuid, call.arguments["hostid"])
        if not vm.type.is_system:
            raise parameter_error(
                "hostid", f"{vm.name} is not a system VM", "call listSystemVms for system VMs"
            )
        arguments = {"name": vm.instance_name, "reconnect": call.arguments.flag("reconnect")}
        return await start_job(
            self._jobs, call, "provisionCertificate", arguments, about="Host", uuid=vm.uuid
        )

    async def _revoke(self, call: ApiCall) -> StartedJob:
        arguments = {"serial": call.arguments["serial"], "cn": call.arguments.get("cn", "")}
        return await start_job(self._jobs, call, "revokeCertificate", arguments, about="Certificate", uuid="")

    async def _run_provision(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        await self._control.provision(arguments["name"], reconnect=arguments["reconnect"])
        return _done("the agent has a new certificate")

    async def _run_revoke(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        revoked = await self._control.revoke(arguments["serial"], f"by the API {arguments['cn']}".strip())
        return _done(f"revoked {revoked.serial} of {revoked.name}")


def _done(text: str) -> dict[str, Any]:
    answer: dict[str, Any] = plain(SuccessAnswer(success=True, displaytext=text))
    return answer
