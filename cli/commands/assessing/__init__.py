"""Commands that measure and check matchers: evaluate, check, calibrate, verify, inspect, doctor."""
