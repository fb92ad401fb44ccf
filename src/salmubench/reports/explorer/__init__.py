"""The leak explorer: a page in the browser that asks several models what a face, or a name, gives away."""
