"""What a run still in progress will do, and what such forecasts are worth."""
