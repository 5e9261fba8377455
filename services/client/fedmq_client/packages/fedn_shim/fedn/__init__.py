"""Stands in for `fedn` in the commands of a package if that is not installed. It has the helpers only.

FedMQ puts this folder last on a command's PYTHONPATH, which Python searches before installed packages. So this module
looks for an installed `fedn` first, and loads that instead.
"""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder

_here = os.path.realpath(os.path.dirname(os.path.dirname(__file__)))
_installed = PathFinder.find_spec("fedn", [entry for entry in sys.path if os.path.realpath(entry) != _here])
if _installed is not None and _installed.loader is not None:
    _module = importlib.util.module_from_spec(_installed)
    sys.modules["fedn"] = _module
    _installed.loader.exec_module(_module)
