"""fen-gdb.py - fibers in gdb, in a live process or a core file, with or without debug information.

    (gdb) source .../share/fen/fen-gdb.py
    (gdb) info fibers [PATTERN]          every fiber, or those whose line matches the expression
    (gdb) fiber 7 bt                     backtrace of fiber number 7
    (gdb) fiber 7 frame 3                a frame of it, by number or by its function: frame app
    (gdb) fiber 7 locals 3               the variables of that frame
    (gdb) fiber apply all bt             the same for every fiber; `all` may be numbers: 3 4 7
    (gdb) fiber 7                        makes it the one that bt, up, down, info locals look at
    (gdb) fiber off                      back to the thread

It finds fibers through fen__debug_layout (src/sched/layout.c), so it needs no type information; the
frames and variables are gdb's own and need what they always need. A fiber that is switched out is
shown by an unwinder that puts its saved registers (src/fiber/switch_*.S) under the thread's frame
0: nothing is written to the process, which is why it works on a core.
"""
import os
import re
import time

import gdb
import gdb.unwinder

MAGIC = b"fen-gdb-layout!\0"
WORDS = """version words chunks used chunk_fibers ms wall_ns tsc ns_of_gig
    g_bytes g_sp g_wait g_reason g_live g_parked_at g_cpu g_fn g_name g_number
    g_on g_site g_stack_low g_stack_bytes g_stack_slot g_stack_canary g_painted
    m_next m_cur m_tid m_phase page line colours parked reasons n_reasons slot_fd
    mutex_held g_node_index""".split()
PAINT = 0xA7
BLOCKING = 2  # fen__m.phase
EVENTS = ((1, "read"), (4, "write"))  # enum fen_fd_events

# Where fen__switch left the registers, in bytes from the saved stack pointer; the stack pointer
# itself afterwards.
SAVED = {
    "x86_64": ({"r15": 8, "r14": 16, "r13": 24, "r12": 32, "rbx": 40, "rbp": 48, "rip": 56}, 64),
    "aarch64": (dict([(f"x{19 + i}", 8 * i) for i in range(12)] + [("pc", 88)]), 176),
}


def read(addr, n):
    return bytes(gdb.selected_inferior().read_memory(addr, n))


def word(addr, n=8):
    return int.from_bytes(read(addr, n), "little")


def text(addr, most=80):
    out = b""
    try:
        while addr and len(out) < most:
            c = read(addr + len(out), 1)
            if c == b"\0":
                break
            out += c
    except gdb.MemoryError:
        pass
    return out.decode("utf-8", "replace")


def arch():
    name = gdb.selected_inferior().architecture().name()
    return "aarch64" if "aarch64" in name else "x86_64"


def symbol(addr, call=False):
    """function+offset (file:line); call: a return address, so the line of the call is meant."""
    if not addr:
        return "-"
    at = addr - 1 if call else addr
    said = gdb.execute(f"info symbol {at:#x}", False, True)
    m = re.match(r"(\S+)(?: \+ (\d+))? in section", said)
    name = (m[1] + (f"+{int(m[2]):#x}" if m[2] else "")) if m else f"{addr:#x}"
    line = gdb.find_pc_line(at)
    if line.symtab:
        name += f" ({os.path.basename(line.symtab.filename)}:{line.line})"
    return name


def find_layout():
    for expression in ("&fen__debug_layout", "&'layout.c'::fen__debug_layout"):
        try:
            return int(gdb.parse_and_eval(f"(unsigned long){expression}"))
        except gdb.error:
            pass
    inferior = gdb.selected_inferior()  # stripped: look for its first bytes
    for line in gdb.execute("maintenance info sections", False, True).splitlines():
        m = re.search(r"(0x[0-9a-f]+)->(0x[0-9a-f]+) at .*: (\.data\S*|load\d+\S*)", line)
        if not m:
            continue
        start, end = int(m[1], 16), int(m[2], 16)
        try:
            at = inferior.search_memory(start, end - start, MAGIC)
            if at and word(at + 16) == 1:
                return at
        except gdb.error:
            pass
    for start, end in mappings():
        try:
            at = inferior.search_memory(start, end - start, MAGIC)
            if at and word(at + 16) == 1:
                return at
        except gdb.error:
            pass
    raise gdb.GdbError("no fen in this program (fen__debug_layout not found)")


