"""The repository root is the package ``graphwright``; what lies below it is found, not listed."""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

FOLDERS = ("compiler*", "passes*", "backends*", "models*", "tools*")
DATA = ["*.json", "*.html", "data/*"]
PACKAGES = [f"graphwright.{name}" for name in find_packages(include=FOLDERS)]


class BuildModules(build_py):
    """Leaves this script out, which lies in the package's own folder."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """(package, module, path) of what is installed."""
        return [found for found in super().find_package_modules(package, package_dir) if found[1] != "setup"]


setup(
    packages=["graphwright", *PACKAGES],
    package_dir={"graphwright": "."},
    package_data={"graphwright": ["py.typed"], **dict.fromkeys(PACKAGES, DATA)},
    cmdclass={"build_py": BuildModules},
)
