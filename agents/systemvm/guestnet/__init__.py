# SPDX-License-Identifier: Apache-2.0
"""DHCP and DNS of guest networks: a dnsmasq process on each guest bridge, fed by the daemon."""
