#!/usr/bin/env python3
"""reference.py - docs/reference: one page for each public header, made from its comments.

usage: reference.py --write           writes the pages
       reference.py --check [BUILD]   the committed pages are what would be written; each public
                                      function has a text that says which threads may call it; with
                                      BUILD also: the pages have what the library exports

An item is a comment that begins in column 0 and the declarations under it, up to a blank line.
What holds for a whole header stands in its head comment.
"""
import os
import re
import sys

from names import declared, globals_of, objects

HEADERS, PAGES = "include/fen", "docs/reference"
FRAME = re.compile(r"^#ifdef __cplusplus\n.*?^#endif$|^#(?:ifndef|define) FEN_\w+_H$|^#endif$|"
                   r"^#include [^\n]*$", re.S | re.M)
MARKS = {"FEN_API", "FEN_MUST_CHECK"}
THREADS = re.compile(r"thread|fiber|owner|handler|signal-safe", re.I)
MACRO_MAX = 2  # a longer macro is shown by its name and parameters


def prose(comment):
    """The text of a comment, without its stars; paragraphs are kept apart by empty lines."""
    inner = comment.strip()[2:-2].strip()
    return "\n".join(re.sub(r"^ \* ?", "", line).rstrip() for line in inner.split("\n"))


def without_frame(text):
    """What lies between the include guard and its end."""
    return FRAME.sub("", text)


def items(text):
    """[(comment or "", code)]: each column-0 comment or blank line outside braces begins one."""
    found, comment, code, depth, inside = [], [], [], 0, False

    def end():
        if comment or code:
            found.append(("\n".join(comment), "\n".join(code)))
        comment.clear()
        code.clear()
    for line in text.split("\n"):
        if not inside and depth == 0 and (not line.strip() or line.startswith("/*")):
            end()
        if not inside and line.startswith("/*"):
            inside = True
        if inside:
            comment.append(line)
            inside = "*/" not in line
        elif line.strip():
            code.append(line)
            bare = re.sub(r"/\*.*?\*/|\"[^\"]*\"|'[^']*'", "", line)
            depth += 0 if bare.endswith("\\") else bare.count("{") - bare.count("}")
            if depth == 0 and bare.startswith("}"):
                end()
    end()
    return found


def functions(code):
    code = re.sub(r"/\*.*?\*/", "", code, flags=re.S)
    return (re.findall(r"\bFEN_API\b[^;{]*?\b(fen_\w+)\s*\(", code)
            + re.findall(r"^static inline [^;{(]*?\b(fen_(?!_)\w+)\(", code, re.M))


def names(code):
    """What an item declares, in order: its functions, else its types, else its macros."""
    found = functions(code)
    found = found or re.findall(r"^typedef [^;{]*\(\*(fen_\w+)\)\(", code, re.M)
    found = found or re.findall(r"^(?:typedef )?((?:struct|enum) fen_(?!_)\w+)(?: \{|;| fen_)",
                                code, re.M)
    return found or re.findall(r"^#define (FEN_(?!_)\w+)", code, re.M)


def shown(code):
    """The declarations as a reader wants them: without marks, bodies and long macros."""
    code = re.sub(r"^(static inline [^{]*?\))\s*\{(?:[^\n]*\}$|\n.*?^\})", r"\1;", code,
                  flags=re.S | re.M)
    out, lines = [], code.split("\n")
    while lines:
        line = lines.pop(0)
        macro = [line]
        while macro[-1].endswith("\\") and lines:
            macro.append(lines.pop(0))
        if len(macro) > MACRO_MAX:
            macro = [re.match(r"#define \w+(\([^)]*\))?", line)[0] + " /* ... */"]
        out += [re.sub(r"\s+\\$", " \\\\", m) for m in macro]
    text = re.sub(r"\s+FEN_MUST_CHECK\b", "", "\n".join(out))
    text = re.sub(r"^FEN_API (?:__attribute__\(\(\w+\)\) )?", "", text, flags=re.M)
    return text


def must_check(code):
    both = r"(?:\bFEN_API|^static inline)\b[^;{]*?\b(fen_(?!_)\w+)\s*\([^;{]*[;{]"
    return [m[1] for m in re.finditer(both, code, re.M) if "FEN_MUST_CHECK" in m[0]]


