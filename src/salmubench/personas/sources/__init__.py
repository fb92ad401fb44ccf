"""One file a source of anchors, portraits or captions, or a face model; ``source.py``, ``wording.py`` and ``faces.py``
say what each is.
"""
