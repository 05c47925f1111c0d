"""Measures of how far replicas differ, with their intervals: functions of arrays of replicas."""
