// SPDX-License-Identifier: Apache-2.0
// What zones are made of, for root administrators: a list of each kind, of the zone that is chosen.

import { wireClusters } from "./clusters.js";
import { learnShownZone } from "./infrastructure_zone.js";
import { wireIpRanges } from "./ip_ranges.js";
import { Parts } from "./parts.js";
import { wirePhysicalNetworks } from "./physical_networks.js";
import { wirePods } from "./pods.js";
import { addSection } from "./sections.js";
import { wireTrafficTypes } from "./traffic_types.js";
import { $ } from "./ui.js";
import { wireZones } from "./zones.js";

const TABLES = ["zones", "pods", "clusters", "physical_networks", "traffic_types", "address_ranges", "ip_addresses"];

// `refresh` redraws the page.
export function wireInfrastructure(refresh) {
  const part = (id, title, command, list) => ({ id, title, command, refresh: () => list.refresh() });
  const parts = new Parts("infrastructure", [
    part("zones", "Zones", "listZones", wireZones(refresh)),
    part("physical-networks", "Physical networks", "listPhysicalNetworks", wirePhysicalNetworks(refresh)),
    part("traffic-types", "Traffic types", "listTrafficTypes", wireTrafficTypes(refresh)),
    part("pods", "Pods", "listPods", wirePods(refresh)),
    part("clusters", "Clusters", "listClusters", wireClusters(refresh)),
    part("ip-ranges", "IP ranges", "listVlanIpRanges", wireIpRanges(refresh)),
  ]);
  const zone = $("#infrastructure-zone");
  addSection({
    id: "infrastructure", title: "Infrastructure", command: "listPods", tables: TABLES, chosen: (id) => parts.choose(id),
    async refresh() {
      await learnShownZone();
      if (parts.shown === "zones") zone.parentElement.hidden = true; // all are listed
      await parts.refresh();
    },
  });
  zone.addEventListener("change", refresh);
}
