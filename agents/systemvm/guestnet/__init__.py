# SPDX-License-Identifier: Apache-2.0
"""DHCP, DNS and metadata of guest networks: dnsmasq and an HTTP server on each guest bridge."""
