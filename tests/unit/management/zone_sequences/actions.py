# SPDX-License-Identifier: Apache-2.0
"""What users and administrators can do, on objects that exist, are in use, or are gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from systemvm.management.state import accounts, snapshots, storage_pools, templates, volumes
from systemvm.management.state.accounts import ROOT_DOMAIN_ID
from systemvm.management.state.instances import rows as machine_rows
from systemvm.management.state.status import InstanceType
from unit.management.zone_sequences.world import World

NOBODY = "00000000-0000-4000-8000-000000000000"

Action = Callable[[World], Awaitable[object]]


def _pick(world: World, rows: Any) -> str:
    """Return the UUID of an object, mostly of one that exists."""
    found = world.present(rows) if world.order.random() < 0.95 else world.database.run_now(rows.all)
    return str(world.order.choice(found).uuid) if found else NOBODY


def volume(world: World) -> str:
    return _pick(world, volumes.rows)


def snapshot(world: World) -> str:
    return _pick(world, snapshots.rows)


def machine(world: World) -> str:
    users = [vm for vm in world.database.run_now(machine_rows.all) if vm.type is InstanceType.USER]
    return str(world.order.choice(users).uuid) if users else NOBODY


def pool(world: World) -> str:
    return _pick(world, storage_pools.rows)


def template(world: World) -> str:
    return _pick(world, templates.rows)


def account(world: World) -> str:
    """Return the UUID of an account, but rarely that of the administrator, which has most objects."""
    found = _accounts(world)
    others = [each for each in found if each.id != world.cloud.admin.account.id]
    return str(world.order.choice(others if others and world.order.random() < 0.95 else found).uuid)


def domain(world: World) -> str:
    """Return the UUID of a domain beneath the root, or of none."""
    found = [each for each in world.database.run_now(accounts.all_domains) if each.id != ROOT_DOMAIN_ID]
    return world.order.choice(found).uuid if found else NOBODY


def _accounts(world: World) -> list[accounts.Account]:
    return [each for each in world.present(accounts.account_rows) if each.id != accounts.SYSTEM_ACCOUNT_ID]


def _owner(world: World) -> dict[str, str]:
    """Return the parameters of the owner of a new object: mostly the administrator, who calls."""
    if world.order.random() < 0.7:
        return {}
    owner = world.order.choice(_accounts(world))
    of = world.database.run_now(accounts.domain_by_id, owner.domain_id)
    return {"account": owner.name, "domainid": of.uuid}


async def create_account(world: World) -> None:
    world.add_account(ROOT_DOMAIN_ID)


async def create_domain(world: World) -> None:
    """Create a domain with two accounts."""
    name = f"domain-{len(world.database.run_now(accounts.all_domains))}"
    parent = domain(world) if world.order.random() < 0.3 else world.cloud.admin.domain.uuid
    made = await world.call("createDomain", name=name, parentdomainid=parent)
    if made is not None:
        number = world.database.run_now(accounts.domain_by_uuid, made["domain"]["id"]).id
        for _ in range(2):
            world.add_account(number)


async def create_volume(world: World) -> None:
    size = world.order.randint(1, 3)
    await world.call("createVolume", name="data", size=size, storageid=pool(world), **_owner(world))


async def restore_to_volume(world: World) -> None:
    await world.call("createVolume", name="restored", snapshotid=snapshot(world), storageid=pool(world))


async def deploy(world: World) -> None:
    names = ["small", "shared"]
    offering = (await world.call("listServiceOfferings", name=world.order.choice(names)))["serviceoffering"][
        0
    ]
    await world.call(
        "deployVirtualMachine",
        zoneid=world.cloud.zone.uuid,
        templateid=template(world),
        serviceofferingid=offering["id"],
        startvm=world.order.random() < 0.8,
        **_owner(world),
    )


async def restore(world: World) -> None:
    """Restore a VM, sometimes from another template."""
    another = {"templateid": template(world)} if world.order.random() < 0.4 else {}
    await world.call("restoreVirtualMachine", virtualmachineid=machine(world), **another)


async def scale(world: World) -> None:
    offerings = (await world.call("listServiceOfferings"))["serviceoffering"]
    command = world.order.choice(["scaleVirtualMachine", "changeServiceForVirtualMachine"])
    await world.call(command, id=machine(world), serviceofferingid=world.order.choice(offerings)["id"])


async def write(world: World) -> None:
    running = world.machines.running()
    if running:
        world.machines.guest_writes(world.order.choice(running), world.order)


async def crash(world: World) -> None:
    running = world.machines.running()
    if running:
        world.machines.die(world.order.choice(running))


async def register_template(world: World) -> None:
    world.add_template()


async def register_iso(world: World) -> None:
    world.add_iso()


def iso(world: World) -> str:
    """Return the UUID of an ISO, which can be deleted, or of a template."""
    found = [each for each in world.database.run_now(templates.rows.all) if each.is_iso]
    return world.order.choice(found).uuid if found and world.order.random() < 0.95 else template(world)


async def create_pool(world: World) -> None:
    """Create a pool in a directory of its own, because the files of a deleted pool stay."""
    number = len(world.database.run_now(storage_pools.rows.all))
    directory = world.directory / f"pool-{number}"
    directory.mkdir(exist_ok=True)
    await world.call(
        "createStoragePool",
        name=f"pool-{number}",
        zoneid=world.cloud.zone.uuid,
        url=f"SharedMountPoint://localhost{directory}",
    )


async def expunge_delay_ends(world: World) -> None:
    world.end_expunge_delay()
    await world.fuse.drive(world.tend())


def calls(command: str, **parameters: Callable[[World], Any]) -> Action:
    """Return the action that makes a call with objects by chance."""

    async def call(world: World) -> None:
        await world.call(command, **{name: value(world) for name, value in parameters.items()})

    return call


def _either(world: World) -> str:
    return world.order.choice(["true", "false"])


#: Each action, and how often it comes relative to the others.
ACTIONS: dict[Action, int] = {
    create_volume: 4,
    restore_to_volume: 3,
    deploy: 5,
    restore: 4,
    scale: 2,
    write: 10,
    crash: 1,
    register_template: 1,
    register_iso: 2,
    create_pool: 2,
    expunge_delay_ends: 1,
    calls("attachVolume", id=volume, virtualmachineid=machine): 5,
    calls("detachVolume", id=volume): 2,
    calls("resizeVolume", id=volume, size=lambda world: world.order.randint(1, 5)): 2,
    calls("migrateVolume", volumeid=volume, storageid=pool): 4,
    calls("deleteVolume", id=volume): 2,
    calls("createSnapshot", volumeid=volume): 12,
    calls("deleteSnapshot", id=snapshot): 4,
    calls("revertSnapshot", id=snapshot): 2,
    calls("createTemplate", snapshotid=snapshot, name=lambda world: "made"): 2,
    calls("createTemplate", volumeid=volume, name=lambda world: "made"): 1,
    calls("deleteTemplate", id=template, forced=_either): 2,
    calls("prepareTemplate", templateid=template, zoneid=lambda world: world.cloud.zone.uuid): 1,
    calls("attachIso", id=iso, virtualmachineid=machine, forced=_either): 5,
    calls("detachIso", virtualmachineid=machine, forced=_either): 3,
    calls("deleteIso", id=iso): 2,
    calls("startVirtualMachine", id=machine): 3,
    calls("stopVirtualMachine", id=machine, forced=_either): 3,
    calls("rebootVirtualMachine", id=machine): 1,
    calls("destroyVirtualMachine", id=machine, expunge=_either): 2,
    calls("resetPasswordForVirtualMachine", id=machine): 2,
    calls("recoverVirtualMachine", id=machine): 1,
    calls("expungeVirtualMachine", id=machine): 1,
    calls("enableStorageMaintenance", id=pool): 1,
    calls("cancelStorageMaintenance", id=pool): 3,
    calls("deleteStoragePool", id=pool): 1,
    create_account: 1,
    create_domain: 1,
    calls("disableAccount", id=account, lock=_either): 2,
    calls("enableAccount", id=account): 2,
    calls("deleteAccount", id=account): 1,
    calls("deleteDomain", id=domain, cleanup=_either): 1,
}
