# SPDX-License-Identifier: Apache-2.0
"""What a host is: its zone and host files, directories, bridges, firewall, architecture and accelerator.

The management daemon, the network helper and Packer's steps share it, so nothing here imports the daemon."""
