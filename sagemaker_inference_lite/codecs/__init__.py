# SPDX-License-Identifier: Apache-2.0
"""Bytes to objects and back, by media type: one table, to which `register_codec` adds.

| type              | decodes to                                                 | encodes                             |
|-------------------|------------------------------------------------------------|-------------------------------------|
| application/json  | int64 or float64 array where all is numbers; else as it is | arrays, numbers, lists, dicts, text |
| text/csv          | float64 array of two dimensions, or such an array of text  | arrays of up to two dimensions      |
| application/x-npy | the array                                                  | arrays                              |

Bodies are a client's: nothing in them is unpickled, and what cannot be read is answered with 400, saying what is
wrong and where. Each decoder takes time and memory in proportion to the body, whatever the body claims.
"""

from __future__ import annotations

from sagemaker_inference_lite.codecs.csv_codec import decode_csv, encode_csv
from sagemaker_inference_lite.codecs.json_codec import decode_json, encode_json
from sagemaker_inference_lite.codecs.npy_codec import decode_npy, encode_npy
from sagemaker_inference_lite.codecs.table import decodable, decode, encodable, encode, register_codec
from sagemaker_inference_lite.content_types import CSV, JSON, NPY

__all__ = ["decodable", "decode", "encodable", "encode", "register_codec"]

# The order is the one of preference where a client accepts anything.
register_codec(JSON, decode=decode_json, encode=encode_json)
register_codec(CSV, decode=decode_csv, encode=encode_csv)
register_codec(NPY, decode=decode_npy, encode=encode_npy)
