"""The device: load, admit, embed, update, search.

``runtimes`` runs an exported file (ONNX Runtime or LiteRT behind one port), ``embedder`` joins it
with its preprocessing recipe, ``footprint`` measures what it costs here. ``client`` asks a registry
and believes only what is signed; ``device`` keeps a release, admits the next one by its golden
images and switches whole. numpy, pillow and one runtime run a model: nothing in here reaches torch,
and a runtime's package is imported when the first file opens.
"""
