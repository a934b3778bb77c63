# SPDX-License-Identifier: Apache-2.0
"""Lab of the console tests: a console in its own process, VNC servers, a browser made of sockets."""
