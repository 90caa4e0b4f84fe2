"""The contract between the daemon and its clients: protocol buffers and generated stubs."""

__version__ = "0.1.0"
