"""What `jobs.soak` is made of: plans, faults, runs, folders, and the count, one file each."""
