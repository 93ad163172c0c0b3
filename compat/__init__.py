"""The contract and the evidence: what may be compared with what, and how that was proven.

The contract (numpy, pillow and pydantic only; the device imports it): ``space`` names vectors that
may be compared, ``preprocess`` turns image bytes into a tensor, ``manifest`` describes a release,
``golden`` is the check a device runs on itself, ``files`` reads bounded and writes atomically,
``errors`` is the one tree of refusals.

The evidence: ``scores`` (who is relevant, and how ties count) under ``retrieval``, ``overlap``,
``flips``, ``thresholds``, ``parity`` and ``costs``; ``statistics`` says how sure they are;
``verification`` measures a whole family, ``gate`` turns measurements into a verdict, ``report``
shows them. ``losses`` (torch) is what training pulls on. Imports nothing of ours; nothing in the
contract reaches torch.
"""
