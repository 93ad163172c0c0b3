"""Training: a cloud model, edge models that land in its space, and their export.

Read it in the order of the work: ``config`` (a family's TOML), ``pixels`` (the set, decoded once),
``query_net`` (which network, and what it begins with), ``train_cloud`` and ``train_edge`` (the
recipes, read top to bottom), ``loop`` and ``checkpoint`` (stop-and-resume equals never stopping),
``export`` (to ONNX and TFLite).
"""
