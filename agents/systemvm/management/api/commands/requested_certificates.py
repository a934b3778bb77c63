# SPDX-License-Identifier: Apache-2.0
"""issueCertificate: the public CA signs an administrator's request (IssueCertificateCmd.java).

CloudStack has one CA for these and for the channel of its agents; here they are two (docs/DECISIONS.md,
decision 23).
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from systemvm.management.api.answers.certificates import IssuedCertificateAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.commands.certificates import PROVIDER
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.public_certificates.requests import MAX_DAYS, RequestedCertificates, read_request

_COMMAND = "issueCertificate"


class RequestedCertificateCommands:
    """The handler of the command."""

    def __init__(self, certificates: RequestedCertificates, jobs: JobRunner) -> None:
        self._certificates = certificates
        self._jobs = jobs
        jobs.register(_COMMAND, self._run)

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                _COMMAND,
                self._issue,
                "Signs a certificate for a server in the domain of a zone, which those trust who trust the "
                "cloud's public CA. Its private key stays with whoever made the request.",
                IssuedCertificateAnswer,
                "certificates",
                ResponseShape.ASYNC,
                (
                    required("csr", ParameterType.PEM, "the certificate signing request as PEM"),
                    optional("domain", ParameterType.LIST, "names of hosts; by default those in the request"),
                    optional("duration", ParameterType.INTEGER, f"days, at most {MAX_DAYS} (the default)"),
                    optional(
                        "provider", ParameterType.STRING, "provider of the CA: root", choices=(PROVIDER,)
                    ),
                ),
                ADMIN_ONLY,
                refused={"ipaddress": "the public CA's addresses are those of this cloud's own system VMs"},
                related=("uploadCustomCertificate", "listPublicNames"),
            ),
        )

    async def _issue(self, call: ApiCall) -> StartedJob:
        arguments = call.arguments
        days = arguments.get("duration", MAX_DAYS)
        if not 1 <= days <= MAX_DAYS:
            raise parameter_error(
                "duration", f"Invalid value for parameter duration: {days}; it must be 1 to {MAX_DAYS} days"
            )
        request = {"csr": arguments["csr"], "names": arguments.get("domain", []), "days": days}
        await self._certificates.check(read_request(request["csr"], request["names"]))
        return await start_job(self._jobs, call, _COMMAND, request, about="Certificate", uuid="")

    async def _run(self, running: RunningJob) -> dict[str, Any]:
        wanted = running.job.arguments
        request = read_request(wanted["csr"], wanted["names"])
        chain = await self._certificates.issue(request, wanted["days"])
        certificates = x509.load_pem_x509_certificates(chain.encode())
        leaf, *roots = (each.public_bytes(Encoding.PEM).decode() for each in certificates)
        answer = IssuedCertificateAnswer(certificate=leaf, cacertificates="".join(roots))
        return {"certificates": plain(answer)}
