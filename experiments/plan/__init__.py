"""What a run will need on a device that is not there, by that device's own compiler."""
