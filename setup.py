"""The repository root is the package ``graphwright``; what lies below it is found, not listed."""

from setuptools import find_packages, setup

FOLDERS = ("compiler*", "passes*", "backends*", "models*", "tools*")
DATA = ("py.typed", "*.json", "*.html", "data/*")
PACKAGES = ["graphwright", *(f"graphwright.{name}" for name in find_packages(include=FOLDERS))]

setup(packages=PACKAGES, package_dir={"graphwright": "."}, package_data={"graphwright": ["py.typed"], **{name: list(DATA) for name in PACKAGES[1:]}})
