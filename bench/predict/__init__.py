"""Prediction of a job on N accelerators: its time, money, energy and failures, predicted.

A request (`request`, or `from_results` with measured rates) becomes an answer (`answer`), with costs (`economy`),
tables, plots and a page. `search` finds the best strategies that fit into memory. The parts can each be checked:

    model/         one training step: matrix products and layers, memory, pipeline, stragglers, fleets of several types
    rates/         devices, their network, matrix products, and everything fitted, frozen in
                   `bench/catalog/data/predict_constants.json`
    calibration/   rates, transfers and overheads from result files
    cost/          failures, and prices of devices
    mix/           `bench mix`: mixed clusters, from the measured speed of each kind

Nothing here imports torch, and a prediction is never labelled as a measurement.
"""
