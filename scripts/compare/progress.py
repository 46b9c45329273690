"""What a long run is at, on the standard error: one line that changes on a terminal, else a line
for each step."""

import sys
import time


class Progress:
    """Counts steps, and says how long the rest will take by those that are done."""

    def __init__(self, steps, out=sys.stderr):
        self.steps, self.done = steps, 0
        self.out = out
        self.started = time.monotonic()

    def step(self, what):
        """A step begins."""
        elapsed = time.monotonic() - self.started
        left = ""
        if self.done:
            seconds = elapsed / self.done * (self.steps - self.done)
            amount = f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
            left = f", about {amount} left"
        self.done += 1
        line = f"[{self.done}/{self.steps}] {what} ({elapsed:.0f} s{left})"
        if self.out.isatty():
            self.out.write(f"\r\x1b[K{line}")
        else:
            self.out.write(f"{line}\n")
        self.out.flush()

    def note(self, text):
        """Something that stays to be read."""
        self.out.write(f"\r\x1b[K{text}\n" if self.out.isatty() else f"{text}\n")

    def end(self):
        """Clears the line."""
        if self.out.isatty():
            self.out.write("\r\x1b[K")
        self.out.flush()
