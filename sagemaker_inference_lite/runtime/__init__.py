# SPDX-License-Identifier: Apache-2.0
"""What every process of this package's uses: logs, standard streams, processes, forks."""
