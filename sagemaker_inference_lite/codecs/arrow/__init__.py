# SPDX-License-Identifier: Apache-2.0
"""Arrow streams and Parquet files."""
