"""A plug-in for tests: a chain of light stages that write down every execution."""
