"""The same job on N accelerators: its time, money, energy and failures, predicted.

A prediction is built from parts that can each be checked, one module a part:

    job           what is predicted: a job, how it is split, and the answer
    shapes        what a model is made of, by name or by numbers
    hardware      what a device and the levels of its network can do: catalogue, or measured
    constants     everything fitted, frozen in `bench/catalog/data/predict_constants.json`
    matmul        a matrix multiplication's time from its shape
    layer         the operations of a layer, and their time
    measured, measured_network, calibrate, from_files    the same from result files
    by_size       what was measured at some sizes, at any size
    overheads     what a way of splitting costs more than its rates say, from measured steps
    costs         what layers cost for a microbatch, by part
    network       collectives, by latency and bandwidth of each level
    memory, holdings    bytes a device holds, by part; what of a job it has
    pipeline      a schedule's time from its stages'
    stragglers    the slowest of many ranks
    step          all of it put together: one training step
    search        the best splits that fit into memory
    fleet         devices of several types in one job
    failures, money, energy    what a step costs once it runs for weeks

Nothing here imports torch, and a prediction is never labelled as a measurement.
"""
