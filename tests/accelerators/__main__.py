"""Compile the main programs of a run for accelerators that are not present, and print the compilers' statistics.

    make accelerators                       # installs the compilers first: 440 MB
    python -m tests.accelerators --quick    # without the slice of 256 chips

Nothing is run or measured. Operations, memory and collectives are reported by the compiler. Bytes per step are counted
from the shapes and layouts of its instructions. Times are roofline estimates from both. The command fails if a loop
does not stay on the device or a state is not updated in place.
"""

import argparse

from tests.accelerators import targets


def main() -> None:
    """Parse the flags, compile, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m tests.accelerators", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the slice of 256 chips")
    parser.add_argument("--only", default="", help="compile only programs with this in their name")
    flags = parser.parse_args()
    targets.prepare()

    from tests.accelerators import report

    print("| program | chip | operations per step | MB per step | peak MB | sent per step | µs per step by roofline |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for case in report.cases(wide=not flags.quick):
        if flags.only not in f"{case.name}, {case.target.name}":
            continue
        found = report.measure(case)
        sent = ", ".join(f"{kind} {size / 1e6:.1f} MB" for kind, size in found.collectives.items()) or "-"
        chip = f"{case.target.name} {case.topology}".strip()
        print(
            f"| {case.name} | {chip} | {found.operations} | {found.bytes_per_step / 1e6:.1f} | {found.peak / 1e6:.0f} "
            f"| {sent} | {1e6 * found.seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
