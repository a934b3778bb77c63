# SPDX-License-Identifier: Apache-2.0
"""The web page: log in, watch, register, deploy, open consoles; it is only a client of `/client/api`."""
