import re
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "fold.py"


def test_forty_updates_take_no_more_memory_than_five() -> None:
    report = subprocess.run(
        [sys.executable, str(BENCHMARK), "--megabytes", "8", "--repeats", "1"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    peaks = {
        int(count): float(peak) for count, peak in re.findall(r"peak memory at +(\d+) updates: ([\d.]+) GB", report)
    }
    assert "fold, from memory" in report
    assert peaks[40] <= peaks[5] + 0.008
