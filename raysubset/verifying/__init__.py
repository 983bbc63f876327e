"""Verify: is what a run left behind what it wrote, and are its choices right?

Everything is read and nothing is written; no lock is taken, so a run may go on meanwhile.
"""
