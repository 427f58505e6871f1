"""What pyproject.toml cannot say but as an experiment: a module that is compiled."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        # Where there is no compiler it is left out, and numpy does the same, more slowly.
        Extension(
            "server.decoding.memory._speedups",
            ["server/decoding/memory/_speedups.pyx"],
            optional=True,
        )
    ]
)
