"""Networks and layers that several tasks share."""
