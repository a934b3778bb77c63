// SPDX-License-Identifier: Apache-2.0
// A zone as networks and the things on them, from the API's lists; without a document, so that it is tested by itself.
//
// Picture and list are drawn from the same items: {id, kind, name, level, state, lines, fill, networks, href}.

import { bytes } from "./elements.js";

//: More of a kind than these are shown as one item; those in trouble come first.
export const SHOWN = 4;
export const SIGNS = { good: "✓", warn: "!", bad: "✕", off: "–" };
const RANK = ["bad", "warn", "off", "good"];
const GOOD = new Set(["Up", "Enabled"]);
const BAD = new Set(["Alert", "Down", "Error", "Disconnected", "ErrorInMaintenance"]);
const OFF = new Set(["Stopped", "Disabled", "Maintenance"]);
const ORDER = ["Control", "Management", "Public", "Storage", "Guest"];

export function level(state) {
  if (GOOD.has(state)) return "good";
  if (BAD.has(state)) return "bad";
  return OFF.has(state) ? "off" : "warn"; // what it is on the way to, or a state that is new
}

const count = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

// An IPv4 address as a number; NaN for what is none, such as a name.
function number(address) {
  const parts = (address ?? "").split(".");
  return parts.length === 4 ? parts.reduce((sum, part) => sum * 256 + (part === "" ? NaN : Number(part)), 0) : NaN;
}

// Whether an IPv4 address is in the subnet of another one.
export function isWithin(address, other, netmask) {
  const size = 2 ** 32 - number(netmask);
  return Math.floor(number(address) / size) === Math.floor(number(other) / size);
}

// ---- networks -----------------------------------------------------------------------------------------------

// What ranges of addresses say: each kind of traffic has its own list.
function rangesOf(traffic, { pods, ranges, storageRanges }) {
  const lists = {
    Management: () => pods.map((pod) => ({ ...pod, startip: pod.startip[0] })),
    Storage: () => storageRanges,
    Public: () => ranges.filter((range) => range.forvirtualnetwork),
    Guest: () => ranges.filter((range) => !range.forvirtualnetwork),
  };
  return lists[traffic]?.() ?? [];
}

function vlans(ranges) {
  const named = ranges.map(({ vlan }) => String(vlan ?? "").replace("vlan://", "")).filter((vlan) => vlan && vlan !== "untagged");
  return named.length ? `VLAN ${[...new Set(named)].join(", ")}` : "";
}

function network(type, facts) {
  const ranges = rangesOf(type.traffictype, facts);
  const used = ranges.reduce((sum, range) => sum + (range.addressesused ?? 0), 0);
  const total = ranges.reduce((sum, range) => sum + (range.addressestotal ?? 0), 0);
  const physical = type.physicalnetworkname === type.kvmnetworklabel ? "" : `on ${type.physicalnetworkname}`;
  const about = [`bridge ${type.kvmnetworklabel}`, physical, vlans(ranges)].filter(Boolean).join(", ");
  const named = facts.networks.filter(({ physicalnetworkid: id, traffictype: kind }) => kind === type.traffictype && (!id || id === type.physicalnetworkid));
  const names = named.length > 3 ? count(named.length, "network", "networks") : named.map((each) => each.name).join(", ");
  const exhausted = total > 0 && used >= total;
  const addresses = total ? `${used.toLocaleString("en")} of ${count(total, "address", "addresses")} used` : "";
  return { id: type.id, kind: "Network", name: type.traffictype, level: exhausted ? "bad" : "good",
    state: exhausted ? "No address is free" : "Enabled", lines: [about, names, addresses].filter(Boolean),
    fill: total ? used / total : null, ranges, networks: [], href: "" };
}

function networksOf(facts) {
  const place = (type) => (ORDER.indexOf(type.traffictype) + 1 || ORDER.length + 1);
  return [...facts.types].sort((a, b) => place(a) - place(b)).map((type) => network(type, facts));
}

// The networks whose ranges have this address.
function reached(address, networks) {
  const found = networks.filter(({ ranges }) => ranges.some((range) => isWithin(address, range.startip ?? range.gateway, range.netmask)));
  return found.map(({ id }) => id);
}

// ---- what is on them ----------------------------------------------------------------------------------------

function systemVm(vm, networks) {
  const up = vm.state === "Running";
  const state = up ? vm.agentstate ?? "Connecting" : vm.state;
  const addresses = { Control: vm.linklocalip, Management: vm.privateip, Public: vm.publicip, Storage: vm.storageip };
  const nics = networks.filter(({ name }) => addresses[name]);
  const storage = vm.systemvmtype === "secondarystoragevm";
  const load = storage ? "secondary storage" : count(vm.activeviewersessions ?? 0, "open console", "open consoles");
  return { id: vm.id, kind: "System VM", name: vm.name, level: level(state), state: up ? `Running, agent ${state}` : state,
    lines: [load, vm.hostname ? `on ${vm.hostname}` : "", vm.reason ?? ""].filter(Boolean), fill: null,
    nics: nics.map(({ id, name }) => ({ network: id, text: `${name} ${addresses[name]}` })),
    networks: nics.map(({ id }) => id), href: "#/system-vms" };
}

