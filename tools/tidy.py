#!/usr/bin/env python3
"""tidy.py - style as a test: what a formatter and a compiler do not see.

usage: tidy.py [FILE...]     without a FILE: all that git knows or would add, and the room READMEs

Every exemption is written down here with its reason.
"""
import functools
import hashlib
import os
import re
import subprocess
import sys

LINE_MAX, FILE_MAX, FUNCTION_MAX = 100, 800, 70

ROOMS_WITH_FREE_CALLS = {"sys"}  # the seam to the kernel: system calls, errno, thread-locals

# (file, word): why the ban does not hold there.
ALLOWED = {
    ("src/base/panic.c", "write"): "the last words of a broken promise need no seam",
    ("src/base/panic.c", "abort"): "ends the process, which is its purpose",
    ("src/mem/blocks.c", "malloc"): "AddressSanitizer watches the C library's blocks",
    ("src/mem/blocks.c", "posix_memalign"): "as malloc",
    ("src/mem/blocks.c", "free"): "as malloc",
    ("src/sched/env.c", "getenv"): "the variables that configure a run",
    ("src/sched/stuck.c", "abort"): "fen_config.on_deadlock asks for it",
}
# Rooms that may print, read the environment and handle files: configuration and lifecycle.
ROOM_ALLOWED = {
    "svc": {"sigaction", "sigemptyset", "getenv", "printf", "fprintf", "puts", "fputs", "fopen",
            "fclose", "fgets", "fread", "fwrite", "fflush"},
}

ALWAYS = "strcpy strcat sprintf vsprintf gets strtok alloca"
MEMORY = "malloc calloc realloc free strdup strndup posix_memalign aligned_alloc"
PROCESS = """exit _exit abort fork execve execv execvp system getenv setenv putenv signal sigaction
    kill"""
SLEEP = "sleep usleep nanosleep clock_nanosleep"
CLOCK = "clock_gettime gettimeofday time clock"
IO = """
    read write pread pwrite readv writev open openat creat close socket socketpair bind listen
    accept accept4 connect send sendto sendmsg recv recvfrom recvmsg shutdown getsockopt
    setsockopt getsockname getpeername poll ppoll select pselect epoll_create epoll_create1
    epoll_ctl epoll_wait epoll_pwait eventfd pipe pipe2 dup dup2 fcntl ioctl mmap munmap
    madvise mprotect syscall sendfile splice getaddrinfo unlink rename stat fstat lseek
    ftruncate fsync"""
PRINT = "printf fprintf vprintf vfprintf puts fputs putchar perror"
FILES = "fopen fclose fgets fread fwrite fflush"
LIBRARY_BANS = f"{MEMORY} {PROCESS} {SLEEP} {CLOCK} {IO} {PRINT} {FILES}".split()

# Words that tell where or how a text was written instead of what the product does. Kept as digests,
# so that this list is not itself a finding.
TELLTALE = set("""
    f1dda22f6c c03a8d1017 ab0ddc029a 7d3bbb5cbb 9b794bcc23 468da084e9 4cddc093d5
    575964e711 27a9612b32 f89ed565d5 4a78d263f3 b2c9fd9e39 94449c5bf4 ed12c18812
    d688ae4fac
""".split())
TELLTALE_PATHS = re.compile(r"(?<![\w.])/(?:w[o]rk|h[o]me|r[o]ot)/[\w.-]+")
TELLTALE_ISSUE = re.compile(r"\b[A-Za-z][\w./-]*#\d+\b|\b(?:issue|pull request|PR) #?\d+\b", re.I)
TELLTALE_HOST = re.compile(r"\b[\w-]+\.(?:internal|corp|lan)\b")

LEFTOVER = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX|TB" r"D)\b")
LEFTOVER_CODE = re.compile(r"\b(?:st" r"ub|place" r"holder)s?\b", re.I)

TEXT = (".c", ".h", ".S", ".py", ".sh", ".md", ".txt", ".cmake", ".json", ".in", ".yml", ".html",
        ".js", ".css", ".java", ".go")


def listed():
    run = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"],
                         capture_output=True, text=True)
    if run.returncode == 0:
        return sorted(p for p in set(run.stdout.splitlines()) if os.path.isfile(p))
    found = []  # not a repository: an unpacked archive
    for d, subdirs, names in os.walk("."):
        subdirs[:] = [s for s in subdirs if s not in ("build", ".git", "pack")]
        found += [os.path.relpath(os.path.join(d, n)) for n in names]
    return sorted(found)


@functools.lru_cache(None)
def digest(word):
    return hashlib.sha1(word.lower().encode()).hexdigest()[:10]


TOKENS = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)


def blank(text):
    """The code with comments, strings and characters emptied; lines stay where they are."""
    def keep_lines(m):
        s = m[0]
        if s[0] == "/":
            return re.sub(r"[^\n]", " ", s)
        return s[0] + re.sub(r"[^\n]", " ", s[1:-1]) + s[-1]
    return TOKENS.sub(keep_lines, text)


def check_text(path, lines, bad):
    """Any text file: line length, leftovers, telltales."""
    code = path.endswith((".c", ".h", ".S", ".py", ".sh")) or path == "dev"
    for n, line in enumerate(lines, 1):
        if code and len(line) > LINE_MAX:
            bad.append(f"{path}:{n}: {len(line)} columns, at most {LINE_MAX}")
        if line != line.rstrip() and not path.endswith(".md"):
            bad.append(f"{path}:{n}: blanks at the end of the line")
        m = LEFTOVER.search(line)
        if m:
            bad.append(f"{path}:{n}: leftover {m[0]}")
        m = TELLTALE_PATHS.search(line) or TELLTALE_ISSUE.search(line) or TELLTALE_HOST.search(line)
        if m:
            bad.append(f"{path}:{n}: '{m[0]}' belongs to no reader of this repository")
        for word in re.findall(r"[A-Za-z]{3,}", line):
            if digest(word) in TELLTALE:
                bad.append(f"{path}:{n}: the word '{word}' does not belong here")


