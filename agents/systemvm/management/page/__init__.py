# SPDX-License-Identifier: Apache-2.0
"""The small page: log in, watch, register, deploy, view a console; a client of `/client/api` and no more."""
