"""What training pulls on: one term a module, a pure function, per-sample out (N,).

The caller weights, reduces and gathers; a term knows no device, no world size, no weight.
Embeddings come in raw or normalised: every term normalises for itself, directions are what counts.
"""
