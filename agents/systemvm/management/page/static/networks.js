// SPDX-License-Identifier: Apache-2.0
// Guest networks: the zone's own, shared ones, and isolated and L2 ones of accounts.

import { call, job, user } from "./api.js";
import { nameOf, tagsOf } from "./details.js";
import { badge, element, offer } from "./elements.js";
import { askFields, opening } from "./field_dialog.js";
import { List, rowsOf } from "./list.js";
import { addSection } from "./sections.js";
import { byTag, TAG_FILTER } from "./tag_filter.js";
import { $, ask, onClick, titled, toast } from "./ui.js";
import { act, actions } from "./work.js";
import { ZONE_COLUMN, ZONE_FILTER, zoneField, zonesToChoose } from "./zone_choice.js";

const COLUMNS = [
  { label: "Name", sort: "name", cell: (network) => [network.isdefault ? element("strong", {}, network.name) : nameOf("NETWORK", network), element("small", {}, network.displaytext === network.name ? "" : network.displaytext), tagsOf(network)] },
  { label: "Type", sort: "type", cell: ({ type, account }) => [element("span", {}, type), element("small", {}, account ?? "")] },
  ZONE_COLUMN,
  { label: "Addresses", cell: ({ cidr, gateway }) => [element("span", {}, cidr ?? "none"), gateway ? element("small", {}, `gateway ${gateway}`) : null] },
  { label: "State", sort: "state", cell: (network, busy) => badge(network.state, busy) },
  { label: "Actions", className: "actions", cell: buttonsOf },
];

let list;

// The zone's own network is not changed here, and a shared one by root administrators only.
function buttonsOf(network, busy) {
  if (network.isdefault || (network.type === "Shared" && !user().admin)) return [];
  const off = { disabled: Boolean(busy) };
  return [
    offer("updateNetwork", "network-edit", "Edit…", network, off),
    network.type === "L2" ? null : offer("restartNetwork", "network-restart", "Restart", network, off),
    offer("deleteNetwork", "network-delete", "Delete", network, { ...off, className: "danger" })];
}

async function openCreate() {
  const open = opening();
  try {
    const zones = zonesToChoose();
    const { networkoffering = [] } = await call("listNetworkOfferings");
    const offered = networkoffering.filter(({ guestiptype }) => guestiptype !== "Shared" || user().admin);
    const among = zones.filter(({ id }) => offered.some(({ zoneid }) => zoneid === id));
    if (!among.length) {
      toast(`${zones.map(({ name }) => name).join(", ")}: no VLAN for networks of accounts: ask an administrator`, true);
      return;
    }
    const typesOf = (zone) => offered.filter(({ zoneid }) => zoneid === zone).map(({ id, name, guestiptype }) => [id, `${guestiptype}: ${name}`]);
    open({
      title: "Create a network", verb: "Create",
      text: "An isolated network is for one account, and needs no addresses: it gets a free subnet. An L2 network is, too, and has none: its machines read their user data from a CD. A shared one needs gateway, netmask and first address.",
      ofZone: (zoneid) => ({ networkofferingid: typesOf(zoneid) }),
      fields: [
        zoneField({ among }),
        { name: "name", label: "Name", required: true, maxLength: 255 },
        { name: "networkofferingid", label: "Type", required: true, choices: typesOf(among[0].id) },
        [{ name: "gateway", label: "Gateway" }, { name: "netmask", label: "Netmask", placeholder: "255.255.255.0" }],
        [{ name: "startip", label: "First address" }, { name: "endip", label: "Last address" }],
        { name: "networkdomain", label: "Domain of the names of machines", placeholder: "of the zone (optional)" },
        ...(user().admin ? [{ name: "vlan", label: "VLAN of a shared network", inputMode: "numeric", placeholder: "untagged (optional)" }] : [])],
      async submit(values) {
        await call("createNetwork", values);
        toast(`${values.name} is created.`);
      },
    });
  } catch (error) {
    toast(error.message, true);
  }
}

Object.assign(actions, {
  "network-edit"(id, name) {
    const { displaytext } = list.find(id);
    askFields({
      title: titled`Edit ${name}`, verb: "Save",
      fields: [{ name: "name", label: "Name", required: true, maxLength: 255, value: name },
        { name: "displaytext", label: "Description", maxLength: 255, value: displaytext }],
      submit: (values) => job("updateNetwork", { id, displaytext: "", ...values }),
    });
  },
  async "network-restart"(id, name) {
    if (await ask(titled`Restart ${name}?`, "Its DHCP, DNS and metadata start anew. Machines keep their addresses.", "Restart")) {
      await act(id, "Restarting…", () => job("restartNetwork", { id }));
    }
  },
  async "network-delete"(id, name) {
    if (await ask(titled`Delete ${name}?`, "A network with a machine on it is not deleted.", "Delete")) await act(id, "Deleting…", () => job("deleteNetwork", { id }));
  },
});

// `refresh` redraws the page.
export function wireNetworks(refresh) {
  list = new List($("#networks"), {
    label: "networks", columns: COLUMNS, refresh, load: byTag(rowsOf("listNetworks", "network", { listall: "true" })),
    filters: [{ name: "type", label: "Type", choices: [["", "any"], ["Shared", "shared"], ["Isolated", "isolated"], ["L2", "L2"]] }, ZONE_FILTER, TAG_FILTER],
    empty: "There is no guest network.",
  });
  addSection({ id: "networks", title: "Networks", command: "listNetworks", tables: ["guest_networks", "address_ranges", "zones", "resource_tags"],
    refresh: () => list.refresh() });
  onClick("#open-network", openCreate);
}
