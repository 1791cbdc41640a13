#!/bin/sh
# redis_test.sh - examples/redis against a small server that speaks enough of the protocol.
. "$FEN_SOURCE_DIR/test/lib.sh"
example=$FEN_BUILD_DIR/example_redis
[ -x "$example" ] || skip "hiredis not installed"
need python3

cat >"$tmp/server.py" <<'PY'
import socketserver

store = {}

class Handler(socketserver.StreamRequestHandler):
    def bulk(self):
        n = int(self.rfile.readline()[1:])
        data = self.rfile.read(n + 2)
        return data[:n]

    def handle(self):
        while True:
            head = self.rfile.readline()
            if not head:
                return
            words = [self.bulk() for _ in range(int(head[1:]))]
            if words[0] == b"SET":
                store[words[1]] = words[2]
                self.wfile.write(b"+OK\r\n")
            else:
                value = store[words[1]]
                for piece in (b"$%d\r" % len(value), b"\n" + value[:3], value[3:] + b"\r\n"):
                    self.wfile.write(piece)  # in pieces: the client has to wait again
                    self.wfile.flush()

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64

with Server(("127.0.0.1", 0), Handler) as s:
    print(s.server_address[1], flush=True)
    s.serve_forever()
PY
python3 "$tmp/server.py" >"$tmp/port" &
server=$!
trap 'kill -9 $server 2>/dev/null; rm -rf "$tmp"' EXIT
for _ in $(seq 400); do
    [ -s "$tmp/port" ] && break
    sleep 0.05
done

"$example" 127.0.0.1 "$(cat "$tmp/port")" >"$tmp/got" || fail "$(cat "$tmp/got")"
grep -q '^20 of 20 clients had their value back$' "$tmp/got" || fail "$(cat "$tmp/got")"
"$example" 127.0.0.1 1 >"$tmp/got" && fail "nobody listens there"
grep -q '^0 of 20' "$tmp/got" || fail "$(cat "$tmp/got")"
