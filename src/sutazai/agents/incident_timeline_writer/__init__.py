"""Why it exists: after an incident people ask what happened when, and believe a report only as far as it is sourced."""
