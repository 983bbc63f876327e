"""The doctor: will a run work, before a person pays for it.

Facts are gathered here and by `raysubset.cluster.examining`; every check is a pure function of
facts to a `Finding`. Nothing is started on a GPU of a cluster, and nothing is left behind.
"""
