"""The contestants of the race: one file and one process each.

    python -m benchmarks.contestants.NAME --data DIR [--epochs 6] [--threads 2] [--seed 0]

All train 784-400-20 on MNIST: batches of 128 and a last one of 96, Adam 1e-3, single precision,
weights that start from torch's distribution. Each prints a line of JSON per epoch, with ``epoch``
and ``seconds`` (of training alone), then one with ``test_loss``: nats per example on the test
images, with one draw of z for each.
"""
