# SPDX-License-Identifier: Apache-2.0
"""Guest networks: addresses of users' machines, and the services that give these to them."""
