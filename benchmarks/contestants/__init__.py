"""The contestants of the race, a file and a process each.

    python -m benchmarks.contestants.NAME --data DIR [--epochs 6] [--threads 2] [--seed 0]

All train 784-400-20 on MNIST: batch 128, the last batch of 96, Adam 1e-3, single precision, from
torch's initial distribution. Each prints a line of JSON per epoch, ``epoch`` and ``seconds`` of
training alone, then ``test_loss``: nats per example on the test images, one draw of z each.
"""
