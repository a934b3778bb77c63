# SPDX-License-Identifier: Apache-2.0
"""The secondary storage VM: downloads templates from the network to secondary storage.

A package for each kind of process, from most to least trusted:

- `agent`: keys and the control network, and no other network;
- `store`: root's helpers for the store and its mounts, which accept IDs and never paths;
- `fetch`: policy, name resolution, redirects and schedule; the public network, no keys;
- `mover`: one for each job, with a socket and a directory that others opened.

The modules beside the packages are shared by these processes: messages, failures, limits and paths.
"""
