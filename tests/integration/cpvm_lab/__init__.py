# SPDX-License-Identifier: Apache-2.0
"""What the console's tests stand on: a console in its own process, screens, a browser of sockets."""
