"""The ten lines run, and say what they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_ten_lines_print_a_receipt(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "samples" / "quickstart.py")],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "receipt-o-1-4200\n"
    assert (tmp_path / "shop.db").exists()
