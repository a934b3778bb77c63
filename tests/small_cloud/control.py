# SPDX-License-Identifier: Apache-2.0
"""The certificates of agents, on a control channel of its own, which no agent has dialled."""

from __future__ import annotations

from attrs import frozen
from twisted.internet.task import Clock

from systemvm.management.control.ca_rotation import CaRotation
from systemvm.management.control.certificate_service import CertificateService
from systemvm.management.control.certificates import AgentCertificates
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.foundation import Foundation


@frozen
class ControlParts:
    """The parts of `ControlPlane` that commands ask about certificates."""

    directory: AgentDirectory
    certificates: AgentCertificates
    certificate_service: CertificateService


def make_control(clock: Clock, foundation: Foundation) -> ControlParts:
    """Make the parts and subscribe them to each other."""
    authority, directory = foundation.authority, AgentDirectory(lambda name: True)
    certificates = AgentCertificates(foundation.database, directory, authority, clock)
    certificates.subscribe()
    rotation = CaRotation(clock, directory, authority, lambda name: True, lambda: None)
    rotation.subscribe()
    return ControlParts(
        directory=directory,
        certificates=certificates,
        certificate_service=CertificateService(clock, directory, authority, certificates, rotation),
    )
