# SPDX-License-Identifier: Apache-2.0
"""A host: zone files, directories, bridges, firewall, architecture and accelerator.

The management daemon, the network helper and the image build share this package: it never imports
`management`.
"""
