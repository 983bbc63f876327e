"""Storage: run folders that lie behind a URI, and the local folders that stand in for them.

The driver works in a local staging folder and mirrors it; ranks never touch the object store, so
only the driver needs credentials. The remote is the truth, staging is a cache.
"""

from raysubset.storage.probing import probe
from raysubset.storage.remote import Remote, holds, is_uri

__all__ = ["Remote", "holds", "is_uri", "probe"]
