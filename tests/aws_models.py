"""botocore's models of AWS's services, read once in a process.

Each session of botocore reads them anew, from the disk and out of JSON. That takes 40 ms of a core for each client: more than
most tests take for all that is their own. Nothing changes a model once it is read.
"""

from __future__ import annotations

from functools import cache

import botocore.session


def read_once() -> None:
    if not hasattr(botocore.session.create_loader, "cache_clear"):
        botocore.session.create_loader = cache(botocore.session.create_loader)


def read_before_forks() -> None:
    """Those that a worker begins with, so that none of the processes that are forked from this one reads them."""
    read_once()
    botocore.session.get_session().create_client(
        "sesv2", region_name="eu-west-1", aws_access_key_id="simulated", aws_secret_access_key="simulated"
    )
