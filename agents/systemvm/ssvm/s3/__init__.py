# SPDX-License-Identifier: Apache-2.0
"""S3 without I/O: signatures, requests and answers, for every process of the SSVM that has a connection.

Written here because no library fits: botocore is 80 MiB of service descriptions around blocking calls,
aws-sdk-signers needs a later Python than the host's lock, and others sign for one HTTP client only.
"""
