"""Why it exists: a forecast is only worth saying with its interval, and with how wrong the model was before."""
