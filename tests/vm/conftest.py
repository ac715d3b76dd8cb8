"""Why it exists: a machine takes minutes to boot, so its tests run only when they are asked for: `make test-vm`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
collect_ignore = [] if os.environ.get("SUTAZAI_VM") else ["test_real_host.py"]