function fraction(used, total) {
  return total ? (used ?? 0) / total : null;
}

// How full something is, in words, for its bar.
function fullness(used, total) {
  return total ? `${bytes(used) || "0 B"} of ${bytes(total)} used (${Math.round((100 * (used ?? 0)) / total)} %)` : "";
}

function store(each, networks) {
  const fill = fraction(each.disksizeused, each.disksizetotal);
  const host = URL.canParse(each.url) ? new URL(each.url).hostname : "";
  const isFull = fill !== null && fill > each.capacitythreshold;
  const fills = fill !== null && fill > each.notificationthreshold;
  const state = isFull ? "Full: gets nothing new" : each.retiring ? "Retiring" : fills ? "Filling" : each.readonly ? "Read-only" : "Up";
  return { id: each.id, kind: "Image store", name: each.name, level: isFull ? "bad" : each.retiring || fills ? "warn" : each.readonly ? "off" : "good",
    state, lines: [each.url, fullness(each.disksizeused, each.disksizetotal) || "size not measured"], fill, networks: reached(host, networks), href: "#/stores" };
}

function pool(each, networks) {
  const isNfs = each.type === "NetworkFilesystem";
  const where = isNfs ? `${each.ipaddress}:${each.path}` : each.path;
  return { id: each.id, kind: "Storage pool", name: each.name, level: level(each.state), state: each.state,
    lines: [where, fullness(each.disksizeused, each.disksizetotal)].filter(Boolean), fill: fraction(each.disksizeused, each.disksizetotal),
    networks: isNfs ? reached(each.ipaddress, networks) : [], href: "#/pools" };
}

function host(each, networks) {
  const cpus = each.cpunumber ? `${each.vcpusallocated ?? 0} vCPU on ${count(each.cpunumber, "CPU", "CPUs")}` : "";
  const memory = each.memorytotal ? `${bytes(each.memoryallocatedbytes) || "0 B"} of ${bytes(each.memorytotal)} memory` : "";
  const driven = each.hypervisor === "KVM";
  return { id: each.id, kind: "Host", name: each.name, level: level(each.state), state: each.state,
    lines: [count(each.virtualmachines ?? 0, "VM", "VMs"), driven ? [cpus, memory].filter(Boolean).join(", ") : each.hypervisor, each.reason ?? ""].filter(Boolean),
    fill: fraction(each.memoryallocatedbytes, each.memorytotal),
    networks: driven ? networks.map(({ id }) => id) : reached(each.ipaddress, networks), href: "#/hosts" };
}

function machines({ total, states }, networks) {
  const { Error: failed = 0, Running: running = 0, Stopped: stopped = 0 } = states;
  const others = total - failed - running - stopped;
  const parts = [[running, "running"], [stopped, "stopped"], [failed, "in Error"], [others, "in other states"]];
  return { id: "machines", kind: "Users' VMs", name: count(total, "VM", "VMs"), level: failed ? "bad" : total ? "good" : "off",
    state: failed ? `${count(failed, "VM", "VMs")} in Error` : total ? "No VM in Error" : "None yet",
    lines: parts.filter(([number]) => number).map(([number, what]) => `${number.toLocaleString("en")} ${what}`), fill: null,
    networks: networks.filter(({ name }) => name === "Guest").map(({ id }) => id), href: "#/vms" };
}

// The worst of many, and one item for all others, so that a zone of any size has a picture.
export function shorten(items, kind) {
  const ranked = [...items].sort((a, b) => RANK.indexOf(a.level) - RANK.indexOf(b.level) || a.name.localeCompare(b.name, "en", { numeric: true }));
  if (ranked.length <= SHOWN) return ranked;
  const rest = ranked.slice(SHOWN - 1);
  const states = new Map();
  for (const { state } of rest) states.set(state, (states.get(state) ?? 0) + 1);
  const lines = [...states].map(([state, number]) => `${number.toLocaleString("en")} ${state}`);
  const worst = rest[0].level;
  const more = { id: `more ${kind}`, kind, name: `${rest.length.toLocaleString("en")} more`, level: worst, state: lines[0], lines: lines.slice(1), fill: null,
    networks: [...new Set(rest.flatMap(({ networks }) => networks))], href: rest[0].href };
  return [...ranked.slice(0, SHOWN - 1), more];
}

// {name, networks, above, below}: the networks from top to bottom, and what hangs on them above and below.
export function zoneModel(facts) {
  const networks = networksOf(facts);
  const all = (rows, make, kind) => shorten(rows.map((row) => make(row, networks)), kind);
  return {
    name: facts.zone.name,
    networks,
    above: [...all(facts.systemVms, systemVm, "System VM"), ...all(facts.stores, store, "Image store")],
    below: [...all(facts.hosts, host, "Host"), machines(facts.vms, networks), ...all(facts.pools, pool, "Storage pool")],
  };
}
