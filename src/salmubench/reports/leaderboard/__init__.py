"""The leaderboard: one JSON file an entry, made by ``submit``, stamped by ``verify``, shown by ``build``."""
