"""Commands that make matchers: label, train, export, push, pull."""
