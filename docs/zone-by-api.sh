#!/bin/sh
# Makes a zone by the API alone, on a host whose host.yaml has the labels below (host.yaml.sample has them).
# Usage: docs/zone-by-api.sh [ZONE]      SYSTEMVM is the command line, "systemvm" by default.
# Each line can be run by hand; `systemvm zone create --help` and its siblings explain the parameters.
set -eu

zone=${1:-zone1}
systemvm=${SYSTEMVM:-systemvm}
host=${HOST_NAME:-$(hostname)}
store=${STORE:-nfs://10.12.0.2/export/secondary}
store_path=${STORE_PATH:-/export/secondary}

# 1. The zone. It is Disabled until the last step, so that nothing starts half-way.
$systemvm zone create "$zone" dns1=203.0.113.10 internaldns1=203.0.113.10 domain=example.test

# 2. What its networks carry, and by which label of host.yaml. A zone can be without Public: consoles are then
#    on the management network; and without Storage: stores are then reached over management.
$systemvm network create physical1 zone="$zone"
$systemvm traffic add physical1 traffictype=Management kvmnetworklabel=cloudbr1
$systemvm traffic add physical1 traffictype=Public kvmnetworklabel=cloudbr0
$systemvm traffic add physical1 traffictype=Storage kvmnetworklabel=cloudbr2
$systemvm traffic add physical1 traffictype=Guest kvmnetworklabel=cloudbr3

# 3. A pod with its management network, a cluster in it, and this host in the cluster.
$systemvm pod create pod1 zone="$zone" gateway=10.11.0.1 netmask=255.255.255.0 \
    startip=10.11.0.100 endip=10.11.0.199
$systemvm cluster add cluster1 zone="$zone" pod=pod1 hypervisor=KVM
$systemvm host add "$host" --hypervisor kvm --zone "$zone" --pod pod1

# 4. Addresses: the gateway of a network is its router, here this host.
$systemvm range add zone="$zone" gateway=203.0.113.1 netmask=255.255.255.0 \
    startip=203.0.113.100 endip=203.0.113.199
$systemvm range add zone="$zone" forvirtualnetwork=false gateway=10.13.0.1 netmask=255.255.255.0
$systemvm storage-range add pod1 gateway=10.12.0.1 netmask=255.255.255.0 \
    startip=10.12.0.100 endip=10.12.0.199

# 5. Secondary storage: without a store there is no SSVM.
$systemvm store add secondary "$store" --zone "$zone" --host-path "$store_path"

# 6. From now on the daemon keeps an SSVM and a CPVM running in the zone.
$systemvm zone update "$zone" allocationstate=Enabled
