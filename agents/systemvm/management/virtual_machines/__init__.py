# SPDX-License-Identifier: Apache-2.0
"""Users' virtual machines: linked clones of Ready templates, or empty disks beside a Ready ISO."""
