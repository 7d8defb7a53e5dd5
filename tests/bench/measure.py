"""A process of its own, run to its end, with the memory it took."""

from __future__ import annotations

import subprocess
import threading
import time

import psutil


def measured(command: list[str], environment: dict[str, str]) -> tuple[str, float]:
    """Run a command; return its output and the peak memory of its largest process, in MB."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peak = 0

    def watch() -> None:
        nonlocal peak
        try:
            root = psutil.Process(process.pid)
            while process.poll() is None:
                for one in [root, *root.children(recursive=True)]:
                    peak = max(peak, one.memory_info().rss)
                time.sleep(0.1)
        except psutil.NoSuchProcess:
            pass

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    watcher.join()
    return output, peak / 1e6
