"""`seedmap.Recorder` as a callback of other libraries' training loops, a module for each.

seedmap.callbacks.huggingface    transformers.Trainer
seedmap.callbacks.lightning      lightning.pytorch.Trainer
seedmap.callbacks.keras          keras.Model.fit

Each records the weights at the first step, wherever the library logs or validates, and every so
many steps besides. A training that goes on from a checkpoint drops what was recorded after it. Of
several processes that train one model the first records; it must hold all weights.
"""
