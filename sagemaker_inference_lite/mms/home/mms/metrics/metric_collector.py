# SPDX-License-Identifier: Apache-2.0
"""What MMS runs for its metrics (MetricCollector.java), where its own main class is launched: collects nothing.

It writes pids to our stdin and reports it as an error if nobody reads them.
"""

import sys

sys.stdin.read()
