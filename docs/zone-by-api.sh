#!/bin/sh
# Makes a zone by the API alone, on a host whose host.yaml has the labels below (host.yaml.sample has them).
# Usage: docs/zone-by-api.sh [ZONE]      SYSTEMVM is the command line, "systemvm" by default.
# Each line can be run by hand; `systemvm zone create --help` and its siblings explain the parameters.
# docs/zone-growth-by-api.sh adds a pod, a VLAN and a pool to the zone while it runs.
set -eu

zone=${1:-zone1}
systemvm=${SYSTEMVM:-systemvm}
host=${HOST_NAME:-$(hostname)}

# Labels of host.yaml. Traffic types with the same label share its bridge. PUBLIC= (empty) makes a zone without
# a public network: consoles are then on the management network. STORAGE= makes one without a storage network:
# stores are then reached over management.
management=${MANAGEMENT:-cloudbr1}
public=${PUBLIC-cloudbr0}
storage=${STORAGE-cloudbr2}
guest=${GUEST:-cloudbr3}

# The first three numbers of the pod's addresses, and its router, which is here this host.
pod=${POD:-10.11.0}
router=${ROUTER:-$pod.1}

# Addresses of public and storage networks: the gateway of a network is its router, here this host. For IPv6 alone:
# PUBLIC_RANGE="ip6gateway=2001:db8:1::1 ip6cidr=2001:db8:1::/64 startipv6=2001:db8:1::100 endipv6=2001:db8:1::ffff"
public_range=${PUBLIC_RANGE:-gateway=203.0.113.1 netmask=255.255.255.0 startip=203.0.113.100 endip=203.0.113.199}
storage_range=${STORAGE_RANGE:-gateway=10.12.0.1 netmask=255.255.255.0 startip=10.12.0.100 endip=10.12.0.199}

# The name server of system VMs and of users' machines.
dns=${DNS:-203.0.113.10}

store=${STORE:-nfs://10.12.0.2/export/secondary}
store_path=${STORE_PATH:-/export/secondary}

# 1. The zone. It is Disabled until the last step, so that nothing starts half-way.
$systemvm zone create "$zone" dns1="$dns" internaldns1="$dns" domain=example.test

# 2. What its networks carry, and by which label of host.yaml.
$systemvm network create physical1 zone="$zone"
$systemvm traffic add physical1 traffictype=Management kvmnetworklabel="$management"
[ -z "$public" ] || $systemvm traffic add physical1 traffictype=Public kvmnetworklabel="$public"
[ -z "$storage" ] || $systemvm traffic add physical1 traffictype=Storage kvmnetworklabel="$storage"
$systemvm traffic add physical1 traffictype=Guest kvmnetworklabel="$guest"

# 3. A pod with its management network, a cluster in it, and this host in the cluster.
$systemvm pod create pod1 zone="$zone" gateway="$router" netmask=255.255.255.0 \
    startip="$pod.100" endip="$pod.199"
$systemvm cluster add cluster1 zone="$zone" pod=pod1 hypervisor=KVM
$systemvm host add "$host" --hypervisor kvm --zone "$zone" --pod pod1

# 4. Addresses.
# shellcheck disable=SC2086 # each word is a parameter
[ -z "$public" ] || $systemvm range add zone="$zone" $public_range
$systemvm range add zone="$zone" forvirtualnetwork=false gateway=10.13.0.1 netmask=255.255.255.0
# shellcheck disable=SC2086
[ -z "$storage" ] || $systemvm storage-range add pod1 $storage_range

# 5. Secondary storage: without a store there is no SSVM.
$systemvm store add secondary "$store" --zone "$zone" --host-path "$store_path" --nfs-version "${NFS:-4.2}"

# 6. From now on the daemon keeps an SSVM and a CPVM running in the zone.
$systemvm zone update "$zone" allocationstate=Enabled
