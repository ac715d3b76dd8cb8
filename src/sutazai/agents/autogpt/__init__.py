"""Why it exists: pursues a goal by thinking, acting and observing, with memory and budgets; facts come from skills."""
