"""Why it exists: trains models honestly: beside a baseline, on the same folds, with a version that can be loaded."""
