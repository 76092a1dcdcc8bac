"""Run the toy: `python -m tests.stream.toy ROLE`."""

import sys
from typing import cast

from shared.runtime import Role, run

run("tests.stream.toy.app", cast("Role", sys.argv[1]))
