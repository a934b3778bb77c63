# SPDX-License-Identifier: Apache-2.0
"""Keys and certificates: two CAs, encryption of stored secrets, and the zone's ssh key.

The CAs never sign for each other. `ControlAuthority` signs for agents and daemons, which trust only that CA.
`PublicAuthority` signs for what browsers open; its root is constrained to the zones' names and addresses.
"""
