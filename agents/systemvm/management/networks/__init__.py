# SPDX-License-Identifier: Apache-2.0
"""The host's side of the zone's networks: bridges, addresses, taps and the firewall."""
