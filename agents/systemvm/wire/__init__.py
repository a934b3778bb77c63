# SPDX-License-Identifier: Apache-2.0
"""What travels between the daemon and the agents: names, parameters and results, as frozen values.

Data only: no I/O, no Twisted, so that both ends, the tests and the documentation generator can import it.
"""
