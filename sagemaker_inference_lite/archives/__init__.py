# SPDX-License-Identifier: Apache-2.0
"""model.tar.gz and its like: packed so that the platform takes it, unpacked so that it can do no harm."""
