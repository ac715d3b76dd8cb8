"""Why it exists: turns documents into typed values, each with the place in the document where it stands."""
