"""Presigned URLs whose signature binds headers, by AWS Signature Version 4. Pure.

The library `minio` signs the host alone. S3 servers check a header that is signed, and ignore the same value in the query:
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote, urlsplit

from fedmq_schemas.messages import BlobRef


def content_headers(ref: BlobRef) -> dict[str, str]:
    """Returns the headers by which an S3 server refuses any other content: length and SHA-256."""
    digest = base64.b64encode(bytes.fromhex(ref.sha256)).decode()
    return {"content-length": str(ref.size), "x-amz-checksum-sha256": digest}


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    *,
    account: tuple[str, str],
    region: str,
    at: datetime,
    seconds: int,
) -> str:
    """Returns `url`, which has no query, with a signature that is valid for `seconds` from `at` (UTC).

    A request must send `headers` as they are, with lower-case names here. `account`: the access key and the secret key.
    """
    address = urlsplit(url)
    stamp, day = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
    scope = f"{day}/{region}/s3/aws4_request"
    signed = sorted({"host": address.netloc, **headers}.items())
    names = ";".join(name for name, _ in signed)
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{account[0]}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": names,
    }
    line = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in query.items())  # the names are sorted
    lines = [f"{name}:{value}" for name, value in signed]
    request = "\n".join([method, address.path, line, *lines, "", names, "UNSIGNED-PAYLOAD"])
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{account[1]}".encode()
    for word in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    return f"{url}?{line}&X-Amz-Signature={hmac.digest(key, text.encode(), 'sha256').hex()}"
