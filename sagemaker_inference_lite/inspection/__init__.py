# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a model before anybody serves it, found without this process running any of its code."""
