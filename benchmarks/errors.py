"""The one error of the benchmarks: something that is needed for a measurement is not there."""

from server.errors import CompletionServerError


class BenchmarkError(CompletionServerError):
    """A measurement can't be made, or a results file can't be read; the message says why."""
