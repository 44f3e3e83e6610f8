# SPDX-License-Identifier: Apache-2.0
"""The packages that a model asks for in ``code/requirements.txt``: whether, whence and where they are installed."""
