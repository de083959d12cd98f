"""The worker: claims, runs, checkpoints, activities, leases, upkeep."""
