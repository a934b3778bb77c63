# SPDX-License-Identifier: Apache-2.0
"""listCAProviders, listCaCertificate, provisionCertificate, revokeCertificate.

The shapes are CloudStack's (test/integration/smoke/test_certauthority_root.py). issueCertificate is not here:
the control CA signs for agents of its own VMs and for daemons, and for nobody who asks by an API.
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
    """The part of the control channel that these commands reach."""

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
        provider = optional("provider", text, "the CA's provider: root", choices=(PROVIDER,))
        return (
            Command(
                "listCAProviders",
                paged(self._providers),
                "Lists who signs for the control channel.",
                CaProviderAnswer,
                "caprovider",
                ResponseShape.LIST,
                (optional("name", text, "only the one of this name"),),
                roles=ADMIN_ONLY,
            ),
            Command(
                "listCaCertificate",
                self._certificate,
                "Shows the roots that agents and daemons trust.",
                CaCertificateAnswer,
                "cacertificates",
                parameters=(provider,),
            ),
            Command(
                "provisionCertificate",
                self._provision,
                "Has a system VM's agent make a new key and gets it signed.",
                SuccessAnswer,
                "success",
                ResponseShape.ASYNC,
                (
                    required(
                        "hostid", ParameterType.UUID, "the system VM, as listHosts or listSystemVms has it"
                    ),
                    optional("reconnect", ParameterType.BOOLEAN, "also dial again with it and be Up"),
                    provider,
                ),
                ADMIN_ONLY,
                related=("listHosts",),
            ),
            Command(
                "revokeCertificate",
                self._revoke,
                "Refuses a certificate from now on, and ends the connection it is used on.",
                SuccessAnswer,
                "success",
                ResponseShape.ASYNC,
                (
                    required("serial", text, "the certificate's serial number, hexadecimal"),
                    optional("cn", text, "the name in it, for the record"),
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
            raise parameter_error(f"{vm.name} is no system VM", "listSystemVms shows them")
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
