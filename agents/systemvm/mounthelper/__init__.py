# SPDX-License-Identifier: Apache-2.0
"""`systemvm-mounthelper`: mounts primary storage for the daemon, which has no privilege."""
