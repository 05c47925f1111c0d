"""The default engine of the training map: HMMs whose records follow the ones before them."""
