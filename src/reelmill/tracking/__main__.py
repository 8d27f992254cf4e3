"""``python -m reelmill.tracking <journal> <seconds>``: sends a training's journal while it runs."""

import os
import signal
import sys
from pathlib import Path

from reelmill.tracking.sender import send_until_closed

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends training, which closes standard input
    os.nice(10)  # the cores are training's
    sys.exit(send_until_closed(Path(sys.argv[1]), float(sys.argv[2])))
