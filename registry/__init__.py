"""Publishing: from a family's TOML to signed files, a searchable gallery, the command ``kinspace``.

Read it in the order of the work: ``workspace`` (where a family's files lie and which stages are
done), ``stages`` (train, export), ``evidence`` (verify, report), ``publish`` and ``repository`` (a
release becomes signed static files), ``gallery`` and ``service`` (the index and its HTTP door),
``demo`` (the whole story), ``cli`` (the command; it imports what a verb needs when the verb runs).
"""
