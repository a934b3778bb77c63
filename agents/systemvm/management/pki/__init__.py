# SPDX-License-Identifier: Apache-2.0
"""Keys and certificates: two CAs, the seal of stored secrets, and the zone's ssh key.

The CAs never sign for each other: `ControlAuthority` signs for agents and daemons, who trust nothing else;
`PublicAuthority` for what browsers open, and its root is constrained to the zones' names and addresses.
"""
