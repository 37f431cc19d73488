"""The repository root is the package ``graphwright``; what lies below it is found, not listed."""

from setuptools import find_packages, setup

FOLDERS = ("compiler*", "passes*", "backends*", "models*", "tools*")

setup(packages=["graphwright", *(f"graphwright.{name}" for name in find_packages(include=FOLDERS))], package_dir={"graphwright": "."})
