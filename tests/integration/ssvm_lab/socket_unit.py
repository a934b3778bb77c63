# SPDX-License-Identifier: Apache-2.0
"""What systemd-socket-activate runs, so that its sockets outlive the service, as a socket unit's do.

Alone it becomes the service: its sockets end with it, and whoever connects before the next one listens is
refused. Here the next connection starts a service that was killed again (systemd.socket(5)).
"""

from __future__ import annotations

import os
import select
import subprocess
import sys

FIRST_FD = 3  # sd_listen_fds(3)
# the service must find its own process id in LISTEN_PID
BECOME = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"]


#: A service that fails so often in a row never will start. One that was killed has not failed.
MOST_FAILURES = 5


def main() -> int:
    sockets = range(FIRST_FD, FIRST_FD + int(os.environ["LISTEN_FDS"]))
    failures = 0
    while failures < MOST_FAILURES:
        select.select(sockets, [], [])
        code = subprocess.run([*BECOME, *sys.argv[1:]], pass_fds=sockets, check=False).returncode
        failures = failures + 1 if code > 0 else 0
    return code


if __name__ == "__main__":
    sys.exit(main())
