# SPDX-License-Identifier: Apache-2.0
"""Bytes to objects and back, by media type: one table, to which `register_codec` adds.

| type                   | decodes to                                                    | encodes                    |
|------------------------|---------------------------------------------------------------|----------------------------|
| application/json       | int64, float64 or str array where all is such; else as it is  | arrays, lists, dicts, ...  |
| text/csv               | float64 array of two dimensions, or such an array of text     | at most two dimensions     |
| application/x-npy      | the array                                                     | arrays                     |
| application/jsonlines, | what the JSON list of its lines would be                      | as JSON, an element a line |
| or .../x-jsonlines     |                                                               |                            |

| type                                                         | decodes to, and encodes                             |
|--------------------------------------------------------------|-----------------------------------------------------|
| application/x-npz                                            | arr_0, a dict of arrays, or a sparse matrix (scipy) |
| application/vnd.apache.arrow.stream                          | an array of two dimensions, as text/csv (pyarrow)   |
| application/vnd.apache.parquet, or application/x-parquet     | an array of two dimensions, as text/csv (pyarrow)   |
| image/png, image/jpeg                                        | uint8, height x width x channels (Pillow)           |
| application/octet-stream                                     | bytes                                               |
| text/plain                                                   | str                                                 |

The libraries in brackets are imported when the first such body comes; what is not installed is not offered.

Bodies are a client's: nothing in them is unpickled, and what cannot be read is answered with 400, saying what is
wrong and where. Each decoder takes time and memory in proportion to the body, whatever the body claims; where it
unpacks to more than `max_expanded_bytes` says (256 MiB, or four times its length), the answer is 413.
"""

from __future__ import annotations

import importlib.util

from sagemaker_inference_lite.codecs.arrow.codec import (
    decode_arrow_stream,
    decode_parquet,
    encode_arrow_stream,
    encode_parquet,
)
from sagemaker_inference_lite.codecs.csv_codec import decode_csv, encode_csv
from sagemaker_inference_lite.codecs.expansion_limit import max_expanded_bytes
from sagemaker_inference_lite.codecs.image_codec import decode_jpeg, decode_png, encode_jpeg, encode_png
from sagemaker_inference_lite.codecs.json_codec import decode_json, encode_json
from sagemaker_inference_lite.codecs.json_lines_codec import decode_json_lines, encode_json_lines
from sagemaker_inference_lite.codecs.npy_codec import decode_npy, encode_npy
from sagemaker_inference_lite.codecs.npz_codec import decode_npz, encode_npz
from sagemaker_inference_lite.codecs.registry import as_text, decodable, decode, encodable, encode, register_codec
from sagemaker_inference_lite.codecs.text_codec import decode_octets, decode_text, encode_octets, encode_text
from sagemaker_inference_lite.content_types import (
    ARROW_STREAM,
    CSV,
    JPEG,
    JSON,
    JSON_LINES,
    NPY,
    NPZ,
    OCTET_STREAM,
    PARQUET,
    PNG,
    TEXT_PLAIN,
    X_JSON_LINES,
    X_PARQUET,
)

__all__ = ["as_text", "decodable", "decode", "encodable", "encode", "max_expanded_bytes", "register_codec"]

# The order is the one of preference where a client accepts anything.
register_codec(JSON, decode=decode_json, encode=encode_json)
register_codec(CSV, decode=decode_csv, encode=encode_csv)
register_codec(NPY, decode=decode_npy, encode=encode_npy)
register_codec(JSON_LINES, decode=decode_json_lines, encode=encode_json_lines)
register_codec(X_JSON_LINES, decode=decode_json_lines, encode=encode_json_lines)
register_codec(NPZ, decode=decode_npz, encode=encode_npz)
if importlib.util.find_spec("pyarrow"):
    register_codec(ARROW_STREAM, decode=decode_arrow_stream, encode=encode_arrow_stream)
    register_codec(PARQUET, decode=decode_parquet, encode=encode_parquet)
    register_codec(X_PARQUET, decode=decode_parquet, encode=encode_parquet)
if importlib.util.find_spec("PIL"):
    register_codec(PNG, decode=decode_png, encode=encode_png)
    register_codec(JPEG, decode=decode_jpeg, encode=encode_jpeg)
register_codec(OCTET_STREAM, decode=decode_octets, encode=encode_octets)
register_codec(TEXT_PLAIN, decode=decode_text, encode=encode_text)