def mappings():
    """Writable maps of a live process that belong to a file."""
    pid = gdb.selected_inferior().pid
    try:
        with open(f"/proc/{pid}/maps", encoding="ascii") as f:
            for line in f:
                part = line.split()
                if len(part) == 6 and part[1].startswith("rw") and part[5].startswith("/"):
                    start, end = part[0].split("-")
                    yield int(start, 16), int(end, 16)
    except OSError:
        return


def core_file():
    """Its name; None: the process lives."""
    m = re.search(r"Local core dump file:\s*`([^']*)'", gdb.execute("info files", False, True))
    return m[1] if m else None


class Fen:
    """The runtime of the selected inferior, as it is now."""

    def __init__(self):
        at = find_layout()
        n = word(at + 24)
        if read(at, 16) != MAGIC or word(at + 16) != 1 or n < len(WORDS):
            raise gdb.GdbError("this program's fen and this script are of different versions")
        for i, name in enumerate(WORDS):
            setattr(self, name, word(at + 16 + 8 * i))
        if not self.chunks:
            raise gdb.GdbError("fen has not run yet")
        self.reason = [text(word(self.reasons + 8 * i)) for i in range(self.n_reasons)]
        self.running = {}
        m = word(self.ms)
        while m:
            cur = word(m + self.m_cur)
            if cur:
                self.running[cur] = (word(m + self.m_tid, 4), word(m + self.m_phase, 4) == BLOCKING)
            m = word(m + self.m_next)
        self.now = self.clock()

    def clock(self):
        """The wall clock in ns when the process was stopped: now, or the core file's time."""
        core = core_file()
        return int(os.path.getmtime(core) * 1e9) if core else time.time_ns()

    def ns(self, ticks):
        return ticks * self.ns_of_gig >> 30

    def object(self, i):
        chunk = word(self.chunks + 8 * (i // self.chunk_fibers))
        return chunk + i % self.chunk_fibers * self.g_bytes

    def fibers(self):
        for i in range(word(self.used, 4)):
            g = self.object(i)
            raw = read(g, self.g_bytes)
            if raw[self.g_live]:
                yield Fiber(self, g, raw)

    def fiber(self, number):
        for f in self.fibers():
            if f.number == number:
                return f
        raise gdb.GdbError(f"no fiber {number}; `info fibers` lists them")


class Fiber:
    def __init__(self, fen, g, raw):
        def at(offset, n=8):
            return int.from_bytes(raw[offset:offset + n], "little")

        self.fen, self.g = fen, g
        self.number, self.sp = at(fen.g_number), at(fen.g_sp)
        self.name = text(at(fen.g_name), 40)
        self.fn, self.site, self.on = at(fen.g_fn), at(fen.g_site), at(fen.g_on)
        self.painted = bool(raw[fen.g_painted])
        self.tid, self.blocking = fen.running.get(g, (0, False))
        parked = at(fen.g_wait) & 0xffff == fen.parked
        self.state = ("blocking" if self.blocking else "running") if self.tid else (
            "parked" if parked else "ready")
        why = raw[fen.g_reason]
        self.reason = fen.reason[why] if parked and not self.tid and why < fen.n_reasons else ""
        low = at(fen.g_stack_low)
        slot = at(fen.g_stack_slot, 4)
        self.low = low + fen.page
        self.top = low + at(fen.g_stack_bytes) - slot % fen.colours * fen.line
        self.since = fen.wall_ns + fen.ns(at(fen.g_parked_at) - fen.tsc)
        self.cpu_ns = fen.ns(at(fen.g_cpu))
        self.index = at(fen.g_node_index, 4)

    def has_stack(self):
        """Switched out, its stack holds where it goes on: 0 where gcore wrote no stack, and
        where the pages of one that hibernates were given back."""
        try:
            saved, _ = SAVED[arch()]
            return word(self.sp + saved["rip" if arch() == "x86_64" else "pc"]) != 0
        except gdb.MemoryError:
            return False

    def peak(self):
        """Deepest use in bytes, for a painted stack; None else."""
        if not self.painted:
            return None
        try:
            stack = read(self.low + 128, self.top - self.low - 128)  # a canary may lie lowest
        except gdb.MemoryError:
            return None
        return len(stack) - (len(stack) - len(stack.lstrip(bytes([PAINT]))))

    def holder(self):
        try:
            place = word(self.on + self.fen.mutex_held, 4)  # in the slab, + 1
            place &= 2**31 - 1  # the highest bit: somebody waits
            if place in (0, 2**31 - 1):
                return "no fiber"
            return word(self.fen.object(place - 1) + self.fen.g_number)
        except gdb.MemoryError:
            return "?"

    def line(self):
        out = f"{self.number:>6}  {self.name or '-':<18} {self.state:<8} "
        if self.tid:
            out += f"thread {self.tid}"
        else:
            out += f"{self.reason:<7}{max(0, self.fen.now - self.since) / 1e9:>9.3f}s"
            if self.reason in ("read", "write", "fd"):
                out += f"  fd {word(self.on + self.fen.slot_fd, 4)}"
            elif self.reason == "process":
                out += f"  pid {self.index}"
            elif self.reason not in ("", "sleep", "blocking"):
                out += f"  on {self.on:#x}"
            if self.reason == "fd":
                out += " events " + ",".join(e for bit, e in EVENTS if self.index & bit)
            if self.reason == "mutex":
                out += f" held by {self.holder()}"
        out += f"  cpu {self.cpu_ns / 1e6:.3f}ms"
        used = self.top - self.sp
        peak = self.peak()
        if not self.tid and 0 < used <= self.top - self.low:
            out += f"  stack {used}" + (f" peak {peak}" if peak is not None else "")
            out += f" of {self.top - self.low}"
        out += f"  fn {symbol(self.fn)}"
        return out + (f"  spawned at {symbol(self.site, True)}" if self.site else "")


class Unwinder(gdb.unwinder.Unwinder):
    """While `fiber` is set: the frame under the thread's frame 0 is the fiber's."""

    def __init__(self):
        super().__init__("fen-fiber")
        self.fiber = self.thread = self.thread_sp = None
        self.ran = 0  # how often the program has: what was seen before is gone then

    def __call__(self, pending):
        if not self.fiber or gdb.selected_thread().num != self.thread:
            return None
        sp_name = "rsp" if arch() == "x86_64" else "sp"
        pc_name = "rip" if arch() == "x86_64" else "pc"
        sp = pending.read_register(sp_name)
        if int(sp) & (2**64 - 1) != self.thread_sp:
            return None
        here = value_of(self.fiber.sp, sp.type)  # gdb wants callers at higher addresses
        info = pending.create_unwind_info(FrameId(here, pending.read_register(pc_name)))
        saved, above = SAVED[arch()]
        for name, offset in saved.items():
            kind = pending.read_register(name).type
            info.add_saved_register(name, value_of(word(self.fiber.sp + offset), kind))
        info.add_saved_register(sp_name, value_of(self.fiber.sp + above, sp.type))
        return info

    def select(self, fiber):
        thread = gdb.selected_thread()
        if not thread:
            raise gdb.GdbError("no process and no core file")
        if not fiber.sp:
            raise gdb.GdbError(f"fiber {fiber.number} has not begun: it has no stack")
        if not fiber.has_stack():
            raise gdb.GdbError(f"the stack of fiber {fiber.number} " + (
                "is not in this core; FEN_STACK_GUARD=mprotect in the program's environment puts "
                "it in, unless the fiber hibernates" if core_file() else
                "is empty: it hibernates; SIGQUIT shows its frames"))
        frame = gdb.newest_frame()
        sp = frame.read_register("rsp" if arch() == "x86_64" else "sp")
        self.fiber, self.thread = fiber, thread.num
        self.thread_sp = int(sp) & (2**64 - 1)
        gdb.invalidate_cached_frames()

    def drop(self):
        if self.fiber:
            self.fiber = None
            gdb.invalidate_cached_frames()

    def runs(self, _event):
        self.ran += 1
        self.drop()


class Place:
    """The thread, fiber and frame that are selected, to come back to: by number, because frames
    and what is known of them go with each change of the unwinder."""

    def __init__(self):
        self.ran, self.thread = UNWINDER.ran, gdb.selected_thread()
        self.fiber, self.at = UNWINDER.fiber, (UNWINDER.thread, UNWINDER.thread_sp)
        self.level = 0
        frame = gdb.selected_frame() if self.thread else None
        while frame and frame.newer():
            frame = frame.newer()
            self.level += 1

    def restore(self):
        UNWINDER.drop()
        if not self.thread or not self.thread.is_valid():
            return
        self.thread.switch()
        if self.ran != UNWINDER.ran:
            return
        UNWINDER.fiber, (UNWINDER.thread, UNWINDER.thread_sp) = self.fiber, self.at
        gdb.invalidate_cached_frames()
        frame = nth_frame(self.level)
        if frame:
            frame.select()


def nth_frame(n):
    frame = gdb.newest_frame()
    while frame and n > 0:
        frame = frame.older()
        n -= 1
    return frame


def value_of(number, kind):
    return gdb.Value(number.to_bytes(8, "little"), kind)


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = sp, pc


UNWINDER = Unwinder()
gdb.unwinder.register_unwinder(None, UNWINDER, replace=True)
gdb.events.cont.connect(UNWINDER.runs)
gdb.events.exited.connect(UNWINDER.runs)


def plainly(invoke):
    """What gdb says of a mistake, without the traceback that it prints for an exception."""
    def wrapped(self, arg, from_tty):
        try:
            invoke(self, arg, from_tty)
        except gdb.error as e:
            raise gdb.GdbError(str(e)) from e
    return wrapped


class InfoFibers(gdb.Command):
    """List the fibers of the program: number, name, state, what each waits for and since when (up
to the core file's time), CPU, stack in use when it was switched out, function, spawn site.
usage: info fibers [PATTERN]"""

    def __init__(self):
        super().__init__("info fibers", gdb.COMMAND_STATUS)

    @plainly
    def invoke(self, arg, from_tty):
        try:
            pattern = re.compile(arg) if arg else None
        except re.error as e:
            raise gdb.GdbError(f"no regular expression: {arg}: {e}") from e
        n = 0
        print("number  name               state    wait      for      what")
        for f in Fen().fibers():
            line = f.line()
            if not pattern or pattern.search(line):
                print(line)
                n += 1
        print(f"{n} fibers")


def thread_of(tid):
    for t in gdb.selected_inferior().threads():
        if tid in t.ptid:
            return t
    raise gdb.GdbError(f"thread {tid} is gone")


def renumber(out):
    """`bt` without frame 0, which is the thread's; the others count from 0."""
    kept = []
    skip = False
    for line in out.splitlines():
        m = re.match(r"#(\d+)(\s+)(.*)", line)
        if m:
            skip = m[1] == "0"
            if not skip:
                kept.append(f"#{int(m[1]) - 1:<3}{m[3]}")
        elif not skip:
            kept.append(line)
    return "\n".join(kept)


BT = ("bt", "backtrace", "where")
BT_FLAGS = ("full", "hide", "no-filters")
BT_SWITCHES = ("-past-main", "-past-entry", "-raw-frame-arguments")  # `on` may be left out
YES_NO = "on off yes no enable disable 1 0".split()


def bt_of_fiber(command):
    """The backtrace command with a frame more where it counts from the innermost: that one is the
    thread's and goes. Counted from the outermost (-K) it is seen only with all the others."""
    words = command.split()
    at = 1
    while at < len(words):
        word_ = words[at]
        at += 1
        named = re.match("-?[a-z]", word_)
        if word_ == "--" or named and any(f.startswith(word_.lstrip("-")) for f in BT_FLAGS):
            continue
        if not named or word_[0] != "-":
            at -= 1
            break
        switch = any(name.startswith(word_) for name in BT_SWITCHES)
        if not switch or words[at:at + 1] and words[at] in YES_NO:
            at += 1
    count = " ".join(words[at:])
    if not count:
        return command
    n = int(gdb.parse_and_eval(count))
    return " ".join(words[:at] + [str(n + 1 if n > 0 else n)])


def frame_wanted(words):
    """Of `frame K`, `locals [K]`, `args [K]`: a number, or the name of a function."""
    if len(words) == 1:
        return 0
    if len(words) == 2 and words[1].isdecimal():
        return int(words[1])
    if len(words) > 2 or not re.fullmatch(r"[A-Za-z_][\w:~]*", words[1]):
        raise gdb.GdbError(f"neither number nor function of a frame: {' '.join(words[1:])}")
    return words[1]


def frame_of(f, wanted):
    """That frame of the fiber; by name the innermost of that function."""
    at = nth_frame(0 if f.tid else 1)
    if isinstance(wanted, int):
        at = nth_frame(wanted if f.tid else wanted + 1)
    else:
        while at and at.name() != wanted:
            at = at.older()
    if not at:
        raise gdb.GdbError(f"fiber {f.number} has no frame {wanted}")
    return at


def on_fiber(f, command):
    """Does bt, frame N, locals [N], or any gdb command, in the fiber."""
    words = command.split()
    wanted = frame_wanted(words) if words[0] in ("frame", "locals", "args") else 0
    before = Place()
    try:
        if f.tid:
            UNWINDER.drop()
            thread_of(f.tid).switch()
            gdb.newest_frame().select()
        else:
            UNWINDER.select(f)
        if words[0] in BT:
            out = gdb.execute(command if f.tid else bt_of_fiber(command), False, True)
            print(out.rstrip() if f.tid else renumber(out))
            return
        frame_of(f, wanted).select()
        if words[0] in ("locals", "args"):
            command = "info " + words[0]
        elif words[0] == "frame":
            command = "frame"
        out = gdb.execute(command, False, True)
        if words[0] == "frame" and not f.tid:
            out = re.sub(r"^#(\d+)", lambda m: f"#{int(m[1]) - 1}", out)
        print(out.rstrip())
    finally:
        before.restore()


class FiberCommand(gdb.Command):
    """Look into a fiber.
usage: fiber NUMBER [bt | frame K | locals [K] | args [K] | COMMAND]
       fiber apply all|NUMBER... COMMAND
       fiber off
K is the number of a frame or the name of its function.
Without a command the fiber stays selected for bt, up, down, info locals: its frames begin at #1, #0
is the thread's. `fiber off`, or letting the program run, ends that."""

    def __init__(self):
        super().__init__("fiber", gdb.COMMAND_STACK)

    @plainly
    def invoke(self, arg, from_tty):
        words = arg.split()
        if not words:
            raise gdb.GdbError(self.__doc__)
        if words[0] == "off":
            UNWINDER.drop()
        elif words[0] == "apply":
            self.apply(words[1:])
        elif not words[0].isdecimal():
            raise gdb.GdbError(f"not the number of a fiber: {words[0]}\n{self.__doc__}")
        elif len(words) > 1:
            on_fiber(Fen().fiber(int(words[0])), arg.split(None, 1)[1])
        else:
            self.select(Fen().fiber(int(words[0])))

    def select(self, f):
        print(f.line())
        if f.tid:
            UNWINDER.drop()
            thread_of(f.tid).switch()
            return
        UNWINDER.select(f)
        at = gdb.newest_frame().older()
        if at:
            at.select()
            gdb.execute("frame")

    def apply(self, words):
        numbers = []
        every = bool(words) and words[0] == "all"
        if every:
            words = words[1:]
        while words and words[0].isdecimal():
            numbers.append(int(words.pop(0)))
        if words and not (every or numbers):
            raise gdb.GdbError(f"neither all nor the number of a fiber: {words[0]}\n{self.__doc__}")
        if not words:
            raise gdb.GdbError(self.__doc__)
        fibers = list(Fen().fibers())
        unknown = set(numbers) - {f.number for f in fibers}
        if unknown:
            unknown = ", ".join(str(n) for n in sorted(unknown))
            raise gdb.GdbError(f"no fiber {unknown}; `info fibers` lists them")
        for f in fibers:
            if every or f.number in numbers:
                state = f"{f.state} {f.reason}".strip()
                print(f"\nFiber {f.number} {f.name or '-'} ({state})")
                try:
                    on_fiber(f, " ".join(words))
                except (gdb.error, gdb.GdbError) as e:
                    print(f"  {e}")


InfoFibers()
FiberCommand()
