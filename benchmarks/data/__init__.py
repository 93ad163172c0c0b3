"""Real image sets, made on the user's machine from pinned packages of Debian and npm.

Four commands, each resumable and repeatable; all but ``pack`` write to the cache
(``$KINSPACE_CACHE``, else ``~/.cache/kinspace``):

    python -m benchmarks.data.objects820 --extra-wild 16   # 820 furniture models, 128 px
    python -m benchmarks.data.pack                         # a small cut of it, for the demo
    python -m benchmarks.data.emoji                        # the same things by other artists, 64 px
    python -m benchmarks.data.pool                         # what may be used for pretraining

Downwards: a command calls ``catalogue``, ``backgrounds``, ``views``; those call ``model`` and
``renderer``; those ``mesh``; everything may call ``cache``, ``packages``, ``manifest``, ``splits``.
Rendering needs OpenGL without a screen: on Debian the packages ``libegl1`` and ``libgl1-mesa-dri``.
"""
