"""Version 1 of the contract, generated from worker.proto but for this file."""
