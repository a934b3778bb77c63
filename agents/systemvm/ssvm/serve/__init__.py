# SPDX-License-Identifier: Apache-2.0
"""`systemvm-serve`: serves images of the store by temporary links, on the public network."""
