#!/usr/bin/env python3
"""listings.py - the code and the output that documents show are those of the files.

usage: listings.py [--write]

A line <!-- file: PATH --> in docs/**/*.md says what the fenced block under it holds: the file, of a
C file without its head comment; <!-- file: PATH NAME --> only its function, struct or macro NAME
with the comment above it. Without --write a block that differs is reported.
"""
import glob
import re
import sys

BLOCK = re.compile(r"^<!-- file: (\S+)(?: (\w+))? -->\n```(\w*)\n(.*?)^```$", re.S | re.M)


def part(text, name):
    """A definition that begins in column 0, up to the line that closes it; None: there is none."""
    lines = text.split("\n")
    begin = re.compile(rf"#define {name}\b|(struct|enum|union) {name} \{{|\w.*\b{name}\([^;]*$")
    for i, line in enumerate(lines):
        if not begin.match(line):
            continue
        first = last = i
        while not re.match(r"\}|.*\}$|#define (?!.*\\$)", lines[last]):
            last += 1
        if first and lines[first - 1].endswith("*/"):
            first -= 1
            while not lines[first].startswith("/*"):
                first -= 1
        return "\n".join(lines[first:last + 1]) + "\n"
    return None


def wanted(path, name):
    try:
        with open(path, encoding="utf-8") as f:
            text = f.read()
    except OSError:
        return None
    if name:
        return part(text, name)
    if path.endswith(".c"):
        text = text[text.index("*/") + 2:].lstrip("\n")
    return text


def main():
    write, bad, n = sys.argv[1:] == ["--write"], [], 0
    for path in sorted(glob.glob("docs/**/*.md", recursive=True)):
        with open(path, encoding="utf-8") as f:
            old = f.read()

        def fill(m):
            nonlocal n
            n += 1
            text = wanted(m[1], m[2])
            if text is None:
                bad.append(f"{path}: {m[1]} has no {m[2]}" if m[2] else
                           f"{path}: {m[1]} does not exist")
                return m[0]
            if text != m[4] and not write:
                bad.append(f"{path}: the listing of {m[1]} {m[2] or ''} differs: ./dev docs")
            head = m[0].split("\n", 1)[0]
            return f"{head}\n```{m[3]}\n{text}```"
        new = BLOCK.sub(fill, old)
        if old.count("<!-- file: ") != len(BLOCK.findall(old)):
            bad.append(f"{path}: a <!-- file: ... --> has no block under it")
        if write and new != old:
            with open(path, "w", encoding="utf-8") as f:
                f.write(new)
    print("\n".join(bad) if bad else f"{n} listings")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
