#!/bin/sh
# Adds to a zone of docs/zone-by-api.sh while it runs: a second pod, a VLAN of public addresses, a shared pool.
# Usage: docs/zone-growth-by-api.sh [ZONE]      SYSTEMVM is the command line, "systemvm" by default.
# VMs that run are not interrupted.
set -eu

zone=${1:-zone1}
systemvm=${SYSTEMVM:-systemvm}

# The VLAN must be among `vlans` of the label of public traffic in host.yaml; VLAN=untagged adds addresses
# without one.
vlan=${VLAN:-200}
# The same directory on each host of the zone, such as an NFS export that is mounted there, with the owner, the
# group and the mode of /var/lib/systemvm/primary.
pool=${POOL:-/mnt/shared/pool}

# 1. A pod with a management network of its own, and a cluster for its hosts. On each of them, "systemvm host
#    add HOST --hypervisor kvm --zone ZONE --pod pod2" is the next step.
$systemvm pod create pod2 zone="$zone" gateway=10.14.0.1 netmask=255.255.255.0 \
    startip=10.14.0.100 endip=10.14.0.199
$systemvm cluster add cluster2 zone="$zone" pod=pod2 hypervisor=KVM

# 2. Public addresses, which system VMs get when those of the first range are used up. Their ports of the bridge
#    have the VLAN's tag.
$systemvm range add zone="$zone" vlan="$vlan" gateway=198.51.100.1 netmask=255.255.255.0 \
    startip=198.51.100.100 endip=198.51.100.199

# 3. A pool that all hosts of the zone use.
$systemvm pool create shared1 zone="$zone" scope=zone url="SharedMountPoint://localhost$pool"
