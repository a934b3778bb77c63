# SPDX-License-Identifier: Apache-2.0
"""The secondary storage VM: downloads templates from the network to secondary storage.

A folder for each kind of process, from most to least trusted (docs/DECISIONS.md, decision 5):

- `agent`: keys and the control network, and no other network;
- `store`: root's helpers for the store and its mounts, which take IDs and never paths;
- `fetch`: policy, names, redirects and schedule; the public network, no keys;
- `mover`: one for each job, with a socket and a file that others opened.

The modules beside the folders are what these processes share: messages, failures, limits and paths.
"""
