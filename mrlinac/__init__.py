"""mrlinac: an open MR-Linac adaptive radiotherapy planning simulator. For research, not a medical device."""

__version__ = "0.1.0"
