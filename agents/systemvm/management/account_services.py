# SPDX-License-Identifier: Apache-2.0
"""The services for accounts: logins, second factors, an account's objects, and limits of calls."""

from __future__ import annotations

import argon2
from attrs import frozen

from systemvm.management.accounts.second_factors import SecondFactors
from systemvm.management.accounts.service import AccountService
from systemvm.management.api.authentication import Authenticator
from systemvm.management.api.traffic import ApiTraffic
from systemvm.management.console_services import ConsoleServices
from systemvm.management.foundation import Foundation
from systemvm.management.machine_services import MachineServices
from systemvm.management.volume_services import VolumeServices
from systemvm.rpc.stream.transport import Reactor


@frozen
class AccountServices:
    """What commands and the listener ask about accounts."""

    authenticator: Authenticator
    second_factors: SecondFactors
    accounts: AccountService
    traffic: ApiTraffic


def make_account_services(
    reactor: Reactor,
    foundation: Foundation,
    consoles: ConsoleServices,
    machines: MachineServices,
    disks: VolumeServices,
    *,
    hasher: argon2.PasswordHasher | None = None,
) -> AccountServices:
    """Make all parts; none has anything to start."""
    database, seal = foundation.database, foundation.seal
    authenticator = Authenticator(database, seal, hasher)
    return AccountServices(
        authenticator=authenticator,
        second_factors=SecondFactors(database, seal),
        accounts=AccountService(
            database,
            seal,
            authenticator.passwords,
            machines.virtual_machines,
            disks.volumes,
            disks.snapshots,
            machines.templates,
            consoles.revocation,
        ),
        traffic=ApiTraffic.of(database, reactor.seconds),
    )
