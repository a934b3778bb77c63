# SPDX-License-Identifier: Apache-2.0
"""The secondary storage VM: what brings templates from the world to secondary storage.

Processes, from most to least trusted (DESIGN decision 5):

- the role inside the agent (`role`): keys and control, no other network;
- `store` and `mount`: root, one process a call, ids and never paths;
- `fetch`: policy, names, redirects, schedule; the public network, no keys;
- `mover`: one per job, with a socket and a file that others opened.
"""
