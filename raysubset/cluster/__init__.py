"""The cluster: the only folder that imports ray."""

import os

if not os.environ.get("RAY_ADDRESS"):
    # Ray reads this once, at its import. Below `uv run` it would start every worker through uv, in
    # a copy of the working directory (data and all): on one machine the driver's Python will do.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
