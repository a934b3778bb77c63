# SPDX-License-Identifier: Apache-2.0
"""Image formats, inspected in stream: bytes go by once, and what is wrong is known as early as it can be."""
