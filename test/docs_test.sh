#!/bin/sh
# docs_test.sh - what the documents promise can be found: the README shows the example that is
# built, its relative links lead somewhere, listings are their files, the index is complete, and
# each requirement row has its text and its check.
. "$FEN_SOURCE_DIR/test/lib.sh"
cd "$FEN_SOURCE_DIR"
need python3

python3 - <<'PY' || fail "see above"
import glob, os, re, sys

bad = []
code = open("examples/hello/hello.c", encoding="utf-8").read()
code = code[code.index("#include"):].strip()
if code not in open("README.md", encoding="utf-8").read():
    bad.append("README.md: its service is not examples/hello/hello.c")

for path in ["README.md", "CONTRIBUTING.md"] + glob.glob("docs/**/*.md", recursive=True):
    for link in re.findall(r"\]\(([^)#]+)\)", open(path, encoding="utf-8").read()):
        if "://" not in link and not os.path.exists(os.path.join(os.path.dirname(path), link)):
            if os.path.basename(link) != "rows.md":  # written by ./dev rows
                bad.append(f"{path}: {link} does not exist")

# The walks, once the topmost room has code: each file exists, and a function named beside a file is
# in src/.
sources = glob.glob("src/*/*.[chS]")
known = set(re.findall(r"\bfen__?\w+", " ".join(open(p, encoding="utf-8").read() for p in sources)))
for n, line in enumerate(open("docs/architecture.md", encoding="utf-8"), 1):
    files = [f for f in re.findall(r"`(src/\w+/\w+\.\w+)`", line)]
    built = [f for f in files if glob.glob("src/svc/*.c") or os.path.exists(f)]
    bad += [f"docs/architecture.md:{n}: {f} does not exist" for f in built if not os.path.exists(f)]
    if files and built == files:
        bad += [f"docs/architecture.md:{n}: nobody knows {w}"
                for w in re.findall(r"`(fen_\w+)`", line) if w not in known]

rows = set(re.findall(r'^    "([WH]\d+)":', open("tools/rows.py", encoding="utf-8").read(), re.M))
texts = {os.path.basename(p)[:-3] for p in glob.glob("docs/rows/*.md")}
if rows != texts or not rows:
    bad.append(f"docs/rows and tools/rows.py differ: {sorted(rows ^ texts)}")

words = set(re.findall(r"^#: (\w+)", open("dev", encoding="utf-8").read(), re.M))
for path in glob.glob("*.md") + glob.glob("docs/**/*.md", recursive=True):
    for word in re.findall(r"\./dev ([a-z]+)\b", open(path, encoding="utf-8").read()):
        if word not in words:
            bad.append(f"{path}: ./dev {word} does not exist")
pages = {os.path.relpath(p, "docs") for p in glob.glob("docs/*.md")} - {"README.md", "rows.md"}
pages |= {"tutorial/" + os.path.basename(p) for p in glob.glob("docs/tutorial/[0-9]*.md")}
index = set(re.findall(r"\]\(([^)#]+)\)", open("docs/README.md", encoding="utf-8").read()))
bad += [f"docs/README.md: does not lead to {p}" for p in sorted(pages - index)]
print("\n".join(bad))
sys.exit(1 if bad else 0)
PY
! ./dev >"$tmp/said" 2>&1 || fail "./dev without a word is a success"
grep -q '^usage: ./dev' "$tmp/said" || fail "./dev without a word: $(cat "$tmp/said")"
python3 tools/listings.py || fail "a listing is not its file"
echo "ok"
