"""Time costs of determinism, precision and seeds side by side.

Zhuang et al. 2022 ask what determinism costs. Measured is the time of some training steps of a
network under a mode, over that under the default mode. Each network under each mode is a process of
its own, since XLA reads its flags once in a process.
"""
