"""Tracking: a run's figures in TensorBoard event files, and in MLflow or W&B where asked for.

    RUN/tensorboard/events.out.tfevents.*    always
    RUN/tracking.json                        which tracked run is this folder's, and what it has

A tracker follows RUN/history.jsonl, which only committed rounds are in: what it shows is what was
kept, and one that was down is told later what it missed. It decides nothing and stops nothing.
"""
