"""The folder that training writes and the service reads, and the code that both run on it."""
