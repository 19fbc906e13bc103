"""What setup.cfg cannot say: beside a Frappe that pins older packages, an older Celery is needed.

``bench get-app`` installs an app from the bench's apps folder without any extra.  So it is found
out where the package is built, and whoever has no Frappe beside it gets the newest Celery.
"""

import sys
from configparser import ConfigParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from setuptools import setup

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent

#: Celery and kombu 5.7 want these versions or later.
WANTED = {"click": "8.3.1", "python-dateutil": "2.9.0.post0", "redis": "6.1.0"}
#: The last that do not.
OLDER = ["celery<5.7", "kombu<5.7"]


def frappes_requirements() -> list[Requirement]:
    """What the Frappe in the folder beside this one needs; [] where there is none."""
    file = HERE.parent / "frappe" / "pyproject.toml"
    if not file.is_file():
        return []
    project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    return [Requirement(text) for text in project.get("dependencies", ())]


def is_older(requirement: Requirement) -> bool:
    """Whether it allows earlier versions only than those that are wanted."""
    wanted = WANTED.get(canonicalize_name(requirement.name))
    if wanted is None or requirement.specifier.contains(wanted):
        return False
    return any(Version(one.version.removesuffix(".*")) < Version(wanted)
               for one in requirement.specifier)  # fmt: skip


def ours() -> list[str]:
    """Those of setup.cfg, which is not asked for them where they are given here."""
    config = ConfigParser()
    config.read(HERE / "setup.cfg", encoding="utf-8")
    return config["options"]["install_requires"].split()


setup(install_requires=ours() + (OLDER if any(map(is_older, frappes_requirements())) else []))
