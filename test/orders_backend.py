"""A back end for orders_e2e_test.sh: GET /quote/N, kept alive, with some bad answers.
usage: orders_backend.py [PORT]"""
import http.server
import random
import sys
import time


class Quotes(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        n = int(self.path.rsplit("/", 1)[1])
        status = {404: 404, 500: 500}.get(n, 200)
        if n == 1000:
            time.sleep(3)
        if n == 700:
            self.wfile.write(b"nonsense\r\n\r\n")  # and the connection goes on
            return
        if n == 701:  # ends in the middle of an answer
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{")
            self.close_connection = True
            return
        # 666: the answer to another question
        body = b'{"id":%d,"price":%d}' % (n + (n == 666), 1000 + n)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if n == 321:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass  # the caller's time was up

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer.request_queue_size = 128


def listen():
    """One that comes back needs its port again, so it is none that the kernel gives to others."""
    if len(sys.argv) > 1:
        return http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Quotes)
    while True:
        try:
            port = random.randrange(20000, 30000)
            return http.server.ThreadingHTTPServer(("127.0.0.1", port), Quotes)
        except OSError:
            pass  # somebody has it


server = listen()
server.daemon_threads = True
print("listening on 127.0.0.1:%d" % server.server_address[1], flush=True)
server.serve_forever()