class Book:
    def __init__(self):
        self.pages, self.home, self.bad, self.functions, self.lead = {}, {}, [], set(), {}
        texts = {}
        for name in sorted(os.listdir(HEADERS)):
            with open(f"{HEADERS}/{name}", encoding="utf-8") as f:
                texts[name] = f.read()
        self.parsed = {n: self.parse(t) for n, t in texts.items() if n != "fen.h"}
        for name, (_, rest) in self.parsed.items():
            for _, code in rest:
                for word in names(code):
                    self.home.setdefault(word.split()[-1], name)
        for name, (head, rest) in self.parsed.items():
            self.pages[name[:-2] + ".md"] = self.page(name, head, rest)
        self.pages["README.md"] = self.index()

    @staticmethod
    def parse(text):
        head = text[:text.index("*/") + 2]
        return prose(head), items(without_frame(text[len(head):]))

    def marked(self, text, here):
        """A comment's words as Markdown: names become code and lead to their page. What is
        indented further than its neighbours is code."""
        parts = []
        for para in re.split(r"\n{2,}", text):
            if all(line.startswith("  ") for line in para.split("\n")):
                parts.append("```c\n" + re.sub(r"^ {2,4}", "", para, flags=re.M) + "\n```")
            else:
                para = re.sub(r"([*<>\[\]|])", r"\\\1", " ".join(para.split()))
                parts.append(re.sub(r"(?<![\w/.\"])(-E[A-Z0-9]{2,}|FEN_[A-Z][A-Z0-9_]+|fen_\w+"
                                    r"(?:\.\w+)?)(?![\w/*\\])",
                                    lambda m: self.link(m[1], here), para))
        return "\n\n".join(parts)

    def link(self, word, here):
        home = self.home.get(word.split(".")[0])
        if not home:
            return f"`{word}`"
        page = "" if home == here else home[:-2] + ".md"
        return f"[`{word}`]({page}#{word.split('.')[0]})"

    def page(self, name, head, rest):
        title, _, about = head.partition(" - ")
        self.lead[name] = about.split("\n\n")[0]
        out = [f"# fen/{name}", self.marked(about[0].upper() + about[1:], name)]
        for comment, code in rest:
            text = prose(comment) if comment else ""
            section = re.fullmatch(r"-{4} (.*?) -{4}", text, re.S)
            if section:
                title = " ".join(section[1].split())
                out.append("## " + title[0].upper() + title[1:])
            elif not code:
                out.append(self.marked(text, name))
            else:
                out += self.item(name, head, text, code)
        out.append(f"---\n\nFrom `{HEADERS}/{name}`, by `./dev docs`. All pages: "
                   "[index](README.md).")
        return "\n\n".join(out) + "\n"

    def item(self, name, head, text, code):
        known = names(code)
        if not set(known) - MARKS:
            return []  # what serves only the headers themselves
        self.police(name, head, text, code)
        self.functions.update(functions(code))
        anchors = "".join(f'<a id="{w.split()[-1]}"></a>' for w in known)
        out = [anchors + "\n\n### " + ", ".join(f"`{w}`" for w in known)]
        if text:
            out.append(self.marked(text, name))
        out.append("```c\n" + shown(code) + "\n```")
        checked = must_check(code)
        if checked:
            every = len(checked) == len(known)
            whose = "" if every else " of " + ", ".join(f"`{w}`" for w in checked)
            out.append(f"The compiler warns when the result{whose} is not used.")
        return out

    def police(self, name, head, text, code):
        for f in functions(code):
            line = re.search(r"\b" + f + r"\s*\([^;{]*[;{](.*)", code)
            own = text or (line and "/*" in line[1])
            if not own:
                self.bad.append(f"{HEADERS}/{name}: {f} has no text")
            elif not THREADS.search(head + text + code):
                self.bad.append(f"{HEADERS}/{name}: {f}: nothing says which threads may call it")

    def index(self):
        out = ["# Reference", "One page for each header of `include/fen`, made from its comments. "
               "`#include <fen/fen.h>` brings those marked with a star. Time is `int64_t` "
               "nanoseconds; a deadline is an absolute time of `fen_now`; errors are negative "
               "errno values or the codes of [fen/err.h](err.md); outputs are the parameters "
               "named `ret_...`, untouched on failure unless it says otherwise."]
        with open(f"{HEADERS}/fen.h", encoding="utf-8") as f:
            umbrella = set(re.findall(r"#include <fen/(\w+\.h)>", f.read()))
        rows = ["| header | what for |", "|---|---|"]
        for name in self.parsed:
            lead = self.marked(self.lead[name], "")
            star = " \\*" if name in umbrella else ""
            rows.append(f"| [fen/{name}]({name[:-2]}.md){star} | {lead} |")
        out += ["\n".join(rows), "## Every function"]
        every = sorted((f, n) for n, (_, rest) in self.parsed.items()
                       for _, code in rest for f in functions(code))
        out.append(" · ".join(f"[`{f}`]({n[:-2]}.md#{f})" for f, n in every))
        return "\n\n".join(out) + "\n"


def stale(book):
    have = set(os.listdir(PAGES)) if os.path.isdir(PAGES) else set()
    for page in sorted(have | set(book.pages)):
        text = None
        if page in have:
            with open(f"{PAGES}/{page}", encoding="utf-8") as f:
                text = f.read()
        if text != book.pages.get(page):
            yield f"{PAGES}/{page} is not what the headers say: ./dev docs"


def exported(build):
    return {s for _, path in objects(build) for s, v in globals_of(path)
            if v == "DEFAULT" and re.match(r"fen_[a-z0-9]", s)}


def main():
    book = Book()
    if sys.argv[1:] == ["--write"]:
        os.makedirs(PAGES, exist_ok=True)
        for page in set(os.listdir(PAGES)) - set(book.pages):
            os.remove(f"{PAGES}/{page}")
        for page, text in book.pages.items():
            with open(f"{PAGES}/{page}", "w", encoding="utf-8") as f:
                f.write(text)
        print(f"{len(book.pages)} pages, {len(book.functions)} functions")
        return 0
    if sys.argv[1:2] != ["--check"]:
        print(__doc__, file=sys.stderr)
        return 2
    bad = book.bad + list(stale(book))
    bad += [f"{f} is declared and on no page" for f in sorted(set().union(*declared().values())
                                                              - book.functions)]
    if len(sys.argv) > 2:
        library = exported(sys.argv[2])
        bad += [f"{f} is exported and on no page" for f in sorted(library - book.functions)]
        if not library:
            bad.append(f"{sys.argv[2]}: no objects of the library; build first")
    print("\n".join(bad) if bad else f"{len(book.functions)} functions on {len(book.pages)} pages")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