def check_size(path, lines, bad):
    if path.endswith((".c", ".h", ".py", ".S")) and len(lines) > FILE_MAX:
        bad.append(f"{path}: {len(lines)} lines, at most {FILE_MAX}")


def check_head(path, text, bad):
    name = os.path.basename(path)
    if not text.startswith(f"/* {name} - "):
        bad.append(f"{path}:1: the file starts with '/* {name} - what it is'")


def signature_start(lines, open_line):
    """First line of the signature whose body opens at open_line (indexes from 0)."""
    at = open_line
    while at > 0:
        above = lines[at - 1].rstrip()
        if not above or above.endswith(("}", ";", "*/")) or above.startswith("#"):
            break
        at -= 1
    return at


def check_functions(path, lines, bad):
    """The formatter puts a function's braces in column 0, so they can be found without a parser."""
    start = None
    for i, line in enumerate(lines):
        if line == "{":
            start = i
        elif line.startswith("}") and start is not None:
            first = signature_start(lines, start)
            head = lines[first - 1] if first else ""
            comment = first - 1
            while comment > 0 and head and "/*" not in lines[comment]:
                comment -= 1
            excused = head.endswith("*/") and "/* long: " in lines[comment]
            if i - start - 1 > FUNCTION_MAX and not excused:
                bad.append(f"{path}:{first + 1}: function of {i - start - 1} lines, at most "
                           f"{FUNCTION_MAX} without a '/* long: reason */' above it")
            start = None


def check_typedefs(path, code, bad):
    code = re.sub(r"^#(?:.*\\\n)*.*", lambda m: "\n" * m[0].count("\n"), code, flags=re.M)
    for m in re.finditer(r"^\s*typedef\b((?:[^;{]|\{[^}]*\})*);", code, re.M):
        tail = m[1].rsplit("}", 1)[-1]
        found = re.search(r"\(\s*\*\s*(\w+)\s*\)\s*\(", tail)
        found = found or re.search(r"(\w+)[\s\[\]\d]*$", tail)
        name = found[1] if found else "?"
        line = code.count("\n", 0, m.start(1)) + 1
        if not name.startswith("fen_"):
            bad.append(f"{path}:{line}: typedef {name}: use a struct tag, or name it fen_*")


def is_own(code, word):
    return re.search(r"^static [^;=({\n]*\b" + word + r"\(", code, re.M) is not None


def check_calls(path, code, bad):
    parts = path.split("/")
    library = parts[0] == "src" and not path.endswith("_test.c")
    room = parts[1] if library else ""
    bans = ALWAYS.split()
    if library and room not in ROOMS_WITH_FREE_CALLS:
        bans = bans + LIBRARY_BANS
    for m in re.finditer(r"(?<![\w.>])(" + "|".join(bans) + r")\s*\(", code):
        word = m[1]
        if (path, word) in ALLOWED or word in ROOM_ALLOWED.get(room, ()) or is_own(code, word):
            continue
        line = code.count("\n", 0, m.start()) + 1
        bad.append(f"{path}:{line}: {word}() is not called here" +
                   ("; room sys and room mem have counterparts" if word not in ALWAYS else ""))
    if not library or room in ROOMS_WITH_FREE_CALLS:
        return
    for m in re.finditer(r"^(?!\s*#).*\b(errno|_Thread_local|__thread)\b", code, re.M):
        if (path, m[1]) not in ALLOWED:
            line = code.count("\n", 0, m.start()) + 1
            bad.append(f"{path}:{line}: {m[1]} stays inside room sys")


def check_leftover_code(path, lines, bad):
    for n, line in enumerate(lines, 1):
        m = LEFTOVER_CODE.search(line)
        if m and not path.endswith("_test.c"):
            bad.append(f"{path}:{n}: leftover {m[0]}")


def check_docs(path, lines, bad):
    """Each public function stands under a comment, alone or in a run of its kin."""
    documented = False
    for n, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            documented = False
        if line.startswith("/*") or "*/" in line:
            documented = True
        if line.startswith("FEN_API") and not documented:
            bad.append(f"{path}:{n}: no doc comment above this declaration")


def check_rooms(bad):
    for room in sorted(os.listdir("src")):
        if os.path.isdir("src/" + room) and not os.path.exists(f"src/{room}/README.md"):
            bad.append(f"src/{room}: no README.md")


def main():
    bad, n = [], 0
    for path in sys.argv[1:] or listed():
        if not path.endswith(TEXT) and os.path.basename(path) not in ("dev", "run", "LICENSE"):
            continue
        if os.path.islink(path):
            continue
        with open(path, encoding="utf-8", errors="replace") as f:
            text = f.read()
        lines = text.splitlines()
        n += 1
        check_text(path, lines, bad)
        check_size(path, lines, bad)
        if path.endswith((".c", ".h", ".S")):
            check_head(path, text, bad)
        if path.endswith((".c", ".h")):
            code = blank(text)
            check_functions(path, lines, bad)
            check_calls(path, code, bad)
            if path.startswith(("src/", "include/")):
                check_typedefs(path, code, bad)
            if path.startswith(("src/", "include/", "cmd/")):
                check_leftover_code(path, lines, bad)
        if path.startswith("include/fen/"):
            check_docs(path, lines, bad)
    if len(sys.argv) == 1:
        check_rooms(bad)
    print("\n".join(bad) if bad else f"{n} files")
    sys.exit(1 if bad else 0)


main()
